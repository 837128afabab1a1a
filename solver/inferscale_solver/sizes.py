"""Sizing, kept for problems that come again: the rates do not depend on how much arrives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

import inferscale_queueing as queueing

KEPT = 8
"""Sizings that are kept: of a plan there are two or three."""


@dataclass(frozen=True, eq=False)
class _Question:
    """The arguments of `queueing.size`, equal where every figure of them is."""

    latency: queueing.LatencyModel
    max_batch: np.ndarray[tuple[int], np.dtype[np.int64]]
    targets: queueing.Targets
    variability: queueing.Variability | None
    key: tuple[object, ...]

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Question) and self.key == other.key


def size(
    latency: queueing.LatencyModel,
    max_batch: np.ndarray[tuple[int], np.dtype[np.int64]],
    targets: queueing.Targets,
    variability: queueing.Variability | None,
) -> queueing.Sizing:
    """What `queueing.size` says; asked the same again, what it said, in arrays that are read only."""
    key = (type(latency), max_batch.tobytes(), *_figures(latency), *_figures(targets), *_figures(variability))
    return _size(_Question(latency, max_batch, targets, variability, key))


@lru_cache(maxsize=KEPT)
def _size(question: _Question) -> queueing.Sizing:
    found = queueing.size(
        question.latency, question.max_batch, question.targets, variability=question.variability
    )
    for array in (found.rate, found.attainable, found.max_rate, found.binding):
        array.flags.writeable = False
    return found


def _figures(described: object) -> tuple[object, ...]:
    values = vars(described).values() if described is not None else (None,)
    return tuple(value.tobytes() if isinstance(value, np.ndarray) else value for value in values)
