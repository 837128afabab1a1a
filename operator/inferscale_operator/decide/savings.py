"""What is saved against the state in which each Deployment was adopted.

The adopted state is what a Deployment was when Inferscale was first allowed to patch it, and its cost then.
It stays what it was when the load changes: a service whose load has doubled since may well cost more, and the
saving is negative. The total is the integral of the adopted cost less the cost over the time between ticks
that follow each other; time in which nobody looked is left out.
"""

from __future__ import annotations

from collections.abc import Iterable

from inferscale_operator.api.inference_allocation import (
    AdoptedState,
    InferenceAllocationStatus,
    SavingsStatus,
)
from inferscale_operator.decide.catalog import Subject
from inferscale_operator.plan import Savings, ServicePlan
from inferscale_operator.snapshot import Snapshot

GAP_TICKS = 3
"""A longer time between two decisions is a gap."""
DIGITS = 4
SECONDS_PER_HOUR = 3600.0


def adopt(subject: Subject, snapshot: Snapshot) -> AdoptedState | None:
    """What is recorded of a Deployment that may be patched: once, unless the service names another one."""
    before = subject.state.allocation.adopted if subject.state.allocation is not None else None
    deployment = subject.deployment
    if before is not None and (subject.moving or before.deployment == deployment.name):
        return before
    here = subject.holding
    return AdoptedState(
        time=snapshot.time.replace(microsecond=0),
        deployment=deployment.name,
        accelerator=here.accelerator,
        replicas=here.replicas,
        max_batch=here.max_batch,
        cost=round(subject.cost(here.accelerator, here.replicas), DIGITS),
        node_selector=dict(deployment.pod_spec.get("nodeSelector") or {}),
    )


def paid(subject: Subject, plan: ServicePlan) -> float:
    """Cost per hour until the next tick: of both sides of a move, and of the larger side of a scaling."""
    move = plan.allocation.move
    if move is not None:
        return sum(
            subject.cost(side.accelerator, side.replicas)
            for side in (move.source, move.to)
            if side.accelerator in subject.performances
        )
    if subject.moving:
        # It has just ended, and where it led to serves now.
        return sum(entry.cost or 0.0 for entry in plan.allocation.allocations)
    asked = plan.patch.body["spec"].get("replicas", 0) if plan.patch is not None else 0
    return subject.cost(subject.accelerator, max(subject.deployment.replicas, asked))


def accrue(
    before: SavingsStatus | None, adopted: AdoptedState, cost: float, snapshot: Snapshot, *, known: bool
) -> SavingsStatus:
    """The account one tick later.

    Args:
        before: The account so far; None: it is opened now.
        adopted: What the cost is compared with.
        cost: Cost per hour now.
        snapshot: The world.
        known: Whether the load is known. While it is not, what is saved is not credited, and what is lost is
            still counted.
    """
    account = before or SavingsStatus()
    passed = (snapshot.time - account.as_of).total_seconds() if account.as_of is not None else 0.0
    credited = 0 < passed <= GAP_TICKS * snapshot.policy.tick_seconds
    rate = account.per_hour if known else min(account.per_hour, 0.0)
    credited = credited and (known or rate < 0)
    return SavingsStatus(
        total=round(account.total + (rate * passed / SECONDS_PER_HOUR if credited else 0.0), DIGITS),
        per_hour=round(adopted.cost - cost, DIGITS),
        credited_seconds=round(account.credited_seconds + (passed if credited else 0.0), 1),
        as_of=snapshot.time,
    )


def interrupted(status: InferenceAllocationStatus) -> SavingsStatus | None:
    """The account of a service of which it is not known what it costs: the time until it is, is a gap."""
    if status.savings is None:
        return None
    return status.savings.model_copy(update={"per_hour": 0.0, "as_of": None})


def savings(snapshot: Snapshot, services: Iterable[ServicePlan]) -> Savings:
    """What all services have saved together, those that are gone included.

    Each service's account is kept with it and goes with it; so the sum is carried on by what each tick adds.
    """
    plans = list(services)
    before = {
        state.key: state.allocation.savings.total
        for state in snapshot.services
        if state.allocation is not None and state.allocation.savings is not None
    }
    accounts = {plan.key: plan.allocation.savings for plan in plans if plan.allocation.savings is not None}
    carried = sum(before.values()) if snapshot.saved is None else snapshot.saved
    added = sum(account.total - before.get(key, 0.0) for key, account in sorted(accounts.items()))
    return Savings(
        total=round(carried + added, DIGITS),
        per_hour=round(sum(account.per_hour for _, account in sorted(accounts.items())), DIGITS),
    )
