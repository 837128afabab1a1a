"""What is written and said about a service: its allocation's status, its conditions, events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from inferscale_operator.api.base import ConditionStatus
from inferscale_operator.api.inference_allocation import (
    AllocationEntry,
    CandidateStatus,
    FailedMove,
    GateStatus,
    GateType,
    InferenceAllocationStatus,
    LastMove,
    LoadStatus,
    MoveOutcome,
    MoveStatus,
    MoveStep,
    StartupTime,
)
from inferscale_operator.api.inference_service import InferenceServiceStatus
from inferscale_operator.decide import moves
from inferscale_operator.decide.accelerators import recognise
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
from inferscale_operator.decide.formulate import known_load, least_held, rates_per_replica, served
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
from inferscale_solver import Allocation, Decision

FAILED_MOVES_LIMIT = 16
"""Failed moves that a status takes."""
STARTUP_TIMES_LIMIT = 16
"""Profiles whose start-up time a status takes."""


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
    decision, figures = outlook.decision, outlook.figures
    target = outlook.intent.target
    entry = _entry(subject).model_copy(
        update={
            "accelerator": outlook.grant.accelerator,
            "desired_replicas": outlook.grant.replicas,
            "target_accelerator": target.accelerator,
            "target_replicas": target.replicas,
            "max_batch": figures.granted.max_batch or None,
            "cost": subject.cost(outlook.grant.accelerator, outlook.grant.replicas),
            "gates": outlook.gates,
            **_predicted(figures.granted),
        }
    )
    status = InferenceAllocationStatus(
        **_identity(subject.state),
        reason=reason,
        message=message,
        allocations=(entry,),
        load=_load(subject, snapshot),
        binding=decision.binding,
        runner_up=decision.runner_up,
        candidates=_candidates(decision),
        history=outlook.history,
        move=move,
        failed_moves=_failed_moves(subject.state, snapshot),
        last_move=subject.state.allocation.last_move if subject.state.allocation else None,
        startup_times=subject.state.allocation.startup_times if subject.state.allocation else (),
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
    if known_load(subject) is None:
        blind = Finding(ConditionStatus.FALSE, load_reason(load), load.message)
        if load.state.known:
            blind = replace(blind, reason="TokensUnknown", message=_TOKENS_UNKNOWN)
    cause = refusal or blind or Finding(ConditionStatus.FALSE, "Held")
    if cause is blind and load.state is LoadState.UNKNOWN:
        # One word for all causes; the condition MetricsAvailable tells them apart.
        cause = replace(blind, reason=LOAD_REASONS[load.state])
    message = f"holding {subject.deployment.replicas} on {subject.accelerator}: {cause.message}"
    entry = _held_entry(subject)
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
            "load": _load(subject, snapshot),
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
    entry, serving = _held_entry(subject), subject.accelerator
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
    failed = _failed_moves(subject.state, snapshot, (advanced.failed,) if advanced.failed else ())
    status = _recorded(subject.state).model_copy(
        update={
            "reason": reason,
            "message": message,
            "allocations": (entry,),
            "load": _load(subject, snapshot),
            "move": move,
            "failed_moves": failed,
            "last_move": _last_move(subject, advanced, snapshot),
            "startup_times": _startup_times(subject, advanced, snapshot),
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
        update={"reason": "Paused", "message": message, "allocations": (_held_entry(subject),)}
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
    body: dict[str, Any] = written.model_dump(mode="json", by_alias=True)
    return ServicePlan(
        service=ref,
        allocation=status,
        status=StatusPlan(ref, body, (*said, *events(resource.conditions, after))),
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


def _entry(subject: Subject) -> AllocationEntry:
    deployment, load = subject.deployment, subject.state.load
    return AllocationEntry(
        accelerator=subject.accelerator,
        current_accelerator=subject.accelerator,
        current_replicas=deployment.replicas,
        ready_replicas=deployment.ready_replicas,
        desired_replicas=deployment.replicas,
        target_accelerator=subject.accelerator,
        target_replicas=deployment.replicas,
        current_cost=subject.cost(subject.accelerator, deployment.replicas),
        observed_itl=_rounded(load.itl),
        observed_ttft=_rounded(load.ttft),
    )


def _held_entry(subject: Subject) -> AllocationEntry:
    """What it has, with the figures of the last decision where there was one."""
    before = subject.state.allocation
    if before is None or not before.allocations:
        entry = _entry(subject)
        return entry.model_copy(update={"cost": entry.current_cost})
    kept = before.allocations[0]
    names = ["max_batch", "predicted_itl", "predicted_ttft", "predicted_wait", "utilization"]
    if subject.state.load.state is LoadState.NOT_ASKED:
        names += ["observed_itl", "observed_ttft"]
    return _entry(subject).model_copy(
        update={
            "cost": subject.cost(subject.accelerator, subject.deployment.replicas),
            **{name: getattr(kept, name) for name in names},
        }
    )


def _predicted(allocation: Allocation) -> dict[str, float | None]:
    wait = allocation.wait_percentile if allocation.wait_percentile is not None else allocation.wait
    return {
        "predicted_itl": _rounded(allocation.itl),
        "predicted_ttft": _rounded(allocation.ttft),
        "predicted_wait": _rounded(wait),
        "utilization": _rounded(allocation.utilization),
    }


def _load(subject: Subject, snapshot: Snapshot) -> LoadStatus:
    """The load decided for; where it is not known, the last one that was, with its time."""
    load = known_load(subject)
    state, queued = subject.state.load.state.value, _rounded(subject.state.load.queued)
    if load is None:
        before = subject.state.allocation.load if subject.state.allocation is not None else None
        if before is None:
            return LoadStatus(state=state, queued=queued)
        asked = subject.state.load.state is not LoadState.NOT_ASKED
        now = {"state": state, "queued": queued, "doubted_since": subject.state.load.doubted_since}
        return before.model_copy(update=now) if asked else before
    return LoadStatus(
        state=state,
        arrival_rate=_rounded(load.arrival_rate),
        input_tokens=_rounded(load.input_tokens),
        output_tokens=_rounded(load.output_tokens),
        queued=queued,
        observed_at=snapshot.time,
    )


def _candidates(decision: Decision) -> tuple[CandidateStatus, ...]:
    return tuple(
        CandidateStatus(
            accelerator=c.profile,
            outcome=c.rejection.value,
            message=c.message,
            replicas=c.allocation.replicas if c.allocation else None,
            max_batch=c.allocation.max_batch if c.allocation else None,
            cost=_rounded(c.allocation.cost) if c.allocation else None,
            itl=_rounded(c.allocation.itl) if c.allocation else None,
            ttft=_rounded(c.allocation.ttft) if c.allocation else None,
        )
        for c in decision.candidates
    )


def _failed_moves(
    state: ServiceState, snapshot: Snapshot, more: tuple[FailedMove, ...] = ()
) -> tuple[FailedMove, ...]:
    """The last one of each profile, while it is left out; no more than a status takes."""
    before = state.allocation.failed_moves if state.allocation is not None else ()
    latest = {failed.accelerator: failed for failed in (*before, *more)}
    retry = snapshot.policy.moves.retry_after_seconds
    kept = [f for f in latest.values() if (snapshot.time - f.time).total_seconds() < retry]
    return tuple(sorted(kept, key=lambda f: (f.time, f.accelerator)))[-FAILED_MOVES_LIMIT:]


def _last_move(subject: Subject, advanced: moves.Advance, snapshot: Snapshot) -> LastMove | None:
    before = subject.state.allocation
    if advanced.move is not None or before is None or before.move is None:
        return before.last_move if before is not None else None
    back = advanced.failed is not None
    return LastMove(
        ended_at=snapshot.time,
        outcome=MoveOutcome.ROLLED_BACK if back else MoveOutcome.COMPLETED,
        accelerator=before.move.to.accelerator,
        onward=None if back else before.move.onward,
    )


def _startup_times(subject: Subject, advanced: moves.Advance, snapshot: Snapshot) -> tuple[StartupTime, ...]:
    """What was seen lately, the last first to be dropped."""
    before = subject.state.allocation
    known = before.startup_times if before is not None else ()
    if before is None or before.move is None or not any(e.reason == "MoveReady" for e in advanced.events):
        return known
    name = before.move.to.accelerator
    seconds = (snapshot.time - before.move.started_at).total_seconds()
    others = tuple(each for each in known if each.accelerator != name)
    return (StartupTime(accelerator=name, seconds=round(seconds, 1)), *others)[:STARTUP_TIMES_LIMIT]


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


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
