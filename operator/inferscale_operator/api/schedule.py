"""Times at which a service has other bounds of its replicas."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, StrictInt

from inferscale_operator.api.base import Schema
from inferscale_operator.api.constraints import Distinct


class Day(StrEnum):
    """A day of the week."""

    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, LookupError, OSError) as error:
        raise ValueError(
            f"there is no time zone {name!r} in the time zone data of the operator: name one of the IANA data"
            " base, such as Europe/Berlin (a slim image may lack the data: package tzdata)"
        ) from error
    return name


TimeOfDay = Annotated[str, Field(max_length=5, pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
"""Hours and minutes on the wall clock."""
TimeZone = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$"), AfterValidator(_known_zone)
]
"""Name of a time zone in the IANA data base."""


class ScheduledBounds(Schema):
    """Bounds of the replicas at certain times; what is left out is as in the spec."""

    days: Annotated[tuple[Day, ...], Field(max_length=7), Distinct()] = ()
    """Days of the week on which the time begins, `Mon` to `Sun`; none: all of them."""
    start: TimeOfDay = Field(default="00:00", alias="from")
    """Time of day at which it begins, `HH:MM`."""
    end: TimeOfDay = Field(default="00:00", alias="to")
    """Time of day at which it is over, `HH:MM`; not after `from`: on the next day."""
    time_zone: TimeZone = "UTC"
    """Time zone of `from`, `to` and `days`, such as `Europe/Berlin`; daylight saving is followed."""
    min_replicas: Annotated[StrictInt, Field(ge=0, le=10000)] | None = None
    """Replicas that are kept whatever the load; none: the spec's `minReplicas`."""
    max_replicas: Annotated[StrictInt, Field(ge=1, le=10000)] | None = None
    """Replicas that are never passed; none: the spec's `maxReplicas`."""
