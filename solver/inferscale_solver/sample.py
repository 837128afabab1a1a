"""Where to begin a large relaxation: at the prices of a sample of its services.

The relaxation of every k-th service with a k-th of what is shared takes no time, and has nearly the prices of
the whole. At them each of the other services has one best option. With the basis of the sample these are a
basis of the whole whose reduced costs are right and whose activities nearly are, so that the dual simplex
method has little left to do.
"""

from __future__ import annotations

import numpy as np

from inferscale_solver.formulation import Formulation, Goal, Level
from inferscale_solver.prediction import Floats, Ints
from inferscale_solver.program import BASIC, LOWER, UPPER, Basis, Clock, Program, Relaxation, Solution

WIDE = 10_000
"""Candidates above which a sample is worth its while."""
# Services of a sample, about.
_SIZE = 1_000


class Sample:
    """A part of the services, relaxed level by level along with the whole."""

    def __init__(self, written: Formulation) -> None:
        """Draw every k-th service of each priority, in the order of their names."""
        self._written = written
        program, count = written.program, written.services_count
        priorities = np.zeros(count, dtype=np.int64)
        for level in written.levels:
            if level.goal is Goal.UNSERVED:
                priorities[written.services[np.flatnonzero(level.cost[: len(written.rows)])]] = level.priority
        drawn = np.zeros(count, dtype=bool)
        drawn[np.argsort(priorities, kind="stable")[:: max(round(count / _SIZE), 1)]] = True
        givers = np.array(written.givers, dtype=np.int64)
        shared = np.ones(program.matrix.rows, dtype=bool)
        shared[written.limits : written.levels[0].row] = False
        self._share = float(drawn.mean())
        self._shared = shared
        self._columns: Ints = np.flatnonzero(np.concatenate([drawn[written.services], drawn[givers]]))
        self._rows: Ints = np.flatnonzero(
            np.concatenate([shared[: written.limits], drawn, drawn[givers], shared[written.levels[0].row :]])
        )
        self._of: Ints = np.cumsum(np.isin(np.arange(program.matrix.rows), self._rows)) - 1
        scale = np.where(shared, self._share, 1.0)
        matrix = program.matrix.select(self._columns)
        self._relaxation = Relaxation(
            Program(
                matrix=matrix.renumbered(len(self._rows), self._of),
                upper=program.upper[self._columns],
                integer=program.integer[self._columns],
                row_lower=program.row_lower[self._rows],
                row_upper=(program.row_upper * scale)[self._rows],
            )
        )

    def begin(self) -> None:
        """Take the limits of all levels away."""
        for level in self._written.levels:
            self._relaxation.limit(int(self._of[level.row]), np.inf)

    def relax(self, level: Level, clock: Clock) -> tuple[float, Basis] | None:
        """Relax a level of the sample.

        Args:
            level: The level.
            clock: When to stop.

        Returns:
            Its objective without the constant, and where to begin with the whole; None if the time ran out.
        """
        relaxed = self._relaxation.solve(level.cost[self._columns], clock.left())
        return None if relaxed is None else (relaxed.objective, self._basis(level.cost, relaxed))

    def limit(self, level: Level, objective: float, spare: float) -> None:
        """Limit a level to its objective and what is to spare at it in the whole."""
        self._relaxation.limit(int(self._of[level.row]), objective + self._share * max(spare, 0.0))

    def _basis(self, cost: Floats, relaxed: Solution) -> Basis:
        """The basis of the sample, and for every other service its best option at the same prices."""
        written, matrix = self._written, self._written.program.matrix
        choices, limits = len(written.rows), written.limits
        count, givers = written.services_count, np.array(written.givers, dtype=np.int64)
        links = limits + count + np.arange(len(givers))
        prices = np.zeros(matrix.rows)
        prices[self._rows] = relaxed.row_dual
        prices[~self._shared] = 0.0
        given = (cost - matrix.transposed_times(prices))[choices:]
        prices[links] = np.minimum(given, 0.0)
        net = (cost - matrix.transposed_times(prices))[:choices]
        order = np.lexsort((net, written.services))
        owners, first = np.unique(written.services[order], return_index=True)
        best = order[first]
        taken = net[best] < 0
        columns, rows = np.full(matrix.columns, LOWER), np.full(matrix.rows, BASIC)
        columns[best[taken]], rows[limits + owners[taken]] = BASIC, UPPER
        columns[choices:][given < 0], rows[links[given < 0]] = BASIC, UPPER
        basis = self._relaxation.basis()
        columns[self._columns], rows[self._rows] = basis.columns, basis.rows
        return Basis(columns, rows)
