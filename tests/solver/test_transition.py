from typing import Any

import pytest

from inferscale_solver import (
    CurrentAllocation,
    Power,
    Result,
    Solver,
    holding,
    power_draw,
    solve,
    transition_value,
)
from solver_builders import problem, profile, service

PROFILES = {p.name: p for p in (profile("H100", 10.0), profile("2xH100", 20.0, type="H100", multiplicity=2))}


def held(on: str, replicas: int, acc_count: int = 1):
    current = CurrentAllocation(on, replicas, acc_count=acc_count)
    return holding(service("s", 1, {"H100": 1}, current=current), PROFILES)


def test_nothing_changes_at_no_value() -> None:
    assert transition_value("H100", 3, 30.0, held("H100", 3), 0.1) == 0


def test_more_replicas_of_the_same_accelerator_are_worth_their_cost() -> None:
    assert transition_value("H100", 5, 50.0, held("H100", 3), 0.1) == pytest.approx(20)


def test_another_accelerator_pays_the_penalty_on_both_costs() -> None:
    assert transition_value("L40S", 2, 20.0, held("H100", 3), 0.1) == pytest.approx(0.1 * (30 + 20) + 20 - 30)


def test_the_first_allocation_pays_the_penalty_on_its_cost() -> None:
    assert transition_value("H100", 2, 20.0, None, 0.1) == pytest.approx(22)


def test_a_service_that_runs_nowhere_holds_nothing() -> None:
    assert holding(service("s", 1, {"H100": 1}), PROFILES) is None


def test_a_holding_takes_all_the_units_of_its_replicas() -> None:
    found = held("2xH100", 3, acc_count=2)
    assert found is not None
    assert (found.units_per_replica, found.cost) == (4, 120.0)


def test_performance_data_say_how_many_profiles_a_replica_holds() -> None:
    found = held("H100", 3, acc_count=2)
    assert found is not None
    assert (found.units_per_replica, found.cost) == (1, 30.0)


@pytest.mark.parametrize(
    ("utilization", "watts"), [(0, 100), (0.3, 250), (0.6, 400), (0.8, 450), (1, 500), (1.2, 500)]
)
def test_power_is_piecewise_linear_in_utilization(utilization: float, watts: float) -> None:
    power = Power(idle=100, full=500, mid_power=400, mid_util=0.6)
    assert power_draw(power, utilization) == pytest.approx(watts)


class TestKeepThreshold:
    """What a service has is kept unless something is better by more than a fraction of its cost."""

    @staticmethod
    def decide(threshold: float, load: float, on: str = "H100", replicas: int = 10, **more: Any) -> Result:
        current = CurrentAllocation(on, replicas)
        given = service("s", load, {"H100": 10, "MI300X": 10}, current=current)
        profiles = (profile("H100", 10.0), profile("MI300X", 9.0))
        return solve(
            problem(given, profiles=profiles, transition_penalty=0.0, keep_threshold=threshold, **more)
        )

    @pytest.mark.parametrize("limits", [{}, {"units": {"H100": 20, "MI300X": 20}}])
    @pytest.mark.parametrize("solver", Solver)
    def test_a_change_of_accelerator_must_be_better_by_more(
        self, solver: Solver, limits: dict[str, Any]
    ) -> None:
        # 100/h against 90/h.
        for threshold, expected in ((0.0, "MI300X"), (0.09, "MI300X"), (0.11, "H100")):
            result = self.decide(threshold, 100, solver=solver, **limits)
            allocation = result.decisions["s"].allocation
            assert allocation is not None
            assert (allocation.profile, allocation.replicas) == (expected, 10)
            assert allocation.value == (0 if expected == "H100" else -10)
            assert result.total_value == allocation.value

    @pytest.mark.parametrize("limits", [{}, {"units": {"MI300X": 20}}])
    @pytest.mark.parametrize("solver", Solver)
    def test_replicas_go_only_where_enough_of_them_may(self, solver: Solver, limits: dict[str, Any]) -> None:
        for threshold, load, expected in ((0.0, 90, 9), (0.1, 90, 10), (0.1, 80, 8), (0.1, 0, 0)):
            result = self.decide(threshold, load, "MI300X", solver=solver, **limits)
            allocation = result.decisions["s"].allocation
            assert allocation is not None
            assert (allocation.profile, allocation.replicas) == ("MI300X", expected)
        reason = self.decide(0.1, 90, "MI300X", solver=solver, **limits).decisions["s"].reason
        assert (
            reason
            == "kept: 10 × MI300X at 90.00/h; 9 would do, which is not better by more than the threshold"
        )

    def test_what_is_not_enough_is_not_kept(self) -> None:
        allocation = self.decide(0.5, 110).decisions["s"].allocation
        assert allocation is not None
        assert (allocation.profile, allocation.replicas) == ("MI300X", 11)

    @pytest.mark.parametrize("solver", Solver)
    def test_it_keeps_nothing_that_another_service_needs(self, solver: Solver) -> None:
        keeper = service("keeper", 90, {"H100": 10}, current=CurrentAllocation("H100", 10))
        other = service("other", 10, {"H100": 10}, priority=2)
        for units, kept in ((10, 9), (11, 10)):
            given = problem(
                keeper,
                other,
                profiles=(profile("H100", 10.0),),
                units={"H100": units},
                solver=solver,
                keep_threshold=0.2,
            )
            result = solve(given)
            assert result.used == {"H100": units}
            assert result.unserved_by_priority == {1: 0, 2: 0}
            allocation = result.decisions["keeper"].allocation
            assert allocation is not None
            assert allocation.replicas == kept
