"""The exact solver's work: bounded, repeatable, and the same in whatever order the input comes."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.instances import generated
from inferscale_solver import Capacity, CurrentAllocation, Problem, Service, Solver, candidates, solve
from inferscale_solver.formulation import Formulation, Goal, formulate
from inferscale_solver.program import Clock, Relaxation
from inferscale_solver.resources import resources
from inferscale_solver.sample import Sample
from solver_builders import problem, profile, service

exact, repair, sample = (
    importlib.import_module(f"inferscale_solver.{name}") for name in ("exact", "repair", "sample")
)
PROFILES = (profile("A100", 6.0), profile("H100", 6.0), profile("2xA100", 12.0, type="A100", multiplicity=2))


def turned(whole: Problem) -> Problem:
    assert whole.capacity is not None
    return replace(
        whole,
        services=tuple(replace(each, performance=each.performance[::-1]) for each in whole.services[::-1]),
        profiles=whole.profiles[::-1],
        capacity=Capacity(dict(reversed(whole.capacity.units.items()))),
    )


def unserved(whole: Problem) -> list[int]:
    return list(solve(whole).unserved_by_priority.values())


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems of some tens of services go the way of those of many thousands."""
    monkeypatch.setattr(exact, "_SMALL", dict.fromkeys(Solver, 50))
    monkeypatch.setattr(exact, "_LARGE", 50)
    monkeypatch.setattr(repair, "WIDE", 50)
    monkeypatch.setattr(repair, "_PART", 200)
    monkeypatch.setattr(sample, "_SIZE", 10)


def test_at_the_limit_of_its_work_the_best_plan_is_returned_with_its_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = generated(20, 0.5)
    monkeypatch.setattr(exact, "_WORK", dict.fromkeys(Solver, 1))
    result = solve(whole)
    greedy = replace(whole, settings=replace(whole.settings, solver=Solver.GREEDY))
    assert list(result.unserved_by_priority.values()) <= unserved(greedy)
    assert result.gap is not None
    assert result.gap >= 0
    assert result.stopped is None
    assert repr(solve(turned(whole))) == repr(result)


@pytest.mark.slow
@pytest.mark.usefixtures("narrow")
def test_a_plan_made_whole_in_a_core_is_near_its_bounds_in_any_order() -> None:
    whole = generated(60, 0.7)
    result = solve(whole)
    assert result.gap is not None
    assert 0 <= result.gap < 0.02
    for priority, bound in result.unserved_bound.items():
        assert bound <= result.unserved_by_priority[priority] <= bound + 3
    assert repr(solve(turned(whole))) == repr(result)


@pytest.mark.parametrize("held", [False, True])
def test_a_relaxation_that_begins_at_the_prices_of_a_sample_ends_where_it_would(
    held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "_SIZE", 20)
    whole = generated(80, 0.5)
    if held:
        holding = CurrentAllocation("A100", 2)
        services = tuple(replace(each, current=holding) for each in whole.services)
        whole = replace(whole, services=services)
    found = candidates(whole)
    written = formulate(found, resources(whole, found), break_ties=False)
    assert bool(written.givers) == held
    assert levels(written, Sample(written)) == pytest.approx(levels(written, None))


def levels(written: Formulation, drawn: Sample | None) -> list[float]:
    """The least value of every level, each then a limit."""
    relaxation, clock = Relaxation(written.program), Clock(60)
    if drawn is not None:
        drawn.begin()
    found = []
    for level in written.levels:
        begin = None if drawn is None else drawn.relax(level, clock)
        relaxed = relaxation.solve(level.cost, clock.left(), None if begin is None else begin[1])
        assert relaxed is not None
        found.append(level.constant + relaxed.objective)
        limit = level.whole(found[-1]) + (1e-4 if level.goal is not Goal.UNSERVED else 0)
        if drawn is not None and begin is not None:
            drawn.limit(level, begin[0], limit - found[-1])
        relaxation.limit(level.row, level.limit(limit))
    return found


@st.composite
def ties(draw: st.DrawFn) -> Problem:
    """Services that differ in hardly more than their names, on accelerators that cost the same."""
    services: list[Service] = []
    for i in range(draw(st.integers(2, 8))):
        current = draw(
            st.none() | st.builds(CurrentAllocation, st.sampled_from(["A100", "H100"]), st.just(2))
        )
        services.append(
            service(
                f"s{i}",
                draw(st.sampled_from([10, 20])),
                {each.name: 10.0 * each.multiplicity for each in PROFILES},
                priority=draw(st.integers(1, 2)),
                current=current,
            )
        )
    units = {"A100": draw(st.integers(0, 8)), "H100": draw(st.integers(0, 8))}
    return problem(*services, profiles=PROFILES, units=units, solver=Solver.AUTO)


@settings(deadline=None, max_examples=20)
@given(ties(), st.randoms(use_true_random=False))
def test_of_plans_that_are_as_good_the_same_is_taken_in_whatever_order(
    whole: Problem, random: object
) -> None:
    services = list(whole.services)
    random.shuffle(services)  # type: ignore[attr-defined]
    assert repr(solve(replace(turned(whole), services=tuple(services)))) == repr(solve(whole))


@pytest.mark.parametrize("solver", Solver)
@pytest.mark.parametrize(
    ("budget", "left_out"), [(30.0, set()), (29.0, {"c"}), (19.0, {"b", "c"}), (9.0, {"a", "b", "c"})]
)
def test_a_budget_sheds_from_the_last_priority_on(solver: Solver, budget: float, left_out: set[str]) -> None:
    services = [
        service(name, 10, {"H100": 10}, priority=priority) for priority, name in enumerate("abc", start=1)
    ]
    whole = problem(
        *services, profiles=(profile("H100", 10.0),), units={"H100": 9}, solver=solver, max_cost=budget
    )
    result = solve(whole)
    assert {name for name, decision in result.decisions.items() if decision.allocation is None} == left_out
    for name in left_out:
        assert "budget short of" in result.decisions[name].reason


def test_a_budget_sheds_the_dearer_of_a_priority() -> None:
    services = [service("large", 30, {"H100": 10}), service("small", 10, {"H100": 10})]
    whole = problem(
        *services, profiles=(profile("H100", 10.0),), units={"H100": 9}, solver=Solver.AUTO, max_cost=35.0
    )
    decisions = solve(whole).decisions
    assert decisions["large"].allocation is None
    assert decisions["small"].allocation is not None
