"""How much of a target a service may follow now: tolerance, windows, scaling policies, bounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from inferscale_operator.api.inference_allocation import Recommendation
from inferscale_operator.decide.catalog import Subject
from inferscale_operator.decide.formulate import rates_per_replica
from inferscale_operator.decide.pacing import (
    Past,
    least_replicas_allowed,
    limited,
    most_replicas,
    standing,
    tolerated,
)
from inferscale_operator.decide.stabilization import Stabilized, record, stabilize
from inferscale_operator.snapshot import LoadState
from inferscale_queueing.frozen import frozen
from inferscale_solver import Decision


@frozen
class Followed:
    """What may be asked for now."""

    stabilized: Stabilized
    history: tuple[Recommendation, ...]
    """The recommendations, this one included."""
    least_here: int
    """Replicas that it may shrink to where it is."""
    most_here: int | None
    """Replicas that it may grow to where it is; None: no limit."""


def follow(
    subject: Subject,
    decision: Decision,
    target: Stabilized,
    rate: float,
    needed: int | None,
    now: datetime,
    *,
    late: bool,
) -> Followed:
    """What of a target may be done now; the bounds hold over everything else.

    Args:
        subject: The service.
        decision: What the optimiser says of it.
        target: What of that is wanted.
        rate: The rate that it is for, requests/min.
        needed: Replicas that the load needs on the present profile; None: it cannot be served there.
        now: The time.
        late: Whether more has piled up than noise would.
    """
    holding, limits, bounds = subject.holding, subject.behaviour.limits, subject.behaviour.bounds
    before = subject.state.allocation
    inside = bounds.clamp(holding.replicas) == holding.replicas
    near = inside and tolerated(target, holding, limits)
    latest = Recommendation(
        time=now,
        accelerator=target.accelerator,
        replicas=holding.replicas if near else target.replicas,
        rate=round(rate, 2),
        max_batch=target.max_batch,
    )
    history = record(before.history if before is not None else (), latest, holding, subject.behaviour.windows)
    rates = rates_per_replica(decision)
    past = Past(standing(before.scale_events if before is not None else (), holding), rates, now)
    most = most_replicas(holding.replicas, holding.accelerator, limits, past)
    here = Stabilized(holding.accelerator, holding.replicas, holding.max_batch)
    if holding.replicas == 0 and subject.called:
        # Somebody waits already. Where it can be served where it was, that is quicker than a move; and one
        # replica is more than nothing where it cannot be served within its objectives.
        at_once = replace(target if needed is None else here, replicas=max(needed or target.replicas, 1))
        allowed = limited(replace(at_once, rising=True), holding, limits, past, needed)
    elif decision.allocation is None:
        # It keeps what it has; a higher priority that needs it goes by the target.
        allowed = here
    else:
        windows = subject.behaviour.windows
        late = late and windows.overdue is not None
        same = (target.accelerator, target.max_batch) == (holding.accelerator, holding.max_batch)
        if windows.overdue is not None and late and same:
            windows = replace(windows, up=windows.overdue)
        allowed = stabilize(history, holding, windows, rates.get(target.accelerator, 0.0), needed)
        stays = allowed.accelerator == holding.accelerator
        if late and stays and needed is not None and needed > allowed.replicas:
            # A move waits for its window; what is there grows meanwhile.
            allowed = replace(allowed, replicas=needed, rising=True)
        if target.replicas == 0 and _idle_for_a_window(subject):
            # Idleness that long is more than the window asks for.
            allowed = replace(here, replicas=0)
        allowed = limited(allowed, holding, limits, past, needed)
    if near:
        allowed = replace(allowed, held=_near(subject, target), why="WithinTolerance")
    elif not allowed.held and (held := _disabled(subject, needed)):
        allowed = replace(allowed, held=held, why="ScalingDisabled")
    allowed = _within_bounds(subject, allowed)
    fewest = least_replicas_allowed(holding.replicas, holding.accelerator, limits, past)
    return Followed(
        allowed,
        history,
        least_here=max(fewest, bounds.least),
        most_here=bounds.most if most is None else _smaller(most, bounds.most),
    )


def _idle_for_a_window(subject: Subject) -> bool:
    return subject.idle.enough and subject.idle.lasted >= timedelta(seconds=subject.behaviour.windows.down)


def _near(subject: Subject, target: Stabilized) -> str:
    rules = (
        subject.behaviour.limits.up
        if target.replicas > subject.deployment.replicas
        else subject.behaviour.limits.down
    )
    return f"{target.replicas} on {target.accelerator} is within the tolerance of {rules.tolerance:g}"


def _disabled(subject: Subject, needed: int | None) -> str:
    """What a disabled direction holds back, for people; empty: nothing."""
    if needed is None:
        return ""
    running = subject.deployment.replicas
    if subject.behaviour.limits.up.disabled and needed > running:
        direction, what = "scaleUp", "are needed"
    elif subject.behaviour.limits.down.disabled and needed < running:
        direction, what = "scaleDown", "would do"
    else:
        return ""
    return f"{needed} on {subject.accelerator} {what}: behavior.{direction}.selectPolicy is Disabled"


def _within_bounds(subject: Subject, allowed: Stabilized) -> Stabilized:
    replicas = subject.behaviour.bounds.clamp(allowed.replicas)
    if subject.state.load.state is LoadState.PARTIAL:
        # What is not seen is never taken for not there.
        replicas = max(replicas, allowed.replicas)
    if allowed.accelerator != subject.accelerator:
        replicas = max(replicas, 1)
    return allowed if replicas == allowed.replicas else replace(allowed, replicas=replicas)


def _smaller(one: int, other: int | None) -> int:
    return one if other is None else min(one, other)
