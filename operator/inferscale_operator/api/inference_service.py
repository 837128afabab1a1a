"""InferenceService: one model for one class of users, and the Deployment that serves it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from inferscale_operator.api.base import Conditions, ResourceName, RuledSchema, Schema
from inferscale_operator.api.behavior import Behavior
from inferscale_operator.api.constraints import Distinct, Keyed, Rule
from inferscale_operator.api.metric_preset import DEFAULT_PRESET
from inferscale_operator.api.resource import AGE, READY, Column, Resource
from inferscale_operator.api.schedule import ScheduledBounds


class Mode(StrEnum):
    """What the operator may do."""

    RECOMMEND = "Recommend"
    APPROVE = "Approve"
    APPLY = "Apply"
    PAUSED = "Paused"


class BatchMode(StrEnum):
    """Who sets the engine's batch limit."""

    MANAGED = "Managed"
    OBSERVED = "Observed"


class TargetRef(Schema):
    """The workload that serves the model."""

    api_version: Literal["apps/v1"] = "apps/v1"
    """`apps/v1`."""
    kind: Literal["Deployment"] = "Deployment"
    """`Deployment`."""
    name: ResourceName
    """Name of a Deployment in the same namespace."""


class EnvVar(Schema):
    """An environment variable. `{acceleratorCount}` and `{maxBatch}` are filled in."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the variable."""
    value: Annotated[str, Field(max_length=4096)] = ""
    """Value of the variable."""


class Variant(Schema):
    """What a pod needs to run on one accelerator profile."""

    accelerator: ResourceName
    """Name of an AcceleratorProfile."""
    container: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Container that serves the model; none: the only one, or the one that asks for the accelerator."""
    image: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Image of the container; none: unchanged."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64), Keyed("name")] = ()
    """Variables that are set; others stay."""
    args: Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=128)] | None = None
    """Arguments of the container, all of them; none: unchanged. `{acceleratorCount}` (accCount times
    multiplicity) and `{maxBatch}` are filled in."""
    runtime_class_name: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Runtime class of the pod; none: unchanged."""


class Batch(RuledSchema):
    """Who sets the engine's batch limit, and where it is written."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.mode != 'Managed' || has(self.env) || has(self.arg)",
            holds=lambda batch: (
                batch.mode is not BatchMode.MANAGED or batch.env is not None or batch.arg is not None
            ),
            message="mode Managed needs to know where the engine reads its batch limit: give env (such as"
            " MAX_NUM_SEQS) or arg (such as --max-num-seqs)",
            field="mode",
        ),
        Rule(
            cel="!has(self.env) || !has(self.arg)",
            holds=lambda batch: batch.env is None or batch.arg is None,
            message="give env or arg, not both: the engine has one batch limit",
        ),
    )

    mode: BatchMode = BatchMode.OBSERVED
    """`Managed`: the operator sets it along with a move; `Observed`: the engine's own."""
    env: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Environment variable that holds it, such as `MAX_NUM_SEQS`."""
    arg: (
        Annotated[str, Field(min_length=1, max_length=253, pattern=r"^--?[A-Za-z0-9][A-Za-z0-9._-]*$")] | None
    ) = None
    """Argument that holds it, such as `--max-num-seqs`."""


class ServiceMetrics(Schema):
    """How its load is read."""

    preset: Annotated[ResourceName, Field(max_length=63)] = DEFAULT_PRESET
    """Metric preset of its model server: `vllm`, `sglang`, `tgi`, `gateway` (vLLM behind an inference
    gateway), or one of the OptimizerPolicy's `metrics.presets`."""


class ServiceMoves(Schema):
    """How the service may change its accelerator."""

    allow_downtime: StrictBool = False
    """Whether a Deployment with strategy `Recreate` may be moved, though its old replicas go before the new
    ones start."""


def _in_order(spec: InferenceServiceSpec, entry: ScheduledBounds) -> bool:
    least = spec.min_replicas if entry.min_replicas is None else entry.min_replicas
    most = spec.max_replicas if entry.max_replicas is None else entry.max_replicas
    return most is None or least <= most


class InferenceServiceSpec(RuledSchema):
    """One model for one class of users, and the Deployment that serves it."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
            holds=lambda spec: spec.max_replicas is None or spec.min_replicas <= spec.max_replicas,
            message="minReplicas is above maxReplicas: lower it, or raise maxReplicas",
            field="minReplicas",
        ),
        Rule(
            cel="!has(self.schedule) || self.schedule.all(e,"
            " !(has(e.maxReplicas) || has(self.maxReplicas))"
            " || (has(e.minReplicas) ? e.minReplicas : self.minReplicas)"
            " <= (has(e.maxReplicas) ? e.maxReplicas : self.maxReplicas))",
            holds=lambda spec: all(_in_order(spec, entry) for entry in spec.schedule),
            message="an entry's minReplicas is above its maxReplicas (those of the spec where it gives none):"
            " lower it, or raise maxReplicas",
            field="schedule",
        ),
    )

    model: ResourceName
    """Name of a ModelProfile."""
    service_class: ResourceName
    """Name of a ServiceClass."""
    target_ref: TargetRef
    """The Deployment that serves it."""
    variants: Annotated[tuple[Variant, ...], Field(max_length=64), Keyed("accelerator")] = ()
    """What a pod needs, by accelerator profile. A profile with another resource than today's and no variant
    is no candidate."""
    min_replicas: Annotated[StrictInt, Field(ge=0, le=10000)] = 1
    """Replicas that are kept whatever the load. 0 needs a metrics preset with a gateway, which alone can tell
    that requests wait while nothing runs; without one it counts as 1."""
    max_replicas: Annotated[StrictInt, Field(ge=1, le=10000)] | None = None
    """Replicas that are never passed; none: no limit."""
    schedule: Annotated[tuple[ScheduledBounds, ...], Field(max_length=32)] = ()
    """Other bounds at certain times; the first entry whose time it is holds."""
    scale_to_zero_after_seconds: Annotated[StrictInt, Field(ge=0, le=604800)] = 600
    """How long a service must have been idle to go to 0 replicas, seconds; needs `minReplicas: 0`."""
    allowed_accelerators: Annotated[tuple[ResourceName, ...], Field(max_length=64), Distinct()] = ()
    """AcceleratorProfiles that may be used; none: all that the model has data for."""
    weight: Annotated[StrictFloat, Field(gt=0, le=1000)] = 1.0
    """How much it counts among the services of its priority where not all can be served."""
    keep_accelerator: StrictBool = False
    """Whether the accelerator must stay what it is, so that only replicas change."""
    batch: Batch = Batch()
    """Who sets the engine's batch limit."""
    metrics: ServiceMetrics = ServiceMetrics()
    """How its load is read."""
    behavior: Behavior = Behavior()
    """How fast the service follows its recommendations; what is left out comes from the policy."""
    moves: ServiceMoves = ServiceMoves()
    """How the service may change its accelerator."""
    mode: Mode = Mode.RECOMMEND
    """`Recommend` decides and reports and patches nothing; `Apply` patches; `Approve` patches too, while
    changes of the pod template and fewer replicas wait for somebody's approval; `Paused` does neither."""


class InferenceServiceStatus(Schema):
    """What became of the service at the last tick; figures are in its InferenceAllocation."""

    observed_generation: int | None = None
    """Generation that was last read."""
    accelerator: str | None = None
    """AcceleratorProfile that serves it now."""
    replicas: int | None = None
    """Replicas it has now."""
    conditions: Conditions = ()
    """`Ready`, `MetricsAvailable`, `ProfileValid`, `Optimized`, `Applied`, `CapacityLimited`, `SLOAtRisk`,
    `Moving`, `Paused`, `GracePeriodSufficient`."""


INFERENCE_SERVICE = Resource(
    kind="InferenceService",
    plural="inferenceservices",
    short_names=("ifs",),
    namespaced=True,
    spec=InferenceServiceSpec,
    status=InferenceServiceStatus,
    columns=(
        Column("Model", ".spec.model", "string", "ModelProfile."),
        Column("Class", ".spec.serviceClass", "string", "ServiceClass."),
        Column("Mode", ".spec.mode", "string", "What the operator may do."),
        Column("Accelerator", ".status.accelerator", "string", "AcceleratorProfile that serves it now."),
        Column("Replicas", ".status.replicas", "integer", "Replicas it has now."),
        READY,
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "string", "Why."),
        Column("Target", ".spec.targetRef.name", "string", "The Deployment that serves it.", wide=True),
        Column(
            "Message",
            '.status.conditions[?(@.type=="Ready")].message',
            "string",
            "Why, and what to do.",
            wide=True,
        ),
        AGE,
    ),
)
