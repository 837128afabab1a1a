"""The ledger of resources: what is free, and what is kept for whom."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from inferscale_solver.candidates import Candidates
from inferscale_solver.resources import Resources, Shortage, Use

# Amounts of money add up to a limit only within rounding.
_SLACK = 1e-9


class Ledger:
    """What is free of every resource.

    Reservations are free to their owner and to nobody else; one ends when its owner takes anything.
    """

    def __init__(self, resources: Resources, reserved: Mapping[int, int] | None = None) -> None:
        """Open a ledger.

        Args:
            resources: The resources.
            reserved: Replicas, where the service is now, that are kept for services; they must fit.
        """
        self._resources = resources.resources
        self._free = [resource.limit for resource in resources.resources]
        self._slack = [_SLACK * max(resource.limit, 1.0) for resource in resources.resources]
        self._reserved: dict[int, dict[int, float]] = {}
        for service, replicas in (reserved or {}).items():
            amounts = {i: amount * replicas for i, amount in resources.holdings[service]}
            self._reserved[service] = amounts
            for i, amount in amounts.items():
                self._free[i] -= amount

    def fits(self, service: int, use: Use, most: int) -> int:
        """How many replicas, `most` at most, a service may take, its own reservation counted."""
        own = self._reserved.get(service, {})
        for i, amount in use:
            most = min(most, int((self._free[i] + own.get(i, 0.0) + self._slack[i]) // amount))
        return max(most, 0)

    def shortage(self, service: int, use: Use, replicas: int) -> Shortage | None:
        """The first resource that replicas of a service are short of; None: they fit."""
        own = self._reserved.get(service, {})
        for i, amount in use:
            missing = amount * replicas - self._free[i] - own.get(i, 0.0)
            if missing > self._slack[i]:
                return Shortage(self._resources[i], missing)
        return None

    def take(self, service: int, use: Use, replicas: int) -> None:
        """Give a service replicas that fit; its reservation ends."""
        for i, amount in self._reserved.pop(service, {}).items():
            self._free[i] += amount
        for i, amount in use:
            self._free[i] -= amount * replicas

    def give_back(self, use: Use, replicas: int) -> None:
        """Take replicas back."""
        for i, amount in use:
            self._free[i] += amount * replicas


def reservations(candidates: Candidates, resources: Resources, services: Collection[int]) -> dict[int, int]:
    """Replicas that are kept for services that run: `min_replicas`, or all they have if that is less.

    Args:
        candidates: The candidates.
        resources: The resources.
        services: The services, in any order.

    Returns:
        Replicas by service, in the order of priority while resources last.
    """
    ledger = Ledger(resources)
    kept: dict[int, int] = {}
    for service in sorted(services, key=lambda i: (candidates.services[i].priority, i)):
        held = candidates.holdings[service]
        least = min(candidates.services[service].min_replicas, held.replicas) if held is not None else 0
        if least > 0:
            use = resources.holdings[service]
            kept[service] = ledger.fits(service, use, least)
            ledger.take(service, use, kept[service])
    return kept
