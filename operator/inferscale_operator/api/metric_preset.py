"""Metric presets: under which names model servers and gateways export what is asked of them."""

from __future__ import annotations

from re import fullmatch
from typing import Annotated, ClassVar

from pydantic import Field

from inferscale_operator.api.base import ResourceName, RuledSchema
from inferscale_operator.api.constraints import Rule

BUILT_IN_PRESETS = ("gateway", "sglang", "tgi", "vllm")
"""Names of the presets that are always there."""
DEFAULT_PRESET = "vllm"
"""The preset of a service that names none."""

LABEL_NAME = r"^[a-zA-Z_][a-zA-Z0-9_]*$"
"""Name of a Prometheus label."""
LabelName = Annotated[str, Field(pattern=LABEL_NAME, max_length=128)]
Matchers = Annotated[dict[str, Annotated[str, Field(max_length=1024)]], Field(max_length=16)]
"""Values by label that a series must carry."""
SeriesName = Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$", max_length=200)]
"""Name of a Prometheus metric: a name only, never an expression."""
OptionalSeries = Annotated[tuple[SeriesName, ...], Field(max_length=4)]
"""Names of one metric, from the newest to the oldest: of each pod the first that it exports counts."""
RequiredSeries = Annotated[tuple[SeriesName, ...], Field(min_length=1, max_length=4)]


def label_rule(field: str, wire: str) -> Rule:
    """The rule that the keys of a field of matchers are names of labels."""
    return Rule(
        cel=f"!has(self.{wire}) || self.{wire}.all(label, label.matches('{LABEL_NAME}'))",
        holds=lambda spec: all(fullmatch(LABEL_NAME, label) for label in getattr(spec, field)),
        message=f"a key of {wire} is no Prometheus label name: letters, digits and _, no digit first",
        field=wire,
    )


class GatewaySeries(RuledSchema):
    """What a gateway in front of the model servers exports, joined with services by namespace and model."""

    RULES: ClassVar[tuple[Rule, ...]] = (label_rule("matchers", "matchers"),)

    requests: RequiredSeries
    """Counter of requests that it let through."""
    queue: RequiredSeries
    """Gauge of requests that wait in it. It is what wakes a service at zero replicas."""
    model_label: LabelName = "target_model_name"
    """Label that holds the model's name, as `modelName` of the ModelProfile has it."""
    namespace_label: LabelName | None = None
    """Label that holds the namespace of gateway and services; none: that of the preset."""
    matchers: Matchers = Field(default_factory=dict)
    """Labels that every series of the gateway must carry, beside those of `metrics.matchers`."""


class MetricPreset(RuledSchema):
    """Names of what one kind of model server exports; of several names the first that a pod has counts."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        label_rule("matchers", "matchers"),
        label_rule("entry_matchers", "entryMatchers"),
    )

    name: Annotated[ResourceName, Field(max_length=63)]
    """Name by which services choose it."""
    matchers: Matchers = Field(default_factory=dict)
    """Labels that every series of the pods must carry, beside those of `metrics.matchers`."""
    namespace_label: LabelName | None = None
    """Label that holds a pod's namespace; none: `metrics.namespaceLabel`."""
    pod_label: LabelName | None = None
    """Label that holds a pod's name; none: `metrics.podLabel`."""
    rank_labels: Annotated[tuple[LabelName, ...], Field(max_length=8)] = ()
    """Labels that tell apart ranks of which each exports the same gauges: these are counted once."""
    running: RequiredSeries
    """Gauge of requests that run."""
    waiting: RequiredSeries
    """Gauge of requests that wait in the engine."""
    completions: RequiredSeries
    """Counter of requests that finished."""
    rejections: OptionalSeries = ()
    """Counter of requests that were refused. A pod that refuses nothing need not have it."""
    entry_requests: OptionalSeries = ()
    """Counter of requests that counts them as they come. Where a pod has it arrivals are read from it;
    elsewhere they follow from completions, refusals and the change of what runs and waits."""
    entry_matchers: Matchers = Field(default_factory=dict)
    """Labels that the series of `entryRequests` must carry, such as `method: POST`."""
    input_tokens: OptionalSeries = ()
    """Histogram of the input tokens of a request, without `_sum` or `_count`."""
    output_tokens: OptionalSeries = ()
    """Histogram of the output tokens of a request."""
    prompt_tokens: OptionalSeries = ()
    """Counter of input tokens. It shows progress while no request finishes."""
    generation_tokens: OptionalSeries = ()
    """Counter of output tokens. It shows progress while no request finishes."""
    prefix_queries: OptionalSeries = ()
    """Counter of input tokens that were looked up in the prefix cache."""
    prefix_hits: OptionalSeries = ()
    """Counter of input tokens that were found there: their prefill is not paid and is no load."""
    itl: OptionalSeries = ()
    """Histogram of inter-token latency, seconds."""
    ttft: OptionalSeries = ()
    """Histogram of the time to first token, seconds."""
    gateway: GatewaySeries | None = None
    """What the gateway in front of the servers exports; none: there is no gateway, or it tells nothing."""
