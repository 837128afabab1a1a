"""What a Prometheus that scrapes the simulated pods holds, and its functions over it.

A pod exports one series a metric. All are scraped at the same times; a sample is a row of the store. A pod
that is gone is marked stale at once, as service discovery does; one that was not scraped is seen for five
minutes more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SampleKey = tuple[str, str]

LOOKBACK_S = 300.0
GROWTH = 64


class Samples:
    """The samples of all pods.

    Args:
        columns: Names of the series that each pod exports.
        retention_s: How long samples are kept.
        epoch_s: Unix time at which the clock of those who add, remove and record is 0; questions are asked
            in Unix time.
    """

    def __init__(self, columns: Sequence[str], retention_s: float, epoch_s: float = 0.0) -> None:
        self._epoch_s = epoch_s
        self.columns = {name: number for number, name in enumerate(columns)}
        self.keys: list[SampleKey | None] = []
        """Namespace and name of the pod of each slot; None: the slot is free."""
        self._retention_s = retention_s
        self._gone_s = np.empty(0)
        self._times: list[float] = []
        self._rows: list[Floats] = []
        self._free: list[int] = []
        self._slots: dict[SampleKey, int] = {}
        self._block: tuple[Floats, Floats] | None = None

    def add(self, key: SampleKey) -> int:
        """Take in a pod; its slot."""
        if not self._free:
            first = len(self.keys)
            self.keys += [None] * GROWTH
            self._gone_s = np.concatenate([self._gone_s, np.full(GROWTH, np.inf)])
            self._free = list(range(first + GROWTH - 1, first - 1, -1))
        slot = self._free.pop()
        self.keys[slot] = key
        self._slots[key] = slot
        self._gone_s[slot] = np.inf
        return slot

    def remove(self, key: SampleKey, now_s: float) -> None:
        """A pod is gone."""
        self._gone_s[self._slots.pop(key)] = self._epoch_s + now_s

    def record(self, now_s: float, slots: Iterable[int], values: Sequence[Sequence[float]] | Floats) -> None:
        """A scrape.

        Args:
            now_s: When.
            slots: Slots of the pods that answered.
            values: Of each of them, one figure a column.
        """
        now_s += self._epoch_s
        row = np.full((len(self.keys), len(self.columns)), np.nan)
        chosen = list(slots)
        if chosen:
            row[chosen] = values
        self._times.append(now_s)
        self._rows.append(row)
        self._block = None
        oldest = now_s - self._retention_s
        while self._times[0] < oldest:
            del self._times[0], self._rows[0]
        for slot in np.flatnonzero(self._gone_s < oldest):
            if self.keys[slot] is not None:
                self.keys[slot] = None
                self._free.append(int(slot))
                for each in self._rows:
                    if slot < len(each):
                        each[slot] = np.nan

    @property
    def size(self) -> int:
        """Slots."""
        return len(self.keys)

    def nothing(self) -> Floats:
        """An answer without a sample."""
        return np.full(self.size, np.nan)

    def instant(self, column: str, at_s: float) -> Floats:
        """The value of each pod at a time, shape (slots,); NaN: no sample."""
        return self._last(column, at_s)[1]

    def timestamps(self, column: str, at_s: float) -> Floats:
        """The time of that sample."""
        return self._last(column, at_s)[0]

    def _last(self, column: str, at_s: float) -> tuple[Floats, Floats]:
        number = self.columns.get(column)
        times, values = self._all()
        rows = np.flatnonzero((times <= at_s) & (times > at_s - LOOKBACK_S))
        if number is None or not rows.size:
            return self.nothing(), self.nothing()
        part = values[rows, :, number]
        seen = ~np.isnan(part)
        newest = rows.size - 1 - np.argmax(seen[::-1], axis=0)
        there = seen.any(axis=0) & (self._gone_s > at_s)
        slots = np.arange(self.size)
        return (
            np.where(there, times[rows][newest], np.nan),
            np.where(there, part[newest, slots], np.nan),
        )

    def greatest(self, column: str, at_s: float, window_s: float) -> Floats:
        """`max_over_time`."""
        _, part = self._range(column, at_s, window_s)
        if not part.size:
            return self.nothing()
        filled = np.where(np.isnan(part), -np.inf, part).max(axis=0)
        return np.where(np.isfinite(filled), filled, np.nan)

    def rate(self, column: str, at_s: float, window_s: float) -> Floats:
        """`rate` of counters, extrapolated to the ends of the window as Prometheus does."""
        return self._extrapolated(column, at_s, window_s, counter=True) / window_s

    def delta(self, column: str, at_s: float, window_s: float) -> Floats:
        """`delta` of gauges."""
        return self._extrapolated(column, at_s, window_s, counter=False)

    def _extrapolated(self, column: str, at_s: float, window_s: float, *, counter: bool) -> Floats:
        times, part = self._range(column, at_s, window_s)
        if not part.size:
            return self.nothing()
        seen = ~np.isnan(part)
        count = seen.sum(axis=0)
        first, last = np.argmax(seen, axis=0), len(times) - 1 - np.argmax(seen[::-1], axis=0)
        slots = np.arange(self.size)
        start, end = part[first, slots], part[last, slots]
        growth = end - start
        if counter:
            growth += _lost_at_resets(part)
        with np.errstate(invalid="ignore", divide="ignore"):
            sampled = times[last] - times[first]
            between = sampled / (count - 1)
            before, after = times[first] - (at_s - window_s), at_s - times[last]
            # An end that is farther than a gap of samples is where the series begins or ends.
            before = np.where(before >= 1.1 * between, between / 2, before)
            after = np.where(after >= 1.1 * between, between / 2, after)
            if counter:
                to_zero = sampled * start / growth
                before = np.where((growth > 0) & (start >= 0) & (to_zero < before), to_zero, before)
            result = growth * (sampled + before + after) / sampled
        return np.where(count >= 2, result, np.nan)

    def _range(self, column: str, at_s: float, window_s: float) -> tuple[Floats, Floats]:
        """Times (rows,) and values (rows, slots) of a window, open on the left."""
        number = self.columns.get(column)
        times, values = self._all()
        rows = np.flatnonzero((times > at_s - window_s) & (times <= at_s))
        if number is None or not rows.size:
            return np.empty(0), np.empty((0, 0))
        return times[rows], values[rows, :, number]

    def _all(self) -> tuple[Floats, Floats]:
        if self._block is None or self._block[1].shape[1] != self.size:
            values = np.full((len(self._rows), self.size, len(self.columns)), np.nan)
            for number, row in enumerate(self._rows):
                values[number, : len(row)] = row
            self._block = np.array(self._times), values
        return self._block


def _lost_at_resets(part: Floats) -> Floats:
    """What counters had when they started anew, in all, by slot; `part` of shape (rows, slots)."""
    rows = np.arange(len(part))[:, None]
    newest = np.maximum.accumulate(np.where(np.isnan(part), 0, rows), axis=0)
    filled = np.take_along_axis(part, newest, axis=0)
    before = filled[:-1]
    with np.errstate(invalid="ignore"):
        lost: Floats = np.where(filled[1:] < before, before, 0.0).sum(axis=0)
    return lost
