"""Large programs: the linear relaxation of every level, then one small integer program.

A basic solution of the relaxation has at most as many services between candidates as there are limits. The
small program may change these, and all services that lose little by changing.
"""

from __future__ import annotations

import numpy as np

from inferscale_solver.core import core, restricted
from inferscale_solver.dive import Dive, dive, release
from inferscale_solver.formulation import Formulation, Goal, Level
from inferscale_solver.prediction import Floats
from inferscale_solver.problem import Settings, Solver
from inferscale_solver.program import Clock, Effort, Relaxation, Solution, integer_solution
from inferscale_solver.sample import WIDE, Sample

# Services that must be to spare at a priority before the next is considered.
_SPARE = (0.0, 0.7)
# Attempts at a whole solution, while services are left out beyond the bounds (but for one at the last
# priority): services that a dive decides, services it may leave out at the last priority, and candidates that
# the small program then may have. Where there is nothing to spare, and a priority before the
# last still leaves out more, only the first of them are made.
_ATTEMPTS = ((50, 0, 600), (50, 5, 600), (50, 0, 1_200), (20, 5, 1_200))
_FIRST = 2
# Services that the small program may leave out beyond the bound of a priority, which is what one of the
# priority before weighs; and the most that one may weigh.
_LEFT_OUT, _HEAVIEST = 60, 1e4
# Good enough is so near to the relaxation; so many nodes may be taken to come there.
_NEAR = {Solver.AUTO: 1e-3, Solver.EXACT: 3e-4}
_NODES = {Solver.AUTO: 50, Solver.EXACT: 2_000}
_GAP = 2e-4
_TOLERANCE = 1e-6
# Candidates of a core in which a large relaxation is made whole.
_PART = 3_000


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
    sample = Sample(written) if len(written.rows) > WIDE else None
    best, bounds = start, None
    for spare in _SPARE:
        relaxed, least, spared = _relax(written, relaxation, sample, clock, start, spare, known)
        if relaxed is None or (spare and not spared):
            break
        found = _repair(written, relaxation, settings, clock, relaxed, len(_ATTEMPTS) if spare else _FIRST)
        if found is None:
            continue
        counts = [level for level in written.levels if level.goal is Goal.UNSERVED]
        upper = relaxation.program.row_upper
        as_limited = all(level.limit(level.at(found)) == upper[level.row] for level in counts[:-1])
        if _rank(written, found) < _rank(written, best):
            best, bounds = found, least if as_limited else None
        if as_limited:
            break
    return best, bounds


def _rank(written: Formulation, x: Floats) -> tuple[float, ...]:
    """How good a point is, the least best."""
    return tuple(round(level.at(x), 5) for level in written.levels)


def _relax(
    written: Formulation,
    relaxation: Relaxation,
    sample: Sample | None,
    clock: Clock,
    start: Floats,
    spare: float,
    known: dict[tuple[float, ...], float],
) -> tuple[Solution | None, dict[int, int], bool]:
    """Relax every level, each limited before the next.

    Args:
        written: The program.
        relaxation: Its relaxation.
        sample: Where the relaxation begins; None: where it ended.
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
    if sample is not None:
        sample.begin()
    for level in written.levels:
        begin = None if sample is None else sample.relax(level, clock)
        if level.goal is Goal.UNSERVED and as_start and level.at(start) <= _TOLERANCE:
            known.setdefault(limits, 0.0)
        if limits not in known or level.goal is Goal.VALUE:
            basis = None if begin is None else begin[1]
            relaxed = relaxation.solve(level.cost, clock.left(), basis)
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
        if sample is not None and begin is not None:
            sample.limit(level, begin[0], limit - least)
        limits = (*limits, limit)
        relaxation.limit(level.row, level.limit(limit))
    return None, bounds, spared


def _repair(
    written: Formulation,
    relaxation: Relaxation,
    settings: Settings,
    clock: Clock,
    relaxed: Solution,
    attempts: int,
) -> Floats | None:
    """A whole solution near one of the relaxation; None: none was found."""
    value = next(level for level in written.levels if level.goal is Goal.VALUE)
    scale = abs(relaxed.bound)
    if len(written.rows) <= 2 * _PART:
        return _made_whole(written, relaxation, settings, clock, relaxed, attempts, scale)
    program = relaxation.program
    part = core(written, program, value.cost, relaxed, _PART, {})
    small = restricted(written, program, part)
    within = Relaxation(small.program)
    value = next(level for level in small.levels if level.goal is Goal.VALUE)
    again = within.solve(value.cost, clock.left())
    found = None if again is None else _made_whole(small, within, settings, clock, again, attempts, scale)
    if found is None:
        return None
    x = part.base.copy()
    x[part.free] = found
    return x


def _made_whole(
    written: Formulation,
    relaxation: Relaxation,
    settings: Settings,
    clock: Clock,
    relaxed: Solution,
    attempts: int,
    scale: float,
) -> Floats | None:
    """Dive from a relaxation, and solve a small program where the dive ends; None: nothing was found.

    Priorities may leave services out beyond their limits, at prices above any value. Good enough is what is
    as near to the relaxation as a share of `scale` says.
    """
    value = next(level for level in written.levels if level.goal is Goal.VALUE)
    counts = np.array([level.row for level in written.levels if level.goal is Goal.UNSERVED])
    good = _NEAR[settings.solver] * scale
    best: tuple[tuple[float, ...], float, Floats] | None = None
    for attempt, (rounds, loose, size) in enumerate(_ATTEMPTS):
        if attempt >= attempts and (best is None or any(best[0][:-1])):
            break
        ended = _dive(written, relaxation, value, clock, relaxed, rounds, loose)
        if ended is None:
            continue
        program = relaxation.program
        part = core(written, program, value.cost, ended.relaxed, size, ended.fixed)
        last = 2.0 * float(np.abs(value.cost[part.free]).max(initial=1.0))
        weights = last * np.minimum(float(_LEFT_OUT) ** np.arange(len(counts))[::-1], _HEAVIEST)
        columns = program.matrix.columns
        found = integer_solution(
            program.with_slack(counts, _LEFT_OUT),
            np.append(value.cost, weights),
            Effort(_NODES[settings.solver], _GAP * scale, clock.left(), relaxed.bound + good, reduced=True),
            np.append(part.base, np.zeros(len(counts))),
            np.append(part.free, columns + np.arange(len(counts))),
        )
        if found is None:
            continue
        beyond, x = tuple(np.round(found.x[columns:]).tolist()), found.x[:columns]
        if best is None or (beyond, value.at(x)) < best[:2]:
            best = beyond, value.at(x), x
        if not any(beyond[:-1]) and beyond[-1] <= 1:
            break
    return None if best is None else best[2]


def _dive(
    written: Formulation,
    relaxation: Relaxation,
    value: Level,
    clock: Clock,
    relaxed: Solution,
    rounds: int,
    loose: int,
) -> Dive | None:
    """Dive with some services more to leave out at the last priority; the relaxation is left as it was."""
    last = max(level.row for level in written.levels if level.goal is Goal.UNSERVED)
    limit = float(relaxation.program.row_upper[last])
    begin: Solution | None = relaxed
    if loose:
        relaxation.limit(last, limit + loose)
        begin = relaxation.solve(value.cost, clock.left())
    ended = None if begin is None else dive(written, relaxation, value, clock, begin, rounds)
    relaxation.limit(last, limit)
    if ended is not None:
        release(written, relaxation, ended.fixed)
    return ended
