from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import (
    NOW,
    UNKNOWN,
    accelerator,
    after,
    condition,
    deployment,
    load,
    of,
    pod_spec,
    policy,
    service,
    world,
)
from inferscale_operator.api.inference_allocation import (
    AdoptedState,
    InferenceAllocationStatus,
    SavingsStatus,
)
from inferscale_operator.api.moves import MoveSide, MoveStatus, MoveStep
from inferscale_operator.decide import advance, decide
from inferscale_operator.plan import Plan, ServicePlan
from inferscale_operator.snapshot import LoadState, ObservedLoad, Resource, Snapshot

ADOPTED = AdoptedState(time=NOW, deployment="llama", accelerator="h100", replicas=4, cost=40.0)


def only(plan: Plan) -> ServicePlan:
    return plan.services[0]


def account(plan: Plan) -> SavingsStatus:
    found = only(plan).allocation.savings
    assert found is not None
    return found


def carried_out(snapshot: Snapshot, plan: Plan, seconds: float = 30.0) -> Snapshot:
    """The next tick, where what was patched is there."""
    states = []
    for state, planned in zip(after(snapshot, plan).services, plan.services, strict=True):
        assert state.deployment is not None
        wanted = planned.patch.body["spec"].get("replicas") if planned.patch else None
        if wanted is not None:
            one = state.deployment.generation + 1
            state = replace(
                state,
                deployment=deployment(state.deployment.name, wanted, generation=one, observed_generation=one),
            )
        states.append(state)
    time = snapshot.time + timedelta(seconds=seconds)
    return replace(snapshot, time=time, services=tuple(states), saved=plan.savings and plan.savings.total)


def stays(replicas: int = 4, **fields: Any) -> Snapshot:
    return world(service(replicas=replicas, keepAccelerator=True, **fields))


def test_adoption_records_what_a_deployment_was_before_it_is_first_patched() -> None:
    plan = only(decide(stays()))
    assert plan.patch is not None
    adopted = plan.allocation.adopted
    assert adopted is not None
    assert (adopted.accelerator, adopted.replicas, adopted.cost) == ("h100", 4, 40.0)
    assert adopted.node_selector == {"gpu": "H100"}
    assert adopted.time == NOW


def test_what_was_recorded_at_adoption_stays() -> None:
    snapshot = stays()
    first = decide(snapshot)
    second = decide(carried_out(snapshot, first))
    assert only(second).allocation.adopted == only(first).allocation.adopted


@pytest.mark.parametrize("mode", ["Recommend", "Paused"])
def test_nothing_is_adopted_before_it_may_be_patched(mode: str) -> None:
    plan = only(decide(stays(mode=mode)))
    assert plan.allocation.adopted is None
    assert plan.allocation.savings is None


def test_a_deployment_that_may_not_be_touched_is_not_adopted() -> None:
    scaled = service(on=deployment(autoscaler="other"))
    assert only(decide(world(scaled))).allocation.adopted is None


def test_another_deployment_is_adopted_anew() -> None:
    before = InferenceAllocationStatus(adopted=ADOPTED)
    renamed = service(replicas=2, on=deployment("other", 2), targetRef={"name": "other"}, allocation=before)
    adopted = only(decide(world(renamed))).allocation.adopted
    assert adopted is not None
    assert (adopted.deployment, adopted.cost) == ("other", 20.0)


def test_the_difference_is_credited_for_the_time_between_ticks() -> None:
    snapshot = stays()
    plan = decide(snapshot)
    assert account(plan).total == 0
    for _ in range(3):
        snapshot = carried_out(snapshot, plan)
        plan = decide(snapshot)
    # From 4 to 1: saved since the second tick, for two intervals of 30 s.
    assert account(plan).per_hour == 30.0
    assert account(plan).total == pytest.approx(30.0 * 60 / 3600)
    assert account(plan).credited_seconds == 90
    assert plan.savings is not None
    assert plan.savings.total == pytest.approx(30.0 * 60 / 3600)
    assert plan.savings.per_hour == 30.0


def test_growing_past_the_adopted_state_costs() -> None:
    snapshot = stays(1, observed=load(110))
    plan = decide(snapshot)
    for _ in range(3):
        snapshot = carried_out(snapshot, plan)
        plan = decide(snapshot)
    assert account(plan).per_hour == -10.0
    # From the tick on that asked for it.
    assert account(plan).total == pytest.approx(-10.0 * 90 / 3600, abs=1e-3)


def with_account(as_of: float, per_hour: float = 30.0, **fields: Any) -> Snapshot:
    """A service that has 1 of the 4 replicas of its adoption, last counted so many seconds ago."""
    savings = SavingsStatus(total=5.0, per_hour=per_hour, as_of=NOW - timedelta(seconds=as_of))
    status = InferenceAllocationStatus(adopted=ADOPTED, savings=savings)
    return world(service(replicas=1, keepAccelerator=True, allocation=status, **fields))


@pytest.mark.parametrize(
    ("seconds", "credited"), [(30.0, True), (90.0, True), (91.0, False), (86_400.0, False), (-5.0, False)]
)
def test_a_gap_is_not_credited(seconds: float, credited: bool) -> None:
    counted = account(decide(with_account(seconds)))
    assert counted.total == pytest.approx(5.0 + (30.0 * seconds / 3600 if credited else 0.0), abs=1e-3)
    assert counted.as_of == NOW


def test_while_the_load_is_unknown_nothing_is_credited_and_losses_count() -> None:
    assert account(decide(with_account(30.0, observed=UNKNOWN))).total == 5.0
    lost = account(decide(with_account(30.0, -30.0, observed=UNKNOWN)))
    assert lost.total == pytest.approx(5.0 - 0.25)


def test_a_service_that_cannot_be_decided_is_a_gap_until_it_can() -> None:
    snapshot = with_account(30.0, serviceClass="nowhere")
    plan = decide(snapshot)
    counted = account(plan)
    assert (counted.total, counted.per_hour, counted.as_of) == (5.0, 0.0, None)
    mended = with_account(30.0)
    known = replace(mended.services[0], allocation=only(plan).allocation)
    again = account(decide(replace(mended, services=(known,))))
    assert (again.total, again.per_hour) == (5.0, 30.0)


def test_both_sides_of_a_move_are_paid_for() -> None:
    move = MoveStatus(
        step=MoveStep.BRING_UP,
        source=MoveSide(accelerator="h100", replicas=2),
        to=MoveSide(accelerator="a100", replicas=3),
        started_at=NOW,
        step_started_at=NOW,
    )
    status = InferenceAllocationStatus(adopted=ADOPTED, move=move)
    counted = account(decide(world(service(replicas=2, allocation=status))))
    assert counted.per_hour == pytest.approx(40.0 - 20.0 - 18.0)


def test_what_a_move_led_to_is_paid_for_when_it_is_over() -> None:
    move = MoveStatus(
        step=MoveStep.TRIM,
        source=MoveSide(accelerator="h100", replicas=2),
        to=MoveSide(accelerator="a100", replicas=1),
        started_at=NOW,
        step_started_at=NOW,
        prior_strategy=deployment().strategy,
        prior_template={"nodeSelector": {"gpu": "H100"}},
    )
    status = InferenceAllocationStatus(adopted=ADOPTED, move=move)
    plan = decide(world(service(on=deployment(replicas=1, pod_spec=pod_spec("A100")), allocation=status)))
    assert only(plan).allocation.move is None
    assert account(plan).per_hour == pytest.approx(40.0 - 6.0)


def test_nothing_is_counted_between_ticks() -> None:
    move = MoveStatus(
        step=MoveStep.BRING_UP,
        source=MoveSide(accelerator="h100", replicas=2),
        to=MoveSide(accelerator="a100", replicas=3),
        started_at=NOW,
        step_started_at=NOW,
    )
    savings = SavingsStatus(total=5.0, per_hour=1.0, as_of=NOW - timedelta(seconds=10))
    status = InferenceAllocationStatus(adopted=ADOPTED, move=move, savings=savings)
    asked = ObservedLoad(LoadState.NOT_ASKED, "not asked")
    plan = advance(world(service(replicas=2, observed=asked, allocation=status)))
    assert only(plan).allocation.savings == savings
    assert plan.savings is None


def test_the_sum_outlives_the_services_that_it_came_from() -> None:
    snapshot = replace(with_account(30.0), saved=100.0)
    plan = decide(snapshot)
    assert plan.savings is not None
    assert plan.savings.total == pytest.approx(100.25)
    gone = replace(snapshot, services=(), saved=plan.savings.total)
    last = decide(gone).savings
    assert last is not None
    assert (last.total, last.per_hour) == (pytest.approx(100.25), 0.0)


def test_the_policy_s_status_has_the_sum() -> None:
    default = Resource("default", "uid-policy", 1, policy())
    plan = decide(replace(with_account(30.0), policies=(default,), saved=100.0))
    [status] = [s.status for s in plan.statuses if s.ref.kind == "OptimizerPolicy"]
    assert (status.saved_total, status.saved_per_hour) == (100.25, 30.0)


def test_a_change_of_price_does_not_change_what_adoption_cost() -> None:
    snapshot = replace(
        with_account(30.0), accelerator_profiles=(accelerator("h100", cost=20.0), accelerator("a100"))
    )
    assert account(decide(snapshot)).per_hour == 20.0
    assert condition(of(decide(snapshot), "llama"), "Ready")[0] == "True"


@settings(deadline=None, max_examples=10)
@given(gaps=st.lists(st.floats(min_value=0.1, max_value=300), min_size=1, max_size=8))
def test_credited_time_is_the_time_between_near_ticks_and_the_total_its_worth(gaps: list[float]) -> None:
    snapshot = with_account(0.0)
    plan = decide(snapshot)
    expected = 0.0
    for gap in gaps:
        snapshot = carried_out(snapshot, plan, gap)
        plan = decide(snapshot)
        expected += gap if gap <= 90 else 0.0
    assert account(plan).credited_seconds == pytest.approx(expected, abs=0.1 * len(gaps))
    assert account(plan).total == pytest.approx(5.0 + 30.0 * expected / 3600, abs=1e-3 * len(gaps))
