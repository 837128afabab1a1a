"""The distribution of the wait for a place in the batch.

An accepted arrival that finds n ≥ N requests waits for n − N + 1 departures at rate μ(N): an
Erlang(n − N + 1, μ(N)) time. Only the ratio r, the places Q and the time in units of 1/μ(N) matter.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from inferscale_queueing.arrays import Array, IntArray, float_candidates
from inferscale_queueing.bracket import Bracket, narrow
from inferscale_queueing.chain import blocks

Rule = Literal["exact", "exponential", "mean"]
"""How a percentile of the wait is found.

`exact`: from the distribution. `exponential`: as if the wait of every request were exponential, W·(−ln(1−q)).
`mean`: the mean wait, whatever the percentile.
"""


_SHARED = 4096
_FEW = 16
_LOG_FACTORIALS = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1.0, _FEW + 1)))])


def percentiles(name: str, value: npt.ArrayLike) -> Array:
    """Read fractions such as 0.95, where NaN and 0 both ask for the mean.

    Args:
        name: what they are called in the error message.
        value: a number, or an array of shape (C,).

    Returns:
        Shape (C,), 0 for the mean.

    Raises:
        ValueError: a value outside [0, 1).
    """
    shares = np.atleast_1d(np.asarray(value, dtype=np.float64))
    shares = float_candidates(name, np.where(np.isnan(shares), 0.0, shares), at_least=0, finite=False)
    if (shares >= 1).any():
        where = int(np.argmax(shares >= 1))
        raise ValueError(f"{name}[{where}] is {shares[where]:g}; give a fraction below 1, such as 0.95")
    return shares


def mean_multiple(shares: Array, rule: Rule) -> Array:
    """By what the mean wait is multiplied to give a percentile, where the rule works that way.

    Args:
        shares: percentiles as fractions, 0 for the mean, shape (C,).
        rule: the rule; with `exact` the multiple holds for the means only.

    Returns:
        −ln(1 − q) by the exponential rule, else 1, shape (C,).
    """
    if rule != "exponential":
        return np.ones_like(shares)
    return np.where(shares > 0, -np.log1p(-shares), 1.0)


def tail_probability(time: Array, p_wait: Array, ratio: Array, places: Array) -> Array:
    """Probability that an accepted request waits longer than a time: P(W > t).

    For an unbounded queue P_w·e^{−(1−r)x}. For a finite one, with p_i(x) the Poisson probabilities,
    P_w·Σ_{i<Q} p_i(x)·(Σ_{k=i..Q−1} r^k)/(Σ_{k=0..Q−1} r^k), whose terms are all positive: the textbook's
    closed form of it cancels near r = 1 and overflows above. Its factors beside p_i(x) fall with i, and not
    faster than the places that are left, so the sum needs the terms around min(Q, x) only: O(√min(Q, x)) of
    them where there are many.

    Args:
        time: x = μ(N)·t, the time in mean departures of the full batch, shape (C,), ≥ 0.
        p_wait: P_w, the share of accepted requests that wait, shape (C,).
        ratio: r = λ/μ(N), shape (C,), > 0; below 1 where `places` is infinite.
        places: Q, shape (C,), infinite for an unbounded queue.

    Returns:
        The probabilities, shape (C,).
    """
    unbounded = np.isinf(places)
    given_wait = np.exp(-np.where(unbounded, 1 - ratio, 0.0) * time)
    finite = np.flatnonzero(~unbounded & (places > 0))
    mean = time[finite] * np.minimum(ratio[finite], 1.0)
    # Beside these a Poisson number has a probability below e^−40, whatever its mean.
    last = np.minimum(places[finite], np.ceil(mean + _reach(mean)))
    peak = np.minimum(places[finite], mean)
    first = np.floor(peak - _reach(peak))
    # Terms from 0 on are the same for all; the others are worth their while only if they are few.
    first = np.where(first > _SHARED, first, 0.0)
    terms = (last - first).astype(np.int64)
    for block in blocks(terms):
        rows = finite[block]
        given_wait[rows] = _finite_tail(
            time[rows], ratio[rows], places[rows], first[block], int(terms[block].max())
        )
    return p_wait * given_wait


def quantile_time(probability: Array, p_wait: Array, ratio: Array, places: Array) -> Array:
    """The wait that a share of `probability` of the accepted requests does not exceed.

    For an unbounded queue ln(P_w/(1−q))/(1−r), for a finite one by search; 0 where P_w ≤ 1 − q.

    Args:
        probability: q, shape (C,), in (0, 1).
        p_wait: P_w, the share of accepted requests that wait, shape (C,).
        ratio: r = λ/μ(N), shape (C,), > 0; below 1 where `places` is infinite.
        places: Q, shape (C,), infinite for an unbounded queue.

    Returns:
        The quantile in mean departures of the full batch: x = μ(N)·t, shape (C,).
    """
    longer = 1 - probability
    waits = p_wait > longer
    excess = np.log(np.where(waits, p_wait / longer, 1.0))
    unbounded = np.isinf(places)
    result = np.where(unbounded, excess / np.where(unbounded, 1 - ratio, 1.0), 0.0)
    rows = np.flatnonzero(waits & ~unbounded)

    def long_enough(x: Array, active: IntArray) -> Array:
        at = rows[active]
        tail = tail_probability(x, p_wait[at], ratio[at], places[at])
        return (longer[at] - tail) / (longer[at] + tail)

    # The wait is shorter than an Erlang(Q): P(Erlang(Q) > Q + √(2Qy) + y) ≤ e^−y.
    y = -np.log(longer[rows])
    high = places[rows] + np.sqrt(2 * places[rows] * y) + y + 1
    low = np.zeros(rows.size)
    every = np.arange(rows.size)
    result[rows] = narrow(
        long_enough, Bracket(low, high), long_enough(low, every), long_enough(high, every)
    ).high
    return result


def _reach(mean: Array) -> Array:
    return 9 * np.sqrt(mean) + 50


def _finite_tail(time: Array, ratio: Array, places: Array, first: Array, terms: int) -> Array:
    """P(W > t | it waits) for finite Q ≥ 1, from so many terms of the sum; all of shape (C,)."""
    passed = np.arange(terms, dtype=np.float64)[np.newaxis, :]
    if first.any():
        passed = first[:, np.newaxis] + passed
    log_ratio = np.log(ratio)[:, np.newaxis]
    left = np.maximum(places[:, np.newaxis] - passed, 0.0)
    # Σ_{k=i..Q−1} r^k is r^i·(1 − r^{Q−i})/(1 − r); above r = 1 the same in 1/r, which decays.
    decay = -np.abs(log_ratio)
    rest, whole = (
        np.where(log_ratio == 0, count, np.expm1(count * decay)) for count in (left, places[:, np.newaxis])
    )
    with np.errstate(divide="ignore"):
        log_time = np.log(time)[:, np.newaxis]
    log_terms = passed * np.where(passed > 0, log_time + np.minimum(log_ratio, 0.0), 0.0)
    log_terms -= time[:, np.newaxis] + _log_factorial(passed)
    return np.asarray((np.exp(log_terms) * rest).sum(axis=1) / whole[:, 0])


def _log_factorial(n: Array) -> Array:
    """Logarithm of n! for whole n ≥ 0, by Stirling's series, which is exact to rounding from 16 on."""
    large = np.maximum(n, _FEW)
    series = (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / large**2) / large**2) / large**2) / large
    stirling = (large + 0.5) * np.log(large) - large + 0.5 * np.log(2 * np.pi) + series
    return np.where(n < _FEW, _LOG_FACTORIALS[np.minimum(n, _FEW).astype(np.int64)], stirling)
