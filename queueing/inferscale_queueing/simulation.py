"""Simulation of one replica of continuous batching in its steady state.

It shares the latency profile with the analytic model and none of its assumptions about distributions, so it
judges that model. Requests wait for the end of the iteration in progress, which the model does not know:
waits below one iteration cannot agree better than by one iteration.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inferscale_queueing.arrivals import Arrivals, Distribution, Lengths
from inferscale_queueing.server import Completion, Recorder, Request, Server

__all__ = [
    "Arrivals",
    "Completion",
    "Distribution",
    "Estimate",
    "Lengths",
    "Recorder",
    "Request",
    "Server",
    "SimulationResult",
    "batch_means",
    "simulate",
]


@dataclass(frozen=True)
class Estimate:
    """A mean and the half width of its 95 % confidence interval (batch means)."""

    mean: float
    half_width: float

    def covers(self, value: float) -> bool:
        """Whether the interval holds `value`."""
        return abs(value - self.mean) <= self.half_width


@dataclass(frozen=True, eq=False)
class SimulationResult:
    """The steady state of one simulated replica: requests that arrived after the warm-up.

    Attributes:
        offered: Requests that arrived.
        refused: Those that the queue limit turned away.
        duration_ms: Time over which they arrived.
        wait_ms: Per accepted request in the order of arrival: arrival to admission.
        ttft_ms: Arrival to first token.
        response_ms: Arrival to last token.
        gaps: Tokens after the first.
    """

    offered: int
    refused: int
    duration_ms: float
    wait_ms: NDArray[np.float64]
    ttft_ms: NDArray[np.float64]
    response_ms: NDArray[np.float64]
    gaps: NDArray[np.float64]

    @property
    def blocking(self) -> float:
        """Fraction of the requests that were refused."""
        return self.refused / self.offered

    @property
    def throughput(self) -> float:
        """Accepted requests per ms."""
        return (self.offered - self.refused) / self.duration_ms

    @property
    def in_system(self) -> float:
        """Mean number of requests in the system, by Little's law."""
        return self.throughput * float(self.response_ms.mean())

    @property
    def in_service(self) -> float:
        """Mean number of slots held, by Little's law."""
        return self.throughput * float((self.response_ms - self.wait_ms).mean())

    @property
    def wait(self) -> Estimate:
        """Mean wait, ms."""
        return batch_means(self.wait_ms)

    @property
    def ttft(self) -> Estimate:
        """Mean time to first token, ms."""
        return batch_means(self.ttft_ms)

    @property
    def response(self) -> Estimate:
        """Mean time to last token, ms."""
        return batch_means(self.response_ms)

    @property
    def itl(self) -> Estimate:
        """Mean time between tokens, ms, over all tokens after the first."""
        return batch_means(self.response_ms - self.ttft_ms, self.gaps)

    def wait_quantile(self, quantile: float) -> float:
        """The wait in ms that a fraction `quantile` of the accepted requests does not exceed."""
        return float(np.quantile(self.wait_ms, quantile))

    def ttft_quantile(self, quantile: float) -> float:
        """The time to first token in ms that a fraction `quantile` of the accepted does not exceed."""
        return float(np.quantile(self.ttft_ms, quantile))


# Student's t, 97.5 %, 19 degrees of freedom: few long batches are nearly independent of each other.
_BATCHES = 20
_STUDENT_T = 2.093024


def batch_means(values: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> Estimate:
    """Estimate the mean of a correlated series, Σ values / Σ weights, from 20 consecutive batches.

    Args:
        values: The series in the order of time, shape (n,).
        weights: What to divide by, shape (n,); 1 each unless given.

    Returns:
        The mean with its half width; nan without weight, an infinite half width below 20 values.
    """
    weights = np.ones_like(values) if weights is None else weights
    total = float(weights.sum())
    if total == 0:
        return Estimate(math.nan, math.nan)
    mean = float(values.sum()) / total
    if values.size < _BATCHES:
        return Estimate(mean, math.inf)
    starts = np.linspace(0, values.size, _BATCHES, endpoint=False).astype(np.int64)
    batch_weights = np.add.reduceat(weights, starts)
    # The error of a ratio of sums, to first order.
    errors = (np.add.reduceat(values, starts) - mean * batch_weights) / batch_weights.mean()
    return Estimate(mean, _STUDENT_T * float(errors.std(ddof=1)) / math.sqrt(_BATCHES))


def simulate(
    alpha: float,
    beta: float,
    gamma: float,
    delta: float,
    max_batch: int,
    arrivals: Arrivals,
    *,
    input_tokens: Lengths,
    output_tokens: Lengths,
    requests: int,
    seed: int,
    queue_limit: int | None = None,
    decode_only: bool = False,
    warmup: float = 0.1,
) -> SimulationResult:
    """Simulate one replica from empty until `requests` requests have gone through it.

    Args:
        alpha: Duration of a decode iteration without its requests, ms.
        beta: Added duration for every slot held, ms.
        gamma: Duration of a prefill without its tokens, ms.
        delta: Added duration for every input token and slot held, ms.
        max_batch: Largest number of slots held.
        arrivals: The arrival process.
        input_tokens: Distribution of the input lengths.
        output_tokens: Distribution of the output lengths, at least 1.
        requests: Number of arrivals.
        seed: Same seed, same result.
        queue_limit: Largest number of requests that wait; None is unbounded.
        decode_only: No prefill: every token, the first too, takes one iteration.
        warmup: Fraction of the requests, the first ones, that do not count.

    Returns:
        The measured requests.
    """
    first = int(requests * warmup)
    if not 0 <= first < requests:
        raise ValueError(f"warmup must leave some of the {requests} requests, got {warmup}")
    rng = np.random.default_rng(seed)
    times = arrivals.times(requests, rng)
    inputs = input_tokens.sample(requests, rng)
    outputs = output_tokens.sample(requests, rng, minimum=1)
    server = Server(alpha, beta, gamma, delta, max_batch, queue_limit, decode_only=decode_only)
    refused = 0
    rows = zip(times.tolist(), inputs.tolist(), outputs.tolist(), strict=True)
    for index, (arrival_ms, inputs_of_it, outputs_of_it) in enumerate(rows):
        accepted = server.offer(Request(arrival_ms, inputs_of_it, outputs_of_it, index))
        refused += not accepted and index >= first
    table = np.full((requests, 3), math.nan)
    for done in server.advance(math.inf):
        table[done.request.id] = done.admitted_ms, done.first_token_ms, done.finished_ms
    accepted_ids = first + np.flatnonzero(np.isfinite(table[first:, 0]))
    arrived = times[accepted_ids]
    return SimulationResult(
        offered=requests - first,
        refused=refused,
        duration_ms=float(times[-1] - (times[first - 1] if first else 0.0)),
        wait_ms=table[accepted_ids, 0] - arrived,
        ttft_ms=table[accepted_ids, 1] - arrived,
        response_ms=table[accepted_ids, 2] - arrived,
        gaps=outputs[accepted_ids].astype(np.float64) - 1.0,
    )
