import pytest

from inferscale_solver import CurrentAllocation, Power, holding, power_draw, transition_value
from solver_builders import profile, service

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
