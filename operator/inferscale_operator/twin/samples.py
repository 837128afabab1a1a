"""What a Prometheus that scrapes the simulated pods holds, and its functions over it.

A pod exports one series a metric. All are scraped at the same times; a sample is a row of the store. A pod
that is gone is marked stale at once, as service discovery does; one that was not scraped is seen for five
minutes more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from inferscale_queueing.frozen import frozen

Floats = NDArray[np.float64]
SampleKey = tuple[str, str]

FREE = "", ""
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
        self.keys: list[SampleKey] = []
        """Namespace and name of the pod of each slot; `FREE`: of none, and it has no sample."""
        self._retention_s = retention_s
        self._gone_s = np.empty(0)
        self._times: list[float] = []
        self._rows: list[Floats] = []
        self._free: list[int] = []
        self._slots: dict[SampleKey, int] = {}
        self._block: _Block | None = None

    def add(self, key: SampleKey) -> int:
        """Take in a pod; its slot."""
        if not self._free:
            first = len(self.keys)
            self.keys += [FREE] * GROWTH
            self._gone_s = np.concatenate([self._gone_s, np.full(GROWTH, np.inf)])
            more = np.full((GROWTH, len(self.columns)), np.nan)
            self._rows = [np.vstack([row, more]) for row in self._rows]
            self._block = None
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
            if self.keys[slot] != FREE:
                self.keys[slot] = FREE
                self._free.append(int(slot))
                for each in self._rows:
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
        number, block = self.columns.get(column), self._all()
        rows = block.rows(at_s, LOOKBACK_S)
        times = block.times[rows]
        if number is None or not times.size:
            return self.nothing(), self.nothing()
        part = block.values[rows, :, number]
        newest = len(times) - 1 - np.argmax(~np.isnan(part[::-1]), axis=0)
        value = part[newest, np.arange(self.size)]
        there = ~np.isnan(value) & (self._gone_s > at_s)
        return np.where(there, times[newest], np.nan), np.where(there, value, np.nan)

    def greatest(self, column: str, at_s: float, window_s: float) -> Floats:
        """`max_over_time`."""
        number, block = self.columns.get(column), self._all()
        if number is None:
            return self.nothing()
        part = block.values[block.rows(at_s, window_s), :, number]
        highest: Floats = np.fmax.reduce(part, axis=0, initial=np.nan)
        return highest

    def rate(self, column: str, at_s: float, window_s: float) -> Floats:
        """`rate` of counters, extrapolated to the ends of the window as Prometheus does."""
        number = self.columns.get(column)
        if number is None:
            return self.nothing()
        return self._all().growth(at_s, window_s).counters[:, number] / window_s

    def delta(self, column: str, at_s: float, window_s: float) -> Floats:
        """`delta` of gauges."""
        number = self.columns.get(column)
        if number is None:
            return self.nothing()
        return self._all().growth(at_s, window_s).gauges[:, number]

    def _all(self) -> _Block:
        if self._block is None:
            values = np.array(self._rows).reshape(len(self._rows), self.size, len(self.columns))
            self._block = _Block(np.array(self._times), values)
        return self._block


@frozen(eq=False)
class _Growth:
    """What series grew by in a window, extrapolated to its ends; NaN: not known. Shape (slots, columns)."""

    gauges: Floats
    counters: Floats
    """The same, were all of them counters."""


@frozen(eq=False)
class _Block:
    """All samples that are kept."""

    times: Floats
    """Shape (rows,)."""
    values: Floats
    """Shape (rows, slots, columns)."""
    _growths: dict[tuple[float, float], _Growth] = field(default_factory=dict)
    """By time and window: the queries of a tick ask for many columns of one."""

    def rows(self, at_s: float, window_s: float) -> slice:
        """Those of a window, open on the left."""
        return slice(*np.searchsorted(self.times, (at_s - window_s, at_s), side="right"))

    def growth(self, at_s: float, window_s: float) -> _Growth:
        """Of all series."""
        if (at_s, window_s) not in self._growths:
            rows = self.rows(at_s, window_s)
            found = _extrapolated(self.times[rows], self.values[rows], at_s, window_s)
            self._growths[at_s, window_s] = found
        return self._growths[at_s, window_s]


def _extrapolated(times: Floats, values: Floats, at_s: float, window_s: float) -> _Growth:
    """What series grew by.

    Args:
        times: Of the samples in the window, shape (rows,).
        values: NaN: no sample. Shape (rows, slots, columns).
        at_s: Where the window ends.
        window_s: Its length.
    """
    seen = ~np.isnan(values)
    count = seen.sum(axis=0)
    known = count >= 2
    if not known.any():
        nothing = np.full(known.shape, np.nan)
        return _Growth(nothing, nothing)
    first, last = np.argmax(seen, axis=0), len(times) - 1 - np.argmax(seen[::-1], axis=0)
    start, end = (np.take_along_axis(values, row[None], axis=0)[0] for row in (first, last))
    begin, finish = times[first], times[last]
    with np.errstate(invalid="ignore", divide="ignore"):
        sampled = finish - begin
        between = sampled / (count - 1)
        before, after = begin - (at_s - window_s), at_s - finish
        # An end that is farther than a gap of samples is where the series begins or ends.
        before = np.where(before >= 1.1 * between, between / 2, before)
        after = np.where(after >= 1.1 * between, between / 2, after)
        gauges = (end - start) * (sampled + before + after) / sampled
        growth = end - start + _lost_at_resets(values, seen)
        to_zero = sampled * start / growth
        before = np.where((growth > 0) & (start >= 0) & (to_zero < before), to_zero, before)
        counters = growth * (sampled + before + after) / sampled
    return _Growth(np.where(known, gauges, np.nan), np.where(known, counters, np.nan))


def _lost_at_resets(values: Floats, seen: NDArray[np.bool_]) -> Floats:
    """What counters had when they started anew, in all, shape (slots, columns)."""
    lost = np.zeros(values.shape[1:])
    # Few do, and between the samples of a gap at most.
    fell = (values[1:] < values[:-1]).any(axis=0) | (seen.any(axis=0) & ~seen.all(axis=0))
    part = values[:, fell]
    rows = np.arange(len(part))[:, None]
    newest = np.maximum.accumulate(np.where(np.isnan(part), 0, rows), axis=0)
    filled = np.take_along_axis(part, newest, axis=0)
    lost[fell] = np.where(filled[1:] < filled[:-1], filled[:-1], 0.0).sum(axis=0)
    return lost
