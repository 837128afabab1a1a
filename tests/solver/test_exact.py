"""Limited accelerators, exact: against all plans that there are, and one rule at a time."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from bench.instances import generated
from inferscale_solver import (
    Capacity,
    CurrentAllocation,
    Outcome,
    Problem,
    Quota,
    Result,
    SaturationPolicy,
    Solver,
    Tier,
    candidates,
    solve,
)
from solver_builders import problem, profile, service

H100, A100, L4 = profile("H100", 10.0), profile("A100", 6.0), profile("L4", 2.0)
PAIR = profile("2xA100", 12.0, type="A100", multiplicity=2)


def drawn(seed: int) -> Problem:
    """A small problem whose capacity is scarce; every tenth has a burst tier."""
    random = np.random.default_rng(seed)
    profiles = (
        replace(H100, tier=Tier.BURST if seed % 10 == 0 else Tier.OWNED),
        A100,
        L4,
        PAIR,
    )
    services = tuple(
        service(
            f"s{i}",
            float(random.integers(1, 90)),
            {each.name: float(random.integers(3, 30)) for each in profiles if random.random() < 0.8},
            priority=int(random.integers(1, 4)),
        )
        for i in range(int(random.integers(2, 6)))
    )
    units = {kind: int(random.integers(0, 14)) for kind in ("A100", "H100", "L4")}
    return problem(*services, profiles=profiles, units=units, solver=Solver.AUTO)


def best_of_all(given: Problem) -> tuple[list[int], float, float]:
    """The least (unserved by priority, burst cost, value) over all plans within the capacity."""
    found = candidates(given)
    assert given.capacity is not None
    priorities = sorted({each.priority for each in given.services})
    best: tuple[list[int], float, float] | None = None
    for rows in itertools.product(*((None, *ranked) for ranked in found.ranked)):
        used = dict.fromkeys(given.capacity.units, 0)
        unserved = dict.fromkeys(priorities, 0)
        burst = value = 0.0
        for each, row in zip(found.services, rows, strict=True):
            if row is None:
                unserved[each.priority] += 1
                continue
            used[found.profiles[row].type] += int(found.replicas[row] * found.units_per_replica[row])
            value += float(found.value[row])
            burst += float(found.cost[row]) if found.profiles[row].tier is Tier.BURST else 0.0
        if all(units <= given.capacity.units[kind] for kind, units in used.items()):
            plan = list(unserved.values()), round(burst, 6), round(value, 6)
            best = plan if best is None else min(best, plan)
    assert best is not None
    return best


@pytest.mark.parametrize(
    "seed", [*range(40), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(40, 200))]
)
def test_the_plan_is_the_best_of_all_plans(seed: int) -> None:
    given = drawn(seed)
    result = solve(given)
    unserved, burst, value = best_of_all(given)
    assert list(result.unserved_by_priority.values()) == unserved
    assert list(result.unserved_bound.values()) == unserved
    assert result.burst_cost == pytest.approx(burst)
    assert result.total_value == pytest.approx(value)
    assert result.stopped is None
    assert result.lower_bound is not None
    assert result.lower_bound <= value + 1e-5


@pytest.mark.parametrize(
    ("services", "capacity"),
    [(27, 0.5), (60, 0.7), pytest.param(999, 0.7, marks=pytest.mark.full)],
)
def test_generated_problems_are_solved_close_to_their_bounds(services: int, capacity: float) -> None:
    given = generated(services, capacity)
    result = solve(given)
    assert result.gap is not None
    assert result.gap <= 0.002
    for priority, bound in result.unserved_bound.items():
        assert result.unserved_by_priority[priority] <= bound + 1
    assert given.capacity is not None
    assert all(units <= given.capacity.units[kind] for kind, units in result.used.items())


@pytest.mark.slow
def test_permuting_a_generated_problem_changes_nothing() -> None:
    given = generated(40, 0.6)
    assert given.capacity is not None
    turned = replace(
        given,
        services=given.services[::-1],
        profiles=given.profiles[::-1],
        capacity=Capacity(dict(reversed(given.capacity.units.items()))),
    )
    assert repr(solve(turned)) == repr(solve(given))


def test_it_serves_more_than_greedy_where_greedy_goes_astray() -> None:
    # Greedy gives the H100 to the one with the larger regret, and the other has nowhere to go.
    services = (
        service("first", 10, {"H100": 10, "A100": 2}),
        service("second", 10, {"H100": 10}, priority=2),
    )
    given = problem(*services, profiles=(H100, A100), units={"H100": 1, "A100": 5})
    greedy = solve(given)
    assert greedy.unserved_by_priority == {1: 0, 2: 1}
    exact = solve(replace(given, settings=replace(given.settings, solver=Solver.EXACT)))
    assert exact.unserved_by_priority == {1: 0, 2: 0}
    assert exact.solver == "exact"
    decision = exact.decisions["first"]
    assert decision.allocation is not None
    assert decision.allocation.profile == "A100"
    assert decision.binding == "capacity:H100"
    assert "H100 short of 1 unit" in decision.reason


def test_a_plan_in_which_all_get_what_they_prefer_is_proved_without_a_program() -> None:
    given = problem(
        service("only", 10, {"H100": 10, "A100": 10}),
        profiles=(H100, A100),
        units={"H100": 9, "A100": 9},
        solver=Solver.EXACT,
    )
    result = solve(given)
    assert (result.gap, result.lower_bound) == (0.0, pytest.approx(result.total_value))
    assert result.prices == {"A100": 0.0, "H100": 0.0}


def test_the_price_of_a_type_is_what_one_more_unit_saves() -> None:
    # Two services, each one A100 at 6 or one H100 at 10, and a single A100: another would save 4.
    services = [service(name, 10, {"A100": 10, "H100": 10}) for name in ("a", "b")]
    given = problem(
        *services,
        profiles=(H100, A100),
        units={"A100": 1, "H100": 5},
        transition_penalty=0.0,
        solver=Solver.AUTO,
    )
    assert solve(given).prices == {"A100": pytest.approx(4.0), "H100": 0.0}


def test_a_type_of_which_some_is_left_has_no_price() -> None:
    # Three A100s of four are taken; one more H100 would take a service off them, and save 2.
    services = [service(name, 10, {"H100": 10, "A100": 10}) for name in ("a", "b", "c", "d")]
    given = problem(
        *services,
        profiles=(replace(H100, cost=4.0), A100),
        units={"A100": 4, "H100": 1},
        transition_penalty=0.0,
        solver=Solver.AUTO,
    )
    result = solve(given)
    assert result.used == {"A100": 3, "H100": 1}
    assert result.prices == {"A100": 0.0, "H100": pytest.approx(2.0)}


def test_greedy_alone_proves_nothing() -> None:
    result = solve(generated(27, 0.5, solver=Solver.GREEDY))
    assert (result.gap, result.lower_bound, result.prices, result.unserved_bound) == (None, None, {}, {})


class TestUnserved:
    def test_a_lower_priority_takes_nothing_from_one_that_cannot_be_served(self) -> None:
        given = problem(
            service("high", 90, {"H100": 10}, current=CurrentAllocation("H100", 3)),
            service("low", 20, {"H100": 10}, priority=2),
            profiles=(H100,),
            units={"H100": 4},
            solver=Solver.EXACT,
        )
        assert replicas(solve(given)) == {"high": 3, "low": 0}

    def test_a_higher_priority_takes_what_it_needs_but_never_min_replicas(self) -> None:
        low = service(
            "low", 90, {"H100": 10}, priority=2, current=CurrentAllocation("H100", 4), min_replicas=2
        )
        for load, kept in ((10, 3), (20, 2)):
            given = problem(
                service("high", load, {"H100": 10}),
                low,
                profiles=(H100,),
                units={"H100": 4},
                solver=Solver.EXACT,
            )
            assert replicas(solve(given))["low"] == kept
        given = problem(
            service("high", 30, {"H100": 10}), low, profiles=(H100,), units={"H100": 4}, solver=Solver.EXACT
        )
        assert replicas(solve(given)) == {"high": 0, "low": 4}

    def test_what_is_left_goes_out_by_the_saturation_policy(self) -> None:
        given = problem(
            service("a", 90, {"H100": 10}),
            service("b", 20, {"H100": 10}, priority=2),
            profiles=(H100,),
            units={"H100": 5},
            policy=SaturationPolicy.PRIORITY_EXHAUSTIVE,
            solver=Solver.EXACT,
        )
        assert replicas(solve(given)) == {"a": 3, "b": 2}


class TestLimits:
    def test_a_quota_binds_those_it_is_for(self) -> None:
        names = ("a", "b")
        services = [service(name, 20, {"A100": 10, "H100": 10}, namespace=name) for name in names]
        given = problem(*services, profiles=(H100, A100), units={"A100": 9, "H100": 9}, solver=Solver.AUTO)
        result = solve(replace(given, quotas=(Quota("A100", 1, namespace="b"),)))
        assert profiles(result) == {"a": "A100", "b": "H100"}
        assert result.decisions["b"].binding == "quota:A100 for namespace b"
        assert "quota of A100 for namespace b short of 1 unit" in result.decisions["b"].reason

    @pytest.mark.parametrize("solver", Solver)
    @pytest.mark.parametrize("units", [{"A100": 9, "H100": 9}, None])
    def test_a_quota_of_one_service_leaves_the_others_alone(
        self, solver: Solver, units: dict[str, int] | None
    ) -> None:
        services = [service(name, 20, {"A100": 10, "H100": 10}) for name in ("a", "b", "c")]
        given = problem(*services, profiles=(H100, A100), units=units, solver=solver)
        result = solve(replace(given, quotas=(Quota("A100", 1, service="b"),)))
        assert profiles(result) == {"a": "A100", "b": "H100", "c": "A100"}
        assert "quota of A100 for service b short of 1 unit" in result.decisions["b"].reason

    @pytest.mark.parametrize("solver", Solver)
    def test_a_budget_sheds_the_last_priority_first(self, solver: Solver) -> None:
        services = [service(f"p{p}", 10, {"A100": 10}, priority=p) for p in (1, 2, 3)]
        given = problem(*services, profiles=(A100,), max_cost=12.0, solver=solver)
        result = solve(given)
        assert result.unserved_by_priority == {1: 0, 2: 0, 3: 1}
        assert result.total_cost == pytest.approx(12.0)
        assert result.decisions["p3"].binding == "budget"
        assert "budget short of 6.00/h" in result.decisions["p3"].reason

    def test_burst_is_used_only_for_what_owned_accelerators_cannot_serve(self) -> None:
        cheap_burst = profile("Spot", 1.0)
        services = [service(name, 10, {"Spot": 10, "A100": 10}) for name in ("a", "b")]
        given = problem(
            *services,
            profiles=(replace(cheap_burst, tier=Tier.BURST), A100),
            units={"Spot": 9, "A100": 1},
            solver=Solver.AUTO,
        )
        result = solve(given)
        assert sorted(profiles(result).values()) == ["A100", "Spot"]
        assert result.burst_cost == pytest.approx(1.0)

    @pytest.mark.parametrize("solver", Solver)
    def test_replicas_must_fit_on_nodes(self, solver: Solver) -> None:
        # Four nodes with one free unit each have no room for a replica of two.
        given = problem(
            service("a", 10, {"2xA100": 10, "H100": 10}),
            profiles=(PAIR, replace(H100, cost=20.0)),
            units={"A100": 4, "H100": 4},
            solver=solver,
        )
        assert given.capacity is not None
        assert profiles(solve(given)) == {"a": "2xA100"}
        scattered = replace(given.capacity, free_by_node={"A100": (1, 1, 1, 1)})
        result = solve(replace(given, capacity=scattered))
        assert profiles(result) == {"a": "H100"}
        assert result.decisions["a"].binding == "placement:A100"
        cost = None if solver is Solver.GREEDY else pytest.approx(1.1 * (20.0 - 12.0))
        assert result.placement_cost == cost

    def test_zero_cost_is_valid(self) -> None:
        given = problem(
            *(service(name, 10, {"A100": 10, "H100": 10}) for name in ("a", "b")),
            profiles=(replace(A100, cost=0.0), replace(H100, cost=0.0)),
            units={"A100": 1, "H100": 1},
            solver=Solver.EXACT,
        )
        result = solve(given)
        assert result.unserved_by_priority == {1: 0}
        assert result.gap == 0.0


def test_a_safety_stop_is_reported() -> None:
    given = generated(60, 0.5)
    result = solve(replace(given, settings=replace(given.settings, time_limit=1e-9)))
    assert result.stopped == "the exact solver reached its time limit"
    greedy = solve(replace(given, settings=replace(given.settings, solver=Solver.GREEDY)))
    assert list(result.unserved_by_priority.values()) <= list(greedy.unserved_by_priority.values())


def replicas(result: Result) -> dict[str, int]:
    return {
        name: decision.allocation.replicas if decision.allocation is not None else 0
        for name, decision in result.decisions.items()
    }


def profiles(result: Result) -> dict[str, str]:
    return {
        name: decision.allocation.profile
        for name, decision in result.decisions.items()
        if decision.allocation is not None and decision.outcome is Outcome.SERVED
    }
