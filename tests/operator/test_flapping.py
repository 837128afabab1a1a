"""A load that swings does not make the replicas swing: hours of it at a tick every 30 s."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import behavior, load, node, service, world
from inferscale_operator.snapshot import LoadState, ObservedLoad, ServiceState
from loop_play import Tick, play

TICK = 30
UP, DOWN = 120, 300
SHORT, LONG = 3 * 3600 // TICK // 2, 24 * 3600 // TICK
MANY = (node("node-h", "H100", 400), node("node-a", "A100", 400))
LOW, HIGH = 70.0, 470.0


def one(replicas: int = 3, name: str = "llama", **fields: Any) -> ServiceState:
    return service(name, replicas, **{"behavior": behavior(UP, DOWN), "keepAccelerator": True, **fields})


def run(state: ServiceState, rates: Sequence[float]) -> list[Tick]:
    return play(world(state, nodes=MANY), [load(rate) for rate in rates], TICK)["llama"]


def square(period: float, ticks: int) -> list[float]:
    return [HIGH if (i * TICK) % period < period / 2 else LOW for i in range(ticks)]


def sine(period: float, ticks: int) -> list[float]:
    middle, half = (LOW + HIGH) / 2, (HIGH - LOW) / 2
    return [middle + half * math.sin(2 * math.pi * i * TICK / period) for i in range(ticks)]


def bursts(rate: float, cv: float, seed: int, ticks: int) -> list[float]:
    """Requests per minute over the last 120 s of a renewal process with that variation between arrivals."""
    draw, shape = random.Random(seed), 1 / cv**2  # noqa: S311 - a test load
    arrivals, time = [], 0.0
    while time < (ticks + 4) * TICK:
        time += draw.gammavariate(shape, 60 / rate / shape)
        arrivals.append(time)
    ends = [bisect_right(arrivals, i * TICK) for i in range(ticks + 4)]
    return [(ends[i] - ends[i - 4]) / 2 for i in range(4, ticks + 4)]


def turns(ticks: Sequence[Tick]) -> list[tuple[float, bool]]:
    """Time (s) from the last change to each that turns its direction round, and whether that one is up."""
    changes = [(t.time, t.asked > t.replicas) for t in ticks if t.changed]
    return [
        ((later - earlier).total_seconds(), up)
        for (earlier, before), (later, up) in pairwise(changes)
        if before is not up
    ]


def swings(ticks: int) -> dict[str, list[float]]:
    """Loads that swing with a period near the scale-down window, and bursts."""
    return {
        **{f"square-{f}": square(f * DOWN, ticks) for f in (0.5, 1, 1.9, 2)},
        **{f"sine-{f}": sine(f * DOWN, ticks) for f in (0.5, 1, 2)},
        **{f"bursts-{seed}": bursts(240.0, 13.0, seed, ticks) for seed in (1, 2)},
    }


def all_together(ticks: int, rates: Mapping[str, Sequence[float]], **fields: Any) -> dict[str, list[Tick]]:
    """Every load at a service of its own, all of them in one cluster with room for all."""
    snapshot = world(*(one(name=name, **fields) for name in rates), nodes=MANY)
    return play(snapshot, {name: [load(rate) for rate in each[:ticks]] for name, each in rates.items()}, TICK)


@pytest.mark.slow
@pytest.mark.parametrize("ticks", [SHORT, pytest.param(LONG, marks=pytest.mark.full)])
def test_no_load_that_swings_makes_the_replicas_swing(ticks: int) -> None:
    rates = swings(ticks)
    assert max(rates["bursts-1"]) > 1.9 * 240
    seen = all_together(ticks, rates)
    for name, each in seen.items():
        assert all(gap >= (UP if up else DOWN) for gap, up in turns(each)), name
        # A turn up and a turn down take both windows together at least.
        assert len(turns(each)) <= 2 * ticks * TICK / (UP + DOWN) + 1, name
    changes = {name: sum(t.changed for t in each) for name, each in seen.items()}
    # A half that is shorter than the window of its direction is not followed: neither is one way, and only
    # the way up is the other.
    assert changes["square-0.5"] == 0
    assert changes["square-1"] == changes["square-1.9"] == 1
    # For comparison what follows every swing, without windows.
    some = ("square-1", "bursts-1")
    free = all_together(SHORT, {name: rates[name] for name in some}, behavior=behavior(0, 0))
    assert len(turns(free["square-1"])) >= SHORT * TICK / DOWN * 2 - 2
    assert all(sum(t.changed for t in free[name]) > 2 * changes_until(seen[name]) for name in some)


def changes_until(ticks: Sequence[Tick], count: int = SHORT) -> int:
    return sum(t.changed for t in ticks[:count])


@pytest.mark.slow
def test_the_accelerator_does_not_swing_either() -> None:
    # From 8 to 2 replicas a change of accelerator always pays: a100 is cheaper below 31 requests/min.
    rates = {
        "bursts": bursts(60.0, 13.0, 3, SHORT),
        "square": [20.0 + 40 * (i % 10 < 5) for i in range(SHORT)],
    }
    seen = all_together(SHORT, rates, keepAccelerator=False)
    free = all_together(SHORT, rates, keepAccelerator=False, behavior=behavior(0, 0))
    for name, each in seen.items():
        moves = [t.time for t in each if t.plan.allocation.move is not None]
        assert all((later - earlier).total_seconds() >= UP for earlier, later in pairwise(moves)), name
        assert len(moves) < 0.5 * sum(t.plan.allocation.move is not None for t in free[name]), name


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.sampled_from([0.0, 30.0, 70.0, 200.0, 470.0]), min_size=5, max_size=25),
    st.integers(0, 400),
    st.integers(0, 400),
)
def test_no_load_turns_a_change_round_within_its_window(rates: list[float], up: int, down: int) -> None:
    ticks = run(one(behavior=behavior(up, down)), rates)
    assert all(gap >= (up if rising else down) for gap, rising in turns(ticks))


# Pending and starting replicas.


def starting(ticks: int, observed: Callable[[int], ObservedLoad]) -> list[int]:
    """What is asked for while all replicas but two are still loading the model."""
    snapshot, asked = world(one(2, behavior=behavior(0, 300)), nodes=MANY), []
    for i in range(ticks):
        [state] = snapshot.services
        snapshot = replace(snapshot, services=(replace(state, load=observed(i)),))
        [tick] = play(snapshot, [observed(i)], TICK)["llama"]
        asked.append(tick.asked)
        deployment = replace(
            state.deployment,
            replicas=tick.asked,
            ready_replicas=2,
            replica_sets=tuple(
                replace(s, desired=tick.asked, replicas=tick.asked, ready=2)
                for s in state.deployment.replica_sets
            ),
        )
        state = replace(state, deployment=deployment, allocation=tick.plan.allocation)
        snapshot = world(
            state,
            nodes=MANY,
            time=snapshot.time + timedelta(seconds=TICK),
        )
        # One of the new ones has not even a node yet.
        placed = [
            replace(p, node=None, ready=False) if n == tick.asked - 1 else replace(p, ready=n < 2)
            for n, p in enumerate(snapshot.pods)
        ]
        snapshot = replace(snapshot, pods=tuple(placed))
    return asked


@pytest.mark.parametrize("state", [LoadState.OBSERVED, LoadState.PARTIAL])
def test_replicas_that_load_their_model_count_as_coming(state: LoadState) -> None:
    def growing(tick: int) -> ObservedLoad:
        # The two that serve drown: latency grows with the queue, arrivals stay what they are.
        return replace(load(340, state), ttft=1000.0 * (tick + 1), itl=200.0)

    assert starting(40, growing) == [6] * 40


def test_more_load_while_they_start_asks_for_the_difference_only() -> None:
    assert starting(6, lambda i: load(340 if i < 3 else 410)) == [6, 6, 6, 7, 7, 7]


def test_a_service_whose_pods_have_only_begun_keeps_what_it_asked_for() -> None:
    begun = ObservedLoad(LoadState.STARTING, "just begun")
    assert starting(5, lambda i: load(340) if i == 0 else begun) == [6] * 5
