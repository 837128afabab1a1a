"""What is written and said about a service: its allocation's status, its conditions, events."""

from __future__ import annotations

from collections.abc import Mapping

from inferscale_operator.api.base import ConditionStatus
from inferscale_operator.api.inference_allocation import (
    GateStatus,
    GateType,
    InferenceAllocationStatus,
)
from inferscale_operator.api.inference_service import InferenceServiceStatus
from inferscale_operator.api.moves import MoveStatus, MoveStep
from inferscale_operator.decide import moves
from inferscale_operator.decide.accelerators import recognise
from inferscale_operator.decide.allocation import (
    candidate_statuses,
    failed_moves_kept,
    held_entry,
    last_move_ended,
    load_status,
    predictions,
    present_entry,
    startup_times,
)
from inferscale_operator.decide.catalog import Refusal, Subject
from inferscale_operator.decide.changes import changes, not_placed, scale_events, wakes
from inferscale_operator.decide.conditions import Finding, conditions, events
from inferscale_operator.decide.findings import (
    LOAD_REASONS,
    Outlook,
    decided_findings,
    held_findings,
    load_reason,
    move_message,
    moving_findings,
    paused_findings,
    refused_findings,
)
from inferscale_operator.decide.formulate import least_held, rates_per_replica, served
from inferscale_operator.decide.overload import planned_beyond
from inferscale_operator.decide.stabilization import Holding
from inferscale_operator.plan import (
    DeploymentPatch,
    EventNote,
    EventType,
    ObjectRef,
    OrphanPlan,
    ServicePlan,
    StatusPlan,
)
from inferscale_operator.snapshot import DeploymentState, LoadState, OrphanState, ServiceState, Snapshot

_CALLED = "since requests wait at the gateway"
_TOKENS_UNKNOWN = "no request has finished yet, so token lengths are not known"


def decided_plan(
    subject: Subject,
    outlook: Outlook,
    patch: DeploymentPatch | None,
    move: MoveStatus | None,
    snapshot: Snapshot,
) -> ServicePlan:
    """A service with a decision."""
    reason, message = _why(subject, outlook, patch, move)
    message = f"{message}{planned_beyond(outlook.planned, subject)}"
    decision, figures, target = outlook.decision, outlook.figures, outlook.intent.target
    before = subject.state.allocation
    entry = present_entry(
        subject,
        accelerator=outlook.grant.accelerator,
        desired_replicas=outlook.grant.replicas,
        target_accelerator=target.accelerator,
        target_replicas=target.replicas,
        max_batch=figures.granted.max_batch or None,
        cost=subject.cost(outlook.grant.accelerator, outlook.grant.replicas),
        gates=outlook.gates,
        **predictions(figures.granted),
    )
    status = InferenceAllocationStatus(
        **_identity(subject.state),
        reason=reason,
        message=message,
        allocations=(entry,),
        load=load_status(subject, snapshot),
        binding=decision.binding,
        runner_up=decision.runner_up,
        candidates=candidate_statuses(decision),
        history=outlook.history,
        move=move,
        failed_moves=failed_moves_kept(subject.state, snapshot),
        last_move=before.last_move if before is not None else None,
        startup_times=before.startup_times if before is not None else (),
        scale_events=scale_events(
            subject,
            Holding(outlook.grant.accelerator, outlook.grant.replicas) if patch is not None else None,
            rates_per_replica(decision),
            snapshot.time,
        ),
        idle_since=subject.idle.since,
        unschedulable=subject.unschedulable,
        last_decision=snapshot.time,
    )
    findings = decided_findings(subject, outlook, patch, move, message)
    said = (*changes(subject, outlook, patch, move), *not_placed(subject))
    return _service_plan(subject.state, status, findings, patch, said, snapshot, subject.accelerator)


def held_plan(
    subject: Subject, refusal: Refusal | None, patch: DeploymentPatch | None, snapshot: Snapshot
) -> ServicePlan:
    """A service that keeps what it has: its load is not known, or its Deployment may not be touched.

    Args:
        subject: The service.
        refusal: Why its Deployment may not be touched, if it may not.
        patch: What brings it up to its minReplicas, which hold whatever the load; None: it has them.
        snapshot: The world.
    """
    load = subject.state.load
    blind = None
    if subject.load is None:
        blind = Finding(ConditionStatus.FALSE, load_reason(load), load.message)
        if load.state.known:
            blind = blind._replace(reason="TokensUnknown", message=_TOKENS_UNKNOWN)
    cause = refusal or blind or Finding(ConditionStatus.FALSE, "Held")
    if cause is blind and load.state is LoadState.UNKNOWN:
        # One word for all causes; the condition MetricsAvailable tells them apart.
        cause = blind._replace(reason=LOAD_REASONS[load.state])
    message = f"holding {subject.deployment.replicas} on {subject.accelerator}: {cause.message}"
    entry = held_entry(subject)
    if refusal is not None and refusal.reason == GateType.ROLLOUT_IN_PROGRESS:
        gate = GateStatus(type=GateType.ROLLOUT_IN_PROGRESS, message=refusal.message)
        entry = entry.model_copy(update={"gates": (gate,)})
    said: tuple[EventNote, ...] = ()
    made = None
    if patch is not None:
        made = Holding(subject.accelerator, least_held(subject))
        entry = entry.model_copy(update={"desired_replicas": least_held(subject)})
        why = "its minReplicas" if least_held(subject) == subject.behaviour.bounds.least else _CALLED
        message = f"{patch.summary}, {why}: {cause.message}"
        said = (EventNote(EventType.NORMAL, "Woken" if wakes(subject) else "ScaledUp", message),)
    status = _recorded(subject.state).model_copy(
        update={
            "reason": cause.reason,
            "message": message,
            "allocations": (entry,),
            "load": load_status(subject, snapshot),
            "scale_events": scale_events(subject, made, {}, snapshot.time),
            "idle_since": subject.idle.since,
            "unschedulable": subject.unschedulable,
        }
    )
    said = (*said, *not_placed(subject))
    findings = held_findings(subject, refusal, blind, cause.reason, cause.message)
    return _service_plan(subject.state, status, findings, patch, said, snapshot, subject.accelerator)


def moving_plan(subject: Subject, advanced: moves.Advance, snapshot: Snapshot) -> ServicePlan:
    """A service in a move: nothing else is done to it meanwhile."""
    move = advanced.move
    entry, serving = held_entry(subject), subject.accelerator
    if move is None:
        reason, message = "Moved", advanced.events[-1].message if advanced.events else ""
        # The template tells what serves now, the old accelerator or the new.
        found = recognise(subject.deployment, subject.accelerators, subject.performances.values())
        serving = wanted = found or serving
        replicas = subject.deployment.replicas
        entry = entry.model_copy(update={"current_accelerator": serving})
    else:
        side = move.source if move.step is MoveStep.ROLL_BACK else move.to
        reason, message = "Moving", move_message(move)
        wanted, replicas = side.accelerator, side.replicas
    known = wanted in subject.performances
    entry = entry.model_copy(
        update={
            "accelerator": wanted,
            "desired_replicas": replicas,
            "cost": subject.cost(wanted, replicas) if known else entry.cost,
        }
    )
    failed = failed_moves_kept(subject.state, snapshot, (advanced.failed,) if advanced.failed else ())
    status = _recorded(subject.state).model_copy(
        update={
            "reason": reason,
            "message": message,
            "allocations": (entry,),
            "load": load_status(subject, snapshot),
            "move": move,
            "failed_moves": failed,
            "last_move": last_move_ended(subject, advanced, snapshot),
            "startup_times": startup_times(subject, advanced, snapshot),
            "idle_since": subject.idle.since,
            "unschedulable": subject.unschedulable,
        }
    )
    findings = moving_findings(subject, move, message)
    return _service_plan(subject.state, status, findings, advanced.patch, advanced.events, snapshot, serving)


def paused_plan(subject: Subject, snapshot: Snapshot) -> ServicePlan:
    """A service in mode Paused: neither decided nor patched."""
    message = "spec.mode is Paused: nothing is decided and nothing patched"
    status = _recorded(subject.state).model_copy(
        update={"reason": "Paused", "message": message, "allocations": (held_entry(subject),)}
    )
    findings = paused_findings(subject, message)
    return _service_plan(subject.state, status, findings, None, (), snapshot, subject.accelerator)


def resumed_plan(state: ServiceState, deployment: DeploymentState, snapshot: Snapshot) -> ServicePlan:
    """A Deployment that we left paused and have no record of: a lost record must not stop its rollouts."""
    message = f"Deployment {deployment.name} was paused by us, and no move of it is on record: it is resumed"
    patch = DeploymentPatch(
        namespace=deployment.namespace,
        name=deployment.name,
        resource_version=deployment.resource_version,
        body={"spec": {"paused": False}},
        summary="resume the rollout",
    )
    status = _recorded(state).model_copy(update={"reason": "Resumed", "message": message})
    findings = refused_findings(state, Refusal("Applied", "Resumed", message))
    said = (EventNote(EventType.WARNING, "Resumed", message),)
    return _service_plan(state, status, findings, patch, said, snapshot, None)


def refused_plan(state: ServiceState, refusal: Refusal, snapshot: Snapshot) -> ServicePlan:
    """A service that cannot be decided: what is wrong with it; what it has stays."""
    status = _recorded(state).model_copy(update={"reason": refusal.reason, "message": refusal.message})
    return _service_plan(state, status, refused_findings(state, refusal), None, (), snapshot, None)


def unguided_plan(state: ServiceState, move: MoveStatus, refusal: Refusal, snapshot: Snapshot) -> ServicePlan:
    """A service that cannot be decided any more in the middle of a move: back, or to the end."""
    advanced = _without_spec(move, state, snapshot)
    status = _recorded(state).model_copy(
        update={"reason": refusal.reason, "message": refusal.message, "move": advanced.move}
    )
    return _service_plan(
        state, status, refused_findings(state, refusal), advanced.patch, advanced.events, snapshot, None
    )


def orphan_plan(orphan: OrphanState, snapshot: Snapshot) -> OrphanPlan:
    """An allocation whose service is gone in the middle of a move: back, or to the end."""
    move = orphan.allocation.move
    if move is None or orphan.lacks_label:
        # Where nothing may be changed any more the Deployment is let go as it is.
        ended = orphan.allocation.model_copy(update={"move": None})
        return OrphanPlan(orphan.namespace, orphan.name, ended, None, release=True)
    advanced = _without_spec(move, orphan, snapshot)
    return OrphanPlan(
        namespace=orphan.namespace,
        name=orphan.name,
        allocation=orphan.allocation.model_copy(update={"move": advanced.move}),
        patch=advanced.patch,
        release=advanced.move is None,
    )


def _without_spec(move: MoveStatus, state: ServiceState | OrphanState, snapshot: Snapshot) -> moves.Advance:
    if move.step is MoveStep.BRING_UP:
        move = moves.begin_roll_back(move, snapshot.time, "its InferenceService is gone or cannot be used")
    timeout = snapshot.policy.moves.bring_up_timeout_seconds
    return moves.advance(move, state.deployment, {}, snapshot.time, timeout)


def _service_plan(
    state: ServiceState,
    status: InferenceAllocationStatus,
    findings: Mapping[str, Finding],
    patch: DeploymentPatch | None,
    said: tuple[EventNote, ...],
    snapshot: Snapshot,
    accelerator: str | None,
) -> ServicePlan:
    resource = state.resource
    after = conditions(resource.conditions, findings, resource.generation, snapshot.time)
    written = InferenceServiceStatus(
        observed_generation=resource.generation,
        accelerator=accelerator,
        replicas=state.deployment.replicas if state.deployment is not None else None,
        conditions=after,
    )
    ref = ObjectRef("InferenceService", resource.name, resource.uid, resource.namespace)
    return ServicePlan(
        service=ref,
        allocation=status,
        status=StatusPlan(ref, written, (*said, *events(resource.conditions, after))),
        patch=patch,
    )


def _identity(state: ServiceState) -> dict[str, str]:
    spec = state.resource.spec
    if spec is None:
        return {}
    return {"model": spec.model, "service_class": spec.service_class, "mode": spec.mode.value}


def _recorded(state: ServiceState) -> InferenceAllocationStatus:
    """What was recorded, with the identity as it is now."""
    before = state.allocation or InferenceAllocationStatus()
    return before.model_copy(update=_identity(state))


def _why(
    subject: Subject, outlook: Outlook, patch: DeploymentPatch | None, move: MoveStatus | None
) -> tuple[str, str]:
    """One word and one sentence for why the service is as it is."""
    decision, grant = outlook.decision, outlook.grant
    if move is not None:
        return "Moving", f"{move_message(move)}; {decision.reason}"
    if grant.gate is not None and patch is None:
        return grant.gate.type.value, f"{grant.gate.message}; {decision.reason}"
    if grant.short:
        return "CapacityLimited", f"{grant.short}; {decision.reason}"
    if patch is not None:
        way = "ScalingUp" if grant.replicas > subject.deployment.replicas else "ScalingDown"
        if wakes(subject):
            return "Woken", f"{patch.summary}, {_CALLED}; {decision.reason}"
        passed = "; a higher priority needs the accelerators" if grant.donated else ""
        return way, f"{patch.summary}{passed}; {decision.reason}"
    if outlook.approval is not None and outlook.approval.holds:
        return outlook.approval.reason, f"{outlook.approval.message}; {decision.reason}"
    if outlook.template_refusal is not None:
        return outlook.template_refusal.reason, f"{outlook.template_refusal.message}; {decision.reason}"
    if outlook.intent.stabilized.held:
        return outlook.intent.stabilized.why, f"{outlook.intent.stabilized.held}; {decision.reason}"
    if not served(decision):
        return decision.outcome.value, decision.reason
    here = subject.holding
    if (grant.accelerator, grant.replicas) != (here.accelerator, here.replicas):
        return "Recommended", decision.reason
    return decision.outcome.value, decision.reason
