"""What was done when, and why: for the report."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_queueing.frozen import frozen


@frozen
class Decision:
    """What a policy did about a service at one time."""

    at_s: float
    service: str
    summary: str = ""
    """What was patched; empty: nothing."""
    reason: str = ""
    message: str = ""
    events: tuple[str, ...] = ()
    allocation: InferenceAllocationStatus | None = None
    decided: bool = True
    """Whether it was a tick, and not a move taken further."""
    moved: bool = False
    """Whether a move began."""


@frozen
class Allocated:
    """What was asked for from a time on."""

    at_s: float
    replicas: int
    accelerator: str
    """Name of the profile."""
    max_batch: int
    """Requests that a replica runs at once, at the mean length of the answers at that time."""

    @property
    def what(self) -> tuple[int, str]:
        """What was asked for, without its time and what follows from the length of answers."""
        return self.replicas, self.accelerator


@frozen
class Prediction:
    """What was predicted for what a service had."""

    at_s: float
    itl: float | None
    ttft: float | None


@dataclass
class Predictions:
    """Predictions of a service in order of time, kept as numbers: in a week there are thousands."""

    _at_s: array[float] = field(default_factory=lambda: array("d"))
    _latencies: array[float] = field(default_factory=lambda: array("d"))

    def add(self, at_s: float, itl: float | None, ttft: float | None) -> None:
        """Remember one."""
        self._at_s.append(at_s)
        self._latencies.append(math.nan if itl is None else itl)
        self._latencies.append(math.nan if ttft is None else ttft)

    def __iter__(self) -> Iterator[Prediction]:
        latencies = [None if math.isnan(value) else value for value in self._latencies]
        for at_s, itl, ttft in zip(self._at_s, latencies[::2], latencies[1::2], strict=True):
            yield Prediction(at_s, itl, ttft)


@dataclass
class History:
    """What was done, by service; ticks at which nothing changed are left out."""

    decisions: dict[str, list[Decision]] = field(default_factory=dict)
    predictions: dict[str, Predictions] = field(default_factory=dict)
    moves: dict[str, int] = field(default_factory=dict)

    def add(self, decision: Decision) -> None:
        """Remember a decision if it changes something or says something new."""
        found = self.decisions.setdefault(decision.service, [])
        if decision.moved:
            self.moves[decision.service] = self.moves.get(decision.service, 0) + 1
        entries = decision.allocation.allocations if decision.allocation is not None else ()
        if decision.decided and entries:
            if decision.service not in self.predictions:
                self.predictions[decision.service] = Predictions()
            made = self.predictions[decision.service]
            made.add(decision.at_s, entries[0].predicted_itl, entries[0].predicted_ttft)
        if decision.summary or decision.events or not found or found[-1].reason != decision.reason:
            found.append(decision)
