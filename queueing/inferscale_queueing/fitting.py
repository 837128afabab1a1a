"""Fitting a latency profile to benchmark rows: α and β from ITL, γ and δ from prefill times.

Both curves of the model are straight lines with parameters that cannot be negative, so the fit is a
least-squares line on the quadrant: the ordinary one where it lies there, otherwise the better of the two
lines on its edges, through the origin or level.
"""

import numpy as np
import numpy.typing as npt

from inferscale_queueing.arrays import Array
from inferscale_queueing.frozen import frozen

FEWEST_ROWS = 3
"""Two parameters and their errors take three rows."""


class UnidentifiableError(ValueError):
    """The rows do not determine the parameters; the message says why and what would."""


@frozen
class Line:
    """y = intercept + slope·x, both ≥ 0.

    Attributes:
        intercept: y at x = 0.
        slope: y per x.
        intercept_error: standard error of the intercept; NaN where it is held at 0.
        slope_error: standard error of the slope; NaN where it is held at 0.
        r_squared: share of the variance of y that the line explains; at most 1, and below 0 where a level
            line through the mean would be better than the one through the origin.
        rows: how many rows it was fitted to.
    """

    intercept: float
    slope: float
    intercept_error: float
    slope_error: float
    r_squared: float
    rows: int


@frozen
class LatencyFit:
    """A fitted profile; times in ms.

    Attributes:
        decode: ITL(n) = α + β·n: intercept α, slope β.
        prefill: P(n) = γ + δ·in·n: intercept γ, slope δ; None without rows of prefill times.
    """

    decode: Line
    prefill: Line | None


def fit_latency(
    batch: npt.ArrayLike,
    itl: npt.ArrayLike,
    input_tokens: npt.ArrayLike | None = None,
    prefill: npt.ArrayLike | None = None,
) -> LatencyFit:
    """Fit α, β, γ and δ to the rows of a benchmark.

    Args:
        batch: requests in the batch, shape (K,), > 0.
        itl: mean inter-token latency in ms, shape (K,), > 0; NaN in rows that did not measure it.
        input_tokens: input tokens of a request, shape (K,), ≥ 0; None for no prefill.
        prefill: time from entering the batch to the first token, TTFT − wait, in ms, shape (K,), ≥ 0; NaN
            in rows that did not measure it; None for no prefill. Rows without input tokens do not count.

    Returns:
        The two lines.

    Raises:
        UnidentifiableError: too few rows, or all of them alike.
        ValueError: a value out of range, or arrays of different lengths.
    """
    sizes = _rows("batch", batch, above_zero=True)
    decode = fit_line("batch", sizes, "itl", _rows("itl", itl, above_zero=True, gaps=True))
    if input_tokens is None or prefill is None:
        return LatencyFit(decode, None)
    tokens = _rows("input_tokens", input_tokens)
    times = _rows("prefill", prefill, gaps=True)
    for name, values in (("input_tokens", tokens), ("prefill", times)):
        if values.size != sizes.size:
            raise ValueError(f"{name} has {values.size} rows, batch has {sizes.size}; give one for each")
    some = np.flatnonzero(tokens > 0)
    line = fit_line("input_tokens x batch", (tokens * sizes)[some], "prefill", times[some])
    return LatencyFit(decode, line)


def fit_line(x_name: str, x: Array, y_name: str, y: Array) -> Line:
    """The least-squares line with intercept and slope ≥ 0.

    Standard errors are those of the ordinary line, or of the one parameter that is free on an edge.

    Args:
        x_name: what x is called in the error message.
        x: shape (K,), ≥ 0.
        y_name: what y is called in the error message.
        y: shape (K,), ≥ 0; rows with NaN do not count.

    Returns:
        The line.

    Raises:
        UnidentifiableError: fewer than `FEWEST_ROWS` rows, or one x only.
        ValueError: arrays of different lengths.
    """
    if x.size != y.size:
        raise ValueError(f"{y_name} has {y.size} rows, {x_name} has {x.size}; give one for each")
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    if x.size < FEWEST_ROWS:
        raise UnidentifiableError(
            f"{y_name}: {x.size} rows cannot identify an intercept and a slope; give at least {FEWEST_ROWS}"
        )
    # Differences that are rounding do not make a slope.
    if np.ptp(x) <= 1e-9 * np.max(x):
        raise UnidentifiableError(
            f"{y_name}: {x_name} is {x[0]:g} in all {x.size} rows, which cannot tell the intercept from the "
            f"slope; give rows of different {x_name}"
        )
    centred = x - x.mean()
    slope = float(centred @ y) / float(centred @ centred)
    intercept = float(y.mean()) - slope * float(x.mean())
    if slope >= 0 and intercept >= 0:
        return _line(x, y, intercept, slope, intercept_free=True, slope_free=True)
    through_origin = _line(x, y, 0.0, float(x @ y) / float(x @ x), intercept_free=False, slope_free=True)
    level = _line(x, y, float(y.mean()), 0.0, intercept_free=True, slope_free=False)
    return max(through_origin, level, key=lambda line: line.r_squared)


def _line(
    x: Array, y: Array, intercept: float, slope: float, *, intercept_free: bool, slope_free: bool
) -> Line:
    residual = y - intercept - slope * x
    unexplained = float(residual @ residual)
    total = float(np.sum((y - y.mean()) ** 2))
    free = np.flatnonzero([intercept_free, slope_free])
    design = np.stack([np.ones_like(x), x], axis=1)[:, free]
    variance = unexplained / (x.size - free.size)
    errors = np.full(2, np.nan)
    errors[free] = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    return Line(
        intercept=intercept,
        slope=slope,
        intercept_error=float(errors[0]),
        slope_error=float(errors[1]),
        # A level series is explained by a level line.
        r_squared=1 - unexplained / total if total > 0 else 1.0,
        rows=x.size,
    )


def _rows(name: str, value: npt.ArrayLike, *, above_zero: bool = False, gaps: bool = False) -> Array:
    values = np.asarray(value, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"{name} has shape {values.shape}; give one value per row")
    wrong = ~(values > 0 if above_zero else values >= 0) | np.isinf(values)
    if gaps:
        wrong &= ~np.isnan(values)
    if wrong.any():
        row = int(np.argmax(wrong))
        bound = "above 0" if above_zero else "of at least 0"
        raise ValueError(f"{name} in row {row + 1} is {values[row]:g}; give a finite number {bound}")
    return values
