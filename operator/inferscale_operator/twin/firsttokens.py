"""Times to first token of servers in the mean: how they spread about their mean in an interval.

A time is what is left of the iteration that a request finds in progress, a wait for a place in the batch, and
a prefill that grows with the request's own input. Below the full batch a share of the requests waits, for an
exponential time; with a backlog all wait their turn. Shapes: S services, K equally likely requests of each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from inferscale_operator.twin.scenario import TokenSpec
from inferscale_queueing.frozen import frozen

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

POINTS = 32
_MIDDLES = (np.arange(POINTS) + 0.5) / POINTS
# Multiples of the golden ratio fill an interval evenly, however many there are.
_GOLDEN = (np.sqrt(5) - 1) / 2
# Orders of the same points that go with neither lengths nor each other: their correlations are below .05.
_MOMENTS: Floats = _MIDDLES[19 * np.arange(POINTS) % POINTS]
_BATCHES: Floats = np.array([*map(NormalDist().inv_cdf, _MIDDLES)])[(7 * np.arange(POINTS) + 25) % POINTS]


@frozen(eq=False)
class FirstTokens:
    """Times to first token (ms) of the requests of an interval.

    Attributes:
        left: What is left of the iteration that a request finds in progress, shape (S, K).
        prefill: Shape (S, K).
        queued: Share of requests that were in a backlog, shape (S,); their waits lie evenly between `least`
            and `most`.
        least: Shape (S,).
        most: Shape (S,).
        p_wait: Share of the others that wait, shape (S,).
        rate: Of the exponential wait of those, 1/ms, shape (S,).
    """

    left: Floats
    prefill: Floats
    queued: Floats
    least: Floats
    most: Floats
    p_wait: Floats
    rate: Floats

    def later(self, limit: Floats) -> Floats:
        """Share of the requests whose time exceeds a limit, shape (S,)."""
        return self._beyond(limit, self.left + self.prefill)

    def waits_beyond(self, limit: Floats) -> Floats:
        """Share of the requests whose wait alone exceeds a limit, shape (S,)."""
        return self._beyond(limit, self.left)

    def points(self, turn: int) -> tuple[Ints, Floats, Floats]:
        """Times that stand for all, in rows of which a service has two, and one more with a backlog.

        Args:
            turn: Number of the interval; those of different intervals lie between each other.

        Returns:
            Of each row the number of the service, shape (rows,), the times, shape (rows, K), and the weight
            of each of them (1 in all for a service), shape (rows,).
        """
        even = (turn * POINTS + np.arange(POINTS)) * _GOLDEN % 1
        at_once = self.left + self.prefill
        every, line = np.arange(len(at_once)), np.flatnonzero(self.queued)
        waits = 1 / self.rate[:, None] * -np.log1p(-even)
        in_line = self.least[line, None] + (self.most - self.least)[line, None] * even
        others = (1 - self.queued) / POINTS
        return (
            np.concatenate([every, every, line]),
            np.concatenate([at_once, at_once + waits, at_once[line] + in_line]),
            np.concatenate([others * (1 - self.p_wait), others * self.p_wait, self.queued[line] / POINTS]),
        )

    def _beyond(self, limit: Floats, besides: Floats) -> Floats:
        """Share of the requests whose wait exceeds a limit less what it takes besides, shape (S,)."""
        result = np.zeros(len(limit))
        rows = np.flatnonzero(np.isfinite(limit))
        if not rows.size:
            return result
        left = limit[rows, None] - besides[rows]
        bounded = np.maximum(left, 0.0)
        exponential = self.p_wait[rows, None] * np.exp(-bounded * self.rate[rows, None])
        span = np.maximum(self.most - self.least, 1e-9)[rows, None]
        even = np.minimum(np.maximum((self.most[rows, None] - bounded) / span, 0.0), 1.0)
        queued = self.queued[rows, None]
        shares = (1 - queued) * exponential + queued * even
        result[rows] = np.where(left < 0, 1.0, shares).mean(axis=1)
        return result


def iteration_left(iteration: Floats, running: Floats, p_wait: Floats) -> Floats:
    """What is left of the iteration that requests find in progress, ms, shape (S, K).

    Args:
        iteration: Duration of an iteration, ms, shape (S,); a request comes at a random moment of it.
        running: Mean number of requests in a replica's batch, shape (S,): it is empty with probability e^-n.
        p_wait: Share of requests that wait for a place, which becomes free at the end of one, shape (S,).
    """
    left = iteration * -np.expm1(-running) * (1 - p_wait)
    return left[:, None] * _MOMENTS


def prefills(mean: Floats, fixed: Floats, lengths: Floats, running: Floats, p_wait: Floats) -> Floats:
    """Times of prefill, ms, shape (S, K).

    Args:
        mean: Shape (S,).
        fixed: Part of it that depends neither on the input nor on the batch, shape (S,).
        lengths: Inputs relative to their mean, shape (S, K).
        running: Mean number of requests in a replica's batch, shape (S,); it has that variance too.
        p_wait: Share of requests that find the batch full, shape (S,): of those the batch does not vary.
    """
    spread = ((1 - p_wait) / np.sqrt(np.maximum(running, 1.0)))[:, None] * _BATCHES
    return fixed[:, None] + (mean - fixed)[:, None] * lengths * np.maximum(1 + spread, 0.0)


def relative_lengths(tokens: Sequence[TokenSpec | None]) -> Floats:
    """Equally likely inputs relative to their mean, by service, shape (S, K); exponential where not known."""
    rows = []
    for spec in tokens:
        row = -np.log1p(-_MIDDLES)
        if spec is not None and spec.distribution == "deterministic":
            row = np.ones(POINTS)
        elif spec is not None and spec.distribution == "lognormal":
            row = np.exp(np.sqrt(np.log1p(spec.cov**2)) * np.array([*map(NormalDist().inv_cdf, _MIDDLES)]))
        rows.append(row / row.mean())
    return np.array(rows)


class Lines:
    """The requests that wait their turn, by service and by when they came.

    Args:
        count: Services.
    """

    def __init__(self, count: int) -> None:
        self._lines = [_Line() for _ in range(count)]

    def waited(
        self, before: Floats, arrived: Floats, after: Floats, from_s: float, to_s: float
    ) -> tuple[Floats, Floats]:
        """The shortest and the longest wait of those whose turn came in an interval, ms, shape (S,) each.

        Args:
            before: Requests that waited at its begin, shape (S,).
            arrived: Requests that came in it, shape (S,).
            after: Requests that wait at its end, shape (S,).
            from_s: Its begin.
            to_s: Its end.
        """
        ages = np.zeros((2, len(self._lines)))
        for number in np.flatnonzero((before > 0) | (after > 0)).tolist():
            line = self._lines[number]
            line.keep(float(before[number]))
            ages[0, number] = line.age(from_s)
            line.come(from_s, to_s, float(arrived[number]))
            line.keep(float(after[number]))
            ages[1, number] = line.age(to_s)
        return ages.min(axis=0) * 1000, ages.max(axis=0) * 1000

    def older(self, service: int, than_s: float) -> float:
        """Requests that wait and came before a time."""
        return sum(
            count * float(np.clip((than_s - begin) / max(end - begin, 1e-9), 0.0, 1.0))
            for begin, end, count in self._lines[service].parcels
        )


@dataclass(eq=False)
class _Line:
    """The requests of one service, the first to come first."""

    parcels: deque[tuple[float, float, float]] = field(default_factory=deque)
    """Came from, came to (s), how many."""
    total: float = 0.0

    def come(self, from_s: float, to_s: float, count: float) -> None:
        """Some join the line."""
        if count > 0:
            self.parcels.append((from_s, to_s, count))
            self.total += count

    def keep(self, count: float) -> None:
        """All but so many have gone, the first to come first."""
        if count <= 0:
            self.parcels.clear()
        while self.parcels and self.total > count:
            begin, end, size = self.parcels.popleft()
            gone = min(self.total - count, size)
            self.total -= gone
            if gone < size:
                self.parcels.appendleft((begin + (end - begin) * gone / size, end, size - gone))
        if not self.parcels:
            self.total = 0.0

    def age(self, now_s: float) -> float:
        """How long the first has waited, s; 0 if there is none."""
        return max(now_s - self.parcels[0][0], 0.0) if self.parcels else 0.0
