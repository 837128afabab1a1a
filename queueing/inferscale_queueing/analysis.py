"""Analysis of one replica of every candidate at a given arrival rate."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from inferscale_queueing.arrays import (
    Array,
    BoolArray,
    IntArray,
    candidate_count,
    float_candidates,
    int_candidates,
    spread,
)
from inferscale_queueing.chain import UNBOUNDED, Chain, blocks, from_service_rates
from inferscale_queueing.frozen import frozen
from inferscale_queueing.latency import LatencyModel
from inferscale_queueing.variability import Variability, aligned
from inferscale_queueing.waiting import Rule, mean_multiple, percentiles, quantile_time

# A rate of 0 stands for the limit of a rate that goes to 0: one request alone in the replica.
_SMALLEST_RATE = 1e-300
# Shares below it are nobody; dividing by them leaves the range of floats.
_SMALLEST_SHARE = 1e-290


@frozen(eq=False)
class Analysis:
    """Stationary figures of one replica; every attribute has shape (C,), times are in ms, rates in 1/ms.

    Where `stable` is false there is no stationary state: lengths, waits and response times are infinite,
    every other figure but `arrival_rate` is NaN.

    Attributes:
        arrival_rate: λ, offered requests.
        throughput: λ·(1 − π(N+Q)), accepted and served requests.
        blocking: π(N+Q), share of requests that a full queue refuses.
        utilization: X/N.
        in_system: L = Lq + X, mean number of requests.
        in_service: X, mean number of requests in the batch.
        in_queue: Lq, mean number of requests in the queue.
        response_time: R = L/throughput.
        service_time: S = X/throughput.
        wait: W = Lq/throughput, mean over accepted requests.
        concurrency: n*, the batch size at which S(n) is the mean service time, in [0, N]; X where S is flat.
        itl: mean inter-token latency at n*.
        prefill: prefill time at n*.
        ttft: W + prefill, mean time to first token.
        p_wait: P_w, share of accepted requests that wait.
        stable: whether there is a stationary state.
    """

    arrival_rate: Array
    throughput: Array
    blocking: Array
    utilization: Array
    in_system: Array
    in_service: Array
    in_queue: Array
    response_time: Array
    service_time: Array
    wait: Array
    concurrency: Array
    itl: Array
    prefill: Array
    ttft: Array
    p_wait: Array
    stable: BoolArray


class Part(NamedTuple):
    """Some of C candidates with their chains built.

    Attributes:
        rows: which of the candidates they are.
        latency: their latency.
        chain: their chains.
    """

    rows: IntArray
    latency: LatencyModel
    chain: Chain


def analyze(
    latency: LatencyModel,
    max_batch: npt.ArrayLike,
    arrival_rate: npt.ArrayLike,
    *,
    queue_limit: npt.ArrayLike = UNBOUNDED,
    variability: Variability | None = None,
) -> Analysis:
    """Analyse one replica of every candidate as a birth–death chain with service rates μ(n) = n/S(n).

    Args:
        latency: the latency of C candidates.
        max_batch: N, largest batch, shape (C,), ≥ 1.
        arrival_rate: λ of one replica, requests/ms, shape (C,), ≥ 0. At 0 the figures are those of a
            request that is alone.
        queue_limit: Q, places in the queue beyond the batch, shape (C,), ≥ 0 or `UNBOUNDED`. The overload
            of a finite queue is answered with its blocking.
        variability: COVs of arrivals and lengths, to correct the wait and what depends on it; blocking and
            the batch stay as they are.

    Returns:
        The figures, each of shape (C,).

    Raises:
        ValueError: a value out of range, or inputs of different lengths.
    """
    rates = float_candidates("arrival_rate", arrival_rate, at_least=0)
    others = {} if variability is None else {"variability": variability.arrival_cov.size}
    latency, batches, limits = align(latency, max_batch, queue_limit, arrival_rate=rates.size, **others)
    varied = aligned(variability, batches.size)
    return evaluate_parts(parts(latency, batches, limits), spread(rates, batches.size), varied)


def wait_quantile(
    latency: LatencyModel,
    max_batch: npt.ArrayLike,
    arrival_rate: npt.ArrayLike,
    quantile: npt.ArrayLike,
    *,
    queue_limit: npt.ArrayLike = UNBOUNDED,
    rule: Rule = "exact",
    variability: Variability | None = None,
) -> Array:
    """The wait in ms that a share of the accepted requests does not exceed; infinite where unstable.

    The same quantile of the time to first token is this plus `Analysis.prefill`.

    Args:
        latency: the latency of C candidates.
        max_batch: N, largest batch, shape (C,), ≥ 1.
        arrival_rate: λ of one replica, requests/ms, shape (C,), ≥ 0.
        quantile: q in (0, 1), shape (C,); 0 or NaN asks for the mean.
        queue_limit: Q, places in the queue beyond the batch, shape (C,), ≥ 0 or `UNBOUNDED`.
        rule: how the quantile is found.
        variability: COVs of arrivals and lengths, which the rule `exact` corrects for; the others do not.

    Returns:
        W_q in ms, shape (C,).

    Raises:
        ValueError: a value out of range, or inputs of different lengths.
    """
    shares = percentiles("quantile", quantile)
    rates = float_candidates("arrival_rate", arrival_rate, at_least=0)
    variability = variability if rule == "exact" else None
    others = {} if variability is None else {"variability": variability.arrival_cov.size}
    latency, batches, limits = align(
        latency, max_batch, queue_limit, arrival_rate=rates.size, quantile=shares.size, **others
    )
    variability = aligned(variability, batches.size)
    shares, rates = spread(shares, batches.size), spread(rates, batches.size)
    analysis = analyze(latency, batches, rates, queue_limit=limits, variability=variability)
    waits = analysis.wait * mean_multiple(shares, rule)
    if rule == "exact":
        exact = np.flatnonzero((shares > 0) & (rates > 0) & analysis.stable)
        full_rate = full_batch_rate(latency, batches)[exact]
        places = np.where(limits[exact] == UNBOUNDED, np.inf, limits[exact])
        ratio = rates[exact] / full_rate
        times = quantile_time(shares[exact], analysis.p_wait[exact], ratio, places)
        stretch = 1.0 if variability is None else variability.stretch[exact]
        waits[exact] = stretch * times / full_rate
    return waits


def evaluate(
    latency: LatencyModel, chain: Chain, arrival_rate: Array, variability: Variability | None = None
) -> Analysis:
    """Analyse candidates whose chain is built already.

    Args:
        latency: the latency of C candidates.
        chain: their chains.
        arrival_rate: λ of one replica, requests/ms, shape (C,), ≥ 0.
        variability: COVs of their traffic, shape (C,); None where there is nothing to correct.

    Returns:
        The figures, each of shape (C,).
    """
    rate = np.maximum(arrival_rate, _SMALLEST_RATE)
    stable = chain.stable(rate)
    masses = chain.masses(rate)
    accepted_rate = rate * masses.accepted
    in_service = np.where(stable, masses.in_service, np.nan)
    in_queue = np.where(stable, masses.in_queue, np.inf)
    service_time = in_service / accepted_rate
    wait = in_queue / accepted_rate
    inverse = latency.concurrency(service_time)
    concurrency = np.clip(np.where(np.isnan(inverse), in_service, inverse), 0.0, chain.max_batch)
    prefill = np.where(stable, latency.prefill(concurrency), np.nan)
    in_system = np.where(stable, in_service + in_queue, np.inf)
    analysis = Analysis(
        arrival_rate=arrival_rate,
        throughput=np.where(stable, arrival_rate * masses.accepted, np.nan),
        blocking=np.where(stable, masses.refused, np.nan),
        utilization=in_service / chain.max_batch,
        in_system=in_system,
        in_service=in_service,
        in_queue=in_queue,
        response_time=in_system / accepted_rate,
        service_time=service_time,
        wait=wait,
        concurrency=concurrency,
        itl=latency.itl(concurrency),
        prefill=prefill,
        ttft=np.where(stable, wait + prefill, np.inf),
        p_wait=np.where(stable, masses.waiting, np.nan),
        stable=stable,
    )
    return analysis if variability is None else _vary(analysis, chain, rate, variability)


def evaluate_parts(
    built: Iterable[Part], arrival_rate: Array, variability: Variability | None = None
) -> Analysis:
    """Analyse candidates part by part.

    Args:
        built: all C candidates, see `parts`.
        arrival_rate: λ of one replica, requests/ms, shape (C,), ≥ 0.
        variability: COVs of their traffic, shape (C,); None where there is nothing to correct.

    Returns:
        The figures, each of shape (C,).
    """
    count = arrival_rate.size
    figures = {field.name: np.empty(count) for field in fields(Analysis) if field.name != "stable"}
    stable = np.empty(count, dtype=np.bool_)
    for part in built:
        varied = None if variability is None else variability.take(part.rows)
        found = evaluate(part.latency, part.chain, arrival_rate[part.rows], varied)
        stable[part.rows] = found.stable
        for name, values in figures.items():
            values[part.rows] = getattr(found, name)
    return Analysis(**figures, stable=stable)


def parts(latency: LatencyModel, max_batch: IntArray, queue_limit: IntArray) -> Iterator[Part]:
    """Build the chains of C candidates one block of bounded memory after the other.

    Args:
        latency: the latency of C candidates.
        max_batch: N, shape (C,), ≥ 1.
        queue_limit: Q, shape (C,), ≥ 0 or `UNBOUNDED`.

    Yields:
        The parts; every candidate is in one of them.
    """
    for rows in blocks(max_batch):
        model = latency.take(rows)
        yield Part(rows, model, build(model, max_batch[rows], queue_limit[rows]))


def build(latency: LatencyModel, max_batch: IntArray, queue_limit: IntArray) -> Chain:
    """The chains of C candidates, with μ(n) = n/S(n).

    Args:
        latency: the latency of C candidates.
        max_batch: N, shape (C,), ≥ 1.
        queue_limit: Q, shape (C,), ≥ 0 or `UNBOUNDED`.

    Returns:
        The chains; they take about 8·C·max N bytes.
    """
    n = np.arange(1, int(max_batch.max()) + 1, dtype=np.float64)[np.newaxis, :]
    return from_service_rates(n / latency.service_time(n), max_batch, queue_limit)


def full_batch_rate(latency: LatencyModel, max_batch: IntArray) -> Array:
    """Departures per ms of a full batch: μ(N) = N/S(N), shape (C,)."""
    return max_batch / latency.service_time(max_batch)


def align(
    latency: LatencyModel, max_batch: npt.ArrayLike, queue_limit: npt.ArrayLike, **sizes: int
) -> tuple[LatencyModel, IntArray, IntArray]:
    """Read the inputs that describe the candidates and bring them to one length C.

    Args:
        latency: the latency of C candidates, or of one that stands for all.
        max_batch: N, shape (C,), ≥ 1.
        queue_limit: Q, shape (C,), ≥ 0 or `UNBOUNDED`.
        sizes: how many candidates the caller's other inputs have.

    Returns:
        Latency model, N and Q of C candidates.

    Raises:
        ValueError: a value out of range, or inputs of different lengths.
    """
    batches = int_candidates("max_batch", max_batch, at_least=1)
    limits = int_candidates("queue_limit", queue_limit, at_least=UNBOUNDED)
    known = latency.itl(1.0).size
    count = candidate_count(latency=known, max_batch=batches.size, queue_limit=limits.size, **sizes)
    if known != count:
        latency = latency.take(np.zeros(count, dtype=np.int64))
    return latency, np.broadcast_to(batches, (count,)), np.broadcast_to(limits, (count,))


def _vary(analysis: Analysis, chain: Chain, rate: Array, variability: Variability) -> Analysis:
    """The analysis with its wait, and what follows from it, corrected for the COVs."""
    waits = analysis.p_wait > _SMALLEST_SHARE
    rows = np.flatnonzero(~variability.markovian & analysis.stable & waits)
    varied = variability.take(rows)
    p_wait, wait = analysis.p_wait.copy(), analysis.wait.copy()
    p_wait[rows] = chain.take(rows).waiting_share(rate[rows], varied.peakedness)
    wait[rows] = wait[rows] / analysis.p_wait[rows] * p_wait[rows] * varied.stretch
    in_queue = analysis.in_queue.copy()
    in_queue[rows] = analysis.throughput[rows] * wait[rows]
    return replace(
        analysis,
        p_wait=p_wait,
        wait=wait,
        in_queue=in_queue,
        in_system=np.where(analysis.stable, analysis.in_service + in_queue, np.inf),
        response_time=np.where(analysis.stable, analysis.service_time + wait, np.inf),
        ttft=np.where(analysis.stable, wait + analysis.prefill, np.inf),
    )
