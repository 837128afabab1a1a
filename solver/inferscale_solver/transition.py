"""What a change of allocation is worth: cost, and a penalty on changes of accelerator."""

from __future__ import annotations

from collections.abc import Mapping

from inferscale_queueing.frozen import frozen
from inferscale_solver.problem import Profile, Service


@frozen
class Holding:
    """What a service holds now, at today's prices."""

    profile: Profile
    replicas: int
    units_per_replica: int
    cost: float
    """Cost per hour of all replicas."""


def holding(service: Service, profiles: Mapping[str, Profile]) -> Holding | None:
    """Price the current allocation of a service.

    Args:
        service: The service.
        profiles: Profiles by name.

    Returns:
        The holding; None where the service has no current allocation.
    """
    current = service.current
    if current is None:
        return None
    profile = profiles[current.profile]
    acc_count = current.acc_count
    for performance in service.performance:
        if performance.profile == current.profile:
            acc_count = performance.acc_count
    return Holding(
        profile=profile,
        replicas=current.replicas,
        units_per_replica=acc_count * profile.multiplicity,
        cost=current.replicas * acc_count * profile.cost,
    )


def transition_value(profile: str, replicas: int, cost: float, held: Holding | None, penalty: float) -> float:
    """Value of going from what is held to `replicas` on `profile`; the least value is best.

    The llm-inferno deck's transition penalty: 0 if nothing changes, the difference in cost where just the
    replicas change, otherwise penalty · (both costs) + the difference; (1 + penalty) · cost from nothing.

    Args:
        profile: Name of the profile to go to.
        replicas: Replicas on it.
        cost: Their cost per hour.
        held: What the service holds now.
        penalty: Penalty factor, a fraction of the costs.

    Returns:
        The value, in cost per hour.
    """
    if held is None:
        return (1 + penalty) * cost
    if profile == held.profile.name:
        return 0.0 if replicas == held.replicas else cost - held.cost
    return penalty * (held.cost + cost) + cost - held.cost
