"""How far the correction for variability can be trusted: the table of docs/model.md, from simulation.

Each cell of the grid simulates one replica and compares its mean wait and the 95th percentile with the
model's, without and with the correction. Requests wait for the end of the running iteration as well, which
the model does not know: cells that wait for less than two iterations are only counted, as agreeing when the
two differ by an iteration at most.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.figures import Figures, Value
from inferscale_queueing import Arrivals, DecodeOnly, Lengths, Variability, analyze, simulate, wait_quantile

LOADS = (0.5, 0.7, 0.85, 0.95)
BATCHES = (1, 4, 16, 64, 256)
ARRIVAL_COVS = (0.5, 1.0, 2.0, 4.0)
SERVICE_COVS = (0.0, 1.0, 2.0)
REQUESTS = 200_000

ALPHA, BETA, TOKENS = 20.0, 0.2, 128.0
# Light loads settle fast; a heavy one needs many relaxation times.
EFFORT = {0.5: 0.3, 0.7: 0.6, 0.85: 1.0, 0.95: 1.5}


@dataclass(frozen=True)
class Cell:
    """One simulated replica.

    Attributes:
        load: ρ = λ/μ(N).
        max_batch: N.
        arrival_cov: ca.
        service_cov: cs.
        wait: Mean wait, ms, and `half_width` of its 95 % interval.
        tail: 95th percentile of the wait, ms.
    """

    load: float
    max_batch: int
    arrival_cov: float
    service_cov: float
    wait: float
    half_width: float
    tail: float


@dataclass(frozen=True)
class Comparison:
    """A cell beside the model; ratios are model / simulation."""

    cell: Cell
    iteration: float
    wait: float
    plain: float
    corrected: float
    corrected_tail: float

    @property
    def long(self) -> bool:
        """Whether the wait is long enough to be compared in per cent."""
        return self.cell.wait > 2 * self.iteration

    @property
    def agrees(self) -> bool:
        """Whether a short wait is the model's but for one iteration."""
        return abs(self.wait - self.cell.wait) <= self.iteration


def lengths(cov: float) -> Lengths:
    """Output lengths of a coefficient of variation."""
    if cov == 0:
        return Lengths(TOKENS)
    return Lengths(TOKENS, "exponential") if cov == 1 else Lengths(TOKENS, "lognormal", cov)


def replica() -> DecodeOnly:
    """The latency of the replica, of which the simulation gets the parameters only."""
    return DecodeOnly(np.array([ALPHA]), np.array([BETA]), np.array([TOKENS]))


def rate(load: float, max_batch: int) -> float:
    """λ in requests/ms at a load of the full batch."""
    return load * max_batch / float(replica().service_time(max_batch)[0])


def measure(requests: int) -> Iterator[Cell]:
    """Simulate every cell; the same seeds give the same cells."""
    grid = itertools.product(LOADS, BATCHES, ARRIVAL_COVS, SERVICE_COVS)
    for seed, (load, max_batch, arrival_cov, service_cov) in enumerate(grid):
        run = simulate(
            ALPHA,
            BETA,
            0.0,
            0.0,
            max_batch,
            Arrivals(rate(load, max_batch), arrival_cov),
            input_tokens=Lengths(0),
            output_tokens=lengths(service_cov),
            requests=int(requests * EFFORT[load]),
            seed=seed,
            decode_only=True,
        )
        wait = run.wait
        yield Cell(
            load, max_batch, arrival_cov, service_cov, wait.mean, wait.half_width, run.wait_quantile(0.95)
        )


def compare(cell: Cell) -> Comparison:
    """Put the model beside a cell."""
    latency, arrival_rate = replica(), rate(cell.load, cell.max_batch)
    varied = Variability(np.array([cell.arrival_cov]), np.array([cell.service_cov]))
    plain = analyze(latency, cell.max_batch, arrival_rate)
    corrected = analyze(latency, cell.max_batch, arrival_rate, variability=varied)
    tail = wait_quantile(latency, cell.max_batch, arrival_rate, 0.95, variability=varied)
    wait = float(corrected.wait[0])
    return Comparison(
        cell,
        iteration=ALPHA + BETA * cell.max_batch,
        wait=wait,
        plain=float(plain.wait[0]) / cell.wait,
        corrected=wait / cell.wait,
        corrected_tail=float(tail[0]) / max(cell.tail, 1e-9),
    )


def run(requests: int = REQUESTS) -> list[Figures]:
    """Compare every cell; so many requests at a load of .85, fewer at lighter and more at heavier ones."""
    compared = [compare(cell) for cell in measure(requests)]
    long = [row for row in compared if row.long]
    below = [row for row in long if row.wait < row.cell.wait - row.cell.half_width]
    near, far = (_share(long, factor) for factor in (1.25, 1.5))
    return [
        Figures(
            "The correction for variability: model over simulation, median and range",
            [
                "ca",
                "cs",
                "W, plain / sim.",
                "W, corrected / sim.",
                "P95, corrected / sim.",
                "short waits agree",
            ],
            list(_table(compared)),
            f"Of the {len(long)} long waits {near:.0%} are met within a factor of 1.25 and {far:.0%} within "
            f"1.5; {len(below)} are below the simulation's 95 % interval.",
        )
    ]


def _share(rows: Sequence[Comparison], factor: float) -> float:
    return float(np.mean([1 / factor <= row.corrected <= factor for row in rows])) if rows else np.nan


def _table(compared: Sequence[Comparison]) -> Iterator[list[Value]]:
    for covs in itertools.product(ARRIVAL_COVS, SERVICE_COVS):
        rows = [row for row in compared if (row.cell.arrival_cov, row.cell.service_cov) == covs]
        long, short = ([row for row in rows if row.long is wanted] for wanted in (True, False))
        yield [
            *(f"{cov:g}" for cov in covs),
            _spread(long, lambda row: row.plain),
            _spread(long, lambda row: row.corrected),
            _spread(long, lambda row: row.corrected_tail),
            f"{sum(row.agrees for row in short)} of {len(short)}",
        ]


def _spread(rows: Sequence[Comparison], value: Callable[[Comparison], float]) -> str:
    """Median and range of a ratio."""
    if not rows:
        return "–"
    values = [value(row) for row in rows]
    return f"{np.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"
