"""What to buy: the least that serves everything, or what serves the most for a budget."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from inferscale_operator.errors import UsageError
from inferscale_operator.planning.deck import Deck
from inferscale_operator.planning.formulate import Options, problem_of
from inferscale_operator.planning.planner import solve_problem
from inferscale_operator.planning.procurement import procure
from inferscale_operator.planning.purchaseprogram import Market, units_of
from inferscale_operator.planning.report import Report
from inferscale_queueing.frozen import frozen
from inferscale_solver import (
    Candidates,
    Capacity,
    Profile,
    SaturationPolicy,
    Service,
    Solver,
    candidates,
    check,
)
from inferscale_solver.resources import resources


@frozen
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


@frozen
class Purchase:
    """What to buy, and the plan on what is then there."""

    items: Mapping[str, Item]
    budget: float | None
    lower_bound: float
    """No purchase that leaves no more unserved at any priority costs less an hour."""
    plan: Report

    @property
    def cost(self) -> float:
        """Cost per hour of all that is bought."""
        return math.fsum(item.cost for item in self.items.values())


def purchase(deck: Deck, now: Deck, options: Options) -> Purchase:
    """Find what to buy, beyond the capacity where accelerators are limited and from nothing otherwise.

    Services unserved at priority 1, 2, … come first, then the cost of what is bought, then the cost of what
    is used; see `procurement`. Who is not served within the budget gets nothing; a service without any
    candidate keeps what it has. Replicas are not placed on nodes, since those to be bought are not known.

    Args:
        deck: What to plan.
        now: What the files say, before any what-if.
        options: How to plan; `max_cost` is the budget, the cost per hour of what is bought.

    Raises:
        UsageError: The deck has no meaning to the solver.
    """
    sizing = problem_of(deck, replace(options, limited=False, max_cost=None))
    try:
        check(sizing)
        found = candidates(sizing)
    except ValueError as error:
        raise UsageError(str(error)) from error
    owned = dict(deck.units or {}) if options.limited else {}
    prices = _prices(deck.accelerators)
    kept = _kept_without_candidate(found)
    free = {kind: max(owned.get(kind, 0) - kept[kind], 0) for kind in prices}
    made = procure(found, Market(free, prices, resources(sizing, found), options.max_cost))
    bought = dict.fromkeys(prices, 0)
    for chosen in made.rows.values():
        bought[found.profiles[chosen].type] += units_of(found, chosen)
    bought = {kind: max(units - free[kind], 0) for kind, units in bought.items()}
    problem = replace(
        sizing,
        services=tuple(
            _as_chosen(service, found.profiles[row].name if (row := made.rows.get(i)) is not None else None)
            if found.ranked[i]
            else service
            for i, service in enumerate(found.services)
        ),
        capacity=Capacity({kind: max(owned.get(kind, 0), kept[kind]) + bought[kind] for kind in prices}),
        settings=replace(sizing.settings, saturation_policy=SaturationPolicy.NONE, solver=Solver.GREEDY),
    )
    plan = solve_problem(problem, deck, now)
    names = {found.services[i].name for i, ranked in enumerate(found.ranked) if ranked and i not in made.rows}
    limits = [
        *(["the budget"] if options.max_cost is not None else []),
        *(["the quotas"] if options.quotas else []),
    ]
    reason = f"nothing: not within {' and '.join(limits)}"
    lines = tuple(replace(line, reason=reason) if line.server in names else line for line in plan.lines)
    least = {
        priority: made.unserved_bound[priority]
        + sum(not ranked and found.services[i].priority == priority for i, ranked in enumerate(found.ranked))
        for priority in made.unserved_bound
    }
    items = {kind: Item(owned.get(kind, 0), bought[kind], price) for kind, price in prices.items()}
    whole = replace(plan, lines=lines, solver="purchase", unserved_bound=least)
    return Purchase(items, options.max_cost, made.lower_bound, whole)


def _as_chosen(service: Service, profile: str | None) -> Service:
    """The service with nothing to choose: its accelerator, or nothing at all."""
    performance = tuple(data for data in service.performance if data.profile == profile)
    if profile is not None:
        return replace(service, performance=performance)
    return replace(service, performance=(), excluded={}, current=None, min_replicas=0)


def _kept_without_candidate(found: Candidates) -> Counter[str]:
    """Units by type that services hold which have no candidate."""
    units: Counter[str] = Counter()
    for ranked, held in zip(found.ranked, found.holdings, strict=True):
        if not ranked and held is not None:
            units[held.profile.type] += held.replicas * held.units_per_replica
    return units


def _prices(profiles: tuple[Profile, ...]) -> dict[str, float]:
    prices: dict[str, float] = {}
    for profile in sorted(profiles, key=lambda profile: profile.type):
        price = profile.cost / profile.multiplicity
        prices[profile.type] = min(price, prices.get(profile.type, price))
    return prices
