"""Arrivals and lengths that vary otherwise than a Markov chain's: the correction of waits for their COVs.

The chain assumes Poisson arrivals and lengths that are exponential or do not matter. With coefficients of
variation ca of the times between arrivals and cs of the lengths two things change:

- How often a request finds the batch full. Below the full batch the number of requests in it scatters
  around its mean with z times the variance of the chain. z = 1 + (ca² − 1)·η is the peakedness of the
  arrivals as seen by lengths with distribution function F, η = ∫(1 − F)²/∫(1 − F) in heavy traffic
  (Eckberg, ITC 10, 1983; Whitt, Operations Research 52, 2004): 1 for constant lengths, 1/2 for exponential
  ones, .37 for lognormal ones with cs = 2; here η = 1/(1 + min(cs, cs²)). Poisson arrivals have z = 1
  whatever the lengths: below the full batch the replica is insensitive to them, as processor sharing is.
  A normal distribution with z times the variance is the 1/z-th power of the old one, so P_w is taken from
  the chain with π(n)^(1/z) in place of π(n).
- How long it waits then. The full batch is a fast single server, whose queue in heavy traffic is stretched
  by φ = (ca² + cs²)/2 (Kingman 1962): P(W > t) = P_w·P(W > t/φ | it waits in the chain).

At ca = cs = 1 both are 1 and nothing changes; for cs ≥ 1 a batch of one with Poisson arrivals is M/G/1 to
the letter. Below 1 both forms err on the optimistic side against simulation, and part of the credit is
withheld: ca² counts for (3·ca² + ca)/4, and in φ cs² for .85·cs² + .15.
"""

import numpy as np
import numpy.typing as npt

from inferscale_queueing.arrays import (
    Array,
    BoolArray,
    IntArray,
    candidate_count,
    float_candidates,
    spread,
    taken,
)
from inferscale_queueing.frozen import frozen
from inferscale_queueing.latency import LatencyModel

# Constant lengths wait up to 15 % longer than half of what exponential ones do.
_WITHHELD = 0.15
# What no wait is credited below: evenly spaced requests of one length still meet each other.
_LEAST = 0.05
_MOST = 100.0


@frozen(eq=False)
class Variability:
    """How much the traffic of C candidates varies; every attribute has shape (C,) or is one number.

    Attributes:
        arrival_cov: ca, coefficient of variation of the times between arrivals, in [0, 100]; 1 is Poisson.
        service_cov: cs, coefficient of variation of the lengths of requests, in [0, 100]; 1 is exponential.
            What token counts make of it is `service_cov` of this module.

    Raises:
        ValueError: a value out of range, or attributes of different lengths.
    """

    arrival_cov: Array
    service_cov: Array

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in ("arrival_cov", "service_cov")}
        values = {name: float_candidates(name, value, at_least=0) for name, value in values.items()}
        count = candidate_count(**{name: value.size for name, value in values.items()})
        for name, value in values.items():
            if (value > _MOST).any():
                where = int(np.argmax(value > _MOST))
                raise ValueError(f"{name}[{where}] is {value[where]:g}; give a number of at most {_MOST:g}")
            # A frozen record is set up once, here, so that scalars may be given for arrays.
            object.__setattr__(self, name, spread(value, count))

    @property
    def markovian(self) -> BoolArray:
        """Whether there is nothing to correct, shape (C,)."""
        return np.equal(self.arrival_cov, 1) & np.equal(self.service_cov, 1)

    @property
    def peakedness(self) -> Array:
        """z, variance of the number in the batch over that with Poisson arrivals, shape (C,)."""
        share = 1 / (1 + np.minimum(self.service_cov, self.service_cov**2))
        return np.maximum(1 + (self._arrival_square - 1) * share, _LEAST)

    @property
    def stretch(self) -> Array:
        """φ, length of a wait in a full batch over that of the chain, shape (C,)."""
        service = np.square(self.service_cov)
        service = np.where(service < 1, service + _WITHHELD * (1 - service), service)
        return (self._arrival_square + service) / 2

    def take(self, index: IntArray) -> "Variability":
        """The candidates at the given positions, in that order; positions may repeat."""
        return taken(self, index)

    @property
    def _arrival_square(self) -> Array:
        square = np.square(self.arrival_cov)
        return np.where(self.arrival_cov < 1, (self.arrival_cov + 3 * square) / 4, square)


def service_cov(
    latency: LatencyModel,
    max_batch: npt.ArrayLike,
    *,
    input_cov: npt.ArrayLike = 0.0,
    output_cov: npt.ArrayLike = 1.0,
) -> Array:
    """The variation cs of the time in service that a variation of token counts makes, in a full batch.

    Requests wait where the batch is full, so that is where it counts. A prefill that is much the same for
    all in front of a decode that is not makes the whole steadier than the decode: cs < 1 with exponential
    outputs.

    Args:
        latency: the latency of C candidates.
        max_batch: N, largest batch, shape (C,), ≥ 1.
        input_cov: coefficient of variation of the input tokens, shape (C,), ≥ 0.
        output_cov: coefficient of variation of the output tokens, shape (C,), ≥ 0; 1 is exponential.

    Returns:
        cs, shape (C,).

    Raises:
        ValueError: a value out of range, or inputs of different lengths.
    """
    batch = float_candidates("max_batch", max_batch, at_least=1)
    inputs = float_candidates("input_cov", input_cov, at_least=0)
    outputs = float_candidates("output_cov", output_cov, at_least=0)
    mean = latency.service_time(batch)
    count = candidate_count(latency=mean.size, input_cov=inputs.size, output_cov=outputs.size)
    return latency.deviation(batch, spread(inputs, count), spread(outputs, count)) / mean


def aligned(variability: Variability | None, count: int) -> Variability | None:
    """The variability of `count` candidates, or None where there is nothing to correct."""
    if variability is None or variability.markovian.all():
        return None
    if variability.arrival_cov.size != count:
        return variability.take(np.zeros(count, dtype=np.int64))
    return variability
