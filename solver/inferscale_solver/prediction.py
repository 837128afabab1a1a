"""Rates and latencies of services on profiles, through the queueing model, in arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

import inferscale_queueing as queueing
from inferscale_queueing.sizing import LOWEST_LOAD
from inferscale_solver.problem import Performance, Service, TailRule
from inferscale_solver.sizes import size

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MS_PER_MINUTE = 60_000.0

_OBJECTIVES = {
    queueing.Binding.NONE: None,
    queueing.Binding.ITL: "itl",
    queueing.Binding.TTFT: "ttft",
    queueing.Binding.WAIT: "ttw",
    queueing.Binding.TPS: "tps",
}


@dataclass(frozen=True)
class Run:
    """A service's model on one profile."""

    service: Service
    performance: Performance
    max_batch: int
    """The batch that can be reached: never more than memory holds."""

    @cached_property
    def active(self) -> bool:
        """Whether there is a queue to analyse: any demand, and requests that take time."""
        return self.service.demand > 0 and takes_time(self.service, self.performance)


@dataclass(frozen=True)
class Rates:
    """What one replica of each run can serve; all of shape (C,), requests/min."""

    rate: Floats
    """The largest rate within the objectives, 0 where they are unattainable."""
    max_rate: Floats
    """The largest stable rate."""
    binding: tuple[str | None, ...]
    """The objective that limits the rate, or is unattainable: itl, ttft, ttw, tps or None."""


@dataclass(frozen=True)
class Figures:
    """Predictions; all of shape (C,), latencies in ms, NaN where there is nothing to predict."""

    itl: Floats
    ttft: Floats
    wait: Floats
    wait_percentile: Floats
    utilization: Floats

    @cached_property
    def stated(self) -> Mapping[str, Sequence[float | None]]:
        """The same by name, None instead of NaN and infinity: faster to read one by one."""
        return {
            field.name: [
                value if math.isfinite(value) else None for value in getattr(self, field.name).tolist()
            ]
            for field in fields(self)
        }


def batch_limits(pairs: Sequence[tuple[Service, Performance]]) -> Ints:
    """Largest batches that memory holds at the present token lengths, shape (C,)."""
    if not pairs:
        return np.zeros(0, dtype=np.int64)
    limits = queueing.max_batch_size(
        np.array([performance.max_batch_size for _, performance in pairs], dtype=np.float64),
        np.array([performance.at_tokens for _, performance in pairs], dtype=np.float64),
        np.array([service.load.output_tokens for service, _ in pairs], dtype=np.float64),
    )
    return np.asarray(limits, dtype=np.int64)


def rates(runs: Sequence[Run], rule: TailRule) -> Rates:
    """Size one replica of every run against the objectives of its service; 0 for runs that are not active."""
    rate, max_rate = np.zeros(len(runs)), np.zeros(len(runs))
    binding: list[str | None] = [None] * len(runs)
    for index, latency, batch in _by_latency_model(runs, [run.active for run in runs]):
        here = [runs[i] for i in index]
        sizing = size(latency, batch, _targets(here, rule), _variability(here, rule))
        rate[index] = np.where(sizing.attainable, sizing.rate, 0.0) * MS_PER_MINUTE
        max_rate[index] = sizing.max_rate * MS_PER_MINUTE
        for i, objective in zip(index, sizing.binding, strict=True):
            binding[i] = _OBJECTIVES[queueing.Binding(objective)]
    return Rates(rate=rate, max_rate=max_rate, binding=tuple(binding))


def figures(runs: Sequence[Run], rate_per_replica: Floats, rule: TailRule) -> Figures:
    """Predict what every run does at a rate per replica.

    An overloaded replica has its batch full all the time: ITL at the full batch and utilization 1 are
    meaningful, its waits grow without bound and are NaN.

    Args:
        runs: C runs.
        rate_per_replica: Shape (C,), requests/min; there is nothing to predict where it is 0 or infinite.
        rule: How a percentile of the wait is computed.
    """
    itl, ttft, wait, tail, utilization = (np.full(len(runs), np.nan) for _ in range(5))
    predictable = (rate_per_replica > 0) & np.isfinite(rate_per_replica)
    for index, latency, batch in _by_latency_model(
        runs, [run.active and bool(predictable[i]) for i, run in enumerate(runs)]
    ):
        rate = rate_per_replica[index] / MS_PER_MINUTE
        varied = _variability([runs[i] for i in index], rule)
        analysis = queueing.analyze(latency, batch, rate, variability=varied)
        stable = analysis.stable
        itl[index] = np.where(stable, analysis.itl, latency.itl(batch))
        utilization[index] = np.where(stable, analysis.utilization, 1.0)
        ttft[index] = np.where(stable, analysis.ttft, np.nan)
        wait[index] = np.where(stable, analysis.wait, np.nan)
        percentile = np.array([runs[i].service.targets.percentile or np.nan for i in index])
        asked = np.flatnonzero(stable & ~np.isnan(percentile))
        if asked.size:
            tail[index[asked]] = queueing.wait_quantile(
                latency.take(asked),
                batch[asked],
                rate[asked],
                percentile[asked],
                rule=rule.value,
                variability=None if varied is None else varied.take(asked),
            )
    return Figures(itl=itl, ttft=ttft, wait=wait, wait_percentile=tail, utilization=utilization)


def shortfalls(runs: Sequence[Run], rule: TailRule) -> list[str]:
    """Say for each run which objectives it misses at the lightest load that sizing tries, and by how much."""
    lightest = np.zeros(len(runs))
    for index, latency, _ in _by_latency_model(runs, [run.active for run in runs]):
        lightest[index] = LOWEST_LOAD * MS_PER_MINUTE / latency.service_time(1.0)
    seen = figures(runs, lightest, rule)
    messages = []
    for i, run in enumerate(runs):
        targets = run.service.targets
        wait = float(seen.wait[i] if targets.percentile is None else seen.wait_percentile[i])
        prefill = float(seen.ttft[i] - seen.wait[i])
        latencies = (
            ("ITL", float(seen.itl[i]), targets.itl),
            ("TTFT", wait + prefill, targets.ttft),
            ("wait", wait, targets.ttw),
        )
        missed = [
            f"{name} unattainable: {latency:.2f} ms at the lightest load, target {target:.2f} ms"
            for name, latency, target in latencies
            if target is not None and latency > target
        ]
        messages.append("; ".join(missed) or "objectives unattainable at the lightest load")
    return messages


def needed_replicas(services: Sequence[Service], rate: Floats) -> Ints:
    """Replicas that take each service's demand at a rate per replica, at least `min_replicas`.

    Args:
        services: C services.
        rate: Rate of one replica, shape (C,), requests/min.

    Returns:
        Shape (C,); 0 where there is demand and no rate.
    """
    demands = np.array([service.demand for service in services], dtype=np.float64)
    least = np.array([service.min_replicas for service in services], dtype=np.int64)
    possible = (rate > 0) | (demands == 0)
    needed = np.zeros(len(services), dtype=np.int64)
    needed[possible] = queueing.replicas(demands[possible], rate[possible], least[possible])
    return needed


def takes_time(service: Service, performance: Performance) -> bool:
    """Whether the latency model gives a request any service time; without it there is no queue to analyse."""
    load = service.load
    decodes = not load.prefill or load.output_tokens > 1
    prefills = load.prefill and load.input_tokens > 0 and performance.gamma + performance.delta > 0
    return decodes or prefills


def _by_latency_model(
    runs: Sequence[Run], chosen: Sequence[bool]
) -> Iterator[tuple[Ints, queueing.LatencyModel, Ints]]:
    """The chosen runs of each latency model in turn: their indices, the model of them all, their batches."""
    for prefill in (False, True):
        index = [i for i, run in enumerate(runs) if chosen[i] and run.service.load.prefill is prefill]
        if index:
            here = [runs[i] for i in index]
            batch = np.array([run.max_batch for run in here], dtype=np.int64)
            yield np.array(index, dtype=np.int64), _latency_model(here, prefill=prefill), batch


def _latency_model(runs: Sequence[Run], *, prefill: bool) -> queueing.LatencyModel:
    alpha = np.array([run.performance.alpha for run in runs])
    beta = np.array([run.performance.beta for run in runs])
    output_tokens = np.array([run.service.load.output_tokens for run in runs])
    if not prefill:
        return queueing.DecodeOnly(alpha=alpha, beta=beta, tokens=output_tokens)
    return queueing.PrefillDecode(
        alpha=alpha,
        beta=beta,
        gamma=np.array([run.performance.gamma for run in runs]),
        delta=np.array([run.performance.delta for run in runs]),
        input_tokens=np.array([run.service.load.input_tokens for run in runs]),
        output_tokens=output_tokens,
    )


def _variability(runs: Sequence[Run], rule: TailRule) -> queueing.Variability | None:
    """The COVs of the traffic of C ≥ 1 runs; None where the rule does not know them."""
    if rule is not TailRule.EXACT:
        return None
    loads = [run.service.load for run in runs]
    return queueing.Variability(
        np.array([load.arrival_cov for load in loads]), np.array([load.service_cov for load in loads])
    )


def _targets(runs: Sequence[Run], rule: TailRule) -> queueing.Targets:
    targets = [run.service.targets for run in runs]
    return queueing.Targets(
        itl=np.array([np.inf if t.itl is None else t.itl for t in targets]),
        ttft=np.array([np.inf if t.ttft is None else t.ttft for t in targets]),
        wait=np.array([np.inf if t.ttw is None else t.ttw for t in targets]),
        tps=np.array([t.tps or 0.0 for t in targets]),
        percentile=np.array([t.percentile or 0.0 for t in targets]),
        rule=rule.value,
    )
