"""Resources: everything that services share and that runs out, as linear limits on replicas.

Units of a type, room on its nodes, quotas and the budget all have one form: a limit on the sum, over all
allocations, of replicas times an amount per replica.

Room on nodes: a replica of size a takes ⌊a/s⌋ of the ⌊f/s⌋ pieces of size s that a node with f free units
has. With one limit for every size s that occurs this is necessary for a packing, and sufficient where every
size divides the next larger one (1, 2, 4, 8), as first fit decreasing shows; else see `packing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from inferscale_queueing.frozen import frozen
from inferscale_solver.candidates import Candidates
from inferscale_solver.problem import Problem, Profile, Quota, Service
from inferscale_solver.transition import Holding

Use = tuple[tuple[int, float], ...]
"""What one replica takes: (resource, amount) pairs."""


class Kind(StrEnum):
    """What a resource is."""

    UNITS = "capacity"
    NODES = "placement"
    QUOTA = "quota"
    BUDGET = "budget"


@frozen
class Resource:
    """Something that runs out."""

    kind: Kind
    name: str
    """The type of accelerator; of a quota also whom it is for; of the budget nothing."""
    limit: float
    piece: int = 1
    """Units of the type in one unit of the resource; more than 1 for room on nodes."""

    @property
    def label(self) -> str:
        """As a binding constraint: `capacity:H100`, `budget`."""
        return f"{self.kind.value}:{self.name}" if self.name else self.kind.value


@frozen
class Shortage:
    """What was missing for a candidate."""

    resource: Resource
    missing: float

    def __str__(self) -> str:
        missing = round(self.missing)
        units = f"{missing} unit{'s' if missing != 1 else ''}"
        match self.resource.kind:
            case Kind.UNITS:
                return f"{self.resource.name} short of {units}"
            case Kind.NODES:
                pieces = f"{missing} time{'s' if missing != 1 else ''} {self.resource.piece} units"
                return f"nodes of {self.resource.name} short of {pieces} together"
            case Kind.QUOTA:
                return f"quota of {self.resource.name} short of {units}"
            case Kind.BUDGET:
                return f"budget short of {self.missing:.2f}/h"


@frozen
class Resources:
    """All resources, and what one replica of everything takes of them."""

    resources: tuple[Resource, ...]
    rows: tuple[Use, ...]
    """By row of the candidates."""
    holdings: tuple[Use, ...]
    """By service: what a replica takes where it is now; empty where the service holds nothing."""


def resources(problem: Problem, candidates: Candidates, most: Mapping[str, int] | None = None) -> Resources:
    """List what runs out in a problem.

    Args:
        problem: The problem. Without capacity, quotas and a budget nothing runs out.
        candidates: Its candidates.
        most: Units of types that may be taken, where fewer than there are.
    """
    occurring = {
        (profile.type, units)
        for profile, units in zip(candidates.profiles, candidates.units_per_replica, strict=True)
    }
    occurring |= {
        (held.profile.type, held.units_per_replica) for held in candidates.holdings if held is not None
    }
    sizes: dict[str, set[int]] = {}
    for kind, units in occurring:
        sizes.setdefault(kind, set()).add(units)
    listed = tuple(_listed(problem, sizes, most or {}))
    quotas = {
        i + len(listed) - len(problem.quotas) - (problem.settings.max_cost is not None): quota
        for i, quota in enumerate(_quotas(problem))
    }
    by_type: dict[str, list[int]] = {}
    for index, resource in enumerate(listed):
        if resource.kind in (Kind.UNITS, Kind.NODES):
            by_type.setdefault(resource.name, []).append(index)
    known: dict[tuple[str, int, str, str, str], Use] = {}
    alone = {quota.service for quota in problem.quotas}

    def use(service: Service, profile: Profile, units: int) -> Use:
        name = service.name if service.name in alone else ""
        key = (profile.name, units, service.namespace, service.service_class, name)
        if key not in known:
            amounts = [(i, float(units // listed[i].piece)) for i in by_type.get(profile.type, ())]
            amounts += [
                (i, float(units))
                for i, quota in quotas.items()
                if quota.type == profile.type
                and quota.namespace in (None, service.namespace)
                and quota.service_class in (None, service.service_class)
                and quota.service in (None, service.name)
            ]
            if problem.settings.max_cost is not None:
                amounts.append((len(listed) - 1, units / profile.multiplicity * profile.cost))
            known[key] = tuple((i, amount) for i, amount in amounts if amount > 0)
        return known[key]

    def holding_use(service: Service, held: Holding | None) -> Use:
        return () if held is None else use(service, held.profile, held.units_per_replica)

    return Resources(
        resources=listed,
        rows=tuple(
            use(candidates.services[i], profile, units)
            for i, profile, units in zip(
                candidates.owner, candidates.profiles, candidates.units_per_replica, strict=True
            )
        ),
        holdings=tuple(
            holding_use(service, held)
            for service, held in zip(candidates.services, candidates.holdings, strict=True)
        ),
    )


def _quotas(problem: Problem) -> list[Quota]:
    return sorted(problem.quotas, key=lambda q: (q.type, q.namespace or "", q.service_class or "", q.units))


def _listed(problem: Problem, sizes: dict[str, set[int]], most: Mapping[str, int]) -> Iterable[Resource]:
    """Types by name, each before the room on its nodes; then quotas, then the budget."""
    if problem.capacity is not None:
        for name in sorted({*sizes, *problem.capacity.units}):
            units = max(problem.capacity.units.get(name, 0), 0)
            nodes = problem.capacity.free_by_node.get(name)
            if nodes is not None:
                units = min(units, sum(max(free, 0) for free in nodes))
            yield Resource(Kind.UNITS, name, min(units, most.get(name, units)))
            if nodes is not None:
                for size in sorted(sizes.get(name, set()) - {1}):
                    yield Resource(Kind.NODES, name, sum(max(free, 0) // size for free in nodes), size)
    for quota in _quotas(problem):
        whom = [
            f"{what} {value}"
            for what, value in (
                ("namespace", quota.namespace),
                ("class", quota.service_class),
                ("service", quota.service),
            )
            if value is not None
        ]
        yield Resource(Kind.QUOTA, " for ".join([quota.type, *whom]), quota.units)
    if problem.settings.max_cost is not None:
        yield Resource(Kind.BUDGET, "", problem.settings.max_cost)
