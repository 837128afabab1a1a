"""Large programs: the linear relaxation of every level, then one small integer program.

A basic solution of the relaxation has at most as many services between candidates as there are limits. The
small program may change these, and all services that lose little by changing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from inferscale_solver.formulation import Formulation, Goal
from inferscale_solver.prediction import Floats, Ints
from inferscale_solver.problem import Settings, Solver
from inferscale_solver.program import Clock, Effort, Relaxation, Solution, integer_solution

# Attempts: services that must be to spare at a priority before the next is considered; then the candidates
# that may come in beside those that the relaxation takes, and the services of the last priority that may be
# left out beyond its bound.
_ATTEMPTS = (
    (0.0, ((600, 0), (600, 1))),
    (0.7, ((1_500, 1), (1_500, 3), (1_500, 10), (4_000, 10))),
)
# Good enough is so near to the relaxation; so many nodes may be taken to come there.
_NEAR = {Solver.AUTO: 1.3e-3, Solver.EXACT: 3e-4}
_NODES = {Solver.AUTO: 200, Solver.EXACT: 2_000}
_RELATIVE_GAP = 2e-4
_TOLERANCE = 1e-6


def relax_and_repair(
    written: Formulation, relaxation: Relaxation, settings: Settings, clock: Clock, start: Floats
) -> tuple[Floats, dict[int, int] | None]:
    """Relax every level in turn and make the last solution whole.

    Where a level can only be met with next to nothing to spare no whole solution comes near: then one
    service more may go unserved there, and the levels after it are relaxed again.

    Args:
        written: The program.
        relaxation: Its relaxation; its levels are limited.
        settings: How much work may be done.
        clock: When to stop.
        start: A point that is taken if none is found.

    Returns:
        The point, and the least number of unserved services at each priority with the earlier ones as they
        are at the point; None where that is not known.
    """
    for spare, tries in _ATTEMPTS:
        relaxed, bounds, spared = _relax(written, relaxation, clock, start, spare)
        if relaxed is None or (spare and not spared):
            break
        found = _repair(written, relaxation, settings, clock, relaxed, tries)
        if found is not None:
            counts = [level for level in written.levels if level.goal is Goal.UNSERVED]
            upper = relaxation.program.row_upper
            as_limited = all(level.limit(level.at(found)) == upper[level.row] for level in counts[:-1])
            return found, bounds if as_limited else None
    return start, None


def _relax(
    written: Formulation, relaxation: Relaxation, clock: Clock, start: Floats, spare: float
) -> tuple[Solution | None, dict[int, int], bool]:
    """Relax every level, each limited before the next.

    Returns:
        The relaxation of the value, the least number unserved at each priority, and whether any priority
        was given a service to spare.
    """
    bounds: dict[int, int] = {}
    spared, as_start = False, True
    for level in written.levels:
        relaxation.limit(level.row, np.inf)
    for level in written.levels:
        relaxed = relaxation.solve(level.cost, clock.left())
        if relaxed is None or level.goal is Goal.VALUE:
            return relaxed, bounds, spared
        least = level.constant + relaxed.bound
        if level.goal is Goal.UNSERVED:
            limit = level.whole(least)
            bounds[level.priority] = round(limit)
            if least > _TOLERANCE and limit - least < spare:
                limit, spared = limit + 1, True
            if as_start:
                # Never fewer served than at the start.
                limit = min(limit, level.at(start))
                as_start = limit == level.at(start)
        else:
            # What is not counted in services cannot be met to the last unit: one candidate is the grain.
            limit = least + float(level.cost.max())
        relaxation.limit(level.row, level.limit(limit))
    return None, bounds, spared


def _repair(
    written: Formulation,
    relaxation: Relaxation,
    settings: Settings,
    clock: Clock,
    relaxed: Solution,
    tries: Sequence[tuple[int, int]],
) -> Floats | None:
    """A whole solution near one of the relaxation; None: none was found."""
    value = next(level for level in written.levels if level.goal is Goal.VALUE)
    choices, services = len(written.rows), written.services
    x = relaxed.x[:choices]
    idle = np.flatnonzero(x < _TOLERANCE)
    order = idle[np.argsort(relaxed.reduced_cost[idle], kind="stable")]
    base = relaxed.x.copy()
    base[:choices] = np.round(x)
    target = relaxed.bound + _NEAR[settings.solver] * abs(relaxed.bound)
    last = max(level.row for level in written.levels if level.goal is Goal.UNSERVED)
    for newcomers, left_out in tries:
        entering = np.zeros(choices, dtype=bool)
        entering[order[:newcomers]] = True
        touched = np.bincount(services[entering], minlength=int(services.max()) + 1) > 0
        free = entering | ((x >= _TOLERANCE) & (touched[services] | (x < 1 - _TOLERANCE)))
        columns: Ints = np.concatenate([np.flatnonzero(free), choices + np.arange(len(written.givers))])
        upper = relaxation.program.row_upper.copy()
        upper[last] += left_out
        program = replace(relaxation.program, row_upper=upper)
        effort = Effort(_NODES[settings.solver], _RELATIVE_GAP, clock.left(), target)
        found = integer_solution(program, value.cost, effort, base, columns)
        if found is not None and program.holds(found.x):
            return found.x
    return None
