"""What is known about every plan: bounds, and the prices of accelerators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from inferscale_queueing.frozen import frozen
from inferscale_solver.formulation import Formulation, Goal, Level
from inferscale_solver.prediction import Floats
from inferscale_solver.program import Clock, Effort, Relaxation, Solution, integer_solution
from inferscale_solver.resources import Kind, Resources
from inferscale_solver.sample import WIDE, Sample

TINY = 300
"""Columns up to which a whole program takes hardly more than its relaxation."""
_NODES = 300
_TOLERANCE = 1e-6
_PRICE_DECIMALS = 4


@frozen
class Proof:
    """What no plan can undercut, and what more accelerators would be worth."""

    unserved_bound: Mapping[int, int]
    """By priority, of the services that have candidates; the earlier priorities as in the plan."""
    lower_bound: float
    """Of the value of what is served, over plans that leave no more unserved at any priority."""
    prices: Mapping[str, float]
    timed_out: bool


def prove(
    written: Formulation,
    relaxation: Relaxation,
    resources: Resources,
    clock: Clock,
    x: Floats,
    unserved_bound: Mapping[int, int] | None,
    value_bound: float,
) -> Proof:
    """Bound all plans that leave no more services unserved than this one.

    Args:
        written: The program.
        relaxation: Its relaxation.
        resources: What is shared.
        clock: When to stop.
        x: The plan.
        unserved_bound: By priority, with the earlier priorities as in the plan; None: not known.
        value_bound: Bound of the value with all levels before it limited as in the plan; -inf: none.
    """
    if unserved_bound is None:
        unserved_bound = _count_again(written, relaxation, clock, x)
    for level in written.levels:
        if level.goal in (Goal.UNSERVED, Goal.WEIGHT, Goal.GIVEN_UP, Goal.BURST):
            relaxation.limit(level.row, level.limit(level.at(x)))
        else:
            relaxation.limit(level.row, np.inf)
    value = next(level for level in written.levels if level.goal is Goal.VALUE)
    base = relaxation.solve(value.cost, clock.left())
    prices = {} if base is None else _prices(relaxation, value, base, resources, clock)
    lower_bound = max(value_bound, -np.inf if base is None else base.bound)
    others = [level for level in written.levels if level.goal in (Goal.WEIGHT, Goal.GIVEN_UP, Goal.BURST)]
    if others:
        # The bound is for plans that may serve less weight, give up or burst more than this one.
        for level in others:
            relaxation.limit(level.row, np.inf)
        freed = relaxation.solve(value.cost, clock.left())
        lower_bound = -np.inf if freed is None else freed.bound
        if len(written.rows) <= TINY:
            effort = Effort(_NODES, seconds=clock.left())
            whole = integer_solution(relaxation.program, value.cost, effort, x)
            lower_bound = max(lower_bound, -np.inf if whole is None else whole.bound)
    return Proof(unserved_bound, float(lower_bound), prices, clock.ran_out)


def _count_again(written: Formulation, relaxation: Relaxation, clock: Clock, x: Floats) -> dict[int, int]:
    """Bound the unserved services of each priority with the earlier ones as in the plan."""
    bounds: dict[int, int] = {}
    for level in written.levels:
        relaxation.limit(level.row, np.inf)
    sample = Sample(written) if len(written.rows) > WIDE else None
    for level in written.levels:
        if level.goal is Goal.UNSERVED:
            begin = None if sample is None else sample.relax(level, clock)
            relaxed = relaxation.solve(level.cost, clock.left(), None if begin is None else begin[1])
            bounds[level.priority] = (
                0 if relaxed is None else round(level.whole(level.constant + relaxed.bound))
            )
            if sample is not None and begin is not None and relaxed is not None:
                sample.limit(level, begin[0], level.at(x) - level.constant - relaxed.bound)
            relaxation.limit(level.row, level.limit(level.at(x)))
    return bounds


def _prices(
    relaxation: Relaxation, value: Level, base: Solution, resources: Resources, clock: Clock
) -> dict[str, float]:
    rows: dict[str, list[int]] = {}
    for i, resource in enumerate(resources.resources):
        if resource.kind in (Kind.UNITS, Kind.NODES):
            rows.setdefault(resource.name, []).append(i)
    return {name: _price(relaxation, value, base, here, resources, clock) for name, here in rows.items()}


def _price(
    relaxation: Relaxation,
    value: Level,
    base: Solution,
    rows: Sequence[int],
    resources: Resources,
    clock: Clock,
) -> float:
    """What one more unit of a type saves, by solving again with it."""
    if all(abs(base.row_dual[i]) < _TOLERANCE for i in rows):
        return 0.0
    before = {i: float(relaxation.program.row_upper[i]) for i in rows}
    for i, limit in before.items():
        relaxation.limit(i, limit + 1 / resources.resources[i].piece)
    more = relaxation.solve(value.cost, clock.left())
    for i, limit in before.items():
        relaxation.limit(i, limit)
    return 0.0 if more is None else round(max(base.objective - more.objective, 0.0), _PRICE_DECIMALS)
