"""Rates and latencies of services on profiles, through the queueing model, in arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import inferscale_queueing as queueing
from inferscale_queueing.frozen import frozen
from inferscale_queueing.sizing import LOWEST_LOAD
from inferscale_solver.problem import TailRule
from inferscale_solver.runs import Columns, Runs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MS_PER_MINUTE = 60_000.0

KEPT = 8
"""Sizings that are kept: of a plan there are two or three."""

# Chains take about 8 bytes for every run and place in its batch.
_KEPT_MODELS = 4

_OBJECTIVES = {
    queueing.Binding.NONE: None,
    queueing.Binding.ITL: "itl",
    queueing.Binding.TTFT: "ttft",
    queueing.Binding.WAIT: "ttw",
    queueing.Binding.TPS: "tps",
}


@frozen
class Rates:
    """What one replica of each run can serve; all of shape (C,), requests/min."""

    rate: Floats
    """The largest rate within the objectives, 0 where they are unattainable."""
    max_rate: Floats
    """The largest stable rate."""
    binding: tuple[str | None, ...]
    """The objective that limits the rate, or is unattainable: itl, ttft, ttw, tps or None."""
    shortfalls: Mapping[int, str] = field(default_factory=dict)
    """Of the runs whose objectives are unattainable: which they miss at the lightest load that sizing tries,
    and by how much."""


class Figures(NamedTuple):
    """Predictions; all of shape (C,), latencies in ms, NaN where there is nothing to predict."""

    itl: Floats
    ttft: Floats
    wait: Floats
    wait_percentile: Floats
    utilization: Floats


def rates(runs: Runs, rule: TailRule) -> Rates:
    """Size one replica of every run against the objectives of its service; 0 for runs that are not active."""
    count = runs.active.size
    rate, max_rate = np.zeros(count), np.zeros(count)
    binding: list[str | None] = [None] * count
    shortfalls: dict[int, str] = {}
    for index, chosen in _by_latency_model(runs, runs.active):
        sized = _sized(chosen, rule)
        rate[index], max_rate[index] = sized.rate, sized.max_rate
        rows = index.tolist()
        for row, objective in zip(rows, sized.binding, strict=True):
            binding[row] = objective
        shortfalls |= {rows[i]: message for i, message in sized.shortfalls.items()}
    return Rates(rate, max_rate, tuple(binding), shortfalls)


def figures(runs: Runs, rate_per_replica: Floats, rule: TailRule) -> Figures:
    """Predict what every run does at a rate per replica.

    An overloaded replica has its batch full all the time: ITL at the full batch and utilization 1 are
    meaningful, its waits grow without bound and are NaN.

    Args:
        runs: C runs.
        rate_per_replica: Shape (C,), requests/min; there is nothing to predict where it is 0 or infinite.
        rule: How a percentile of the wait is computed.
    """
    found = np.full((len(Figures._fields), runs.active.size), np.nan)
    predictable = runs.active & (rate_per_replica > 0) & np.isfinite(rate_per_replica)
    for index, chosen in _by_latency_model(runs, predictable):
        found[:, index] = _figures(_kept_model(chosen, rule), rate_per_replica[index] / MS_PER_MINUTE)
    return Figures(*found)


def needed_replicas(runs: Runs, rate: Floats) -> Ints:
    """Replicas that take each service's demand at a rate per replica, at least `min_replicas`.

    Args:
        runs: C runs.
        rate: Rate of one replica, shape (C,), requests/min.

    Returns:
        Shape (C,); 0 where there is demand and no rate.
    """
    possible = (rate > 0) | (runs.demand == 0)
    needed = np.zeros(rate.size, dtype=np.int64)
    needed[possible] = queueing.replicas(runs.demand[possible], rate[possible], runs.least[possible])
    return needed


class _Chosen(NamedTuple):
    """Runs of one latency model in values that can be compared: what rates depend on beside the rule."""

    table: bytes
    max_batch: bytes
    prefill: bool


@frozen(eq=False)
class _Model:
    """Runs of one latency model, whose chains are built."""

    columns: Columns
    max_batch: Ints
    latency: queueing.LatencyModel
    rule: TailRule
    variability: queueing.Variability | None
    chains: queueing.Prepared


@lru_cache(maxsize=KEPT)
def _sized(chosen: _Chosen, rule: TailRule) -> Rates:
    """The rates of runs, kept for problems that come again: they do not depend on how much arrives."""
    model = _kept_model(chosen, rule)
    columns = model.columns
    sizing = model.chains.size(
        queueing.Targets(
            itl=columns.itl,
            ttft=columns.ttft,
            wait=columns.ttw,
            tps=columns.tps,
            percentile=columns.percentile,
            rule=rule.value,
        )
    )
    rate = np.where(sizing.attainable, sizing.rate, 0.0) * MS_PER_MINUTE
    max_rate = sizing.max_rate * MS_PER_MINUTE
    rate.flags.writeable = max_rate.flags.writeable = False
    return Rates(
        rate=rate,
        max_rate=max_rate,
        binding=tuple(_OBJECTIVES[queueing.Binding(objective)] for objective in sizing.binding.tolist()),
        shortfalls=_shortfalls(model, np.flatnonzero(rate == 0)),
    )


@lru_cache(maxsize=_KEPT_MODELS)
def _kept_model(chosen: _Chosen, rule: TailRule) -> _Model:
    """The model of runs, kept for their predictions and for problems that come again."""
    columns = Columns(*np.frombuffer(chosen.table).reshape(len(Columns._fields), -1))
    max_batch = np.frombuffer(chosen.max_batch, dtype=np.int64)
    return _model(columns, max_batch, _latency_model(columns, prefill=chosen.prefill), rule)


def _model(columns: Columns, max_batch: Ints, latency: queueing.LatencyModel, rule: TailRule) -> _Model:
    varied = _variability(columns, rule)
    chains = queueing.prepare(latency, max_batch, variability=varied)
    return _Model(columns, max_batch, latency, rule, varied, chains)


def _shortfalls(model: _Model, rows: Ints) -> dict[int, str]:
    """What the runs in some rows miss at the lightest load."""
    if not rows.size:
        return {}
    here, latency = Columns(*(column[rows] for column in model.columns)), model.latency.take(rows)
    lightest = _model(here, model.max_batch[rows], latency, model.rule)
    seen = Figures(*_figures(lightest, LOWEST_LOAD / latency.service_time(1.0)))
    wait = np.where(here.percentile > 0, seen.wait_percentile, seen.wait)
    latencies = (
        ("ITL", seen.itl, here.itl),
        ("TTFT", wait + (seen.ttft - seen.wait), here.ttft),
        ("wait", wait, here.ttw),
    )
    messages = {}
    for i, row in enumerate(rows.tolist()):
        missed = [
            f"{name} unattainable: {found[i]:.2f} ms at the lightest load, target {target[i]:.2f} ms"
            for name, found, target in latencies
            if found[i] > target[i]
        ]
        messages[row] = "; ".join(missed) or "objectives unattainable at the lightest load"
    return messages


def _figures(model: _Model, rate: Floats) -> Floats:
    """The rows of `Figures` of runs at rates in requests/ms."""
    analysis = model.chains.analyze(rate)
    stable, percentile = analysis.stable, model.columns.percentile
    tail = np.full(rate.size, np.nan)
    asked = np.flatnonzero(stable & (percentile > 0))
    if asked.size:
        tail[asked] = queueing.wait_quantile(
            model.latency.take(asked),
            model.max_batch[asked],
            rate[asked],
            percentile[asked],
            rule=model.rule.value,
            variability=None if model.variability is None else model.variability.take(asked),
        )
    return np.stack(
        Figures(
            itl=np.where(stable, analysis.itl, model.latency.itl(model.max_batch)),
            ttft=np.where(stable, analysis.ttft, np.nan),
            wait=np.where(stable, analysis.wait, np.nan),
            wait_percentile=tail,
            utilization=np.where(stable, analysis.utilization, 1.0),
        )
    )


def _by_latency_model(runs: Runs, chosen: NDArray[np.bool_]) -> Iterator[tuple[Ints, _Chosen]]:
    """The chosen runs of each latency model in turn, and their positions."""
    max_batch = runs.max_batch
    for prefill in (False, True):
        index = np.flatnonzero(chosen & (runs.prefill == prefill))
        if index.size:
            table = runs.table.take(index, axis=1)
            yield index, _Chosen(table.tobytes(), max_batch[index].tobytes(), prefill)


def _latency_model(columns: Columns, *, prefill: bool) -> queueing.LatencyModel:
    if not prefill:
        return queueing.DecodeOnly(columns.alpha, columns.beta, tokens=columns.output_tokens)
    return queueing.PrefillDecode(
        alpha=columns.alpha,
        beta=columns.beta,
        gamma=columns.gamma,
        delta=columns.delta,
        input_tokens=columns.input_tokens,
        output_tokens=columns.output_tokens,
    )


def _variability(columns: Columns, rule: TailRule) -> queueing.Variability | None:
    """The COVs of the traffic of C ≥ 1 runs; None where the rule does not know them."""
    if rule is not TailRule.EXACT:
        return None
    return queueing.Variability(columns.arrival_cov, columns.service_cov)
