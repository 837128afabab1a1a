"""Conditions and the events that their changes are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from inferscale_operator.api.base import Condition, ConditionStatus
from inferscale_operator.plan import EventNote, EventType

# The status in which each condition is worth a warning.
_ALARMING = {
    "ProfileValid": ConditionStatus.FALSE,
    "MetricsAvailable": ConditionStatus.FALSE,
    "Applied": ConditionStatus.FALSE,
    "GracePeriodSufficient": ConditionStatus.FALSE,
    "CapacityLimited": ConditionStatus.TRUE,
    "SLOAtRisk": ConditionStatus.TRUE,
}
# States that are meant, or have an event of their own, and are no news.
_EXPECTED_REASONS = frozenset(
    {"Recommend", "Paused", "CheaperIsExhausted", "Starting", "AwaitingApproval", "Unschedulable"}
)
MESSAGE_LIMIT = 1024


class Finding(NamedTuple):
    """What a condition should say."""

    status: ConditionStatus
    reason: str
    message: str = ""


def true(reason: str, message: str = "") -> Finding:
    """The condition holds."""
    return Finding(ConditionStatus.TRUE, reason, message)


def false(reason: str, message: str = "") -> Finding:
    """The condition does not hold."""
    return Finding(ConditionStatus.FALSE, reason, message)


def unknown(reason: str, message: str = "") -> Finding:
    """It is not known whether the condition holds."""
    return Finding(ConditionStatus.UNKNOWN, reason, message)


def conditions(
    before: Sequence[Condition], findings: Mapping[str, Finding], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The findings as conditions; the time of the last transition stays while the status does.

    Earlier conditions that the findings do not speak of stay.
    """
    earlier = {c.type: c for c in before}
    stated = {
        kind: _condition(kind, finding, earlier.get(kind), generation, now)
        for kind, finding in findings.items()
    }
    after = earlier | stated
    return tuple(after[kind] for kind in sorted(after))


def _condition(
    kind: str, finding: Finding, before: Condition | None, generation: int, now: datetime
) -> Condition:
    message = cut(finding.message)
    if before is None or before.status is not finding.status:
        since = now.replace(microsecond=0)
    elif (
        before.reason == finding.reason
        and before.message == message
        and before.observed_generation == generation
    ):
        return before
    else:
        since = before.last_transition_time
    return Condition(
        type=kind,
        status=finding.status,
        reason=finding.reason,
        message=message,
        last_transition_time=since,
        observed_generation=generation,
    )


def events(
    before: Sequence[Condition],
    after: Sequence[Condition],
    alarming: Mapping[str, ConditionStatus] = _ALARMING,
) -> tuple[EventNote, ...]:
    """Warnings for conditions that became alarming, or say something else that somebody must mend.

    Args:
        before: The conditions as they were.
        after: The conditions as they are.
        alarming: The status in which each is worth a warning; those of a service unless said.
    """
    earlier = {c.type: c for c in before}
    return tuple(
        EventNote(EventType.WARNING, c.reason, c.message)
        for c in after
        if alarming.get(c.type) is c.status
        and c.reason not in _EXPECTED_REASONS
        and _is_news(earlier.get(c.type), c)
    )


def _is_news(before: Condition | None, after: Condition) -> bool:
    if before is None or before.status is not after.status or before.reason in _EXPECTED_REASONS:
        return True
    # How capacity is short or an objective missed may change with every tick.
    return before.reason != after.reason and after.status is ConditionStatus.FALSE


def cut(message: str) -> str:
    """A message no longer than a condition or an event takes."""
    return message if len(message) <= MESSAGE_LIMIT else f"{message[: MESSAGE_LIMIT - 1]}…"
