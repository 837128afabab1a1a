"""AcceleratorProfile: a way to use accelerators, its price and where it is found."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictFloat, StrictInt

from inferscale_operator.api.base import Conditions, NamespaceName, RuledSchema, Schema
from inferscale_operator.api.constraints import Distinct, Rule
from inferscale_operator.api.resource import AGE, READY, Column, Resource

LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
"""Value of a label of a Kubernetes object."""


class Tier(StrEnum):
    """How the accelerators are paid for."""

    OWNED = "Owned"
    RESERVED = "Reserved"
    BURST = "Burst"


class TolerationSchema(RuledSchema):
    """A toleration as in a pod."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.key) && self.key != '' || has(self.operator) && self.operator == 'Exists'",
            holds=lambda toleration: bool(toleration.key) or toleration.operator == "Exists",
            message="a toleration without a key needs operator Exists",
            field="operator",
        ),
        Rule(
            cel="!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
            holds=lambda toleration: toleration.operator != "Exists" or not toleration.value,
            message="a toleration with operator Exists takes no value: drop it, or use operator Equal",
            field="value",
        ),
        Rule(
            cel="!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'",
            holds=lambda toleration: (
                toleration.toleration_seconds is None or toleration.effect == "NoExecute"
            ),
            message="tolerationSeconds needs effect NoExecute",
            field="tolerationSeconds",
        ),
    )

    key: Annotated[str, Field(max_length=316)] | None = None
    """Key of the taint; none with `operator: Exists` tolerates every taint."""
    operator: Literal["Exists", "Equal"] | None = None
    """`Equal` (default) or `Exists`."""
    value: Annotated[str, Field(max_length=253)] | None = None
    """Value of the taint, with `Equal`."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; none: all effects."""
    toleration_seconds: StrictInt | None = None
    """How long a `NoExecute` taint is tolerated, in seconds."""


class PowerSchema(RuledSchema):
    """Power of the whole profile over its utilization, piecewise linear."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.idle <= self.midPower && self.midPower <= self.full",
            holds=lambda power: power.idle <= power.mid_power <= power.full,
            message="power rises with utilization: idle must not be above midPower, nor midPower above full",
            field="midPower",
        ),
    )

    idle: Annotated[StrictFloat, Field(ge=0)]
    """W at utilization 0."""
    full: Annotated[StrictFloat, Field(ge=0)]
    """W at utilization 1."""
    mid_power: Annotated[StrictFloat, Field(ge=0)]
    """W at utilization `midUtil`."""
    mid_util: Annotated[StrictFloat, Field(gt=0, lt=1)]
    """Utilization of the bend, a fraction between 0 and 1."""


class CapacitySchema(RuledSchema):
    """Capacity that is stated rather than counted on nodes."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.fixed) || !has(self.max)",
            holds=lambda capacity: capacity.fixed is None or capacity.max is None,
            message="give fixed (units that exist) or max (units a pool may grow to), not both",
        ),
    )

    fixed: Annotated[StrictInt, Field(ge=0)] | None = None
    """Units of the type that exist, instead of those counted on nodes."""
    max: Annotated[StrictInt, Field(ge=0)] | None = None
    """Units an elastic pool of nodes may grow to; they count as available."""
    headroom: Annotated[StrictInt, Field(ge=0)] = 0
    """Units kept free for rollouts and lost nodes."""


class AcceleratorProfileSpec(Schema):
    """A way to use accelerators: a type, how many of it together, the price and the nodes that have it."""

    type: Annotated[str, Field(min_length=1, max_length=63)]
    """Physical kind that capacity is counted in, such as `H100`."""
    multiplicity: Annotated[StrictInt, Field(ge=1, le=1024)] = 1
    """Units of the type in one profile: `2xA100` has 2."""
    mem_size: Annotated[StrictFloat, Field(gt=0)] | None = None
    """Memory of the whole profile, GB."""
    mem_bw: StrictFloat | None = Field(default=None, gt=0, alias="memBW")
    """Memory bandwidth of the whole profile, GB/s."""
    power: PowerSchema | None = None
    """Power of the whole profile, W."""
    cost: Annotated[StrictFloat, Field(ge=0, le=1_000_000)]
    """Cost per hour of the whole profile, all its units. 0 is valid: hardware that is owned."""
    currency: Annotated[str, Field(max_length=16)] = "USD"
    """Label of the currency; nothing is converted."""
    resource_name: Annotated[
        str, Field(min_length=3, max_length=253, pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")
    ]
    """Extended resource that a pod asks for, such as `nvidia.com/gpu`."""
    node_selector: Annotated[dict[str, LabelValue], Field(min_length=1, max_length=16)]
    """Labels of the nodes that have it, such as `nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3`."""
    tolerations: Annotated[tuple[TolerationSchema, ...], Field(max_length=16)] = ()
    """Tolerations that its pods need on these nodes."""
    capacity: CapacitySchema = CapacitySchema()
    """Capacity that is stated rather than counted."""
    tier: Tier = Tier.OWNED
    """How the accelerators are paid for."""
    allowed_namespaces: Annotated[tuple[NamespaceName, ...], Field(max_length=256), Distinct()] = ()
    """Namespaces whose services may use it; none: all."""


class AcceleratorProfileStatus(Schema):
    """Accelerators of the profile's type as counted at the last tick, in units."""

    capacity: int | None = None
    """Units that exist on ready, schedulable nodes, or as stated."""
    used: int | None = None
    """Units held by pods of InferenceServices."""
    used_by_others: int | None = None
    """Units held by other pods."""
    free: int | None = None
    """Units that nobody holds."""
    not_counted: Annotated[tuple[str, ...], Field(max_length=32)] | None = None
    """Nodes that the profile selects and that do not count, each with the reason."""
    observed_generation: int | None = None
    """Generation that was last read."""
    conditions: Conditions = ()
    """`Ready`: the profile is valid."""


ACCELERATOR_PROFILE = Resource(
    kind="AcceleratorProfile",
    plural="acceleratorprofiles",
    short_names=("accprof",),
    namespaced=False,
    spec=AcceleratorProfileSpec,
    status=AcceleratorProfileStatus,
    columns=(
        Column("Type", ".spec.type", "string", "Physical kind that capacity is counted in."),
        Column("Units", ".spec.multiplicity", "integer", "Units of the type in one profile."),
        Column("Cost/h", ".spec.cost", "number", "Cost per hour of the whole profile."),
        Column("Capacity", ".status.capacity", "integer", "Units of the type that exist."),
        Column("Used", ".status.used", "integer", "Units held by pods of InferenceServices."),
        Column("Free", ".status.free", "integer", "Units that nobody holds."),
        Column("Others", ".status.usedByOthers", "integer", "Units held by other pods.", wide=True),
        Column("Resource", ".spec.resourceName", "string", "Extended resource a pod asks for.", wide=True),
        Column("Tier", ".spec.tier", "string", "How the accelerators are paid for.", wide=True),
        READY,
        AGE,
    ),
)
