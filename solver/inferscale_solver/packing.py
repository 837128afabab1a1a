"""Packing: whether replicas of several sizes fit on the nodes of a type together.

The limits of `resources` are enough where every size divides the next larger one. Elsewhere (replicas of 2
and of 3 units) a plan is checked here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from inferscale_solver.candidates import Candidates
from inferscale_solver.choice import Choice

# States that the search may look at; a plan that it cannot place within them counts as one that does not fit.
_STATES = 20_000


def fits(nodes: Sequence[int], replicas: Mapping[int, int]) -> bool:
    """Whether replicas fit on nodes.

    Args:
        nodes: Free units of each node.
        replicas: Number of replicas by size in units.

    Returns:
        True only where they do; first fit decreasing is tried, then a search that is exact unless it is long.
    """
    sizes = sorted((size for size, count in replicas.items() if count > 0), reverse=True)
    counts = tuple(replicas[size] for size in sizes)
    free = sorted((units for units in nodes if units > 0), reverse=True)
    if sum(size * count for size, count in zip(sizes, counts, strict=True)) > sum(free):
        return False
    return _first_fit(free[::-1], sizes, counts) or _search(free, sizes, counts)


def misfits(
    nodes: Mapping[str, Sequence[int]], candidates: Candidates, choices: Sequence[Choice]
) -> dict[str, int]:
    """The units that choices take of the types on whose nodes they do not fit.

    Args:
        nodes: Of each type that is known, the free units of every node.
        candidates: The candidates.
        choices: What was decided, in the order of the candidates' services.
    """
    replicas: dict[str, Counter[int]] = {kind: Counter() for kind in nodes}
    for service, choice in enumerate(choices):
        held = candidates.holdings[service]
        if choice.row is not None:
            kind, size = candidates.profiles[choice.row].type, candidates.units_per_replica[choice.row]
        elif choice.profile is not None and held is not None:
            kind, size = held.profile.type, held.units_per_replica
        else:
            continue
        if kind in replicas:
            replicas[kind][size] += choice.replicas
    return {
        kind: sum(size * count for size, count in counts.items())
        for kind, counts in sorted(replicas.items())
        if not fits(nodes[kind], counts)
    }


def _first_fit(free: Sequence[int], sizes: Sequence[int], counts: Sequence[int]) -> bool:
    """First fit decreasing, the fullest nodes first."""
    left = list(free)
    for size, count in zip(sizes, counts, strict=True):
        for node, units in enumerate(left):
            placed = min(units // size, count)
            left[node] -= placed * size
            count -= placed
        if count > 0:
            return False
    return True


def _search(free: Sequence[int], sizes: Sequence[int], counts: tuple[int, ...]) -> bool:
    """Fill node after node, with everything that may be on it."""
    states: set[tuple[int, ...]] = {counts}
    looked = 0
    for units in free:
        after: set[tuple[int, ...]] = set()
        for state in sorted(states):
            for left in _fillings(units, sizes, state):
                looked += 1
                if not any(left):
                    return True
                if looked > _STATES:
                    return False
                after.add(left)
        states = after
    return False


def _fillings(units: int, sizes: Sequence[int], counts: tuple[int, ...]) -> list[tuple[int, ...]]:
    """What is left of replicas after a node is filled, in every way that leaves no room for one more."""
    if not sizes:
        return [()]
    most = min(units // sizes[0], counts[0])
    found = []
    for placed in range(most, -1, -1):
        rest = units - placed * sizes[0]
        found += [(counts[0] - placed, *left) for left in _fillings(rest, sizes[1:], counts[1:])]
    least = {
        left
        for left in found
        if not any(other != left and all(a <= b for a, b in zip(other, left, strict=True)) for other in found)
    }
    return sorted(least)
