"""Requests that have piled up beyond the objectives, and headroom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import behavior, load, of, policy, service, service_class, world
from inferscale_operator.decide import decide
from inferscale_operator.plan import ServicePlan
from inferscale_operator.snapshot import ServiceState

CLASSES = (service_class(itl=100_000.0),)


def state(in_flight: float | None, rate: float = 110.0, **fields: Any) -> ServiceState:
    """Two replicas that take 60 requests a minute and hold one at once."""
    return service(observed=replace(load(rate), in_flight=in_flight), behavior={}, **fields)


def plan_of(each: ServiceState, **fields: Any) -> ServicePlan:
    return of(decide(world(each, service_classes=CLASSES, policy=policy(**fields))), "llama")


def target(plan: ServicePlan) -> tuple[str, int | None]:
    entry = plan.allocation.allocations[0]
    return entry.target_accelerator or entry.accelerator, entry.target_replicas


def test_what_the_replicas_hold_within_the_objectives_adds_nothing() -> None:
    assert target(plan_of(state(2.0))) == target(plan_of(state(None)))


def test_what_has_piled_up_is_planned_for_and_said() -> None:
    before, late = plan_of(state(None)), plan_of(state(5000.0))
    assert target(before) == ("h100", 2)
    assert target(late) == ("h100", 4)
    assert "more than 2 ready replicas hold within the objectives" in late.allocation.message
    assert "ready replicas hold" not in before.allocation.message


def test_it_counts_as_no_more_than_what_arrives() -> None:
    most, twice = plan_of(state(1e7)), plan_of(state(None, rate=220.0))
    assert target(most) == target(twice)


def test_the_load_that_is_told_is_what_arrives() -> None:
    told = plan_of(state(5000.0)).allocation.load
    assert told is not None
    assert told.arrival_rate == 110.0


@pytest.mark.parametrize("in_flight", [None, 2.0, 5000.0])
def test_the_scale_up_window_is_passed_only_with_what_has_piled_up_and_only_by_default(
    in_flight: float | None,
) -> None:
    late = in_flight == 5000.0
    default = plan_of(state(in_flight, rate=230.0))
    assert (default.patch is not None) is late
    asked = plan_of(state(in_flight, rate=230.0), behavior=behavior(120, 300))
    assert asked.patch is None
    assert asked.allocation.reason == "Stabilizing"


def test_headroom_is_planned_for_beyond_what_arrives() -> None:
    assert target(plan_of(state(None, rate=100.0))) == ("h100", 2)
    assert target(plan_of(state(None, rate=100.0), loadHeadroom=0.5)) == ("h100", 3)
    assert target(plan_of(state(None, rate=150.0))) == ("h100", 3)


def test_what_has_piled_up_passes_no_bound() -> None:
    assert plan_of(state(5000.0, rate=230.0, maxReplicas=2)).patch is None
