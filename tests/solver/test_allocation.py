import pytest

from inferscale_solver import (
    Assignment,
    CurrentAllocation,
    Power,
    Profile,
    Targets,
    evaluate,
    evaluate_all,
    required_replicas,
    solve,
)
from solver_builders import performance, problem, profile, service

H100 = Profile("H100", "H100", cost=10.0, power=Power(idle=100, full=700, mid_power=600, mid_util=0.6))
PROBLEM = problem(
    service("s", 30, {"H100": 10}, current=CurrentAllocation("H100", 2)),
    service("slow", 30, {"H100": 10}, targets=Targets(itl=1)),
    service("idle", 0, {"H100": 10}, min_replicas=1),
    service("wide", 30, {}, performance=(performance("H100", 10, acc_count=4),)),
    profiles=(H100, profile("L40S", 4.0)),
)


def test_an_allocation_that_was_chosen_is_evaluated_to_the_same_figures() -> None:
    chosen = solve(PROBLEM).decisions["s"].allocation
    assert chosen is not None
    assert evaluate(PROBLEM, "s", "H100", chosen.replicas) == chosen


def test_more_replicas_wait_less() -> None:
    few, many = evaluate_all(PROBLEM, [Assignment("s", "H100", n) for n in (4, 8)])
    assert few.wait is not None
    assert many.wait is not None
    assert many.wait < few.wait
    assert many.rate_per_replica == few.rate_per_replica


def test_too_few_replicas_are_full_and_their_waits_have_no_figure() -> None:
    allocation = evaluate(PROBLEM, "s", "H100", 2)
    assert (allocation.utilization, allocation.wait, allocation.ttft) == (1, None, None)
    assert allocation.itl == pytest.approx(PROBLEM.services[0].performance[0].alpha)
    assert (allocation.cost, allocation.value, allocation.power) == (20, 0, 1400)


def test_no_replicas_have_no_figures() -> None:
    allocation = evaluate(PROBLEM, "s", "H100", 0)
    assert (allocation.cost, allocation.itl, allocation.utilization, allocation.power) == (
        0,
        None,
        None,
        None,
    )


def test_a_profile_without_data_has_a_cost_and_no_figures() -> None:
    allocation = evaluate(PROBLEM, "s", "L40S", 3)
    assert (allocation.cost, allocation.units, allocation.itl) == (12, 3, None)


def test_power_counts_every_profile_of_every_replica() -> None:
    allocation = evaluate(PROBLEM, "wide", "H100", 1)
    assert (allocation.units, allocation.power) == (4, 2800)


def test_required_replicas_follow_the_load() -> None:
    assert required_replicas(PROBLEM, "s", "H100") == 3
    assert required_replicas(PROBLEM, "idle", "H100") == 1


def test_nothing_is_required_where_nothing_would_do() -> None:
    assert required_replicas(PROBLEM, "slow", "H100") is None
    assert required_replicas(PROBLEM, "s", "L40S") is None
