"""The load that is planned for: what arrives, with headroom, what has piled up, and where it is going.

The rate of arrivals says what is needed to keep up, and not what it takes to catch up; it is a mean over the
window of the metrics, and its noise alone can say for long that one replica fewer would just do. What is in
flight says at once whether it does. Where the load rises, new replicas serve the load of later.
"""

from __future__ import annotations

import math
from dataclasses import replace

from inferscale_operator.decide.catalog import Subject
from inferscale_operator.decide.startup import startup_seconds
from inferscale_operator.decide.trend import Trend, trend
from inferscale_operator.snapshot import Snapshot
from inferscale_queueing.frozen import frozen
from inferscale_solver import Load

DRAIN_S = 60.0
"""Time within which what has piled up is to be worked off, seconds; where a replica takes longer to start,
that."""
OVERDUE = 0.1
"""Share of the requests in flight that may be too many before a scale-up passes its default window."""
MS_PER_MINUTE = 60_000.0


@frozen
class Planned:
    """What is planned for, and why it is more than what arrives."""

    load: Load
    arrival_rate: float
    """Requests per minute that arrive."""
    backlog: float
    """Requests in flight beyond those that the ready replicas hold within the objectives; 0: not known."""
    drain_s: float
    """Time within which they are to be worked off, seconds."""
    rising: Trend | None
    """The rise of the load, where it asks for more than the backlog does."""


def planned(load: Load, subject: Subject, snapshot: Snapshot) -> Planned:
    """The load that is to be served.

    What has piled up counts as no more than what arrives, so that a queue which cannot be worked off takes no
    more than that from others. Replicas for the load of later work it off until then, so the larger counts.

    Args:
        load: What arrives.
        subject: The service.
        snapshot: The world.
    """
    rate, headroom = load.arrival_rate, snapshot.policy.load_headroom
    more = _backlog(load, subject)
    drain_s = max(DRAIN_S, startup_seconds(subject, subject.accelerator, snapshot))
    extra = min(more * 60 / drain_s, rate) if more > 0 else 0.0
    rising = trend(rate, subject, snapshot)
    if rising is not None and rising.expected >= extra:
        extra = rising.expected
    else:
        rising = None
    if extra > 0 or headroom > 0:
        load = replace(load, arrival_rate=rate * (1 + headroom) + extra)
    return Planned(load, rate, more, drain_s, rising)


def overdue(planned: Planned, subject: Subject) -> bool:
    """Whether so much has piled up that it is more than noise."""
    return planned.backlog > OVERDUE * (subject.state.load.in_flight or 0.0)


def planned_beyond(planned: Planned, subject: Subject) -> str:
    """What is planned for beyond what arrives, for people; empty: nothing to speak of."""
    rising, rate = planned.rising, planned.arrival_rate
    if rising is not None:
        return (
            f"; the load rises by {60 * rising.slope:.1f} requests/min each minute: for"
            f" {rate + rising.expected:.0f} rather than {rate:.0f} by the time new replicas can serve"
        )
    if planned.backlog < 0.5:
        return ""
    return (
        f"; {planned.backlog:.0f} requests in flight are more than {subject.deployment.ready_replicas} ready"
        f" replicas hold within the objectives, to be worked off within {_time(planned.drain_s)}"
    )


def _backlog(load: Load, subject: Subject) -> float:
    in_flight, ready = subject.state.load.in_flight, subject.deployment.ready_replicas
    if in_flight is None or ready <= 0 or subject.moving:
        return 0.0
    return max(in_flight - ready * _running(load, subject) - _waiting(load, subject), 0.0)


def _time(seconds: float) -> str:
    return "a minute" if seconds <= DRAIN_S else f"{seconds:.0f} s, in which a replica starts"


def _running(load: Load, subject: Subject) -> float:
    """Requests that one replica runs at once within the objective for ITL."""
    performance, itl = subject.performances[subject.accelerator], subject.targets.itl
    most = max(math.floor(performance.max_batch_size * performance.at_tokens / load.output_tokens), 1)
    most = most if subject.max_batch is None else min(most, subject.max_batch)
    if itl is None or performance.beta <= 0 or itl <= performance.alpha:
        return most
    return max(min(most, (itl - performance.alpha) / performance.beta), 1.0)


def _waiting(load: Load, subject: Subject) -> float:
    """Requests that wait, by Little's law, if all wait as long as the objectives let them in the mean."""
    longest = min(subject.targets.ttft or math.inf, subject.targets.ttw or math.inf)
    if math.isinf(longest):
        return 0.0
    share = subject.targets.percentile
    mean = longest if share is None else longest / -math.log(1 - share)
    return load.arrival_rate * mean / MS_PER_MINUTE
