"""The model against the simulation, over loads, batches and lengths: the table of docs/model.md."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from bench.figures import Figures, Value
from inferscale_queueing import (
    Arrivals,
    Distribution,
    Estimate,
    Lengths,
    PrefillDecode,
    Server,
    SimulationResult,
    Trace,
    Variability,
    analyze,
    draw,
    replay,
    service_cov,
    wait_quantile,
)
from inferscale_queueing.arrays import Array
from inferscale_queueing.server import PrefillMode
from inferscale_queueing.simulation import batch_quantile

# Published for Llama2-70B on eight H100: alpha, beta, gamma, delta.
PROFILE = (30.0, 0.303, 10.1, 0.091)
LENGTHS = ((0, 256), (128, 1024), (512, 128))
BATCHES = (8, 32, 128)
LOADS = (0.5, 0.7, 0.9)
REQUESTS = 2_000_000
STALL_REQUESTS = 100_000
PERCENTILE = 0.95
SEEDS = (11, 12, 13, 14)
# In a steady state the last request is not this share of the whole time in the replica.
_STEADY = 0.05
_NEARLY_EXPONENTIAL = 0.95
_TOLERANCE = 0.1

Inputs = Literal["constant", "exponential", "proportional"]
"""Input lengths of one mean: all alike, drawn by themselves, or in proportion to the output."""


@dataclass(frozen=True)
class Cell:
    """One point of the grid: mean lengths, largest batch, and load ρ = λ/μ(N)."""

    input_tokens: int
    output_tokens: int
    max_batch: int
    load: float


GRID = tuple(
    Cell(*lengths, max_batch, load) for lengths, max_batch, load in itertools.product(LENGTHS, BATCHES, LOADS)
)


_NAMES = ("in / out", "N", "ρ")


@dataclass(frozen=True)
class Comparison:
    """What the model says of a cell and what the simulation says; times in ms.

    `service_cov` is the variation of the time in service that follows from that of the token counts: a
    constant prefill in front of an exponential number of iterations makes it less than 1. The `told` waits
    are those of the model with that `serviceCOV`.
    """

    itl: float
    prefill: float
    wait: float
    wait_p95: float
    service_cov: float
    told_wait: float
    told_wait_p95: float
    simulated_itl: Estimate
    simulated_prefill: float
    simulated_wait: Estimate
    simulated_wait_p95: Estimate
    simulated_service_cov: float
    steady: bool

    @property
    def exponential(self) -> bool:
        """Whether the time in service is so nearly exponential that the model's waits can do without its COV.

        That is where the COV that follows from the lengths would move them by no more than a tenth and one
        iteration: the model's own answer, no simulation is asked.
        """
        return all(
            abs(plain - told) <= _TOLERANCE * told + self.itl
            for plain, told in ((self.wait, self.told_wait), (self.wait_p95, self.told_wait_p95))
        )

    def tolerance(self, simulated: Estimate) -> float:
        """By how much a wait may differ: a tenth and one iteration, or the simulation's 95 % interval."""
        return max(_TOLERANCE * simulated.mean + self.itl, simulated.half_width)


Compared = Sequence[tuple[Cell, Comparison]]


def compare(
    cell: Cell,
    requests: int,
    *,
    prefill: PrefillMode = "concurrent",
    seed: int = 1,
    inputs: Inputs = "constant",
) -> Comparison:
    """Analyse and simulate a cell: Poisson arrivals, exponential outputs."""
    model = PrefillDecode(*PROFILE, cell.input_tokens, cell.output_tokens)
    rate = cell.load * cell.max_batch / float(model.service_time(cell.max_batch)[0])
    expected = analyze(model, cell.max_batch, rate)
    varied = Variability(np.ones(1), _service_cov(cell, model, inputs))
    told = analyze(model, cell.max_batch, rate, variability=varied)
    result = replay(
        Server(*PROFILE, cell.max_batch, prefill=prefill), _traffic(cell, rate, requests, seed, inputs)
    )
    service_ms = result.response_ms - result.wait_ms
    return Comparison(
        itl=float(expected.itl[0]),
        prefill=float(expected.prefill[0]),
        wait=float(expected.wait[0]),
        wait_p95=float(wait_quantile(model, cell.max_batch, rate, PERCENTILE)[0]),
        service_cov=float(varied.service_cov[0]),
        told_wait=float(told.wait[0]),
        told_wait_p95=float(wait_quantile(model, cell.max_batch, rate, PERCENTILE, variability=varied)[0]),
        simulated_itl=result.itl,
        simulated_prefill=result.ttft.mean - result.wait.mean,
        simulated_wait=result.wait,
        simulated_wait_p95=batch_quantile(result.wait_ms, PERCENTILE),
        simulated_service_cov=float(service_ms.std() / service_ms.mean()),
        steady=_steady(result),
    )


def run(
    requests: int = REQUESTS, stall_requests: int = STALL_REQUESTS, seeds: Sequence[int] = SEEDS
) -> list[Figures]:
    """Compare every cell in both modes, and those whose lengths matter with several seeds."""
    compared = [(cell, compare(cell, requests)) for cell in GRID]
    return [
        _grid(compared, requests, stall_requests),
        _told(compared),
        _seeds([cell for cell, beside in compared if not beside.exponential], requests, seeds),
    ]


def _grid(compared: Compared, requests: int, stall_requests: int) -> Figures:
    rows: list[list[Value]] = []
    for cell, beside in compared:
        stalled = compare(cell, stall_requests, prefill="stall")
        rows.append(
            [
                *_names(cell),
                beside.itl,
                _error(beside.itl, beside.simulated_itl.mean),
                _error(beside.prefill, beside.simulated_prefill),
                beside.wait,
                _interval(beside.simulated_wait),
                beside.wait_p95,
                _interval(beside.simulated_wait_p95),
                _error(stalled.itl, stalled.simulated_itl.mean) if stalled.steady else "overload",
                _interval(stalled.simulated_wait) if stalled.steady else "overload",
            ]
        )
    alpha, beta, gamma, delta = PROFILE
    return Figures(
        "The model against the simulation, times in ms",
        [
            *_NAMES, "ITL", "its error", "error of prefill", "W", "W simulated",
            "P95 of W", "P95 simulated", "stall: error of ITL", "stall: W simulated",
        ],
        rows,
        f"α {alpha}, β {beta}, γ {gamma}, δ {delta}; Poisson arrivals, constant inputs, exponential "
        f"outputs; {requests:,} requests a cell, {stall_requests:,} in the stall mode; ± is a 95 % "
        "interval. Errors are those of the model.",
    )  # fmt: skip


def _told(compared: Compared) -> Figures:
    return Figures(
        "Waits of the model that is told the variation cs of the time in service, times in ms",
        [*_NAMES, "cs", "W", "W simulated", "P95 of W", "P95 simulated"],
        [
            [
                *_names(cell),
                beside.service_cov,
                beside.told_wait,
                _interval(beside.simulated_wait),
                beside.told_wait_p95,
                _interval(beside.simulated_wait_p95),
            ]
            for cell, beside in compared
            if beside.service_cov < _NEARLY_EXPONENTIAL
        ],
        f"The cells in which cs is below {_NEARLY_EXPONENTIAL}.",
    )


def _seeds(cells: Sequence[Cell], requests: int, seeds: Sequence[int]) -> Figures:
    rows: list[list[Value]] = []
    for cell, inputs in itertools.product(cells, get_args(Inputs)):
        found = [compare(cell, requests, seed=seed, inputs=inputs) for seed in seeds]
        rows.append(
            [
                *_names(cell),
                inputs,
                found[0].service_cov,
                _mean([one.simulated_service_cov for one in found]),
                found[0].wait,
                found[0].told_wait,
                _pooled([one.simulated_wait for one in found]),
                found[0].wait_p95,
                found[0].told_wait_p95,
                _pooled([one.simulated_wait_p95 for one in found]),
            ]
        )
    return Figures(
        "Cells in which the lengths are not exponential enough for the plain model, times in ms",
        [
            *_NAMES, "inputs", "cs", "cs simulated", "W", "W, told cs", "W simulated",
            "P95 of W", "P95, told cs", "P95 simulated",
        ],
        rows,
        f"{len(seeds)} runs of {requests:,} requests with seeds of their own.",
    )  # fmt: skip


def _names(cell: Cell) -> list[Value]:
    return [f"{cell.input_tokens} / {cell.output_tokens}", cell.max_batch, cell.load]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _pooled(estimates: Sequence[Estimate]) -> str:
    """The mean of independent runs."""
    half_width = float(np.linalg.norm([one.half_width for one in estimates])) / len(estimates)
    return _interval(Estimate(_mean([one.mean for one in estimates]), half_width))


def _traffic(cell: Cell, rate: float, requests: int, seed: int, inputs: Inputs) -> Trace:
    kind: Distribution = "exponential" if inputs == "exponential" else "deterministic"
    drawn = draw(
        Arrivals(rate),
        Lengths(cell.input_tokens, kind),
        Lengths(cell.output_tokens, "exponential"),
        requests,
        seed,
    )
    if inputs != "proportional":
        return drawn
    share = (drawn.output_tokens - 1) / (cell.output_tokens - 1)
    return replace(drawn, input_tokens=np.rint(cell.input_tokens * share).astype(np.int64))


def _service_cov(cell: Cell, model: PrefillDecode, inputs: Inputs) -> Array:
    if inputs == "proportional":
        # Prefill and decode are long together, so that the sum is exponential as well.
        return np.ones(1)
    # Exponential lengths of whole tokens are geometric.
    output_cov = np.sqrt(1 - 1 / cell.output_tokens)
    return service_cov(model, cell.max_batch, input_cov=float(inputs == "exponential"), output_cov=output_cov)


def _steady(result: SimulationResult) -> bool:
    return float(result.response_ms[-100:].mean()) < _STEADY * result.duration_ms


def _error(model: float, simulated: float) -> str:
    if model == simulated == 0:
        return "–"
    return f"{100 * (model / simulated - 1):+.2f} %"


def _interval(estimate: Estimate) -> str:
    digits = 0 if estimate.mean >= 100 else 1
    return f"{estimate.mean:,.{digits}f} ± {estimate.half_width:,.{digits}f}"
