"""The ledger of accelerators: what is free, and what is kept for whom."""

from __future__ import annotations

from collections.abc import Collection

from inferscale_solver.candidates import Candidates
from inferscale_solver.problem import Capacity


class Ledger:
    """Free units of every type.

    The services of `reserving` have their `min_replicas`, or all they have if that is less, reserved on the
    type they run on, by priority while units last. A reservation is free to its owner and to nobody else; it
    ends when its owner takes anything.
    """

    def __init__(self, candidates: Candidates, capacity: Capacity, reserving: Collection[int]) -> None:
        self._free = {kind: max(units, 0) for kind, units in capacity.units.items()}
        self._reserved: dict[int, tuple[str, int]] = {}
        for service in sorted(reserving, key=lambda i: (candidates.services[i].priority, i)):
            held = candidates.holdings[service]
            if held is not None:
                kind, size = held.profile.type, held.units_per_replica
                replicas = min(candidates.services[service].min_replicas, held.replicas)
                units = min(replicas, self._free.get(kind, 0) // size) * size
                self._reserved[service] = kind, units
                self._move(kind, -units)

    def available(self, service: int, kind: str) -> int:
        """Units of a type that a service may take, its own reservation among them."""
        reserved_kind, units = self._reserved.get(service, (kind, 0))
        return self._free.get(kind, 0) + (units if reserved_kind == kind else 0)

    def take(self, service: int, kind: str, units: int) -> None:
        """Give a service units that are available to it; its reservation ends."""
        if service in self._reserved:
            self._move(*self._reserved.pop(service))
        self._move(kind, -units)

    def _move(self, kind: str, units: int) -> None:
        if units:
            self._free[kind] += units
