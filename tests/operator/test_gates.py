"""What holds a move back: payback, cool-down, budget; and what none of them holds back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import (
    accelerator,
    behavior,
    condition,
    deployment,
    later,
    load,
    model,
    node,
    of,
    performance,
    pod_spec,
    policy,
    service,
    service_class,
    world,
)
from inferscale_operator.api.inference_allocation import (
    GateStatus,
    InferenceAllocationStatus,
)
from inferscale_operator.api.moves import LastMove, MoveOutcome, MoveSide, MoveStatus, MoveStep, StartupTime
from inferscale_operator.decide import decide
from inferscale_operator.plan import ServicePlan
from inferscale_operator.snapshot import ServiceState, Snapshot

# One replica on h100 (10/h) takes 60 a minute, one on a100 (6/h) 30: at 30 a move saves 4/h.


def only(snapshot: Snapshot) -> ServicePlan:
    return decide(snapshot).services[0]


def gates(plan: ServicePlan) -> list[GateStatus]:
    return list(plan.allocation.allocations[0].gates)


def moves_to(plan: ServicePlan) -> str | None:
    return plan.allocation.move.to.accelerator if plan.allocation.move else None


def remembered(**fields: Any) -> InferenceAllocationStatus:
    return InferenceAllocationStatus(**fields)


def ended(at: float, **fields: Any) -> LastMove:
    values = {"ended_at": later(at), "outcome": MoveOutcome.COMPLETED, "accelerator": "h100", **fields}
    return LastMove(**values)


def test_a_move_that_does_not_pay_within_its_time_is_held_and_says_by_how_much() -> None:
    # 1 × 10/h and 1 × 6/h while replicas start for an hour and a half: 24; saved in an hour: 4.
    state = service(replicas=1, observed=load(30))
    plan = only(world(state, policy=policy(moves={"startupSeconds": 5400, "paybackSeconds": 3600})))
    assert moves_to(plan) is None
    message = "the move to 1 on a100: payback: saves 4.00/h × 3600 s < 24.00 to start it"
    assert [(g.type, g.message) for g in gates(plan)] == [("Payback", message)]
    assert condition(plan, "Moving") == ("False", "Payback", message)
    assert plan.allocation.reason == "Payback"
    longer = policy(moves={"startupSeconds": 5400, "paybackSeconds": 6 * 3600})
    assert moves_to(only(world(state, policy=longer))) == "a100"


def test_what_starting_takes_is_what_was_seen_then_what_the_model_says_then_what_the_policy_says() -> None:
    tight = policy(moves={"startupSeconds": 5400})
    slow = model("llama", performance("a100", 30, startupSeconds=5400), h100=60)
    quick = model("llama", performance("a100", 30, startupSeconds=60), h100=60)
    seen = remembered(startup_times=(StartupTime(accelerator="a100", seconds=60),))
    state = service(replicas=1, observed=load(30))
    assert moves_to(only(world(state))) == "a100"
    assert moves_to(only(world(state, policy=tight))) is None
    assert moves_to(only(world(state, policy=tight, model_profiles=(quick,)))) == "a100"
    assert moves_to(only(world(state, model_profiles=(slow,)))) is None
    found = only(world(replace(state, allocation=seen), model_profiles=(slow,), policy=tight))
    assert moves_to(found) == "a100"


def test_a_service_whose_move_does_not_pay_follows_its_load_where_it_is() -> None:
    never = policy(moves={"paybackSeconds": 0})
    down = only(world(service(replicas=2, observed=load(30)), policy=never))
    assert down.patch is not None
    assert down.patch.body == {"spec": {"replicas": 1}}
    assert [g.type for g in gates(down)] == ["Payback"]


def test_a_service_that_is_short_and_may_not_move_yet_grows_where_it_is() -> None:
    # 70 a minute: three of a100 are cheaper than two of h100, and one of h100 is not enough.
    cheap = (accelerator("h100"), accelerator("a100", cost=4.0))
    state = service(replicas=1, observed=load(70), allocation=remembered(last_move=ended(-60)))
    plan = only(world(state, accelerator_profiles=cheap))
    assert (moves_to(plan), [g.type for g in gates(plan)]) == (None, ["CoolDown"])
    assert plan.patch is not None
    assert plan.patch.body == {"spec": {"replicas": 2}}


@pytest.mark.parametrize("outcome", [MoveOutcome.COMPLETED, MoveOutcome.ROLLED_BACK])
def test_a_service_stays_for_its_cool_down_after_a_move(outcome: MoveOutcome) -> None:
    fresh = remembered(last_move=ended(-560, outcome=outcome))
    state = service(replicas=1, observed=load(30), allocation=fresh)
    plan = only(world(state))
    assert moves_to(plan) is None
    [gate] = gates(plan)
    assert (gate.type, gate.until) == ("CoolDown", later(40))
    assert gate.message == "the move to 1 on a100: cool-down 40 s left after the last move"
    assert condition(plan, "Moving")[:2] == ("False", "CoolDown")
    # It is still on record at the next tick, and over in time.
    assert plan.allocation.last_move == fresh.last_move
    old = replace(state, allocation=remembered(last_move=ended(-601, outcome=outcome)))
    assert moves_to(only(world(old))) == "a100"
    none = policy(moves={"coolDownSeconds": 0})
    assert moves_to(only(world(state, policy=none))) == "a100"


def unattainable(**fields: Any) -> ServiceState:
    """A service on a100, where its objective cannot be met at any load."""
    on = deployment(replicas=1, pod_spec=pod_spec("A100"))
    return service(replicas=1, observed=load(30), serviceClass="fast", on=on, **fields)


def test_a_move_that_the_objectives_require_waits_for_neither_payback_nor_cool_down() -> None:
    fast = (service_class("fast", itl=15.0),)
    strict = policy(moves={"paybackSeconds": 0, "coolDownSeconds": 86400})
    state = unattainable(allocation=remembered(last_move=ended(-1)))
    assert moves_to(only(world(state, service_classes=fast, policy=strict))) == "h100"


def test_a_service_that_cannot_grow_where_it_is_may_move_at_once() -> None:
    strict = policy(moves={"paybackSeconds": 0, "coolDownSeconds": 86400})
    full = (node("node-h", "H100", 1), node("node-a", "A100", 8))
    state = service(replicas=1, observed=load(70), allocation=remembered(last_move=ended(-1)))
    assert moves_to(only(world(state, policy=strict, nodes=full))) == "a100"


def test_a_stop_on_the_way_is_left_without_a_cool_down_or_a_window() -> None:
    stop = remembered(last_move=ended(-1, onward="a100"))
    slow = behavior(300, 300)
    assert (
        moves_to(only(world(service(replicas=1, observed=load(30), behavior=slow, allocation=stop))))
        == "a100"
    )
    elsewhere = remembered(last_move=ended(-1, onward="b200"))
    assert moves_to(only(world(service(replicas=1, observed=load(30), allocation=elsewhere)))) is None


def test_no_more_services_move_at_once_than_the_budget_has() -> None:
    states = [service(name, 1, load(30)) for name in ("a", "b", "c")]
    plan = decide(world(*states, policy=policy(moves={"maxConcurrent": 2})))
    assert [moves_to(of(plan, name)) for name in ("a", "b", "c")] == ["a100", "a100", None]
    [gate] = gates(of(plan, "c"))
    assert gate.type == "Budget"
    assert gate.message == "the move to 1 on a100: budget: 2 of 2 under way: prod/a, prod/b"
    assert condition(of(plan, "c"), "Moving")[:2] == ("False", "Budget")
    under_way = MoveStatus(
        step=MoveStep.BRING_UP,
        source=MoveSide(accelerator="h100", replicas=1),
        to=MoveSide(accelerator="a100", replicas=1),
        started_at=later(0),
        step_started_at=later(0),
        prior_strategy=deployment().strategy,
    )
    moving = replace(states[0], allocation=remembered(move=under_way))
    plan = decide(world(moving, *states[1:], policy=policy(moves={"maxConcurrent": 1})))
    assert "1 of 1 under way: prod/a" in gates(of(plan, "b"))[0].message
    assert (moves_to(of(plan, "b")), moves_to(of(plan, "c"))) == (None, None)


def test_the_highest_priority_moves_first_within_the_budget() -> None:
    states = [service("a", 1, load(30), serviceClass="bronze"), service("z", 1, load(30))]
    plan = decide(world(*states, policy=policy(moves={"maxConcurrent": 1})))
    assert (moves_to(of(plan, "a")), moves_to(of(plan, "z"))) == (None, "a100")


def two_that_swap(cost: float) -> Snapshot:
    """`warm` saves a replica by going where `cool` is; `cool` pays more, or less, where `warm` is."""
    rates = {"warm": {"h100": 60.0, "a100": 20.0}, "cool": {"h100": 30.0, "a100": 30.0, "l40s": 30.0}}
    warm = service("warm", 2, load(40), model="warm", on=deployment("warm", 2, pod_spec=pod_spec("A100")))
    cool = service("cool", 1, load(20), model="cool", serviceClass="silver")
    return world(
        warm,
        cool,
        accelerator_profiles=(accelerator("h100"), accelerator("a100"), accelerator("l40s", cost=cost)),
        model_profiles=tuple(model(name, **each) for name, each in rates.items()),
        service_classes=(
            service_class("gold", models=("warm", "cool")),
            service_class("silver", 2, models=("warm", "cool")),
        ),
        nodes=(node("h", "H100", 1), node("a", "A100", 2), node("l", "L40S", 1)),
    )


def test_a_move_that_does_not_pay_by_itself_may_pay_by_the_room_it_makes() -> None:
    # `cool` costs 1/h more on l40s; with it gone `warm` needs one replica for two, and saves 10/h.
    plan = decide(two_that_swap(11.0))
    assert moves_to(of(plan, "cool")) == "l40s"
    costly = replace(two_that_swap(11.0), policy=policy(moves={"paybackSeconds": 600}))
    [gate] = gates(of(decide(costly), "cool"))
    assert "with those it makes room for (prod/warm)" in gate.message
