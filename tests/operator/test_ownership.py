from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import NOW, after, condition, deployment, later, load, pod_spec, policy, service, world
from inferscale_operator.api.inference_allocation import (
    InferenceAllocationStatus,
    RevertedField,
    RevertStatus,
    WrittenState,
)
from inferscale_operator.api.moves import MoveSide, MoveStatus, MoveStep
from inferscale_operator.decide import decide
from inferscale_operator.kube.parse import parse_deployment
from inferscale_operator.plan import Plan, ServicePlan
from inferscale_operator.snapshot import DeploymentState, Snapshot
from kubernetes_objects import deployment as raw_deployment

RATE = 110
"""Two replicas of llama on an h100."""


def only(plan: Plan) -> ServicePlan:
    return plan.services[0]


def replicas(plan: ServicePlan) -> int | None:
    return None if plan.patch is None else plan.patch.body["spec"].get("replicas")


def scaled(count: int, generation: int, by: str = "", **fields: Any) -> DeploymentState:
    writers = {"replicas": by} if by else {}
    return deployment(
        replicas=count, generation=generation, observed_generation=generation, writers=writers, **fields
    )


def start(count: int = 1, **policy_fields: Any) -> Snapshot:
    return world(
        service(on=scaled(count, 1), observed=load(RATE), keepAccelerator=True),
        policy=policy(**policy_fields),
    )


def then(snapshot: Snapshot, plan: Plan, state: DeploymentState, seconds: float = 30.0) -> Snapshot:
    """The next tick, with the Deployment as it is by then."""
    following = after(snapshot, plan, seconds)
    return replace(following, services=(replace(following.services[0], deployment=state),))


def reverted_twice(**policy_fields: Any) -> tuple[Snapshot, Plan]:
    """Somebody puts the replicas back to 1 after each write."""
    snapshot = start(**policy_fields)
    plan = decide(snapshot)
    for generation in (3, 5):
        assert replicas(only(plan)) == 2
        snapshot = then(snapshot, plan, scaled(1, generation, "argocd-controller"))
        plan = decide(snapshot)
    return snapshot, plan


def test_what_is_written_is_on_record() -> None:
    written = only(decide(start())).allocation.written
    assert written is not None
    assert (written.replicas, written.accelerator, written.generation) == (2, "h100", 2)


def test_a_write_that_came_through_is_no_news() -> None:
    snapshot = start()
    plan = decide(snapshot)
    plan = decide(then(snapshot, plan, scaled(2, 2)))
    assert only(plan).allocation.reverts == ()
    assert only(plan).allocation.written is not None


def test_a_write_that_failed_is_not_taken_for_somebody_else_s() -> None:
    snapshot = start()
    plan = decide(snapshot)
    plan = decide(then(snapshot, plan, scaled(1, 1, "kubectl")))
    assert only(plan).allocation.reverts == ()
    assert replicas(only(plan)) == 2


def test_a_write_that_came_too_late_was_not_changed_back() -> None:
    snapshot = start()
    plan = decide(snapshot)
    # Ours was refused, since somebody else had written in between.
    plan = decide(then(snapshot, plan, scaled(3, 2, "kubectl")))
    assert only(plan).allocation.reverts == ()


def test_another_change_of_the_deployment_is_nobody_s_business() -> None:
    snapshot = start()
    plan = decide(snapshot)
    plan = decide(then(snapshot, plan, scaled(2, 7, "kubectl-client-side-apply")))
    assert only(plan).allocation.reverts == ()


def test_a_change_back_is_reported_by_name_and_written_once_more() -> None:
    snapshot = start()
    plan = decide(snapshot)
    plan = decide(then(snapshot, plan, scaled(1, 3, "kubectl-scale")))
    [event] = [e for e in only(plan).status.events if e.reason == "ChangedByOther"]
    assert event.message == "kubectl-scale changed replicas from 2 to 1"
    assert replicas(only(plan)) == 2
    [revert] = only(plan).allocation.reverts
    assert (revert.field, revert.manager) == (RevertedField.REPLICAS, "kubectl-scale")


def test_who_changes_back_twice_is_not_fought_and_named() -> None:
    _, plan = reverted_twice()
    assert only(plan).patch is None
    status, reason, message = condition(only(plan), "Applied")
    assert (status, reason) == ("False", "Reverted")
    assert message.startswith("argocd-controller changed spec.replicas of Deployment llama back twice")
    assert only(plan).allocation.reason == "Reverted"


def test_the_field_is_left_alone_for_its_time_and_then_tried_once() -> None:
    snapshot, plan = reverted_twice(ownership={"revertWindowSeconds": 600, "backOffSeconds": 300})
    left = scaled(1, 5, "argocd-controller")
    snapshot = then(snapshot, plan, left, 299)
    plan = decide(snapshot)
    assert only(plan).patch is None
    snapshot = then(snapshot, plan, left, 2)
    plan = decide(snapshot)
    assert replicas(only(plan)) == 2
    # Changed back a third time, soon after the second: it has it again.
    plan = decide(then(snapshot, plan, scaled(1, 7, "argocd-controller")))
    assert only(plan).patch is None
    assert condition(only(plan), "Applied")[1] == "Reverted"


def test_two_changes_back_that_lie_far_apart_are_no_habit() -> None:
    snapshot = start(ownership={"revertWindowSeconds": 600})
    plan = decide(snapshot)
    snapshot = then(snapshot, plan, scaled(1, 3, "kubectl-scale"))
    plan = decide(snapshot)
    snapshot = then(snapshot, plan, scaled(2, 4))
    plan = decide(snapshot)
    snapshot = then(snapshot, plan, scaled(1, 5, "kubectl-scale"), 601)
    plan = decide(snapshot)
    assert replicas(only(plan)) == 2


def test_without_a_back_off_everything_is_written() -> None:
    _, plan = reverted_twice(ownership={"backOffSeconds": 0})
    assert replicas(only(plan)) == 2


def test_somebody_whom_no_field_manager_names_is_said_to_be_unknown() -> None:
    snapshot = start()
    plan = decide(then(snapshot, decide(snapshot), scaled(1, 3)))
    assert "somebody whom the Deployment does not name" in only(plan).status.events[0].message


def on_a100(generation: int, by: str = "") -> DeploymentState:
    writers = {"template": by} if by else {}
    return deployment(
        replicas=1,
        generation=generation,
        observed_generation=generation,
        pod_spec=pod_spec("A100"),
        writers=writers,
    )


def with_template_reverts(count: int, rate: float, seconds: float = 0.0, **fields: Any) -> Snapshot:
    """A service that was moved to the cheaper a100 and found back on the h100 so many times."""
    reverts = tuple(
        RevertStatus(field=RevertedField.TEMPLATE, manager="flux", time=later(-60.0 * i - seconds))
        for i in reversed(range(count))
    )
    status = InferenceAllocationStatus(reverts=reverts)
    return world(service(on=scaled(1, 9), observed=load(rate), allocation=status, **fields))


def test_a_template_that_is_put_back_is_noticed_by_its_accelerator() -> None:
    written = WrittenState(deployment="uid-llama", generation=4, replicas=1, accelerator="a100")
    status = InferenceAllocationStatus(written=written)
    state = deployment(replicas=1, generation=5, observed_generation=5, writers={"template": "flux"})
    plan = only(decide(world(service(on=state, observed=load(20), allocation=status))))
    [revert] = plan.allocation.reverts
    assert (revert.field, revert.manager, revert.time) == (RevertedField.TEMPLATE, "flux", NOW)
    assert "flux changed the pod template from a100 to h100" in [e.message for e in plan.status.events]


def test_a_template_that_is_put_back_twice_is_left_and_replicas_still_follow_the_load() -> None:
    assert only(decide(with_template_reverts(1, 20))).allocation.move is not None
    plan = only(decide(with_template_reverts(2, 20)))
    assert plan.allocation.move is None
    status, reason, message = condition(plan, "Applied")
    assert (status, reason) == ("False", "Reverted")
    assert "flux changed the pod template" in message
    outcomes = {c.accelerator: c.message for c in plan.allocation.candidates}
    assert outcomes["a100"].startswith("Reverted: flux")
    grown = only(decide(with_template_reverts(2, RATE)))
    assert replicas(grown) == 2
    assert grown.allocation.move is None
    assert only(decide(with_template_reverts(2, 20, 1801))).allocation.move is not None


def test_what_a_move_wrote_is_on_record_when_it_is_over() -> None:
    move = MoveStatus(
        step=MoveStep.TRIM,
        source=MoveSide(accelerator="h100", replicas=1),
        to=MoveSide(accelerator="a100", replicas=1),
        started_at=NOW,
        step_started_at=NOW,
        prior_strategy=deployment().strategy,
        prior_template={"nodeSelector": {"gpu": "H100"}},
    )
    status = InferenceAllocationStatus(move=move)
    plan = only(decide(world(service(on=on_a100(6), observed=load(20), allocation=status))))
    assert plan.allocation.move is None
    written = plan.allocation.written
    assert written is not None
    assert (written.accelerator, written.replicas, written.generation) == ("a100", 1, 6)


def test_nothing_is_taken_for_a_change_back_while_a_move_is_under_way() -> None:
    written = WrittenState(deployment="uid-llama", generation=1, replicas=2, accelerator="h100")
    snapshot = with_template_reverts(0, 20)
    moved = only(decide(snapshot)).allocation
    assert moved.move is not None
    assert moved.written is None
    state = replace(snapshot.services[0], allocation=moved.model_copy(update={"written": written}))
    plan = only(decide(replace(snapshot, services=(state,))))
    assert plan.allocation.reverts == ()


def test_another_deployment_of_that_name_is_not_measured_by_what_the_old_one_had() -> None:
    written = WrittenState(deployment="uid-old", generation=1, replicas=7, accelerator="h100")
    status = InferenceAllocationStatus(written=written)
    plan = only(decide(world(service(on=scaled(2, 9), observed=load(RATE), allocation=status))))
    assert plan.allocation.reverts == ()


def entry(manager: str, time: str, fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": "Update", "time": time, "fieldsV1": {"f:spec": fields}, **more}


REPLICAS: dict[str, Any] = {"f:replicas": {}}
SELECTOR: dict[str, Any] = {"f:template": {"f:spec": {"f:nodeSelector": {}}}}


@pytest.mark.parametrize(
    ("managed", "writers"),
    [
        ([], {}),
        ([entry("inferscale", "2026-01-01T00:00:00Z", REPLICAS)], {}),
        (
            [entry("kubectl", "2026-01-01T00:00:00Z", REPLICAS | SELECTOR)],
            {"replicas": "kubectl", "template": "kubectl"},
        ),
        (
            [
                entry("argocd-controller", "2026-01-01T00:00:09Z", REPLICAS),
                entry("kubectl", "2026-01-01T00:00:00Z", REPLICAS | SELECTOR),
                entry("kubectl-scale", "2026-01-01T00:00:05Z", REPLICAS, subresource="scale"),
            ],
            {"replicas": "argocd-controller", "template": "kubectl"},
        ),
        ([entry("kube-controller-manager", "2026-01-01T00:00:00Z", REPLICAS, subresource="status")], {}),
    ],
)
def test_who_wrote_last_is_read_from_the_managed_fields(managed: list[Any], writers: dict[str, str]) -> None:
    raw = raw_deployment()
    raw["metadata"]["managedFields"] = managed
    assert parse_deployment(raw).writers == writers
