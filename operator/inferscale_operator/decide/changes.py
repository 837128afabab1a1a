"""What a tick changes: the events that tell it, and the record for the scaling policies."""

from __future__ import annotations

from datetime import datetime

from inferscale_operator.api.inference_allocation import ScaleEvent
from inferscale_operator.api.moves import MoveStatus
from inferscale_operator.decide.approval import approval_events
from inferscale_operator.decide.catalog import Subject
from inferscale_operator.decide.findings import Outlook, move_message, unschedulable_message
from inferscale_operator.decide.pacing import Rates, equivalent, remember, standing
from inferscale_operator.decide.stabilization import Holding
from inferscale_operator.plan import DeploymentPatch, EventNote, EventType


def changes(
    subject: Subject, outlook: Outlook, patch: DeploymentPatch | None, move: MoveStatus | None
) -> tuple[EventNote, ...]:
    """The event of a patch."""
    waiting = approval_events(subject, outlook.approval)
    if patch is None:
        return waiting
    if move is not None:
        message = f"{move_message(move)}: {outlook.decision.reason}"
        return (EventNote(EventType.NORMAL, "MoveStarted", message),)
    up = outlook.grant.replicas > subject.deployment.replicas
    passed = ", since a higher priority needs the accelerators" if outlook.grant.donated else ""
    return (
        *waiting,
        EventNote(
            EventType.NORMAL,
            "Woken" if wakes(subject) else "ScaledUp" if up else "ScaledDown",
            f"{patch.summary}{passed}: {outlook.decision.reason}",
        ),
    )


def wakes(subject: Subject) -> bool:
    """Whether it is at 0 replicas and somebody waits."""
    return subject.deployment.replicas == 0 and subject.called


def not_placed(subject: Subject) -> tuple[EventNote, ...]:
    """A warning when it is first found that a replica cannot be placed."""
    if not subject.unschedulable:
        return ()
    before = subject.state.allocation
    known = {(r.accelerator, r.pod) for r in before.unschedulable} if before is not None else set()
    if all((r.accelerator, r.pod) in known for r in subject.unschedulable):
        return ()
    return (EventNote(EventType.WARNING, "Unschedulable", unschedulable_message(subject)),)


def scale_events(
    subject: Subject, made: Holding | None, rates: Rates, now: datetime
) -> tuple[ScaleEvent, ...]:
    """The changes that still count, with the one that is made now (None: none is)."""
    before, holding = subject.state.allocation, subject.holding
    events = standing(before.scale_events if before is not None else (), holding)
    if made is not None:
        worth = equivalent(holding, made.accelerator, rates)
        change = ScaleEvent(time=now, accelerator=made.accelerator, before=worth, after=made.replicas)
        events = (*events, change)
    return remember(events, subject.behaviour.limits, now)
