"""Simulation of one replica of continuous batching in its steady state.

It shares the latency profile with the analytic model and none of its assumptions about distributions, so it
judges that model. Requests wait for the end of the iteration in progress, which the model does not know:
waits below one iteration cannot agree better than by one iteration.
"""

import math

import numpy as np
from numpy.typing import NDArray

from inferscale_queueing.arrivals import Arrivals, Distribution, Lengths, Trace, draw
from inferscale_queueing.frozen import frozen
from inferscale_queueing.request import Completion, Recorder, Request
from inferscale_queueing.server import PrefillMode, Server

__all__ = [
    "Arrivals",
    "Completion",
    "Distribution",
    "Estimate",
    "Lengths",
    "PrefillMode",
    "Recorder",
    "Request",
    "Server",
    "SimulationResult",
    "Trace",
    "batch_means",
    "batch_quantile",
    "draw",
    "replay",
    "simulate",
]


@frozen
class Estimate:
    """A mean and the half width of its 95 % confidence interval (batch means)."""

    mean: float
    half_width: float

    def covers(self, value: float) -> bool:
        """Whether the interval holds `value`."""
        return abs(value - self.mean) <= self.half_width


@frozen(eq=False)
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


def batch_quantile(values: NDArray[np.float64], quantile: float) -> Estimate:
    """Estimate a quantile of a correlated series from 20 consecutive batches.

    The share of values below the quantile has an error, found from the batches; the quantiles at both ends
    of that error's interval are the ends of the quantile's, the farther of which counts.

    Args:
        values: The series in the order of time, shape (n,), n > 0.
        quantile: The fraction of them that the quantile is not exceeded by, in (0, 1).

    Returns:
        The quantile with its half width; an infinite half width below 20 values.
    """
    value = float(np.quantile(values, quantile))
    error = batch_means((values <= value).astype(np.float64)).half_width
    if math.isinf(error):
        return Estimate(value, math.inf)
    ends = np.quantile(values, [max(quantile - error, 0.0), min(quantile + error, 1.0)])
    return Estimate(value, float(np.abs(ends - value).max()))


_PART = 10_000


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
    prefill: PrefillMode = "concurrent",
    warmup: float = 0.1,
) -> SimulationResult:
    """Simulate one replica from empty until `requests` random requests have gone through it.

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
        prefill: Whether the others go on decoding during a prefill.
        warmup: Fraction of the requests, the first ones, that do not count.

    Returns:
        The measured requests.
    """
    server = Server(
        alpha, beta, gamma, delta, max_batch, queue_limit, decode_only=decode_only, prefill=prefill
    )
    return replay(server, draw(arrivals, input_tokens, output_tokens, requests, seed), warmup=warmup)


def replay(server: Server, trace: Trace, *, warmup: float = 0.1) -> SimulationResult:
    """Let the requests of a trace go through a replica that has had none.

    Args:
        server: The replica; its clock must not be past the first arrival.
        trace: The requests.
        warmup: Fraction of the requests, the first ones, that do not count.

    Returns:
        The measured requests.

    Raises:
        ValueError: The warm-up leaves no request, or the clock is past the first arrival.
    """
    requests = trace.arrival_ms.size
    first = int(requests * warmup)
    if not 0 <= first < requests:
        raise ValueError(f"warmup must leave some of the {requests} requests, got {warmup}")
    start_ms = server.now_ms
    accepted = np.ones(requests, dtype=np.bool_)
    times = np.full((requests, 3), math.nan)
    # In parts, so that only the requests in progress are objects.
    for begin in range(0, requests, _PART):
        part = slice(begin, begin + _PART)
        arrivals, inputs, outputs = (
            trace.arrival_ms[part],
            trace.input_tokens[part],
            trace.output_tokens[part],
        )
        rows = zip(arrivals.tolist(), inputs.tolist(), outputs.tolist(), strict=True)
        accepted[part] = [server.offer(Request(*row, index)) for index, row in enumerate(rows, begin)]
        done = server.advance(server.now_ms if begin + _PART < requests else math.inf)
        if done:
            times[[one.request.id for one in done]] = [
                (one.admitted_ms, one.first_token_ms, one.finished_ms) for one in done
            ]
    kept = first + np.flatnonzero(accepted[first:])
    waited, first_token, response = (times[kept] - trace.arrival_ms[kept, np.newaxis]).T
    return SimulationResult(
        offered=requests - first,
        refused=requests - first - kept.size,
        duration_ms=float(trace.arrival_ms[-1] - (trace.arrival_ms[first - 1] if first else start_ms)),
        wait_ms=waited,
        ttft_ms=first_token,
        response_ms=response,
        gaps=trace.output_tokens[kept].astype(np.float64) - 1.0,
    )
