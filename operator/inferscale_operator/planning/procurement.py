"""Procurement: which candidate every service takes so that what must be bought costs least.

Objectives in order: services unserved at priority 1, 2, …, cost of what is bought, cost of what is used.
Where nothing is owned and there are no quotas every service has its cheapest candidate, and a budget takes
the cheapest services of each priority first, which is exact. Otherwise it is a program with a column for
every candidate and one for the units bought of every type, of which the linear relaxation is solved, and an
integer program over the candidates that lose least by its prices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from inferscale_queueing.frozen import frozen
from inferscale_solver import Candidates
from inferscale_solver.prediction import Floats, Ints
from inferscale_solver.program import Effort, Program, Relaxation, Solution, integer_solution, matrix
from inferscale_solver.resources import Resources

# Columns up to which the whole integer program is solved, and those that it has of larger ones.
_SMALL, _CORE = 300, 200
_THOROUGH = Effort(nodes=10_000, relative_gap=1e-6)
_BRIEF = Effort(nodes=200, relative_gap=1e-4, reduced=True)
# Services that are decided one by one: as many as the size of the relaxation allows, but no more than this.
_ROUNDS, _WORK, _OPTIONS = 60, 400_000, 3
_SECONDS = 60.0
# What the cost of what is used counts beside the cost of what is bought where both are relaxed.
_RUNNING = 1e-3
_TOLERANCE = 1e-6


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


@frozen
class Procurement:
    """Which candidate every service takes, and what is proved about it."""

    rows: Mapping[int, int]
    """Row of the candidates, by position of a service that is served."""
    unserved_bound: Mapping[int, int]
    """Services that have candidates and that no purchase serves, by priority, with the earlier priorities
    as they are here."""
    lower_bound: float
    """No purchase that leaves no more unserved at any priority costs less."""


def procure(found: Candidates, market: Market) -> Procurement:
    """Decide what is bought.

    Args:
        found: The candidates.
        market: What there is, and prices.
    """
    ranked = tuple(_undominated(found, market, service) for service in range(len(found.services)))
    if not market.quotas.resources and not any(market.free.values()):
        return _separate(found, market, ranked)
    written = _write(found, market, ranked)
    relaxation = Relaxation(written.program)
    relaxed, bounds = _relax(written, relaxation)
    if relaxed is None:
        return Procurement(written.rows_of(written.greedy({})), {}, 0.0)
    x, bound = _whole(written, relaxation, relaxed)
    return _proved(written, relaxation, x, bounds, bound)


def units_of(found: Candidates, row: int) -> int:
    """Units of its type that a candidate takes."""
    return int(found.replicas[row] * found.units_per_replica[row])


def _spend(found: Candidates, market: Market, row: int) -> float:
    """What a candidate costs where all of it is bought."""
    return units_of(found, row) * market.prices[found.profiles[row].type]


def _undominated(found: Candidates, market: Market, service: int) -> tuple[int, ...]:
    """The rows of a service for which no other of the type takes as few units and costs as little.

    The cheapest to buy first, then the cheapest to use, then as the solver prefers them.
    """
    kept: list[int] = []
    order = sorted(
        found.ranked[service], key=lambda row: (_spend(found, market, row), float(found.cost[row]))
    )
    for row in order:
        better = (
            other
            for other in kept
            if found.profiles[other].type == found.profiles[row].type and found.cost[other] <= found.cost[row]
        )
        # Quotas count units of a type too.
        if not any(units_of(found, other) <= units_of(found, row) for other in better):
            kept.append(row)
    return tuple(kept)


def _separate(found: Candidates, market: Market, ranked: Sequence[Sequence[int]]) -> Procurement:
    """Every service by itself; of those that a budget cannot serve all the cheapest of a priority first."""
    able = [service for service, rows in enumerate(ranked) if rows]
    spend = {service: _spend(found, market, ranked[service][0]) for service in able}
    rows: dict[int, int] = {}
    unserved = dict.fromkeys(sorted({service.priority for service in found.services}), 0)
    spent = 0.0
    limit = np.inf if market.budget is None else market.budget
    for service in sorted(able, key=lambda i: (found.services[i].priority, spend[i], i)):
        if spent + spend[service] <= limit * (1 + _TOLERANCE**2):
            spent += spend[service]
            rows[service] = ranked[service][0]
        else:
            unserved[found.services[service].priority] += 1
    return Procurement(rows, unserved, spent)


@frozen
class _Written:
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
        spend = {i: _spend(self.found, self.market, int(self.rows[first[i]])) for i in able}
        for service in sorted(able, key=lambda i: (self.found.services[i].priority, spend[i], i)):
            columns = range(first[service], first[service + 1])
            fitting = [(point.increase(column), column) for column in columns if point.fits(column)]
            if fitting:
                point.take(min(fitting)[1])
        return point.x()


class _Point:
    """A whole point in the making."""

    def __init__(self, written: _Written) -> None:
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
        return (budget is None or self._spent() + self.increase(column) <= budget + _TOLERANCE) and all(
            amount * replicas <= self._left[i] + _TOLERANCE for i, amount in written.market.quotas.rows[row]
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


def _write(found: Candidates, market: Market, ranked: Sequence[Sequence[int]]) -> _Written:
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
    used[count:] = _TOLERANCE
    most = float(sum(units_of(found, row) for row in rows))
    return _Written(
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


def _relax(written: _Written, relaxation: Relaxation) -> tuple[Solution | None, tuple[float, ...]]:
    """Relax every level, each limited before the next: the cheapest purchase, and what each level reached."""
    reached: list[float] = []
    limited = written.market.budget is not None or bool(written.market.quotas.resources)
    for i, level in enumerate(written.levels):
        able = np.unique(written.services[level[: len(written.rows)] < 0]).size
        best = -float(able)
        if limited:
            relaxed = relaxation.solve(level, _SECONDS)
            if relaxed is None:
                return None, tuple(reached)
            best = float(np.ceil(relaxed.bound - _TOLERANCE))
        reached.append(best)
        relaxation.limit(written.level_row + i, best)
    return relaxation.solve(written.goal(), _SECONDS), tuple(reached)


def _whole(written: _Written, relaxation: Relaxation, relaxed: Solution) -> tuple[Floats, float]:
    """A whole point.

    Args:
        written: The program.
        relaxation: Its relaxation, with its levels limited.
        relaxed: Its solution by what is bought and used.

    Returns:
        The point, and a bound of the cost of what is bought with the levels limited so, where one was found.
    """
    limited, small = relaxation.program, len(written.rows) <= _SMALL
    x, bound = written.greedy({}), -np.inf
    free = np.arange(limited.matrix.columns)
    if not small:
        x = min(x, written.greedy(_dive(written, relaxation, relaxed)), key=written.rank)
        free = _core(written, relaxed, x)
    effort = _THOROUGH if small else _BRIEF
    program, as_limited = replace(limited, row_upper=written.program.row_upper.copy()), True
    goals = [*((written.level_row + i, level) for i, level in enumerate(written.levels))]
    for row, goal in (*goals, (written.cost_row, written.spent), (None, written.used)):
        reached = float(goal @ x)
        least = float(limited.row_upper[row]) if row is not None and row < written.cost_row else -np.inf
        if reached > least + _TOLERANCE:
            better = integer_solution(program, goal, effort, x, None if small else free)
            if better is not None and better.objective < reached - _TOLERANCE:
                x, reached = better.x, better.objective
            if better is not None and row == written.cost_row and small and as_limited:
                bound = better.bound
        if row is not None:
            as_limited = as_limited and reached <= least + _TOLERANCE
            limit = reached + _TOLERANCE * max(1.0, abs(reached))
            program.row_upper[row] = min(program.row_upper[row], limit)
    return x, bound


def _dive(written: _Written, relaxation: Relaxation, relaxed: Solution) -> dict[int, int | None]:
    """Decide the dearest of the services that the relaxation splits, one after the other.

    Returns:
        The column of every service that is whole then, None for nothing.
    """
    count = len(written.rows)
    goal = written.goal()
    spend = np.array([_spend(written.found, written.market, row) for row in written.rows.tolist()])
    decided: list[range] = []
    for _ in range(min(_ROUNDS, _WORK // count)):
        x = relaxed.x[:count]
        split = np.flatnonzero((x > _TOLERANCE) & (x < 1 - _TOLERANCE))
        if not split.size:
            break
        here = written.columns_of(int(written.services[split[np.argmax(spend[split])]]))
        without = 1 - float(x[here.start : here.stop].sum())
        options: list[tuple[float, int | None]] = [(-x[j], j) for j in here if x[j] > _TOLERANCE]
        options += [(-without, None)] if without > _TOLERANCE else []
        best: tuple[Solution, int | None] | None = None
        for _, option in sorted(options, key=lambda each: each[0])[:_OPTIONS]:
            relaxation.fix(here, option)
            tried = relaxation.solve(goal, _SECONDS)
            if tried is not None and (best is None or tried.objective < best[0].objective - _TOLERANCE):
                best = tried, option
        decided.append(here)
        if best is None:
            break
        relaxation.fix(here, best[1])
        relaxed = best[0]
    for here in decided:
        relaxation.release(here)
    return _decided(written, relaxed.x[:count])


def _decided(written: _Written, x: Floats) -> dict[int, int | None]:
    """The services that a point of the relaxation does not split."""
    whole: dict[int, int | None] = {}
    for service in np.unique(written.services).tolist():
        here = written.columns_of(service)
        shares = x[here.start : here.stop]
        if shares.max() > 1 - _TOLERANCE:
            whole[service] = here.start + int(np.argmax(shares))
        elif shares.sum() < _TOLERANCE:
            whole[service] = None
    return whole


def _core(written: _Written, relaxed: Solution, x: Floats) -> Ints:
    """The columns that lose least by the prices of the relaxation, and those that their services have."""
    count = len(written.rows)
    regret = relaxed.reduced_cost[:count]
    second = np.zeros(len(written.found.services))
    for service in np.unique(written.services).tolist():
        here = written.columns_of(service)
        unserved = max(-float(relaxed.row_dual[service]), 0.0)
        second[service] = np.partition([*regret[here.start : here.stop], unserved], 1)[1]
    # A column is of use only where its service has another.
    needed = np.maximum(regret, second[written.services])
    free = np.zeros(len(x), dtype=bool)
    free[np.argsort(needed, kind="stable")[:_CORE]] = True
    changing = np.unique(written.services[free[:count]])
    free[:count] |= np.isin(written.services, changing) & (x[:count] > 0.5)
    free[count:] = True
    return np.flatnonzero(free)


def _proved(
    written: _Written, relaxation: Relaxation, x: Floats, reached: Sequence[float], bound: float
) -> Procurement:
    """A whole point with its bounds; `bound` is one where as many are served as the relaxation serves."""
    unserved: dict[int, int] = {}
    same = True
    for i, (priority, level) in enumerate(zip(written.priorities, written.levels, strict=True)):
        able = np.unique(written.services[level[: len(written.rows)] < 0]).size
        if same:
            unserved[priority] = round(able + reached[i])
        here = float(round(float(level @ x)))
        same = same and here == reached[i]
        relaxation.limit(written.level_row + i, here)
    least = relaxation.solve(written.spent, _SECONDS)
    bound = max(bound if same else 0.0, -np.inf if least is None else least.bound, 0.0)
    return Procurement(written.rows_of(x), unserved, min(bound, float(written.spent @ x)))
