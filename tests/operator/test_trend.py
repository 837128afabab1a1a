"""A load that has been rising is planned for as it will be when a new replica can serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from builders import NOW, later, load, of, policy, service, world
from inferscale_operator.api.inference_allocation import (
    ArrivalSample,
    InferenceAllocationStatus,
)
from inferscale_operator.api.moves import ScalingUp, StartupTime
from inferscale_operator.decide import decide
from inferscale_operator.decide.catalog import Subject, catalog, examine
from inferscale_operator.decide.trend import SAMPLES_LIMIT, samples, trend
from inferscale_operator.plan import ServicePlan
from inferscale_operator.snapshot import LoadState

FLAT, RAMP = [150.0] * 5, [150.0, 190.0, 230.0, 270.0, 310.0]
"""Requests a minute at every half window, the last one now: two windows in which it rises by 80 each."""
STARTS_IN = {"accelerators": "Unlimited", "moves": {"startupSeconds": 60}}
"""A replica starts in 60 s, so what counts is the load 150 s after the middle of the last window."""


def recorded(
    rates: Sequence[float], step: float = 60.0, **fields: Any
) -> tuple[InferenceAllocationStatus, float]:
    """What is on record of a load, and the rate of now."""
    ages = [step * number for number in range(len(rates) - 1, 0, -1)]
    arrivals = (ArrivalSample(time=later(-age), rate=r) for age, r in zip(ages, rates, strict=False))
    return InferenceAllocationStatus(arrivals=tuple(arrivals), **fields), rates[-1]


def planned(
    rates: Sequence[float], state: LoadState = LoadState.OBSERVED, step: float = 60.0, **fields: Any
) -> ServicePlan:
    allocation, now = recorded(rates, step, **fields.pop("status", {}))
    each = service(observed=load(now, state), replicas=6, allocation=allocation)
    return of(decide(world(each, policy=policy(**(STARTS_IN | fields)))), "llama")


def target(plan: ServicePlan) -> int | None:
    """Replicas on h100, of which each takes 60 requests a minute."""
    entry = plan.allocation.allocations[0]
    assert entry.target_accelerator == "h100"
    return entry.target_replicas


def test_a_rising_load_is_planned_for_as_it_will_be_and_the_message_says_so() -> None:
    plan = planned(FLAT + RAMP)
    # 310 and 40 a minute for 150 s.
    assert target(plan) == 7
    expected = "rises by 40.0 requests/min each minute: for 410 rather than 310 by the time new replicas"
    assert expected in plan.allocation.message
    assert plan.allocation.load is not None
    assert plan.allocation.load.arrival_rate == 310.0


def test_the_longer_a_replica_starts_the_more_is_planned_for_but_never_more_than_twice_what_arrives() -> None:
    def starting_in(seconds: int) -> int | None:
        return target(planned(FLAT + RAMP, moves={"startupSeconds": seconds}))

    assert [starting_in(seconds) for seconds in (0, 300, 600, 3600)] == [7, 10, 11, 11]
    seen = {"startup_times": (StartupTime(accelerator="h100", seconds=300.0),)}
    assert target(planned(FLAT + RAMP, status=seen)) == 10


@pytest.mark.parametrize(
    "rates",
    [
        pytest.param(FLAT + FLAT, id="steady"),
        pytest.param(FLAT[:3] + RAMP, id="too little on record"),
        pytest.param([310.0] * 5 + RAMP[::-1], id="falling"),
        pytest.param([*FLAT, 150.0, 150.0, 150.0, 230.0, 310.0], id="a step in the last window"),
        pytest.param([*FLAT, 150.0, 230.0, 310.0, 310.0, 312.0], id="a step in the one before"),
        pytest.param([*FLAT, 150.0, 152.0, 155.0, 158.0, 160.0], id="no more than noise"),
        pytest.param([*(350.0 - 25 * n for n in range(8)), *RAMP], id="no more than there was lately"),
        pytest.param(
            [150.0, 40.0, 260.0, 60.0, 30.0, 200.0, 90.0, 250.0, 160.0, 230.0, 150.0, 310.0],
            id="bursts",
        ),
    ],
)
def test_what_is_no_trend_adds_nothing(rates: list[float]) -> None:
    plan = planned(rates)
    assert target(plan) == -(-rates[-1] // 60)
    assert "rises" not in plan.allocation.message


def test_what_is_not_known_is_no_trend() -> None:
    assert target(planned(FLAT + RAMP, LoadState.PARTIAL)) == 6
    # Nothing was seen for a while before the last window.
    allocation, now = recorded(FLAT + RAMP)
    gone = [sample for sample in allocation.arrivals if not 90 < (NOW - sample.time).total_seconds() < 400]
    holed = allocation.model_copy(update={"arrivals": tuple(gone)})
    each = service(observed=load(now), replicas=6, allocation=holed)
    assert target(of(decide(world(each, policy=policy(**STARTS_IN))), "llama")) == 6


def test_it_can_be_switched_off() -> None:
    assert target(planned(FLAT + RAMP, loadTrend=False)) == 6


def test_arrivals_are_recorded_twice_a_window_where_they_are_known_and_no_more_than_a_status_takes() -> None:
    kept: tuple[ArrivalSample, ...] = ()
    for tick in range(50):
        state = LoadState.PARTIAL if tick in (20, 21, 22) else LoadState.OBSERVED
        allocation = InferenceAllocationStatus(arrivals=kept)
        snapshot = world(service(observed=load(60.0 + tick, state), allocation=allocation))
        snapshot = replace(snapshot, time=later(30.0 * tick))
        subject = examine(snapshot.services[0], catalog(snapshot), snapshot)
        assert isinstance(subject, Subject)
        kept = samples(subject, snapshot)
    assert len(kept) == SAMPLES_LIMIT - 1
    assert {(b.time - a.time).total_seconds() for a, b in pairwise(kept)} == {60.0, 150.0}
    assert (kept[-1].time, kept[-1].rate) == (later(30.0 * 49), 109.0)
    written = of(decide(world(service(observed=load(60.0)))), "llama").allocation.arrivals
    assert written == (ArrivalSample(time=NOW, rate=60.0),)


@pytest.mark.parametrize(("variability", "most"), [(1.0, 0.01), (13.0, 0.01)])
def test_noise_and_bursts_are_seldom_taken_for_a_trend(variability: float, most: float) -> None:
    generator, shape = np.random.default_rng(7), variability**-2
    at_s = np.cumsum(generator.gamma(shape, 0.2 / shape, size=200_000))
    ends = np.arange(120.0, at_s[-1], 60.0)
    rates = ((np.searchsorted(at_s, ends) - np.searchsorted(at_s, ends - 120.0)) / 2).tolist()
    snapshot = world(service(), policy=policy(**STARTS_IN))
    subject = examine(snapshot.services[0], catalog(snapshot), snapshot)
    assert isinstance(subject, Subject)
    found = []
    for start in range(len(rates) - SAMPLES_LIMIT):
        allocation, now = recorded(rates[start : start + SAMPLES_LIMIT])
        state = replace(subject.state, allocation=allocation)
        found.append(trend(now, replace(subject, state=state), snapshot) is not None)
    assert len(found) > 600
    assert sum(found) <= most * len(found)


def started(ready: int, since_s: float = 60.0, replicas: int = 3, **fields: Any) -> ServicePlan:
    going = ScalingUp(accelerator="h100", replicas=replicas, since=later(-since_s))
    allocation = InferenceAllocationStatus(scaling_up=going, **fields)
    each = service(observed=load(170.0), replicas=3, allocation=allocation)
    assert each.deployment is not None
    each = replace(each, deployment=replace(each.deployment, ready_replicas=ready))
    return of(decide(world(each)), "llama")


def test_what_a_scale_up_takes_is_recorded_when_all_replicas_are_ready() -> None:
    asked = of(decide(world(service(observed=load(170.0)))), "llama").allocation
    assert asked.scaling_up == ScalingUp(accelerator="h100", replicas=3, since=NOW)
    waiting = started(ready=2).allocation
    assert (waiting.scaling_up is not None, waiting.startup_times) == (True, ())
    before = (StartupTime(accelerator="h100", seconds=300.0), StartupTime(accelerator="a100", seconds=90.0))
    done = started(ready=3, startup_times=before).allocation
    assert done.scaling_up is None
    assert done.startup_times == (StartupTime(accelerator="h100", seconds=60.0), before[1])


def test_a_scale_up_that_was_taken_back_or_took_too_long_tells_nothing() -> None:
    assert started(ready=3, replicas=5).allocation.startup_times == ()
    assert started(ready=3, since_s=1801.0).allocation.startup_times == ()
