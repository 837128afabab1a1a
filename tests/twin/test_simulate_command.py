from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from inferscale_operator.cli import commands, main
from twin_builders import document, service, write


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(commands, ["simulate", *(str(each) for each in arguments)])


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    strict = service("code", spec={"serviceClass": "premium"})
    return write(tmp_path, document(service(), strict, duration=300))


def test_json_has_the_figures_of_every_policy_and_service(scenario: Path) -> None:
    result = invoke(
        scenario, "-o", "json", "--policy", "static", "--policy", "hpa-kv", "--servers", "mean-value"
    )
    found = json.loads(result.output)
    assert [each["policy"] for each in found["policies"]] == ["static", "hpa-kv"]
    assert found["ratioTo"] == "static"
    for each in found["policies"]:
        assert [row["service"] for row in each["services"]] == ["default/chat", "default/code"]
        assert each["total"]["costRatio"] <= 1.0
        assert each["total"]["arrived"] == pytest.approx(sum(row["arrived"] for row in each["services"]))


def test_the_table_has_the_policies_side_by_side(scenario: Path) -> None:
    result = invoke(scenario, "--servers", "mean-value")
    for text in ("static", "inferscale", "SLO windows", "H100 h", "A100 h", "Ratio", "default/code"):
        assert text in result.output


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        self._note(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self._note(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _note(self, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        self.names |= {value or "" for name, value in attrs if name == "id"}


@pytest.fixture
def report(scenario: Path, tmp_path: Path) -> str:
    report = tmp_path / "report.html"
    assert invoke(scenario, "--report", report, "--servers", "mean-value").exit_code == 0
    return report.read_text()


def test_the_report_is_one_page_that_needs_nothing_else(report: str) -> None:
    page = Page()
    page.feed(report)
    assert page.open == []
    assert page.addresses == ["#default/chat", "#default/code"]
    assert {address[1:] for address in page.addresses} <= page.names
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttpRequest|<link|<img|<iframe", report)


def test_the_report_has_the_plots_the_decisions_and_the_changes(report: str) -> None:
    for said in (
        "Load, requests/min",
        "Replicas",
        "Inter-token latency",
        "predicted",
        "objective",
        "Cost so far",
        "inferscale: the end against the start",
        "Accelerator change",
    ):
        assert said in report
    assert "least cost" in report
    assert "nan" not in report.split("<body>")[1].split("<script>")[0]


def test_every_policy_is_drawn_in_every_plot(report: str) -> None:
    """What stands within another line is not drawn, though it is in the page."""
    found = re.findall(r"<svg.*?</svg>", report, re.DOTALL)
    drawings = [ElementTree.fromstring(text) for text in found]  # noqa: S314 (it is our own)
    assert len(drawings) == 2 + 2 * 4 + 1, "one service has an objective for a share of its requests"
    for drawing in drawings:
        lines = drawing.findall("polyline")
        assert len(lines) == len(list(drawing.iter("polyline")))
        label = drawing.get("aria-label") or ""
        if not label.startswith("Load"):
            assert {(line.get("data-label") or "").split(":")[0] for line in lines} >= {
                "static",
                "inferscale",
            }
    assert all(
        drawing.findall("circle") for drawing in drawings if "Replicas" in (drawing.get("aria-label") or "")
    )


def test_errors_go_to_stderr_with_status_2(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        [str(tmp_path / "none.yaml")],
        [str(scenario), "--policy", "vpa"],
        [str(scenario), "--policy", "static", "--record", str(tmp_path / "r")],
        [str(scenario), "--policy", "static", "--report", str(tmp_path / "no" / "r.html")],
    ):
        with pytest.raises(SystemExit) as exit_:
            main(["simulate", *arguments])
        assert exit_.value.code == 2
        assert capsys.readouterr().err.startswith("inferscale: ")
