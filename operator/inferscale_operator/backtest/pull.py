"""The history in Prometheus, by the operator's own queries: chunk by chunk, and no chunk twice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inferscale_operator.api.metric_preset import MetricPreset
from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.backtest.cache import Asked, Cache, Series
from inferscale_operator.backtest.span import Chunk, Span, moment
from inferscale_operator.metrics.prometheus import Prometheus
from inferscale_operator.metrics.queries import Query, Question, SampleKey, queries
from inferscale_queueing.frozen import frozen

Floats = NDArray[np.float64]

SETTLED_SECONDS = 600
"""What is younger may still come in, and is not kept."""


@frozen
class History:
    """What every query said at every step.

    Attributes:
        span: The steps.
        settings: With which Prometheus was asked: the window is one step, so that nothing counts twice.
        presets: Those that were asked, by name.
        values: By preset, query and key, shape (steps,); NaN where there is no sample.
    """

    span: Span
    settings: MetricsSettings
    presets: Mapping[str, MetricPreset]
    values: Mapping[str, Mapping[Query, Mapping[SampleKey, Floats]]]


@dataclass
class Puller:
    """Asks Prometheus for what the cache does not have.

    Attributes:
        prometheus: Whom to ask.
        cache: What it has said before.
        tenant: Digest of the headers that are sent.
        namespaces: Those whose samples are wanted.
        now: Unix seconds.
        tell: Is told how far it is.
        asked: Queries that were sent.
    """

    prometheus: Prometheus
    cache: Cache
    tenant: str
    namespaces: Collection[str]
    now: float
    tell: Callable[[str], None]
    asked: int = field(default=0, init=False)

    def pull(self, settings: MetricsSettings, presets: Sequence[MetricPreset], span: Span) -> History:
        """Everything that was, at every step.

        Raises:
            HistoryError: Prometheus does not answer, refuses, or leaves something out. What it has said
                before is kept.
            UsageError: the cache cannot be written to.
        """
        self.cache.prepare()
        questions = [
            (preset.name, query, question)
            for preset in presets
            for query, question in queries(preset, settings).items()
        ]
        values: dict[str, dict[Query, dict[SampleKey, Floats]]] = {preset.name: {} for preset in presets}
        for preset, query, _ in questions:
            values[preset][query] = {}
        chunks = list(span.chunks())
        for number, chunk in enumerate(chunks, start=1):
            before = self.asked
            for preset, query, question in questions:
                series = self._chunk(query, question, chunk, span.step)
                self._take(series, values[preset][query], span)
            kept = len(questions) - (self.asked - before)
            self.tell(
                f"Chunk {number} of {len(chunks)}, up to {moment(chunk.end)}: {len(questions)} queries,"
                f" {kept} from the cache"
            )
        return History(span, settings, {preset.name: preset for preset in presets}, values)

    def _chunk(self, query: Query, question: Question, chunk: Chunk, step: int) -> Series:
        about = Asked(self.prometheus.url, self.tenant, question.expression, chunk.begin, chunk.end, step)
        found = self.cache.get(about)
        if found is None:
            self.asked += 1
            found = self.prometheus.ask_history(query, question, chunk.begin, chunk.end, step)
            if chunk.end <= self.now - SETTLED_SECONDS:
                self.cache.put(about, found)
        return found

    def _take(self, series: Series, into: dict[SampleKey, Floats], span: Span) -> None:
        for key, values in series.items():
            if key[0] not in self.namespaces or not values:
                continue
            row = into.setdefault(key, np.full(span.count, np.nan))
            for at, value in values.items():
                row[(at - span.begin) // span.step - 1] = value
