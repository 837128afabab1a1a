import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_queueing import DecodeOnly, analyze, wait_quantile
from inferscale_queueing.waiting import _finite_tail, percentiles, quantile_time, tail_probability
from strategies import Replica, replicas


def erlang_tail(stages: int, time: float) -> float:
    return math.fsum(math.exp(-time + i * math.log(time) - math.lgamma(i + 1)) for i in range(stages))


def tail(time: float, ratio: float, places: float, p_wait: float = 1.0) -> float:
    arrays = (np.array([value]) for value in (time, p_wait, ratio, float(places)))
    return float(tail_probability(*arrays)[0])


@pytest.mark.parametrize("ratio", [1e-3, 0.5, 1 - 1e-9, 1.0, 1 + 1e-9, 1.5, 20.0])
@pytest.mark.parametrize("places", [1, 2, 40])
@pytest.mark.parametrize("time", [1e-3, 1.0, 30.0])
def test_a_finite_queue_waits_for_an_erlang_time_per_state(ratio: float, places: int, time: float) -> None:
    shares = [ratio ** (k - places) for k in range(places)]
    expected = math.fsum(p * erlang_tail(k + 1, time) for k, p in enumerate(shares)) / math.fsum(shares)
    assert tail(time, ratio, places) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.3])
def test_the_tail_agrees_with_its_closed_form_away_from_saturation(ratio: float) -> None:
    places, time = 6, 4.0
    closed = math.exp(-(1 - ratio) * time) * erlang_tail(places, ratio * time)
    closed = (closed - ratio**places * erlang_tail(places, time)) / (1 - ratio)
    whole = sum(ratio**k for k in range(places))
    assert tail(time, ratio, places) == pytest.approx(closed / whole, rel=1e-11)


def test_everyone_who_waits_waits_longer_than_no_time() -> None:
    for places in (1, 7, np.inf):
        assert tail(0, 0.5, places, p_wait=0.25) == pytest.approx(0.25, rel=1e-14)


def test_nobody_waits_without_a_queue() -> None:
    assert tail(3, 0.5, 0, p_wait=0.0) == 0


def test_an_enormous_queue_and_wait_stay_finite() -> None:
    assert 0 < tail(1e5, 1.0, 100_000) < 1
    assert tail(2e5, 1.0, 100_000) == 0


def test_the_tail_falls_from_one_to_zero() -> None:
    times = np.linspace(0, 80, 200)
    values = tail_probability(times, np.ones(200), np.full(200, 1.1), np.full(200, 20.0))
    assert (np.diff(values) < 0).all()
    assert values[-1] < 1e-12


@settings(deadline=None)
@given(
    probability=st.floats(0.01, 0.9999),
    p_wait=st.floats(1e-6, 1),
    ratio=st.floats(0.01, 0.999),
    places=st.integers(1, 300) | st.just(np.inf),
)
def test_quantile_and_tail_are_inverse(
    probability: float, p_wait: float, ratio: float, places: float
) -> None:
    arguments = (np.array([p_wait]), np.array([ratio]), np.array([float(places)]))
    time = quantile_time(np.array([probability]), *arguments)
    longer = tail_probability(time, *arguments)[0]
    if p_wait <= 1 - probability:
        assert time[0] == 0
    else:
        assert longer == pytest.approx(1 - probability, rel=1e-8)


@settings(deadline=None)
@given(replica=replicas(), load=st.floats(0.05, 0.99))
def test_percentiles_of_the_wait_rise_and_nan_or_zero_is_the_mean(replica: Replica, load: float) -> None:
    rate = load * replica.full_rate
    shares = np.array([0.5, 0.9, 0.95, 0.99, 0.0, np.nan])
    waits = wait_quantile(replica.latency, replica.max_batch, rate, shares, queue_limit=replica.queue_limit)
    mean = analyze(replica.latency, replica.max_batch, rate, queue_limit=replica.queue_limit).wait[0]
    assert (np.diff(waits[:4]) >= 0).all()
    assert waits[4:] == pytest.approx([mean, mean], rel=1e-9)


def test_a_single_slot_has_the_textbook_s_percentile() -> None:
    model = DecodeOnly(10, 0, 10)
    expected = math.log(0.8 / 0.05) / (0.01 * 0.2)
    assert wait_quantile(model, 1, 0.008, 0.95)[0] == pytest.approx(expected, rel=1e-12)


def test_the_exponential_rule_and_the_mean_rule_multiply_the_mean() -> None:
    model = DecodeOnly(10, 1, 10)
    mean = analyze(model, 4, 0.02).wait[0]
    by_rule = {r: wait_quantile(model, 4, 0.02, 0.95, rule=r)[0] for r in ("exponential", "mean")}
    assert by_rule["exponential"] == pytest.approx(mean * math.log(20), rel=1e-12)
    assert by_rule["mean"] == pytest.approx(mean, rel=1e-12)


def test_percentiles_read_nan_as_the_mean() -> None:
    assert percentiles("p", [np.nan, 0, 0.9]).tolist() == [0, 0, 0.9]


@pytest.mark.parametrize("wrong", [-0.1, 1.0, np.inf])
def test_percentiles_outside_of_their_range_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"^p\[0\] is "):
        percentiles("p", wrong)


@pytest.mark.parametrize("ratio", [0.3, 0.9, 1 - 1e-9, 1.0, 1.4])
@pytest.mark.parametrize("places", [5, 300, 5000])
def test_the_sum_that_ends_early_is_the_whole_sum(ratio: float, places: int) -> None:
    times = np.array([0.0, 0.5, 20.0, 280.0, 3000.0])
    ratios, queues = np.full(times.size, ratio), np.full(times.size, float(places))
    short = tail_probability(times, np.ones(times.size), ratios, queues)
    whole = _finite_tail(times, ratios, queues, np.zeros(times.size), places)
    assert short == pytest.approx(whole, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("ratio", [0.9, 0.9999, 1.0, 1.0001, 1.4])
@pytest.mark.parametrize("share", [0.3, 0.99, 1.0, 1.02])
def test_of_many_terms_only_those_that_count_are_summed(ratio: float, share: float) -> None:
    places = 30_000
    given_ = (np.array([places * share]), np.ones(1), np.array([ratio]), np.array([float(places)]))
    time, _, ratios, queues = given_
    whole = _finite_tail(time, ratios, queues, np.zeros(1), places)
    assert tail_probability(*given_) == pytest.approx(whole, rel=1e-9, abs=1e-300)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.999, 1.0, 1.5])
def test_a_queue_of_a_billion_places_is_answered(ratio: float) -> None:
    time = quantile_time(np.array([0.95]), np.ones(1), np.array([ratio]), np.array([1e9]))[0]
    if ratio < 1:
        assert time == pytest.approx(np.log(20) / (1 - ratio), rel=1e-6)
    elif ratio == 1:
        # It finds any number of others before it with the same probability.
        assert time == pytest.approx(0.95e9, rel=1e-4)
    else:
        assert time == pytest.approx(1e9, rel=1e-3)
