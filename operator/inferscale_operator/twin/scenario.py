"""Scenarios: what is served, on what, under which load, and what goes wrong. One YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from inferscale_operator.api.base import ResourceName

Seconds = Annotated[float, Field(ge=0, le=1e9)]
Rate = Annotated[float, Field(ge=0, le=1e7)]
Tokens = Annotated[float, Field(ge=0, le=1e7)]
Cov = Annotated[float, Field(ge=0, le=100)]


class Part(BaseModel):
    """Base of the parts of a scenario: camelCase, no unknown fields, finite numbers."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class RatePoint(Part):
    """The rate at one time."""

    at: Seconds
    """Seconds since the start."""
    rate: Rate
    """Requests per minute."""


class Diurnal(Part):
    """A sine."""

    mean: Rate
    """Requests per minute."""
    amplitude: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the mean by which the rate rises and falls."""
    period: Annotated[float, Field(gt=0, le=1e9)] = 86_400.0
    """Seconds."""
    peak_at: Seconds = 43_200.0
    """Seconds since the start of a peak."""


class Spike(Part):
    """A while in which the rate is a multiple of what it would be."""

    at: Seconds
    """Seconds since the start."""
    seconds: Seconds
    """How long it lasts."""
    factor: Annotated[float, Field(ge=0, le=1000)]
    """What the rate is multiplied by."""


class LoadSpec(Part):
    """Arrivals over time: one of `rate`, `points`, `diurnal` and `trace`."""

    rate: Rate | None = None
    """Requests per minute, constant."""
    points: tuple[RatePoint, ...] | None = Field(default=None, min_length=1)
    """Rates at times; linear in between."""
    step: bool = False
    """Whether each point holds until the next instead."""
    diurnal: Diurnal | None = None
    """A daily wave."""
    trace: str | None = None
    """CSV file with the columns `at` (seconds), `input` and `output` (tokens), one request a line; its path
    is relative to the scenario's folder."""
    spikes: tuple[Spike, ...] = ()
    """Multiplied onto the rate."""
    cov: Cov = 1.0
    """Coefficient of variation of the times between arrivals; 1 is Poisson."""

    KINDS: ClassVar[tuple[str, ...]] = ("rate", "points", "diurnal", "trace")

    @model_validator(mode="after")
    def _one_kind(self) -> LoadSpec:
        given = [name for name in self.KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(self.KINDS)}; given: {', '.join(given) or 'none'}")
        if self.trace is not None and (self.spikes or self.cov != 1.0):
            raise ValueError("a trace has its arrivals: drop spikes and cov")
        _increasing(self.points or ())
        return self


class TokenPoint(Part):
    """Mean token lengths at one time."""

    at: Seconds
    """Seconds since the start."""
    input: Tokens
    """Mean input tokens of a request."""
    output: Annotated[float, Field(ge=1, le=1e7)]
    """Mean output tokens of a request."""


class TokenSpec(Part):
    """Token lengths over time: `input` and `output`, or `points`."""

    input: Tokens | None = None
    """Mean input tokens of a request, constant."""
    output: Annotated[float, Field(ge=1, le=1e7)] | None = None
    """Mean output tokens of a request, constant."""
    points: tuple[TokenPoint, ...] | None = Field(default=None, min_length=1)
    """Means at times; linear in between."""
    step: bool = False
    """Whether each point holds until the next instead."""
    distribution: Literal["exponential", "deterministic", "lognormal"] = "exponential"
    """Distribution about the means."""
    cov: Cov = 1.0
    """Coefficient of variation of `lognormal` lengths."""

    @model_validator(mode="after")
    def _one_kind(self) -> TokenSpec:
        if (self.points is None) == (self.input is None or self.output is None):
            raise ValueError("give input and output, or points")
        _increasing(self.points or ())
        return self


def _increasing(points: Sequence[RatePoint | TokenPoint]) -> None:
    times = [point.at for point in points]
    for before, after in pairwise(times):
        if after <= before:
            raise ValueError(f"points: at {after:g} must come after {before:g}")


class Initial(Part):
    """What serves at the start, all ready."""

    accelerator: ResourceName
    """Name of an accelerator profile."""
    replicas: Annotated[int, Field(ge=0, le=10_000)]
    """Replicas."""
    max_batch: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Batch limit, for a service whose `batch` names where it is written."""


class ServiceSpec(Part):
    """A service: its InferenceService, what it starts with, and its load."""

    name: ResourceName
    """Name of the InferenceService."""
    namespace: ResourceName = "default"
    """Its namespace."""
    spec: Mapping[str, Any] | None = None
    """Spec of the InferenceService; `targetRef` and `mode: Apply` are filled in. None: from `manifests`."""
    initial: Initial
    """What serves at the start."""
    load: LoadSpec
    """Arrivals."""
    tokens: TokenSpec | None = None
    """Token lengths; not with a trace."""

    @model_validator(mode="after")
    def _lengths(self) -> ServiceSpec:
        if (self.tokens is None) == (self.load.trace is None):
            raise ValueError("give tokens, or a load with a trace, which has its own")
        return self


class NodePool(Part):
    """Nodes that are alike."""

    type: Annotated[str, Field(min_length=1)]
    """Type of accelerator, as the profiles name it."""
    count: Annotated[int, Field(ge=0, le=100_000)]
    """Nodes."""
    units: Annotated[int, Field(ge=1, le=1024)] = 8
    """Accelerators of each."""


class StartUp(Part):
    """How long a pod takes from its node to its first request."""

    seconds: Seconds = 120.0
    """Unless said."""
    by_accelerator: Mapping[str, Seconds] = Field(default_factory=dict)
    """By accelerator profile."""


class NodeLoss(Part):
    """A node that goes at once, with what runs on it."""

    kind: Literal["nodeLoss"]
    at: Seconds
    """Seconds since the start."""
    until: Seconds | None = None
    """When it is back; none: never."""
    type: str
    """Type of its accelerators."""
    count: Annotated[int, Field(ge=1)] = 1
    """Nodes that go, the fullest first."""


class MetricOutage(Part):
    """A while in which Prometheus does not answer, or does not scrape."""

    kind: Literal["metricOutage"]
    at: Seconds
    """Seconds since the start."""
    until: Seconds
    """Its end."""
    scrapes: bool = False
    """Whether scrapes are missing; otherwise queries fail."""


class FailingStart(Part):
    """A while in which no new pod of a profile becomes ready, so that a move to it fails."""

    kind: Literal["failingStart"]
    at: Seconds
    """Seconds since the start."""
    until: Seconds
    """Its end."""
    accelerator: str
    """Name of the profile."""
    service: str | None = None
    """`namespace/name`, where it concerns one only."""


Disturbance = Annotated[NodeLoss | MetricOutage | FailingStart, Field(discriminator="kind")]


class Scenario(Part):
    """A whole scenario. Times are seconds since its start."""

    name: str = ""
    """For the title."""
    duration: Annotated[float, Field(gt=0, le=1e8)]
    """Seconds."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Same seed, same requests."""
    scrape_interval: Annotated[float, Field(gt=0, le=300)] = 15.0
    """Seconds between scrapes of a pod."""
    window: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Seconds that the shares of windows within objectives are counted in."""
    routing: Literal["LeastLoaded", "RoundRobin"] = "LeastLoaded"
    """Which ready pod a request goes to."""
    termination_grace: Seconds = 30.0
    """Seconds that a pod which is to go has for the requests that it holds; others start anew elsewhere."""
    manifests: str | None = None
    """Folder of manifests (custom resources in YAML), relative to the scenario's folder."""
    accelerators: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Specs of AcceleratorProfiles by name; `resourceName` is `nvidia.com/gpu` and the node selector the type
    unless said."""
    models: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Specs of ModelProfiles by name; `modelName` is the name unless said."""
    classes: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Specs of ServiceClasses by name."""
    policy: Mapping[str, Any] | None = None
    """Spec of the OptimizerPolicy; none: from `manifests`, or the defaults."""
    nodes: tuple[NodePool, ...] = ()
    """Pools of nodes."""
    capacity: Mapping[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Units by type of accelerator, on one node each that is as large; with neither, there is no limit."""
    start_up: StartUp = StartUp()
    """Start-up of pods."""
    services: tuple[ServiceSpec, ...] = Field(min_length=1)
    """Services."""
    disturbances: tuple[Disturbance, ...] = ()
    """What goes wrong."""
