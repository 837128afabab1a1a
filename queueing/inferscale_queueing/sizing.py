"""Sizing: the largest rate a replica takes within its targets, and the replicas a rate needs."""

import math
from collections.abc import Iterable
from dataclasses import field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from inferscale_queueing.analysis import Analysis, Part, align, evaluate, parts
from inferscale_queueing.arrays import (
    Array,
    BoolArray,
    IntArray,
    candidate_count,
    float_candidates,
    spread,
    taken,
)
from inferscale_queueing.bracket import Bracket, narrow
from inferscale_queueing.chain import UNBOUNDED, Chain
from inferscale_queueing.frozen import frozen
from inferscale_queueing.latency import LatencyModel
from inferscale_queueing.variability import Variability, aligned
from inferscale_queueing.waiting import Rule, mean_multiple, percentiles, tail_probability

LOWEST_LOAD = 0.001
"""The search starts at this share of μ(1)."""

HIGHEST_LOAD = 0.999
"""The largest rate a replica is ever given, as a share of μ(N)."""

THROUGHPUT_LOAD = 0.9
"""What a throughput target leaves of the largest rate."""

_MS_PER_SECOND = 1000.0
# A requirement that is met exactly, but for rounding, needs no replica more.
_ROUNDING = 1e-9
# Up to here floats tell whole numbers apart.
_WHOLE = 2.0**53


class Binding(IntEnum):
    """The target that keeps the rate from being larger, or that cannot be attained at any rate."""

    NONE = 0
    ITL = 1
    TTFT = 2
    WAIT = 3
    TPS = 4


def _none() -> Array:
    return np.array([np.inf])


def _zero() -> Array:
    return np.zeros(1)


@frozen(eq=False)
class Targets:
    """What a service promises; every attribute has shape (C,), or is one number for all candidates.

    Attributes:
        itl: largest mean inter-token latency in ms, > 0; infinite for no target.
        ttft: largest time to first token in ms, > 0, at `percentile`; infinite for no target.
        wait: largest wait in ms, > 0, at `percentile`; infinite for no target.
        tps: tokens per second of the whole service, ≥ 0; 0 for no target.
        percentile: fraction of the requests that the targets of TTFT and wait hold for, in (0, 1);
            0 or NaN for their means.
        rule: how percentiles are found, see `Rule`.

    Raises:
        ValueError: a value out of range, or attributes of different lengths.
    """

    itl: Array = field(default_factory=_none)
    ttft: Array = field(default_factory=_none)
    wait: Array = field(default_factory=_none)
    tps: Array = field(default_factory=_zero)
    percentile: Array = field(default_factory=_zero)
    rule: Rule = "exact"

    def __post_init__(self) -> None:
        values = {
            name: float_candidates(f"target {name}", getattr(self, name), above=0, finite=False)
            for name in ("itl", "ttft", "wait")
        }
        values["tps"] = float_candidates("target tps", self.tps, at_least=0)
        values["percentile"] = percentiles("target percentile", self.percentile)
        count = candidate_count(**{name: value.size for name, value in values.items()})
        for name, value in values.items():
            # A frozen record is set up once, here, so that scalars may be given for arrays.
            object.__setattr__(self, name, spread(value, count))

    def take(self, index: IntArray) -> "Targets":
        """The targets at the given positions, in that order."""
        return taken(self, index)


@frozen(eq=False)
class Sizing:
    """What one replica of each candidate takes; every attribute has shape (C,).

    Attributes:
        rate: λ*, the largest rate in requests/ms at which every target is met; 0 where unattainable.
        attainable: whether the targets can be met at all.
        max_rate: 0.999·μ(N), the largest rate in requests/ms that is considered.
        binding: the `Binding` of the target that keeps λ* from being larger, or that is unattainable.
    """

    rate: Array
    attainable: BoolArray
    max_rate: Array
    binding: IntArray


def size(
    latency: LatencyModel,
    max_batch: npt.ArrayLike,
    targets: Targets,
    *,
    queue_limit: npt.ArrayLike = UNBOUNDED,
    variability: Variability | None = None,
) -> Sizing:
    """Find λ*, the largest rate per replica that meets every target.

    The search runs from 0.001·μ(1) to 0.999·μ(N). Targets met at the upper end leave the rate there;
    targets missed at the lower end are unattainable. A target of throughput keeps a tenth in reserve.

    Args:
        latency: the latency of C candidates.
        max_batch: N, largest batch, shape (C,), ≥ 1.
        targets: their targets.
        queue_limit: Q, places in the queue beyond the batch, shape (C,), ≥ 0 or `UNBOUNDED`.
        variability: COVs of arrivals and lengths, which the rule `exact` corrects for; the others do not.

    Returns:
        The rates, each of shape (C,).

    Raises:
        ValueError: a value out of range, or inputs of different lengths.
    """
    variability = variability if targets.rule == "exact" else None
    others = {} if variability is None else {"variability": variability.arrival_cov.size}
    latency, batches, limits = align(latency, max_batch, queue_limit, targets=targets.itl.size, **others)
    return size_parts(parts(latency, batches, limits), batches.size, targets, variability)


def size_parts(
    built: Iterable[Part], count: int, targets: Targets, variability: Variability | None = None
) -> Sizing:
    """Size candidates part by part.

    Args:
        built: all C candidates, see `parts`.
        count: C.
        targets: their targets, of C candidates or of one that stands for all.
        variability: COVs of their traffic, which the rule `exact` corrects for; the others do not.

    Returns:
        The rates, each of shape (C,).
    """
    variability = aligned(variability, count) if targets.rule == "exact" else None
    if targets.itl.size != count:
        targets = targets.take(np.zeros(count, dtype=np.int64))
    rate = np.zeros(count)
    attainable = np.zeros(count, dtype=np.bool_)
    max_rate = np.zeros(count)
    binding = np.zeros(count, dtype=np.int64)
    for rows, model, chain in built:
        varied = None if variability is None else variability.take(rows)
        found = _size_block(model, chain, targets.take(rows), varied)
        rate[rows], attainable[rows] = found.rate, found.attainable
        max_rate[rows], binding[rows] = found.max_rate, found.binding
    return Sizing(rate, attainable, max_rate, binding)


def required_rate(arrival_rate: npt.ArrayLike, tps: npt.ArrayLike, tokens: npt.ArrayLike) -> Array:
    """Rate that the replicas of a service must take together: Λ = max(arrival rate, TPS/tokens).

    Args:
        arrival_rate: rate at which requests arrive, requests/ms, shape (C,), ≥ 0.
        tps: target of throughput of the whole service, tokens/s, shape (C,), ≥ 0; 0 for none.
        tokens: tokens that a request gives: mean length or output tokens, shape (C,), > 0.

    Returns:
        Λ in requests/ms, shape (C,).

    Raises:
        ValueError: a value out of range.
    """
    arrivals = float_candidates("arrival_rate", arrival_rate, at_least=0)
    promised = float_candidates("tps", tps, at_least=0) / float_candidates("tokens", tokens, above=0)
    return np.maximum(arrivals, promised / _MS_PER_SECOND)


def replicas(
    required: npt.ArrayLike, rate_per_replica: npt.ArrayLike, min_replicas: npt.ArrayLike = 0
) -> IntArray:
    """Replicas that take a rate within the targets: max(⌈(Λ/λ*)·(1 − 1e-9)⌉, minReplicas).

    Args:
        required: Λ, see `required_rate`, in any unit of rate, shape (C,), ≥ 0.
        rate_per_replica: λ* in the same unit, shape (C,), ≥ 0.
        min_replicas: the fewest replicas, shape (C,), ≥ 0.

    Returns:
        Replicas, shape (C,); minReplicas where Λ = 0.

    Raises:
        ValueError: a value out of range, or a positive Λ for a candidate whose targets are unattainable.
    """
    demand = float_candidates("required", required, at_least=0)
    each = float_candidates("rate_per_replica", rate_per_replica, at_least=0)
    fewest = float_candidates("min_replicas", min_replicas, at_least=0)
    count = candidate_count(required=demand.size, rate_per_replica=each.size, min_replicas=fewest.size)
    demand, each, fewest = spread(demand, count), spread(each, count), spread(fewest, count)
    impossible = (each == 0) & (demand > 0)
    if impossible.any():
        where = int(np.argmax(impossible))
        raise ValueError(
            f"rate_per_replica[{where}] is 0 where {demand[where]:g} is required: no number of replicas "
            "takes it; leave out candidates that are not attainable"
        )
    needed = np.ceil(demand / np.where(each > 0, each, 1.0) * (1 - _ROUNDING))
    return np.maximum(needed, fewest).astype(np.int64)


def replica_count(required: float, rate_per_replica: float, min_replicas: int = 0) -> int:
    """Replicas of a single candidate: what `replicas` gives for it, at a fiftieth of the time.

    Args:
        required: Λ, see `required_rate`, in any unit of rate, ≥ 0.
        rate_per_replica: λ* in the same unit, ≥ 0.
        min_replicas: the fewest replicas, ≥ 0.

    Raises:
        ValueError: as `replicas` does.
    """
    if required >= 0 and 0 < rate_per_replica < math.inf and min_replicas >= 0:
        needed = required / rate_per_replica * (1 - _ROUNDING)
        if needed < _WHOLE:
            return max(math.ceil(needed), min_replicas)
    return int(replicas(required, rate_per_replica, min_replicas)[0])


def _size_block(
    latency: LatencyModel, chain: Chain, targets: Targets, variability: Variability | None
) -> Sizing:
    every = np.arange(chain.max_batch.size)

    def misses(rate: Array, rows: IntArray) -> Array:
        if rows.size == every.size:
            return _misses(latency, chain, targets, variability, rate)
        varied = None if variability is None else variability.take(rows)
        return _misses(latency.take(rows), chain.take(rows), targets.take(rows), varied, rate)

    low = LOWEST_LOAD / latency.service_time(1.0)
    high = HIGHEST_LOAD * chain.full_rate
    at_low, at_high = misses(low, every), misses(high, every)
    attainable = at_low.max(axis=0) <= 0
    binds = attainable & (at_high.max(axis=0) > 0)
    search = np.flatnonzero(binds)
    found = narrow(
        lambda rate, active: misses(rate, search[active]).max(axis=0),
        Bracket(low[search], high[search]),
        at_low[:, search].max(axis=0),
        at_high[:, search].max(axis=0),
    )
    rate = np.where(attainable, high, 0.0)
    rate[search] = found.low
    binding = np.where(attainable, int(Binding.NONE), 1 + at_low.argmax(axis=0))
    binding[search] = 1 + misses(found.high, search).argmax(axis=0)

    capped = (targets.tps > 0) & (rate > THROUGHPUT_LOAD * high)
    rate = np.where(capped, THROUGHPUT_LOAD * high, rate)
    return Sizing(rate, attainable, high, np.where(capped, int(Binding.TPS), binding))


def _misses(
    latency: LatencyModel, chain: Chain, targets: Targets, variability: Variability | None, rate: Array
) -> Array:
    """By how much targets are missed, > 0, or met, ≤ 0, in (−1, 1): rows ITL, TTFT, wait, shape (3, C)."""
    analysis = evaluate(latency, chain, rate, variability)
    stretch = np.ones(rate.size) if variability is None else variability.stretch
    by_tail = (targets.percentile > 0) & (targets.rule == "exact")
    waits = np.where(by_tail, 0.0, analysis.wait * mean_multiple(targets.percentile, targets.rule))
    result = np.stack(
        [
            _excess(analysis.itl, targets.itl),
            _excess(waits + analysis.prefill, targets.ttft),
            _excess(waits, targets.wait),
        ]
    )
    for row, limit in ((1, targets.ttft - analysis.prefill), (2, targets.wait)):
        at = np.flatnonzero(by_tail & np.isfinite(limit))
        if at.size:
            result[row, at] = np.maximum(
                result[row, at], _tail_excess(analysis, chain, targets, limit / stretch, at)
            )
    return result


def _tail_excess(analysis: Analysis, chain: Chain, targets: Targets, limit: Array, at: IntArray) -> Array:
    full_rate = chain.full_rate[at]
    longer = tail_probability(
        np.maximum(limit[at], 0.0) * full_rate,
        analysis.p_wait[at],
        analysis.arrival_rate[at] / full_rate,
        chain.places[at],
    )
    return _excess(longer, 1 - targets.percentile[at])


def _excess(value: Array, target: Array) -> Array:
    # Latencies grow like 1/(μ(N) − λ); seen this way they are nearly straight, which the search likes.
    limited = np.isfinite(target)
    bound = np.where(limited, target, 1.0)
    return np.where(limited, (value - bound) / (value + bound), -1.0)
