from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from inferscale_operator.cli import commands
from inferscale_operator.twin.changes import as_fields, changes, whole
from inferscale_operator.twin.resources import Setting, read_scenario
from inferscale_operator.twin.simulation import Outcome, ServerMode, parse_policy, simulate
from twin_builders import MODELS, POLICY, document, service, setting, write

SCENARIOS = Path(__file__).parents[2] / "docs" / "examples" / "scenarios"
GROWING = {"points": [{"at": 0, "rate": 300}, {"at": 300, "rate": 3000}]}


def run(world: Setting, policy: str = "inferscale") -> Outcome:
    return simulate(world, parse_policy(policy), mode=ServerMode.MEAN_VALUE)


def invoke(arguments: list[str]) -> Any:
    return CliRunner().invoke(commands, ["simulate", *arguments])


def fields(world: Setting, done: Outcome, number: int = 0) -> list[dict[str, Any]]:
    return [as_fields(change) for change in changes(world, done, number)]


@pytest.fixture
def moved(tmp_path: Path) -> tuple[Setting, Outcome]:
    """Three replicas on H100 for a load that one or two A100 suffice for."""
    world = setting(tmp_path, service(replicas=3), duration=400)
    return world, run(world)


def test_a_move_to_fewer_replicas_is_one_change_from_when_it_begins(moved: tuple[Setting, Outcome]) -> None:
    world, done = moved
    first, *_ = fields(world, done)
    assert len(done.replicas[0]) > 2, "the Deployment has a state in the middle"
    assert first["change"] == "h100->a100"
    assert first["scale"] is None
    assert (first["from"]["numReplicas"], first["from"]["cost"]) == (3, 30.0)
    assert first["to"]["cost"] == 4.0 * first["to"]["numReplicas"] == 30.0 + first["costDiff"]
    assert first["at"] == next(d.at_s for d in done.history.decisions["default/chat"] if d.moved)
    assert "least cost" in first["reason"]


def test_scaling_has_the_difference_of_replicas_and_of_cost(tmp_path: Path) -> None:
    spec = {"keepAccelerator": True}
    world = setting(tmp_path, service(replicas=1, load=GROWING, spec=spec), duration=600)
    found = fields(world, run(world))
    assert found
    assert all(each["change"] is None for each in found)
    assert all(each["costDiff"] == 10.0 * each["scale"] for each in found)
    assert sum(each["scale"] for each in found) > 0


def test_the_batch_is_what_fits_at_the_length_of_the_time(tmp_path: Path) -> None:
    longer = {"points": [{"at": 0, "input": 128, "output": 64}, {"at": 300, "input": 128, "output": 128}]}
    world = setting(tmp_path, service(replicas=1, tokens=longer, load={"rate": 600}), duration=900)
    found = fields(world, run(world, "hpa-running:target=4"))
    assert (
        MODELS["llama"]["profiles"][0] | {"maxBatchSize": 32, "atTokens": 64}
        == MODELS["llama"]["profiles"][0]
    )
    late = [each for each in found if each["at"] > 300]
    assert late
    assert all(each["to"]["maxBatch"] == 16 for each in late)


def test_the_end_against_the_start_is_the_sum_of_the_changes(moved: tuple[Setting, Outcome]) -> None:
    world, done = moved
    (line,) = whole(world, done)
    assert line.cost_diff == pytest.approx(sum(each["costDiff"] for each in fields(world, done)))
    assert line.change == "h100->a100"


def test_a_move_that_is_taken_back_is_no_change(tmp_path: Path) -> None:
    broken = {"kind": "failingStart", "accelerator": "a100", "at": 0, "until": 3000}
    policy = POLICY | {"moves": {"bringUpTimeoutSeconds": 60}}
    longer = {"points": [{"at": 0, "input": 128, "output": 64}, {"at": 200, "input": 128, "output": 80}]}
    world = setting(tmp_path, service(tokens=longer), disturbances=[broken], policy=policy, duration=200)
    done = run(world)
    there_and_back = ["h100", "a100", "h100"]
    assert [each.accelerator for each in done.allocated[0]] == there_and_back
    assert fields(world, done) == []


def test_the_json_has_the_changes_and_their_total(tmp_path: Path) -> None:
    path = write(tmp_path, document(service(replicas=3), service("code"), duration=300))
    result = invoke([str(path), "-o", "json", "--servers", "mean-value"])
    static, ours = json.loads(result.output)["policies"]
    assert static["total"]["costDiff"] == 0
    assert [each["changes"] for each in static["services"]] == [[], []]
    assert ours["total"]["costDiff"] == pytest.approx(sum(each["costDiff"] for each in ours["services"]))
    for each in ours["services"]:
        assert each["costDiff"] == pytest.approx(sum(change["costDiff"] for change in each["changes"]))
        moves = sum(change["change"] is not None for change in each["changes"])
        assert (each["acceleratorChanges"], each["replicaChanges"]) == (moves, len(each["changes"]) - moves)


def test_the_tables_of_the_deck_are_shown_when_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, document(service(replicas=3), service("code"), duration=300))
    shown = invoke([str(path), "--servers", "mean-value", "--changes"]).output
    for title in ("Accelerator change", "Scale", "Cost differential, per hour", "inferscale: changes"):
        assert title in shown
    assert "static changed nothing." in shown
    assert "h100->a100" in shown
    plain = invoke([str(path), "--servers", "mean-value"]).output
    assert "Accelerator change" not in plain


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dynamic-unlimited", "dynamic-limited"])
def test_27_services_follow_rates_and_lengths_that_change_over_an_hour(name: str) -> None:
    world = read_scenario(SCENARIOS / f"{name}.yaml")
    # The first half hour of the change: the whole is in the documentation.
    world = replace(world, scenario=world.scenario.model_copy(update={"duration": 2700.0}))
    lines = whole(world, run(world))
    assert len(lines) == 27
    assert sum(line.change is not None or bool(line.scale) for line in lines) >= 15
    assert sum(line.cost_diff for line in lines) < 0
    held = Counter[str]()
    for line in lines:
        profile = world.accelerators[line.accelerator or ""]
        held[profile.type] += line.replicas * profile.multiplicity
    assert all(held[kind] <= units for kind, units in world.scenario.capacity.items())
