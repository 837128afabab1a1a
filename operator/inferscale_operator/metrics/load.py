"""Load and latency of every service, from what its pods report. What is not known is never taken for zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import fsum

from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics.queries import COVERAGE_STEPS, IN_FLIGHT_METRICS, Answers, PodKey, Query
from inferscale_operator.snapshot import LoadState, ObservedLoad

SECONDS_PER_MINUTE = 60.0
MS_PER_SECOND = 1000.0
MAX_ARRIVAL_RATE = 1e7
"""Requests per minute; what is above is an error of the metrics."""
MAX_TOKENS = 1e7
"""Tokens of a request, likewise."""
MAX_LATENCY = 1e8
"""Milliseconds (about a day), likewise."""

# Without these nothing can be said; without the others only tokens or latency are missing.
_LOAD_QUERIES = (
    Query.ARRIVALS,
    Query.IN_FLIGHT,
    Query.PEAK_IN_FLIGHT,
    Query.PROGRESS,
    Query.SAMPLED,
    Query.COVERAGE,
)
_MEAN_QUERIES = tuple(query for query in Query if query not in _LOAD_QUERIES)
# Pods of a ReplicaSet are named `<ReplicaSet>-<suffix>`; the API server cuts what is before the suffix.
_SUFFIX_LENGTH = 5
_LONGEST_STEM = 63 - _SUFFIX_LENGTH


@dataclass(frozen=True)
class ReadyPod:
    """A pod that is ready and should report.

    Attributes:
        name: name of the pod.
        ready_since: when it became ready, Unix seconds; None when that is not known.
    """

    name: str
    ready_since: float | None = None


@dataclass(frozen=True)
class Workload:
    """The pods that serve a service, all in one namespace.

    The rate of arrivals is what came in the window at all pods, with those that have gone since: after a
    scale-down or a move the pods that are left have not yet served a whole window at their new share. Pods
    that have gone are known by the names of their ReplicaSets.

    Attributes:
        namespace: namespace of the pods.
        ready: pods that are ready and not terminating.
        others: names of the other pods there are: starting, not ready, terminating.
        replica_sets: names of the Deployment's ReplicaSets.
    """

    namespace: str
    ready: tuple[ReadyPod, ...] = ()
    others: tuple[str, ...] = ()
    replica_sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Report:
    """What the pods of one workload report, by query and name of the pod."""

    workload: Workload
    values: Mapping[Query, Mapping[str, float]]
    settings: MetricsSettings
    now: float


def loads(
    answers: Answers, workloads: Mapping[str, Workload], settings: MetricsSettings, now: float
) -> dict[str, ObservedLoad]:
    """The load of every workload.

    Args:
        answers: to all queries, as of `now`.
        workloads: by name of the service, or any other key.
        settings: with which Prometheus was asked.
        now: Unix seconds.

    Returns:
        One load for each key of `workloads`.
    """
    failed = _errors(answers, _LOAD_QUERIES)
    if failed:
        return dict.fromkeys(workloads, ObservedLoad(LoadState.UNKNOWN, failed))
    without_means = _errors(answers, _MEAN_QUERIES)
    values = _by_workload(answers, workloads)
    result = {}
    for key, workload in workloads.items():
        load = _load(_Report(workload, values[key], settings, now))
        if without_means and load.state is not LoadState.UNKNOWN:
            load = replace(load, message="; ".join(filter(None, (load.message, without_means))))
        result[key] = load
    return result


def _errors(answers: Answers, queries: Iterable[Query]) -> str:
    """The first of the errors, with how many there are: one dead connection fails them all."""
    errors = [error for query in queries if (error := answers[query].error)]
    more = f" (and {len(errors) - 1} more queries)" if len(errors) > 1 else ""
    return f"{errors[0]}{more}" if errors else ""


def _by_workload(
    answers: Answers, workloads: Mapping[str, Workload]
) -> Mapping[str, Mapping[Query, Mapping[str, float]]]:
    """Every answer split by workload, in one pass over it."""
    pods: dict[PodKey, str] = {}
    stems: dict[PodKey, str] = {}
    for key, workload in workloads.items():
        names = (*(pod.name for pod in workload.ready), *workload.others)
        pods.update(((workload.namespace, name), key) for name in names)
        # A stem that was cut may belong to two ReplicaSets.
        whole = (f"{name}-" for name in workload.replica_sets if len(name) < _LONGEST_STEM)
        stems.update(((workload.namespace, stem), key) for stem in whole)
    result: dict[str, dict[Query, dict[str, float]]] = {
        key: {query: {} for query in Query} for key in workloads
    }
    for query, answer in answers.items():
        for (namespace, name), value in answer.values.items():
            owner = pods.get((namespace, name)) or stems.get((namespace, name[:-_SUFFIX_LENGTH]))
            if owner is not None:
                result[owner][query][name] = value
    return result


def _load(report: _Report) -> ObservedLoad:
    workload, values = report.workload, report.values
    if not workload.ready:
        return ObservedLoad(LoadState.UNKNOWN, "no pod is ready")
    reporting = [pod for pod in workload.ready if _reports(pod, report)]
    silent = [pod for pod in workload.ready if pod not in reporting]
    if not reporting:
        new = all(_ready_seconds(pod, report) < report.settings.window_seconds / 2 for pod in workload.ready)
        return ObservedLoad(LoadState.STARTING if new else LoadState.UNKNOWN, _silence(report))
    if not any(pod.name in values[Query.ARRIVALS] for pod in reporting):
        return ObservedLoad(
            LoadState.STARTING,
            f"none of the {len(reporting)} pods that report has a rate of vllm:request_success_total "
            f"over {report.settings.window_seconds} s yet",
        )
    load = ObservedLoad(
        LoadState.OBSERVED,
        arrival_rate=_arrivals(report, reporting, silent) * SECONDS_PER_MINUTE,
        input_tokens=_mean(report, Query.INPUT_TOKENS_SUM, Query.INPUT_TOKENS_COUNT),
        output_tokens=_mean(report, Query.OUTPUT_TOKENS_SUM, Query.OUTPUT_TOKENS_COUNT),
        itl=_mean(report, Query.ITL_SUM, Query.ITL_COUNT, MS_PER_SECOND),
        ttft=_mean(report, Query.TTFT_SUM, Query.TTFT_COUNT, MS_PER_SECOND),
    )
    if absurdity := _absurdity(load, report):
        return ObservedLoad(LoadState.UNKNOWN, absurdity)
    state, message = _state(report, reporting, silent)
    if state is LoadState.OBSERVED and load.arrival_rate and load.output_tokens is None:
        window = report.settings.window_seconds
        message = f"no request has finished in {window} s: token lengths are not known"
    return replace(load, state=state, message=message)


def _state(report: _Report, reporting: list[ReadyPod], silent: list[ReadyPod]) -> tuple[LoadState, str]:
    values, window = report.values, report.settings.window_seconds
    # Two scrapes have passed in half a window: a pod that has just become ready is no reason for doubt.
    overdue = [pod.name for pod in silent if _ready_seconds(pod, report) >= window / 2]
    if overdue:
        return LoadState.PARTIAL, (
            f"{len(overdue)} of {len(report.workload.ready)} ready pods do not report, such as {min(overdue)}"
        )
    half_seen = [pod.name for pod in reporting if not _seen_throughout(pod, report)]
    if half_seen:
        return LoadState.PARTIAL, (
            f"{len(half_seen)} of {len(report.workload.ready)} ready pods were sampled in a part of the last "
            f"{window} s only, such as {min(half_seen)}"
        )
    if not _still(report, reporting):
        return LoadState.OBSERVED, ""
    in_flight = fsum(values[Query.IN_FLIGHT].values())
    if in_flight > 0:
        return LoadState.STALLED, (
            f"{in_flight:g} requests are running or waiting and none made progress in {window} s"
        )
    peaks = values[Query.PEAK_IN_FLIGHT]
    if not silent and all(pod.name in peaks for pod in reporting) and not any(peaks.values()):
        return LoadState.IDLE, f"no request in {window} s"
    return LoadState.OBSERVED, ""


def _reports(pod: ReadyPod, report: _Report) -> bool:
    """Whether its gauges are fresh, and its counters there once they had the time for a rate."""
    values, settings = report.values, report.settings
    sampled = values[Query.SAMPLED].get(pod.name)
    if sampled is None or report.now - sampled > settings.max_age_seconds:
        return False
    counted = pod.name in values[Query.ARRIVALS] or _ready_seconds(pod, report) < settings.window_seconds
    return counted and pod.name in values[Query.IN_FLIGHT]


def _ready_seconds(pod: ReadyPod, report: _Report) -> float:
    """How long it has been ready. If that is not known: long enough to be missed, too short to count on."""
    return report.settings.window_seconds / 2 if pod.ready_since is None else report.now - pod.ready_since


def _arrivals(report: _Report, reporting: list[ReadyPod], silent: list[ReadyPod]) -> float:
    """Requests per second at all pods; a silent one is taken to get what the others get.

    Only pods that have been ready for the whole window count for that, on both sides. The share of the others
    has not shown yet: were a burst of new pods multiplied by what an old one received before them, the load
    would seem many times what it is, and more pods be asked for.
    """
    received = report.values[Query.ARRIVALS]

    def settled(pods: list[ReadyPod]) -> list[str]:
        return [pod.name for pod in pods if _ready_seconds(pod, report) >= report.settings.window_seconds]

    shares = [received[name] for name in settled(reporting)]
    if not shares:
        return fsum(received.values())
    unseen = frozenset(settled(silent))
    seen = fsum(rate for name, rate in received.items() if name not in unseen)
    return seen + len(unseen) * fsum(shares) / len(shares)


def _mean(report: _Report, total: Query, count: Query, scale: float = 1.0) -> float | None:
    totals, counts = report.values[total], report.values[count]
    pods = totals.keys() & counts.keys()
    observations = fsum(counts[pod] for pod in pods)
    return scale * fsum(totals[pod] for pod in pods) / observations if observations > 0 else None


def _still(report: _Report, reporting: list[ReadyPod]) -> bool:
    """Whether no counter moved in the window, and all of the window was seen at every pod that reports."""
    progress = report.values[Query.PROGRESS]
    seen = all(pod.name in progress and _covered(pod, report) for pod in reporting)
    return seen and not any(progress.values())


def _seen_throughout(pod: ReadyPod, report: _Report) -> bool:
    """Whether all of the time that it was ready for in the window was seen."""
    return _ready_seconds(pod, report) < report.settings.window_seconds or _covered(pod, report)


def _covered(pod: ReadyPod, report: _Report) -> bool:
    # One of the steps after the first may be without: the interval of scrapes can be longer than a step.
    return report.values[Query.COVERAGE].get(pod.name, 0) >= COVERAGE_STEPS - 2


def _absurdity(load: ObservedLoad, report: _Report) -> str:
    """What cannot be true of the figures, in words; empty when they can be."""
    for query in _LOAD_QUERIES:
        for pod, value in report.values[query].items():
            if value < 0:
                return f"pod {pod}: {query.value} is {value:g}; it cannot be negative"
    for name, figure, most in (
        ("arrival rate per minute", load.arrival_rate, MAX_ARRIVAL_RATE),
        ("mean of input tokens", load.input_tokens, MAX_TOKENS),
        ("mean of output tokens", load.output_tokens, MAX_TOKENS),
        ("mean inter-token latency in ms", load.itl, MAX_LATENCY),
        ("mean time to first token in ms", load.ttft, MAX_LATENCY),
    ):
        if figure is not None and not 0 <= figure <= most:
            return f"{name} is {figure:g}; it must be between 0 and {most:g}"
    if 0 in (load.input_tokens, load.output_tokens):
        return "requests without tokens: the mean of input or output tokens is 0"
    return ""


def _silence(report: _Report) -> str:
    """Why no ready pod reports."""
    ready, settings = report.workload.ready, report.settings
    sampled = report.values[Query.SAMPLED]
    age = report.now - max((sampled[pod.name] for pod in ready if pod.name in sampled), default=report.now)
    pods = f"{len(ready)} ready pods, such as {report.workload.namespace}/{ready[0].name}"
    if age > settings.max_age_seconds:
        limit = f"metrics.maxAgeSeconds {settings.max_age_seconds}"
        return f"the newest sample of {pods}, is {age:.0f} s old, more than {limit}"
    return (
        f"Prometheus has no samples of {' and '.join(IN_FLIGHT_METRICS)} of {pods}, under the labels "
        f"{settings.namespace_label} and {settings.pod_label}"
    )
