"""How long it takes to size candidates, and how the cost grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np

import inferscale_queueing.sizing as sizing_module
from bench import scalar
from bench.figures import Figures, seconds
from bench.instances import generated
from inferscale_queueing import UNBOUNDED, PrefillDecode, Targets, max_batch_size, replicas, size
from inferscale_queueing.prepared import prepare

SERVICES = 999
INPUT_TOKENS = 128.0
OUTPUT_TOKENS = (512.0, 1024.0)
SCALAR_SAMPLE = 150


@dataclass(frozen=True, eq=False)
class Candidates:
    """Every service on every profile: C candidates with targets of mean ITL and mean TTFT."""

    latency: PrefillDecode
    max_batch: Any
    targets: Targets

    @property
    def count(self) -> int:
        """C."""
        return int(self.max_batch.size)


def candidates(services: int = SERVICES) -> Candidates:
    """Services with outputs of 512 and 1,024 tokens in turn, on 21 profiles each.

    The prefill's gamma and delta are a quarter of alpha and beta, about as in published measurements.
    """
    rows = [
        (
            performance.alpha,
            performance.beta,
            performance.max_batch_size,
            performance.at_tokens,
            OUTPUT_TOKENS[number % len(OUTPUT_TOKENS)],
            service.targets.itl,
            2 * (service.targets.ttw or np.inf),
        )
        for number, service in enumerate(generated(services, 1.0).services)
        for performance in service.performance
    ]
    alpha, beta, batch, at_tokens, output_tokens, itl, ttft = np.array(rows).T
    return Candidates(
        PrefillDecode(alpha, beta, alpha / 4, beta / 4, np.full(alpha.size, INPUT_TOKENS), output_tokens),
        max_batch_size(batch, at_tokens, output_tokens),
        Targets(itl=itl, ttft=ttft),
    )


def run(
    services: int = SERVICES,
    growth: Sequence[int] = (37, 111, 333, 999, 2997),
    batches: Sequence[int] = (1, 8, 64, 512, 4096),
) -> list[Figures]:
    """Measure for a number of services, for several such numbers, and for several largest batches."""
    whole = candidates(services)
    return [
        _kinds(services, whole),
        _new_rates(whole),
        _growth_with_services(growth),
        _growth_with_batch(batches),
    ]


def sampled_replicas(of: Candidates, sample: int) -> Iterator[tuple[int, scalar.Replica]]:
    """Evenly spaced candidates, with their positions, for the scalar implementation."""
    names = ("alpha", "beta", "gamma", "delta", "input_tokens", "output_tokens")
    for at in np.linspace(0, of.count - 1, sample).astype(int):
        parameters = (float(getattr(of.latency, name)[at]) for name in names)
        yield int(at), scalar.Replica(*parameters, int(of.max_batch[at]))


@contextmanager
def counted_evaluations() -> Iterator[Callable[[], int]]:
    """Count the evaluations of single candidates within the block."""
    count = 0
    evaluate = sizing_module.evaluate

    def counting(latency: Any, chain: Any, rate: Any, *others: Any) -> Any:
        nonlocal count
        count += rate.size
        return evaluate(latency, chain, rate, *others)

    with mock.patch.object(sizing_module, "evaluate", counting):
        yield lambda: count


def _kinds(services: int, whole: Candidates) -> Figures:
    tail = replace(whole.targets, percentile=np.full(whole.count, 0.95))
    kinds = [
        ("mean ITL and mean TTFT", whole.targets, UNBOUNDED),
        ("mean ITL and mean TTFT, queue of 10·N", whole.targets, 10 * whole.max_batch),
        ("mean ITL and P95 of TTFT, exact", tail, UNBOUNDED),
        ("mean ITL and P95 of TTFT, exact, queue of 10·N", tail, 10 * whole.max_batch),
        ("mean ITL and P95 of TTFT, exponential rule", replace(tail, rule="exponential"), UNBOUNDED),
    ]
    rows: list[list[str | int | float | None]] = []
    for name, targets, limit in kinds:

        def work(targets: Targets = targets, limit: Any = limit) -> Any:
            return size(whole.latency, whole.max_batch, targets, queue_limit=limit)

        with counted_evaluations() as count:
            result = work()
            evaluations = count() / whole.count
        taken = seconds(work)
        rows.append(
            [name, whole.count, taken, 1e6 * taken / whole.count, evaluations, result.attainable.mean()]
        )
    taken = seconds(lambda: _scalar(whole), runs=1) * whole.count / SCALAR_SAMPLE
    rows.append(
        [
            "plain scalar code, mean ITL and mean TTFT",
            whole.count,
            taken,
            1e6 * taken / whole.count,
            None,
            None,
        ]
    )
    return Figures(
        f"Sizing {services} services × {whole.count // services} profiles from cold",
        ["targets", "candidates", "s", "µs per candidate", "evaluations per candidate", "attainable"],
        rows,
        f"N: mean {whole.max_batch.mean():.1f}, up to {whole.max_batch.max()}. Core seconds, best of 3 runs. "
        f"The scalar code was timed on {SCALAR_SAMPLE} of them, evenly spaced, and its time is extrapolated.",
    )


def _scalar(whole: Candidates) -> None:
    for at, replica in sampled_replicas(whole, SCALAR_SAMPLE):
        scalar.largest_rate(replica, float(whole.targets.itl[at]), float(whole.targets.ttft[at]))


def _new_rates(whole: Candidates) -> Figures:
    """The sizing does not depend on the arrival rates: what is left to do when only these change."""
    rate = size(whole.latency, whole.max_batch, whole.targets).rate
    some = np.flatnonzero(rate)
    arrivals = np.random.default_rng(1).lognormal(np.log(0.004), 0.6, some.size)
    kept = prepare(whole.latency.take(some), whole.max_batch[some])

    def count() -> Any:
        return replicas(arrivals, rate[some])

    works: dict[str, Callable[[], object]] = {
        "replicas": count,
        "replicas, and the figures predicted at them": lambda: kept.analyze(arrivals / count()),
    }
    return Figures(
        "Only the arrival rates changed",
        ["what is computed", "attainable candidates", "s"],
        [[name, some.size, seconds(work)] for name, work in works.items()],
    )


def _growth_with_services(growth: Sequence[int]) -> Figures:
    rows = []
    for services in growth:
        some = candidates(services)
        taken = seconds(lambda some=some: size(some.latency, some.max_batch, some.targets))
        rows.append([services, some.count, taken, 1e6 * taken / some.count])
    return Figures(
        "Cost as the number of services grows", ["services", "candidates", "s", "µs per candidate"], rows
    )


def _growth_with_batch(batches: Sequence[int]) -> Figures:
    some = candidates(50)
    rows = []
    for batch in batches:
        taken = seconds(lambda batch=batch: size(some.latency, batch, some.targets))
        each = 1e6 * taken / some.count
        rows.append([batch, some.count, taken, each, 1e3 * each / batch])
    return Figures(
        "Cost as the batch limit N grows",
        ["N", "candidates", "s", "µs per candidate", "ns per candidate and state"],
        rows,
    )
