"""What is wanted for a service: its target, and what its windows let through of it now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from inferscale_operator.api.inference_allocation import Recommendation
from inferscale_operator.api.inference_service import BatchMode
from inferscale_operator.decide.catalog import Subject
from inferscale_operator.decide.follow import follow
from inferscale_operator.decide.formulate import least_replicas, needed_replicas, served
from inferscale_operator.decide.gates import goes_on
from inferscale_operator.decide.overload import Planned, overdue
from inferscale_operator.decide.ownership import template_refusal
from inferscale_operator.decide.stabilization import Holding, Stabilized
from inferscale_operator.decide.step import Intent
from inferscale_operator.snapshot import LoadState, Snapshot
from inferscale_queueing.frozen import frozen
from inferscale_solver import Allocation, Decision, Rejection, required_rate

_FITTING = (Rejection.CHOSEN, Rejection.DEARER, Rejection.CAPACITY)
SAME_BATCH = 0.25
"""Share by which the best batch may differ from that of a plan that waits for approval."""


@frozen
class Remembered:
    """What is wanted, and the recommendations that its windows go by."""

    intent: Intent
    history: tuple[Recommendation, ...]
    """This one included."""


def intended(subject: Subject, decision: Decision, planned: Planned, snapshot: Snapshot) -> Remembered:
    """What is wanted for a service by the optimiser's decision on it.

    Args:
        subject: The service.
        decision: What the optimiser says of it.
        planned: What it was decided for.
        snapshot: The world.
    """
    target, rate = _target(subject, decision, snapshot), required_rate(planned.load, subject.targets.tps)
    needed = needed_replicas(decision, subject.accelerator, rate, least_replicas(subject, rate))
    followed = follow(subject, decision, target, rate, needed, snapshot.time, late=overdue(planned, subject))
    allowed = followed.stabilized
    if goes_on(subject, target.accelerator) and decision.allocation is not None:
        # Its windows let it through before it made the stop.
        allowed = replace(target, rising=allowed.rising)
    intent = Intent(
        subject,
        target if target.rising == allowed.rising else replace(target, rising=allowed.rising),
        allowed,
        needed,
        stay=_lasting(subject, followed.history, decision, snapshot),
        stops=_stops(subject, decision),
        least_here=followed.least_here,
        most_here=followed.most_here,
    )
    return Remembered(intent, followed.history)


def _lasting(
    subject: Subject, history: Sequence[Recommendation], decision: Decision, snapshot: Snapshot
) -> int | None:
    """The most replicas that the load has needed on the present profile within the scale-down window."""
    oldest = snapshot.time - timedelta(seconds=subject.behaviour.windows.down)
    most = max(past.rate for past in history if past.time > oldest or past is history[-1])
    return needed_replicas(decision, subject.accelerator, most, least_replicas(subject, most))


def _stops(subject: Subject, decision: Decision) -> tuple[Holding, ...]:
    """Profiles besides the present one on which the objectives hold, the cheapest first."""
    stays = subject.spec.keep_accelerator or subject.behaviour.keeps_accelerator
    if subject.state.load.state is LoadState.PARTIAL or stays or not served(decision):
        return ()
    managed = subject.spec.batch.mode is BatchMode.MANAGED
    fitting = [
        c.allocation
        for c in decision.candidates
        if c.allocation is not None
        and c.profile != subject.accelerator
        and c.rejection in _FITTING
        and c.allocation.replicas > 0
    ]
    return tuple(
        Holding(a.profile, a.replicas, a.max_batch if managed else subject.holding.max_batch)
        for a in sorted(fitting, key=lambda a: (a.cost, a.profile))
    )


def _waiting_batch(subject: Subject, allocation: Allocation) -> int:
    """The batch of what is wanted: that of the plan that waits for approval, as long as it is near.

    The best one follows the lengths of requests: a plan that changed with it could hardly be approved.
    """
    recorded = subject.state.allocation
    plan = recorded.pending_plan if recorded is not None else None
    if plan is None or (plan.to.accelerator, plan.to.replicas) != (allocation.profile, allocation.replicas):
        return allocation.max_batch
    waiting = plan.to.max_batch or 0
    near = abs(waiting - allocation.max_batch) <= SAME_BATCH * waiting
    return waiting if near else allocation.max_batch


def _target(subject: Subject, decision: Decision, snapshot: Snapshot) -> Stabilized:
    """What the optimiser wants; without an allocation (nothing is free) a service keeps its least."""
    holding, allocation = subject.holding, decision.allocation
    if subject.state.load.state is LoadState.PARTIAL:
        # More of the same at most: what is not seen is never taken for not there.
        here = allocation is not None and allocation.profile == holding.accelerator
        wanted = allocation.replicas if allocation is not None and here else holding.replicas
        return Stabilized(holding.accelerator, max(wanted, holding.replicas), holding.max_batch)
    if allocation is None:
        least = holding.replicas if subject.behaviour.limits.down.disabled else subject.behaviour.bounds.least
        least = min(least, holding.replicas)
        return Stabilized(holding.accelerator, least, holding.max_batch)
    if allocation.replicas == 0:
        return Stabilized(holding.accelerator, 0, holding.max_batch)
    batch = holding.max_batch
    if subject.spec.batch.mode is BatchMode.MANAGED and allocation.max_batch > 0:
        # Set along with a change of accelerator; alone only where the solver had to change it.
        same = allocation.profile == holding.accelerator
        stays = same and (
            holding.max_batch is None
            or not subject.can_roll
            or subject.failed_lately(holding.accelerator, snapshot) is not None
            or template_refusal(subject, snapshot) is not None
        )
        batch = holding.max_batch if stays else _waiting_batch(subject, allocation)
    return Stabilized(allocation.profile, allocation.replicas, batch)
