"""Limited accelerators, exact: one objective after another, each then a constraint.

Services served at priority 1, at priority 2, …; burst cost; value. Small programs are solved whole. Large
ones level by level: a basic solution of the linear relaxation has at most as many services between
candidates as there are limits, and a small integer program over those, and over the services that lose
least by changing, makes the rest whole.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from inferscale_solver.candidates import Candidates
from inferscale_solver.choice import Choice
from inferscale_solver.formulation import Formulation, Goal, Level, formulate
from inferscale_solver.prediction import Floats, Ints
from inferscale_solver.problem import Settings, Solver
from inferscale_solver.program import Effort, Relaxation, Solution, integer_solution
from inferscale_solver.resources import Kind, Resources

# Columns up to which the whole integer program is solved.
_SMALL = {Solver.AUTO: 600, Solver.EXACT: 1_500}
# Nodes that one solve of it may take.
_NODES = {Solver.AUTO: 2_000, Solver.EXACT: 20_000}
# Candidates that a repair may take beside those that the relaxation takes; more where these do not do.
_NEWCOMERS = (600, 2_400, 9_600)
# A repair is good enough this near to the relaxation, and may take so many nodes to come there.
_NEAR = {Solver.AUTO: 1.3e-3, Solver.EXACT: 2e-4}
_REPAIR_NODES = {Solver.AUTO: 200, Solver.EXACT: 2_000}
_REPAIR_GAP = 2e-4
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Proof:
    """What is known about every plan."""

    unserved_bound: dict[int, int]
    lower_bound: float
    prices: dict[str, float]
    timed_out: bool


@dataclass
class _Progress:
    """Where the levels have come to."""

    x: Floats
    deadline: float
    timed_out: bool = False
    bounds: dict[Goal | int, float] = field(default_factory=dict)
    bound_rows: list[Level] = field(default_factory=list)

    def seconds(self) -> float:
        """Time that is left."""
        left = self.deadline - time.monotonic()
        self.timed_out |= left <= 0
        return max(left, 0.01)


def exact(
    candidates: Candidates, resources: Resources, settings: Settings, start: Sequence[Choice]
) -> tuple[dict[int, int], Proof]:
    """Share what is limited as well as can be.

    Args:
        candidates: The candidates.
        resources: What is shared.
        settings: Solver (how much work it may do) and time limit.
        start: A plan that is not to be undercut.

    Returns:
        The row of the candidates that each served service takes, and what was proved.
    """
    largest = _SMALL[settings.solver]
    held = sum(holding is not None for holding in candidates.holdings)
    written = formulate(candidates, resources, break_ties=0 < held <= largest)
    small = len(written.rows) <= largest
    relaxation = Relaxation(written.program)
    point = written.point(start)
    if not written.program.holds(point):
        # Reservations that shrank in another order: start from nobody served.
        point = np.zeros(written.program.matrix.columns)
        point[len(written.rows) :] = written.program.upper[len(written.rows) :]
    progress = _Progress(x=point, deadline=time.monotonic() + settings.time_limit)
    for level in written.levels:
        _minimise(written, relaxation, level, progress, settings, small=small)
    return written.chosen(progress.x), _prove(written, relaxation, resources, progress)


def _minimise(
    written: Formulation,
    relaxation: Relaxation,
    level: Level,
    progress: _Progress,
    settings: Settings,
    *,
    small: bool,
) -> None:
    """Take one level: relax, make whole, remember the bound, make it a constraint."""
    counts = level.goal is Goal.UNSERVED
    found = level.constant + float(level.cost @ progress.x)
    bound = level.constant + float(np.minimum(level.cost, 0.0) @ np.ones(len(level.cost)))
    if not (level.goal in (Goal.UNSERVED, Goal.GIVEN_UP, Goal.BURST) and found <= _TOLERANCE):
        relaxed = relaxation.solve(level.cost, progress.seconds())
        if relaxed is not None:
            bound = _whole(level.constant + relaxed.bound) if counts else level.constant + relaxed.bound
            better = None
            if found > bound + _TOLERANCE:
                effort = Effort(_NODES[settings.solver], 0.0, progress.seconds())
                if not small:
                    near = 0.5 if counts else _NEAR[settings.solver] * abs(relaxed.bound)
                    effort = Effort(
                        nodes=_REPAIR_NODES[settings.solver],
                        relative_gap=_REPAIR_GAP,
                        seconds=progress.seconds(),
                        target=bound - level.constant + near,
                    )
                better = (
                    integer_solution(relaxation.program, level.cost, effort, progress.x)
                    if small
                    else _repair(written, relaxation, level, relaxed, effort)
                )
            if better is not None:
                progress.timed_out |= better.timed_out
                if small:
                    proved = level.constant + better.bound
                    bound = max(bound, _whole(proved) if counts else proved)
                if level.constant + better.objective < found - _TOLERANCE and relaxation.program.holds(
                    better.x
                ):
                    progress.x = better.x
    else:
        bound = 0.0
    found = float(level.cost @ progress.x)
    limit = round(found) if counts else found + _TOLERANCE
    relaxation.bound_row(level.row, -np.inf, limit)
    progress.bound_rows.append(level)
    if counts:
        progress.bounds[level.priority] = min(bound, level.constant + found)
    else:
        progress.bounds[level.goal] = min(bound, found)


def _whole(bound: float) -> float:
    return float(np.ceil(bound - _TOLERANCE))


def _repair(
    written: Formulation,
    relaxation: Relaxation,
    level: Level,
    relaxed: Solution,
    effort: Effort,
) -> Solution | None:
    """Make a solution of the relaxation whole: only candidates that lose little by it may come in."""
    choices = len(written.rows)
    x, services = relaxed.x[:choices], written.services
    idle = np.flatnonzero(x < _TOLERANCE)
    order = idle[np.argsort(relaxed.reduced_cost[idle], kind="stable")]
    base = relaxed.x.copy()
    base[:choices] = np.round(base[:choices])
    for newcomers in _NEWCOMERS:
        entering = np.zeros(choices, dtype=bool)
        entering[order[:newcomers]] = True
        open_services = np.bincount(services[entering], minlength=int(services.max()) + 1) > 0
        free = entering | ((x >= _TOLERANCE) & (open_services[services] | (x < 1 - _TOLERANCE)))
        columns: Ints = np.concatenate([np.flatnonzero(free), choices + np.arange(len(written.givers))])
        found = integer_solution(relaxation.program, level.cost, effort, base, columns)
        if found is not None:
            return found
    return None


def _prove(written: Formulation, relaxation: Relaxation, resources: Resources, progress: _Progress) -> Proof:
    """Bounds, and what one more unit of each type would save with the levels as they are."""
    value = next(level for level in written.levels if level.goal is Goal.VALUE)
    for level in written.levels:
        if level.goal in (Goal.VALUE, Goal.MOVES, Goal.CHANGE):
            relaxation.bound_row(level.row, -np.inf, np.inf)
    prices: dict[str, float] = {}
    rows: dict[str, list[int]] = {}
    for i, resource in enumerate(resources.resources):
        if resource.kind in (Kind.UNITS, Kind.NODES):
            rows.setdefault(resource.name, []).append(i)
    base = relaxation.solve(value.cost, progress.seconds())
    if base is not None:
        for name, here in rows.items():
            prices[name] = _price(relaxation, value, base, here, resources, progress)
    lower_bound = progress.bounds[Goal.VALUE]
    held_back = [level for level in written.levels if level.goal in (Goal.GIVEN_UP, Goal.BURST)]
    if held_back:
        for level in held_back:
            relaxation.bound_row(level.row, -np.inf, np.inf)
        freed = relaxation.solve(value.cost, progress.seconds())
        lower_bound = min(lower_bound, freed.bound) if freed is not None else -np.inf
    return Proof(
        unserved_bound={int(p): round(b) for p, b in progress.bounds.items() if not isinstance(p, Goal)},
        lower_bound=float(lower_bound),
        prices=prices,
        timed_out=progress.timed_out,
    )


def _price(
    relaxation: Relaxation,
    value: Level,
    base: Solution,
    rows: Sequence[int],
    resources: Resources,
    progress: _Progress,
) -> float:
    if all(abs(base.row_dual[i]) < _TOLERANCE for i in rows):
        return 0.0
    before = {i: float(relaxation.program.row_upper[i]) for i in rows}
    for i, limit in before.items():
        relaxation.bound_row(i, -np.inf, limit + 1 / resources.resources[i].piece)
    more = relaxation.solve(value.cost, progress.seconds())
    for i, limit in before.items():
        relaxation.bound_row(i, -np.inf, limit)
    return round(max(base.objective - more.objective, 0.0), 4) if more is not None else 0.0
