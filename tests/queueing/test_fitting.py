import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_queueing import UnidentifiableError, fit_latency

BATCH = np.array([1.0, 2, 4, 8, 16, 32, 64])
TOKENS = np.array([128.0, 128, 512, 512, 512, 1024, 1024])


@settings(deadline=None)
@given(
    alpha=st.floats(0.1, 100), beta=st.floats(0.001, 5), gamma=st.floats(0, 100), delta=st.floats(0.001, 0.5)
)
def test_exact_rows_give_back_their_parameters(alpha: float, beta: float, gamma: float, delta: float) -> None:
    found = fit_latency(BATCH, alpha + beta * BATCH, TOKENS, gamma + delta * TOKENS * BATCH)
    assert found.prefill is not None
    assert found.decode.intercept == pytest.approx(alpha, rel=1e-8)
    assert found.decode.slope == pytest.approx(beta, rel=1e-8)
    assert found.prefill.intercept == pytest.approx(gamma, abs=1e-8 * delta * 65536)
    assert found.prefill.slope == pytest.approx(delta, rel=1e-8)
    assert found.decode.r_squared == pytest.approx(1, abs=1e-12)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), alpha=st.floats(-20, 20), beta=st.floats(-2, 2))
def test_no_other_parameters_that_are_not_negative_fit_better(seed: int, alpha: float, beta: float) -> None:
    random = np.random.default_rng(seed)
    itl = np.maximum(alpha + beta * BATCH + random.normal(0, 5, BATCH.size), 0.01)
    line = fit_latency(BATCH, itl).decode
    assert line.intercept >= 0
    assert line.slope >= 0

    def unexplained(intercept: float, slope: float) -> float:
        return float(np.sum((itl - intercept - slope * BATCH) ** 2))

    least = unexplained(line.intercept, line.slope)
    for intercept, slope in random.uniform(0, 2, (30, 2)) * [line.intercept + 1, line.slope + 0.1]:
        assert least <= unexplained(intercept, slope) * (1 + 1e-12)


def test_standard_errors_are_those_of_the_ordinary_line() -> None:
    # Anscombe's first data set: y = 3.00 + 0.500 x, standard errors 1.125 and 0.118, R² 0.667.
    x = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5]
    y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]
    line = fit_latency(x, y).decode
    assert (line.intercept, line.slope) == pytest.approx((3.0001, 0.50009), rel=1e-4)
    assert (line.intercept_error, line.slope_error) == pytest.approx((1.1247, 0.11791), rel=1e-4)
    assert line.r_squared == pytest.approx(0.66654, rel=1e-4)
    assert line.rows == 11


def test_the_error_covers_the_truth_about_as_often_as_it_should() -> None:
    random = np.random.default_rng(7)
    inside = 0
    for _ in range(400):
        line = fit_latency(BATCH, 30 + 0.3 * BATCH + random.normal(0, 0.5, BATCH.size)).decode
        # Student's t for 5 degrees of freedom, 95 %.
        inside += abs(line.slope - 0.3) < 2.571 * line.slope_error
    assert 365 <= inside <= 395


def test_falling_latency_is_held_at_a_level_line_without_error_of_the_slope() -> None:
    line = fit_latency([1, 2, 3, 4], [10, 9, 8.5, 8]).decode
    assert (line.intercept, line.slope) == (pytest.approx(8.875), 0)
    assert np.isnan(line.slope_error)
    assert line.intercept_error > 0


def test_a_negative_intercept_is_held_at_the_origin() -> None:
    line = fit_latency([1, 2, 3, 4], [0.1, 1, 2, 3]).decode
    assert line.intercept == 0
    assert np.isnan(line.intercept_error)


def test_rows_without_input_or_without_a_measurement_do_not_count() -> None:
    found = fit_latency(
        [1, 2, 4, 8, 16],
        [10.5, np.nan, 12, 14, 18],
        [0, 100, 100, 100, 100],
        [0, 30, 50, 90, np.nan],
    )
    assert found.prefill is not None
    assert (found.decode.rows, found.prefill.rows) == (4, 3)
    assert (found.prefill.intercept, found.prefill.slope) == pytest.approx((10, 0.1))


def test_equal_latencies_are_explained_by_a_level_line() -> None:
    line = fit_latency([1, 2, 3], [10, 10, 10]).decode
    assert (line.intercept, line.slope, line.r_squared) == pytest.approx((10, 0, 1))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (([1, 2], [10, 11]), "itl: 2 rows cannot identify an intercept and a slope; give at least 3"),
        (([8, 8, 8], [10, 11, 12]), "batch is 8 in all 3 rows, .* give rows of different batch"),
        (([1, 2, 4], [10, 11, 13], [0, 0, 0], [0, 0, 0]), "prefill: 0 rows cannot identify"),
        (([1, 2, 4], [10, 11, 13], [400, 200, 100], [9, 9, 9]), "input_tokens x batch is 400 in all 3 rows"),
    ],
)
def test_rows_that_cannot_tell_the_parameters_apart_are_refused(
    rows: tuple[list[float], ...], message: str
) -> None:
    with pytest.raises(UnidentifiableError, match=message):
        fit_latency(*rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (([1, 0, 4], [10, 11, 13]), "batch in row 2 is 0; give a finite number above 0"),
        (([1, 2, 4], [10, np.inf, 13]), "itl in row 2 is inf"),
        (([1, 2, 4], [10, 11]), "itl has 2 rows, batch has 3"),
        (([1, 2, 4], [10, 11, 13], [1, 2], [1, 2, 3]), "input_tokens has 2 rows, batch has 3"),
        (([1, 2, 4], [10, 11, 13], [1, 2, 3], [1, -2, 3]), "prefill in row 2 is -2"),
        (([[1, 2]], [10, 11, 13]), "batch has shape"),
    ],
)
def test_wrong_rows_are_named(rows: tuple[list[float], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_latency(*rows)
