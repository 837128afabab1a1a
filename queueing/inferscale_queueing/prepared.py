"""Candidates that are sized and analysed again and again: their chains are built once and kept.

λ* depends on profiles, token lengths, COVs and targets, not on how much arrives. When only arrival rates
changed, the sizing is kept, and what remains is `replicas` and one evaluation at the new rate per replica.
"""

import numpy.typing as npt

from inferscale_queueing.analysis import Analysis, Part, align, evaluate_parts, parts
from inferscale_queueing.arrays import float_candidates, spread
from inferscale_queueing.chain import UNBOUNDED
from inferscale_queueing.frozen import frozen
from inferscale_queueing.latency import LatencyModel
from inferscale_queueing.sizing import Sizing, Targets, size_parts
from inferscale_queueing.variability import Variability, aligned


@frozen(eq=False)
class Prepared:
    """C candidates with their chains built; made by `prepare`.

    Attributes:
        count: C.
        parts: the candidates in blocks.
        variability: COVs of their traffic; None where there is nothing to correct.
    """

    count: int
    parts: tuple[Part, ...]
    variability: Variability | None

    def analyze(self, arrival_rate: npt.ArrayLike) -> Analysis:
        """What `inferscale_queueing.analyze` gives, at arrival rates (C,) of one replica in requests/ms.

        Raises:
            ValueError: a rate below 0, or rates of another number of candidates.
        """
        rates = float_candidates("arrival_rate", arrival_rate, at_least=0)
        self._require("arrival_rate", rates.size)
        return evaluate_parts(self.parts, spread(rates, self.count), self.variability)

    def size(self, targets: Targets) -> Sizing:
        """What `inferscale_queueing.size` gives.

        Raises:
            ValueError: targets of another number of candidates.
        """
        self._require("targets", targets.itl.size)
        return size_parts(self.parts, self.count, targets, self.variability)

    def _require(self, name: str, values: int) -> None:
        if values not in (1, self.count):
            raise ValueError(f"{name} has {values} values for {self.count} candidates; give one each")


def prepare(
    latency: LatencyModel,
    max_batch: npt.ArrayLike,
    *,
    queue_limit: npt.ArrayLike = UNBOUNDED,
    variability: Variability | None = None,
) -> Prepared:
    """Build the chains of C candidates and keep them, which takes about 8·C·N bytes.

    Args:
        latency: the latency of C candidates.
        max_batch: N, largest batch, shape (C,), ≥ 1.
        queue_limit: Q, places in the queue beyond the batch, shape (C,), ≥ 0 or `UNBOUNDED`.
        variability: COVs of arrivals and lengths, to correct the wait and what depends on it.

    Returns:
        The candidates.

    Raises:
        ValueError: a value out of range, or inputs of different lengths.
    """
    others = {} if variability is None else {"variability": variability.arrival_cov.size}
    latency, batches, limits = align(latency, max_batch, queue_limit, **others)
    built = tuple(parts(latency, batches, limits))
    return Prepared(batches.size, built, aligned(variability, batches.size))
