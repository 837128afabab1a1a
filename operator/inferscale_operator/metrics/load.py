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
    SCRAPES_PER_WINDOW,
    Answer,
    Answers,
    Query,
)
from inferscale_operator.metrics.workload import POD_QUERIES, ByQuery, Figures, Workload, by_workload
from inferscale_operator.snapshot import LoadState, ObservedLoad, UnknownCause
from inferscale_queueing.frozen import frozen

MS_PER_SECOND = 1000.0
MAX_ARRIVAL_RATE = 1e7
"""Requests per minute; what is above is an error of the metrics."""
MAX_TOKENS = 1e7
"""Tokens of a request, likewise."""
MAX_LATENCY = 1e8
"""Milliseconds (about a day), likewise."""

# Without the first nothing can be said; without the others only tokens or latency are missing.
_NEEDED = POD_QUERIES.index(Query.COVERAGE) + 1
_LOAD_QUERIES, _MEAN_QUERIES = POD_QUERIES[:_NEEDED], POD_QUERIES[_NEEDED:]

_Column = tuple[float | None, ...]
_SILENT: Figures = ByQuery._make(None for _ in POD_QUERIES)
_NO_COLUMNS: ByQuery[_Column] = ByQuery._make(() for _ in POD_QUERIES)


@frozen
class _Report:
    """What the pods of one workload report.

    Attributes:
        workload: the workload.
        preset: its preset.
        pods: by name of the pod, those that have gone too.
        columns: the same by query, in the same order.
        negative: places of the queries of the load that some pod, its own or another, answers below zero.
        settings: with which Prometheus was asked.
        now: Unix seconds.
    """

    workload: Workload
    preset: MetricPreset
    pods: Mapping[str, Figures]
    columns: ByQuery[_Column]
    negative: Sequence[int]
    settings: MetricsSettings
    now: float


@frozen
class _Ready:
    """A ready pod."""

    name: str
    seconds: float
    """How long it has been ready. If that is not known: long enough to be missed, too short to count on."""
    figures: Figures


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
    negative = [
        place
        for place, query in enumerate(_LOAD_QUERIES)
        if query in answers and min(answers[query].values.values(), default=0.0) < 0
    ]
    result = {}
    for key, pods in by_workload(answers, workloads).items():
        columns = ByQuery._make(zip(*pods.values(), strict=True)) if pods else _NO_COLUMNS
        load = _load(_Report(workloads[key], preset, pods, columns, negative, settings, now))
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
    workload, columns, window = report.workload, report.columns, report.settings.window_seconds
    if not workload.ready:
        return ObservedLoad(LoadState.UNKNOWN, "no pod is ready", cause=UnknownCause.NO_READY_PODS)
    reporting, silent = _parted(report)
    if not reporting:
        cause, message = _silence(report)
        if all(pod.seconds < window / 2 for pod in silent):
            return ObservedLoad(LoadState.STARTING, message)
        return ObservedLoad(LoadState.UNKNOWN, message, cause=cause)
    if all(pod.figures.arrivals is None for pod in reporting):
        return ObservedLoad(
            LoadState.STARTING,
            f"none of the {len(reporting)} pods that report has a rate of"
            f" {_names(report.preset.completions)} over {window} s yet",
        )
    state, message = _state(report, reporting, silent)
    arrivals = _arrivals(report, reporting, silent) * SECONDS_PER_MINUTE
    output_tokens = _mean(columns.output_tokens_sum, columns.output_tokens_count)
    if state is LoadState.OBSERVED and arrivals and output_tokens is None:
        message = f"no request has finished in {window} s: token lengths are not known"
    load = ObservedLoad(
        state,
        message,
        arrival_rate=arrivals,
        input_tokens=_input_tokens(report),
        output_tokens=output_tokens,
        itl=_mean(columns.itl_sum, columns.itl_count, MS_PER_SECOND),
        ttft=_mean(columns.ttft_sum, columns.ttft_count, MS_PER_SECOND),
        in_flight=fsum(_known(columns.in_flight)),
    )
    if absurdity := _absurdity(load, report):
        return ObservedLoad(LoadState.UNKNOWN, absurdity, cause=UnknownCause.ABSURD_VALUE)
    return load


def _state(report: _Report, reporting: list[_Ready], silent: list[_Ready]) -> tuple[LoadState, str]:
    columns, window = report.columns, report.settings.window_seconds
    # Two scrapes have passed in half a window: a pod that has just become ready is no reason for doubt.
    overdue = [pod.name for pod in silent if pod.seconds >= window / 2]
    if overdue:
        return LoadState.PARTIAL, (
            f"{len(overdue)} of {len(report.workload.ready)} ready pods do not report, such as {min(overdue)}"
        )
    half_seen = [pod.name for pod in reporting if not _seen_throughout(pod, window)]
    if half_seen:
        return LoadState.PARTIAL, (
            f"{len(half_seen)} of {len(report.workload.ready)} ready pods were sampled in a part of the last "
            f"{window} s only, such as {min(half_seen)}"
        )
    if not _begun(report, reporting, silent):
        return LoadState.PARTIAL, f"no pod was sampled as long as {window} s ago: what came then is not known"
    if not _still(report, reporting):
        return LoadState.OBSERVED, ""
    in_flight = fsum(_known(columns.in_flight))
    if in_flight > 0:
        return LoadState.STALLED, (
            f"{in_flight:g} requests are running or waiting and none made progress in {window} s"
        )
    peaks = all(pod.figures.peak_in_flight is not None for pod in reporting)
    if not silent and peaks and not any(columns.peak_in_flight):
        return LoadState.IDLE, f"no request in {window} s"
    return LoadState.OBSERVED, ""


def _parted(report: _Report) -> tuple[list[_Ready], list[_Ready]]:
    """The ready pods that report and the others.

    One reports whose gauges are fresh, and whose counters are there once they had the time for a rate.
    """
    now, window = report.now, report.settings.window_seconds
    max_age = report.settings.max_age_seconds
    reporting, silent = [], []
    for pod in report.workload.ready:
        figures = report.pods.get(pod.name, _SILENT)
        seconds = window / 2 if pod.ready_since is None else now - pod.ready_since
        sampled_s = -inf if figures.sampled is None else figures.sampled
        fresh = figures.in_flight is not None and now - sampled_s <= max_age
        if fresh and (figures.arrivals is not None or seconds < window):
            reporting.append(_Ready(pod.name, seconds, figures))
        else:
            silent.append(_Ready(pod.name, seconds, figures))
    return reporting, silent


def _arrivals(report: _Report, reporting: list[_Ready], silent: list[_Ready]) -> float:
    """Requests per second at all pods; a silent one is taken to get what the others get.

    Only pods that have been ready for the whole window count for that, on both sides. The share of the others
    has not shown yet: were a burst of new pods multiplied by what an old one received before them, the load
    would seem many times what it is, and more pods be asked for.
    """
    window = report.settings.window_seconds
    shares = [pod.figures.arrivals or 0.0 for pod in reporting if pod.seconds >= window]
    unseen = {pod.name for pod in silent if pod.seconds >= window}
    if not shares or not unseen:
        return fsum(_known(report.columns.arrivals))
    seen = fsum(pod.arrivals or 0.0 for name, pod in report.pods.items() if name not in unseen)
    return seen + len(unseen) * fsum(shares) / len(shares)


def _input_tokens(report: _Report) -> float | None:
    """Mean input tokens of a request whose prefill is paid: without those from the prefix cache.

    At least one of a prompt is always computed.
    """
    columns = report.columns
    mean = _mean(columns.input_tokens_sum, columns.input_tokens_count)
    if mean is None or not any(columns.cached_share):
        return mean
    cached = fsum(
        pod.input_tokens_sum * pod.cached_share
        for pod in report.pods.values()
        if pod.input_tokens_sum is not None
        and pod.input_tokens_count is not None
        and pod.cached_share is not None
        and pod.cached_share <= 1
    )
    if not cached > 0:
        return mean
    _, counts = _both(columns.input_tokens_sum, columns.input_tokens_count)
    return max(mean - cached / fsum(counts), min(mean, 1.0))


def _mean(totals: _Column, counts: _Column, scale: float = 1.0) -> float | None:
    sums, numbers = _both(totals, counts)
    observations = fsum(numbers)
    return scale * fsum(sums) / observations if observations > 0 else None


def _both(totals: _Column, counts: _Column) -> tuple[Sequence[float], Sequence[float]]:
    """Of the pods that have both."""
    if None in totals or None in counts:
        pairs = [pair for pair in zip(totals, counts, strict=True) if None not in pair]
        totals, counts = tuple(total for total, _ in pairs), tuple(count for _, count in pairs)
    return totals, counts  # type: ignore[return-value]


def _still(report: _Report, reporting: list[_Ready]) -> bool:
    """Whether no counter moved in the window, and all of the window was seen at every pod that reports."""
    seen = all(pod.figures.progress is not None and _covered(pod) for pod in reporting)
    return seen and not any(report.columns.progress)


def _begun(report: _Report, reporting: list[_Ready], silent: list[_Ready]) -> bool:
    """Whether a pod, one that has gone since perhaps, was there at the beginning of the window.

    What came before the first pod was nowhere to be counted: the rate is spread over a window that it does
    not fill. And what had waited for the pods is worked off at first.
    """
    window = report.settings.window_seconds
    return any(report.columns.coverage) or any(pod.seconds >= window for pod in (*reporting, *silent))


def _seen_throughout(pod: _Ready, window: float) -> bool:
    """Whether all of the time that it was ready for in the window was seen.

    A pod is scraped from about when it becomes ready, and what is seen of the window throughout was scraped
    before it.
    """
    return pod.seconds < window + window / SCRAPES_PER_WINDOW or _covered(pod)


def _covered(pod: _Ready) -> bool:
    # One of the steps after the first may be without: the interval of scrapes can be longer than a step.
    return (pod.figures.coverage or 0) >= COVERAGE_STEPS - 2


def _known(column: Sequence[float | None]) -> Sequence[float]:
    return [value for value in column if value is not None]


def _absurdity(load: ObservedLoad, report: _Report) -> str:
    """What cannot be true of the figures, in words; empty when they can be."""
    for place in report.negative:
        for name, pod in report.pods.items():
            value = pod[place] or 0.0
            if value < 0:
                return f"pod {name}: {POD_QUERIES[place].value} is {value:g}; it cannot be negative"
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
    figures = [report.pods[pod.name] for pod in ready if pod.name in report.pods]
    newest = max(_known([each.sampled for each in figures]), default=None)
    pods = f"{len(ready)} ready pods, such as {report.workload.namespace}/{ready[0].name}"
    if newest is not None and report.now - newest > settings.max_age_seconds:
        limit = f"metrics.maxAgeSeconds {settings.max_age_seconds}"
        age = f"{report.now - newest:.0f} s old, more than {limit}"
        return UnknownCause.SAMPLES_TOO_OLD, f"the newest sample of {pods}, is {age}"
    missing = f"{_names(preset.running)} and {_names(preset.waiting)}"
    if newest is not None and any(each.in_flight is not None for each in figures):
        missing = _names(preset.completions)
    labels = (preset.namespace_label or settings.namespace_label, preset.pod_label or settings.pod_label)
    return UnknownCause.NO_SAMPLES, (
        f"Prometheus has no samples of {missing} of {pods}, under the labels {' and '.join(labels)}"
    )


def _names(series: Sequence[str]) -> str:
    return " or ".join(series)
