from dataclasses import replace

import pytest

from inferscale_solver import (
    CurrentAllocation,
    Outcome,
    Problem,
    Rejection,
    Result,
    SaturationPolicy,
    Solver,
    Targets,
    solve,
)
from solver_builders import performance, problem, profile, service

H100, L40S = profile("H100", 10.0), profile("L40S", 6.0)
BOTH = (H100, L40S)


def given(result: Result) -> dict[str, tuple[str, int] | None]:
    return {
        name: None if (a := decision.allocation) is None else (a.profile, a.replicas)
        for name, decision in result.decisions.items()
    }


def test_ample_capacity_gives_everyone_the_best() -> None:
    services = service("a", 30, {"H100": 10, "L40S": 10}), service("b", 20, {"H100": 20})
    result = solve(problem(*services, profiles=BOTH, units={"H100": 8, "L40S": 8}))
    assert given(result) == {"a": ("L40S", 3), "b": ("H100", 1)}
    assert (result.total_cost, result.used, result.solver) == (28, {"H100": 1, "L40S": 3}, "greedy")
    assert result.unserved_by_priority == {1: 0}


def test_the_first_priority_is_served_first() -> None:
    services = (
        service("late", 40, {"L40S": 10, "H100": 10}, priority=2),
        service("early", 40, {"L40S": 10, "H100": 10}, priority=1),
    )
    result = solve(problem(*services, profiles=BOTH, units={"H100": 8, "L40S": 6}))
    assert given(result) == {"early": ("L40S", 4), "late": ("H100", 4)}
    late = result.decisions["late"]
    assert late.binding == "capacity:L40S"
    assert late.reason == (
        "the best that fits: 4 × H100 at 40.00/h; "
        "L40S at 24.00/h lost: L40S short of 2 units; no other candidate"
    )
    assert [(c.profile, c.rejection, c.message) for c in late.candidates] == [
        ("H100", Rejection.CHOSEN, "4 × H100 at 40.00/h"),
        ("L40S", Rejection.CAPACITY, "L40S short of 2 units"),
    ]


def test_within_a_priority_the_one_who_would_lose_most_comes_first() -> None:
    services = (
        service("a", 40, {"L40S": 10, "H100": 10}),  # 24 or 40 per hour: regrets 17.6
        service("b", 40, {"L40S": 10, "H100": 5}),  # 24 or 80 per hour: regrets 61.6
    )
    result = solve(problem(*services, profiles=BOTH, units={"H100": 8, "L40S": 4}))
    assert given(result) == {"a": ("H100", 4), "b": ("L40S", 4)}


def test_who_has_no_alternative_comes_first_of_all() -> None:
    services = (
        service("a", 40, {"L40S": 10, "H100": 1}),
        service("b", 40, {"L40S": 10}),
    )
    result = solve(problem(*services, profiles=BOTH, units={"H100": 40, "L40S": 4}))
    assert given(result) == {"a": ("H100", 40), "b": ("L40S", 4)}


def test_profiles_of_one_type_share_its_units() -> None:
    twin = profile("2xH100", 18.0, type="H100", multiplicity=2)
    services = service("a", 20, {"2xH100": 10}), service("b", 20, {"H100": 10}, priority=2)
    result = solve(problem(*services, profiles=(H100, twin), units={"H100": 5}))
    assert given(result) == {"a": ("2xH100", 2), "b": None}
    assert result.used == {"H100": 4}


def test_profiles_of_a_replica_count_in_its_units() -> None:
    wide = service("a", 20, {}, performance=(performance("H100", 10, acc_count=4),))
    assert given(solve(problem(wide, profiles=BOTH, units={"H100": 7}))) == {"a": None}
    assert given(solve(problem(wide, profiles=BOTH, units={"H100": 8}))) == {"a": ("H100", 2)}


def test_a_type_without_capacity_has_none() -> None:
    result = solve(problem(service("a", 10, {"H100": 10}), profiles=BOTH, units={}))
    decision = result.decisions["a"]
    assert (decision.outcome, decision.allocation) == (Outcome.UNSERVED, None)
    assert decision.reason == "nothing: too few units are left of H100"
    assert (result.unserved_by_priority, decision.binding) == ({1: 1}, "capacity:H100")


class WithEverySolver:
    """Runs every test once for each solver."""

    @pytest.fixture(autouse=True, params=Solver)
    def _solver(self, request: pytest.FixtureRequest) -> None:
        self.solver: Solver = request.param

    def solve(self, given: Problem) -> Result:
        return solve(replace(given, settings=replace(given.settings, solver=self.solver)))


class TestUnservedIsNotZero(WithEverySolver):
    """Whoever cannot be served keeps what it has, unless a higher priority takes it."""

    def test_it_keeps_what_it_has(self) -> None:
        low = service("a", 100, {"H100": 10}, current=CurrentAllocation("H100", 3))
        result = self.solve(problem(low, profiles=BOTH, units={"H100": 8}))
        decision = result.decisions["a"]
        assert (given(result), decision.outcome) == ({"a": ("H100", 3)}, Outcome.BEST_EFFORT)
        assert decision.reason == "best effort: 3 of 10 replicas on H100; too few units are left of H100"
        assert decision.candidates[0].message == "best effort: 3 of 10 replicas; H100 short of 2 units"
        assert result.unserved_by_priority == {1: 1}

    def test_a_higher_priority_takes_it(self) -> None:
        services = (
            service("low", 100, {"H100": 10}, priority=2, current=CurrentAllocation("H100", 4)),
            service("high", 60, {"H100": 10}),
        )
        result = self.solve(problem(*services, profiles=BOTH, units={"H100": 8}))
        assert given(result) == {"high": ("H100", 6), "low": ("H100", 2)}

    def test_a_lower_priority_does_not(self) -> None:
        services = (
            service("high", 100, {"H100": 10}, current=CurrentAllocation("H100", 6)),
            service("low", 40, {"H100": 10}, priority=2, current=CurrentAllocation("H100", 2)),
        )
        result = self.solve(problem(*services, profiles=BOTH, units={"H100": 8}))
        assert given(result) == {"high": ("H100", 6), "low": ("H100", 2)}

    def test_who_is_served_at_the_same_priority_comes_first(self) -> None:
        services = (
            service("served", 50, {"H100": 10}),
            service("unserved", 100, {"H100": 10}, current=CurrentAllocation("H100", 6)),
        )
        result = self.solve(problem(*services, profiles=BOTH, units={"H100": 8}))
        assert given(result) == {"served": ("H100", 5), "unserved": ("H100", 3)}

    def test_min_replicas_are_not_taken_by_anyone(self) -> None:
        current = CurrentAllocation("H100", 4)
        services = (
            service("low", 100, {"H100": 10}, priority=2, min_replicas=3, current=current),
            service("high", 60, {"H100": 10}),
        )
        result = self.solve(problem(*services, profiles=BOTH, units={"H100": 8}))
        assert given(result) == {"high": None, "low": ("H100", 4)}
        result = self.solve(problem(*services, profiles=BOTH, units={"H100": 9}))
        assert given(result) == {"high": ("H100", 6), "low": ("H100", 3)}

    def test_what_is_kept_for_a_service_is_free_again_when_it_moves(self) -> None:
        services = (
            service(
                "a",
                20,
                {"H100": 1, "L40S": 10},
                min_replicas=2,
                current=CurrentAllocation("H100", 2),
            ),
            service("b", 40, {"H100": 10}, priority=2),
        )
        result = self.solve(problem(*services, profiles=BOTH, units={"H100": 4, "L40S": 2}))
        assert given(result) == {"a": ("L40S", 2), "b": ("H100", 4)}

    def test_it_may_use_what_is_kept_for_itself(self) -> None:
        services = (
            service("a", 40, {"H100": 10}, min_replicas=3, current=CurrentAllocation("H100", 3)),
            service("b", 10, {"H100": 10}, priority=2),
        )
        result = self.solve(problem(*services, profiles=BOTH, units={"H100": 4}))
        assert given(result) == {"a": ("H100", 4), "b": None}

    @pytest.mark.parametrize("left", [0, 1, 3])
    def test_capacity_that_shrank_below_what_is_held_is_shared_not_exceeded(self, left: int) -> None:
        services = (
            service("a", 100, {"H100": 10}, min_replicas=4, current=CurrentAllocation("H100", 4)),
            service("b", 100, {"H100": 10}, priority=2, current=CurrentAllocation("H100", 4)),
        )
        result = self.solve(problem(*services, profiles=BOTH, units={"H100": left}))
        assert given(result) == {"a": ("H100", left) if left else None, "b": None}

    def test_an_idle_service_whose_accelerators_vanished_waits(self) -> None:
        idle = service("a", 0, {"H100": 10}, min_replicas=2, current=CurrentAllocation("H100", 2))
        result = self.solve(problem(idle, profiles=BOTH, units={"H100": 1}))
        assert given(result) == {"a": ("H100", 1)}
        assert result.decisions["a"].outcome is Outcome.BEST_EFFORT

    def test_max_replicas_bound_what_is_kept(self) -> None:
        over = service("a", 100, {"H100": 10}, max_replicas=3, current=CurrentAllocation("H100", 6))
        result = self.solve(problem(over, profiles=BOTH, units={"H100": 8}))
        assert given(result) == {"a": ("H100", 3)}

    def test_a_service_beyond_its_objectives_keeps_what_it_has(self) -> None:
        slow = service("a", 30, {"H100": 10}, targets=Targets(itl=1), current=CurrentAllocation("H100", 2))
        result = self.solve(problem(slow, profiles=BOTH, units={"H100": 8}))
        assert given(result) == {"a": ("H100", 2)}
        assert result.decisions["a"].binding == "itl"


class TestSaturation(WithEverySolver):
    """Three services want 6 replicas each of what is left, two of them at the first priority."""

    def share(self, policy: SaturationPolicy, units: int = 5, *, delayed: bool = False) -> dict[str, int]:
        services = [
            service(name, 60, {"H100": 10}, priority=priority)
            for name, priority in (("a", 1), ("b", 1), ("c", 2))
        ]
        result = self.solve(
            problem(*services, profiles=BOTH, units={"H100": units}, policy=policy, delayed=delayed)
        )
        return {name: 0 if amount is None else amount[1] for name, amount in given(result).items()}

    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            (SaturationPolicy.NONE, {"a": 0, "b": 0, "c": 0}),
            (SaturationPolicy.PRIORITY_EXHAUSTIVE, {"a": 5, "b": 0, "c": 0}),
            (SaturationPolicy.PRIORITY_ROUND_ROBIN, {"a": 3, "b": 2, "c": 0}),
            (SaturationPolicy.ROUND_ROBIN, {"a": 2, "b": 2, "c": 1}),
        ],
    )
    def test_what_is_left_is_shared_at_the_end_by_policy(
        self, policy: SaturationPolicy, expected: dict[str, int]
    ) -> None:
        assert self.share(policy, delayed=True) == expected

    def test_the_round_robin_is_among_a_priority_unless_it_is_delayed(self) -> None:
        assert self.share(SaturationPolicy.ROUND_ROBIN) == {"a": 3, "b": 2, "c": 0}

    def test_nobody_gets_more_than_it_wants(self) -> None:
        services = [
            service(name, 60, {"H100": 10}, max_replicas=2, priority=p) for name, p in (("a", 1), ("b", 2))
        ]
        for policy in list(SaturationPolicy)[1:]:
            result = self.solve(problem(*services, profiles=BOTH, units={"H100": 8}, policy=policy))
            assert given(result) == {"a": ("H100", 2), "b": ("H100", 2)}

    @pytest.mark.parametrize(("delayed", "expected"), [(False, {"a": 3, "b": 0}), (True, {"a": 0, "b": 3})])
    def test_delayed_left_overs_come_after_lower_priorities(
        self, delayed: bool, expected: dict[str, int]
    ) -> None:
        services = service("a", 60, {"H100": 15}), service("b", 30, {"H100": 10}, priority=2)
        policy = SaturationPolicy.PRIORITY_EXHAUSTIVE
        result = self.solve(
            problem(*services, profiles=BOTH, units={"H100": 3}, policy=policy, delayed=delayed)
        )
        amounts = {name: 0 if amount is None else amount[1] for name, amount in given(result).items()}
        if self.solver is not Solver.GREEDY:
            # Whatever can be served is, before anything is left over.
            expected = {"a": 0, "b": 3}
        assert amounts == expected

    def test_a_service_that_runs_gets_more_of_what_it_has(self) -> None:
        running = service("a", 100, {"H100": 10, "L40S": 10}, current=CurrentAllocation("H100", 2))
        policy = SaturationPolicy.PRIORITY_EXHAUSTIVE
        result = self.solve(problem(running, profiles=BOTH, units={"H100": 5, "L40S": 9}, policy=policy))
        assert given(result) == {"a": ("H100", 5)}

    def test_a_service_that_does_not_run_starts_on_the_best_that_a_replica_fits_on(self) -> None:
        stopped = service("a", 100, {"H100": 10, "L40S": 10}, current=CurrentAllocation("L40S", 0))
        policy = SaturationPolicy.PRIORITY_EXHAUSTIVE
        result = self.solve(problem(stopped, profiles=BOTH, units={"H100": 5, "L40S": 0}, policy=policy))
        assert given(result) == {"a": ("H100", 5)}


class TestWeight(WithEverySolver):
    """Who counts more comes first among those of one priority where not all can be served."""

    def test_the_heavier_of_two_is_served(self) -> None:
        for heavy in ("a", "b"):
            services = [
                service(name, 40, {"H100": 10}, weight=2.0 if name == heavy else 1.0) for name in ("a", "b")
            ]
            result = self.solve(problem(*services, profiles=BOTH, units={"H100": 6}))
            assert {name for name, amount in given(result).items() if amount} == {heavy}
            assert result.unserved_by_priority == {1: 1}

    def test_the_round_robins_give_in_proportion(self) -> None:
        services = [
            service("a", 90, {"H100": 10}, weight=2.0),
            service("b", 90, {"H100": 10}),
        ]
        for policy in (SaturationPolicy.ROUND_ROBIN, SaturationPolicy.PRIORITY_ROUND_ROBIN):
            result = self.solve(problem(*services, profiles=BOTH, units={"H100": 6}, policy=policy))
            assert given(result) == {"a": ("H100", 4), "b": ("H100", 2)}

    def test_the_heavier_comes_to_draw_first(self) -> None:
        services = [service("a", 90, {"H100": 10}), service("b", 90, {"H100": 10}, weight=1.5)]
        policy = SaturationPolicy.PRIORITY_EXHAUSTIVE
        result = self.solve(problem(*services, profiles=BOTH, units={"H100": 6}, policy=policy))
        assert given(result) == {"a": None, "b": ("H100", 6)}


@pytest.mark.parametrize("solver", [Solver.AUTO, Solver.EXACT])
def test_weight_is_never_at_the_price_of_a_service(solver: Solver) -> None:
    services = [
        service("heavy", 40, {"H100": 10}, weight=9.0),
        service("a", 20, {"H100": 10}),
        service("b", 20, {"H100": 10}),
    ]
    result = solve(problem(*services, profiles=BOTH, units={"H100": 4}, solver=solver))
    assert given(result) == {"heavy": None, "a": ("H100", 2), "b": ("H100", 2)}


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_is_above_zero(weight: float) -> None:
    with pytest.raises(ValueError, match=r"service a: weight is .*: it must be a finite number above 0"):
        solve(problem(service("a", 1, {"H100": 10}, weight=weight), profiles=BOTH))
