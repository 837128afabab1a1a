"""Which recommendation may be followed now: the stabilization windows of HorizontalPodAutoscaler v2.

A scale-up goes to the smallest recommendation of its window, a scale-down to the largest. Where
accelerators differ, recommendations are compared by the rate that they were to serve: what a past
recommendation would be on the accelerator in question is the replicas that its rate needs there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import inferscale_queueing as queueing
from inferscale_operator.api.inference_allocation import Recommendation
from inferscale_queueing.frozen import frozen

HISTORY_LIMIT = 512
"""Recommendations that a status takes."""


@frozen
class Windows:
    """Stabilization windows, seconds."""

    up: int
    down: int
    tick: int = 30
    """Time between recommendations: a window may be shorter than that."""
    overdue: int | None = None
    """Window for more of the same while requests have piled up; None: that for scaling up."""


@frozen
class Holding:
    """What a service has now: profile, replicas, batch limit where it is managed."""

    accelerator: str
    replicas: int
    max_batch: int | None = None


@frozen
class Stabilized:
    """What may be asked for now, and whether a window holds back something else."""

    accelerator: str
    replicas: int
    max_batch: int | None
    held: str = ""
    """What is held back and until when at the earliest, for people; empty: nothing."""
    rising: bool = False
    """Whether what is wanted serves more than what there is."""
    why: str = "Stabilizing"
    """One word for what holds it back, where something is."""


def record(
    history: Sequence[Recommendation], latest: Recommendation, holding: Holding, windows: Windows
) -> tuple[Recommendation, ...]:
    """The history with the latest recommendation.

    A first one, or the first after a gap, is preceded by what the service has, so that a new service or a
    lost history cannot jump over its windows. Recommendations that can no longer tell in any window are
    dropped.

    Args:
        history: in the order of time.
        latest: of now.
        holding: what the service has.
        windows: the stabilization windows.
    """
    gap = timedelta(seconds=max(windows.down, 2 * windows.tick))
    oldest = latest.time - max(gap, timedelta(seconds=windows.up))
    kept = [r for r in history if oldest < r.time <= latest.time]
    if not kept or kept[-1].time <= latest.time - gap:
        kept.append(
            Recommendation(
                time=latest.time,
                accelerator=holding.accelerator,
                replicas=holding.replicas,
                rate=latest.rate,
                max_batch=holding.max_batch,
            )
        )
    return _telling((*kept, latest))[-HISTORY_LIMIT:]


def _telling(history: Sequence[Recommendation]) -> tuple[Recommendation, ...]:
    """Without those that later ones of the same allocation outdo both as smallest and as largest rate.

    Later ones are in every window that an earlier one is in, so no outcome changes.
    """
    least: dict[tuple[str, int, int | None], float] = {}
    most: dict[tuple[str, int, int | None], float] = {}
    kept: list[Recommendation] = []
    for past in reversed(history):
        allocation, rate = (past.accelerator, past.replicas, past.max_batch), past.rate
        smallest, largest = rate < least.get(allocation, math.inf), rate > most.get(allocation, -math.inf)
        if smallest:
            least[allocation] = rate
        if largest:
            most[allocation] = rate
        if smallest or largest:
            kept.append(past)
    return tuple(reversed(kept))


def stabilize(
    history: Sequence[Recommendation],
    holding: Holding,
    windows: Windows,
    rate_per_replica: float,
    needed_here: int | None,
) -> Stabilized:
    """What of the latest recommendation may be done now.

    Args:
        history: Past recommendations in order of time; the last one is of now.
        holding: What the service has.
        windows: The stabilization windows.
        rate_per_replica: The rate a replica serves on the recommended profile, requests/min; 0 if not known.
        needed_here: Replicas that the load needs on the present profile; None: it cannot be served there.
    """
    latest = history[-1]
    same = latest.accelerator == holding.accelerator and latest.max_batch == holding.max_batch
    rising = (
        latest.replicas > holding.replicas if same else needed_here is None or needed_here > holding.replicas
    )
    window = windows.up if rising else windows.down
    recent = _within(history, latest.time, window)

    def replicas(past: Recommendation) -> int:
        if past.accelerator == latest.accelerator or rate_per_replica <= 0:
            return past.replicas
        return queueing.replica_count(past.rate, rate_per_replica)

    if not same:
        stays = [
            r for r in recent if (r.accelerator, r.max_batch) == (holding.accelerator, holding.max_batch)
        ]
        if stays:
            held = f"{_wanted(latest)} waits for {_until(stays[-1].time, window)}"
            return Stabilized(holding.accelerator, holding.replicas, holding.max_batch, held, rising)
    equivalents = [replicas(r) for r in recent]
    goal = min(equivalents) if rising else max(equivalents)
    if not same:
        if rising and needed_here:
            # Never less than what there is serves now.
            goal = max(goal, math.ceil(latest.replicas * holding.replicas / needed_here))
        return Stabilized(latest.accelerator, goal, latest.max_batch, rising=rising)
    # Never past what there is: a window may slow a change, not turn it round.
    goal = max(goal, holding.replicas) if rising else min(goal, holding.replicas)
    held = ""
    if goal != latest.replicas:
        blocking = [r for r in recent if replicas(r) == (min(equivalents) if rising else max(equivalents))]
        held = f"{_wanted(latest)} waits for {_until(blocking[-1].time, window)}"
    return Stabilized(holding.accelerator, goal, holding.max_batch, held, rising)


def _within(history: Sequence[Recommendation], now: datetime, window: int) -> list[Recommendation]:
    oldest = now - timedelta(seconds=window)
    return [r for r in history if r.time > oldest or r is history[-1]]


def _wanted(latest: Recommendation) -> str:
    return f"{latest.replicas} on {latest.accelerator}"


def _until(blocking: datetime, window: int) -> str:
    ends = blocking + timedelta(seconds=window)
    return f"its stabilization window ({window} s), until {ends:%H:%M:%S} at the earliest"
