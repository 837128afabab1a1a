"""Bracketing search for many candidates at once."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from inferscale_queueing.arrays import Array, IntArray

RELATIVE_WIDTH = 1e-12
"""A bracket narrower than this, relative to where it lies, is an answer."""

_MAX_STEPS = 200


class Bracket(NamedTuple):
    """Two ends, each of shape (C,): the function is ≤ 0 at `low` and > 0 at `high`."""

    low: Array
    high: Array


def narrow(
    function: Callable[[Array, IntArray], Array],
    bracket: Bracket,
    at_low: Array,
    at_high: Array,
) -> Bracket:
    """Narrow brackets around the sign change of a function of each candidate.

    Chandrupatla's method (Advances in Engineering Software 28, 1997): inverse quadratic interpolation
    where three points make it safe, bisection elsewhere, so that kinks, jumps and flat stretches cost
    steps and not correctness. Candidates that are done are not evaluated again.

    Args:
        function: takes x (K,) and the positions (K,) of the candidates it belongs to, gives (K,).
        bracket: where to search, 0 ≤ low < high.
        at_low: the function at the lower ends (C,), ≤ 0.
        at_high: the function at the upper ends (C,), > 0.

    Returns:
        Brackets no wider than `RELATIVE_WIDTH` of their upper end.
    """
    low, high = bracket.low.copy(), bracket.high.copy()
    rows = np.arange(low.size)
    # x1 is the latest point, x2 the other end of the bracket, x3 the point dropped last.
    x1, x2, f1, f2 = high, low, at_high, at_low
    step = np.full(low.size, 0.5)
    for _ in range(_MAX_STEPS):
        if rows.size == 0:
            break
        x = x1 + step * (x2 - x1)
        f = function(x, rows)
        same = (f > 0) == (f1 > 0)
        x3, f3 = np.where(same, x1, x2), np.where(same, f1, f2)
        x2, f2 = np.where(same, x2, x1), np.where(same, f2, f1)
        x1, f1 = x, f
        low[rows], high[rows] = np.minimum(x1, x2), np.maximum(x1, x2)

        smallest = 0.5 * RELATIVE_WIDTH * high[rows] / (high[rows] - low[rows])
        going = smallest < 0.5
        rows, smallest = rows[going], smallest[going]
        x1, x2, x3 = x1[going], x2[going], x3[going]
        f1, f2, f3 = f1[going], f2[going], f3[going]
        step = np.clip(_interpolation(x1, x2, x3, f1, f2, f3), smallest, 1 - smallest)
    return Bracket(low, high)


def _interpolation(x1: Array, x2: Array, x3: Array, f1: Array, f2: Array, f3: Array) -> Array:
    """The step from x1 towards x2, as a fraction of their distance."""
    distance = (x1 - x2) / (x3 - x2)
    rise = (f1 - f2) / np.where(f3 == f2, 1.0, f3 - f2)
    safe = (rise**2 < distance) & ((1 - rise) ** 2 < 1 - distance) & (f3 != f2) & (f3 != f1)
    across = np.where(safe, f3 - f1, 1.0)
    whole = np.where(safe, f3 - f2, 1.0)
    quadratic = f1 / (f1 - f2) * f3 / whole + (x3 - x1) / (x2 - x1) * f1 / across * f2 / whole
    return np.where(safe, quadratic, 0.5)
