"""The load of every service at every step, as the operator would have seen it; what it could not is a gap."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from inferscale_operator.api.metric_preset import MetricPreset
from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.backtest.pull import History
from inferscale_operator.backtest.services import Described, target
from inferscale_operator.backtest.span import Span, moment
from inferscale_operator.metrics.load import loads
from inferscale_operator.metrics.queries import (
    COVERAGE_STEPS,
    GATEWAY_QUERIES,
    SCRAPES_PER_WINDOW,
    Answer,
    Answers,
    Query,
    SampleKey,
)
from inferscale_operator.metrics.workload import ReadyPod, Workload
from inferscale_operator.snapshot import LoadState, ObservedLoad
from inferscale_queueing.frozen import frozen

Floats = NDArray[np.float64]
Owner = tuple[str, str]
"""Namespace and name of a Deployment."""

LONGEST_STEM = 58
"""Of the name of a pod, before the five characters at its end."""
SHOWN_PODS = 3
MOST_HALF_SEEN = 0.1
"""Share of the pods of which a part of a step may be missing."""


@frozen
class Gap:
    """A while in which the load is not known.

    Attributes:
        begin: Unix seconds.
        end: Unix seconds.
        why: What the operator would have said in its middle.
    """

    begin: int
    end: int
    why: str


@frozen(eq=False)
class Profile:
    """What was, by step, shape (steps,); NaN where it is not known.

    Attributes:
        rate: Requests per minute.
        input_tokens: Mean of a request, without what came from a prefix cache.
        output_tokens: Mean of a request.
        itl: Mean inter-token latency, ms.
        ttft: Mean time to first token, ms.
        replicas: Pods, from the first sample of each to its last.
        partial: Steps at which some pods were not seen, and taken to get what the others did.
        gaps: Where the rate is not known.
        notes: What else is not known, in words.
    """

    rate: Floats
    input_tokens: Floats
    output_tokens: Floats
    itl: Floats
    ttft: Floats
    replicas: Floats
    partial: int
    gaps: tuple[Gap, ...]
    notes: tuple[str, ...]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether the rate of a step is known."""
        return ~np.isnan(self.rate)


@frozen
class Fitted:
    """The profiles by key of the service, and which services have none."""

    profiles: Mapping[str, Profile]
    left_out: tuple[str, ...]


def fit(described: Described, history: History) -> Fitted:
    """What the load of every service was.

    At every step the operator's own reading of its queries is asked, with the pods that were there then. A
    step whose samples cover a part of it only is a gap as well: its rate would be too low.
    """
    pods = {key: _Pods({}, {}) for key in described.preset}
    owners = {target(service): service.key for service in described.setting.services}
    for name, values in history.values.items():
        found = _pods(values, history, {o: k for o, k in owners.items() if described.preset[k] == name})
        pods |= found
    seen: dict[str, list[ObservedLoad]] = {key: [] for key in pods}
    for index in range(history.span.count):
        for key, load in _loads(described, history, pods, index).items():
            seen[key].append(load)
    profiles, left_out = {}, []
    for service in described.setting.services:
        key = service.key
        preset = history.presets[described.preset[key]]
        lacking = _lacking(preset, history, pods[key])
        profile = _profile(seen[key], pods[key], history.span, _unmeasured(preset, history, pods[key]))
        why = _unusable(service.key, target(service), profile, lacking, history, preset)
        if why:
            left_out.append(why)
        else:
            profiles[key] = profile
    return Fitted(profiles, tuple(left_out))


@frozen
class _Pods:
    """The pods of a service: first and last step at which each was sampled, by key."""

    lives: Mapping[SampleKey, tuple[int, int]]
    others: Mapping[SampleKey, None]
    """Pods that were never sampled freshly, and have a rate."""

    def at(self, index: int) -> list[SampleKey]:
        """Those that were there."""
        return [key for key, (first, last) in self.lives.items() if first <= index <= last]

    def absent(self, index: int) -> list[SampleKey]:
        """The others: what they received before they went counts too."""
        there = set(self.at(index))
        return [key for key in (*self.lives, *self.others) if key not in there]

    def ready(self, index: int, span: Span) -> tuple[ReadyPod, ...]:
        """Those that were there, since the step that saw them first; those of the first step since ever."""
        firsts = [(key, self.lives[key][0]) for key in self.at(index)]
        return tuple(ReadyPod(key[1], span.time(first) if first else -math.inf) for key, first in firsts)


def _pods(
    values: Mapping[Query, Mapping[SampleKey, Floats]], history: History, owners: Mapping[Owner, str]
) -> dict[str, _Pods]:
    ends = history.span.begin + history.span.step * (1.0 + np.arange(history.span.count))
    lives: dict[str, dict[SampleKey, tuple[int, int]]] = {key: {} for key in owners.values()}
    for pod, sampled in values[Query.SAMPLED].items():
        key = _owner(pod, owners)
        with np.errstate(invalid="ignore"):
            fresh = np.flatnonzero(ends - sampled <= history.settings.max_age_seconds)
        if key is not None and fresh.size:
            lives[key][pod] = (int(fresh[0]), int(fresh[-1]))
    others: dict[str, dict[SampleKey, None]] = {key: {} for key in lives}
    for query, series in values.items():
        for pod in series if query not in GATEWAY_QUERIES else ():
            key = _owner(pod, owners)
            if key is not None and pod not in lives[key]:
                others[key][pod] = None
    return {key: _Pods(lives[key], others[key]) for key in lives}


def _owner(pod: SampleKey, owners: Mapping[Owner, str]) -> str | None:
    """Which service a pod is of, by its name: `<Deployment>-<hash>-<suffix>`, cut to 63 characters."""
    namespace, name = pod
    found = owners.get((namespace, name.rsplit("-", 2)[0])) if name.count("-") >= 2 else None
    if found is None and len(name) > LONGEST_STEM:
        begun = [
            owner
            for owner in owners
            if owner[0] == namespace and name.startswith(f"{owner[1]}-"[:LONGEST_STEM])
        ]
        found = owners[max(begun, key=lambda owner: len(owner[1]))] if begun else None
    return found


def _loads(
    described: Described, history: History, pods: Mapping[str, _Pods], index: int
) -> dict[str, ObservedLoad]:
    """The load of every service at one step."""
    answers: dict[str, Answers] = {
        name: {
            query: Answer({key: float(row[index]) for key, row in series.items() if row[index] == row[index]})
            for query, series in queries.items()
        }
        for name, queries in history.values.items()
    }
    workloads = {
        service.key: Workload(
            namespace=target(service)[0],
            ready=pods[service.key].ready(index, history.span),
            others=tuple(pod[1] for pod in pods[service.key].absent(index)),
            replicas=len(pods[service.key].at(index)),
            preset=described.preset[service.key],
            model=described.model[service.key],
        )
        for service in described.setting.services
    }
    now = history.span.time(index)
    found = loads(answers, workloads, history.settings, now)
    for key, load in found.items():
        of = answers[described.preset[key]]
        stay = {pod[1] for pod in pods[key].at(index) if pods[key].lives[pod][1] > index}
        if load.state is LoadState.PARTIAL and _half_seen(workloads[key], stay, of, history.settings, now):
            found[key] = ObservedLoad(LoadState.UNKNOWN, load.message)
    return found


def _half_seen(
    workload: Workload, stay: Collection[str], answers: Answers, settings: MetricsSettings, now: float
) -> bool:
    """Whether too many of the pods that report were seen in a part of the step: their rates are too low.

    Args:
        workload: Its pods.
        stay: Those that are there later too. Others may have gone within the step, which is all there was of
            them then, but not all at once.
        answers: Of its preset.
        settings: With which Prometheus was asked.
        now: Unix seconds.
    """
    sampled, coverage = answers[Query.SAMPLED].values, answers[Query.COVERAGE].values
    # The operator asks a pod to have been there for so long before it looks at this.
    before = now - settings.window_seconds * (1 + 1 / SCRAPES_PER_WINDOW)
    reporting, half = 0, 0
    for pod in workload.ready:
        key = (workload.namespace, pod.name)
        if now - sampled.get(key, -math.inf) > settings.max_age_seconds or (stay and pod.name not in stay):
            continue
        reporting += 1
        old = pod.ready_since is not None and pod.ready_since <= before
        half += old and coverage.get(key, 0.0) < COVERAGE_STEPS - 2
    return half > MOST_HALF_SEEN * reporting


def _profile(seen: Sequence[ObservedLoad], pods: _Pods, span: Span, notes: tuple[str, ...]) -> Profile:
    def column(name: str) -> Floats:
        values = [getattr(load, name) if load.state.known else None for load in seen]
        return np.array([np.nan if value is None else value for value in values])

    rate = column("arrival_rate")
    replicas = np.array([len(pods.at(index)) for index in range(span.count)], dtype=np.float64)
    # Without a pod a load is known by a gateway alone; otherwise there may have been pods that nobody saw.
    replicas[(replicas == 0) & np.isnan(rate)] = np.nan
    return Profile(
        rate=rate,
        input_tokens=column("input_tokens"),
        output_tokens=column("output_tokens"),
        itl=column("itl"),
        ttft=column("ttft"),
        replicas=replicas,
        partial=sum(load.state is LoadState.PARTIAL for load in seen),
        gaps=tuple(_gaps(np.isnan(rate), seen, span)),
        notes=notes,
    )


def _gaps(unknown: NDArray[np.bool_], seen: Sequence[ObservedLoad], span: Span) -> Iterator[Gap]:
    for missing, steps in groupby(range(span.count), key=lambda index: bool(unknown[index])):
        if missing:
            among = list(steps)
            # At its edges the last samples before it are still there, or the first after it already.
            why = seen[among[len(among) // 2]].message
            yield Gap(span.time(among[0]) - span.step, span.time(among[-1]), why)


def _has(query: Query, pods: _Pods, preset: MetricPreset, history: History) -> bool:
    rows = history.values[preset.name].get(query, {})
    return any(pod in rows for pod in (*pods.lives, *pods.others))


def _lacking(preset: MetricPreset, history: History, pods: _Pods) -> list[str]:
    """The series without which nothing is known and that no pod of a service ever had."""
    lacking = []
    if not _has(Query.SAMPLED, pods, preset, history):
        lacking.append(_or(preset.running))
    if not _has(Query.IN_FLIGHT, pods, preset, history):
        lacking.append(_or(preset.waiting))
    if not _has(Query.ARRIVALS, pods, preset, history):
        lacking.append(_or(preset.completions))
    for query, names in (
        (Query.INPUT_TOKENS_COUNT, preset.input_tokens),
        (Query.OUTPUT_TOKENS_COUNT, preset.output_tokens),
    ):
        if not _has(query, pods, preset, history):
            lacking.append(_or([f"{name}_count" for name in names]) or query.value)
    return lacking


def _unmeasured(preset: MetricPreset, history: History, pods: _Pods) -> tuple[str, ...]:
    """The latencies that no pod of a service ever had."""
    notes = []
    for what, query, names in (
        ("inter-token latency", Query.ITL_COUNT, preset.itl),
        ("time to first token", Query.TTFT_COUNT, preset.ttft),
    ):
        if not _has(query, pods, preset, history):
            of = _or([f"{name}_count" for name in names]) if names else "a series of it in the metric preset"
            notes.append(f"its {what} is not known: Prometheus has no {of} of its pods")
    return tuple(notes)


def _unusable(
    key: str, owner: Owner, profile: Profile, lacking: Sequence[str], history: History, preset: MetricPreset
) -> str:
    """Why a service cannot be tested; empty: it can."""
    span = f"between {moment(history.span.begin)} and {moment(history.span.end)}"
    pods = f"pods {owner[0]}/{owner[1]}-*"
    if lacking:
        return (
            f"{key}: Prometheus has no samples of {', '.join(lacking)} of {pods} {span}"
            f" (metric preset {preset.name}{_there(owner[0], history, preset)})"
        )
    if not profile.known.any():
        why = profile.gaps[0].why if profile.gaps else ""
        return (
            f"{key}: the load of {pods} is not known at any step {span}: {why}: a --step must hold"
            f" {SCRAPES_PER_WINDOW} scrapes"
        )
    if np.nansum(profile.rate) > 0 and np.isnan(profile.output_tokens + profile.input_tokens).all():
        return f"{key}: no request of {pods} has finished {span}: token lengths are not known"
    return ""


def _there(namespace: str, history: History, preset: MetricPreset) -> str:
    """Some pods of a namespace that have been sampled, of a service of another name perhaps."""
    rows = history.values[preset.name][Query.SAMPLED]
    names = sorted(name for space, name in rows if space == namespace)
    if not names:
        return f"; no pod in namespace {namespace} has {_or(preset.running)}"
    more = ", …" if len(names) > SHOWN_PODS else ""
    return f"; it has them of {', '.join(names[:SHOWN_PODS])}{more}"


def _or(names: Sequence[str]) -> str:
    return " or ".join(names)
