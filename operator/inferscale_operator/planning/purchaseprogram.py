"""The program of a purchase: a column for every candidate, and one for the units bought of every type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from inferscale_queueing.frozen import frozen
from inferscale_solver import Candidates
from inferscale_solver.prediction import Floats, Ints
from inferscale_solver.program import Program, matrix
from inferscale_solver.resources import Resources

TOLERANCE = 1e-6
# What the cost of what is used counts beside the cost of what is bought where both are relaxed.
_RUNNING = 1e-3


@frozen
class Market:
    """What there is, what one may buy."""

    free: Mapping[str, int]
    """Units of each type that need not be bought."""
    prices: Mapping[str, float]
    """Cost per hour of a unit of each type, by type in order; all types."""
    quotas: Resources
    budget: float | None = None
    """Most that is bought may cost an hour."""


def units_of(found: Candidates, row: int) -> int:
    """Units of its type that a candidate takes."""
    return int(found.replicas[row] * found.units_per_replica[row])


def purchase_cost(found: Candidates, market: Market, row: int) -> float:
    """What a candidate costs where all of it is bought."""
    return units_of(found, row) * market.prices[found.profiles[row].type]


@frozen
class PurchaseProgram:
    """The program. Columns: candidates, units bought by type. Rows: services, types, levels, cost, quotas."""

    found: Candidates
    market: Market
    program: Program
    rows: Ints
    """The row of the candidates that each of the first columns stands for."""
    services: Ints
    """Its service."""
    priorities: tuple[int, ...]
    levels: tuple[Floats, ...]
    """By priority, what counts the served services, negative."""
    spent: Floats
    used: Floats
    level_row: int
    """The row of the first priority; that of the cost comes after the last."""

    @property
    def cost_row(self) -> int:
        """The row of the cost of what is bought."""
        return self.level_row + len(self.priorities)

    def goal(self) -> Floats:
        """What the relaxation minimises: what is bought, and of equal purchases what is used."""
        return self.spent + _RUNNING * self.used

    def columns_of(self, service: int) -> range:
        """The columns of a service."""
        first, end = np.searchsorted(self.services, [service, service + 1]).tolist()
        return range(first, end)

    def rows_of(self, x: Floats) -> dict[int, int]:
        """What a point chooses."""
        taken = np.flatnonzero(x[: len(self.rows)] > 0.5)
        return dict(zip(self.services[taken].tolist(), self.rows[taken].tolist(), strict=True))

    def rank(self, x: Floats) -> tuple[float, ...]:
        """How good a whole point is, the least best."""
        goals = [*(round(float(level @ x)) for level in self.levels), float(self.spent @ x)]
        return (*(round(goal, 6) for goal in goals), float(self.used @ x))

    def greedy(self, fixed: Mapping[int, int | None]) -> Floats:
        """A whole point: the first priority first, of one priority what costs least, as far as limits allow.

        Args:
            fixed: The column that services take, None for none; the others are free.
        """
        point = _Point(self)
        for column in fixed.values():
            if column is not None:
                point.take(column)
        first = np.searchsorted(self.services, np.arange(len(self.found.services) + 1)).tolist()
        able = [i for i in range(len(self.found.services)) if first[i] < first[i + 1] and i not in fixed]
        spend = {i: purchase_cost(self.found, self.market, int(self.rows[first[i]])) for i in able}
        for service in sorted(able, key=lambda i: (self.found.services[i].priority, spend[i], i)):
            columns = range(first[service], first[service + 1])
            fitting = [(point.increase(column), column) for column in columns if point.fits(column)]
            if fitting:
                point.take(min(fitting)[1])
        return point.x()


class _Point:
    """A whole point in the making."""

    def __init__(self, written: PurchaseProgram) -> None:
        self._written = written
        self._kinds = {kind: i for i, kind in enumerate(written.market.prices)}
        self._needed = np.zeros(len(self._kinds))
        self._free = np.array([float(written.market.free.get(kind, 0)) for kind in self._kinds])
        self._prices = np.array(list(written.market.prices.values()))
        self._left = np.array([quota.limit for quota in written.market.quotas.resources])
        self._taken: list[int] = []

    def increase(self, column: int) -> float:
        """What taking a candidate adds to the cost of what is bought."""
        found, row = self._written.found, int(self._written.rows[column])
        kind = self._kinds[found.profiles[row].type]
        here, free = self._needed[kind], self._free[kind]
        return float(max(here + units_of(found, row) - max(here, free), 0.0) * self._prices[kind])

    def fits(self, column: int) -> bool:
        """Whether a candidate is within the budget and the quotas."""
        written, row = self._written, int(self._written.rows[column])
        budget = written.market.budget
        replicas = int(written.found.replicas[row])
        return (budget is None or self._spent() + self.increase(column) <= budget + TOLERANCE) and all(
            amount * replicas <= self._left[i] + TOLERANCE for i, amount in written.market.quotas.rows[row]
        )

    def take(self, column: int) -> None:
        """Take a candidate."""
        written, row = self._written, int(self._written.rows[column])
        self._needed[self._kinds[written.found.profiles[row].type]] += units_of(written.found, row)
        for i, amount in written.market.quotas.rows[row]:
            self._left[i] -= amount * int(written.found.replicas[row])
        self._taken.append(column)

    def x(self) -> Floats:
        """The point, with what must be bought for it."""
        x = np.zeros(self._written.program.matrix.columns)
        x[self._taken] = 1.0
        x[len(self._written.rows) :] = np.maximum(self._needed - self._free, 0.0)
        return x

    def _spent(self) -> float:
        return float(np.maximum(self._needed - self._free, 0.0) @ self._prices)


def purchase_program(found: Candidates, market: Market, ranked: Sequence[Sequence[int]]) -> PurchaseProgram:
    """Write the program.

    Args:
        found: The candidates.
        market: What there is, and prices.
        ranked: The rows of every service that are of use, the cheapest to buy first.
    """
    rows = [row for here in ranked for row in here]
    services = [service for service, here in enumerate(ranked) for _ in here]
    kinds = list(market.prices)
    priorities = sorted({found.services[service].priority for service in services})
    type_row = {kind: len(ranked) + i for i, kind in enumerate(kinds)}
    level_row = len(ranked) + len(kinds)
    cost_row = level_row + len(priorities)
    limits = [quota.limit for quota in market.quotas.resources]
    columns: list[list[tuple[int, float]]] = [
        [
            (service, 1.0),
            (type_row[found.profiles[row].type], float(units_of(found, row))),
            (level_row + priorities.index(found.services[service].priority), -1.0),
            *((cost_row + 1 + i, amount * int(found.replicas[row])) for i, amount in market.quotas.rows[row]),
        ]
        for service, row in zip(services, rows, strict=True)
    ]
    columns += [[(type_row[kind], -1.0), (cost_row, market.prices[kind])] for kind in kinds]
    width, count = len(columns), len(rows)
    levels = np.zeros((len(priorities), width))
    for column, service in enumerate(services):
        levels[priorities.index(found.services[service].priority), column] = -1.0
    spent, used = np.zeros(width), np.zeros(width)
    spent[count:] = list(market.prices.values())
    used[:count] = [found.cost[row] for row in rows]
    # A free type is not bought for nothing.
    used[count:] = TOLERANCE
    most = float(sum(units_of(found, row) for row in rows))
    return PurchaseProgram(
        found=found,
        market=market,
        program=Program(
            matrix=matrix(cost_row + 1 + len(limits), columns),
            upper=np.concatenate([np.ones(count), np.full(len(kinds), most)]),
            # What is bought is whole where everything else is.
            integer=np.concatenate([np.ones(count), np.zeros(len(kinds))]).astype(np.int64),
            row_lower=np.full(cost_row + 1 + len(limits), -np.inf),
            row_upper=np.concatenate(
                [
                    np.ones(len(ranked)),
                    [float(market.free.get(kind, 0)) for kind in kinds],
                    np.full(len(priorities), np.inf),
                    [np.inf if market.budget is None else market.budget],
                    limits,
                ]
            ),
        ),
        rows=np.array(rows, dtype=np.int64),
        services=np.array(services, dtype=np.int64),
        priorities=tuple(priorities),
        levels=tuple(levels),
        spent=spent,
        used=used,
        level_row=level_row,
    )
