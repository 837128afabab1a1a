"""The bounds of a service's replicas: those of its spec, or of its schedule at this time."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from inferscale_operator.api.inference_service import InferenceServiceSpec
from inferscale_operator.api.schedule import Day, ScheduledBounds
from inferscale_queueing.frozen import frozen

_DAYS = tuple(Day)


@frozen
class Bounds:
    """Replicas that are kept whatever the load, and those that are never passed (None: no limit)."""

    least: int
    most: int | None

    def clamp(self, replicas: int) -> int:
        """The nearest number within the bounds."""
        return max(replicas if self.most is None else min(replicas, self.most), self.least)


def bounds_at(spec: InferenceServiceSpec, time: datetime) -> Bounds:
    """The bounds that hold at `time` (with a time zone): of the first entry that applies, or the spec's.

    On the day on which clocks go back an entry may hold an hour longer, and one whose `from` is skipped
    begins with the hour that follows: what counts is the wall clock.
    """
    for entry in spec.schedule:
        if _applies(entry, time):
            return Bounds(
                spec.min_replicas if entry.min_replicas is None else entry.min_replicas,
                spec.max_replicas if entry.max_replicas is None else entry.max_replicas,
            )
    return Bounds(spec.min_replicas, spec.max_replicas)


def zero_bound(spec: InferenceServiceSpec) -> str | None:
    """Path of the first field by which the service may go to 0 replicas; None: it may not."""
    if spec.min_replicas == 0:
        return "spec.minReplicas"
    zeros = (i for i, entry in enumerate(spec.schedule) if entry.min_replicas == 0)
    first = next(zeros, None)
    return None if first is None else f"spec.schedule[{first}].minReplicas"


def _applies(entry: ScheduledBounds, time: datetime) -> bool:
    local = time.astimezone(ZoneInfo(entry.time_zone))
    clock = f"{local:%H:%M}"
    today, yesterday = (
        _DAYS[(local - timedelta(days=back)).weekday()] in (entry.days or _DAYS) for back in (0, 1)
    )
    if entry.start < entry.end:
        return today and entry.start <= clock < entry.end
    return (today and clock >= entry.start) or (yesterday and clock < entry.end)
