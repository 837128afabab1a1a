from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_queueing.chain import UNBOUNDED, blocks, from_service_rates, geometric_tail

NEAR_ONE = [1 + sign * 10.0**-k for k in range(3, 16) for sign in (-1, 1)]
RATIOS = [1e-300, 1e-20, 1e-3, 0.5, 0.9, 0.97, 0.9701, 1.0, 1.03, 1.3, 2.0, *NEAR_ONE]


@pytest.mark.parametrize("places", [0, 1, 2, 6, 64, 640])
def test_tail_sums_are_exact_to_ten_digits_at_every_ratio(places: int) -> None:
    tail = geometric_tail(np.array(RATIOS), np.full(len(RATIOS), float(places)))
    with localcontext() as context:
        context.prec = 60
        for i, ratio in enumerate(RATIOS):
            powers = [Decimal(ratio) ** j for j in range(places + 1)]
            scale = max(powers[-1], Decimal(1))
            moment = sum(j * power for j, power in enumerate(powers))
            assert tail.total[i] == pytest.approx(float(sum(powers) / scale), rel=1e-12)
            assert tail.inner[i] == pytest.approx(float(sum(powers[:-1]) / scale), rel=1e-12)
            assert tail.moment[i] == pytest.approx(float(moment / scale), rel=1e-12)
            assert tail.last[i] == pytest.approx(float(powers[-1] / scale), rel=1e-12)
            assert tail.log_scale[i] == pytest.approx(float(scale.ln()), rel=1e-12)


@pytest.mark.parametrize("ratio", [1e-12, 0.5, 0.9, 1 - 1e-9])
def test_an_unbounded_tail_is_the_limit_of_a_long_one(ratio: float) -> None:
    tail = geometric_tail(np.array([ratio]), np.array([np.inf]))
    assert tail.total[0] == pytest.approx(1 / (1 - ratio), rel=1e-12)
    assert tail.inner[0] == pytest.approx(1 / (1 - ratio), rel=1e-12)
    assert tail.moment[0] == pytest.approx(ratio / (1 - ratio) ** 2, rel=1e-12)
    assert tail.last[0] == 0


def test_an_unbounded_tail_is_the_same_alone_and_beside_a_bounded_one() -> None:
    ratios = np.array([1e-300, 1e-12, 0.3, 0.5, 0.97, 1 - 1e-9, 1 - 2**-53])
    alone = geometric_tail(ratios, np.full(ratios.size, np.inf))
    beside = geometric_tail(np.append(ratios, 2.0), np.append(np.full(ratios.size, np.inf), 6.0))
    for name in alone._fields:
        assert getattr(alone, name).tolist() == getattr(beside, name)[:-1].tolist()


def test_a_very_long_queue_in_overload_does_not_overflow() -> None:
    tail = geometric_tail(np.array([2.0]), np.array([1e6]))
    assert tail.total[0] == pytest.approx(2)
    assert tail.moment[0] == pytest.approx(2e6, rel=1e-5)


def exact_figures(service_rates: list[float], rate: float, max_batch: int, places: int) -> dict[str, Decimal]:
    """The chain's sums, state by state, in 60 digits."""
    with localcontext() as context:
        context.prec = 60
        weights = [Decimal(1)]
        for n in range(1, max_batch + places + 1):
            weights.append(weights[-1] * Decimal(rate) / Decimal(service_rates[min(n, max_batch) - 1]))
        total = sum(weights)
        return {
            "idle": weights[0] / total,
            "accepted": sum(weights[:-1]) / total,
            "refused": weights[-1] / total,
            "waiting": sum(weights[max_batch:-1]) / sum(weights[:-1]),
            "in_service": sum(min(n, max_batch) * w for n, w in enumerate(weights)) / total,
            "in_queue": sum(max(n - max_batch, 0) * w for n, w in enumerate(weights)) / total,
        }


def saturating_rates(max_batch: int) -> np.ndarray:
    n = np.arange(1, max_batch + 1)
    return n / (20 + 0.4 * n)


@pytest.mark.parametrize("load", [1e-12, 1e-3, 0.5, 0.99, 1.0, 1 + 1e-9, 1.2, 50.0])
@pytest.mark.parametrize(("max_batch", "places"), [(1, 0), (1, 3), (7, 0), (48, 152), (4096, 100)])
def test_sums_agree_with_an_exact_evaluation_state_by_state(load: float, max_batch: int, places: int) -> None:
    rates = saturating_rates(max_batch)
    chain = from_service_rates(rates[np.newaxis, :], np.array([max_batch]), np.array([places]))
    rate = load * rates[-1]
    masses = chain.masses(np.array([rate]))
    for name, expected in exact_figures(rates.tolist(), rate, max_batch, places).items():
        assert getattr(masses, name)[0] == pytest.approx(float(expected), rel=1e-10, abs=1e-290)


@pytest.mark.parametrize("rate", [1e-12, 1e-6, 1e-3, 1.0, 1e3])
def test_the_largest_batches_and_the_smallest_rates_give_finite_sums(rate: float) -> None:
    chain = from_service_rates(saturating_rates(4096)[np.newaxis, :], np.array([4096]), np.array([4096]))
    masses = chain.masses(np.array([rate]))
    assert all(np.isfinite(values).all() for values in masses)
    assert masses.accepted + masses.refused == pytest.approx([1], rel=1e-12)


@settings(deadline=None)
@given(
    service_rates=st.lists(st.floats(1e-3, 10), min_size=1, max_size=30),
    places=st.integers(0, 50),
    rate=st.floats(1e-6, 50),
)
def test_probabilities_sum_to_one_for_any_service_rates(
    service_rates: list[float], places: int, rate: float
) -> None:
    size = len(service_rates)
    chain = from_service_rates(np.array([service_rates]), np.array([size]), np.array([places]))
    masses = chain.masses(np.array([rate]))
    for name, expected in exact_figures(service_rates, rate, size, places).items():
        assert getattr(masses, name)[0] == pytest.approx(float(expected), rel=1e-9, abs=1e-290)
    assert masses.accepted + masses.refused == pytest.approx([1], rel=1e-12)


def test_candidates_of_different_sizes_do_not_disturb_each_other() -> None:
    rates = np.tile(saturating_rates(20), (3, 1))
    batches, limits = np.array([20, 1, 7]), np.array([5, UNBOUNDED, 0])
    arrivals = np.array([0.3, 0.01, 2.0])
    together = from_service_rates(rates, batches, limits).masses(arrivals)
    for i in range(3):
        alone = from_service_rates(rates[i : i + 1], batches[i : i + 1], limits[i : i + 1])
        for one, many in zip(alone.masses(arrivals[i : i + 1]), together, strict=True):
            assert many[i] == pytest.approx(one[0], rel=1e-13)


def test_only_an_unbounded_queue_can_be_unstable() -> None:
    rates = np.array([[1.0], [1.0], [1.0]])
    chain = from_service_rates(rates, np.array([1, 1, 1]), np.array([UNBOUNDED, UNBOUNDED, 3]))
    assert chain.stable(np.array([0.999, 1.0, 5.0])).tolist() == [True, False, True]


@settings(deadline=None)
@given(st.lists(st.integers(1, 200_000), max_size=60))
def test_blocks_hold_every_row_once_and_bounded_cells(widths: list[int]) -> None:
    array = np.array(widths, dtype=np.int64)
    found = list(blocks(array))
    assert sorted(np.concatenate(found).tolist() if found else []) == list(range(len(widths)))
    for rows in found:
        assert len(rows) == 1 or len(rows) * array[rows].max() <= 1 << 17
