from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import (
    UNKNOWN,
    after,
    behavior,
    condition,
    deployment,
    load,
    model,
    of,
    performance,
    policy,
    service,
    world,
)
from inferscale_operator.api.inference_allocation import GateType, InferenceAllocationStatus, PendingPlan
from inferscale_operator.decide import decide
from inferscale_operator.plan import Plan, ServicePlan
from inferscale_operator.snapshot import Snapshot


def only(plan: Plan) -> ServicePlan:
    return plan.services[0]


def approve(**fields: Any) -> Snapshot:
    """A service in mode Approve that has more than it needs, and needs no other accelerator."""
    values: dict[str, Any] = {"replicas": 4, "keepAccelerator": True, "mode": "Approve", **fields}
    return world(service(**values))


def pending(plan: ServicePlan) -> PendingPlan:
    assert plan.allocation.pending_plan is not None
    return plan.allocation.pending_plan


def approved(snapshot: Snapshot, digest: str) -> Snapshot:
    return replace(snapshot, services=tuple(replace(s, approved=digest) for s in snapshot.services))


def replicas(plan: ServicePlan) -> int | None:
    return None if plan.patch is None else plan.patch.body["spec"].get("replicas")


def test_fewer_replicas_wait_for_approval_and_say_how_it_is_given() -> None:
    plan = only(decide(approve()))
    assert plan.patch is None
    wanted = pending(plan)
    assert (wanted.source.replicas, wanted.to.replicas) == (4, 1)
    assert wanted.saving == 30.0
    assert "predicted at this load" in wanted.risk
    status, reason, message = condition(plan, "Applied")
    assert (status, reason) == ("False", "AwaitingApproval")
    assert "`inferscale approve llama -n prod`" in message
    assert wanted.digest in message
    [entry] = plan.allocation.allocations
    assert [gate.type for gate in entry.gates] == [GateType.APPROVAL]
    assert (entry.desired_replicas, entry.target_replicas) == (4, 1)


def test_a_change_of_accelerator_waits_and_is_a_move_once_approved() -> None:
    # One a100 takes 30/min for 6; an h100 costs 10.
    snapshot = world(service(replicas=1, observed=load(20), mode="Approve"))
    first = decide(snapshot)
    assert only(first).allocation.move is None
    assert "started anew" in pending(only(first)).risk
    again = approved(after(snapshot, first), pending(only(first)).digest)
    plan = only(decide(again))
    assert plan.allocation.move is not None
    assert plan.allocation.move.to.accelerator == "a100"
    assert plan.allocation.approved_plan == pending(only(first)).digest
    assert plan.allocation.pending_plan is None


def test_more_replicas_on_the_same_accelerator_do_not_wait() -> None:
    plan = only(decide(approve(replicas=1, observed=load(110))))
    assert replicas(plan) == 2
    assert plan.allocation.pending_plan is None


def test_a_service_that_needs_more_grows_where_it_is_while_the_move_waits() -> None:
    # At 80/min it takes three a100 for 18 or two h100 for 20.
    patient = policy(transitionPenalty=0.0, moves={"paybackSeconds": 86400})
    snapshot = world(service(replicas=1, observed=load(80), mode="Approve"), policy=patient)
    plan = only(decide(snapshot))
    assert pending(plan).to.accelerator == "a100"
    assert replicas(plan) == 2
    assert plan.allocation.move is None


def test_what_waits_keeps_its_digest_as_long_as_it_is_the_same() -> None:
    snapshot = approve()
    digests = []
    for _ in range(3):
        plan = decide(snapshot)
        digests.append(pending(only(plan)).digest)
        snapshot = after(snapshot, plan)
    assert len(set(digests)) == 1


def managed(output_tokens: float) -> Snapshot:
    """A service whose batch follows the lengths of its answers, to be moved to a cheaper accelerator."""
    profiles = [performance(on, 6, maxBatchSize=32) for on in ("h100", "a100")]
    state = service(
        replicas=1,
        observed=replace(load(20), output_tokens=output_tokens),
        mode="Approve",
        batch={"mode": "Managed", "arg": "--max-num-seqs"},
    )
    return world(state, model_profiles=(model("llama", *profiles),))


def test_what_waits_stays_the_same_while_lengths_vary_a_little_and_is_another_when_they_do_a_lot() -> None:
    first = decide(managed(100))
    wanted = pending(only(first))

    def later(output_tokens: float) -> PendingPlan:
        there = after(managed(output_tokens), first)
        assert pending(only(decide(managed(output_tokens)))).to.max_batch != wanted.to.max_batch
        return pending(only(decide(there)))

    assert later(110) == wanted
    assert later(120).digest == wanted.digest
    assert later(200).digest != wanted.digest
    approving = approved(after(managed(110), first), wanted.digest)
    move = only(decide(approving)).allocation.move
    assert move is not None
    assert move.to.max_batch == wanted.to.max_batch


def test_an_approval_carries_out_the_plan_that_it_names() -> None:
    snapshot = approve()
    first = decide(snapshot)
    plan = only(decide(approved(after(snapshot, first), pending(only(first)).digest)))
    assert replicas(plan) == 1
    assert plan.allocation.approved_plan == pending(only(first)).digest
    assert condition(plan, "Applied")[:2] == ("True", "Scaled")


def test_a_patch_that_failed_is_still_approved() -> None:
    snapshot = approve()
    first = decide(snapshot)
    again = approved(after(snapshot, first), pending(only(first)).digest)
    second = decide(again)
    assert replicas(only(second)) == 1
    assert replicas(only(decide(after(again, second)))) == 1


def test_an_approval_of_another_plan_is_refused_and_says_so_once() -> None:
    snapshot = approve()
    first = decide(snapshot)
    changed = after(snapshot, first)
    state = replace(changed.services[0], load=load(110), approved=pending(only(first)).digest)
    changed = replace(changed, services=(state,))
    second = decide(changed)
    plan = only(second)
    assert plan.patch is None
    status, reason, message = condition(plan, "Applied")
    assert (status, reason) == ("False", "ApprovalStale")
    assert pending(only(first)).digest in message
    assert pending(plan).digest in message
    assert pending(plan).digest != pending(only(first)).digest
    assert [event.reason for event in plan.status.events] == ["ApprovalStale"]
    third = only(decide(after(changed, second)))
    assert third.status.events == ()


def test_an_approval_that_was_carried_out_is_not_good_for_the_same_plan_later() -> None:
    snapshot = approve()
    first = decide(snapshot)
    digest = pending(only(first)).digest
    again = approved(after(snapshot, first), digest)
    second = decide(again)
    # Carried out; later the load has come and gone, and the same is wanted once more.
    done = after(again, second)
    small = replace(done.services[0], deployment=deployment(replicas=1, generation=2, observed_generation=2))
    third = decide(replace(done, services=(small,)))
    assert only(third).allocation.pending_plan is None
    later = after(replace(done, services=(small,)), third)
    large = replace(later.services[0], deployment=deployment(replicas=4, generation=3, observed_generation=3))
    plan = only(decide(replace(later, services=(large,))))
    assert plan.patch is None
    assert pending(plan).digest != digest
    # It is not stale either: it was used.
    assert condition(plan, "Applied")[1] == "AwaitingApproval"


def test_the_news_is_sent_once_however_often_the_plan_changes() -> None:
    snapshot = approve()
    reasons = []
    for rate in (60, 110, 60):
        state = replace(snapshot.services[0], load=load(rate))
        snapshot = replace(snapshot, services=(state,))
        plan = decide(snapshot)
        reasons += [event.reason for event in only(plan).status.events]
        snapshot = after(snapshot, plan)
    assert reasons == ["AwaitingApproval"]


def test_a_window_comes_before_an_approval() -> None:
    snapshot = approve(behavior=behavior(0, 300))
    plan = only(decide(snapshot))
    assert plan.allocation.pending_plan is None
    assert [gate.type for gate in plan.allocation.allocations[0].gates] == [GateType.STABILIZATION]


def test_an_unknown_load_does_nothing_on_an_approval_and_forgets_no_plan() -> None:
    snapshot = approve()
    first = decide(snapshot)
    blind = approved(after(snapshot, first), pending(only(first)).digest)
    blind = replace(blind, services=(replace(blind.services[0], load=UNKNOWN),))
    plan = only(decide(blind))
    assert plan.patch is None
    assert pending(plan).digest == pending(only(first)).digest


@pytest.mark.parametrize("mode", ["Apply", "Recommend", "Paused"])
def test_nothing_is_pending_in_another_mode(mode: str) -> None:
    snapshot = approve(mode=mode)
    status = InferenceAllocationStatus(pending_plan=pending(only(decide(approve()))))
    state = replace(snapshot.services[0], allocation=status)
    assert only(decide(replace(snapshot, services=(state,)))).allocation.pending_plan is None


def test_the_step_of_others_fits_beside_what_waits_for_approval() -> None:
    # The silver service would give its h100 to the gold one, were it approved.
    held = service("held", 4, load(20), mode="Approve", serviceClass="silver", model="llama")
    gold = service("gold", 4, load(440), keepAccelerator=True)
    snapshot = world(held, gold)
    plan = decide(snapshot)
    assert of(plan, "held").patch is None
    # Eight units, four of them held back.
    assert of(plan, "gold").patch is None
    assert "no room" in of(plan, "gold").allocation.message


def test_a_higher_priority_gets_nothing_past_a_window_without_approval() -> None:
    def gives(mode: str) -> ServicePlan:
        spec: dict[str, Any] = {"keepAccelerator": True, "serviceClass": "silver", "mode": mode}
        donor = service("gives", 4, load(20), behavior=behavior(0, 300), **spec)
        takes = service("takes", 4, load(440), keepAccelerator=True)
        return of(decide(world(donor, takes)), "gives")

    assert replicas(gives("Apply")) == 1
    assert gives("Approve").patch is None
