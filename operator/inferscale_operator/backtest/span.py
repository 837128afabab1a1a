"""The time that is looked back on: read from what a person writes, cut into steps and chunks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from inferscale_operator.errors import UsageError
from inferscale_queueing.frozen import frozen

UNIT_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
CHUNK_STEPS = 360
"""Steps that are asked for at once: Prometheus answers 11,000 at most, and what is shorter is sooner kept."""
MOST_STEPS = 1_000_000


@frozen
class Chunk:
    """Steps that are asked for together.

    Attributes:
        first: Index of the first.
        count: How many.
        begin: Time of the first, Unix seconds.
        end: Time of the last.
    """

    first: int
    count: int
    begin: int
    end: int


@frozen
class Span:
    """A while in steps. A step is the time before its moment: what its windows look back on.

    Attributes:
        begin: Unix seconds, a multiple of `step`.
        count: Steps.
        step: Seconds.
    """

    begin: int
    count: int
    step: int

    @property
    def end(self) -> int:
        """Unix seconds."""
        return self.begin + self.count * self.step

    def time(self, index: int) -> int:
        """The moment of a step, which ends it."""
        return self.begin + (index + 1) * self.step

    def chunks(self) -> Iterator[Chunk]:
        """All steps, cut where any other span would be cut too."""
        first = 0
        while first < self.count:
            position = self.time(first) // self.step
            count = min(CHUNK_STEPS - position % CHUNK_STEPS, self.count - first)
            yield Chunk(first, count, self.time(first), self.time(first + count - 1))
            first += count


def make_span(begin: str, end: str, step: int, now: float) -> Span:
    """The steps between two times.

    Args:
        begin: The first time, as it was written.
        end: The last time.
        step: Seconds; the times are rounded down to multiples of it.
        now: Unix seconds.

    Raises:
        UsageError: a time cannot be read, is to come, or there is nothing between them.
    """
    first, last = _parse("--from", begin, now), _parse("--to", end, now)
    if last > now:
        raise UsageError(f"--to {end}: is {moment(last)}, which is still to come: give `now` or less")
    if first >= last:
        raise UsageError(
            f"--from {begin}: is {moment(first)}, not before --to {end}, {moment(last)}: exchange them"
        )
    start = math.floor(first / step) * step
    count = math.floor(last / step) - start // step
    if count < 1:
        raise UsageError(f"--from {begin} --to {end}: is shorter than a step of {step} s: give more time")
    if count > MOST_STEPS:
        raise UsageError(
            f"--step {step}: makes {count:,} steps of {moment(first)} to {moment(last)}: it must be at most"
            f" {MOST_STEPS:,}"
        )
    return Span(start, count, step)


def moment(at: float) -> str:
    """A time for people."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%SZ}"


def _parse(option: str, text: str, now: float) -> float:
    """Unix seconds."""
    wrong = UsageError(
        f"{option} {text}: is no time: give 2026-03-01, 2026-03-01T12:00Z, Unix seconds, `now`, or how long"
        " ago: 7d, 12h, 90m"
    )
    if text == "now":
        return now
    ago = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if ago is not None:
        return now - int(ago[1]) * UNIT_SECONDS[ago[2]]
    try:
        if re.fullmatch(r"\d{9,12}(\.\d+)?", text):
            found = datetime.fromtimestamp(float(text), UTC)
        else:
            found = datetime.fromisoformat(text)
            # A time without a zone is UTC, as all that is printed.
            found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        at = found.timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise wrong from error
    if at < 0:
        raise wrong
    return at
