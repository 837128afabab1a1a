"""The twin's Prometheus against a real one that holds the same samples, query by query."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

import remote_write
from inferscale_operator.api.metric_preset import MetricPreset
from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics.presets import presets
from inferscale_operator.metrics.prometheus import Prometheus
from inferscale_operator.metrics.queries import GATEWAY_QUERIES, Query
from inferscale_operator.twin.prometheus import answers, compiled
from inferscale_operator.twin.samples import Samples

BEGIN = 1_750_000_000
SCRAPE = 15
SPAN = 1500
SETTINGS = (MetricsSettings(), MetricsSettings(window_seconds=300), MetricsSettings(window_seconds=60))
TIMES = (30, 119, 120, 121.5, 305, 450, 600, 601, 607, 615, 700, 765, 899, 915, 930, 1020, 1215, 1400, 1500)


@dataclass
class Exporter:
    """A pod or a gateway's model: when it is scraped, and what is peculiar to it.

    Attributes:
        name: Name of the pod or the model.
        scraped: Times of its scrapes, seconds since the beginning.
        gone: When it ends, if it does.
        restarts: When its counters start anew.
        newest: Whether it exports the newest name of each metric; otherwise the oldest.
        lacks: Metrics that it does not export.
        moves: Whether anything changes at all.
    """

    name: str
    scraped: list[int] = field(default_factory=lambda: list(range(0, SPAN + 1, SCRAPE)))
    gone: float | None = None
    restarts: tuple[int, ...] = ()
    newest: bool = True
    lacks: tuple[str, ...] = ()
    moves: bool = True


def between(begin: int, end: int) -> list[int]:
    return list(range(begin, end + 1, SCRAPE))


PODS = (
    Exporter("steady"),
    Exporter("still", moves=False),
    Exporter("restarted", restarts=(300, 600, 615)),
    Exporter("came", scraped=between(555, SPAN)),
    Exporter("seen-once", scraped=[600], gone=610.0),
    Exporter("vanished", scraped=between(0, 600), gone=607.0),
    Exporter("forgotten", scraped=between(0, 600)),
    Exporter("with-a-gap", scraped=[*between(0, 450), *between(600, SPAN)]),
    Exporter("with-a-long-gap", scraped=[*between(0, 300), *between(900, SPAN)]),
    Exporter("every-other-scrape", scraped=list(range(0, SPAN + 1, 2 * SCRAPE))),
    Exporter("old", newest=False),
    Exporter("refuses-nothing", lacks=("rejections",)),
    Exporter("without-entries", lacks=("entry_requests",)),
)
MODELS = (
    Exporter("served"),
    Exporter("quiet", moves=False),
    Exporter("never-let-through", lacks=("requests",)),
    Exporter("gone", scraped=between(0, 600), gone=607.0),
    Exporter("older", newest=False, restarts=(600,)),
)
GAUGES = ("running", "waiting", "queue")
HISTOGRAMS = ("input_tokens", "output_tokens", "itl", "ttft")
COUNTERS = (
    *("completions", "rejections", "entry_requests", "prompt_tokens", "generation_tokens"),
    *("prefix_queries", "prefix_hits", "requests"),
)


def names(metrics: object, exporter: Exporter) -> dict[str, bool]:
    """The series that an exporter exports of a preset or its gateway, and whether each is a gauge."""
    found: dict[str, bool] = {}
    for metric in (*GAUGES, *HISTOGRAMS, *COUNTERS):
        series = getattr(metrics, metric, ())
        if series and metric not in exporter.lacks:
            name = series[0 if exporter.newest else -1]
            suffixes = ("_sum", "_count") if metric in HISTOGRAMS else ("",)
            found |= {f"{name}{suffix}": metric in GAUGES for suffix in suffixes}
    return found


class World:
    """The same samples twice: in the twin's store, and as series for a remote write."""

    def __init__(self, preset: MetricPreset) -> None:
        self.series: list[remote_write.Series] = []
        self.pods = self._samples(preset, PODS, {"pod": "{}"}, preset.entry_matchers)
        self.gateway = Samples((), SPAN, BEGIN)
        if preset.gateway is not None:
            labels = {preset.gateway.model_label: "{}", "pod": "epp-1"}
            self.gateway = self._samples(preset.gateway, MODELS, labels, {})

    def _samples(
        self,
        metrics: object,
        exporters: tuple[Exporter, ...],
        labels: dict[str, str],
        more: dict[str, str],
    ) -> Samples:
        columns = sorted({name for each in exporters for name in names(metrics, each)})
        samples = Samples(columns, SPAN + 1, BEGIN)
        stream = np.random.default_rng(7)
        values: dict[str, dict[int, dict[str, float]]] = {}
        for each in exporters:
            values[each.name] = _walk(each, names(metrics, each), stream)
            for name in names(metrics, each):
                points = [(BEGIN + at, row[name]) for at, row in values[each.name].items()]
                if each.gone is not None:
                    points.append((BEGIN + each.gone, remote_write.ENDED))
                own = {key: text.format(each.name) for key, text in labels.items()}
                self.series.append(({"__name__": name, "namespace": "n", **own, **more}, points))
        slots: dict[str, int] = {}
        for at in range(0, SPAN + 1, SCRAPE):
            there = [each for each in exporters if at in values[each.name]]
            for each in exporters:
                if each.gone is not None and at > each.gone and each.name in slots:
                    samples.remove(("n", each.name), each.gone)
                    del slots[each.name]
            for each in there:
                if each.name not in slots:
                    slots[each.name] = samples.add(("n", each.name))
            rows = [[values[each.name][at].get(name, math.nan) for name in columns] for each in there]
            samples.record(at, [slots[each.name] for each in there], rows)
        return samples


def _walk(
    exporter: Exporter, series: dict[str, bool], stream: np.random.Generator
) -> dict[int, dict[str, float]]:
    """Values by time and name: gauges that go up and down, counters that go up and start anew."""
    rows: dict[int, dict[str, float]] = {}
    before = dict.fromkeys(series, 40.0)
    for at in exporter.scraped:
        row = {}
        for name, gauge in series.items():
            step = float(stream.integers(0, 30)) if exporter.moves else 0.0
            if gauge:
                row[name] = step if exporter.moves else 0.0
            else:
                row[name] = step if at in exporter.restarts else before[name] + step
        before = rows[at] = row
    return rows


@pytest.fixture(scope="module", params=["gateway", "sglang", "tgi", "vllm"])
def worlds(
    request: pytest.FixtureRequest, backfilled: Callable[[tuple[str, ...]], str]
) -> Iterator[tuple[MetricPreset, World, Prometheus]]:
    preset = presets(SETTINGS[0])[request.param]
    world = World(preset)
    url = backfilled(())
    remote_write.write(url, world.series)
    client = Prometheus(url)
    yield preset, world, client
    client.close()


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: f"{settings.window_seconds}s")
def test_the_twin_answers_every_query_as_a_real_prometheus_does(
    worlds: tuple[MetricPreset, World, Prometheus], settings: MetricsSettings
) -> None:
    preset, world, client = worlds
    seen: set[Query] = set()
    asked = compiled(preset, settings)
    for at in TIMES:
        real = client.ask(settings, [preset], BEGIN + at)[preset.name]
        said = answers(asked, world.pods, world.gateway, BEGIN + at)
        assert real.keys() == said.keys()
        for query, answer in real.items():
            assert answer.error is None
            assert said[query].values == pytest.approx(answer.values, rel=1e-9, abs=1e-9), (at, query)
            if answer.values:
                seen.add(query)
    assert seen == real.keys()
    assert (set(GATEWAY_QUERIES) <= seen) == (preset.gateway is not None)
