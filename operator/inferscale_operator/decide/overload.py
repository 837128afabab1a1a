"""The load that is planned for: what arrives, with headroom, and what has piled up.

The rate of arrivals says what is needed to keep up, and not what it takes to catch up; it is a mean over the
window of the metrics, and its noise alone can say for long that one replica fewer would just do. What is in
flight says at once whether it does.
"""

from __future__ import annotations

import math
from dataclasses import replace

from inferscale_operator.decide.catalog import Subject
from inferscale_solver import Load

DRAIN_S = 60.0
"""Time within which what has piled up is to be worked off, seconds."""
OVERDUE = 0.1
"""Share of the requests in flight that may be too many before a scale-up passes its default window."""
MS_PER_MINUTE = 60_000.0


def planned_load(load: Load, subject: Subject, headroom: float) -> Load:
    """The load that is to be served.

    What has piled up counts as no more than what arrives, so that a queue which cannot be worked off takes no
    more than that from others.

    Args:
        load: What arrives.
        subject: The service.
        headroom: Share of the arrivals that is planned for beyond them.
    """
    rate = load.arrival_rate
    extra = min(backlog(load, subject) * 60 / DRAIN_S, rate)
    if extra <= 0 and headroom <= 0:
        return load
    return replace(load, arrival_rate=rate * (1 + headroom) + max(extra, 0.0))


def backlog(load: Load, subject: Subject) -> float:
    """Requests in flight beyond those that the ready replicas hold within the objectives; 0: not known."""
    in_flight, ready = subject.state.load.in_flight, subject.deployment.ready_replicas
    if in_flight is None or ready <= 0 or subject.moving:
        return 0.0
    return max(in_flight - ready * _running(load, subject) - _waiting(load, subject), 0.0)


def overdue(load: Load, subject: Subject) -> bool:
    """Whether so much has piled up that it is more than noise."""
    return backlog(load, subject) > OVERDUE * (subject.state.load.in_flight or 0.0)


def catching_up(load: Load | None, subject: Subject) -> str:
    """What is planned for beyond what arrives, for people; empty: nothing to speak of."""
    if load is None:
        return ""
    more = backlog(load, subject)
    if more < 0.5:
        return ""
    return (
        f"; {more:.0f} requests in flight are more than {subject.deployment.ready_replicas} ready replicas"
        " hold within the objectives, to be worked off within a minute"
    )


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
