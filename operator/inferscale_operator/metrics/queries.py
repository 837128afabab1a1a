"""The questions that Prometheus is asked: a fixed number for each preset, each answered for all pods at once.

Every query is `rate` (or another function of one series) first and `sum by (namespace, pod)` after it, since
a sum of counters cannot tell that one of them started anew. Names of series and labels come from presets and
are names only; values of labels are escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from enum import StrEnum

from inferscale_operator.api.metric_preset import GatewaySeries, MetricPreset
from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.snapshot import UnknownCause
from inferscale_queueing.frozen import frozen

SampleKey = tuple[str, str]
"""Namespace and name of a pod; for queries of a gateway, namespace and name of a model."""


class Query(StrEnum):
    """What is asked. Rates are per second, over the window."""

    ARRIVALS = "arrivals"
    """Requests that came, per second."""
    IN_FLIGHT = "requests in flight"
    """Requests that run or wait now."""
    PEAK_IN_FLIGHT = "peak of requests in flight"
    """At least the most requests that ran or waited at any time of the window."""
    PROGRESS = "progress"
    """Finished requests and tokens per second: zero only when the engine did nothing that it counts."""
    SAMPLED = "time of the newest sample"
    """Unix seconds."""
    COVERAGE = "coverage of the window"
    """How many of the window's steps after the first brought a new sample, see `COVERAGE_STEPS`; 0 when there
    is none from shortly before the window."""
    CACHED_SHARE = "share of input tokens from the prefix cache"
    """Between 0 and 1."""
    INPUT_TOKENS_SUM = "sum of input tokens"
    INPUT_TOKENS_COUNT = "count of input tokens"
    OUTPUT_TOKENS_SUM = "sum of output tokens"
    OUTPUT_TOKENS_COUNT = "count of output tokens"
    ITL_SUM = "sum of inter-token latency"
    """Seconds."""
    ITL_COUNT = "count of inter-token latency"
    TTFT_SUM = "sum of time to first token"
    """Seconds."""
    TTFT_COUNT = "count of time to first token"
    GATEWAY_ARRIVALS = "arrivals at the gateway"
    """Requests that came to the gateway and were not refused by it, per second."""
    GATEWAY_QUEUE = "queue of the gateway"
    """Requests that wait in the gateway now."""
    GATEWAY_PEAK_QUEUE = "peak of the gateway's queue"
    """The most requests that waited in the gateway at any time of the window."""
    GATEWAY_SAMPLED = "time of the gateway's newest sample"
    """Unix seconds."""


GATEWAY_QUERIES = (
    Query.GATEWAY_ARRIVALS,
    Query.GATEWAY_QUEUE,
    Query.GATEWAY_PEAK_QUEUE,
    Query.GATEWAY_SAMPLED,
)

COVERAGE_STEPS = 5
"""Steps that the window is cut into to see whether it was sampled throughout."""
SCRAPES_PER_WINDOW = 4
"""Scrapes that a window holds at least."""

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@frozen
class Question:
    """One query.

    Attributes:
        expression: in PromQL.
        labels: those of its answer that make the key of a sample.
    """

    expression: str
    labels: tuple[str, str]


@frozen
class Answer:
    """What Prometheus said to one query.

    Attributes:
        values: by namespace and pod (or model); finite. One that is missing has no sample.
        error: why there is no answer, naming the query; None when there is one.
        cause: the kind of the error.
    """

    values: Mapping[SampleKey, float] = field(default_factory=dict)
    error: str | None = None
    cause: UnknownCause = UnknownCause.QUERY_FAILED


Answers = Mapping[Query, Answer]
"""One answer to every query of a preset."""


def queries(preset: MetricPreset, settings: MetricsSettings) -> dict[Query, Question]:
    """What is asked for a preset; questions about series that it does not name are not asked.

    Arrivals are read from a counter of requests as they come. Where a pod has none they follow from
    conservation: what came is what was finished, plus what was refused, plus what there is more of in the
    engine. `delta` is taken for the last term, as it counts over the same samples and extrapolates in the
    same way as `rate`: the sum is then the number of arrivals in the window over its length, also for a pod
    that was there for a part of it. (A slope, `deriv`, is taken over that part only and counts too much.)
    """
    series = _engine_series(preset, settings)
    expressions = _engine(preset, settings, series)
    asked = {query: Question(text, series.labels) for query, text in expressions.items()}
    if preset.gateway is not None:
        series = _gateway_series(preset, preset.gateway, settings)
        expressions = _gateway(preset.gateway, settings, series)
        asked |= {query: Question(text, series.labels) for query, text in expressions.items()}
    return asked


@frozen
class _Series:
    """How series are selected, and what they are put together by."""

    labels: tuple[str, str]
    matchers: Mapping[str, str]
    ranks: Sequence[str]
    window: str

    def combined(
        self,
        names: Sequence[str],
        operator: str,
        function: Callable[[str], str],
        matchers: Mapping[str, str] | None = None,
    ) -> str:
        """A function of each series, put together by the labels; of several names the first that is there."""
        each = []
        for name in names:
            expression = function(f"{name}{self._selector(matchers or {})}")
            each.append(f"{operator} by ({', '.join(self.labels)}) ({expression})")
        return each[0] if len(each) == 1 else f"({' or '.join(each)})"

    def rate(self, names: Sequence[str], matchers: Mapping[str, str] | None = None) -> str:
        """Of counters, per second."""
        return self.combined(names, "sum", lambda series: f"rate({series}[{self.window}])", matchers)

    def gauge(self, names: Sequence[str], function: str = "") -> str:
        """Of gauges: their value now, or a function of the window."""

        def once(series: str) -> str:
            value = f"{function}({series}[{self.window}])" if function else series
            return f"max without ({', '.join(self.ranks)}) ({value})" if self.ranks else value

        return self.combined(names, "sum", once)

    def _selector(self, more: Mapping[str, str]) -> str:
        # A series without its pod belongs to no service.
        present = [f'{label}!=""' for label in self.labels]
        values = sorted({**self.matchers, **more}.items())
        equal = [f'{label}="{value.translate(_ESCAPES)}"' for label, value in values]
        return "{" + ",".join(present + equal) + "}"


def _engine_series(preset: MetricPreset, settings: MetricsSettings) -> _Series:
    return _Series(
        labels=(
            preset.namespace_label or settings.namespace_label,
            preset.pod_label or settings.pod_label,
        ),
        matchers={**settings.matchers, **preset.matchers},
        ranks=preset.rank_labels,
        window=f"{settings.window_seconds}s",
    )


def _gateway_series(preset: MetricPreset, gateway: GatewaySeries, settings: MetricsSettings) -> _Series:
    namespace = gateway.namespace_label or preset.namespace_label or settings.namespace_label
    return _Series(
        labels=(namespace, gateway.model_label),
        matchers={**settings.matchers, **gateway.matchers},
        ranks=(),
        window=f"{settings.window_seconds}s",
    )


def _engine(preset: MetricPreset, settings: MetricsSettings, series: _Series) -> dict[Query, str]:
    window_ms = settings.window_seconds * 1000
    # A step of whole milliseconds: the shortest windows have steps below a second.
    steps = f"{series.window}:{window_ms // COVERAGE_STEPS}ms"
    # Where samples begin later, after an outage of Prometheus perhaps, `rate` spreads what came in a part of
    # the window over all of it. A scrape before the window shows that they do not.
    longest_ms = window_ms // SCRAPES_PER_WINDOW

    def covered(running: str) -> str:
        before = f"timestamp({running} offset {series.window})"
        begun = f"{before} > bool (time() - {(window_ms + longest_ms) / 1000:g})"
        return f"changes(timestamp({running})[{steps}]) * ({begun})"

    finished = series.rate(preset.completions)
    arrivals = f"{finished} + "
    if preset.rejections:
        # Servers that refuse nothing need not have this counter.
        arrivals += f"({series.rate(preset.rejections)} or 0 * {finished}) + "
    growth = f"{series.gauge(preset.running, 'delta')} + {series.gauge(preset.waiting, 'delta')}"
    arrivals = f"clamp_min({arrivals}({growth}) / {settings.window_seconds}, 0)"
    if preset.entry_requests:
        arrivals = f"{series.rate(preset.entry_requests, preset.entry_matchers)} or {arrivals}"
    counters = (preset.completions, preset.generation_tokens, preset.prompt_tokens)
    result = {
        Query.ARRIVALS: arrivals,
        Query.IN_FLIGHT: f"{series.gauge(preset.running)} + {series.gauge(preset.waiting)}",
        Query.PEAK_IN_FLIGHT: " + ".join(
            series.gauge(names, "max_over_time") for names in (preset.running, preset.waiting)
        ),
        Query.PROGRESS: " + ".join(series.rate(names) for names in counters if names),
        # The oldest of a pod's engines: a pod whose engines do not all report does not report.
        Query.SAMPLED: series.combined(preset.running, "min", lambda running: f"timestamp({running})"),
        Query.COVERAGE: series.combined(preset.running, "min", covered),
    }
    if preset.prefix_queries and preset.prefix_hits:
        hits, looked_up = series.rate(preset.prefix_hits), series.rate(preset.prefix_queries)
        result[Query.CACHED_SHARE] = f"{hits} / {looked_up}"
    for total, count, names in (
        (Query.INPUT_TOKENS_SUM, Query.INPUT_TOKENS_COUNT, preset.input_tokens),
        (Query.OUTPUT_TOKENS_SUM, Query.OUTPUT_TOKENS_COUNT, preset.output_tokens),
        (Query.ITL_SUM, Query.ITL_COUNT, preset.itl),
        (Query.TTFT_SUM, Query.TTFT_COUNT, preset.ttft),
    ):
        if names:
            result[total] = series.rate([f"{name}_sum" for name in names])
            result[count] = series.rate([f"{name}_count" for name in names])
    return result


def _gateway(gateway: GatewaySeries, settings: MetricsSettings, series: _Series) -> dict[Query, str]:
    admitted = series.rate(gateway.requests)
    growth = f"{series.gauge(gateway.queue, 'delta')} / {settings.window_seconds}"
    return {
        # It counts requests when it lets them through: those that wait are missing there, and so is the
        # counter of a model that it has let nothing through to yet.
        Query.GATEWAY_ARRIVALS: f"clamp_min(({admitted} or 0 * {growth}) + {growth}, 0)",
        Query.GATEWAY_QUEUE: series.gauge(gateway.queue),
        Query.GATEWAY_PEAK_QUEUE: series.gauge(gateway.queue, "max_over_time"),
        Query.GATEWAY_SAMPLED: series.combined(gateway.queue, "min", lambda queue: f"timestamp({queue})"),
    }
