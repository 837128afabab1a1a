"""Diving: decide the largest of the services that the relaxation splits, and relax again.

What is split at the end is small, so that a small program can make it whole.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from inferscale_queueing.frozen import frozen
from inferscale_solver.formulation import Formulation, Goal, Level
from inferscale_solver.prediction import Floats
from inferscale_solver.program import Clock, Relaxation, Solution

# Services that are decided: as many as the size of the relaxation allows.
_WORK = 400_000
# Options of a service that are tried, and services that may be left out at the last priority meanwhile.
_OPTIONS, _LEFT_OUT = 3, 3
# Services are small that take less than this many times what services take in the mean.
_SMALL = 1.5
_TOLERANCE = 1e-6


@frozen
class Dive:
    """Where a dive ends."""

    relaxed: Solution
    """The relaxation with the services decided."""
    fixed: dict[int, int | None]
    """Services that are decided: the column that they take, or None."""


def dive(
    written: Formulation, relaxation: Relaxation, value: Level, clock: Clock, relaxed: Solution, rounds: int
) -> Dive | None:
    """Decide services one after the other, each as costs the relaxation least.

    Args:
        written: The program.
        relaxation: Its relaxation with all levels limited; where nothing else goes, the limit of the last
            priority is loosened. The services that are decided stay so in it until `release`.
        value: The last level.
        clock: When to stop.
        relaxed: Its solution.
        rounds: Services that are decided at most.

    Returns:
        Where it ends; None, and nothing decided, where a service can be decided in no way.
    """
    choices = len(written.rows)
    share = _shares(written)
    taken = share[relaxed.x[:choices] > 0.5]
    small = _SMALL * float(taken.mean()) if taken.size else 0.0
    last = max(level.row for level in written.levels if level.goal is Goal.UNSERVED)
    fixed: dict[int, int | None] = {}
    left_out = 0
    for _ in range(min(rounds, _WORK // choices)):
        x = relaxed.x[:choices]
        split = np.flatnonzero((x > _TOLERANCE) & (x < 1 - _TOLERANCE))
        if not split.size or share[split].max() < small:
            break
        service = int(written.services[split[np.argmax(share[split])]])
        columns = written.columns_of(service)
        options: list[tuple[float, int | None]] = [(-x[j], j) for j in columns if x[j] > _TOLERANCE]
        if (without := 1 - float(x[columns.start : columns.stop].sum())) > _TOLERANCE:
            options.append((-without, None))
        best: tuple[Solution, int | None] | None = None
        for _, option in sorted(options, key=lambda each: each[0])[:_OPTIONS]:
            relaxation.fix(columns, option)
            tried = relaxation.solve(value.cost, clock.left())
            if tried is not None and (best is None or tried.objective < best[0].objective - _TOLERANCE):
                best = tried, option
        if best is None:
            relaxation.release(columns)
            left_out += 1
            if left_out > _LEFT_OUT:
                release(written, relaxation, fixed)
                return None
            relaxation.limit(last, float(relaxation.program.row_upper[last]) + 1)
            again = relaxation.solve(value.cost, clock.left())
        else:
            relaxation.fix(columns, best[1])
            fixed[service] = best[1]
            again = relaxation.solve(value.cost, clock.left())
        if again is None:
            release(written, relaxation, fixed)
            return None
        relaxed = again
    return Dive(relaxed, fixed)


def release(written: Formulation, relaxation: Relaxation, fixed: Mapping[int, int | None]) -> None:
    """Let the services go that were decided."""
    for service in fixed:
        relaxation.release(written.columns_of(service))


def _shares(written: Formulation) -> Floats:
    """The largest share of any limit that each candidate takes, shape (candidates,)."""
    matrix, limits = written.program.matrix, written.program.row_upper[: written.limits]
    shared = matrix.index < written.limits
    amounts = np.zeros(len(matrix.index))
    amounts[shared] = np.abs(matrix.values[shared]) / np.maximum(limits[matrix.index[shared]], 1.0)
    shares = np.zeros(matrix.columns)
    np.maximum.at(shares, np.repeat(np.arange(matrix.columns), np.diff(matrix.starts)), amounts)
    return shares[: len(written.rows)]
