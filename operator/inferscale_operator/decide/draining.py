"""Whether pods that are taken away get the time that the requests on them need."""

from __future__ import annotations

import math

from inferscale_operator.api.base import ConditionStatus
from inferscale_operator.decide.catalog import Subject
from inferscale_operator.decide.conditions import Finding, false, true
from inferscale_queueing.frozen import frozen

CONDITION = "GracePeriodSufficient"
LONG_PERCENTILE = 0.99
LONG_TO_MEAN = -math.log(1 - LONG_PERCENTILE)
"""Length of a long answer in mean ones, where lengths are exponential."""
MARGIN = 1.2
"""What was too short is so until it exceeds the time by this factor: mean lengths go up and down."""


@frozen
class LongRequest:
    """A long request at the slowest that the objectives allow: its output tokens, and its time in s."""

    tokens: float
    seconds: float


def long_request(subject: Subject) -> LongRequest | None:
    """What a pod must have time for; None: not known.

    It waits for its first token as long as the TTFT objective says, and for each further token the ITL
    objective. Its length is the 99th percentile of exponential ones with the mean that is observed.
    """
    mean, itl = subject.state.load.output_tokens, subject.targets.itl
    if mean is None or itl is None:
        return None
    tokens = LONG_TO_MEAN * mean
    return LongRequest(tokens, ((subject.targets.ttft or 0.0) + tokens * itl) / 1000)


def grace_finding(subject: Subject) -> dict[str, Finding]:
    """The condition; empty while it is not known, so that the earlier one stays."""
    given, longest = subject.deployment.grace_seconds, long_request(subject)
    if given is None or longest is None:
        return {}
    if given >= longest.seconds * MARGIN or (given >= longest.seconds and not _short_before(subject)):
        return {CONDITION: true("Sufficient")}
    message = (
        f"Deployment {subject.deployment.name}: terminationGracePeriodSeconds is {given}, and a long request"
        f" ({longest.tokens:.0f} tokens; one in a hundred is longer) takes up to"
        f" {longest.seconds:.0f} s within the objectives: when a replica goes, it is cut short;"
        f" set at least {math.ceil(longest.seconds * MARGIN)}"
    )
    return {CONDITION: false("GracePeriodTooShort", message)}


def _short_before(subject: Subject) -> bool:
    return any(
        condition.type == CONDITION and condition.status is ConditionStatus.FALSE
        for condition in subject.state.resource.conditions
    )
