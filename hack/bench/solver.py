"""How fast and how good the solver is, on generated problems of 10 to 10,000 services."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Sequence

from bench.figures import Figures
from bench.instances import generated
from inferscale_solver import Solver, candidates, solve

SIZES = (10, 30, 100, 300, 999, 3_000, 10_000)
CAPACITIES = (0.35, 0.7, 1.0)
_COLUMNS = (
    "services",
    "capacity",
    "sizing s",
    "solve s",
    "solve CPU s",
    "plan",
    "unserved",
    "bound",
    "gap %",
    "peak MB",
)


def run(sizes: Sequence[int] = SIZES) -> list[Figures]:
    """Time sizing and solving apart, and show how far plans are from their bounds."""
    rows = [_measure(services, capacity, 0, Solver.AUTO) for services in sizes for capacity in CAPACITIES]
    note = "Capacity as a share of what the seed case has for each service; counts by priority from 1 on."
    return [Figures("Solver, limited accelerators, Auto", _COLUMNS, rows, note)]


def _measure(services: int, capacity: float, seed: int, solver: Solver) -> tuple[str, ...]:
    problem = generated(services, capacity, seed, solver)
    begin = time.perf_counter()
    candidates(problem)
    sized, spent = time.perf_counter(), time.process_time()
    result = solve(problem)
    done, finished = time.perf_counter(), time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return (
        f"{services}",
        f"{capacity}",
        f"{sized - begin:.2f}",
        # It finds the sizing kept.
        f"{done - sized:.2f}",
        f"{finished - spent:.2f}",
        result.solver,
        _counts(result.unserved_by_priority.values()),
        _counts(result.unserved_bound.values()),
        "" if result.gap is None else f"{100 * result.gap:.3f}",
        f"{peak}",
    )


def _counts(counts: Iterable[int]) -> str:
    return " ".join(map(str, counts))
