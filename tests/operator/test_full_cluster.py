"""Moves on a cluster without a free unit, decided and carried out on models of Deployments."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import (
    accelerator,
    behavior,
    condition,
    deployment,
    load,
    model,
    of,
    pod_spec,
    policy,
    service,
    service_class,
)
from fleet_model import ModelFleet

# Requests per minute of a replica: either model is at home on one of the types.
RATES = {
    "warm": {"h100": 60.0, "a100": 20.0, "l40s": 30.0},
    "cool": {"h100": 20.0, "a100": 60.0, "l40s": 30.0},
}
COSTS = {"h100": 10.0, "a100": 10.0, "l40s": 12.0}


def fleet(
    units: dict[str, int], *, warm: tuple[int, float], cool: tuple[int, float], **moves: Any
) -> ModelFleet:
    """Two services on the wrong types: replicas and load of each."""
    profiles = [name for name in COSTS if name.upper() in units]
    services = {
        name: service(
            name,
            observed=load(rate),
            on=deployment(name, replicas, pod_spec=pod_spec(kind)),
            model=name,
            serviceClass=tier,
            behavior=behavior(0, 0),
        )
        for name, (replicas, rate), kind, tier in (
            ("warm", warm, "A100", "gold"),
            ("cool", cool, "H100", "silver"),
        )
    }
    fields = {
        "accelerator_profiles": tuple(accelerator(n, cost=COSTS[n]) for n in profiles),
        "model_profiles": tuple(
            model(name, **{p: rates[p] for p in profiles}) for name, rates in RATES.items()
        ),
        "service_classes": tuple(
            service_class(name, priority, models=("warm", "cool"))
            for priority, name in enumerate(("gold", "silver"), start=1)
        ),
        "policy": policy(moves=moves),
    }
    return ModelFleet(units, services, {}, fields)


def run(made: ModelFleet, ticks: int = 120) -> float:
    """Carries out decisions; returns the least that a service served of its load at any time."""
    least = 1.0
    loads = {name: s.load.arrival_rate or 0 for name, s in made.services.items()}
    for tick in range(ticks):
        made.tick(full=tick % 3 == 0)
        for name, rate in loads.items():
            made.rates = {k.upper(): v for k, v in RATES[name].items()}
            least = min(least, made.serves(name) / rate)
    return least


def test_two_swap_accelerators_where_one_has_a_replica_to_spare() -> None:
    made = fleet({"H100": 3, "A100": 2}, warm=(2, 40), cool=(3, 40))
    assert run(made) >= 1.0
    assert (made.where("warm"), made.where("cool")) == (("H100", 1), ("A100", 1))
    assert sorted(r for _, r in made.reasons if r in ("MoveStarted", "MoveTimedOut")) == ["MoveStarted"] * 2


def test_two_swap_accelerators_by_way_of_a_third() -> None:
    made = fleet({"H100": 2, "A100": 2, "L40S": 2}, warm=(2, 40), cool=(2, 40))
    assert run(made, 200) >= 1.0
    assert (made.where("warm"), made.where("cool")) == (("H100", 1), ("A100", 1))
    # The lower priority makes the stop.
    started = [name for name, reason in made.reasons if reason == "MoveStarted"]
    assert started.count("warm") == 1
    assert started.count("cool") == 2


def test_two_that_need_all_they_have_stay_and_say_so() -> None:
    made = fleet({"H100": 2, "A100": 2}, warm=(2, 40), cool=(2, 40))
    assert run(made, 60) >= 1.0
    assert (made.where("warm"), made.where("cool")) == (("A100", 2), ("H100", 2))
    assert made.plan is not None
    for name, other in (("warm", "cool"), ("cool", "warm")):
        status, reason, message = condition(of(made.plan, name), "CapacityLimited")
        assert (status, reason) == ("True", "MovesWaitForEachOther")
        assert f"held by prod/{other}" in message
        assert condition(of(made.plan, name), "Moving")[:2] == ("False", "MovesWaitForEachOther")
    assert not [r for _, r in made.reasons if r == "MoveStarted"]


@pytest.mark.slow
@settings(deadline=None, max_examples=6)
@given(
    st.fixed_dictionaries({"H100": st.integers(0, 2), "A100": st.integers(0, 2), "L40S": st.integers(0, 3)}),
    st.tuples(st.integers(1, 4), st.floats(0.1, 0.98)),
    st.tuples(st.integers(1, 4), st.floats(0.1, 0.98)),
)
def test_whatever_the_room_nobody_is_below_the_load_and_nothing_waits_for_a_node(
    spare: dict[str, int], warm: tuple[int, float], cool: tuple[int, float]
) -> None:
    units = {
        "H100": cool[0] + spare["H100"],
        "A100": warm[0] + spare["A100"],
        "L40S": spare["L40S"],
    }
    made = fleet(units, warm=(warm[0], 20 * warm[0] * warm[1]), cool=(cool[0], 20 * cool[0] * cool[1]))
    least = 1.0
    for tick in range(75):
        made.tick(full=tick % 3 == 0)
        assert made.pending() == 0
        for name, state in made.services.items():
            made.rates = {k.upper(): v for k, v in RATES[name].items()}
            least = min(least, made.serves(name) / (state.load.arrival_rate or 1))
    # What a replica takes is rounded in `builders`.
    assert least >= 0.98
    assert not any(d.paused for d in made.deployments.values())
    for name, state in made.services.items():
        assert state.allocation is not None
        entry = state.allocation.allocations[0]
        arrived = made.where(name)[0].lower() == entry.target_accelerator
        assert arrived or state.allocation.move or "wait" in made.message(name) or entry.gates
