"""The documentation says what the code does: reasons, options, commands, examples, links."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fleet.load import read_loads
from inferscale_operator import decide
from inferscale_operator.api.accelerator_profile import AcceleratorProfileSpec
from inferscale_operator.api.inference_allocation import GateType
from inferscale_operator.api.inference_service import InferenceServiceSpec
from inferscale_operator.api.model_profile import ModelProfileSpec
from inferscale_operator.api.moves import MoveStep
from inferscale_operator.api.optimizer_policy import OptimizerPolicySpec
from inferscale_operator.api.service_class import ServiceClassSpec
from inferscale_operator.cli import run
from inferscale_operator.decide import catalog
from inferscale_operator.decide.ordering import LegKind
from inferscale_operator.kube.kinds import WATCHED
from inferscale_operator.metrics.presets import VLLM
from inferscale_operator.metrics.queries import queries
from inferscale_operator.settings import ENV_PREFIX, Settings
from inferscale_operator.snapshot import LoadState, UnknownCause
from inferscale_solver import Outcome, Rejection
from localcluster import cli as cluster_cli
from localcluster import nodes

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("hack/*/README.md")]
)
DECIDE = Path(decide.__file__).parent
SOURCES = [*sorted(DECIDE.glob("*.py")), DECIDE.parent / "act.py"]
SPECS = {
    "AcceleratorProfile": AcceleratorProfileSpec,
    "ModelProfile": ModelProfileSpec,
    "ServiceClass": ServiceClassSpec,
    "OptimizerPolicy": OptimizerPolicySpec,
    "InferenceService": InferenceServiceSpec,
}

WORD = re.compile(r"[A-Z][A-Za-z]+")
# What reasons are put together with.
SHORT_KINDS = tuple(catalog._short(kind) for kind in ("ModelProfile", "ServiceClass"))
MOVE_GATES = {gate.value for gate in (GateType.PAYBACK, GateType.COOL_DOWN, GateType.BUDGET)}
NOT_REASONS = {
    *LegKind,  # of the search for an order of moves
    *(kind.name for kind in WATCHED),
    *SHORT_KINDS,
    "Conflict",  # of an error that leads to another decision and not to a condition
    "Exists",  # operator of a toleration
    "ITL",
    "TTFT",
    "Recreate",  # strategies of a Deployment
    "RollingUpdate",
}


def literals(source: str) -> set[str]:
    """Whatever could be a reason, wherever it is emitted from: a word in capitals and small letters.

    It is a string of its own, or what a message begins with (`NoVariant: …`).
    """
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    formatted = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    # Docstrings are statements of their own.
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    words = set()
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            words |= _put_together(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            word, colon, _ = node.value.partition(": ")
            if WORD.fullmatch(word) and (colon or id(node) not in formatted):
                words.add(word)
    return words


def _put_together(node: ast.JoinedStr) -> set[str]:
    """The reasons that `f"{_short(kind)}NotFound"` stands for."""
    match node.values:
        case [ast.FormattedValue(), ast.Constant(value=str(tail))] if WORD.fullmatch(tail):
            return {short + tail for short in SHORT_KINDS}
    return set()


def emitted() -> set[str]:
    """All reasons and types of conditions, and outcomes of candidates, that the code can emit."""
    words = set().union(*(literals(path.read_text()) for path in SOURCES))
    return (
        words
        | MOVE_GATES
        | {value.value for values in (Outcome, Rejection, MoveStep, UnknownCause) for value in values}
    ) - NOT_REASONS


def documented() -> set[str]:
    """The words in the first column of the tables of troubleshooting.md."""
    rows = [line for line in prose(DOCS / "troubleshooting.md") if line.startswith("| `")]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row.split("|")[1])}


def prose(page: Path) -> Iterator[str]:
    """The lines that are not in a fenced block."""
    fenced = False
    for line in page.read_text().splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield line


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """The targets of the links that lead to files or headings here."""
    text = re.sub(r"`[^`]*`", "", "\n".join(prose(page)))
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = [line.lstrip("#").strip() for line in prose(page) if re.match(r"#{1,6} ", line)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_reasons_are_found_however_they_are_written() -> None:
    source = """
GOOD = "Good"
def why(kind):
    "A docstring."
    reason, text = "Late", "the message: of a sentence"
    return ("Now" if kind else reason), f"{_short(kind)}Missing", f"NoWay: {kind} is not there"
"""
    made = {f"{short}Missing" for short in SHORT_KINDS}
    assert literals(source) == {"Good", "Late", "Now", "NoWay", *made}


def test_every_reason_that_the_code_can_emit_is_explained() -> None:
    assert emitted() - documented() == set()


def test_every_reason_that_is_explained_can_be_emitted() -> None:
    assert documented() - emitted() == set()


def test_every_state_of_a_load_is_explained() -> None:
    text = (DOCS / "concepts.md").read_text()
    shown = [state for state in LoadState if state is not LoadState.NOT_ASKED]
    assert [state.value for state in shown if f"| `{state.value}` |" not in text] == []


def test_every_option_is_in_the_table_with_its_variable() -> None:
    text = (DOCS / "install.md").read_text()
    options = {parameter.opts[0] for parameter in run.params if parameter.name != "help"}
    table = dict(re.findall(r"^\| `(--[a-z-]+)`(?:, `--no-[a-z-]+`)? \| `([A-Z_]+)` \|", text, re.MULTILINE))
    assert table.keys() == options
    assert set(table.values()) == {f"{ENV_PREFIX}_{name.upper()}" for name in Settings.model_fields}


def test_every_series_that_is_asked_for_is_named() -> None:
    text = (DOCS / "install.md").read_text()
    asked_of_vllm = queries(VLLM, OptimizerPolicySpec().metrics).values()
    expressions = " ".join(question.expression for question in asked_of_vllm)
    asked = {re.sub(r"_(sum|count)$", "", name) for name in re.findall(r"vllm:\w+", expressions)}
    assert {*VLLM.running, *VLLM.waiting} <= asked
    assert {name for name in asked if f"`{name}`" not in text} == set()


def test_the_number_of_queries_is_as_said() -> None:
    count = len(queries(VLLM, OptimizerPolicySpec().metrics))
    assert f"{count} queries, whatever the number of services" in (DOCS / "concepts.md").read_text()


def test_every_command_of_the_local_cluster_is_explained_and_no_other() -> None:
    said = set(
        re.findall(r"^\| `hack/cluster ([a-z]+)` \|", (DOCS / "local-cluster.md").read_text(), re.MULTILINE)
    )
    actions = [action for action in cluster_cli._parser()._actions if action.choices]
    assert said == {name for action in actions for name in action.choices or ()}
    used = {name for page in PAGES for name in re.findall(r"hack/cluster ([a-z]+)\b", page.read_text())}
    assert used <= said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_resources_in_examples_are_valid(page: Path) -> None:
    for block in blocks(page, "yaml"):
        for document in yaml.safe_load_all(block):
            if isinstance(document, dict) and str(document.get("apiVersion", "")).startswith(
                "inferscale.dev/"
            ):
                model = SPECS[document["kind"]]
                spec = model.model_validate(document["spec"])
                # What the model ignores would be a field that does not exist.
                known = spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
                assert known == document["spec"]


def test_the_node_and_load_files_in_examples_are_valid(tmp_path: Path) -> None:
    page = DOCS / "local-cluster.md"
    file = tmp_path / "example"
    for block in blocks(page, "json"):
        file.write_text(block)
        assert nodes.read(file)
    for block in blocks(page, "yaml"):
        file.write_text(block)
        assert read_loads(file)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page: Path) -> None:
    dead = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)
    assert dead == []


def test_every_decision_is_in_their_list() -> None:
    listed = set(links(DOCS / "decisions" / "README.md"))
    assert listed == {page.name for page in DOCS.glob("decisions/0*.md")}


def test_every_test_that_the_documentation_names_is_there() -> None:
    named = {
        (page.name, test)
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for test in re.findall(r"tests/[a-z_/]*test_[a-z_0-9]+\.py", page.read_text())
    }
    assert ("reliability.md", "tests/cluster/test_faults.py") in named
    assert {(page, test) for page, test in named if not (ROOT / test).is_file()} == set()
