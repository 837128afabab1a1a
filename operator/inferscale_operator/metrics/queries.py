"""The questions that Prometheus is asked: a fixed number, each answered for all pods at once.

The names are those of vLLM 0.12 and later. Every query is `rate` (or another function of one series) first
and `sum by (namespace, pod)` after it, since a sum of counters cannot tell that one of them started anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from inferscale_operator.api.optimizer_policy import MetricsSettings

PodKey = tuple[str, str]
"""Namespace and name of a pod."""


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
    is none in its first quarter."""
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


COVERAGE_STEPS = 5
"""Steps that the window is cut into to see whether it was sampled throughout."""

IN_FLIGHT_METRICS = ("vllm:num_requests_running", "vllm:num_requests_waiting")

_HISTOGRAMS = {
    (Query.INPUT_TOKENS_SUM, Query.INPUT_TOKENS_COUNT): "vllm:request_prompt_tokens",
    (Query.OUTPUT_TOKENS_SUM, Query.OUTPUT_TOKENS_COUNT): "vllm:request_generation_tokens",
    (Query.ITL_SUM, Query.ITL_COUNT): "vllm:inter_token_latency_seconds",
    (Query.TTFT_SUM, Query.TTFT_COUNT): "vllm:time_to_first_token_seconds",
}
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True)
class Answer:
    """What Prometheus said to one query.

    Attributes:
        values: by namespace and pod; finite. A pod that is missing has no sample.
        error: why there is no answer, naming the query; None when there is one.
    """

    values: Mapping[PodKey, float] = field(default_factory=dict)
    error: str | None = None


Answers = Mapping[Query, Answer]
"""One answer to every query."""


def queries(settings: MetricsSettings) -> dict[Query, str]:
    """The PromQL of every query.

    Arrivals follow from conservation: what came is what was finished, plus what was refused, plus what there
    is more of in the engine. `delta` is taken for the last term, as it counts over the same samples and
    extrapolates in the same way as `rate`: the sum is then the number of arrivals in the window over its
    length, also for a pod that was there for a part of it. (A slope, `deriv`, is taken over that part only
    and counts too much.)
    """
    matchers = _matchers(settings)
    window = f"{settings.window_seconds}s"
    # A step of whole milliseconds: the shortest windows have steps below a second.
    steps = f"{window}:{settings.window_seconds * 1000 // COVERAGE_STEPS}ms"
    running, waiting = (f"{metric}{matchers}" for metric in IN_FLIGHT_METRICS)
    # Where samples begin later, after an outage of Prometheus perhaps, `rate` spreads what came in a part of
    # the window over all of it.
    first_quarter = f"timestamp({running} offset {settings.window_seconds * 750}ms)"
    begun = f"{first_quarter} > bool (time() - {settings.window_seconds})"

    def aggregate(operator: str, expression: str) -> str:
        return f"{operator} by ({settings.namespace_label}, {settings.pod_label}) ({expression})"

    def rate(metric: str) -> str:
        return aggregate("sum", f"rate({metric}{matchers}[{window}])")

    def in_flight(function: str, selection: str = "") -> str:
        return " + ".join(
            aggregate("sum", f"{function}({gauge}{selection})" if function else gauge)
            for gauge in (running, waiting)
        )

    finished = rate("vllm:request_success_total")
    # Servers that refuse nothing need not have this counter.
    refused = f"({rate('vllm:admission_rejections_total')} or 0 * {finished})"
    growth = f"({in_flight('delta', f'[{window}]')}) / {settings.window_seconds}"
    result = {
        Query.ARRIVALS: f"clamp_min({finished} + {refused} + {growth}, 0)",
        Query.IN_FLIGHT: in_flight(""),
        Query.PEAK_IN_FLIGHT: in_flight("max_over_time", f"[{window}]"),
        Query.PROGRESS: " + ".join(
            (finished, rate("vllm:generation_tokens_total"), rate("vllm:prompt_tokens_total"))
        ),
        # The oldest of a pod's engines: a pod whose engines do not all report does not report.
        Query.SAMPLED: aggregate("min", f"timestamp({running})"),
        Query.COVERAGE: aggregate("min", f"changes(timestamp({running})[{steps}]) * ({begun})"),
    }
    for (total, count), metric in _HISTOGRAMS.items():
        result[total] = rate(f"{metric}_sum")
        result[count] = rate(f"{metric}_count")
    return result


def _matchers(settings: MetricsSettings) -> str:
    # A series without its pod belongs to no service.
    present = [f'{settings.namespace_label}!=""', f'{settings.pod_label}!=""']
    equal = [f'{label}="{value.translate(_ESCAPES)}"' for label, value in sorted(settings.matchers.items())]
    return "{" + ",".join(present + equal) + "}"
