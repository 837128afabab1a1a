"""`inferscale plan --buy`: the cheapest of all possible purchases, and near it for many servers."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_operator.planning.deck import Deck, ModelData, Objectives, Server
from inferscale_operator.planning.formulate import Options, problem_of
from inferscale_operator.planning.purchase import Purchase, purchase
from inferscale_solver import (
    CurrentAllocation,
    Performance,
    Profile,
    Quota,
    Targets,
    candidates,
)

PROFILES = (
    Profile("A", "A", 1, 10.0),
    Profile("2xA", "A", 2, 19.0),
    Profile("B", "B", 1, 7.0),
    Profile("C", "C", 1, 4.0),
)
SPEED = {"A": 20.0, "2xA": 12.0, "B": 28.0, "C": 50.0}


def deck(servers: int, seed: int, owned: dict[str, int] | None = None, spread: float = 1.0) -> Deck:
    """Servers of three priorities and three models with random loads."""
    draw = random.Random(seed)  # noqa: S311
    models = ("small", "medium", "large")
    return Deck(
        accelerators=PROFILES,
        models=tuple(
            ModelData(
                model,
                Performance(
                    name,
                    alpha=SPEED[name] * (1 + i) * draw.uniform(0.8, 1.2),
                    beta=0.4 * (1 + i),
                    acc_count=1 + (i == 2 and name == "C"),
                    max_batch_size=24 // (1 + i),
                    at_tokens=512,
                ),
            )
            for i, model in enumerate(models)
            for name in SPEED
        ),
        objectives=tuple(
            Objectives(
                f"class-{priority}", model, priority, Targets(itl=60.0 * priority * (1 + i), ttw=500.0)
            )
            for priority in (1, 2, 3)
            for i, model in enumerate(models)
        ),
        servers=tuple(
            Server(
                name=f"server-{i}",
                service_class=f"class-{draw.randint(1, 3)}",
                model=draw.choice(models),
                arrival_rate=round(draw.lognormvariate(math.log(200), spread), 1),
                average_length=256.0,
            )
            for i in range(servers)
        ),
        units=owned,
    )


def bought(deck: Deck, **options: object) -> Purchase:
    return purchase(deck, deck, Options(**{"limited": deck.units is not None, **options}))  # type: ignore[arg-type]


def best(deck: Deck, budget: float | None, quotas: tuple[Quota, ...]) -> tuple[float, ...]:
    """Unserved by priority, cost of what is bought, cost of what is used: the least of all combinations."""
    found = candidates(problem_of(deck, Options()))
    prices = {"A": 9.5, "B": 7.0, "C": 4.0}
    owned = deck.units or {}
    least: tuple[float, ...] = (math.inf,)
    for rows in itertools.product(*([*ranked, None] for ranked in found.ranked)):
        used = dict.fromkeys(prices, 0)
        restricted = [0] * len(quotas)
        unserved, running = [0, 0, 0], 0.0
        for service, row in zip(found.services, rows, strict=True):
            if row is None:
                unserved[service.priority - 1] += 1
                continue
            units, kind = int(found.replicas[row] * found.units_per_replica[row]), found.profiles[row].type
            used[kind] += units
            running += float(found.cost[row])
            for i, quota in enumerate(quotas):
                if quota.type == kind and quota.service_class == service.service_class:
                    restricted[i] += units
        spent = sum(max(used[kind] - owned.get(kind, 0), 0) * price for kind, price in prices.items())
        if any(units > quota.units for units, quota in zip(restricted, quotas, strict=True)):
            continue
        if budget is None or spent <= budget + 1e-9:
            least = min(least, (*unserved, round(spent, 6), round(running, 6)))
    return least


def rank(made: Purchase) -> tuple[float, ...]:
    unserved = made.plan.unserved_by_priority
    counts = (unserved.get(priority, 0) for priority in (1, 2, 3))
    return (*counts, round(made.cost, 6), round(made.plan.total_cost, 6))


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    servers=st.integers(1, 5),
    owned=st.none() | st.fixed_dictionaries({kind: st.integers(0, 12) for kind in "ABC"}),
    budget=st.none() | st.integers(0, 150),
    quota=st.none() | st.integers(0, 8),
)
def test_no_purchase_is_better(
    seed: int, servers: int, owned: dict[str, int] | None, budget: int | None, quota: int | None
) -> None:
    case = deck(servers, seed, owned)
    quotas = () if quota is None else (Quota("C", quota, service_class="class-3"),)
    made = bought(case, max_cost=budget, quotas=quotas)
    assert rank(made) == pytest.approx(best(case, budget, quotas), abs=1e-5)
    assert made.lower_bound <= made.cost + 1e-6
    counts = made.plan.unserved_by_priority
    assert all(bound <= counts[priority] for priority, bound in made.plan.unserved_bound.items())


@pytest.mark.parametrize("budget", [None, 3000.0])
def test_what_many_servers_need_is_bought_near_the_proven_least(budget: float | None) -> None:
    owned = {"A": 400, "B": 300, "C": 100}
    made = bought(deck(150, 1, owned), max_cost=budget)
    assert made.plan.served == 150 or budget is not None
    assert made.lower_bound <= made.cost <= 1.005 * made.lower_bound
    for kind, item in made.items.items():
        used = made.plan.types[kind].used
        assert item.buy == max(used - owned[kind], 0)
    for priority, least in made.plan.unserved_bound.items():
        assert least <= made.plan.unserved_by_priority[priority] <= least + 1


def test_the_order_of_servers_does_not_change_what_is_bought() -> None:
    case = deck(120, 2, {"A": 100, "B": 100})
    turned = replace(case, servers=case.servers[::-1], accelerators=PROFILES[::-1], models=case.models[::-1])
    one, other = bought(case), bought(turned)
    assert one.items == other.items
    assert one.plan.lines == other.plan.lines


@pytest.mark.slow
@pytest.mark.parametrize("owned", [None, {"A": 3000, "B": 2000, "C": 1000}], ids=["from nothing", "owned"])
def test_a_thousand_servers_are_bought_for_near_the_proven_least(owned: dict[str, int] | None) -> None:
    made = bought(deck(999, 3, owned))
    assert made.plan.served == 999
    assert made.lower_bound <= made.cost <= 1.002 * made.lower_bound


def test_a_free_type_is_not_bought_for_nothing() -> None:
    free = replace(deck(5, 4), accelerators=tuple(replace(profile, cost=0.0) for profile in PROFILES))
    made = bought(free)
    assert made.cost == made.lower_bound == 0
    assert {kind: item.buy for kind, item in made.items.items()} == {
        kind: total.used for kind, total in made.plan.types.items()
    }


def test_who_is_not_within_the_budget_does_not_hold_what_was_meant_for_others() -> None:
    case = deck(6, 5, {"A": 2, "B": 2, "C": 2})
    holding = replace(
        case,
        servers=tuple(
            replace(server, min_replicas=2, current=CurrentAllocation("A", 2)) for server in case.servers
        ),
    )
    made = bought(holding, max_cost=20.0)
    assert made.cost <= 20
    assert 0 < made.plan.served < 6
    for line in made.plan.lines:
        assert line.served or (line.replicas, line.reason) == (0, "nothing: not within the budget")


def test_what_a_server_holds_that_nothing_can_serve_is_not_given_to_others() -> None:
    case = deck(4, 6, {"A": 6})
    hopeless = replace(case.servers[0], arrival_rate=60.0, max_replicas=3, current=CurrentAllocation("A", 3))
    hopeless = replace(hopeless, arrival_rate=1e6)
    made = bought(replace(case, servers=(hopeless, *case.servers[1:])))
    lines = {line.server: line for line in made.plan.lines}
    assert (lines[hopeless.name].accelerator, lines[hopeless.name].replicas) == ("A", 3)
    assert made.plan.served == 3
    others = sum(
        line.replicas * {"A": 1, "2xA": 2}.get(line.accelerator or "", 0)
        for line in made.plan.lines
        if line.server != hopeless.name
    )
    assert made.items["A"].buy == max(others - 3, 0)
