import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_queueing import DecodeOnly, PrefillDecode, Targets, Variability, best_batch, size

MODEL = PrefillDecode(20, 0.5, 30, 0.05, 200, 100)


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(
    largest=st.integers(1, 40),
    itl=st.floats(15, 50),
    ttft=st.floats(30, 2000),
    tolerance=st.sampled_from([0.0, 0.01, 0.2]),
)
def test_the_limit_is_the_smallest_that_comes_near_the_best_of_all(
    largest: int, itl: float, ttft: float, tolerance: float
) -> None:
    targets = Targets(itl=itl, ttft=ttft)
    rates = [float(size(MODEL, n, targets).rate[0]) for n in range(1, largest + 1)]
    found = best_batch(MODEL, largest, targets, tolerance=tolerance)
    assert found.best_rate[0] == pytest.approx(max(rates), rel=1e-9)
    if max(rates) == 0:
        assert (found.batch[0], found.rate[0]) == (0, 0)
        return
    n = int(found.batch[0])
    assert found.rate[0] == pytest.approx(rates[n - 1], rel=1e-9)
    assert rates[n - 1] >= (1 - tolerance) * max(rates) * (1 - 1e-9)
    assert all(rate < (1 - tolerance) * max(rates) * (1 + 1e-9) for rate in rates[: n - 1])


def test_a_tight_itl_is_met_by_a_batch_far_below_the_memory() -> None:
    found = best_batch(MODEL, 256, Targets(itl=30, ttft=500))
    assert found.batch[0] < 40
    assert found.rate[0] >= 0.99 * size(MODEL, 256, Targets(itl=30, ttft=500)).rate[0]


def test_candidates_are_found_together_as_each_alone() -> None:
    model = PrefillDecode([20, 10, 30], 0.5, 30, 0.05, 200, 100)
    targets = Targets(itl=[30, 25, 12], ttft=[500, 200, 300], percentile=[0.95, 0, 0])
    varied = Variability([2, 1, 1], [1, 0, 1])
    together = best_batch(model, [20, 30, 10], targets, queue_limit=[5, -1, -1], variability=varied)
    for i, (batch, limit) in enumerate(((20, 5), (30, -1), (10, -1))):
        row = np.array([i])
        alone = best_batch(
            model.take(row), batch, targets.take(row), queue_limit=limit, variability=varied.take(row)
        )
        assert alone.batch[0] == together.batch[i]
        assert alone.rate[0] == pytest.approx(together.rate[i], rel=1e-11)
    assert together.batch[2] == 0


def test_no_candidates_have_no_limits() -> None:
    none = np.zeros(0)
    assert best_batch(DecodeOnly(none, none, none), none, Targets()).batch.size == 0


def test_a_tolerance_of_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="tolerance is 1; give a share"):
        best_batch(MODEL, 16, Targets(), tolerance=1)
