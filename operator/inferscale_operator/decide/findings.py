"""What every condition of a service says, case by case."""

from __future__ import annotations

from inferscale_operator.api.inference_allocation import GateStatus, Recommendation
from inferscale_operator.api.inference_service import Mode
from inferscale_operator.api.moves import MoveStatus, MoveStep
from inferscale_operator.decide.approval import Approval
from inferscale_operator.decide.catalog import Refusal, Subject, applies
from inferscale_operator.decide.conditions import Finding, false, true, unknown
from inferscale_operator.decide.draining import grace_finding
from inferscale_operator.decide.formulate import served
from inferscale_operator.decide.overload import Planned
from inferscale_operator.decide.step import Grant, Intent
from inferscale_operator.plan import DeploymentPatch
from inferscale_operator.snapshot import LoadState, ObservedLoad, ServiceState
from inferscale_queueing.frozen import frozen
from inferscale_solver import Allocation, Decision, Rejection

LOAD_REASONS = {
    LoadState.OBSERVED: "Observed",
    LoadState.IDLE: "Idle",
    LoadState.STALLED: "EngineStalled",
    LoadState.PARTIAL: "PartlyReported",
    LoadState.UNKNOWN: "MetricsUnknown",
    LoadState.STARTING: "Starting",
    LoadState.NOT_ASKED: "MetricsUnknown",
}

# What most services say at rest.
_NOT_PAUSED = false("NotPaused")
_VALID = true("Valid")
_UP_TO_DATE = true("UpToDate")
_SUFFICIENT = false("Sufficient")
_WITHIN_OBJECTIVES = false("WithinObjectives")
_NOT_MOVING = false("NotMoving")


@frozen
class Figures:
    """Predictions at the present load: with what a service has, and with what it is given."""

    present: Allocation
    granted: Allocation


@frozen
class Outlook:
    """A decided service: its target, what its windows and the room let through, and the record."""

    decision: Decision
    planned: Planned
    intent: Intent
    history: tuple[Recommendation, ...]
    grant: Grant
    figures: Figures
    gates: tuple[GateStatus, ...] = ()
    """What holds back the change to the target."""
    approval: Approval | None = None
    """In mode Approve: the change that needs approval."""
    template_refusal: Refusal | None = None
    """Why the pod template is left alone though replicas are not."""


def decided_findings(
    subject: Subject,
    outlook: Outlook,
    patch: DeploymentPatch | None,
    move: MoveStatus | None,
    message: str,
) -> dict[str, Finding]:
    """A service with a decision."""
    return {
        **_common(subject.state),
        **grace_finding(subject),
        "ProfileValid": _valid(subject),
        "MetricsAvailable": _metrics(subject.state.load),
        "Optimized": _optimized(outlook.decision),
        "Applied": _applied(subject, outlook, patch, move),
        "CapacityLimited": _capacity(outlook),
        "SLOAtRisk": _risk(subject, outlook),
        "Moving": true(move.step.value, message) if move is not None else _not_moving(subject, outlook),
        "Ready": true("Decided", outlook.decision.reason),
    }


def held_findings(
    subject: Subject, refusal: Refusal | None, blind: Finding | None, reason: str, message: str
) -> dict[str, Finding]:
    """A service that keeps what it has; `blind` says why its load is not known, if it is not."""
    held = unknown("Held", message)
    return {
        **_common(subject.state),
        **grace_finding(subject),
        "ProfileValid": _valid(subject),
        "MetricsAvailable": blind or _metrics(subject.state.load),
        "Optimized": held,
        "Applied": false(refusal.reason, refusal.message) if refusal is not None else held,
        "CapacityLimited": held,
        "SLOAtRisk": _observed_risk(subject) or held,
        "Moving": _NOT_MOVING,
        "Ready": false(reason, message),
    }


def moving_findings(subject: Subject, move: MoveStatus | None, message: str) -> dict[str, Finding]:
    """A service in a move; `move` None when it has just ended."""
    moving = unknown("Moving", message)
    observed = {
        "MetricsAvailable": _metrics(subject.state.load),
        "SLOAtRisk": _observed_risk(subject) or moving,
    }
    return {
        **_common(subject.state),
        **grace_finding(subject),
        **(observed if subject.state.load.state is not LoadState.NOT_ASKED else {}),
        "ProfileValid": _valid(subject),
        "Optimized": moving,
        "Applied": true("Moving" if move is not None else "Moved", message),
        "CapacityLimited": moving,
        "Moving": true(move.step.value, message) if move is not None else _NOT_MOVING,
        "Ready": true("Moving", message),
    }


def paused_findings(subject: Subject, message: str) -> dict[str, Finding]:
    """A service in mode Paused."""
    waiting = unknown("Paused")
    return {
        **dict.fromkeys(("MetricsAvailable", "Optimized", "CapacityLimited", "SLOAtRisk"), waiting),
        **_common(subject.state),
        "ProfileValid": _valid(subject),
        "Applied": false("Paused", message),
        "Moving": _NOT_MOVING,
        "Ready": false("Paused", message),
    }


def refused_findings(state: ServiceState, refusal: Refusal) -> dict[str, Finding]:
    """A service that cannot be decided."""
    waiting = unknown("NotDecided")
    findings = dict.fromkeys(
        (
            "MetricsAvailable",
            "Optimized",
            "Applied",
            "CapacityLimited",
            "SLOAtRisk",
            "Moving",
            "ProfileValid",
        ),
        waiting,
    )
    return {
        **findings,
        **_common(state),
        refusal.condition: false(refusal.reason, refusal.message),
        "Ready": false(refusal.reason, refusal.message),
    }


def move_message(move: MoveStatus) -> str:
    """What a move is doing, for people."""
    doing = {
        MoveStep.BRING_UP: "bringing up",
        MoveStep.HAND_OVER: "handing over to",
        MoveStep.TRIM: "trimming to",
        MoveStep.ROLL_BACK: "rolling back from",
    }[move.step]
    batch = f" (batch {move.to.max_batch})" if move.to.max_batch is not None else ""
    onward = f", a stop on the way to {move.onward}" if move.onward is not None else ""
    cause = f": {move.cause}" if move.cause else ""
    return (
        f"{doing} {move.to.replicas} on {move.to.accelerator}{batch},"
        f" from {move.source.replicas} on {move.source.accelerator}{onward}{cause}"
    )


def _not_moving(subject: Subject, outlook: Outlook) -> Finding:
    """Why a service that is not where the optimiser wants it does not move."""
    grant, intent = outlook.grant, outlook.intent
    if grant.gate is not None:
        return false(grant.gate.type.value, grant.gate.message)
    if grant.short and intent.moves:
        return false("MovesWaitForEachOther" if grant.stuck else "WaitingForCapacity", grant.short)
    if not subject.can_roll:
        return false(
            "RecreateStrategy",
            f"Deployment {subject.deployment.name} has strategy Recreate, so a change of accelerator or batch"
            " would be an outage: give it RollingUpdate, or allow it with spec.moves.allowDowntime",
        )
    return _NOT_MOVING


def unschedulable_message(subject: Subject) -> str:
    """What could not be placed, and what follows, for people."""
    return "; ".join(
        f"no node was found for pod {record.pod} since {record.since:%H:%M:%S}, though {record.accelerator}"
        f" seemed to be free: no more of type {subject.kind(record.accelerator)} is planned for this service"
        " until the pod has a node, or is long gone"
        for record in subject.unschedulable
        if record.accelerator in subject.accelerators
    )


def _common(state: ServiceState) -> dict[str, Finding]:
    paused = state.resource.spec is not None and state.resource.spec.mode is Mode.PAUSED
    return {"Paused": true("Paused") if paused else _NOT_PAUSED}


def load_reason(load: ObservedLoad) -> str:
    """What is known of a load, or why it is not, in one word."""
    return load.cause.value if load.cause is not None else LOAD_REASONS[load.state]


def _valid(subject: Subject) -> Finding:
    no_wake_up = subject.behaviour.no_wake_up
    return false("NoWakeUp", no_wake_up) if no_wake_up else _VALID


def _metrics(load: ObservedLoad) -> Finding:
    if not load.state.known:
        return false(load_reason(load), load.message)
    return true(load_reason(load), load.message)


def _optimized(decision: Decision) -> Finding:
    if served(decision):
        return true(decision.outcome.value, decision.reason)
    return false(decision.outcome.value, decision.reason)


def _applied(
    subject: Subject, outlook: Outlook, patch: DeploymentPatch | None, move: MoveStatus | None
) -> Finding:
    if not applies(subject.spec):
        return false("Recommend", "spec.mode is Recommend: nothing is patched")
    if move is not None:
        return true("Moving", move_message(move))
    if patch is not None:
        return true("Scaled", patch.summary)
    if outlook.approval is not None and outlook.approval.holds:
        return false(outlook.approval.reason, outlook.approval.message)
    if outlook.template_refusal is not None:
        return false(outlook.template_refusal.reason, outlook.template_refusal.message)
    if outlook.intent.stabilized.held:
        return true(outlook.intent.stabilized.why, outlook.intent.stabilized.held)
    return _UP_TO_DATE


def _capacity(outlook: Outlook) -> Finding:
    decision = outlook.decision
    if outlook.intent.subject.unschedulable:
        return true("Unschedulable", unschedulable_message(outlook.intent.subject))
    if outlook.grant.short:
        reason = "MovesWaitForEachOther" if outlook.grant.stuck else "WaitingForCapacity"
        return true(reason, outlook.grant.short)
    if not served(decision):
        too_small = any(each.rejection is Rejection.NODE_TOO_SMALL for each in decision.candidates)
        if decision.limits or too_small:
            return true(shed_reason(decision) or decision.outcome.value, decision.reason)
    elif decision.limits:
        return true("CheaperIsExhausted", decision.reason)
    return _SUFFICIENT


def shed_reason(decision: Decision) -> str | None:
    """The limit of the policy that leaves a service without its objectives; None: none of them does."""
    if served(decision):
        return None
    if "budget" in decision.limits:
        return "OverBudget"
    return "QuotaExceeded" if any(limit.startswith("quota:") for limit in decision.limits) else None


def _risk(subject: Subject, outlook: Outlook) -> Finding:
    observed = _observed_risk(subject)
    if observed is not None:
        return observed
    intent = outlook.intent
    replicas = subject.deployment.replicas
    if intent.needed_here is None:
        return true(
            "PredictedMiss",
            f"the objectives cannot be met on {subject.accelerator} at this load with any number of replicas",
        )
    if intent.needed_here > replicas:
        return true(
            "PredictedMiss",
            f"{intent.needed_here} replicas on {subject.accelerator} are needed at this load,"
            f" there are {replicas}",
        )
    return _WITHIN_OBJECTIVES


def _observed_risk(subject: Subject) -> Finding | None:
    load, targets = subject.state.load, subject.targets
    missed = [
        f"observed mean {name} {seen:.2f} ms is above the objective of {limit:.2f} ms"
        for name, seen, limit in (("ITL", load.itl, targets.itl), ("TTFT", load.ttft, targets.ttft))
        if seen is not None and limit is not None and seen > limit
    ]
    return true("ObservedMiss", "; ".join(missed)) if missed else None
