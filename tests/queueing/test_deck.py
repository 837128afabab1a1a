"""The figures that were published, or computed elsewhere, for the same equations."""

from dataclasses import dataclass

import numpy as np
import pytest

from inferscale_queueing import (
    UNBOUNDED,
    DecodeOnly,
    PrefillDecode,
    Targets,
    analyze,
    size,
    wait_quantile,
)
from inferscale_queueing.analysis import build
from inferscale_queueing.chain import Chain

PER_MINUTE = 60_000.0
PER_SECOND = 1_000.0

DECK = DecodeOnly(19, 1, 1024)
DECK_BATCH = 48
DECK_QUEUE = 200 - DECK_BATCH


def deck_chain() -> Chain:
    return build(DECK, np.array([DECK_BATCH]), np.array([DECK_QUEUE]))


def test_the_deck_is_sized_to_its_itl_target() -> None:
    sizing = size(DECK, DECK_BATCH, Targets(itl=50), queue_limit=DECK_QUEUE)
    assert sizing.rate[0] * PER_MINUTE == pytest.approx(35.2003139, rel=1e-8)
    assert sizing.rate[0] * 1024 == pytest.approx(0.600752, abs=5e-7)


def test_the_deck_has_the_printed_distribution() -> None:
    masses = deck_chain().masses(np.array([35.2003139 / PER_MINUTE]))
    assert masses.idle[0] == pytest.approx(1.0542e-08, abs=5e-13)
    assert masses.refused[0] == pytest.approx(1.4442e-14, abs=5e-19)


def test_the_deck_has_the_printed_share_of_states_without_a_queue() -> None:
    rate = np.array([35.2003139 / PER_MINUTE])
    chain = deck_chain()
    masses = chain.masses(rate)
    ratio = rate / chain.full_rate
    # P(n > N) = r·P(N ≤ n < N + Q).
    assert 1 - ratio[0] * masses.waiting[0] * masses.accepted[0] == pytest.approx(0.96847, abs=5e-6)


def test_the_deck_has_the_printed_figures() -> None:
    analysis = analyze(DECK, DECK_BATCH, 35.2003139 / PER_MINUTE, queue_limit=DECK_QUEUE)
    assert analysis.in_system[0] == pytest.approx(30.23, abs=0.005)
    assert analysis.in_service[0] == pytest.approx(30.04, abs=0.005)
    assert analysis.in_queue[0] == pytest.approx(0.20, abs=0.005)
    assert analysis.utilization[0] == pytest.approx(0.626, abs=0.0005)
    assert analysis.response_time[0] == pytest.approx(51_532.887, rel=1e-6)
    assert analysis.service_time[0] == pytest.approx(51_200, rel=1e-6)
    assert analysis.wait[0] == pytest.approx(332.887, rel=1e-6)
    assert analysis.itl[0] == pytest.approx(50, rel=1e-6)


@dataclass(frozen=True)
class Row:
    """One published case: rates in requests/s, times in ms; infinite rates stand for the largest."""

    latency: PrefillDecode
    max_batch: int
    queue_limit: int
    rate: float
    ttft_target: float
    itl_target: float
    max_rate: float
    wait: float
    in_service: float
    prefill: float
    itl: float
    rate_for_ttft: float
    rate_for_itl: float


# fmt: off
ROWS = [
    Row(PrefillDecode(20.58, 0.41, 200, 0.02, 128, 1024), 32, 320, 0.75, 500, 32,
        0.919756642, 728.789432, 23.7263376, 262.980991, 30.6667994, 0.701663356, 0.824434622),
    Row(PrefillDecode(20.58, 0.41, 5.2, 0.1, 512, 128), 64, 640, 5, 1000, 40,
        6.92837343, 0.050029479, 28.1414246, 1497.23598, 32.5279444, 3.98448385, 6.18586619),
    Row(PrefillDecode(10, 1, 20, 0.05, 100, 50), 8, 0, 6, 80, 16,
        8.48407643, 0, 4.36714642, 45.4210091, 15.0842018, np.inf, 8.0549669),
    Row(PrefillDecode(18.22, 0.5, 0, 0, 0, 256), 24, 240, 2.5, 200, 26,
        3.11130144, 248.797621, 17.4462741, 0, 27.3667044, 2.46137776, 2.20188122),
    Row(PrefillDecode(18.22, 0.5, 10, 0.08, 1000, 1), 16, 160, 9, 900, np.inf,
        12.3906977, 2.0119155, 2.87525121, 319.472357, 20.1542022, 11.2299831, np.inf),
]
# fmt: on


@pytest.mark.parametrize("row", ROWS)
def test_prefill_and_decode_is_analysed_as_published(row: Row) -> None:
    analysis = analyze(row.latency, row.max_batch, row.rate / PER_SECOND, queue_limit=row.queue_limit)
    assert analysis.wait[0] == pytest.approx(row.wait, rel=1e-6)
    assert analysis.in_service[0] == pytest.approx(row.in_service, rel=1e-6)
    assert analysis.prefill[0] == pytest.approx(row.prefill, rel=1e-6)
    assert analysis.itl[0] == pytest.approx(row.itl, rel=1e-6)
    assert analysis.ttft[0] == pytest.approx(row.wait + row.prefill, rel=1e-6)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("target", ["ttft", "itl"])
def test_prefill_and_decode_is_sized_as_published(row: Row, target: str) -> None:
    targets = Targets(ttft=row.ttft_target) if target == "ttft" else Targets(itl=row.itl_target)
    expected = row.rate_for_ttft if target == "ttft" else row.rate_for_itl
    sizing = size(row.latency, row.max_batch, targets, queue_limit=row.queue_limit)
    assert sizing.max_rate[0] * PER_SECOND == pytest.approx(row.max_rate, rel=1e-6)
    assert sizing.rate[0] * PER_SECOND == pytest.approx(min(expected, row.max_rate), rel=1e-6)


def test_a_replica_without_a_queue_serves_what_it_does_not_refuse() -> None:
    analysis = analyze(ROWS[2].latency, 8, 6 / PER_SECOND, queue_limit=0)
    assert analysis.throughput[0] * PER_SECOND == pytest.approx(5.56645681, rel=1e-6)


@pytest.mark.parametrize("queue_limit", [320, UNBOUNDED])
def test_percentiles_of_the_wait_are_as_published(queue_limit: int) -> None:
    row = ROWS[0]
    waits = wait_quantile(
        row.latency, row.max_batch, row.rate / PER_SECOND, [0.95, 0.99], queue_limit=queue_limit
    )
    assert waits == pytest.approx([5339.7916, 14769.50], rel=1e-6)
    analysis = analyze(row.latency, row.max_batch, row.rate / PER_SECOND, queue_limit=queue_limit)
    assert analysis.p_wait[0] == pytest.approx(0.12438783, rel=1e-6)


def test_the_exponential_rule_gives_the_deck_s_percentile() -> None:
    row = ROWS[0]
    waits = wait_quantile(
        row.latency, row.max_batch, row.rate / PER_SECOND, 0.95, queue_limit=320, rule="exponential"
    )
    assert waits[0] == pytest.approx(2183.3, abs=0.05)


@pytest.mark.parametrize("queue_limit", [320, UNBOUNDED])
@pytest.mark.parametrize(("rule", "expected"), [("exact", 42.0795964), ("exponential", 39.4992600)])
def test_rates_for_a_percentile_of_ttft_are_as_published(
    rule: str, expected: float, queue_limit: int
) -> None:
    targets = Targets(ttft=500, percentile=0.95, rule=rule)
    sizing = size(ROWS[0].latency, 32, targets, queue_limit=queue_limit)
    assert sizing.rate[0] * PER_MINUTE == pytest.approx(expected, rel=1e-6)


FINITE = DecodeOnly(8, 1, 50)
FINITE_RATES = np.array([540.0, 600.0, 780.0]) / PER_MINUTE


def test_a_finite_queue_is_analysed_as_published_below_at_and_above_saturation() -> None:
    analysis = analyze(FINITE, 8, FINITE_RATES, queue_limit=6)
    assert build(FINITE, np.array([8]), np.array([6])).full_rate * PER_MINUTE == pytest.approx(600)
    assert analysis.blocking == pytest.approx([0.048913375, 0.090153829, 0.245545507], rel=1e-6)
    assert analysis.wait == pytest.approx([144.863192, 208.082472, 364.218408], rel=1e-6)
    waits = wait_quantile(FINITE, 8, FINITE_RATES, 0.95, queue_limit=6)
    assert waits == pytest.approx([640.427842, 731.546960, 875.249125], rel=1e-6)


def test_an_unbounded_queue_waits_longer_as_published() -> None:
    waits = wait_quantile(FINITE, 8, FINITE_RATES[0], 0.95)
    assert waits[0] == pytest.approx(2547.979914, rel=1e-6)
