"""Replicas on nodes: units that are free in all are not units that are free together."""

from __future__ import annotations

from collections.abc import Sequence


def replicas_that_fit(free_units_by_node: Sequence[int], units_per_replica: int) -> int:
    """Replicas of one size that the nodes have room for.

    Args:
        free_units_by_node: Free units of the type on each node.
        units_per_replica: Units that a replica needs, all on one node; at least 1.

    Returns:
        How many replicas can be placed; exact, since all have the same size.

    Raises:
        ValueError: If `units_per_replica` is less than 1.
    """
    if units_per_replica < 1:
        raise ValueError(f"units_per_replica is {units_per_replica}: a replica needs at least 1 unit")
    return sum(max(free, 0) // units_per_replica for free in free_units_by_node)


def place(free_units_by_node: Sequence[int], demands: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Place replicas of several sizes on the nodes of one type, the largest first, each where it fits first.

    First fit decreasing: it may miss a packing that exists, and never claims one that does not.

    Args:
        free_units_by_node: Free units of the type on each node.
        demands: For each demand (units of one replica, replicas); the units at least 1.

    Returns:
        How many replicas of each demand were placed, in the order of `demands`.

    Raises:
        ValueError: If a replica needs less than 1 unit.
    """
    free = [max(units, 0) for units in free_units_by_node]
    placed = [0] * len(demands)
    for index in sorted(range(len(demands)), key=lambda i: (-demands[i][0], i)):
        units, replicas = demands[index]
        if units < 1:
            raise ValueError(f"demand {index} needs {units} units a replica: it must be at least 1")
        for node, available in enumerate(free):
            here = min(available // units, replicas - placed[index])
            placed[index] += here
            free[node] -= here * units
    return tuple(placed)
