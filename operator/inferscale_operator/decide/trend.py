"""The load that is expected by the time a new replica can serve, where it has been rising.

A rise that counts goes on over two windows of the metrics, to more than there has been lately, and is beyond
what the load swings by: noise, steps, bursts and waves are no trend. What is not known is none either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from inferscale_operator.api.inference_allocation import ArrivalSample
from inferscale_operator.decide.catalog import Subject
from inferscale_operator.decide.startup import startup_seconds
from inferscale_operator.snapshot import LoadState, Snapshot

SAMPLES_LIMIT = 16
"""Samples that a status takes: two in each window of the metrics."""
SEEN_WINDOWS = 4
"""Windows of the metrics that have to be on record before anything counts as a trend."""
SIGNIFICANT = 3.0
"""Standard errors that a rise has to be beyond."""
MOST = 1.0
"""Share of the arrivals that is expected beyond them at most."""
MEASURED = (LoadState.OBSERVED, LoadState.IDLE)
"""States in which all that arrives is seen."""


class Trend(NamedTuple):
    """A rise of the load."""

    slope: float
    """Requests per minute more, each second."""
    expected: float
    """Requests per minute more by the time a new replica can serve."""
    ahead_s: float
    """Seconds from the middle of the last window to that time."""


class _Point(NamedTuple):
    """What arrived in a window that ended some time ago."""

    age_s: float
    rate: float


def samples(subject: Subject, snapshot: Snapshot) -> tuple[ArrivalSample, ...]:
    """The arrivals of the last windows, those of now where the last sample is half a window old."""
    step = snapshot.policy.metrics.window_seconds / 2
    kept = subject.state.allocation.arrivals if subject.state.allocation is not None else ()
    # They are in the order of their times: none is too old when the first is not, or from a clock that was
    # put back when the last is not.
    if kept and (_age_s(kept[0], snapshot) > SAMPLES_LIMIT * step or _age_s(kept[-1], snapshot) < 0):
        kept = tuple(s for s in kept if 0 <= _age_s(s, snapshot) <= SAMPLES_LIMIT * step)
    due = not kept or _age_s(kept[-1], snapshot) >= step
    load = subject.load
    if due and load is not None and subject.state.load.state in MEASURED:
        kept = (*kept, ArrivalSample(time=snapshot.time, rate=round(load.arrival_rate, 2)))
    return kept[-SAMPLES_LIMIT:]


def trend(rate: float, subject: Subject, snapshot: Snapshot) -> Trend | None:
    """The rise of the load; None: there is none, or it is not known.

    Args:
        rate: What arrives now, requests/min.
        subject: The service.
        snapshot: The world.
    """
    policy, allocation = snapshot.policy, subject.state.allocation
    if not policy.load_trend or allocation is None or subject.state.load.state not in MEASURED:
        return None
    if any(s.rate >= rate and s.time < snapshot.time for s in allocation.arrivals):
        return None
    window = policy.metrics.window_seconds
    ages = [_Point(_age_s(sample, snapshot), sample.rate) for sample in allocation.arrivals]
    past = [point for point in reversed(ages) if point.age_s > 0]
    if not past or past[-1].age_s < SEEN_WINDOWS * window:
        return None
    points = [_Point(0.0, rate), *past]
    one, two = _earlier(points, 0, window), _earlier(points, 0, 2 * window)
    if one is None or two is None or not _significant(points, points[two], window):
        return None
    now, before, first = points[0], points[one], points[two]
    # A step is over within a window; the slower of two is the rise that lasts.
    slope = min(_slope(now, before), _slope(before, first))
    if slope <= 0:
        return None
    ahead = startup_seconds(subject, subject.accelerator, snapshot) + window / 2 + policy.tick_seconds
    return Trend(slope, min(slope * ahead, MOST * rate), ahead)


def _age_s(sample: ArrivalSample, snapshot: Snapshot) -> float:
    return (snapshot.time - sample.time).total_seconds()


def _slope(late: _Point, early: _Point) -> float:
    return (late.rate - early.rate) / (early.age_s - late.age_s)


def _significant(points: Sequence[_Point], before: _Point, window: float) -> bool:
    """Whether the rise since `before` is more than the counts of two windows differ by without one."""
    minutes = window / 60
    rise = (points[0].rate - before.rate) * minutes
    least = SIGNIFICANT * math.sqrt((points[0].rate + before.rate) * minutes)
    return rise > least and rise > least * math.sqrt(_dispersion(points, window))


def _dispersion(points: Sequence[_Point], window: float) -> float:
    """Variance of the counts over that of a Poisson process, at least 1.

    From how far each window is off the line between those before and after it, so that a steady rise adds
    nothing to it.
    """
    minutes, ratios = window / 60, []
    for last in range(len(points)):
        middle = _earlier(points, last, window)
        first = _earlier(points, middle, window) if middle is not None else None
        if middle is None or first is None:
            continue
        share = (points[first].age_s - points[middle].age_s) / (points[first].age_s - points[last].age_s)
        late, between, early = (points[n].rate * minutes for n in (last, middle, first))
        off = between - share * late - (1 - share) * early
        ratios.append(off**2 / max(between + share**2 * late + (1 - share) ** 2 * early, 1.0))
    return max(sum(ratios) / max(len(ratios), 1), 1.0)


def _earlier(points: Sequence[_Point], start: int, seconds: float) -> int | None:
    """The point that much before another, up to half again as much; None: there was none at that time."""
    for number in range(start + 1, len(points)):
        between = points[number].age_s - points[start].age_s
        if between >= seconds - 1:
            return number if between <= 1.5 * seconds else None
    return None
