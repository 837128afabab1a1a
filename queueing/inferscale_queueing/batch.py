"""The batch limit that serves a service best: as small as it can be without giving up rate."""

import numpy as np
import numpy.typing as npt

from inferscale_queueing.analysis import align
from inferscale_queueing.arrays import Array, IntArray
from inferscale_queueing.chain import UNBOUNDED
from inferscale_queueing.frozen import frozen
from inferscale_queueing.latency import LatencyModel
from inferscale_queueing.sizing import Targets, size
from inferscale_queueing.variability import Variability


@frozen(eq=False)
class BestBatch:
    """The batch limit of each candidate; every attribute has shape (C,).

    Attributes:
        batch: the smallest limit whose rate is within the tolerance of the best; 0 where no limit meets
            the targets.
        rate: λ* at that limit, in requests/ms.
        best_rate: the largest λ* that any limit up to N achieves.
    """

    batch: IntArray
    rate: Array
    best_rate: Array


def best_batch(
    latency: LatencyModel,
    max_batch: npt.ArrayLike,
    targets: Targets,
    *,
    tolerance: float = 0.01,
    queue_limit: npt.ArrayLike = UNBOUNDED,
    variability: Variability | None = None,
) -> BestBatch:
    """Find the smallest batch limit that achieves nearly the best rate within the targets.

    A smaller batch keeps the ITL down, a larger one the wait: λ* need not rise with the limit nor have one
    peak, so every limit from 1 to N is sized, all of them at once; that costs O(N²) per candidate.

    Args:
        latency: the latency of C candidates.
        max_batch: N, the largest batch that memory allows, shape (C,), ≥ 1.
        targets: their targets.
        tolerance: ε, the share of the best rate that may be given up for a smaller limit, in [0, 1).
        queue_limit: Q, places in the queue beyond the batch, shape (C,), ≥ 0 or `UNBOUNDED`.
        variability: COVs of arrivals and lengths, which the rule `exact` corrects for; the others do not.

    Returns:
        The limits and their rates.

    Raises:
        ValueError: a value out of range, or inputs of different lengths.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance is {tolerance:g}; give a share of the rate of at least 0 and below 1")
    others = {} if variability is None else {"variability": variability.arrival_cov.size}
    latency, batches, limits = align(latency, max_batch, queue_limit, targets=targets.itl.size, **others)
    if batches.size == 0:
        return BestBatch(batches, np.zeros(0), np.zeros(0))
    owner = np.repeat(np.arange(batches.size), batches)
    first = np.cumsum(batches) - batches
    tried = np.arange(owner.size) - first[owner] + 1
    one_target = targets.itl.size == 1
    if variability is not None and variability.arrival_cov.size > 1:
        variability = variability.take(owner)
    rate = size(
        latency.take(owner),
        tried,
        targets if one_target else targets.take(owner),
        queue_limit=limits[owner],
        variability=variability,
    ).rate
    best = np.maximum.reduceat(rate, first)
    enough = (rate >= (1 - tolerance) * best[owner]) & (rate > 0)
    smallest = np.minimum.reduceat(np.where(enough, tried, np.iinfo(np.int64).max), first)
    attainable = best > 0
    batch = np.where(attainable, smallest, 0)
    return BestBatch(batch, np.where(attainable, rate[first + np.maximum(batch, 1) - 1], 0.0), best)
