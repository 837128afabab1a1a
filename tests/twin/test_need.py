from __future__ import annotations

import math
from pathlib import Path

import pytest

from inferscale_operator.twin.cluster import Engine
from inferscale_operator.twin.need import CHUNK, Need
from inferscale_operator.twin.traffic import Traffic
from twin_builders import CLASSES, service, setting

H100, A100 = Engine("h100", 1, None), Engine("a100", 1, None)
TREBLED = {"points": [{"at": 0, "rate": 3000}, {"at": 300, "rate": 9000}], "step": True}
LONGER = {
    "points": [{"at": 0, "input": 128, "output": 64}, {"at": 300, "input": 128, "output": 256}],
    "step": True,
}


def need(folder: Path, *services: dict, **fields) -> Need:
    world = setting(folder, *services, **fields)
    duration = world.scenario.duration
    return Need(world, [Traffic(s.scenario, folder, duration, 1, drawn=False) for s in world.services])


def test_what_a_load_needs_follows_its_rate_its_lengths_and_what_a_replica_is(tmp_path: Path):
    busy = {"rate": 3000}
    loads = [service("a", load=busy), service("b", load=TREBLED), service("c", load=busy, tokens=LONGER)]
    found = need(tmp_path, *loads)
    begin, end = found.replicas(0, [H100] * 3), found.replicas(9, [H100] * 3)
    assert begin[0] == begin[1] == begin[2] == end[0] > 0
    assert end[1] > begin[1]
    assert end[2] > begin[2]
    assert (found.replicas(9, [A100, H100, H100]) >= end).all()
    assert found.replicas(9, [H100] * 3).tolist() == end.tolist()


def test_nothing_is_needed_without_a_load_and_no_number_keeps_an_objective_that_is_out_of_reach(
    tmp_path: Path,
):
    hopeless = {**CLASSES, "standard": {"priority": 5, "models": [{"model": "llama", "itl": 5}]}}
    found = need(tmp_path, service("idle", load={"rate": 0}), service("late"), classes=hopeless)
    assert found.replicas(0, [H100, H100]).tolist() == [0.0, math.inf]


@pytest.mark.parametrize("window", [CHUNK - 1, CHUNK])
def test_windows_are_counted_on_from_one_block_to_the_next(tmp_path: Path, window: int):
    late = {"points": [{"at": 0, "rate": 300}, {"at": 10 * window, "rate": 3000}], "step": True}
    found = need(tmp_path, service(load=late), window=10, duration=20 * CHUNK)
    before, after = found.replicas(window - 1, [H100]), found.replicas(window, [H100])
    assert after[0] > before[0]
