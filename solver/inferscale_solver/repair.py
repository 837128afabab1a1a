"""Large programs: the linear relaxation of every level, then one small integer program.

A basic solution of the relaxation has at most as many services between candidates as there are limits. The
small program may change these, and all services that lose little by changing.
"""

from __future__ import annotations

import numpy as np

from inferscale_solver.core import core
from inferscale_solver.dive import Dive, dive, release
from inferscale_solver.formulation import Formulation, Goal
from inferscale_solver.prediction import Floats
from inferscale_solver.problem import Settings, Solver
from inferscale_solver.program import Clock, Effort, Relaxation, Solution, integer_solution

# Services that must be to spare at a priority before the next is considered.
_SPARE = (0.0, 0.7)
# Candidates that the small program may have: after a dive; without one at least, and as a share of all. And
# the services of the last priority that it may leave out beyond the bound.
_DIVED, _LEAST, _SHARE = 600, 1_500, 0.04
_LEFT_OUT = 10
# Good enough is so near to the relaxation; so many nodes may be taken to come there.
_NEAR = {Solver.AUTO: 1e-3, Solver.EXACT: 3e-4}
_NODES = {Solver.AUTO: 200, Solver.EXACT: 2_000}
_GAP = 2e-4
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
    known: dict[tuple[float, ...], float] = {}
    for spare in _SPARE:
        relaxed, bounds, spared = _relax(written, relaxation, clock, start, spare, known)
        if relaxed is None or (spare and not spared):
            break
        found = _repair(written, relaxation, settings, clock, relaxed)
        if found is not None:
            counts = [level for level in written.levels if level.goal is Goal.UNSERVED]
            upper = relaxation.program.row_upper
            as_limited = all(level.limit(level.at(found)) == upper[level.row] for level in counts[:-1])
            return found, bounds if as_limited else None
    return start, None


def _relax(
    written: Formulation,
    relaxation: Relaxation,
    clock: Clock,
    start: Floats,
    spare: float,
    known: dict[tuple[float, ...], float],
) -> tuple[Solution | None, dict[int, int], bool]:
    """Relax every level, each limited before the next.

    Args:
        written: The program.
        relaxation: Its relaxation.
        clock: When to stop.
        start: No fewer are served than here.
        spare: Services that must be to spare at a priority.
        known: Objectives of levels that were relaxed before, by the limits of the levels before them.

    Returns:
        The relaxation of the value, the least number unserved at each priority, and whether any priority
        was given a service to spare.
    """
    bounds: dict[int, int] = {}
    spared, as_start = False, True
    limits: tuple[float, ...] = ()
    for level in written.levels:
        relaxation.limit(level.row, np.inf)
    for level in written.levels:
        if limits not in known or level.goal is Goal.VALUE:
            relaxed = relaxation.solve(level.cost, clock.left())
            if relaxed is None or level.goal is Goal.VALUE:
                return relaxed, bounds, spared
            known[limits] = level.constant + relaxed.bound
        least = known[limits]
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
            limit = least + float(np.abs(level.cost).max())
        limits = (*limits, limit)
        relaxation.limit(level.row, level.limit(limit))
    return None, bounds, spared


def _repair(
    written: Formulation, relaxation: Relaxation, settings: Settings, clock: Clock, relaxed: Solution
) -> Floats | None:
    """A whole solution near one of the relaxation; None: none was found.

    The last priority may leave services out beyond its limit, at a price above any value.
    """
    value = next(level for level in written.levels if level.goal is Goal.VALUE)
    last = max(level.row for level in written.levels if level.goal is Goal.UNSERVED)
    near = relaxed.bound + _NEAR[settings.solver] * abs(relaxed.bound)
    program = relaxation.program
    dived = dive(written, relaxation, value, clock, relaxed)
    starts = [(Dive(relaxed, {}), max(_LEAST, round(_SHARE * len(written.rows))))]
    if dived is not None:
        starts.insert(0, (dived, _DIVED))
    best: tuple[float, float, Floats] | None = None
    for start, size in starts:
        part = core(written, program, value.cost, start.relaxed, size, start.fixed)
        weight = 2.0 * float(np.abs(value.cost[part.free]).max(initial=1.0))
        free = np.append(part.free, program.matrix.columns)
        gap = _GAP * abs(relaxed.bound)
        effort = Effort(_NODES[settings.solver], gap, clock.left(), near, reduced=True)
        found = integer_solution(
            program.with_slack(last, _LEFT_OUT),
            np.append(value.cost, weight),
            effort,
            np.append(part.base, 0.0),
            free,
        )
        if found is not None:
            beyond, x = float(found.x[-1]), found.x[:-1]
            if best is None or (beyond, value.at(x)) < best[:2]:
                best = beyond, value.at(x), x
            if beyond <= 1:
                break
    release(written, relaxation, dived.fixed if dived is not None else {})
    return None if best is None else best[2]
