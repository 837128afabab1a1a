from __future__ import annotations

import math

import numpy as np
import pytest

from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics.presets import presets
from inferscale_operator.metrics.queries import queries
from inferscale_operator.twin.promql import PromQLError, compile_query
from inferscale_operator.twin.samples import GROWTH, Samples

COUNTER, GAUGE = "vllm:request_success_total", "vllm:num_requests_running"


def scraped(times: list[float], counter: list[float], gauge: list[float] | None = None) -> Samples:
    samples = Samples([COUNTER, GAUGE], 1000.0)
    slot = samples.add(("n", "p"))
    for at, count, now in zip(times, counter, gauge or counter, strict=True):
        samples.record(at, [slot], [[count, now]])
    return samples


def ask(samples: Samples, query: str, at: float) -> float:
    return float(np.broadcast_to(compile_query(query)(samples, at), samples.size)[0])


def test_a_window_is_open_on_its_left() -> None:
    samples = scraped([0, 15, 30, 45, 60], [0, 30, 60, 90, 120])
    # At 60 a window of 15 s holds the sample at 60 alone: no rate.
    assert math.isnan(ask(samples, f"rate({COUNTER}[15s])", 60))
    assert ask(samples, f"rate({COUNTER}[30s])", 60) == pytest.approx(2.0)


def test_a_rate_is_extrapolated_to_the_ends_but_not_below_zero() -> None:
    samples = scraped([30, 45, 60], [0, 30, 60])
    # It began at zero at 30, in the window of 60 s: 60 in 60 s, not 2 a second.
    assert ask(samples, f"rate({COUNTER}[60s])", 60) == pytest.approx(60 / 60)
    # A gauge is extrapolated by half a gap on the side where it begins.
    assert ask(samples, f"delta({GAUGE}[60s])", 60) == pytest.approx(60 * (30 + 7.5) / 30)


def test_a_counter_that_starts_anew_has_not_gone_back() -> None:
    # 20 before it starts anew and 10 after it, in 45 s.
    samples = scraped([15, 30, 45, 60], [100, 120, 5, 10])
    assert ask(samples, f"rate({COUNTER}[60s])", 60) == pytest.approx((20 + 10) / 45)


def test_a_counter_that_starts_anew_while_it_is_not_scraped_has_not_gone_back_either() -> None:
    samples = Samples([COUNTER, GAUGE], 1000.0)
    slot = samples.add(("n", "p"))
    for at, count in ((0, 100.0), (15, 120.0), (30, None), (45, 5.0), (60, 10.0)):
        samples.record(at, *(([], []) if count is None else ([slot], [[count, 1.0]])))
    assert ask(samples, f"rate({COUNTER}[61s])", 60) == pytest.approx((20 + 10) / 60)


def test_what_a_pod_said_last_before_a_window_is_not_in_it() -> None:
    samples = scraped([0], [100], [9])
    samples.record(30, [], [])
    for at, count in ((45, 5), (60, 10)):
        samples.record(at, [0], [[count, 1]])
    # 5 in 15 s, and by half a gap more.
    assert ask(samples, f"rate({COUNTER}[40s])", 60) == pytest.approx(5 * (15 + 7.5) / 15 / 40)
    assert ask(samples, f"max_over_time({GAUGE}[40s])", 60) == 1


def test_what_was_asked_before_a_scrape_is_not_answered_after_it() -> None:
    samples = scraped([0, 15, 30], [100, 130, 160])
    rate = f"rate({COUNTER}[45s])"
    assert ask(samples, rate, 45) == pytest.approx(30 / 15)
    samples.record(45, [0], [[250, 0]])
    assert ask(samples, rate, 45) == pytest.approx((30 + 90) / 30)


def test_as_many_pods_come_as_will() -> None:
    samples = scraped([0, 15], [0, 30])
    for number in range(2 * GROWTH):
        samples.add(("n", f"p{number}"))
    assert samples.size > GROWTH
    assert ask(samples, f"rate({COUNTER}[30s])", 15) == pytest.approx(30 / 30)


def test_a_pod_that_is_gone_has_no_value_and_still_a_rate() -> None:
    samples = scraped([0, 15, 30, 45], [0, 30, 60, 90])
    samples.remove(("n", "p"), 50)
    samples.record(60, [], [])
    assert math.isnan(ask(samples, GAUGE, 60))
    assert ask(samples, f"sum by (namespace, pod) (rate({COUNTER}[60s]))", 60) > 0


def test_a_pod_that_is_not_scraped_is_seen_for_five_minutes() -> None:
    samples = scraped([0, 15], [1, 2])
    samples.record(30, [], [])
    assert ask(samples, f"timestamp({GAUGE})", 200) == 15
    assert math.isnan(ask(samples, f"timestamp({GAUGE})", 316))


def test_changes_counts_the_steps_that_brought_a_sample() -> None:
    samples = scraped([0, 15, 30, 45, 60], [0, 0, 0, 0, 0])
    assert ask(samples, f"changes(timestamp({GAUGE})[60s:15000ms])", 60) == 3


def test_every_query_of_every_preset_is_understood() -> None:
    settings = MetricsSettings(matchers={"cluster": 'a"b'})
    samples = scraped([0, 15, 30], [0, 1, 2])
    asked = [q for preset in presets(settings).values() for q in queries(preset, settings).values()]
    assert len(asked) > 20
    for question in asked:
        value = np.broadcast_to(compile_query(question.expression)(samples, 30.0), samples.size)
        assert value.shape == (samples.size,)


@pytest.mark.parametrize("query", ["rate(a[5s]", "histogram_quantile(1, a)", "a +", "1 2", "~", "rate(a[x])"])
def test_what_is_not_of_the_subset_is_refused(query: str) -> None:
    with pytest.raises(PromQLError):
        compile_query(query)


def test_slots_of_pods_long_gone_are_used_again() -> None:
    samples = Samples([COUNTER, GAUGE], 30.0)
    slot = samples.add(("n", "old"))
    samples.record(0, [slot], [[7, 7]])
    samples.remove(("n", "old"), 1)
    samples.record(40, [], [])
    assert samples.add(("n", "new")) == slot
    assert math.isnan(ask(samples, f"rate({COUNTER}[60s])", 40))
