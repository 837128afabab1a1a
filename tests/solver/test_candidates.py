from dataclasses import replace

import pytest

import inferscale_queueing as queueing
from inferscale_solver import (
    Allocation,
    CurrentAllocation,
    Decision,
    Load,
    Outcome,
    Performance,
    Problem,
    Rejection,
    Service,
    TailRule,
    Targets,
    solve,
)
from solver_builders import performance, problem, profile, service

H100, L40S, MI300X = profile("H100", 10.0), profile("L40S", 4.0), profile("MI300X", 8.0)
ALL = (H100, L40S, MI300X)


def decide(given: Service, **settings: object) -> Decision:
    return solve(problem(given, profiles=ALL, **settings)).decisions[given.name]  # type: ignore[arg-type]


def allocated(decision: Decision) -> Allocation:
    assert decision.allocation is not None
    return decision.allocation


def rejections(decision: Decision) -> dict[str, Rejection]:
    return {outcome.profile: outcome.rejection for outcome in decision.candidates}


def messages(decision: Decision) -> dict[str, str]:
    return {outcome.profile: outcome.message for outcome in decision.candidates}


def test_a_service_gets_the_profile_that_carries_its_load_at_the_least_cost() -> None:
    decision = decide(service("s", 50, {"H100": 30, "L40S": 10, "MI300X": 20}))
    allocation = allocated(decision)
    assert decision.outcome is Outcome.SERVED
    assert (allocation.profile, allocation.replicas, allocation.cost) == ("H100", 2, 20.0)
    assert allocation.value == pytest.approx(22)
    assert allocation.rate_per_replica == pytest.approx(30)


def test_the_deck_s_replica_takes_35_requests_a_minute() -> None:
    deck = Performance("H100", alpha=19, beta=1, max_batch_size=48, at_tokens=1024)
    given = service(
        "s",
        Load(120, output_tokens=1024, prefill=False),
        {},
        performance=(deck,),
        targets=Targets(itl=50),
    )
    decision = decide(given)
    allocation = allocated(decision)
    assert allocation.rate_per_replica == pytest.approx(35.20031, abs=1e-5)
    assert (allocation.replicas, allocation.max_batch, decision.binding) == (4, 48, "itl")
    assert allocation.itl is not None
    assert allocation.itl < 50


GRANITE = Performance("H100", 20.58, 0.41, 200, 0.02, max_batch_size=32, at_tokens=1024)


@pytest.mark.parametrize("rule", TailRule)
def test_the_variation_of_the_traffic_counts_by_the_exact_rule_only(rule: TailRule) -> None:
    def made(**covs: float) -> Decision:
        given = service(
            "s",
            Load(245, input_tokens=128, output_tokens=1024, **covs),
            {},
            performance=(GRANITE,),
            targets=Targets(ttft=500, percentile=0.95),
        )
        return decide(given, tail_rule=rule)

    poisson, bursty = made(), made(arrival_cov=2, service_cov=1.5)
    if rule is not TailRule.EXACT:
        assert bursty == poisson
        return
    before, after = allocated(poisson), allocated(bursty)
    assert after.rate_per_replica < 0.9 * before.rate_per_replica
    assert after.replicas > before.replicas
    latency, varied = queueing.PrefillDecode(20.58, 0.41, 200, 0.02, 128, 1024), queueing.Variability(2, 1.5)
    targets = queueing.Targets(ttft=500, percentile=0.95)
    sized = queueing.size(latency, 32, targets, variability=varied)
    assert after.rate_per_replica == pytest.approx(60_000 * sized.rate[0])
    rate = 245 / 60_000 / after.replicas
    wait = queueing.wait_quantile(latency, 32, rate, 0.95, variability=varied)
    assert after.wait_percentile == pytest.approx(wait[0])
    assert after.wait == pytest.approx(queueing.analyze(latency, 32, rate, variability=varied).wait[0])


def test_prefill_enters_the_time_to_first_token() -> None:
    given = service(
        "s",
        Load(100, input_tokens=128, output_tokens=1024),
        {},
        performance=(GRANITE,),
        targets=Targets(ttft=500, percentile=0.95),
    )
    decision = decide(given)
    allocation = allocated(decision)
    assert allocation.rate_per_replica == pytest.approx(42.0795964, rel=1e-6)
    assert decision.binding == "ttft"
    assert allocation.ttft is not None
    assert allocation.wait is not None
    assert allocation.ttft - allocation.wait > 200


def test_a_throughput_target_counts_as_load() -> None:
    targets = Targets(tps=100)  # 60 requests/min of 100 tokens, at 0.9 of the largest rate
    decision = decide(service("s", 5, {"H100": 10}, targets=targets))
    assert allocated(decision).replicas == 7
    assert decision.binding == "tps"


def test_a_load_that_replicas_take_exactly_needs_none_more() -> None:
    assert allocated(decide(service("s", 30, {"H100": 10}))).replicas == 3


def test_min_replicas_bind_where_the_load_needs_fewer() -> None:
    decision = decide(service("s", 10, {"H100": 10}, min_replicas=3))
    assert (allocated(decision).replicas, decision.binding) == (3, "minReplicas")


def test_a_profile_that_needs_more_than_max_replicas_is_no_candidate() -> None:
    decision = decide(service("s", 100, {"L40S": 10, "H100": 50}, max_replicas=8))
    assert allocated(decision).profile == "H100"
    assert messages(decision)["L40S"] == "needs 10 replicas, maxReplicas is 8"


def test_an_unattainable_objective_is_named_with_its_figures() -> None:
    slow = replace(performance("L40S", 10), alpha=35.0)
    given = service("s", 10, {}, performance=(slow, performance("H100", 100)), targets=Targets(itl=30))
    decision = decide(given)
    assert rejections(decision) == {"H100": Rejection.CHOSEN, "L40S": Rejection.UNATTAINABLE}
    assert messages(decision)["L40S"] == ("ITL unattainable: 35.00 ms at the lightest load, target 30.00 ms")


def test_a_service_that_keeps_its_accelerator_has_one_candidate() -> None:
    current = CurrentAllocation("H100", 1)
    given = service("s", 20, {"H100": 10, "L40S": 10}, keep_accelerator=True, current=current)
    decision = decide(given)
    assert (allocated(decision).profile, allocated(decision).replicas) == ("H100", 2)
    assert rejections(decision)["L40S"] is Rejection.KEEP_ACCELERATOR


def test_keeping_the_accelerator_means_nothing_before_there_is_one() -> None:
    decision = decide(service("s", 20, {"H100": 10, "L40S": 10}, keep_accelerator=True))
    assert allocated(decision).profile == "L40S"


def test_excluded_profiles_are_reported_with_their_reason() -> None:
    excluded = {"L40S": "NotAllowed", "MI300X": "NoVariant: no variant for MI300X"}
    decision = decide(service("s", 20, {"H100": 10, "L40S": 10}, excluded=excluded))
    assert allocated(decision).profile == "H100"
    assert messages(decision)["MI300X"] == "NoVariant: no variant for MI300X"
    assert rejections(decision)["L40S"] is Rejection.EXCLUDED


def test_a_replica_larger_than_every_node_of_its_type_is_no_candidate() -> None:
    wide = performance("L40S", 10, acc_count=8)
    given = service("s", 10, {}, performance=(wide, performance("H100", 10)))
    decision = decide(given, units={"L40S": 64, "H100": 8}, nodes={"L40S": (4,) * 16})
    assert allocated(decision).profile == "H100"
    assert messages(decision)["L40S"] == "a replica needs 8 units of L40S, its largest node has 4"


def test_a_change_of_accelerator_must_be_worth_its_penalty() -> None:
    current = CurrentAllocation("H100", 2)
    given = service("s", 20, {"H100": 10, "MI300X": 10}, current=current)  # 20/h against 16/h
    stays, goes = decide(given, transition_penalty=0.2), decide(given, transition_penalty=0.05)
    assert (allocated(stays).profile, allocated(goes).profile) == ("H100", "MI300X")
    assert messages(stays)["MI300X"] == "cheaper by 4.00/h, not worth a change of accelerator"
    assert messages(goes)["H100"] == "dearer by 4.00/h"


def test_a_tie_goes_to_the_accelerator_in_use() -> None:
    current = CurrentAllocation("MI300X", 1)
    given = service("s", 20, {"MI300X": 20, "L40S": 10}, current=current)  # 8/h on both
    decision = decide(given, transition_penalty=0)
    assert (allocated(decision).profile, decision.runner_up) == ("MI300X", "L40S")


def test_a_tie_without_a_history_goes_to_the_smaller_change_then_to_the_name() -> None:
    assert allocated(decide(service("s", 20, {"L40S": 10, "MI300X": 20}))).profile == "MI300X"
    twins = (profile("B", 5.0), profile("A", 5.0))
    result = solve(problem(service("s", 20, {"B": 10, "A": 10}), profiles=twins))
    assert allocated(result.decisions["s"]).profile == "A"


class TestIdle:
    def test_a_service_without_load_gets_its_min_replicas_where_it_is(self) -> None:
        given = service(
            "s", 0, {"H100": 10, "L40S": 10}, min_replicas=2, current=CurrentAllocation("H100", 5)
        )
        decision = decide(given)
        allocation = allocated(decision)
        assert (decision.outcome, decision.binding) == (Outcome.IDLE, "minReplicas")
        assert (allocation.profile, allocation.replicas, allocation.itl) == ("H100", 2, None)
        assert messages(decision)["L40S"] == "no load: stays on H100"
        assert decision.reason == "no load: 2 replicas on H100"

    def test_it_may_go_to_zero(self) -> None:
        decision = decide(service("s", 0, {"H100": 10}, current=CurrentAllocation("H100", 5)))
        assert (allocated(decision).replicas, allocated(decision).cost) == (0, 0)

    def test_without_a_history_it_takes_the_cheapest_profile(self) -> None:
        decision = decide(service("s", 0, {"H100": 10, "L40S": 10}, min_replicas=1))
        assert (decision.outcome, allocated(decision).profile) == (Outcome.IDLE, "L40S")

    def test_its_batch_is_the_profile_s_own_since_token_lengths_mean_nothing(self) -> None:
        given = service("s", Load(0), {}, performance=(performance("H100", 10, batch=32),))
        assert allocated(decide(given)).max_batch == 32

    def test_it_stays_on_an_accelerator_without_data(self) -> None:
        given = service("s", 0, {"L40S": 10}, current=CurrentAllocation("H100", 1, acc_count=2))
        decision = decide(given)
        allocation = allocated(decision)
        assert (decision.outcome, allocation.profile, allocation.replicas) == (Outcome.IDLE, "H100", 1)
        assert allocation.cost == 20.0


class TestBatch:
    """A limit that is deployed stays: changing it restarts the replicas."""

    @staticmethod
    def batched(deployed: int | None, itl: float | None = None, **fields: object) -> Service:
        # T(n) = 10 + n ms, 16 requests of 100 tokens fit.
        row = Performance("H100", alpha=10, beta=1, max_batch_size=16, at_tokens=100)
        return service(
            "s",
            500,
            {},
            performance=(row,),
            targets=Targets(itl=itl),
            current=CurrentAllocation("H100", 1, max_batch=deployed),
            **fields,
        )

    def test_memory_bounds_the_engine_s_own_limit(self) -> None:
        assert allocated(decide(self.batched(None))).max_batch == 16

    def test_a_smaller_limit_stays_and_costs_replicas(self) -> None:
        small, large = allocated(decide(self.batched(1))), allocated(decide(self.batched(None)))
        assert small.max_batch == 1
        assert small.rate_per_replica < large.rate_per_replica
        assert small.replicas > large.replicas

    def test_a_larger_limit_stays_and_is_bounded_by_memory(self) -> None:
        allocation = allocated(decide(self.batched(64)))
        assert allocation.max_batch == 64
        assert allocation.rate_per_replica == allocated(decide(self.batched(None))).rate_per_replica

    def test_the_limit_grows_where_the_service_could_not_be_served_otherwise(self) -> None:
        needed = allocated(decide(self.batched(None))).replicas
        decision = decide(self.batched(1, max_replicas=needed))
        assert decision.outcome is Outcome.SERVED
        assert (allocated(decision).max_batch, allocated(decision).replicas) == (16, needed)

    def test_another_accelerator_starts_with_what_memory_holds(self) -> None:
        given = self.batched(1)
        moved = replace(given, performance=(replace(given.performance[0], profile="L40S"),))
        assert allocated(decide(moved)).max_batch == 16


class TestWithoutObjectives:
    """Services that nothing can serve within their objectives, accelerators unlimited."""

    slow = replace(performance("H100", 10), alpha=50.0)  # at most 11.988 requests/min
    targets = Targets(itl=30)

    def test_it_keeps_what_it_has(self) -> None:
        current = CurrentAllocation("H100", 5)
        given = service("s", 10, {}, performance=(self.slow,), targets=self.targets, current=current)
        decision = decide(given)
        assert (decision.outcome, allocated(decision).replicas) == (Outcome.BEST_EFFORT, 5)
        assert decision.binding == "itl"

    def test_it_grows_to_what_is_stable(self) -> None:
        current = CurrentAllocation("H100", 1)
        given = service("s", 50, {}, performance=(self.slow,), targets=self.targets, current=current)
        allocation = allocated(decide(given))
        assert allocation.replicas == 5  # 50 / (0.95 · 11.988)
        assert allocation.rate_per_replica == 0
        assert allocation.utilization is not None
        assert allocation.utilization < 0.95

    def test_it_starts_on_the_profile_with_the_lightest_iteration(self) -> None:
        slower = replace(performance("L40S", 10), alpha=60.0)
        given = service("s", 50, {}, performance=(slower, self.slow), targets=self.targets)
        decision = decide(given)
        assert allocated(decision).profile == "H100"
        assert decision.reason == (
            "best effort: 5 of 5 replicas on H100; "
            "H100: ITL unattainable: 50.00 ms at the lightest load, target 30.00 ms (and 1 more)"
        )

    def test_max_replicas_hold(self) -> None:
        decision = decide(service("s", 100, {"H100": 10}, max_replicas=4))
        assert (decision.outcome, allocated(decision).replicas) == (Outcome.BEST_EFFORT, 4)
        assert decision.binding == "maxReplicas"
        assert allocated(decision).utilization == 1
        assert allocated(decision).wait is None

    def test_it_keeps_an_accelerator_without_data(self) -> None:
        given = service("s", 10, {}, current=CurrentAllocation("H100", 2, max_batch=8))
        decision = decide(given)
        allocation = allocated(decision)
        assert (decision.outcome, allocation.replicas, allocation.max_batch) == (Outcome.BEST_EFFORT, 2, 8)
        assert decision.reason == (
            "best effort: 2 of 2 replicas on H100; no performance data for any profile that it may use"
        )

    def test_it_gets_nothing_without_any_profile(self) -> None:
        decision = decide(service("s", 10, {}, excluded={"H100": "NotAllowed"}))
        assert (decision.outcome, decision.allocation) == (Outcome.UNSERVED, None)
        assert decision.reason == "nothing: every profile is excluded: H100 (NotAllowed)"

    def test_requests_that_take_no_time_are_no_reason_to_fail(self) -> None:
        given = service("s", Load(10, input_tokens=50, output_tokens=1), {"H100": 10})
        decision = decide(given)
        assert decision.outcome is Outcome.UNSERVED
        assert "takes no time" in messages(decision)["H100"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"load": Load(float("nan"))}, "service s: load.arrival_rate is nan: it must be a finite number"),
        ({"load": Load(1, output_tokens=0)}, "load.output_tokens is 0"),
        ({"load": Load(1, arrival_cov=-1)}, "load.arrival_cov is -1: it must be a number from 0 to 100"),
        ({"load": Load(1, service_cov=float("nan"))}, "load.service_cov is nan"),
        ({"targets": Targets(itl=0)}, "targets.itl is 0: it must be a finite number above 0, or None"),
        ({"targets": Targets(percentile=95)}, "targets.percentile is 95: it must be a fraction like 0.95"),
        ({"min_replicas": 3, "max_replicas": 2}, "max_replicas is 2: it must be a finite number, at least 3"),
        ({"current": CurrentAllocation("T4", 1)}, "current.profile is T4: no such profile"),
        ({"performance": (performance("T4", 1),)}, "performance.profile is T4: no such profile"),
        ({"performance": (performance("H100", 1),) * 2}, "a profile may appear once"),
        ({"performance": (Performance("H100", 0, 0),)}, "service s on H100: alpha and beta are 0"),
        ({"performance": (Performance("H100", -1, 1),)}, "service s on H100: alpha is -1"),
    ],
)
def test_a_problem_without_meaning_is_refused_by_name(broken: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decide(replace(service("s", 1, {}), **broken))  # type: ignore[arg-type]


def test_names_are_unique() -> None:
    twice = service("s", 1, {})
    with pytest.raises(ValueError, match="services: names"):
        solve(problem(twice, twice, profiles=ALL))
    with pytest.raises(ValueError, match="profiles: names"):
        solve(Problem(services=(), profiles=(H100, H100)))


def test_nothing_to_decide_is_decided() -> None:
    result = solve(problem(profiles=ALL, units={"H100": 4}))
    assert (result.decisions, result.total_cost, result.used["H100"]) == ({}, 0, 0)
