"""How long new replicas take to come up: as it was seen when there were last more of them."""

from __future__ import annotations

from collections.abc import Sequence

from inferscale_operator.api.moves import ScalingUp, StartupTime
from inferscale_operator.decide.catalog import Subject
from inferscale_operator.plan import ServicePlan
from inferscale_operator.snapshot import Snapshot

STARTUP_TIMES_LIMIT = 16
"""Profiles whose start-up time a status takes."""


def startup_seconds(subject: Subject, accelerator: str, snapshot: Snapshot) -> float:
    """How long replicas take to come up on a profile: as seen, as measured, or as the policy has it."""
    seen = subject.state.allocation.startup_times if subject.state.allocation is not None else ()
    observed = next((s.seconds for s in seen if s.accelerator == accelerator), None)
    if observed is not None:
        return observed
    stated = subject.performances[accelerator].startup_seconds
    return float(stated if stated is not None else snapshot.policy.moves.startup_seconds)


def with_startup(known: Sequence[StartupTime], accelerator: str, seconds: float) -> tuple[StartupTime, ...]:
    """The start-up times with the latest one; what was seen longest ago goes where there are too many."""
    others = (each for each in known if each.accelerator != accelerator)
    return (StartupTime(accelerator=accelerator, seconds=round(seconds, 1)), *others)[:STARTUP_TIMES_LIMIT]


def came_up(subject: Subject, snapshot: Snapshot) -> float | None:
    """Seconds that the replicas of the scale-up under way took; None: they are not all ready."""
    going = under_way(subject, snapshot)
    if going is None or subject.deployment.ready_replicas < going.replicas:
        return None
    return (snapshot.time - going.since).total_seconds()


def scaling_up(subject: Subject, plan: ServicePlan, snapshot: Snapshot) -> ScalingUp | None:
    """The scale-up that is under way after a plan: the first one while several follow each other."""
    if subject.moving or plan.allocation.move is not None:
        return None
    going = under_way(subject, snapshot)
    if going is not None and subject.deployment.ready_replicas < going.replicas:
        return going
    wanted = plan.patch.body.get("spec", {}).get("replicas", 0) if plan.patch is not None else 0
    if wanted <= subject.deployment.replicas:
        return None
    return ScalingUp(accelerator=subject.accelerator, replicas=wanted, since=snapshot.time)


def under_way(subject: Subject, snapshot: Snapshot) -> ScalingUp | None:
    """The scale-up on record, where it still tells what starting takes."""
    going = subject.state.allocation.scaling_up if subject.state.allocation is not None else None
    if going is None or going.accelerator != subject.accelerator or subject.moving:
        return None
    age = (snapshot.time - going.since).total_seconds()
    late = age > snapshot.policy.moves.bring_up_timeout_seconds
    return None if late or subject.deployment.replicas < going.replicas else going
