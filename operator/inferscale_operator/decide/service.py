"""What is done for one service: nothing, a change of replicas, or a step of a move."""

from __future__ import annotations

from dataclasses import replace

from inferscale_operator.api.inference_service import Mode
from inferscale_operator.api.moves import MoveSide, MoveStatus, MoveStep
from inferscale_operator.decide import moves
from inferscale_operator.decide.catalog import Refusal, Subject, applies
from inferscale_operator.decide.findings import Outlook
from inferscale_operator.decide.formulate import least_held
from inferscale_operator.decide.growth import growth_event
from inferscale_operator.decide.ownership import refusal
from inferscale_operator.decide.records import with_records
from inferscale_operator.decide.report import (
    decided_plan,
    held_plan,
    moving_plan,
    paused_plan,
    refused_plan,
    resumed_plan,
    unguided_plan,
)
from inferscale_operator.decide.step import Grant
from inferscale_operator.decide.template import inverse, template_patch
from inferscale_operator.plan import DeploymentPatch, ServicePlan
from inferscale_operator.snapshot import DeploymentState, ServiceState, Snapshot


def service_plan(
    state: ServiceState, found: Subject | Refusal, outlook: Outlook | None, snapshot: Snapshot
) -> ServicePlan:
    """What is done for a service, with what is to be recorded of it."""
    return with_records(_decided(state, found, outlook, snapshot), state, found, outlook, snapshot)


def _decided(
    state: ServiceState, found: Subject | Refusal, outlook: Outlook | None, snapshot: Snapshot
) -> ServicePlan:
    move = state.allocation.move if state.allocation is not None else None
    deployment = state.deployment
    if move is None and deployment is not None and _left_paused(state, deployment, snapshot):
        return resumed_plan(state, deployment, snapshot)
    if isinstance(found, Refusal):
        return (
            refused_plan(state, found, snapshot)
            if move is None or state.lacks_label
            else unguided_plan(state, move, found, snapshot)
        )
    if move is not None:
        grown = found.state.allocation.move if found.state.allocation is not None else None
        advanced = _advance_move(found, grown or move, snapshot)
        news = growth_event(move, grown)
        return moving_plan(found, replace(advanced, events=(*news, *advanced.events)), snapshot)
    if found.spec.mode is Mode.PAUSED:
        return paused_plan(found, snapshot)
    if outlook is None:
        refused = refusal(found, snapshot) if applies(found.spec) else None
        return held_plan(found, refused, _up_to_least(found, refused), snapshot)
    if not applies(found.spec) or not outlook.grant.move:
        return decided_plan(found, outlook, _scaling(found, outlook.grant), None, snapshot)
    begun = _begin_move(found, outlook.grant, snapshot)
    advanced = _advance_move(found, begun, snapshot)
    return decided_plan(found, outlook, advanced.patch, advanced.move, snapshot)


def _left_paused(state: ServiceState, deployment: DeploymentState, snapshot: Snapshot) -> bool:
    """Whether we paused a Deployment and no move of it is on record, of an earlier service either."""
    spec = state.resource.spec
    ending = {(o.namespace, o.deployment.name) for o in snapshot.orphans if o.deployment is not None}
    unknown = (deployment.namespace, deployment.name) not in ending
    return deployment.paused_by_us and unknown and spec is not None and applies(spec)


def _up_to_least(subject: Subject, refused: Refusal | None) -> DeploymentPatch | None:
    """A service whose load is not known loses nothing; it has its minReplicas, and is woken, all the same."""
    least, here = least_held(subject), subject.holding
    if refused is not None or here.replicas >= least:
        return None
    return _scaling(subject, Grant(here.accelerator, least, here.max_batch))


def _scaling(subject: Subject, grant: Grant) -> DeploymentPatch | None:
    deployment = subject.deployment
    if not applies(subject.spec) or grant.replicas == deployment.replicas:
        return None
    return DeploymentPatch(
        namespace=deployment.namespace,
        name=deployment.name,
        resource_version=deployment.resource_version,
        body={"spec": {"replicas": grant.replicas}},
        summary=f"scale from {deployment.replicas} to {grant.replicas} on {grant.accelerator}",
    )


def _begin_move(subject: Subject, grant: Grant, snapshot: Snapshot) -> MoveStatus:
    deployment, holding = subject.deployment, subject.holding
    patch = template_patch(
        subject.spec,
        deployment.pod_spec,
        subject.placement(holding.accelerator),
        subject.placement(grant.accelerator),
        grant.max_batch,
    )
    return MoveStatus(
        step=MoveStep.BRING_UP,
        source=MoveSide(
            accelerator=holding.accelerator, replicas=holding.replicas, max_batch=holding.max_batch
        ),
        to=MoveSide(accelerator=grant.accelerator, replicas=grant.replicas, max_batch=grant.max_batch),
        started_at=snapshot.time,
        step_started_at=snapshot.time,
        prior_strategy=dict(deployment.strategy),
        prior_template=inverse(deployment.pod_spec, patch),
        prior_revision=deployment.revision,
        onward=grant.onward,
    )


def _advance_move(subject: Subject, move: MoveStatus, snapshot: Snapshot) -> moves.Advance:
    if move.to.accelerator in subject.performances and move.source.accelerator in subject.performances:
        patch = template_patch(
            subject.spec,
            subject.deployment.pod_spec,
            subject.placement(move.source.accelerator),
            subject.placement(move.to.accelerator),
            move.to.max_batch,
        )
    elif move.step is MoveStep.BRING_UP:
        # Its profile is gone: back to what was.
        gone = "an accelerator profile of the move is gone, or the model's data for it"
        move, patch = moves.begin_roll_back(move, snapshot.time, gone), {}
    else:
        patch = {}
    return moves.advance(
        move, subject.deployment, patch, snapshot.time, snapshot.policy.moves.bring_up_timeout_seconds
    )
