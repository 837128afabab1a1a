"""What to buy: the least that serves everything, or what serves the most for a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from inferscale_operator.errors import UsageError
from inferscale_operator.planning.deck import Deck
from inferscale_operator.planning.formulate import Options, problem_of
from inferscale_operator.planning.planner import solve_problem
from inferscale_operator.planning.report import Report
from inferscale_solver import Candidates, Capacity, Outcome, Profile, SaturationPolicy, Solver, candidates
from inferscale_solver.program import Effort, Program, Solution, integer_solution, matrix
from inferscale_solver.resources import Resources, resources

_EFFORT = Effort(nodes=20_000, relative_gap=1e-6, seconds=60.0)
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Item:
    """Units of one type."""

    owned: int
    buy: int
    price: float
    """Cost per hour of a unit: the least that any accelerator of the type asks for one."""

    @property
    def cost(self) -> float:
        """Cost per hour of what is bought."""
        return self.buy * self.price


@dataclass(frozen=True)
class Purchase:
    """What to buy, and the plan on what is then there."""

    items: Mapping[str, Item]
    budget: float | None
    plan: Report

    @property
    def cost(self) -> float:
        """Cost per hour of all that is bought."""
        return math.fsum(item.cost for item in self.items.values())


def purchase(deck: Deck, now: Deck, options: Options) -> Purchase:
    """Find what to buy, beyond the capacity where accelerators are limited and from nothing otherwise.

    A mixed-integer program with the objectives in order: services unserved at priority 1, 2, …, cost of
    what is bought, cost of what is used. Each is a constraint on the next. Replicas are not placed on
    nodes, since those to be bought are not known.

    Args:
        deck: What to plan.
        now: What the files say, before any what-if.
        options: How to plan; `max_cost` is the budget, the cost per hour of what is bought.

    Raises:
        UsageError: The solver found nothing within its limits, or the deck has no meaning to it.
    """
    owned = dict(deck.units or {}) if options.limited else {}
    sizing = problem_of(deck, replace(options, limited=False, max_cost=None))
    try:
        found = candidates(sizing)
    except ValueError as error:
        raise UsageError(str(error)) from error
    servable = {service.name for service, ranked in zip(found.services, found.ranked, strict=True) if ranked}
    prices = _prices(deck.accelerators)
    chosen, bought = _decide(found, resources(sizing, found), owned, prices, options.max_cost)
    services = tuple(
        replace(
            service,
            performance=tuple(p for p in service.performance if p.profile == chosen[service.name])
            if service.name in servable
            else service.performance,
        )
        for service in sizing.services
    )
    problem = replace(
        sizing,
        services=services,
        capacity=Capacity({kind: owned.get(kind, 0) + bought[kind] for kind in prices}),
        settings=replace(sizing.settings, saturation_policy=SaturationPolicy.NONE, solver=Solver.GREEDY),
    )
    plan = solve_problem(problem, deck, now)
    limits = [
        *(["the budget"] if options.max_cost is not None else []),
        *(["the quotas"] if options.quotas else []),
    ]
    reason = f"nothing: not within {' and '.join(limits)}"
    lines = tuple(
        replace(line, reason=reason) if line.outcome is Outcome.UNSERVED and line.server in servable else line
        for line in plan.lines
    )
    items = {kind: Item(owned.get(kind, 0), bought[kind], price) for kind, price in prices.items()}
    return Purchase(items, options.max_cost, replace(plan, lines=lines, solver="purchase"))


def _prices(profiles: tuple[Profile, ...]) -> dict[str, float]:
    prices: dict[str, float] = {}
    for profile in sorted(profiles, key=lambda profile: profile.type):
        price = profile.cost / profile.multiplicity
        prices[profile.type] = min(price, prices.get(profile.type, price))
    return prices


def _decide(
    found: Candidates,
    quotas: Resources,
    owned: Mapping[str, int],
    prices: Mapping[str, float],
    budget: float | None,
) -> tuple[dict[str, str | None], dict[str, int]]:
    """The profile of every service, None for nothing, and the units to buy of every type.

    Columns: a candidate each, an `unserved` for each service, the units bought of each type. Rows: one
    choice for each service, the units of each type, the unserved of each priority, the cost bought, the
    quotas.
    """
    rows = [row for ranked in found.ranked for row in ranked]
    owner = {row: i for i, ranked in enumerate(found.ranked) for row in ranked}
    count, kinds = len(found.services), list(prices)
    priorities = sorted({service.priority for service in found.services})
    type_row = {kind: count + i for i, kind in enumerate(kinds)}
    level_row = {priority: count + len(kinds) + i for i, priority in enumerate(priorities)}
    cost_row = count + len(kinds) + len(priorities)
    units = found.replicas * found.units_per_replica
    columns: list[list[tuple[int, float]]] = [
        [
            (owner[row], 1.0),
            (type_row[found.profiles[row].type], float(units[row])),
            *((cost_row + 1 + i, amount * float(found.replicas[row])) for i, amount in quotas.rows[row]),
        ]
        for row in rows
    ]
    columns += [[(i, 1.0), (level_row[service.priority], 1.0)] for i, service in enumerate(found.services)]
    columns += [[(type_row[kind], -1.0), (cost_row, prices[kind])] for kind in kinds]
    width = len(columns)
    most = float(units[rows].sum()) if rows else 0.0
    program = Program(
        matrix=matrix(cost_row + 1 + len(quotas.resources), columns),
        upper=np.concatenate([np.ones(len(rows) + count), np.full(len(kinds), most)]),
        integer=np.ones(width, dtype=np.int64),
        row_lower=np.concatenate(
            [np.ones(count), np.full(cost_row + 1 + len(quotas.resources) - count, -np.inf)]
        ),
        row_upper=np.concatenate(
            [
                np.ones(count),
                [float(owned.get(kind, 0)) for kind in kinds],
                np.full(len(priorities), np.inf),
                [np.inf if budget is None else budget],
                [quota.limit for quota in quotas.resources],
            ]
        ),
    )
    unserved = np.zeros((len(priorities), width))
    for i, service in enumerate(found.services):
        unserved[priorities.index(service.priority), len(rows) + i] = 1.0
    spent = np.zeros(width)
    spent[width - len(kinds) :] = [prices[kind] for kind in kinds]
    running = np.zeros(width)
    running[: len(rows)] = found.cost[rows]
    # Of equal purchases the fewest units: a free type is not bought for nothing.
    running[width - len(kinds) :] = _TOLERANCE
    levels = [(level_row[priority], unserved[i]) for i, priority in enumerate(priorities)]
    solution = None
    for row, objective in (*levels, (cost_row, spent), (None, running)):
        solution = _solved(program, objective, None if solution is None else solution)
        if row is not None:
            program = _held(program, row, float(objective @ solution.x))
    x = np.zeros(width) if solution is None else solution.x
    chosen: dict[str, str | None] = {service.name: None for service in found.services}
    for position in np.flatnonzero(x[: len(rows)] > 0.5).tolist():
        row = rows[position]
        chosen[found.services[owner[row]].name] = found.profiles[row].name
    return chosen, dict(zip(kinds, np.round(x[width - len(kinds) :]).astype(int).tolist(), strict=True))


def _solved(program: Program, objective: np.ndarray, start: Solution | None) -> Solution:
    solution = integer_solution(program, objective, _EFFORT, None if start is None else start.x)
    if solution is None:
        raise UsageError("--buy: no purchase was found within the work limit: plan fewer servers at once")
    return solution


def _held(program: Program, row: int, value: float) -> Program:
    """The program with what was reached as a limit."""
    upper = program.row_upper.copy()
    upper[row] = min(upper[row], value + _TOLERANCE * max(1.0, abs(value)))
    return replace(program, row_upper=upper)
