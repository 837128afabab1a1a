"""How far the correction for variability can be trusted: the table of docs/model.md, from simulation.

Each cell of the grid simulates one replica and compares its mean wait and the 95th percentile with the
model's, without and with the correction. Requests wait for the end of the running iteration as well, which
the model does not know: cells that wait for less than two iterations are only counted, as agreeing when the
two differ by an iteration at most.

    python hack/bench/variability.py [--requests 200000] [--save cells.jsonl] [--load cells.jsonl]
"""

import argparse
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from inferscale_queueing import Arrivals, DecodeOnly, Lengths, Variability, analyze, simulate, wait_quantile

LOADS = (0.5, 0.7, 0.85, 0.95)
BATCHES = (1, 4, 16, 64, 256)
ARRIVAL_COVS = (0.5, 1.0, 2.0, 4.0)
SERVICE_COVS = (0.0, 1.0, 2.0)

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


def table(compared: Iterable[Comparison]) -> Iterator[str]:
    """The table of the documentation: a row for every pair of COVs, over all loads and batches."""
    yield "| ca | cs | W, plain / sim. | W, corrected / sim. | P95, corrected / sim. | short waits agree |"
    yield "|---|---|---|---|---|---|"
    ordered = sorted(compared, key=lambda c: (c.cell.arrival_cov, c.cell.service_cov))
    for (arrival_cov, service_cov), group in itertools.groupby(
        ordered, key=lambda c: (c.cell.arrival_cov, c.cell.service_cov)
    ):
        rows = list(group)
        long = [row for row in rows if row.long]
        short = [row for row in rows if not row.long]
        columns = [
            spread(long, lambda row: row.plain),
            spread(long, lambda row: row.corrected),
            spread(long, lambda row: row.corrected_tail),
            f"{sum(row.agrees for row in short)} of {len(short)}",
        ]
        yield f"| {arrival_cov:g} | {service_cov:g} | {' | '.join(columns)} |"


def spread(rows: list[Comparison], value: Callable[[Comparison], float]) -> str:
    """Median and range of a ratio."""
    if not rows:
        return "–"
    values = [value(row) for row in rows]
    return f"{np.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def main() -> None:
    """Simulate or load the cells, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000, help="requests of a cell at a load of .85")
    parser.add_argument("--save", type=Path, help="keep the simulated cells, one JSON object a line")
    parser.add_argument("--load", type=Path, help="take the cells from such a file instead of simulating")
    options = parser.parse_args()
    if options.load:
        cells = [Cell(**json.loads(line)) for line in options.load.read_text().splitlines()]
    else:
        cells = list(measure(options.requests))
    if options.save:
        options.save.write_text("".join(json.dumps(asdict(cell)) + "\n" for cell in cells))
    compared = [compare(cell) for cell in cells]
    print("\n".join(table(compared)))
    long = [row for row in compared if row.long]
    below = [row for row in long if row.wait < row.cell.wait - row.cell.half_width]
    print(f"Optimistic by more than the simulation's 95 % interval: {len(below)} of {len(long)} long waits.")


if __name__ == "__main__":
    main()
