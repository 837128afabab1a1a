"""Load and latency of every service, from what its pods report. What is not known is never taken for zero."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import fsum, inf

from inferscale_operator.api.metric_preset import MetricPreset
from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics.gateway import (
    SECONDS_PER_MINUTE,
    GatewaySignal,
    gateway_signal,
    parked_load,
    with_gateway,
)
from inferscale_operator.metrics.presets import presets
from inferscale_operator.metrics.queries import (
    COVERAGE_STEPS,
    GATEWAY_QUERIES,
    SCRAPES_PER_WINDOW,
    Answer,
    Answers,
    Query,
)
from inferscale_operator.metrics.workload import ReadyPod, Workload, by_workload
from inferscale_operator.snapshot import LoadState, ObservedLoad, UnknownCause
from inferscale_queueing.frozen import frozen

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
_MEAN_QUERIES = tuple(query for query in Query if query not in (*_LOAD_QUERIES, *GATEWAY_QUERIES))


@frozen
class _Report:
    """What the pods of one workload report, by query and name of the pod."""

    workload: Workload
    preset: MetricPreset
    values: Mapping[Query, Mapping[str, float]]
    settings: MetricsSettings
    now: float


def loads(
    answers: Mapping[str, Answers], workloads: Mapping[str, Workload], settings: MetricsSettings, now: float
) -> dict[str, ObservedLoad]:
    """The load of every workload.

    Args:
        answers: to all queries of the presets that the workloads name, as of `now`, by name of the preset.
        workloads: by name of the service, or any other key.
        settings: with which Prometheus was asked.
        now: Unix seconds.

    Returns:
        One load for each key of `workloads`.
    """
    known = presets(settings)
    sharing = Counter((workload.namespace, workload.model) for workload in workloads.values())
    result = {}
    for name in sorted({workload.preset for workload in workloads.values()}):
        chosen = {key: workload for key, workload in workloads.items() if workload.preset == name}
        preset = known.get(name)
        if preset is None:
            message = (
                f"spec.metrics.preset: {name!r} is not a metric preset: name one of"
                f" {', '.join(sorted(known))}, or add it to metrics.presets of the OptimizerPolicy"
            )
            unknown = ObservedLoad(LoadState.UNKNOWN, message, cause=UnknownCause.PRESET_NOT_FOUND)
            result.update(dict.fromkeys(chosen, unknown))
            continue
        of_pods = _of_pods(answers[name], chosen, preset, settings, now)
        for key, workload in chosen.items():
            signal = None
            if preset.gateway is not None:
                model = (workload.namespace, workload.model)
                shared = sharing[model] > 1
                signal = gateway_signal(answers[name], model, settings, now, shared=shared)
            result[key] = _whole(of_pods[key], workload, signal, settings)
    return {key: result[key] for key in workloads}


def _whole(
    of_pods: ObservedLoad, workload: Workload, signal: GatewaySignal | None, settings: MetricsSettings
) -> ObservedLoad:
    """What the pods tell and what the gateway tells, if there is one."""
    parked = not workload.ready and workload.replicas == 0
    if signal is not None:
        return parked_load(signal, settings) if parked else with_gateway(of_pods, signal)
    if parked and of_pods.cause is UnknownCause.NO_READY_PODS:
        message = f"it has no replica, and metric preset {workload.preset} reads no gateway that would tell"
        return replace(of_pods, message=message)
    return of_pods


def _of_pods(
    answers: Answers,
    workloads: Mapping[str, Workload],
    preset: MetricPreset,
    settings: MetricsSettings,
    now: float,
) -> dict[str, ObservedLoad]:
    """The load of workloads of one preset, by what their pods report."""
    failed = _failures(answers, _LOAD_QUERIES)
    if failed:
        return dict.fromkeys(
            workloads, ObservedLoad(LoadState.UNKNOWN, _errors(failed), cause=failed[0].cause)
        )
    without_means = _errors(_failures(answers, _MEAN_QUERIES))
    values = by_workload(answers, workloads)
    result = {}
    for key, workload in workloads.items():
        load = _load(_Report(workload, preset, values[key], settings, now))
        if without_means and load.state is not LoadState.UNKNOWN:
            load = replace(load, message="; ".join(filter(None, (load.message, without_means))))
        result[key] = load
    return result


def _failures(answers: Answers, queries: Sequence[Query]) -> list[Answer]:
    return [answers[query] for query in queries if query in answers and answers[query].error]


def _errors(failed: Sequence[Answer]) -> str:
    """The first of the errors, with how many there are: one dead connection fails them all."""
    more = f" (and {len(failed) - 1} more queries)" if len(failed) > 1 else ""
    return f"{failed[0].error}{more}" if failed else ""


def _load(report: _Report) -> ObservedLoad:
    workload, values = report.workload, report.values
    if not workload.ready:
        return ObservedLoad(LoadState.UNKNOWN, "no pod is ready", cause=UnknownCause.NO_READY_PODS)
    reporting, silent = _parted(report)
    if not reporting:
        new = all(_ready_seconds(pod, report) < report.settings.window_seconds / 2 for pod in workload.ready)
        cause, message = _silence(report)
        if new:
            return ObservedLoad(LoadState.STARTING, message)
        return ObservedLoad(LoadState.UNKNOWN, message, cause=cause)
    if not any(pod.name in values[Query.ARRIVALS] for pod in reporting):
        return ObservedLoad(
            LoadState.STARTING,
            f"none of the {len(reporting)} pods that report has a rate of"
            f" {_names(report.preset.completions)} over {report.settings.window_seconds} s yet",
        )
    state, message = _state(report, reporting, silent)
    arrivals = _arrivals(report, reporting, silent) * SECONDS_PER_MINUTE
    output_tokens = _mean(report, Query.OUTPUT_TOKENS_SUM, Query.OUTPUT_TOKENS_COUNT)
    if state is LoadState.OBSERVED and arrivals and output_tokens is None:
        window = report.settings.window_seconds
        message = f"no request has finished in {window} s: token lengths are not known"
    load = ObservedLoad(
        state,
        message,
        arrival_rate=arrivals,
        input_tokens=_input_tokens(report),
        output_tokens=output_tokens,
        itl=_mean(report, Query.ITL_SUM, Query.ITL_COUNT, MS_PER_SECOND),
        ttft=_mean(report, Query.TTFT_SUM, Query.TTFT_COUNT, MS_PER_SECOND),
        in_flight=fsum(values[Query.IN_FLIGHT].values()),
    )
    if absurdity := _absurdity(load, report):
        return ObservedLoad(LoadState.UNKNOWN, absurdity, cause=UnknownCause.ABSURD_VALUE)
    return load


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
    if not _begun(report):
        return LoadState.PARTIAL, f"no pod was sampled as long as {window} s ago: what came then is not known"
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


def _parted(report: _Report) -> tuple[list[ReadyPod], list[ReadyPod]]:
    """The ready pods that report and the others.

    One reports whose gauges are fresh, and whose counters are there once they had the time for a rate.
    """
    sampled, arrivals = report.values[Query.SAMPLED], report.values[Query.ARRIVALS]
    in_flight, window = report.values[Query.IN_FLIGHT], report.settings.window_seconds
    max_age = report.settings.max_age_seconds
    reporting, silent = [], []
    for pod in report.workload.ready:
        name = pod.name
        fresh = name in in_flight and report.now - sampled.get(name, -inf) <= max_age
        if fresh and (name in arrivals or _ready_seconds(pod, report) < window):
            reporting.append(pod)
        else:
            silent.append(pod)
    return reporting, silent


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


def _input_tokens(report: _Report) -> float | None:
    """Mean input tokens of a request whose prefill is paid: without those from the prefix cache.

    At least one of a prompt is always computed.
    """
    mean = _mean(report, Query.INPUT_TOKENS_SUM, Query.INPUT_TOKENS_COUNT)
    shares = report.values[Query.CACHED_SHARE]
    if mean is None or not shares:
        return mean
    totals, counts = report.values[Query.INPUT_TOKENS_SUM], report.values[Query.INPUT_TOKENS_COUNT]
    cached = fsum(
        totals[pod] * share for pod, share in shares.items() if pod in totals and pod in counts and share <= 1
    )
    if not cached > 0:
        return mean
    observations = fsum(counts[pod] for pod in totals.keys() & counts.keys())
    return max(mean - cached / observations, min(mean, 1.0))


def _mean(report: _Report, total: Query, count: Query, scale: float = 1.0) -> float | None:
    totals, counts = report.values[total], report.values[count]
    if totals.keys() != counts.keys():
        pods = totals.keys() & counts.keys()
        totals, counts = {pod: totals[pod] for pod in pods}, {pod: counts[pod] for pod in pods}
    observations = fsum(counts.values())
    return scale * fsum(totals.values()) / observations if observations > 0 else None


def _still(report: _Report, reporting: list[ReadyPod]) -> bool:
    """Whether no counter moved in the window, and all of the window was seen at every pod that reports."""
    progress = report.values[Query.PROGRESS]
    seen = all(pod.name in progress and _covered(pod, report) for pod in reporting)
    return seen and not any(progress.values())


def _begun(report: _Report) -> bool:
    """Whether a pod, one that has gone since perhaps, was there at the beginning of the window.

    What came before the first pod was nowhere to be counted: the rate is spread over a window that it does
    not fill. And what had waited for the pods is worked off at first.
    """
    ready = report.workload.ready
    old = any(_ready_seconds(pod, report) >= report.settings.window_seconds for pod in ready)
    return old or any(report.values[Query.COVERAGE].values())


def _seen_throughout(pod: ReadyPod, report: _Report) -> bool:
    """Whether all of the time that it was ready for in the window was seen.

    A pod is scraped from about when it becomes ready, and what is seen of the window throughout was scraped
    before it.
    """
    window = report.settings.window_seconds
    return _ready_seconds(pod, report) < window + window / SCRAPES_PER_WINDOW or _covered(pod, report)


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


def _silence(report: _Report) -> tuple[UnknownCause, str]:
    """Why no ready pod reports."""
    ready, settings, preset = report.workload.ready, report.settings, report.preset
    sampled = report.values[Query.SAMPLED]
    newest = max((sampled[pod.name] for pod in ready if pod.name in sampled), default=None)
    pods = f"{len(ready)} ready pods, such as {report.workload.namespace}/{ready[0].name}"
    if newest is not None and report.now - newest > settings.max_age_seconds:
        limit = f"metrics.maxAgeSeconds {settings.max_age_seconds}"
        age = f"{report.now - newest:.0f} s old, more than {limit}"
        return UnknownCause.SAMPLES_TOO_OLD, f"the newest sample of {pods}, is {age}"
    missing = f"{_names(preset.running)} and {_names(preset.waiting)}"
    if newest is not None and any(pod.name in report.values[Query.IN_FLIGHT] for pod in ready):
        missing = _names(preset.completions)
    labels = (preset.namespace_label or settings.namespace_label, preset.pod_label or settings.pod_label)
    return UnknownCause.NO_SAMPLES, (
        f"Prometheus has no samples of {missing} of {pods}, under the labels {' and '.join(labels)}"
    )


def _names(series: Sequence[str]) -> str:
    return " or ".join(series)
