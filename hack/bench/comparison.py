"""The model against the simulation, over loads, batches and lengths: the table of docs/model.md."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from bench.figures import Figures, Value
from inferscale_queueing import (
    Arrivals,
    Estimate,
    Lengths,
    PrefillDecode,
    SimulationResult,
    Variability,
    analyze,
    simulate,
    wait_quantile,
)
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
# In a steady state the last request is not this share of the whole time in the replica.
_STEADY = 0.05
_NEARLY_EXPONENTIAL = 0.95


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


@dataclass(frozen=True)
class Comparison:
    """What the model says of a cell and what the simulation says; times in ms.

    `service_cov` is the coefficient of variation of the time in service: a constant prefill in front of an
    exponential number of iterations makes it less than 1. The `told` waits are those of a model that knows.
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
    steady: bool


def compare(cell: Cell, requests: int, *, prefill: PrefillMode = "concurrent", seed: int = 1) -> Comparison:
    """Analyse and simulate a cell: Poisson arrivals, constant inputs, exponential outputs."""
    model = PrefillDecode(*PROFILE, cell.input_tokens, cell.output_tokens)
    rate = cell.load * cell.max_batch / float(model.service_time(cell.max_batch)[0])
    expected = analyze(model, cell.max_batch, rate)
    cov = (
        (cell.output_tokens - 1) * float(expected.itl[0]) / float(model.service_time(expected.concurrency)[0])
    )
    varied = Variability(np.array([1.0]), np.array([cov]))
    told = analyze(model, cell.max_batch, rate, variability=varied)
    result = simulate(
        *PROFILE,
        cell.max_batch,
        Arrivals(rate),
        input_tokens=Lengths(cell.input_tokens),
        output_tokens=Lengths(cell.output_tokens, "exponential"),
        requests=requests,
        seed=seed,
        prefill=prefill,
    )
    return Comparison(
        itl=float(expected.itl[0]),
        prefill=float(expected.prefill[0]),
        wait=float(expected.wait[0]),
        wait_p95=float(wait_quantile(model, cell.max_batch, rate, PERCENTILE)[0]),
        service_cov=cov,
        told_wait=float(told.wait[0]),
        told_wait_p95=float(wait_quantile(model, cell.max_batch, rate, PERCENTILE, variability=varied)[0]),
        simulated_itl=result.itl,
        simulated_prefill=result.ttft.mean - result.wait.mean,
        simulated_wait=result.wait,
        simulated_wait_p95=batch_quantile(result.wait_ms, PERCENTILE),
        steady=_steady(result),
    )


def run(requests: int = REQUESTS, stall_requests: int = STALL_REQUESTS) -> list[Figures]:
    """Compare every cell in both modes."""
    rows: list[list[Value]] = []
    told: list[list[Value]] = []
    for cell in GRID:
        beside = compare(cell, requests)
        stalled = compare(cell, stall_requests, prefill="stall")
        rows.append(
            [
                f"{cell.input_tokens} / {cell.output_tokens}",
                cell.max_batch,
                cell.load,
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
        if beside.service_cov < _NEARLY_EXPONENTIAL:
            told.append(
                [
                    f"{cell.input_tokens} / {cell.output_tokens}",
                    cell.max_batch,
                    cell.load,
                    beside.service_cov,
                    beside.told_wait,
                    _interval(beside.simulated_wait),
                    beside.told_wait_p95,
                    _interval(beside.simulated_wait_p95),
                ]
            )
    alpha, beta, gamma, delta = PROFILE
    return [
        Figures(
            "The model against the simulation, times in ms",
            [
                "in / out", "N", "ρ", "ITL", "its error", "error of prefill", "W", "W simulated",
                "P95 of W", "P95 simulated", "stall: error of ITL", "stall: W simulated",
            ],
            rows,
            f"α {alpha}, β {beta}, γ {gamma}, δ {delta}; Poisson arrivals, constant inputs, exponential "
            f"outputs; {requests:,} requests a cell, {stall_requests:,} in the stall mode; ± is a 95 % "
            "interval. Errors are those of the model.",
        ),
        Figures(
            "Waits of the model that is told the variation cs of the time in service, times in ms",
            ["in / out", "N", "ρ", "cs", "W", "W simulated", "P95 of W", "P95 simulated"],
            told,
            f"The cells in which cs is below {_NEARLY_EXPONENTIAL}.",
        ),
    ]  # fmt: skip


def _steady(result: SimulationResult) -> bool:
    return float(result.response_ms[-100:].mean()) < _STEADY * result.duration_ms


def _error(model: float, simulated: float) -> str:
    if model == simulated == 0:
        return "–"
    return f"{100 * (model / simulated - 1):+.2f} %"


def _interval(estimate: Estimate) -> str:
    digits = 0 if estimate.mean >= 100 else 1
    return f"{estimate.mean:,.{digits}f} ± {estimate.half_width:,.{digits}f}"
