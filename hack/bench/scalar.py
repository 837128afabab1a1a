"""The sizing as one would write it first: one candidate, one rate, one state at a time, with floats.

It has an unbounded queue and mean targets only, and its products overflow for batches beyond about 700;
`inferscale_queueing.size` is measured against it, and a test compares their answers.
"""

from __future__ import annotations

from dataclasses import dataclass

_RELATIVE_WIDTH = 1e-12


@dataclass(frozen=True)
class Replica:
    """One candidate, prefill and decode: times in ms, mean tokens of a request, largest batch."""

    alpha: float
    beta: float
    gamma: float
    delta: float
    input_tokens: float
    output_tokens: float
    max_batch: int

    def prefill(self, n: float) -> float:
        """P(n) = γ + δ·in·n ms."""
        return self.gamma + self.delta * self.input_tokens * n if self.input_tokens else 0.0

    def itl(self, n: float) -> float:
        """ITL(n) = α + β·n ms."""
        return self.alpha + self.beta * n

    def service_time(self, n: float) -> float:
        """S(n) = P(n) + (out − 1)·ITL(n) ms."""
        return self.prefill(n) + (self.output_tokens - 1) * self.itl(n)

    def concurrency(self, service_time: float) -> float:
        """The n at which S(n) is `service_time`, in [0, N]."""
        fixed = self.service_time(0)
        slope = self.service_time(1) - fixed
        return min(max((service_time - fixed) / slope, 0.0), self.max_batch)


def latencies(replica: Replica, rate: float) -> tuple[float, float]:
    """Mean ITL and mean TTFT in ms at a rate per replica in requests/ms below μ(N)."""
    weight, total, busy = 1.0, 1.0, 0.0
    for n in range(1, replica.max_batch + 1):
        weight *= rate * replica.service_time(n) / n
        total += weight
        busy += n * weight
    ratio = rate * replica.service_time(replica.max_batch) / replica.max_batch
    queued = weight * ratio / (1 - ratio)
    total += queued
    busy += replica.max_batch * queued
    wait = queued / (1 - ratio) / total / rate
    n = replica.concurrency(busy / total / rate)
    return replica.itl(n), wait + replica.prefill(n)


def largest_rate(replica: Replica, itl: float, ttft: float) -> float:
    """λ* in requests/ms by bisection; 0 if a target cannot be met."""

    def meets(rate: float) -> bool:
        reached = latencies(replica, rate)
        return reached[0] <= itl and reached[1] <= ttft

    low = 0.001 / replica.service_time(1)
    high = 0.999 * replica.max_batch / replica.service_time(replica.max_batch)
    if not meets(low):
        return 0.0
    if meets(high):
        return high
    while high - low > _RELATIVE_WIDTH * high:
        middle = (low + high) / 2
        if meets(middle):
            low = middle
        else:
            high = middle
    return low
