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

from inferscale_operator.planning.purchaseprogram import (
    TOLERANCE,
    Market,
    PurchaseProgram,
    purchase_cost,
    purchase_program,
    units_of,
)
from inferscale_queueing.frozen import frozen
from inferscale_solver import Candidates
from inferscale_solver.prediction import Floats, Ints
from inferscale_solver.program import Effort, Relaxation, Solution, integer_solution

# Columns up to which the whole integer program is solved, and those that it has of larger ones.
_SMALL, _CORE = 300, 200
_THOROUGH = Effort(nodes=10_000, relative_gap=1e-6)
_BRIEF = Effort(nodes=200, relative_gap=1e-4, reduced=True)
# Services that are decided one by one: as many as the size of the relaxation allows, but no more than this.
_ROUNDS, _WORK, _OPTIONS = 60, 400_000, 3
_SECONDS = 60.0


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
    written = purchase_program(found, market, ranked)
    relaxation = Relaxation(written.program)
    relaxed, bounds = _relax(written, relaxation)
    if relaxed is None:
        return Procurement(written.rows_of(written.greedy({})), {}, 0.0)
    x, bound = _whole(written, relaxation, relaxed)
    return _proved(written, relaxation, x, bounds, bound)


def _undominated(found: Candidates, market: Market, service: int) -> tuple[int, ...]:
    """The rows of a service for which no other of the type takes as few units and costs as little.

    The cheapest to buy first, then the cheapest to use, then as the solver prefers them.
    """
    kept: list[int] = []
    order = sorted(
        found.ranked[service], key=lambda row: (purchase_cost(found, market, row), float(found.cost[row]))
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
    spend = {service: purchase_cost(found, market, ranked[service][0]) for service in able}
    rows: dict[int, int] = {}
    unserved = dict.fromkeys(sorted({service.priority for service in found.services}), 0)
    spent = 0.0
    limit = np.inf if market.budget is None else market.budget
    for service in sorted(able, key=lambda i: (found.services[i].priority, spend[i], i)):
        if spent + spend[service] <= limit * (1 + TOLERANCE**2):
            spent += spend[service]
            rows[service] = ranked[service][0]
        else:
            unserved[found.services[service].priority] += 1
    return Procurement(rows, unserved, spent)


def _relax(written: PurchaseProgram, relaxation: Relaxation) -> tuple[Solution | None, tuple[float, ...]]:
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
            best = float(np.ceil(relaxed.bound - TOLERANCE))
        reached.append(best)
        relaxation.limit(written.level_row + i, best)
    return relaxation.solve(written.goal(), _SECONDS), tuple(reached)


def _whole(written: PurchaseProgram, relaxation: Relaxation, relaxed: Solution) -> tuple[Floats, float]:
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
        if reached > least + TOLERANCE:
            better = integer_solution(program, goal, effort, x, None if small else free)
            if better is not None and better.objective < reached - TOLERANCE:
                x, reached = better.x, better.objective
            if better is not None and row == written.cost_row and small and as_limited:
                bound = better.bound
        if row is not None:
            as_limited = as_limited and reached <= least + TOLERANCE
            limit = reached + TOLERANCE * max(1.0, abs(reached))
            program.row_upper[row] = min(program.row_upper[row], limit)
    return x, bound


def _dive(written: PurchaseProgram, relaxation: Relaxation, relaxed: Solution) -> dict[int, int | None]:
    """Decide the dearest of the services that the relaxation splits, one after the other.

    Returns:
        The column of every service that is whole then, None for nothing.
    """
    count = len(written.rows)
    goal = written.goal()
    spend = np.array([purchase_cost(written.found, written.market, row) for row in written.rows.tolist()])
    decided: list[range] = []
    for _ in range(min(_ROUNDS, _WORK // count)):
        x = relaxed.x[:count]
        split = np.flatnonzero((x > TOLERANCE) & (x < 1 - TOLERANCE))
        if not split.size:
            break
        here = written.columns_of(int(written.services[split[np.argmax(spend[split])]]))
        without = 1 - float(x[here.start : here.stop].sum())
        options: list[tuple[float, int | None]] = [(-x[j], j) for j in here if x[j] > TOLERANCE]
        options += [(-without, None)] if without > TOLERANCE else []
        best: tuple[Solution, int | None] | None = None
        for _, option in sorted(options, key=lambda each: each[0])[:_OPTIONS]:
            relaxation.fix(here, option)
            tried = relaxation.solve(goal, _SECONDS)
            if tried is not None and (best is None or tried.objective < best[0].objective - TOLERANCE):
                best = tried, option
        decided.append(here)
        if best is None:
            break
        relaxation.fix(here, best[1])
        relaxed = best[0]
    for here in decided:
        relaxation.release(here)
    return _decided(written, relaxed.x[:count])


def _decided(written: PurchaseProgram, x: Floats) -> dict[int, int | None]:
    """The services that a point of the relaxation does not split."""
    whole: dict[int, int | None] = {}
    for service in np.unique(written.services).tolist():
        here = written.columns_of(service)
        shares = x[here.start : here.stop]
        if shares.max() > 1 - TOLERANCE:
            whole[service] = here.start + int(np.argmax(shares))
        elif shares.sum() < TOLERANCE:
            whole[service] = None
    return whole


def _core(written: PurchaseProgram, relaxed: Solution, x: Floats) -> Ints:
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
    written: PurchaseProgram, relaxation: Relaxation, x: Floats, reached: Sequence[float], bound: float
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
