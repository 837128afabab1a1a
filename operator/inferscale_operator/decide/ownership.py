"""Others who write to a Deployment that is ours to patch: noticed, named, and not fought.

What was last written is on record. When the Deployment says something else after a later change, somebody
changed it back: the field managers on it tell who. Who does so twice in a while gets the field for a while.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from inferscale_operator.api.inference_allocation import RevertedField, RevertStatus, WrittenState
from inferscale_operator.api.optimizer_policy import OwnershipSettings
from inferscale_operator.decide.catalog import Refusal, Subject
from inferscale_operator.plan import DeploymentPatch, EventNote, EventType
from inferscale_operator.snapshot import Snapshot
from inferscale_queueing.frozen import frozen

REVERTS_LIMIT = 8
"""Reverts that a status takes."""
NOBODY_KNOWN = "somebody whom the Deployment does not name"


@frozen
class Seen:
    """What others did to a Deployment since it was last written."""

    written: WrittenState | None
    """What was last written and still stands; None: nothing, or not any more."""
    reverts: tuple[RevertStatus, ...]
    """All that still count, oldest first."""
    events: tuple[EventNote, ...] = ()
    """News of this tick."""


def guard(subject: Subject) -> Refusal | None:
    """Why a Deployment may not be patched, whatever the decision."""
    deployment = subject.deployment
    if deployment.controller is not None:
        return Refusal(
            "Applied",
            "ControlledByOther",
            f"Deployment {deployment.name} is controlled by {deployment.controller}, which would undo every"
            " change: use mode Recommend",
        )
    if deployment.autoscaler is not None:
        return Refusal(
            "Applied",
            "AutoscalerPresent",
            f"HorizontalPodAutoscaler {deployment.autoscaler} scales Deployment {deployment.name} as well:"
            " remove it (or its ScaledObject), or use mode Recommend",
        )
    if subject.moving:
        return None
    if deployment.paused:
        return Refusal(
            "Applied",
            "DeploymentPaused",
            f"Deployment {deployment.name} is paused by somebody else: `kubectl rollout resume` it",
        )
    busy = [r.name for r in deployment.replica_sets if r.desired > 0 or r.replicas > 0]
    if len(busy) > 1 or deployment.observed_generation < deployment.generation:
        return Refusal(
            "Applied",
            "RolloutInProgress",
            f"a rollout of Deployment {deployment.name} is in progress: waiting for it",
        )
    return None


def look(subject: Subject, snapshot: Snapshot) -> Seen:
    """Whether somebody changed back what was last written."""
    recorded = subject.state.allocation
    if recorded is None:
        return Seen(None, ())
    settings, written = snapshot.policy.ownership, recorded.written
    rest = timedelta(seconds=max(settings.revert_window_seconds, settings.back_off_seconds))
    kept = [r for r in recorded.reverts if snapshot.time - r.time < rest]
    deployment = subject.deployment
    if written is None or subject.moving or written.deployment != deployment.uid:
        return Seen(written if subject.moving else None, tuple(kept))
    if deployment.generation <= written.generation:
        return Seen(written, tuple(kept))
    changes: list[tuple[RevertedField, str]] = []
    if deployment.replicas != written.replicas:
        changes.append((RevertedField.REPLICAS, f"replicas from {written.replicas} to {deployment.replicas}"))
    if subject.accelerator != written.accelerator:
        changes.append(
            (
                RevertedField.TEMPLATE,
                f"the pod template from {written.accelerator} to {subject.accelerator}",
            )
        )
    if not changes:
        return Seen(written, tuple(kept))
    events = []
    for part, change in changes:
        manager = deployment.writers.get(part.value, NOBODY_KNOWN)
        kept.append(RevertStatus(field=part, manager=manager, time=snapshot.time))
        events.append(EventNote(EventType.WARNING, "ChangedByOther", f"{manager} changed {change}"))
    return Seen(None, tuple(kept[-REVERTS_LIMIT:]), tuple(events))


def left_to(
    reverts: Sequence[RevertStatus], part: RevertedField, settings: OwnershipSettings, now: datetime
) -> tuple[str, datetime] | None:
    """Who has a field for now, and until when; None: it is ours to write."""
    ours = [r for r in reverts if r.field is part]
    if len(ours) < 2 or (ours[-1].time - ours[-2].time).total_seconds() > settings.revert_window_seconds:
        return None
    until = ours[-1].time + timedelta(seconds=settings.back_off_seconds)
    return (ours[-1].manager, until) if now < until else None


def refusal(subject: Subject, snapshot: Snapshot) -> Refusal | None:
    """Why a Deployment may not be patched, whatever the decision: its state, or somebody who insists."""
    found = guard(subject)
    if found is not None or subject.moving:
        return found
    return _insisted(subject, RevertedField.REPLICAS, snapshot)


def template_refusal(subject: Subject, snapshot: Snapshot) -> Refusal | None:
    """Why the pod template may not be patched though replicas may: somebody puts it back."""
    return _insisted(subject, RevertedField.TEMPLATE, snapshot)


def write_down(
    subject: Subject, seen: Seen, patch: DeploymentPatch | None, *, moves: bool
) -> WrittenState | None:
    """What is on record as written, when a plan is carried out.

    Args:
        subject: The service.
        seen: What others did.
        patch: What is patched now.
        moves: Whether a move is under way then: it keeps a record of its own.
    """
    if moves:
        return None
    replicas = patch.body["spec"].get("replicas") if patch is not None else None
    if replicas is None:
        return seen.written
    return WrittenState(
        deployment=subject.deployment.uid,
        # A change of the spec counts one up; one that fails leaves it, and is not taken for written.
        generation=subject.deployment.generation + 1,
        replicas=replicas,
        accelerator=subject.accelerator,
    )


def _insisted(subject: Subject, part: RevertedField, snapshot: Snapshot) -> Refusal | None:
    if subject.state.allocation is None or not subject.state.allocation.reverts:
        # It takes two, and one look finds no more than one of a part.
        return None
    found = left_to(look(subject, snapshot).reverts, part, snapshot.policy.ownership, snapshot.time)
    if found is None:
        return None
    manager, until = found
    what = {RevertedField.REPLICAS: "spec.replicas", RevertedField.TEMPLATE: "the pod template"}[part]
    return Refusal(
        "Applied",
        "Reverted",
        f"{manager} changed {what} of Deployment {subject.deployment.name} back twice: it is left alone until"
        f" {until:%H:%M:%S}. Have {manager} ignore it, or use mode Recommend",
    )
