"""What a Prometheus that scrapes the simulated pods holds, and its functions over it.

A pod exports one series a metric. All are scraped at the same times; a sample is a row of the store. A pod
that is gone is marked stale at once, as service discovery does; one that was not scraped is seen for five
minutes more. What a pod exports is in every scrape of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inferscale_queueing.frozen import frozen

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SampleKey = tuple[str, str]

FREE = "", ""
LOOKBACK_S = 300.0
GROWTH = 64


@frozen(eq=False)
class _Scrape:
    """What is known after a scrape."""

    latest: Floats
    """The newest sample of each series up to it, shape (slots, columns); NaN: none."""
    sampled_s: Floats
    """When each pod answered last, shape (slots,); NaN: never."""


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
        self._scrapes: list[_Scrape] = []
        self._free: list[int] = []
        self._slots: dict[SampleKey, int] = {}
        self._windows: dict[tuple[float, float], _Window] = {}
        """By end and length, since the last scrape: the queries of a tick ask for many columns of one."""

    def add(self, key: SampleKey) -> int:
        """Take in a pod; its slot."""
        if not self._free:
            first = len(self.keys)
            self.keys += [FREE] * GROWTH
            self._gone_s = np.concatenate([self._gone_s, np.full(GROWTH, np.inf)])
            more = self._nothing_yet(GROWTH)
            self._scrapes = [
                _Scrape(np.vstack([one.latest, more.latest]), np.append(one.sampled_s, more.sampled_s))
                for one in self._scrapes
            ]
            self._windows.clear()
            self._free = list(range(first + GROWTH - 1, first - 1, -1))
        slot = self._free.pop()
        self.keys[slot] = key
        self._slots[key] = slot
        self._gone_s[slot] = np.inf
        return slot

    def remove(self, key: SampleKey, now_s: float) -> None:
        """A pod is gone."""
        self._gone_s[self._slots.pop(key)] = self._epoch_s + now_s

    def record(
        self,
        now_s: float,
        slots: Sequence[int] | NDArray[np.intp],
        values: Sequence[Sequence[float]] | Floats,
    ) -> None:
        """A scrape.

        Args:
            now_s: When.
            slots: Slots of the pods that answered.
            values: Of each of them, one figure a column; NaN: it never exports that one.
        """
        now_s += self._epoch_s
        before = self._scrapes[-1] if self._scrapes else self._nothing_yet(self.size)
        scrape = _Scrape(before.latest.copy(), before.sampled_s.copy())
        if len(slots):
            scrape.latest[slots], scrape.sampled_s[slots] = values, now_s
        self._times.append(now_s)
        self._scrapes.append(scrape)
        self._windows.clear()
        oldest = now_s - self._retention_s
        while self._times[0] < oldest:
            del self._times[0], self._scrapes[0]
        for slot in np.flatnonzero(self._gone_s < oldest):
            if self.keys[slot] != FREE:
                self.keys[slot] = FREE
                self._free.append(int(slot))
                for each in self._scrapes:
                    each.latest[slot] = each.sampled_s[slot] = np.nan

    @property
    def size(self) -> int:
        """Slots."""
        return len(self.keys)

    def nothing(self) -> Floats:
        """An answer without a sample."""
        return np.full(self.size, np.nan)

    def instant(self, column: str, at_s: float) -> Floats:
        """The value of each pod at a time, shape (slots,); NaN: no sample."""
        value, _, there = self._last(column, at_s)
        return np.where(there, value, np.nan)

    def timestamps(self, column: str, at_s: float) -> Floats:
        """The time of that sample."""
        _, sampled_s, there = self._last(column, at_s)
        return np.where(there, sampled_s, np.nan)

    def greatest(self, column: str, at_s: float, window_s: float) -> Floats:
        """`max_over_time`."""
        number = self.columns.get(column)
        if number is None:
            return self.nothing()
        samples = self._window(at_s, window_s).samples[:, :, number]
        highest: Floats = np.fmax.reduce(samples, axis=0, initial=np.nan)
        return highest

    def rate(self, column: str, at_s: float, window_s: float) -> Floats:
        """`rate` of counters, extrapolated to the ends of the window as Prometheus does."""
        number = self.columns.get(column)
        if number is None:
            return self.nothing()
        return self._window(at_s, window_s).counters[:, number] / window_s

    def delta(self, column: str, at_s: float, window_s: float) -> Floats:
        """`delta` of gauges."""
        number = self.columns.get(column)
        if number is None:
            return self.nothing()
        return self._window(at_s, window_s).gauges[:, number]

    def _nothing_yet(self, size: int) -> _Scrape:
        return _Scrape(np.full((size, len(self.columns)), np.nan), np.full(size, np.nan))

    def _last(self, column: str, at_s: float) -> tuple[Floats, Floats, Bools]:
        """The newest value of each pod, its time, and whether it holds still."""
        number, row = self.columns.get(column), bisect_right(self._times, at_s)
        if number is None or not row:
            return self.nothing(), self.nothing(), np.zeros(self.size, dtype=np.bool_)
        scrape = self._scrapes[row - 1]
        value, sampled_s = scrape.latest[:, number], scrape.sampled_s
        there = (sampled_s > at_s - LOOKBACK_S) & (self._gone_s > at_s) & ~np.isnan(value)
        return value, sampled_s, there

    def _window(self, at_s: float, window_s: float) -> _Window:
        """The scrapes of a window, open on the left."""
        found = self._windows.get((at_s, window_s))
        if found is None:
            rows = slice(bisect_right(self._times, at_s - window_s), bisect_right(self._times, at_s))
            times, scrapes = np.array(self._times[rows]), self._scrapes[rows]
            shape = len(scrapes), self.size
            latest = np.array([each.latest for each in scrapes]).reshape(*shape, len(self.columns))
            sampled_s = np.array([each.sampled_s for each in scrapes]).reshape(shape)
            # What is from before the window.
            latest[~(sampled_s > at_s - window_s)] = np.nan
            growth = _extrapolated(latest, sampled_s, times, at_s, window_s)
            found = self._windows[at_s, window_s] = _Window(latest, *growth)
        return found


@frozen(eq=False)
class _Window:
    """The samples of a window."""

    samples: Floats
    """The newest of each series up to each scrape, shape (rows, slots, columns); NaN: none."""
    gauges: Floats
    """What series grew by, extrapolated to the ends of the window, shape (slots, columns); NaN: not known."""
    counters: Floats
    """The same, were all of them counters."""


def _extrapolated(
    samples: Floats, sampled_s: Floats, times: Floats, at_s: float, window_s: float
) -> tuple[Floats, Floats]:
    """What gauges and counters grew by.

    Args:
        samples: Of the window.
        sampled_s: When each pod answered last at each scrape, shape (rows, slots).
        times: Of the scrapes, shape (rows,).
        at_s: Where the window ends.
        window_s: Its length.
    """
    answered = sampled_s == times[:, None]
    count = answered.sum(axis=0)
    known = count >= 2
    if not known.any():
        nothing = np.full(samples.shape[1:], np.nan)
        return nothing, nothing
    first = np.argmax(answered, axis=0)
    start, end = samples[first, np.arange(len(first))], samples[-1]
    begin, finish = times[first], sampled_s[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        sampled = np.where(known, finish - begin, np.nan)
        between = sampled / (count - 1)
        before, after = begin - (at_s - window_s), at_s - finish
        # An end that is farther than a gap of samples is where the series begins or ends.
        before = np.where(before >= 1.1 * between, between / 2, before)
        after = np.where(after >= 1.1 * between, between / 2, after)
        # From here on by series.
        sampled, before, after = sampled[:, None], before[:, None], after[:, None]
        gauges = (end - start) * (sampled + before + after) / sampled
        growth = end - start + _lost_at_resets(samples)
        to_zero = sampled * start / growth
        before = np.where((growth > 0) & (start >= 0) & (to_zero < before), to_zero, before)
        return gauges, growth * (sampled + before + after) / sampled


def _lost_at_resets(samples: Floats) -> Floats:
    """What counters had when they started anew, in all, shape (slots, columns)."""
    earlier, later = samples[:-1], samples[1:]
    lost: Floats = np.where(later < earlier, earlier, 0.0).sum(axis=0)
    return lost
