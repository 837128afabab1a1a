"""The commands in the documentation give the output that is shown for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from inferscale_operator.cli import commands as cli
from pages import Example, agrees, commands, examples, renew, renewed, run

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the commands read, since some of them write plots."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.png"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def marks(example: Example) -> list[pytest.MarkDecorator]:
    """How long it takes."""
    if example.long:
        return [pytest.mark.full]
    return [pytest.mark.slow] if "simulate" in example.command or "--plot" in example.command else []


EXAMPLES = [pytest.param(each, marks=marks(each), id=each.command) for each in examples(PAGES)]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("example", EXAMPLES)
def test_a_command_gives_the_output_that_its_page_shows(example: Example) -> None:
    if "--plot" in example.command:
        pytest.importorskip("matplotlib")
    output = run(example.command)
    assert agrees(example.shown, output), (
        f"{example.page.name}: `make generate` puts it right:\n{renewed(example.shown, output)}"
    )


def test_there_are_commands_in_the_page_on_planning() -> None:
    commands = [example.command for example in examples([ROOT / "docs" / "planning.md"])]
    assert len(commands) >= 8
    assert commands[0] == "inferscale plan docs/examples/plan"


@pytest.mark.parametrize(
    ("shown", "anew"),
    [
        ("a\nb\n", "1\n2\n3\n4\n5\n"),
        ("1\n2\n…\n", "1\n2\n…\n"),
        ("x\n…\n", "1\n…\n"),
        ("…\n4\nx\n", "…\n4\n5\n"),
        ("1\n…\n3\nx\n…\n5\n", "1\n…\n3\n4\n…\n5\n"),
        ("…\n", "…\n"),
    ],
)
def test_what_a_page_leaves_out_stays_left_out(shown: str, anew: str) -> None:
    output = "1\n2\n3\n4\n5\n"
    assert renewed(shown, output) == anew
    assert agrees(shown, output) is (shown == anew)


def test_a_page_is_written_anew_and_nothing_else_of_it(project: Path) -> None:
    page = project / "page.md"
    text = "# A page\n\n```console\n$ inferscale plan nowhere\nstale\n```\n\n```console\n$ ls\n```\n"
    page.write_text(text)
    renew([page])
    written = page.read_text()
    assert "stale" not in written
    assert "nowhere: is no folder" in written
    assert written.startswith("# A page\n\n```console\n$ inferscale plan nowhere\n")
    assert written.endswith("\n```\n\n```console\n$ ls\n```\n")
    assert all(agrees(example.shown, run(example.command)) for example in examples([page]))


def test_what_takes_long_is_written_anew_when_asked_for(project: Path) -> None:
    page = project / "page.md"
    text = "```console\n$ inferscale simulate docs/examples/scenarios/dynamic-nowhere.yaml\nstale\n```\n"
    page.write_text(text)
    renew([page])
    assert page.read_text() == text
    renew([page], long=True)
    assert "stale" not in page.read_text()


def test_the_page_of_commands_is_up_to_date() -> None:
    assert (ROOT / commands.PAGE).read_text() == commands.page(), "`make generate` puts it right"


def test_the_page_of_commands_has_all_with_their_options_and_examples() -> None:
    text = commands.page()
    for name, command in cli.commands.items():
        assert f"\n## {name}\n" in text
        assert f"Usage: inferscale {name}" in text
        assert all(
            option in text for parameter in command.params for option in parameter.opts if option[0] == "-"
        )
    assert text.count("Examples:") == len(cli.commands)
