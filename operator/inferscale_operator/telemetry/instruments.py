"""What is measured and counted while the operator runs, and a registry of all of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0, generate_latest
from prometheus_client.registry import Collector

from inferscale_operator.api.metric_preset import MetricPreset
from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics.queries import Answer, Answers
from inferscale_operator.observe import Metrics
from inferscale_operator.plan import Plan
from inferscale_operator.snapshot import Snapshot
from inferscale_operator.telemetry import families
from inferscale_operator.telemetry.families import SECONDS, Family
from inferscale_operator.telemetry.samples import Sample, samples

CONTENT_TYPE = CONTENT_TYPE_PLAIN_1_0_0


class Telemetry:
    """The metrics of one process. Any thread may use it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._tick = self._histogram(families.TICK)
        self._phase = self._histogram(families.PHASE)
        self._requests = self._counter(families.API_REQUESTS)
        self._request_seconds = self._histogram(families.API_SECONDS)
        self._queries = self._counter(families.QUERIES)
        self._ask = self._histogram(families.QUERIES_SECONDS)
        self._changes = self._counter(families.DECISION_CHANGES)
        self._leader = self._gauge(families.LEADER)
        self._last_tick = self._gauge(families.LAST_TICK)
        self._gauge(families.BUILD).labels(version("inferscale")).set(1)
        self._plan = _LastPlan()
        self.registry.register(self._plan)
        ProcessCollector(registry=self.registry)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a phase of a tick."""
        with self._phase.labels(name).time():
            yield

    @contextmanager
    def tick(self) -> Iterator[None]:
        """Measure a tick that comes to its end."""
        begin = time.monotonic()
        yield
        self._tick.observe(time.monotonic() - begin)
        self._last_tick.set_to_current_time()

    def requested(self, verb: str, kind: str, status: int, seconds: float) -> None:
        """A request to the API server has ended."""
        self._requests.labels(verb, kind, str(status)).inc()
        self._request_seconds.labels(verb).observe(seconds)

    def asked(self, answers: Sequence[Answer], seconds: float) -> None:
        """Prometheus was asked."""
        errors = sum(bool(answer.error) for answer in answers)
        self._queries.labels("error").inc(errors)
        self._queries.labels("ok").inc(len(answers) - errors)
        self._ask.observe(seconds)

    def changed(self, reason: str) -> None:
        """A decision differs from the one before."""
        self._changes.labels(reason).inc()

    def leads(self, leading: bool) -> None:
        """Whether this replica acts."""
        self._leader.set(leading)
        if not leading:
            # The leader tells of its plan.
            self._plan.told = ()

    def planned(self, snapshot: Snapshot, plan: Plan) -> None:
        """There is a new plan: what it does not have any more is gone."""
        self._plan.told = tuple(samples(snapshot, plan))

    def exposition(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self.registry)

    def _counter(self, family: Family) -> Counter:
        return Counter(family.name, family.help, family.labels, registry=self.registry)

    def _gauge(self, family: Family) -> Gauge:
        return Gauge(family.name, family.help, family.labels, registry=self.registry)

    def _histogram(self, family: Family) -> Histogram:
        return Histogram(family.name, family.help, family.labels, registry=self.registry, buckets=SECONDS)


class CountedMetrics:
    """Prometheus, with its queries counted; what went wrong last is kept.

    Args:
        metrics: What is asked.
        telemetry: Where it is counted.
    """

    def __init__(self, metrics: Metrics, telemetry: Telemetry) -> None:
        self._metrics = metrics
        self._telemetry = telemetry
        self.error = ""
        """Of the first query that failed when it was last asked."""

    def ask(
        self, settings: MetricsSettings, presets: Sequence[MetricPreset], time: float
    ) -> Mapping[str, Answers]:
        """Ask every query of some presets as of `time` (Unix seconds)."""
        begin = _now()
        by_preset = self._metrics.ask(settings, presets, time)
        answers = [answer for answers in by_preset.values() for answer in answers.values()]
        self._telemetry.asked(answers, _now() - begin)
        self.error = next((answer.error for answer in answers if answer.error), "")
        return by_preset


class _LastPlan(Collector):
    """Gauges of the last plan."""

    def __init__(self) -> None:
        self.told: tuple[Sample, ...] = ()

    def describe(self) -> Iterator[Metric]:
        return (GaugeMetricFamily(f.name, f.help, labels=f.labels) for f in families.OF_PLAN)

    def collect(self) -> Iterator[Metric]:
        metrics = {f.name: GaugeMetricFamily(f.name, f.help, labels=f.labels) for f in families.OF_PLAN}
        for family, labels, value in self.told:
            metrics[family.name].add_metric(labels, value)
        yield from metrics.values()


def _now() -> float:
    return time.monotonic()
