"""Small problems with limits of every kind, against all plans that there are."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from inferscale_solver import (
    Candidates,
    Capacity,
    CurrentAllocation,
    Outcome,
    Problem,
    Quota,
    Service,
    Solver,
    Tier,
    candidates,
    solve,
)
from inferscale_solver.packing import fits
from solver_builders import performance, problem, profile, service

PROFILES = (
    profile("A100", 6.0),
    profile("2xA100", 12.0, type="A100", multiplicity=2),
    profile("H100", 10.0),
    replace(profile("Spot", 3.0), tier=Tier.BURST),
)
TYPES = ("A100", "H100", "Spot")


def drawn(seed: int) -> Problem:
    random = np.random.default_rng(seed)
    services = tuple(_service(f"s{i}", random) for i in range(int(random.integers(2, 5))))
    least = Counter[str]()
    for each in services:
        if each.current is not None:
            least[each.current.profile] += min(each.min_replicas, each.current.replicas)
    units = {kind: int(random.integers(0, 12)) + least[kind] for kind in TYPES}
    quotas = (Quota("A100", int(random.integers(2, 9)) + least["A100"], namespace="n1"),)
    whole = problem(
        *services,
        profiles=PROFILES,
        units=units,
        solver=Solver.AUTO,
        transition_penalty=float(random.choice([0.0, 0.1, 0.3])),
        max_cost=float(random.integers(60, 160)) + 10 * least.total() if seed % 2 else None,
    )
    assert whole.capacity is not None
    if seed % 3 == 0 and units["A100"] > 0:
        cut = int(random.integers(0, units["A100"] + 1))
        nodes = {"A100": tuple(n for n in (cut, units["A100"] - cut) if n)}
        whole = replace(whole, capacity=replace(whole.capacity, free_by_node=nodes))
    return replace(whole, quotas=quotas if seed % 5 < 2 else ())


def _service(name: str, random: np.random.Generator) -> Service:
    current = None
    if random.random() < 0.6:
        current = CurrentAllocation(str(random.choice(TYPES)), int(random.integers(0, 5)))
    least = int(random.integers(0, 3))
    return service(
        name,
        float(random.integers(1, 70)),
        {},
        priority=int(random.integers(1, 4)),
        performance=tuple(
            performance(each.name, float(random.integers(5, 30)))
            for each in PROFILES
            if random.random() < 0.8 or (current is not None and current.profile == each.name)
        ),
        min_replicas=least,
        max_replicas=int(random.integers(6, 12)) if random.random() < 0.5 else None,
        keep_accelerator=random.random() < 0.15,
        current=current,
        namespace=str(random.choice(["n1", "n2"])),
    )


@dataclass(frozen=True)
class Option:
    """One thing that a service may get."""

    profile: int
    replicas: int
    units: int
    cost: float
    value: float = 0.0
    burst: float = 0.0
    served: bool = False
    given_up: int = 0


def options(found: Candidates, service: int) -> Iterable[Option]:
    names = [each.name for each in PROFILES]
    for row in found.ranked[service]:
        replicas, cost = int(found.replicas[row]), float(found.cost[row])
        burst = cost if found.profiles[row].tier is Tier.BURST else 0.0
        units = int(found.units_per_replica[row])
        at = names.index(found.profiles[row].name)
        yield Option(at, replicas, units, cost, float(found.value[row]), burst, served=True)
    held, described = found.holdings[service], found.services[service]
    most = 0 if held is None else min(held.replicas, described.max_replicas or held.replicas)
    for kept in range(min(described.min_replicas, most), most + 1):
        at = 0 if held is None else names.index(held.profile.name)
        yield Option(at, kept, 1, kept * PROFILES[at].cost, given_up=most - kept)


def allowed(given: Problem, services: tuple[Service, ...], plan: tuple[Option, ...]) -> bool:
    assert given.capacity is not None
    used, quota, sizes = Counter[str](), 0, Counter[int]()
    for each, option in zip(services, plan, strict=True):
        kind, units = PROFILES[option.profile].type, option.replicas * option.units
        used[kind] += units
        if kind == "A100":
            sizes[option.units] += option.replicas
            quota += units if each.namespace == "n1" else 0
    if any(used[kind] > given.capacity.units[kind] for kind in used):
        return False
    if given.quotas and quota > given.quotas[0].units:
        return False
    nodes = given.capacity.free_by_node.get("A100")
    if nodes is not None and not fits(nodes, sizes):
        return False
    return given.settings.max_cost is None or sum(o.cost for o in plan) <= given.settings.max_cost + 1e-9


def best_of_all(given: Problem) -> tuple[list[int], float]:
    """Services unserved by priority, and the value of those served, of the best plan.

    Best: as few unserved at the first priority, as little as can be taken from those, and so on; then burst
    cost, then value.
    """
    found = candidates(given)
    priorities = sorted({each.priority for each in found.services})
    best: tuple[list[float], float, float] | None = None
    for plan in itertools.product(*(tuple(options(found, i)) for i in range(len(found.services)))):
        counts: list[float] = []
        for priority in priorities:
            here = [o for s, o in zip(found.services, plan, strict=True) if s.priority == priority]
            counts += [sum(not o.served for o in here), sum(o.given_up for o in here)]
        rank = counts, round(sum(o.burst for o in plan), 5), round(sum(o.value for o in plan), 5)
        if (best is None or rank < best) and allowed(given, found.services, plan):
            best = rank
    assert best is not None
    return [int(count) for count in best[0][::2]], best[2]


@pytest.mark.parametrize(
    "seed", [*range(40), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(40, 200))]
)
def test_as_many_are_served_as_can_be_at_the_least_value(seed: int) -> None:
    given = drawn(seed)
    result = solve(given)
    unserved, value = best_of_all(given)
    assert list(result.unserved_by_priority.values()) == unserved
    served = [d.allocation for d in result.decisions.values() if d.outcome is Outcome.SERVED]
    reached = sum(allocation.value for allocation in served if allocation is not None)
    assert reached <= value + 0.005 * max(abs(value), 1.0)
    assert all(bound <= count for bound, count in zip(result.unserved_bound.values(), unserved, strict=True))
    assert result.lower_bound is None or result.lower_bound <= reached + 1e-5
    assert all(0 <= price < math.inf for price in result.prices.values())


@pytest.mark.parametrize("solver", [Solver.GREEDY, Solver.AUTO])
@pytest.mark.parametrize("seed", range(24))
def test_the_order_of_the_input_does_not_matter(seed: int, solver: Solver) -> None:
    given = drawn(seed)
    assert given.capacity is not None
    more = (Quota("H100", 6, service_class="class-1"), Quota("H100", 9, namespace="n2"))
    given = replace(given, quotas=(*given.quotas, *more), settings=replace(given.settings, solver=solver))
    turned = replace(
        given,
        services=tuple(replace(each, performance=each.performance[::-1]) for each in given.services[::-1]),
        profiles=given.profiles[::-1],
        capacity=Capacity(
            dict(reversed(given.capacity.units.items())),
            free_by_node={kind: nodes[::-1] for kind, nodes in given.capacity.free_by_node.items()},
        ),
        quotas=given.quotas[::-1],
    )
    assert repr(solve(turned)) == repr(solve(given))
