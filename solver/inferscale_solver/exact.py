"""Limited accelerators, exact: one objective after another, each then a constraint.

Services served at priority 1, at priority 2, …; burst cost; value. Small programs are solved whole, level by
level. Of large ones the linear relaxation is, and its last solution is made whole (`repair`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inferscale_solver.candidates import Candidates
from inferscale_solver.choice import Choice
from inferscale_solver.core import core
from inferscale_solver.formulation import Formulation, Goal, Level, formulate
from inferscale_solver.prediction import Floats
from inferscale_solver.problem import Settings, Solver
from inferscale_solver.program import Clock, Effort, Relaxation, integer_solution
from inferscale_solver.proof import TINY, Proof, prove
from inferscale_solver.repair import relax_and_repair
from inferscale_solver.resources import Resources

# Columns up to which the whole integer program is solved, and the work that one solve may take: nodes times
# columns.
_SMALL = {Solver.AUTO: 1_000, Solver.EXACT: 1_500}
_WORK = {Solver.AUTO: 100_000, Solver.EXACT: 6_000_000}
# Columns up to which plans that the relaxation does not prove good are improved and bounded within a core of
# so many candidates; a value is good that is so near to its bound.
_LARGE, _CORE = 4_000, 1_500
_NEAR = {Solver.AUTO: 1e-3, Solver.EXACT: 0.0}
_TOLERANCE = 1e-6


def exact(
    candidates: Candidates, resources: Resources, settings: Settings, start: Sequence[Choice]
) -> tuple[dict[int, int], Proof]:
    """Share what is limited as well as can be.

    Args:
        candidates: The candidates.
        resources: What is shared.
        settings: Solver (how much work it may do) and time limit.
        start: A plan to start from.

    Returns:
        The row of the candidates that each served service takes, and what was proved.
    """
    largest = _SMALL[settings.solver]
    held = sum(holding is not None for holding in candidates.holdings)
    written = formulate(candidates, resources, break_ties=0 < held <= largest)
    clock = Clock(settings.time_limit)
    relaxation = Relaxation(written.program)
    point = written.point(start)
    if not written.program.holds(point):
        # Reservations that shrank in another order: start from nobody served.
        point = np.zeros(written.program.matrix.columns)
        point[len(written.rows) :] = written.program.upper[len(written.rows) :]
    bounds: dict[int, int] | None
    value_bound = -np.inf
    if len(written.rows) <= largest:
        if len(written.rows) > TINY:
            point, _ = relax_and_repair(written, relaxation, settings, clock, point)
            for level in written.levels:
                relaxation.limit(level.row, np.inf)
        point, bounds, value_bound = _level_by_level(written, relaxation, settings, clock, point)
    else:
        point, bounds = relax_and_repair(written, relaxation, settings, clock, point)
        if len(written.rows) <= _LARGE:
            point, value_bound = _sharpen(written, relaxation, settings, clock, point)
    proof = prove(written, relaxation, resources, clock, point, bounds, value_bound)
    return written.chosen(point), proof


def _level_by_level(
    written: Formulation, relaxation: Relaxation, settings: Settings, clock: Clock, x: Floats
) -> tuple[Floats, dict[int, int], float]:
    """Solve the integer program of every level.

    Returns:
        The best point found, the bound of the unserved services of each priority, and of the value.
    """
    bounds: dict[int, int] = {}
    value_bound = -np.inf
    for level in written.levels:
        x, bound = _minimise(relaxation, level, settings, clock, x)
        found = level.at(x)
        if level.goal is Goal.UNSERVED:
            bounds[level.priority] = round(max(min(bound, found), 0.0))
        elif level.goal is Goal.VALUE:
            value_bound = bound
        relaxation.limit(level.row, level.limit(found))
    return x, bounds, value_bound


def _nodes(settings: Settings, columns: int) -> int:
    """Nodes that a solve of so many columns may take."""
    return max(_WORK[settings.solver] // max(columns, 1), 1)


def _minimise(
    relaxation: Relaxation, level: Level, settings: Settings, clock: Clock, x: Floats
) -> tuple[Floats, float]:
    """Minimise one level: the best point, and a bound."""
    found = level.at(x)
    if level.goal is not Goal.VALUE and found <= _TOLERANCE:
        return x, 0.0
    relaxed = relaxation.solve(level.cost, clock.left())
    if relaxed is None:
        return x, -np.inf
    bound = level.whole(level.constant + relaxed.bound)
    if found <= bound + _TOLERANCE:
        return x, bound
    share = _NEAR[settings.solver] if relaxation.program.matrix.columns > TINY else 0.0
    near = share * abs(bound) if level.goal is Goal.VALUE else 0.0
    effort = Effort(_nodes(settings, relaxation.program.matrix.columns), near, clock.left())
    better = integer_solution(relaxation.program, level.cost, effort, x)
    if better is None:
        return x, bound
    improved = level.at(better.x) < found - _TOLERANCE and relaxation.program.holds(better.x)
    return better.x if improved else x, max(bound, level.whole(level.constant + better.bound))


def _sharpen(
    written: Formulation, relaxation: Relaxation, settings: Settings, clock: Clock, x: Floats
) -> tuple[Floats, float]:
    """Improve the value of a plan that serves as many, and bound it, by an integer program of its core."""
    value = next(level for level in written.levels if level.goal is Goal.VALUE)
    if any(level.goal in (Goal.WEIGHT, Goal.GIVEN_UP, Goal.BURST) for level in written.levels):
        return x, -np.inf
    for level in written.levels:
        relaxation.limit(level.row, level.limit(level.at(x)) if level.goal is Goal.UNSERVED else np.inf)
    relaxed = relaxation.solve(value.cost, clock.left())
    near = _NEAR[settings.solver] * abs(value.at(x))
    if relaxed is None or value.at(x) <= relaxed.bound + near:
        return x, -np.inf
    part = core(written, relaxation.program, value.cost, relaxed, _CORE, {})
    start = part.base.copy()
    start[part.free] = x[part.free]
    effort = Effort(_nodes(settings, len(part.free)), near, clock.left(), reduced=True)
    found = integer_solution(relaxation.program, value.cost, effort, start, part.free)
    if found is None:
        return x, -np.inf
    better = value.at(found.x) < value.at(x) - _TOLERANCE and relaxation.program.holds(found.x)
    return found.x if better else x, min(found.bound, part.bound)
