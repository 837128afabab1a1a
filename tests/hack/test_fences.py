"""Every command in the documentation is run by a test, or marked and of the right form."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcluster import tools
from pages import examples
from pages.fences import Block, Command, blocks
from pages.syntax import faults
from transcript.pages import AFTER, AMID, QUICKSTART

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "charts").rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
        *(ROOT / "hack").rglob("*.md"),
    ]
)
PLAYED = {ROOT / page for page in (QUICKSTART, *AMID, *AFTER)}
BLOCKS = [block for page in PAGES for block in blocks(page)]
MARKED = [block for block in BLOCKS if block.why_not_run]


def written(tmp_path: Path, text: str) -> list[Block]:
    page = tmp_path / "page.md"
    page.write_text(text)
    return list(blocks(page))


def test_every_command_is_run_or_marked() -> None:
    offline = {(example.page, example.command) for example in examples(PAGES)}
    forgotten = [
        f"{block.place}: {command.text}"
        for block in BLOCKS
        if block.page not in PLAYED and not block.why_not_run
        for command in block.commands
        if (block.page, command.text) not in offline
    ]
    assert forgotten == [], "run it, or put `<!-- syntax only: WHY -->` above the block"


@pytest.mark.parametrize("block", MARKED, ids=lambda block: block.place)
def test_a_command_that_is_not_run_has_the_right_form(block: Block) -> None:
    wrong = [fault for command in block.commands for fault in faults(command, {})]
    assert wrong == []


@pytest.mark.slow
def test_kubectl_and_helm_have_the_commands_and_options_that_are_used() -> None:
    programs = tools.find(("kubectl", "helm"))
    if len(programs) < 2:
        pytest.skip("kubectl and helm are not there: `make tools` gets them")
    wrong = [
        f"{block.place}: {fault}"
        for block in BLOCKS
        for command in block.commands
        for fault in faults(command, programs)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("inferscale pln docs", "inferscale has no command pln"),
        ("inferscale plan docs --nope 3", "inferscale plan has no option --nope"),
        ("kubectl inferscale top --nope", "inferscale top has no option --nope"),
        ("A=b inferscale explain", "inferscale explain needs NAMESPACE/NAME"),
        ("make nothing", "make has no target nothing"),
        ("hack/cluster sideways", "hack/cluster does not take sideways"),
        ("frobnicate --all", "frobnicate is no program that is known here"),
        ("echo 'a", "unexpected EOF"),
        ("inferscale status | frobnicate", "frobnicate is no program that is known here"),
    ],
)
def test_a_wrong_form_is_found(text: str, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = "\n".join(faults(Command(text, None), {}))
    assert fault.split("[")[0] in found.replace("[", "").replace("]", "")
    capsys.readouterr()


def test_a_command_may_go_on_over_lines_quotes_and_documents(tmp_path: Path) -> None:
    text = "```console\n# why\na \\\n  b\nc '1\n2'\nd <<'EOF'\nx: 'y\nEOF\ne  # and so on\n```\n"
    (block,) = written(tmp_path, text)
    assert [command.text for command in block.commands] == [
        "a \\\n  b",
        "c '1\n2'",
        "d <<'EOF'\nx: 'y\nEOF",
        "e  # and so on",
    ]
    assert all(command.output is None for command in block.commands)


def test_output_belongs_to_the_command_before_it(tmp_path: Path) -> None:
    (block,) = written(tmp_path, "  ```sh\n  $ a \\\n      b\n  1\n\n  2\n  $ c\n  ```\n")
    assert block.commands == (Command("a \\\n    b", "1\n\n2\n"), Command("c", ""))


def test_a_mark_is_of_the_block_right_below_it(tmp_path: Path) -> None:
    first, second, third = written(
        tmp_path,
        "<!-- syntax only: needs Docker -->\n```console\na\n```\n```console\nb\n```\n"
        "<!-- syntax only: needs a cloud -->\n\nText.\n\n```console\nc\n```\n",
    )
    assert [each.why_not_run for each in (first, second, third)] == ["needs Docker", None, None]
    assert (first.line, second.line) == (2, 5)


def test_blocks_that_are_no_shell_are_none(tmp_path: Path) -> None:
    assert written(tmp_path, "```yaml\na: b\n```\n```text\n$ a\n```\n") == []
