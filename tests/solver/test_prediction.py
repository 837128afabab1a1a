from dataclasses import replace

import numpy as np
import pytest

import inferscale_queueing as queueing
from inferscale_solver import CurrentAllocation, Load, Performance, Service, TailRule, Targets
from inferscale_solver.prediction import Rates, figures, needed_replicas, rates
from inferscale_solver.runs import Runs, describe
from solver_builders import performance, service

LOAD = Load(60, input_tokens=200, output_tokens=100)
ON_H100 = Performance("H100", 20, 0.5, 30, 0.05, max_batch_size=8, at_tokens=100)
# Never within 30 ms from token to token.
ON_T4 = replace(ON_H100, profile="T4", alpha=50.0)
TARGETS = Targets(itl=30, ttft=150, percentile=0.95)
GIVEN = service("s", LOAD, {}, performance=(ON_H100, ON_T4), targets=TARGETS)


def runs(*services: Service) -> Runs:
    pairs = [(i, each) for i, described in enumerate(services) for each in described.performance]
    return describe(services, [i for i, _ in pairs], [each for _, each in pairs])


def sized(given: Service) -> Rates:
    return rates(runs(given), TailRule.EXACT)


def test_rates_are_those_of_the_queueing_model() -> None:
    model = queueing.PrefillDecode([20, 50], 0.5, 30, 0.05, 200, 100)
    sizing = queueing.size(model, 8, queueing.Targets(itl=30, ttft=150, percentile=0.95))
    found = sized(GIVEN)
    assert found.rate == pytest.approx(sizing.rate * 60_000)
    assert found.max_rate == pytest.approx(sizing.max_rate * 60_000)
    assert found.binding == ("ttft", "itl")


@pytest.mark.parametrize(
    "changed",
    [
        {"targets": replace(TARGETS, itl=21)},
        {"targets": replace(TARGETS, percentile=None)},
        {"load": replace(LOAD, output_tokens=50)},
        {"load": replace(LOAD, prefill=False)},
        {"load": replace(LOAD, arrival_cov=2)},
        {"performance": (replace(ON_H100, alpha=22.0), ON_T4)},
        {"current": CurrentAllocation("H100", 1, max_batch=4)},
    ],
)
def test_whatever_rates_depend_on_changes_what_is_kept(changed: dict[str, object]) -> None:
    before = sized(GIVEN)
    other = sized(replace(GIVEN, **changed))
    assert other.rate[0] != before.rate[0]
    assert sized(GIVEN).rate.tolist() == before.rate.tolist()


def test_what_is_kept_of_a_prediction_holds_at_other_rates_and_for_nothing_else() -> None:
    def predicted(given: Service, rate: float) -> list[float]:
        found = figures(runs(given), np.array([rate, rate]), TailRule.EXACT)
        return [float(column[0]) for column in found]

    before, after = predicted(GIVEN, 6), predicted(GIVEN, 12)
    fresh = queueing.analyze(queueing.PrefillDecode(20, 0.5, 30, 0.05, 200, 100), 8, 12 / 60_000)
    assert after[:3] == pytest.approx([fresh.itl[0], fresh.ttft[0], fresh.wait[0]])
    for other in (
        replace(GIVEN, load=replace(LOAD, output_tokens=50)),
        replace(GIVEN, load=replace(LOAD, prefill=False)),
        replace(GIVEN, load=replace(LOAD, arrival_cov=2)),
        replace(GIVEN, performance=(replace(ON_H100, alpha=22.0), ON_T4)),
        replace(GIVEN, current=CurrentAllocation("H100", 1, max_batch=4)),
    ):
        assert predicted(other, 6)[:3] != before[:3]
    assert predicted(GIVEN, 6) == before


def test_rates_do_not_depend_on_how_much_arrives_but_are_0_where_nothing_does() -> None:
    before = sized(GIVEN)
    assert sized(replace(GIVEN, load=replace(LOAD, arrival_rate=600))).rate.tolist() == before.rate.tolist()
    assert sized(replace(GIVEN, load=replace(LOAD, arrival_rate=0))).rate.tolist() == [0, 0]


def test_what_a_caller_does_to_its_rates_is_not_kept() -> None:
    first = sized(GIVEN)
    expected = first.rate.tolist()
    first.rate[:] = 0
    assert sized(GIVEN).rate.tolist() == expected


def test_what_is_missed_at_the_lightest_load_is_told_of_the_runs_that_miss_it() -> None:
    found = sized(GIVEN)
    assert found.shortfalls == {1: "ITL unattainable: 50.50 ms at the lightest load, target 30.00 ms"}
    one_by_one = CurrentAllocation("H100", 1, max_batch=1)
    late = replace(GIVEN, targets=Targets(itl=60, ttft=20, ttw=1), current=one_by_one)
    assert sized(late).shortfalls[0] == (
        "TTFT unattainable: 42.07 ms at the lightest load, target 20.00 ms; "
        "wait unattainable: 2.07 ms at the lightest load, target 1.00 ms"
    )


def test_services_of_both_latency_models_are_sized_and_predicted_together_as_alone() -> None:
    others = [replace(GIVEN, name="d", load=replace(LOAD, prefill=False)), replace(GIVEN, targets=Targets())]
    together = runs(*others)
    rate = np.array([30.0, 0, 40, np.inf])
    alone = [runs(other) for other in others]
    assert rates(together, TailRule.EXACT).rate == pytest.approx(
        np.concatenate([rates(each, TailRule.EXACT).rate for each in alone])
    )
    whole = figures(together, rate, TailRule.EXACT)
    parts = [figures(each, rate[i : i + 2], TailRule.EXACT) for each, i in zip(alone, (0, 2), strict=True)]
    for name in whole._fields:
        apart = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_allclose(getattr(whole, name), apart, rtol=1e-12)
    assert np.isnan(whole.itl).tolist() == [False, True, False, True]
    assert np.isnan(whole.wait_percentile).tolist() == [False, True, True, True]


def test_runs_are_read_by_service_and_by_profile() -> None:
    held = CurrentAllocation("H100", 1, max_batch=64)
    bound = replace(GIVEN, name="b", min_replicas=2, max_replicas=5, current=held)
    idle = service("i", 0, {}, performance=(replace(ON_T4, max_batch_size=7),))
    found = runs(GIVEN, bound, idle)
    assert found.columns.alpha.tolist() == [20, 50, 20, 50, 50]
    assert found.columns.ttw.tolist() == [np.inf] * 5
    assert found.most.tolist() == [np.inf, np.inf, 5, 5, np.inf]
    assert found.active.tolist() == [True] * 4 + [False]
    assert found.limit.tolist()[:4] == [8] * 4
    assert found.deployed.tolist() == [8, 8, 64, 8, 7]
    assert found.max_batch.tolist()[:4] == [8] * 4
    assert needed_replicas(found, np.array([7.0, 0, 60, 100, 0])).tolist() == [9, 0, 2, 2, 0]
    some = found.take(np.array([2, 0]))
    assert (some.deployed.tolist(), some.columns.alpha.tolist()) == ([64, 8], [20, 20])


def test_requests_that_take_no_time_leave_no_queue_to_analyse() -> None:
    no_prefill = performance("H100", 10)
    one_token = service("s", Load(10, input_tokens=50, output_tokens=1), {}, performance=(no_prefill, ON_T4))
    assert runs(one_token).active.tolist() == [False, True]
