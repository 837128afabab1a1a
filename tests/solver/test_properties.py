"""What holds for every problem."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_solver import (
    Capacity,
    CurrentAllocation,
    Outcome,
    Problem,
    Result,
    SaturationPolicy,
    Service,
    Settings,
    Solver,
    Targets,
    holding,
    required_replicas,
    solve,
)
from solver_builders import performance, profile, service

PROFILES = (
    profile("H100", 10.0),
    profile("2xH100", 20.0, type="H100", multiplicity=2),
    profile("L40S", 4.0),
    profile("MI300X", 8.0),
)
NAMES = [each.name for each in PROFILES]
AMPLE = Capacity(dict.fromkeys(NAMES, 10**6))
TYPES = sorted({each.type for each in PROFILES})


@st.composite
def services(draw: st.DrawFn, name: str) -> Service:
    profiles = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    least = draw(st.integers(0, 2))
    running = st.builds(CurrentAllocation, st.sampled_from(NAMES), st.integers(0, 8))
    return service(
        name,
        draw(st.sampled_from([0, 5, 20, 45, 80])),
        {},
        priority=draw(st.integers(1, 3)),
        performance=tuple(
            performance(on, draw(st.sampled_from([5, 10, 40])), acc_count=draw(st.integers(1, 2)))
            for on in profiles
        ),
        targets=Targets(itl=draw(st.sampled_from([None, 100.0, 1000.0]))),
        min_replicas=least,
        max_replicas=draw(st.none() | st.integers(max(least, 1), 8)),
        keep_accelerator=draw(st.booleans()),
        current=draw(st.none() | running),
        excluded=draw(st.sampled_from([{}, {}, {"L40S": "NotAllowed"}])),
    )


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    units = st.one_of(st.integers(0, 6), st.integers(0, 40))
    return Problem(
        services=tuple(draw(services(f"s{i}")) for i in range(draw(st.integers(1, 5)))),
        profiles=PROFILES,
        capacity=Capacity({kind: draw(units) for kind in TYPES}),
        settings=Settings(
            transition_penalty=draw(st.sampled_from([0.0, 0.1])),
            saturation_policy=draw(st.sampled_from(SaturationPolicy)),
            solver=draw(st.sampled_from(Solver)),
            delayed_best_effort=draw(st.booleans()),
        ),
    )


def holds(check: Callable[[Problem], None]) -> Callable[[], None]:
    wrapped = given(problems())(check)
    return settings(deadline=None, max_examples=60)(wrapped)


def without_min_replicas(given_problem: Problem) -> Problem:
    return replace(
        given_problem, services=tuple(replace(each, min_replicas=0) for each in given_problem.services)
    )


@holds
def test_capacity_is_never_exceeded(given_problem: Problem) -> None:
    assert given_problem.capacity is not None
    result = solve(given_problem)
    assert all(0 <= units <= given_problem.capacity.units[kind] for kind, units in result.used.items())


@pytest.mark.slow
@holds
def test_the_order_of_the_input_does_not_matter(given_problem: Problem) -> None:
    assert given_problem.capacity is not None
    backwards = replace(
        given_problem,
        services=tuple(
            replace(each, performance=each.performance[::-1]) for each in reversed(given_problem.services)
        ),
        profiles=given_problem.profiles[::-1],
        capacity=Capacity(dict(reversed(given_problem.capacity.units.items()))),
    )
    assert repr(solve(backwards)) == repr(solve(given_problem))


@holds
def test_ample_capacity_is_as_good_as_unlimited(given_problem: Problem) -> None:
    policy = Settings(saturation_policy=SaturationPolicy.PRIORITY_EXHAUSTIVE)
    ample = solve(replace(given_problem, capacity=AMPLE, settings=policy))
    unlimited = solve(replace(given_problem, capacity=None, settings=policy))
    assert ample.decisions == unlimited.decisions


@holds
def test_served_services_are_within_objectives_and_limits(given_problem: Problem) -> None:
    result = solve(given_problem)
    for each in given_problem.services:
        decision = result.decisions[each.name]
        if decision.allocation is not None:
            assert each.max_replicas is None or decision.allocation.replicas <= each.max_replicas
        if decision.outcome is Outcome.SERVED:
            allocation = decision.allocation
            assert allocation is not None
            assert allocation.replicas == required_replicas(given_problem, each.name, allocation.profile)
            assert allocation.itl is not None
            assert each.targets.itl is None or allocation.itl <= each.targets.itl * (1 + 1e-9)
            assert allocation.profile not in each.excluded


@pytest.mark.slow
@holds
def test_a_service_alone_never_falls_below_what_it_has_unless_it_is_served(given_problem: Problem) -> None:
    for each in given_problem.services:
        decision = solve(replace(given_problem, services=(each,), capacity=AMPLE)).decisions[each.name]
        if decision.outcome in (Outcome.BEST_EFFORT, Outcome.UNSERVED) and each.current is not None:
            kept = min(each.current.replicas, each.max_replicas or each.current.replicas)
            assert kept == 0 or decision.allocation is not None
            if decision.allocation is not None and kept > 0:
                assert decision.allocation.profile == each.current.profile
                assert decision.allocation.replicas >= kept


@holds
def test_min_replicas_that_run_are_never_taken(given_problem: Problem) -> None:
    assert given_problem.capacity is not None
    profiles = {each.name: each for each in PROFILES}
    left = dict(given_problem.capacity.units)
    for each in given_problem.services:
        if (held := holding(each, profiles)) is not None:
            left[held.profile.type] -= min(each.min_replicas, held.replicas) * held.units_per_replica
    if min(left.values()) < 0:
        return
    result = solve(given_problem)
    for each in given_problem.services:
        if each.current is not None:
            allocation = result.decisions[each.name].allocation
            replicas = 0 if allocation is None else allocation.replicas
            assert replicas >= min(each.min_replicas, each.current.replicas)


@holds
def test_lower_priorities_take_nothing_from_higher_ones(given_problem: Problem) -> None:
    at_once = replace(given_problem.settings, delayed_best_effort=False, solver=Solver.GREEDY)
    whole = replace(without_min_replicas(given_problem), settings=at_once)
    everyone = solve(whole).decisions
    for priority in (1, 2):
        first = tuple(each for each in whole.services if each.priority <= priority)
        for name, decision in solve(replace(whole, services=first)).decisions.items():
            assert decision == everyone[name]


@pytest.mark.slow
@holds
def test_as_many_are_served_at_a_priority_whatever_comes_after_it(given_problem: Problem) -> None:
    exact = replace(given_problem.settings, solver=Solver.AUTO)
    whole = replace(without_min_replicas(given_problem), settings=exact)
    everyone = solve(whole).unserved_by_priority
    for priority in (1, 2):
        first = tuple(each for each in whole.services if each.priority <= priority)
        for each, unserved in solve(replace(whole, services=first)).unserved_by_priority.items():
            assert unserved == everyone[each]


@pytest.mark.slow
@holds
def test_exact_is_never_worse_than_greedy_and_never_better_than_its_bounds(given_problem: Problem) -> None:
    none = SaturationPolicy.NONE
    busy = tuple(
        replace(each, load=replace(each.load, arrival_rate=max(each.load.arrival_rate, 1.0)))
        for each in given_problem.services
    )
    given_problem = replace(given_problem, services=busy)
    first, second = (
        solve(
            replace(
                given_problem, settings=replace(given_problem.settings, solver=each, saturation_policy=none)
            )
        )
        for each in (Solver.GREEDY, Solver.AUTO)
    )
    served, more = (
        {name for name, decision in result.decisions.items() if decision.outcome in ("Served", "Idle")}
        for result in (first, second)
    )
    assert list(second.unserved_by_priority.values()) <= list(first.unserved_by_priority.values())
    assert second.lower_bound is not None
    assert second.gap is not None
    value = value_of(second, more)
    if first.unserved_by_priority == second.unserved_by_priority:
        assert value <= value_of(first, served) + 1e-5
    assert second.lower_bound <= value + 1e-5
    for priority, bound in second.unserved_bound.items():
        assert bound <= second.unserved_by_priority[priority]


def value_of(result: Result, names: set[str]) -> float:
    allocations = (result.decisions[name].allocation for name in names)
    return sum(allocation.value for allocation in allocations if allocation is not None)
