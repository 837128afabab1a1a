import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_queueing import UNBOUNDED, DecodeOnly, PrefillDecode, analyze, wait_quantile
from strategies import Replica, replicas

LOADS = st.floats(1e-6, 0.999)


def test_a_flat_iteration_gives_erlang_s_c_formula() -> None:
    alpha, tokens, servers, load = 20.0, 50.0, 12, 0.85
    service_time = alpha * tokens
    rate = load * servers / service_time
    offered = rate * service_time
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    waits = blocked / (1 - load * (1 - blocked))
    analysis = analyze(DecodeOnly(alpha, 0, tokens), servers, rate)
    assert analysis.p_wait[0] == pytest.approx(waits, rel=1e-12)
    assert analysis.wait[0] == pytest.approx(waits * service_time / servers / (1 - load), rel=1e-12)
    assert analysis.service_time[0] == pytest.approx(service_time, rel=1e-12)
    assert analysis.in_service[0] == pytest.approx(offered, rel=1e-12)
    assert analysis.concurrency[0] == pytest.approx(offered, rel=1e-12)
    assert analysis.response_time[0] == pytest.approx(analysis.wait[0] + service_time, rel=1e-12)


@pytest.mark.parametrize("load", [0.3, 1.0, 1.7])
def test_a_flat_iteration_with_a_finite_queue_is_erlang_s_loss_system(load: float) -> None:
    servers, places, service_time = 5, 4, 100.0
    rate = load * servers / service_time
    offered = rate * service_time
    weights = [offered**n / math.factorial(n) for n in range(servers + 1)]
    weights += [weights[-1] * load**j for j in range(1, places + 1)]
    total = math.fsum(weights)
    analysis = analyze(DecodeOnly(10, 0, 10), servers, rate, queue_limit=places)
    assert analysis.blocking[0] == pytest.approx(weights[-1] / total, rel=1e-12)
    assert analysis.throughput[0] == pytest.approx(rate * (1 - weights[-1] / total), rel=1e-12)
    in_system = math.fsum(n * w for n, w in enumerate(weights)) / total
    assert analysis.in_system[0] == pytest.approx(in_system, rel=1e-12)
    assert analysis.response_time[0] == pytest.approx(in_system / analysis.throughput[0], rel=1e-12)


@pytest.mark.parametrize("load", [0.3, 0.999, 1.7])
def test_an_iteration_in_proportion_to_the_batch_is_a_single_server(load: float) -> None:
    batch, places, service_time = 6, 7, 50.0
    rate = load / service_time
    weights = [load**n for n in range(batch + places + 1)]
    total = math.fsum(weights)
    analysis = analyze(DecodeOnly(0, 5, 10), batch, rate, queue_limit=places)
    assert analysis.blocking[0] == pytest.approx(weights[-1] / total, rel=1e-12)
    in_system = math.fsum(n * w for n, w in enumerate(weights)) / total
    assert analysis.in_system[0] == pytest.approx(in_system, rel=1e-12)
    assert analysis.throughput[0] == pytest.approx(rate * (1 - weights[-1] / total), rel=1e-12)


def test_an_unbounded_single_server_has_the_textbook_s_length() -> None:
    analysis = analyze(DecodeOnly(0, 5, 10), 6, 0.8 / 50)
    assert analysis.in_system[0] == pytest.approx(4, rel=1e-12)
    assert analysis.response_time[0] == pytest.approx(250, rel=1e-12)


@settings(deadline=None)
@given(replica=replicas(), load=st.floats(1e-9, 5))
def test_little_s_law_holds_and_shares_are_shares(replica: Replica, load: float) -> None:
    rate = load * replica.full_rate
    analysis = analyze(replica.latency, replica.max_batch, rate, queue_limit=replica.queue_limit)
    if replica.queue_limit == UNBOUNDED and load >= 1:
        assert not analysis.stable[0]
        return
    assert analysis.stable[0]
    in_system = analysis.throughput * (analysis.wait + analysis.service_time)
    assert analysis.in_system == pytest.approx(in_system, rel=1e-9)
    assert analysis.throughput == pytest.approx(rate * (1 - analysis.blocking), rel=1e-9)
    assert 0 <= analysis.blocking[0] <= 1
    assert 0 <= analysis.p_wait[0] <= 1
    assert 0 <= analysis.utilization[0] <= 1
    assert analysis.ttft == pytest.approx(analysis.wait + analysis.prefill)


@settings(deadline=None)
@given(replica=replicas(min_batch=2), load=LOADS)
def test_the_mean_service_time_is_that_of_the_effective_concurrency(replica: Replica, load: float) -> None:
    rate = load * replica.full_rate
    analysis = analyze(replica.latency, replica.max_batch, rate, queue_limit=replica.queue_limit)
    assert replica.latency.service_time(analysis.concurrency) == pytest.approx(
        analysis.service_time, rel=1e-9
    )
    assert 1 - 1e-6 <= analysis.concurrency[0] <= replica.max_batch


@settings(deadline=None)
@given(replica=replicas(), low=LOADS, high=LOADS)
def test_latency_rises_with_load(replica: Replica, low: float, high: float) -> None:
    rates = np.sort([low, high]) * replica.full_rate
    analysis = analyze(replica.latency, replica.max_batch, rates, queue_limit=replica.queue_limit)
    waits = wait_quantile(replica.latency, replica.max_batch, rates, 0.9, queue_limit=replica.queue_limit)
    for name in ("itl", "prefill", "wait", "ttft", "response_time", "utilization", "p_wait", "blocking"):
        values = getattr(analysis, name)
        assert values[0] <= values[1] * (1 + 1e-9) + 1e-300, name
    assert waits[0] <= waits[1] * (1 + 1e-9)


@settings(deadline=None)
@given(replica=replicas(), load=LOADS)
def test_a_very_long_queue_is_an_unbounded_one(replica: Replica, load: float) -> None:
    rate = min(load, 0.95) * replica.full_rate
    bounded = analyze(replica.latency, replica.max_batch, rate, queue_limit=5000)
    unbounded = analyze(replica.latency, replica.max_batch, rate)
    for name in ("in_system", "wait", "itl", "ttft", "p_wait", "throughput"):
        assert getattr(bounded, name) == pytest.approx(getattr(unbounded, name), rel=1e-9)


def test_an_overloaded_unbounded_queue_has_no_plausible_figures() -> None:
    analysis = analyze(DecodeOnly(10, 1, 10), [4, 4], [1.0, 0.001])
    assert analysis.stable.tolist() == [False, True]
    assert analysis.arrival_rate[0] == 1.0
    for field in fields(analysis):
        if field.name not in ("stable", "arrival_rate"):
            values = getattr(analysis, field.name)
            assert not np.isfinite(values[0]), field.name
            assert np.isfinite(values[1]), field.name
    assert np.isinf(analysis.wait[0])
    assert np.isinf(analysis.ttft[0])
    for rule in ("exact", "exponential", "mean"):
        assert np.isinf(wait_quantile(DecodeOnly(10, 1, 10), 4, 1.0, 0.95, rule=rule)[0])


def test_an_overloaded_finite_queue_refuses_what_it_cannot_serve() -> None:
    model, batch = DecodeOnly(10, 1, 10), 4
    full_rate = batch / model.service_time(batch)
    analysis = analyze(model, batch, 1e6 * full_rate, queue_limit=3)
    assert analysis.blocking == pytest.approx([1 - 1e-6], rel=1e-9)
    assert analysis.throughput == pytest.approx(full_rate, rel=1e-6)
    assert analysis.utilization == pytest.approx([1], rel=1e-6)
    assert analysis.concurrency == pytest.approx([4], rel=1e-6)


def test_at_rate_zero_the_figures_are_those_of_a_request_alone() -> None:
    model = PrefillDecode(20, 0.5, 10, 0.1, 100, 11)
    for queue_limit in (UNBOUNDED, 0, 7):
        analysis = analyze(model, 8, 0, queue_limit=queue_limit)
        assert analysis.throughput[0] == 0
        assert analysis.wait[0] == 0
        assert analysis.concurrency == pytest.approx([1])
        assert analysis.itl == pytest.approx([20.5])
        assert analysis.ttft == pytest.approx([20])
        assert wait_quantile(model, 8, 0, 0.95, queue_limit=queue_limit)[0] == 0


def test_thousands_of_candidates_give_what_each_gives_alone() -> None:
    random = np.random.default_rng(5)
    count = 3000
    model = DecodeOnly(random.uniform(5, 40, count), random.uniform(0.1, 1, count), 100)
    batches = random.integers(1, 200, count)
    limits = random.integers(-1, 50, count)
    rates = random.uniform(0.1, 0.9, count) * batches / model.service_time(batches)
    together = analyze(model, batches, rates, queue_limit=limits)
    for i in random.integers(0, count, 20):
        alone = analyze(model.take(np.array([i])), batches[i], rates[i], queue_limit=limits[i])
        for field in fields(alone):
            assert getattr(together, field.name)[i] == pytest.approx(
                getattr(alone, field.name)[0], rel=1e-10, abs=1e-290
            )


def test_no_candidates_have_no_figures() -> None:
    none = np.zeros(0)
    assert analyze(DecodeOnly(none, none, none), none, none).wait.size == 0
    assert wait_quantile(DecodeOnly(none, none, none), none, none, 0.95).size == 0


def test_one_model_can_be_analysed_at_many_rates() -> None:
    assert analyze(DecodeOnly(10, 1, 10), 4, [0.001, 0.002, 0.003]).itl.shape == (3,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_batch": 0}, r"max_batch\[0\] is 0; give a finite number of at least 1"),
        ({"max_batch": 2.5}, r"max_batch\[0\] is 2.5; give a whole number"),
        ({"arrival_rate": [0.1, -0.1]}, r"arrival_rate\[1\] is -0.1"),
        ({"arrival_rate": np.nan}, r"arrival_rate\[0\] is nan"),
        ({"queue_limit": -2}, r"queue_limit\[0\] is -2; give a finite number of at least -1"),
        ({"max_batch": [1, 2], "arrival_rate": [1, 2, 3]}, r"\(max_batch 2, arrival_rate 3\)"),
    ],
)
def test_wrong_inputs_are_named(arguments: dict[str, object], message: str) -> None:
    given_arguments = {"max_batch": 4, "arrival_rate": 0.001, **arguments}
    with pytest.raises(ValueError, match=message):
        analyze(DecodeOnly(10, 1, 10), **given_arguments)


def test_percentiles_are_fractions() -> None:
    with pytest.raises(ValueError, match=r"quantile\[0\] is 95; give a fraction below 1, such as 0.95"):
        wait_quantile(DecodeOnly(10, 1, 10), 4, 0.001, 95)
