"""The alerts of the chart in promtool: each fires when it should, not before, and not otherwise."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml

from chart_builders import CHART, Render, named
from inferscale_operator.telemetry.families import FAMILIES
from localcluster import ToolsUnavailableError, tools

FILE = CHART / "files" / "alerts.yaml"
RULES = {
    rule["alert"]: rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]
}
CHAT = {"namespace": "prod", "service": "chat"}
KNOWN = {"model": "llama", "class": "premium", "priority": "1"}
HOURS = "x300"
"""A series goes on for five hours, a sample a minute."""

Series = Mapping[str, str]
"""Values by name and labels, in promtool's notation."""


def of(metric: str, values: str, **labels: str) -> Series:
    """A series of service chat, as the first of two replicas of the operator tells it."""
    shown = ",".join(f'{name}="{value}"' for name, value in {**CHAT, "instance": "a", **labels}.items())
    return {f"inferscale_service_{metric}{{{shown}}}": values}


def info(**labels: str) -> Series:
    return of("info", f"1{HOURS}", **{**KNOWN, "mode": "Apply", **labels})


def latencies(observed: str, *, ready: int = 2, known: int = 1) -> Series:
    return {
        **of("predicted_itl_seconds", f"0.02{HOURS}"),
        **of("observed_itl_seconds", observed),
        **of("replicas", f"2{HOURS}", accelerator="h100", of="desired"),
        **of("replicas", f"{ready}{HOURS}", accelerator="h100", of="ready"),
        **of("load_known", f"{known}{HOURS}"),
    }


def ticks(leader: str, interval_s: int | None = 30) -> Series:
    """Times of the last tick, with a standby that never had one."""
    metric = "inferscale_last_tick_timestamp_seconds"
    interval = {'inferscale_tick_interval_seconds{instance="a"}': f"{interval_s}{HOURS}"}
    return {f'{metric}{{instance="a"}}': leader, f'{metric}{{instance="b"}}': f"0{HOURS}"} | (
        interval if interval_s is not None else {}
    )


@dataclass(frozen=True)
class Case:
    """Series under which an alert fires, and others under which it does not."""

    fires: Series
    not_yet: str
    """When it does not fire yet."""
    at: str
    """When it fires."""
    quiet: Mapping[str, Series]
    """By what is the case."""
    labels: Mapping[str, str] = field(default_factory=lambda: CHAT)
    value: str = ""
    """As the text has it."""


SHORT = {**of("capacity_limited", f"1{HOURS}"), **info()}
CASES = {
    "InferscaleSLOAtRisk": Case(
        fires={**of("slo_at_risk", f"0x9 1{HOURS}"), **info()},
        not_yet="19m",
        at="21m",
        labels={**CHAT, **KNOWN},
        quiet={
            "it is within its objectives": {**of("slo_at_risk", f"0{HOURS}"), **info()},
            "it was at risk for a moment": {**of("slo_at_risk", "0x9 1x8 0x280"), **info()},
        },
    ),
    "InferscaleCapacityExhausted": Case(
        fires=SHORT,
        not_yet="4m",
        at="6m",
        labels={**CHAT, **KNOWN},
        quiet={
            "others come first": {**of("capacity_limited", f"1{HOURS}"), **info(priority="2")},
            "there is enough": {**of("capacity_limited", f"0{HOURS}"), **info()},
        },
    ),
    "InferscaleMetricsUnknown": Case(
        fires=of("load_known", f"1x9 0{HOURS}"),
        not_yet="19m",
        at="21m",
        quiet={
            "it is known": of("load_known", f"1{HOURS}"),
            "pods were just starting": of("load_known", "1x9 0x5 1x280"),
        },
    ),
    "InferscalePredictionError": Case(
        fires=latencies(f"0.03{HOURS}"),
        not_yet="14m",
        at="16m",
        value="50%",
        quiet={
            "it is a little off": latencies(f"0.025{HOURS}"),
            "it is a little off the other way": latencies(f"0.0145{HOURS}"),
            "other replicas serve than were predicted": latencies(f"0.03{HOURS}", ready=1),
            "the prediction is an old one": latencies(f"0.03{HOURS}", known=0),
        },
    ),
    "InferscaleMoveRolledBack": Case(
        fires=of("moves_failed", f"0x9 1{HOURS}"),
        not_yet="9m",
        at="11m",
        quiet={"none was": of("moves_failed", f"0{HOURS}")},
    ),
    "InferscaleMoveStuck": Case(
        fires=of("move_seconds", "0+60x300"),
        not_yet="60m",
        at="61m",
        value="1h 1m 0s",
        quiet={"moves end": of("move_seconds", "0+60x40 _x40 0+60x40")},
    ),
    "InferscaleNoTick": Case(
        # 300 s after minute 10, and the two minutes that it must hold.
        fires=ticks("0+60x10 600x290"),
        not_yet="16m",
        at="19m",
        labels={},
        value="9m 0s",
        quiet={
            "it ticks": ticks("0+60x300"),
            "the next tick is due in an hour": ticks(
                " ".join(f"{3600 * hour}x59" for hour in range(5)), 3600
            ),
            "another replica took over": {
                **ticks("0+60x10 600x4 _x280"),
                'inferscale_last_tick_timestamp_seconds{instance="b"}': "0x11 720+60x288",
            },
        },
    ),
    "InferscaleDown": Case(
        fires={"up": f"1{HOURS}"},
        not_yet="9m",
        at="11m",
        labels={},
        quiet={"it is scraped": ticks("0+60x300"), "a standby is scraped": ticks(f"0{HOURS}", None)},
    ),
}
NEVER = tuple(f"{minute}m" for minute in range(0, 300, 7))


@pytest.fixture(scope="module")
def promtool() -> Path:
    try:
        return tools.ensure(("promtool",))["promtool"]
    except ToolsUnavailableError as error:
        if os.environ.get("INFERSCALE_REQUIRE_CLUSTER"):
            raise
        pytest.skip(f"no promtool: {error}")


def rendered(text: str, case: Case) -> str:
    """An annotation as Prometheus writes it."""
    text = re.sub(r"{{ \$labels\.(\w+) }}", lambda match: case.labels[match[1]], text)
    return re.sub(r"{{ \$value \| \w+ }}", case.value, text)


def check(promtool: Path, folder: Path, series: Series, *expected: Mapping[str, object]) -> None:
    """Let promtool compare what fires."""
    given = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "1m", "input_series": given, "alert_rule_test": expected}
    path = folder / "test.json"
    path.write_text(json.dumps({"rule_files": [str(FILE)], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run(
        [promtool, "test", "rules", path], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", RULES)
def test_an_alert_fires_when_it_should_with_the_text_that_helps(
    promtool: Path, tmp_path: Path, name: str
) -> None:
    case, rule = CASES[name], RULES[name]
    fired = {
        "exp_labels": {**case.labels, **rule["labels"]},
        "exp_annotations": {key: rendered(text, case) for key, text in rule["annotations"].items()},
    }
    assert "{{" not in json.dumps(fired)
    check(
        promtool,
        tmp_path,
        case.fires,
        {"eval_time": case.not_yet, "alertname": name, "exp_alerts": []},
        {"eval_time": case.at, "alertname": name, "exp_alerts": [fired]},
    )


def test_a_prediction_that_is_too_high_is_an_error_as_well(promtool: Path, tmp_path: Path) -> None:
    name = "InferscalePredictionError"
    text = {
        key: rendered(text, replace(CASES[name], value="35%"))
        for key, text in RULES[name]["annotations"].items()
    }
    fired = {"exp_labels": {**CHAT, "severity": "warning"}, "exp_annotations": text}
    check(
        promtool,
        tmp_path,
        latencies(f"0.013{HOURS}"),
        {"eval_time": "16m", "alertname": name, "exp_alerts": [fired]},
    )


@pytest.mark.parametrize(("name", "why"), [(name, why) for name in RULES for why in CASES[name].quiet])
def test_an_alert_does_not_fire_otherwise(promtool: Path, tmp_path: Path, name: str, why: str) -> None:
    never = [{"eval_time": time, "alertname": name, "exp_alerts": []} for time in NEVER]
    check(promtool, tmp_path, CASES[name].quiet[why], *never)


def test_every_metric_of_an_alert_is_one_of_the_operator() -> None:
    known = {family.name for family in FAMILIES}
    for rule in RULES.values():
        assert set(re.findall(r"inferscale_\w+", rule["expr"])) <= known


def test_every_alert_has_a_severity_a_summary_and_its_place_in_the_documentation() -> None:
    page = (CHART.parents[1] / "docs" / "troubleshooting.md").read_text()
    for name, rule in RULES.items():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"] == f"docs/troubleshooting.md#{name.lower()}"
        assert f"\n### {name}\n" in page


def test_the_chart_renders_the_file_that_is_tested(render: Render) -> None:
    values = ("metrics.prometheusRule.enabled=true", "metrics.prometheusRule.labels.team=platform")
    rule = named(render(*values), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(FILE.read_text())
    assert rule["metadata"]["labels"]["team"] == "platform"


def test_runbooks_are_where_the_docs_are_published(render: Render) -> None:
    values = (
        "metrics.prometheusRule.enabled=true",
        "metrics.prometheusRule.runbookURL=https://docs.example/troubleshooting.html",
    )
    rules = named(render(*values), "PrometheusRule")["spec"]["groups"]
    links = {rule["alert"]: rule["annotations"]["runbook_url"] for group in rules for rule in group["rules"]}
    page = "https://docs.example/troubleshooting.html"
    assert links == {name: f"{page}#{name.lower()}" for name in RULES}
