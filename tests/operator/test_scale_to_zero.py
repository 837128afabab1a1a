"""To zero after an idle time, and from zero when requests wait at the gateway."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import (
    IDLE,
    NOW,
    UNKNOWN,
    behavior,
    condition,
    later,
    load,
    of,
    service,
    world,
)
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.decide import decide
from inferscale_operator.snapshot import LoadState, ObservedLoad, Snapshot
from loop_play import Tick, play

STARTING = ObservedLoad(LoadState.STARTING, "just begun")


def queued(requests: float, state: LoadState = LoadState.UNKNOWN, rate: float | None = None) -> ObservedLoad:
    return replace(load(rate, state), queued=requests)


def one(replicas: int, **fields: Any) -> Snapshot:
    """A service behind a gateway that may go to 0 replicas."""
    values = {
        "minReplicas": 0,
        "behavior": behavior(120, 300),
        "keepAccelerator": True,
        "metrics": {"preset": "gateway"},
        **fields,
    }
    return world(service(replicas=replicas, **values))


def run(snapshot: Snapshot, *loads: ObservedLoad, **fields: Any) -> list[Tick]:
    return play(snapshot, loads, **fields)["llama"]


def zero_at(ticks: list[Tick]) -> float | None:
    """Seconds from the start at which it went to 0 replicas."""
    return next(((t.time - NOW).total_seconds() for t in ticks if t.asked == 0), None)


@pytest.mark.parametrize(("after", "seconds"), [({}, 600), ({"scaleToZeroAfterSeconds": 900}, 900)])
def test_an_idle_service_goes_to_one_through_its_window_and_to_zero_after_its_idle_time(
    after: dict[str, int], seconds: float
) -> None:
    ticks = run(one(4, **after), *[IDLE] * 40)
    assert [t.asked for t in ticks[:11]] == [4] * 10 + [1]
    assert zero_at(ticks) == seconds
    assert ticks[5].plan.allocation.idle_since == NOW


def test_the_window_holds_where_the_idle_time_is_shorter() -> None:
    assert zero_at(run(one(4, scaleToZeroAfterSeconds=60), *[IDLE] * 40)) == 300
    assert zero_at(run(one(4, scaleToZeroAfterSeconds=0, behavior=behavior(0, 0)), IDLE)) == 0


@pytest.mark.parametrize(
    "break_",
    [UNKNOWN, STARTING, load(0.0), load(3.0), load(0.0, LoadState.STALLED), queued(2, LoadState.IDLE, 0.0)],
    ids=lambda each: each.state.value,
)
def test_whatever_is_not_idleness_starts_the_idle_time_anew(break_: ObservedLoad) -> None:
    ticks = run(one(1), *[IDLE] * 19, break_, *[IDLE] * 25)
    assert zero_at(ticks) == 600 + 600
    assert ticks[19].plan.allocation.idle_since is None


def test_what_is_not_known_for_hours_never_leads_to_zero() -> None:
    ticks = run(one(3), *[UNKNOWN] * 500)
    assert {t.asked for t in ticks} == {3}


def test_the_idle_time_survives_a_restart_and_not_a_long_absence() -> None:
    recorded = InferenceAllocationStatus(idle_since=later(-590), last_decision=later(-200))
    written = InferenceAllocationStatus.model_validate_json(recorded.model_dump_json(by_alias=True))
    for last, since in ((-200, -590), (-400, 0)):
        before = written.model_copy(update={"last_decision": later(last)})
        plan = decide(one(1, allocation=before, observed=IDLE))
        assert of(plan, "llama").allocation.idle_since == later(since)


def test_scaling_policies_hold_on_the_way_to_zero() -> None:
    slow = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}
    ticks = run(one(3, scaleToZeroAfterSeconds=0, behavior={"scaleDown": slow}), *[IDLE] * 6)
    assert [t.asked for t in ticks] == [2, 2, 1, 1, 0, 0]


def test_requests_that_wait_wake_a_service_at_once() -> None:
    ticks = run(one(0), IDLE, IDLE, queued(3), STARTING, queued(3, LoadState.STARTING))
    assert [t.asked for t in ticks] == [0, 0, 1, 1, 1]
    woken = ticks[2].plan
    assert [e.reason for e in woken.status.events if e.type == "Normal"] == ["Woken"]
    assert "since requests wait at the gateway" in woken.allocation.message


def test_a_service_wakes_to_what_its_load_needs_where_that_is_known() -> None:
    ticks = run(one(0), queued(40, LoadState.OBSERVED, 230.0))
    assert [t.asked for t in ticks] == [4]
    assert ticks[0].plan.allocation.reason == "Woken"
    # Waiting requests alone, before any rate is seen, are worth one.
    assert [t.asked for t in run(one(0), queued(1, LoadState.OBSERVED, 0.0))] == [1]


def test_a_service_that_was_never_asked_before_is_woken() -> None:
    first = replace(queued(3, LoadState.OBSERVED, 22.5), input_tokens=None, output_tokens=None)
    ticks = run(one(0), IDLE, IDLE, first, first)
    assert [t.asked for t in ticks] == [0, 0, 1, 1]
    # What nobody has measured is not taken for the length of a request.
    assert ticks[1].plan.allocation.load.output_tokens is None


def test_a_service_that_nothing_can_be_planned_for_is_woken_all_the_same() -> None:
    # A request of one token takes no time by a model without prefill.
    ticks = run(one(0), replace(queued(3, LoadState.OBSERVED, 230.0), output_tokens=1.0))
    assert [t.asked for t in ticks] == [1]


def test_nothing_is_woken_without_requests_or_against_its_owner() -> None:
    assert [t.asked for t in run(one(0), queued(0), UNKNOWN, IDLE)] == [0, 0, 0]
    assert [t.asked for t in run(one(0, mode="Paused"), queued(5))] == [0]
    up = {"scaleUp": {"selectPolicy": "Disabled"}}
    assert [t.asked for t in run(one(0, behavior=up), queued(5), queued(5, LoadState.OBSERVED, 230.0))] == [
        0,
        0,
    ]
    told = run(one(0, mode="Recommend"), queued(5, LoadState.OBSERVED, 230.0))[0]
    assert (told.asked, told.plan.allocation.allocations[0].desired_replicas) == (0, 4)


@pytest.mark.slow
def test_a_day_of_short_visits_wakes_and_sleeps_once_each() -> None:
    """Each hour a minute of load: awake for the visit, its window and the idle time, and asleep then."""
    visit = [queued(2), STARTING, load(30), load(30), *[load(0.0)] * 2, *[IDLE] * 114]
    ticks = run(one(0), *visit * 6)
    changes = [t.asked for t in ticks if t.changed]
    assert changes == [1, 0] * 6


def test_without_a_gateway_zero_counts_as_one_and_is_refused_by_name() -> None:
    fields = {"metrics": {"preset": "vllm"}, "behavior": behavior(0, 0), "scaleToZeroAfterSeconds": 0}
    ticks = run(one(2, **fields), *[IDLE] * 3)
    assert [t.asked for t in ticks] == [1, 1, 1]
    status, reason, message = condition(ticks[0].plan, "ProfileValid")
    assert (status, reason) == ("False", "NoWakeUp")
    assert message.startswith("spec.minReplicas is 0, and its metrics preset has no gateway")
    assert [e.reason for t in ticks for e in t.plan.status.events if e.type == "Warning"] == ["NoWakeUp"]
    assert condition(ticks[0].plan, "Ready")[:2] == ("True", "Decided")
    # One that is at 0 replicas already would stay there for ever.
    assert [t.asked for t in run(one(0, metrics={"preset": "tgi"}), UNKNOWN)] == [1]


def test_a_schedule_down_to_zero_needs_a_gateway_too() -> None:
    night = [{"from": "00:00", "to": "06:00", "minReplicas": 0}]
    fields = {
        "minReplicas": 1,
        "schedule": night,
        "scaleToZeroAfterSeconds": 0,
        "behavior": behavior(0, 0),
        "metrics": {},
    }
    [tick] = run(one(2, **fields), IDLE)
    assert tick.asked == 1
    assert condition(tick.plan, "ProfileValid")[2].startswith("spec.schedule[0].minReplicas is 0")


def test_between_ticks_idleness_goes_on() -> None:
    recorded = InferenceAllocationStatus(idle_since=later(-100), last_decision=NOW)
    asked = ObservedLoad(LoadState.NOT_ASKED)
    plan = decide(one(1, allocation=recorded, observed=asked))
    assert of(plan, "llama").allocation.idle_since == later(-100)
    assert later(-100) == NOW - timedelta(seconds=100)
