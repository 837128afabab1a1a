"""The birth–death chain of one replica, for many candidates and any arrival rate.

State n is the number of requests in the replica. Requests arrive at rate λ and leave at rate μ(n) for
n ≤ N, the largest batch, and at μ(N) above it, where n − N requests queue for a place in the batch. The
queue holds Q; an arrival that finds it full is refused. With r = λ/μ(N),

    π(n) = π(0)·∏_{i ≤ n} λ/μ(i)  for n ≤ N,    π(N + j) = π(N)·r^j  for 1 ≤ j ≤ Q,

so that an evaluation costs O(N) whatever Q is. The chain knows nothing of latency models but their μ.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from inferscale_queueing.arrays import Array, BoolArray, IntArray
from inferscale_queueing.frozen import frozen

UNBOUNDED = -1
"""The queue limit of a queue that refuses nobody."""

_BLOCK_CELLS = 1 << 17
_LARGEST_LOG = 600.0


class Tail(NamedTuple):
    """Sums over the queue's places, each divided by e^`log_scale`; all of shape (C,).

    Attributes:
        total: G = Σ_{j=0..Q} r^j.
        inner: Σ_{j=0..Q-1} r^j, without the full queue.
        moment: H = Σ_{j=1..Q} j·r^j.
        last: r^Q, the full queue.
        log_scale: Q·ln r where r > 1, else 0, so that nothing overflows.
    """

    total: Array
    inner: Array
    moment: Array
    last: Array
    log_scale: Array


def geometric_tail(ratio: Array, places: Array) -> Tail:
    """Sum a geometric tail, accurate to a few ulps at every ratio.

    The closed forms of G and H cancel near r = 1. With d = 1 − r they are written as
    G = −expm1((Q+1)·ln r)/d and H = −r·expm1(E)/d², E = Q·(ln r + d) + (log1p(Q·d) − Q·d), in which the
    first-order terms are gone before anything is rounded. Above 1 the sums run backwards, in 1/r.

    Args:
        ratio: r, shape (C,), > 0; below 1 where `places` is infinite.
        places: Q, shape (C,), ≥ 0, infinite for an unbounded queue.

    Returns:
        The sums and their scale.
    """
    # Where no queue ends nothing cancels.
    if np.isinf(places).all():
        total = 1 / (1 - ratio)
        none = np.zeros_like(ratio)
        return Tail(total, total, ratio / (1 - ratio) ** 2, none, none)
    growing = ratio > 1
    log_ratio = np.log(ratio)
    base = np.where(growing, 1 / ratio, ratio)
    gap = np.where(growing, (ratio - 1) / ratio, 1 - ratio)
    log_base = -np.abs(log_ratio)

    level = gap == 0
    divisor = np.where(level, 1.0, gap)
    total = np.where(level, places + 1, -np.expm1((places + 1) * log_base) / divisor)
    inner = np.where(level, places, -np.expm1(places * log_base) / divisor)
    bounded = np.isfinite(places)
    spread = np.where(bounded, places * gap, 0.0)
    exponent = np.where(bounded, places * _log1p_rest(-gap, log_base) + _log1p_rest(spread), -np.inf)
    moment = np.where(level, places * (places + 1) / 2, -base * np.expm1(exponent) / divisor**2)
    last = np.exp(places * log_base)
    if not growing.any():
        return Tail(total, inner, moment, last, np.zeros_like(ratio))
    finite = np.where(growing, places, 0.0)
    return Tail(
        total,
        np.where(growing, base * inner, inner),
        np.where(growing, finite * total - moment, moment),
        np.where(growing, 1.0, last),
        finite * np.where(growing, log_ratio, 0.0),
    )


class Masses(NamedTuple):
    """The stationary distribution's sums, all of shape (C,); meaningless where the chain is unstable.

    Attributes:
        idle: π(0).
        accepted: 1 − π(N+Q), the share of arrivals that enter.
        refused: π(N+Q), the share that finds the queue full; 0 in an unbounded queue.
        waiting: the share of accepted arrivals that find no place in the batch.
        in_service: X = Σ min(n, N)·π(n), mean number of requests in the batch.
        in_queue: Lq = Σ max(n − N, 0)·π(n), mean number of requests in the queue.
    """

    idle: Array
    accepted: Array
    refused: Array
    waiting: Array
    in_service: Array
    in_queue: Array


@frozen(eq=False)
class Chain:
    """What of C birth–death chains does not depend on the arrival rate; made by `from_service_rates`.

    Attributes:
        full_rate: μ(N), shape (C,), in 1/ms.
        max_batch: N, shape (C,).
        places: Q, shape (C,), infinite for an unbounded queue.
        log_partial: ln ∏_{i ≤ n} μ(N)/μ(i) in column n < N, shape (C, max N), −inf in columns from N on.
        log_full: the same product for n = N, shape (C,).
    """

    full_rate: Array
    max_batch: IntArray
    places: Array
    log_partial: Array
    log_full: Array

    def take(self, index: IntArray) -> "Chain":
        """The chains at the given positions, in that order."""
        return Chain(
            self.full_rate[index],
            self.max_batch[index],
            self.places[index],
            self.log_partial[index],
            self.log_full[index],
        )

    def stable(self, arrival_rate: Array) -> BoolArray:
        """Whether each chain has a stationary distribution at the rates (C,) in 1/ms."""
        return np.isfinite(self.places) | (arrival_rate < self.full_rate)

    def masses(self, arrival_rate: Array) -> Masses:
        """Sum the stationary distributions.

        Args:
            arrival_rate: λ, shape (C,), in 1/ms, > 0.

        Returns:
            The sums; finite but meaningless where `stable` is false.
        """
        ratio = arrival_rate / self.full_rate
        ratio = np.where(self.stable(arrival_rate), ratio, 0.5)
        log_ratio = np.log(ratio)
        tail = geometric_tail(ratio, self.places)
        log_at_full = self.log_full + self.max_batch * log_ratio

        states = np.arange(self.log_partial.shape[1], dtype=np.float64)
        weights = np.multiply.outer(log_ratio, states)
        weights += self.log_partial
        largest = np.maximum(weights.max(axis=1), log_at_full + tail.log_scale)
        weights -= largest[:, np.newaxis]
        np.exp(weights, out=weights)
        below, below_moment = (weights @ np.stack([np.ones_like(states), states], axis=1)).T

        full = np.exp(log_at_full + tail.log_scale - largest)
        total = below + full * tail.total
        accepted = below + full * tail.inner
        return Masses(
            idle=weights[:, 0] / total,
            accepted=accepted / total,
            refused=full * tail.last / total,
            waiting=full * tail.inner / accepted,
            # Rounding must not put more into the batch than it holds.
            in_service=np.minimum(
                (below_moment + self.max_batch * (full * tail.total)) / total, self.max_batch
            ),
            in_queue=full * tail.moment / total,
        )

    def waiting_share(self, arrival_rate: Array, peakedness: Array) -> Array:
        """P_w, the share of accepted arrivals that find no place, if the chain scattered more or less.

        Args:
            arrival_rate: λ, shape (C,), in 1/ms, > 0.
            peakedness: z, shape (C,), > 0: every π(n) is replaced by π(n)^(1/z), which gives the number in
                the batch about z times its variance.

        Returns:
            Shape (C,), meaningless where `stable` is false.
        """
        power = 1 / peakedness
        flatter = Chain(
            self.full_rate,
            self.max_batch,
            self.places,
            self.log_partial * power[:, np.newaxis],
            self.log_full * power,
        )
        log_ratio = np.log(arrival_rate / self.full_rate) * power
        # Neither a rate of nearly nothing nor one of nearly everything may leave the range of floats.
        ratio = np.exp(np.clip(log_ratio, -_LARGEST_LOG, _LARGEST_LOG))
        return flatter.masses(self.full_rate * ratio).waiting


def from_service_rates(service_rates: Array, max_batch: IntArray, queue_limit: IntArray) -> Chain:
    """Build the chains of C candidates from their service rates.

    Args:
        service_rates: μ(n) in column n − 1, shape (C, M) with M ≥ max N, in 1/ms, > 0; columns from N on
            are ignored.
        max_batch: N, shape (C,), ≥ 1.
        queue_limit: Q, shape (C,), ≥ 0 or `UNBOUNDED`.

    Returns:
        The chains.
    """
    widest = int(max_batch.max())
    full_rate = service_rates[np.arange(max_batch.size), max_batch - 1]
    logs = np.zeros((max_batch.size, widest + 1))
    inside = np.arange(1, widest + 1) <= max_batch[:, np.newaxis]
    # Relative to μ(N) the sums stay small, which keeps their rounding small.
    np.log(full_rate[:, np.newaxis] / service_rates[:, :widest], out=logs[:, 1:], where=inside)
    np.cumsum(logs, axis=1, out=logs)
    log_full = logs[:, -1].copy()
    partial = logs[:, :-1]
    partial[np.arange(widest) >= max_batch[:, np.newaxis]] = -np.inf
    places = np.where(queue_limit == UNBOUNDED, np.inf, queue_limit.astype(np.float64))
    return Chain(full_rate, max_batch, places, np.ascontiguousarray(partial), log_full)


def blocks(widths: IntArray) -> Iterator[IntArray]:
    """Group rows of different widths into padded blocks of bounded memory that waste little.

    Args:
        widths: the cells that each row needs, shape (C,).

    Yields:
        Positions of rows, similar widths together, every row in one block.
    """
    order = np.argsort(-widths, kind="stable")
    start = 0
    while start < order.size:
        rows = max(_BLOCK_CELLS // max(int(widths[order[start]]), 1), 1)
        yield order[start : start + rows]
        start += rows


def _log1p_rest(x: Array, log1p: Array | None = None) -> Array:
    """log1p(x) − x for x > −1 without its cancellation near 0; `log1p` if it is known already."""
    small = np.abs(x) < 0.03
    near = np.where(small, x, 0.0)
    series = np.zeros_like(near)
    for power in range(11, 1, -1):
        series = (-1 if power % 2 == 0 else 1) / power + near * series
    far = (np.log1p(x) if log1p is None else log1p) - x
    return np.where(small, near**2 * series, far)
