import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_queueing import (
    Binding,
    PrefillDecode,
    Targets,
    Variability,
    analyze,
    size,
    slack,
    target_rates,
)
from strategies import Replica, replicas

MODEL = PrefillDecode(20, 0.5, 30, 0.05, 200, 100)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    replica=replicas(min_batch=2),
    itl_share=st.floats(0.3, 1.2),
    ttft=st.floats(100, 20_000),
    wait=st.floats(1, 20_000),
    tps=st.sampled_from([0.0, 100.0]),
    percentile=st.sampled_from([0.0, 0.95]),
)
def test_the_least_of_the_rates_by_target_is_the_rate_and_the_target_that_binds_has_no_slack(
    replica: Replica, itl_share: float, ttft: float, wait: float, tps: float, percentile: float
) -> None:
    itl = float(replica.latency.itl(1 + itl_share * replica.max_batch)[0])
    targets = Targets(itl=itl, ttft=ttft, wait=wait, tps=tps, percentile=percentile)
    given_ = (replica.latency, replica.max_batch, targets)
    sizing = size(*given_, queue_limit=replica.queue_limit)
    alone = target_rates(*given_, queue_limit=replica.queue_limit)
    least = min(alone.itl[0], alone.ttft[0], alone.wait[0], alone.tps[0])
    assert sizing.rate[0] == pytest.approx(least, rel=1e-9)
    if not sizing.attainable[0]:
        return
    left = slack(*given_, sizing.rate, queue_limit=replica.queue_limit)
    slacks = {Binding.ITL: left.itl[0], Binding.TTFT: left.ttft[0], Binding.WAIT: left.wait[0]}
    assert all(value >= -1e-9 for value in slacks.values())
    if sizing.binding[0] in slacks and percentile == 0:
        assert slacks[Binding(sizing.binding[0])] == pytest.approx(0, abs=1e-8)


def test_without_a_target_there_is_no_slack_to_speak_of() -> None:
    left = slack(MODEL, 16, Targets(itl=25), 0.003)
    itl = analyze(MODEL, 16, 0.003).itl[0]
    assert left.itl[0] == pytest.approx((25 - itl) / 25)
    assert np.isnan(left.ttft[0])
    assert np.isnan(left.wait[0])


def test_slack_is_negative_where_a_target_is_missed_and_minus_infinite_where_unstable() -> None:
    left = slack(MODEL, 16, Targets(itl=21, ttft=100), [0.004, 1.0])
    assert left.itl[0] < 0
    assert left.itl[1] == -np.inf
    assert left.ttft[1] == -np.inf


def test_rates_by_target_are_zero_where_that_target_is_unattainable_and_the_largest_where_it_is_idle() -> (
    None
):
    targets = Targets(itl=[10, 25], wait=1e9, tps=[0, 100])
    alone = target_rates(MODEL, 16, targets)
    largest = size(MODEL, 16, Targets()).max_rate[0]
    assert alone.itl[0] == 0
    assert 0 < alone.itl[1] < largest
    assert alone.ttft == pytest.approx([largest, largest])
    assert alone.wait == pytest.approx([largest, largest])
    assert alone.tps == pytest.approx([largest, 0.9 * largest])


def test_variability_counts_in_both() -> None:
    varied = Variability(3, 1)
    targets = Targets(ttft=300, percentile=0.95)
    assert target_rates(MODEL, 16, targets, variability=varied).ttft < target_rates(MODEL, 16, targets).ttft
    rate = size(MODEL, 16, targets).rate
    assert slack(MODEL, 16, targets, rate, variability=varied).ttft[0] < 0
