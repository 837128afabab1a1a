"""Linear and mixed-integer programs in arrays, solved by HiGHS: equal input gives equal output."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import highspy
import numpy as np

from inferscale_queueing.frozen import frozen
from inferscale_solver.prediction import Floats, Ints

_SEED = 0
_DUAL, _PRIMAL = 1, 4
LOWER, BASIC, UPPER = (
    int(status)
    for status in (
        highspy.HighsBasisStatus.kLower,
        highspy.HighsBasisStatus.kBasic,
        highspy.HighsBasisStatus.kUpper,
    )
)


@frozen
class Matrix:
    """A sparse matrix by columns."""

    rows: int
    starts: Ints
    """Shape (columns + 1,)."""
    index: Ints
    values: Floats

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self.starts) - 1

    def times(self, x: Floats) -> Floats:
        """The product with a vector of shape (columns,)."""
        weights = self.values * np.repeat(x, np.diff(self.starts))
        return np.bincount(self.index, weights=weights, minlength=self.rows).astype(np.float64)

    def transposed_times(self, y: Floats) -> Floats:
        """The product of the transposed matrix with a vector of shape (rows,)."""
        owner = np.repeat(np.arange(self.columns), np.diff(self.starts))
        weights = self.values * y[self.index]
        return np.bincount(owner, weights=weights, minlength=self.columns).astype(np.float64)

    def select(self, chosen: Ints) -> Matrix:
        """The matrix of some columns, in that order."""
        lengths = np.diff(self.starts)[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        positions = np.repeat(self.starts[chosen] - starts[:-1], lengths) + np.arange(starts[-1])
        return Matrix(self.rows, starts, self.index[positions], self.values[positions])

    def renumbered(self, rows: int, number: Ints) -> Matrix:
        """The matrix with another number for each row that an entry is in."""
        return Matrix(rows, self.starts, number[self.index], self.values)


def matrix(rows: int, columns: Sequence[Sequence[tuple[int, float]]]) -> Matrix:
    """A matrix from the (row, value) pairs of each column."""
    starts = np.concatenate([[0], np.cumsum([len(column) for column in columns])]).astype(np.int64)
    index = np.array([i for column in columns for i, _ in column], dtype=np.int64)
    values = np.array([value for column in columns for _, value in column], dtype=np.float64)
    return Matrix(rows, starts, index, values)


@frozen
class Program:
    """Columns x in [0, upper] with rows lower ≤ A x ≤ upper; `integer` columns are whole in the MILP."""

    matrix: Matrix
    upper: Floats
    integer: Ints
    row_lower: Floats
    row_upper: Floats

    def with_slack(self, rows: Ints, most: int) -> Program:
        """The program with one more, whole column for each of some rows, to loosen its upper limit by."""
        last, count = int(self.matrix.starts[-1]), len(rows)
        longer = Matrix(
            self.matrix.rows,
            np.append(self.matrix.starts, last + 1 + np.arange(count)),
            np.append(self.matrix.index, rows),
            np.append(self.matrix.values, -np.ones(count)),
        )
        return replace(
            self,
            matrix=longer,
            upper=np.append(self.upper, np.full(count, float(most))),
            integer=np.append(self.integer, np.ones(count, dtype=np.int64)),
        )

    def holds(self, x: Floats, tolerance: float = 1e-6) -> bool:
        """Whether a point satisfies every row and bound."""
        activity, slack = self.matrix.times(x), tolerance * (1 + np.abs(self.row_upper))
        slack = np.where(np.isfinite(slack), slack, tolerance)
        inside = (activity <= self.row_upper + slack) & (activity >= self.row_lower - slack)
        return bool(inside.all() and (x <= self.upper + tolerance).all() and (x >= -tolerance).all())


@frozen
class Effort:
    """How much work a solve may do."""

    nodes: int
    gap: float = 0.0
    """What the objective may be above its bound."""
    seconds: float = 60.0
    target: float = -np.inf
    """An objective that is good enough."""
    relative_gap: float = 0.0
    """The same as a fraction of the objective; either is enough."""
    reduced: bool = False
    """Whether the program is a core, in which a presolve finds little."""


@frozen
class Solution:
    """What a solve found."""

    x: Floats
    objective: float
    bound: float
    """No point has a lower objective."""
    reduced_cost: Floats
    row_dual: Floats
    timed_out: bool = False


@frozen
class Basis:
    """Which columns and rows are basic (`BASIC`), and at which bound the others are (`LOWER`, `UPPER`)."""

    columns: Ints
    rows: Ints


class Clock:
    """The time that is left."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self.ran_out = False

    def left(self) -> float:
        """Seconds that a solve may take; remembered if there are none."""
        left = self._deadline - time.monotonic()
        self.ran_out |= left <= 0
        return max(left, 1e-3)


class Relaxation:
    """The linear relaxation of a program, solved again and again with other costs and row limits."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._cost: Floats | None = None
        self._highs = _highs(program, np.zeros(program.matrix.columns), integer=False)

    def solve(self, cost: Floats, seconds: float, basis: Basis | None = None) -> Solution | None:
        """Minimise a cost; None where the time ran out first.

        Args:
            cost: Shape (columns,).
            seconds: The time that is left.
            basis: Where to begin, with reduced costs that are right; None: where the last solve ended.
        """
        columns = np.arange(self.program.matrix.columns, dtype=np.int32)
        if self._cost is None or not np.array_equal(cost, self._cost):
            # The last basis stays feasible when costs change, and optimal in its costs when limits do.
            self._highs.setOptionValue("simplex_strategy", _DUAL if self._cost is None else _PRIMAL)
            self._highs.changeColsCost(len(columns), columns, cost)
            self._cost = cost
        else:
            self._highs.setOptionValue("simplex_strategy", _DUAL)
        if basis is not None:
            self._highs.setOptionValue("simplex_strategy", _DUAL)
            self._highs.setBasis(_highs_basis(basis))
        self._highs.setOptionValue("time_limit", self._highs.getRunTime() + seconds)
        self._highs.run()
        if self._highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        found, objective = self._highs.getSolution(), self._highs.getObjectiveValue()
        return Solution(
            x=np.asarray(found.col_value),
            objective=objective,
            bound=objective,
            reduced_cost=np.asarray(found.col_dual),
            row_dual=np.asarray(found.row_dual),
        )

    def basis(self) -> Basis:
        """Where the last solve ended."""
        basis = self._highs.getBasis()
        return Basis(
            np.array([int(status) for status in basis.col_status], dtype=np.int64),
            np.array([int(status) for status in basis.row_status], dtype=np.int64),
        )

    def fix(self, columns: range, chosen: int | None) -> None:
        """Set one of some columns to 1 and the others to 0; None: all to 0."""
        for column in columns:
            value = float(column == chosen)
            self._highs.changeColBounds(column, value, value)

    def release(self, columns: range) -> None:
        """Let columns go that were fixed."""
        for column in columns:
            self._highs.changeColBounds(column, 0.0, float(self.program.upper[column]))

    def limit(self, row: int, upper: float) -> None:
        """Change the upper limit of a row, here and in the program."""
        row_upper = self.program.row_upper.copy()
        row_upper[row] = upper
        self.program = replace(self.program, row_upper=row_upper)
        self._highs.changeRowBounds(row, float(self.program.row_lower[row]), float(upper))


def integer_solution(
    program: Program, cost: Floats, effort: Effort, start: Floats | None = None, free: Ints | None = None
) -> Solution | None:
    """Minimise a cost over whole `integer` columns.

    Args:
        program: The program.
        cost: Shape (columns,).
        effort: When to stop.
        start: A point to start from if it is one of the program; the columns that are not free keep its
            values.
        free: The columns that may change; None: all.

    Returns:
        The best point found with a proven bound (of the free columns only, where some are not); None where
        none was found.
    """
    if free is not None and start is not None:
        rest = start.copy()
        rest[free] = 0.0
        activity = program.matrix.times(rest)
        part = Program(
            matrix=program.matrix.select(free),
            upper=program.upper[free],
            integer=program.integer[free],
            row_lower=program.row_lower - activity,
            row_upper=program.row_upper - activity,
        )
        fixed = float(cost @ rest)
        within = replace(effort, target=effort.target - fixed)
        inside = start[free] if part.holds(start[free]) else None
        found = integer_solution(_touched(part), cost[free], within, inside)
        if found is None:
            return None
        rest[free] = found.x
        return replace(found, x=rest, objective=found.objective + fixed, bound=found.bound + fixed)
    highs = _highs(program, cost, integer=True)
    # These take more time than they save here.
    for option in (
        "mip_allow_restart",
        "mip_detect_symmetry",
        "mip_heuristic_run_feasibility_jump",
        "mip_heuristic_run_root_reduced_cost",
    ):
        highs.setOptionValue(option, False)
    if effort.reduced:
        highs.setOptionValue("presolve", "off")
    highs.setOptionValue("mip_max_nodes", effort.nodes)
    highs.setOptionValue("mip_rel_gap", effort.relative_gap)
    highs.setOptionValue("mip_abs_gap", max(effort.gap, 1e-7))
    highs.setOptionValue("time_limit", effort.seconds)
    if np.isfinite(effort.target):
        highs.setOptionValue("objective_target", effort.target)
    if start is not None:
        guess = highspy.HighsSolution()
        guess.col_value = start.tolist()
        highs.setSolution(guess)
    highs.run()
    info, status = highs.getInfo(), highs.getModelStatus()
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None
    x = np.asarray(highs.getSolution().col_value)
    x[program.integer > 0] = np.round(x[program.integer > 0])
    return Solution(
        x=x,
        objective=float(cost @ x),
        bound=float(info.mip_dual_bound),
        reduced_cost=np.zeros(0),
        row_dual=np.zeros(0),
        timed_out=status == highspy.HighsModelStatus.kTimeLimit,
    )


def _highs_basis(basis: Basis) -> highspy.HighsBasis:
    statuses = {
        int(status): status
        for status in (
            highspy.HighsBasisStatus.kLower,
            highspy.HighsBasisStatus.kBasic,
            highspy.HighsBasisStatus.kUpper,
        )
    }
    written = highspy.HighsBasis()
    written.col_status = [statuses[status] for status in basis.columns.tolist()]
    written.row_status = [statuses[status] for status in basis.rows.tolist()]
    written.valid = True
    return written


def _touched(program: Program) -> Program:
    """The program without the rows that none of its columns appears in."""
    touched = np.zeros(program.matrix.rows, dtype=bool)
    touched[program.matrix.index] = True
    return replace(
        program,
        matrix=program.matrix.renumbered(int(touched.sum()), np.cumsum(touched) - 1),
        row_lower=program.row_lower[touched],
        row_upper=program.row_upper[touched],
    )


def _highs(program: Program, cost: Floats, *, integer: bool) -> highspy.Highs:
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = program.matrix.columns, program.matrix.rows
    lp.col_cost_ = cost
    lp.col_lower_, lp.col_upper_ = np.zeros(program.matrix.columns), program.upper
    lp.row_lower_, lp.row_upper_ = program.row_lower, program.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = program.matrix.starts.astype(np.int32)
    lp.a_matrix_.index_ = program.matrix.index.astype(np.int32)
    lp.a_matrix_.value_ = program.matrix.values
    if integer:
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[whole] for whole in program.integer.tolist()]
    highs = highspy.Highs()  # type: ignore[no-untyped-call]
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    highs.setOptionValue("random_seed", _SEED)
    highs.passModel(lp)
    return highs
