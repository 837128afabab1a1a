"""OptimizerPolicy: how the cluster is optimised. Without one the defaults hold."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from inferscale_operator.api.base import Conditions, RuledSchema, Schema
from inferscale_operator.api.behavior import Behavior
from inferscale_operator.api.constraints import Keyed, Rule
from inferscale_operator.api.limits import SHED_LIMIT, AcceleratorQuota, Budget, QuotaStatus, ShedStatus
from inferscale_operator.api.metric_preset import (
    BUILT_IN_PRESETS,
    LabelName,
    Matchers,
    MetricPreset,
    label_rule,
)
from inferscale_operator.api.resource import AGE, Column, Resource
from inferscale_solver.problem import SaturationPolicy, Solver, TailRule

POLICY_NAME = "default"
"""The one OptimizerPolicy that is accepted for now."""


class Accelerators(StrEnum):
    """Whether accelerators are taken as limited."""

    LIMITED = "Limited"
    UNLIMITED = "Unlimited"


class MetricsSettings(RuledSchema):
    """How Prometheus is asked."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        label_rule("matchers", "matchers"),
        Rule(
            cel="self.namespaceLabel != self.podLabel",
            holds=lambda metrics: metrics.namespace_label != metrics.pod_label,
            message="namespaceLabel and podLabel are the same label: name two",
            field="podLabel",
        ),
        Rule(
            cel="!has(self.presets) || self.presets.all(p,"
            " (has(p.namespaceLabel) ? p.namespaceLabel : self.namespaceLabel)"
            " != (has(p.podLabel) ? p.podLabel : self.podLabel))",
            holds=lambda metrics: all(
                (preset.namespace_label or metrics.namespace_label) != (preset.pod_label or metrics.pod_label)
                for preset in metrics.presets
            ),
            message="namespaceLabel and podLabel of a preset are the same label: name two",
            field="presets",
        ),
        Rule(
            cel=f"!has(self.presets) || !self.presets.exists(p, p.name in {list(BUILT_IN_PRESETS)})",
            holds=lambda metrics: all(preset.name not in BUILT_IN_PRESETS for preset in metrics.presets),
            message=f"a preset has the name of a built-in one ({', '.join(BUILT_IN_PRESETS)}): rename it",
            field="presets",
        ),
    )

    window_seconds: Annotated[StrictInt, Field(ge=4, le=3600)] = 120
    """Window of rates and means; at least four scrape intervals."""
    max_age_seconds: Annotated[StrictInt, Field(ge=1, le=3600)] = 90
    """A newest sample older than this is unknown."""
    namespace_label: LabelName = "namespace"
    """Label that holds a pod's namespace."""
    pod_label: LabelName = "pod"
    """Label that holds a pod's name."""
    matchers: Matchers = Field(default_factory=dict)
    """Labels that every series must carry, such as `cluster: west`."""
    presets: Annotated[tuple[MetricPreset, ...], Field(max_length=16), Keyed("name")] = ()
    """Names of what other model servers export, beside the built-in presets `vllm`, `sglang`, `tgi` and
    `gateway`."""


class MoveSettings(Schema):
    """How changes of accelerator are made."""

    bring_up_timeout_seconds: Annotated[StrictInt, Field(ge=1, le=86400)] = 1800
    """Time for the new replicas to become ready, after which the move is rolled back."""
    retry_after_seconds: Annotated[StrictInt, Field(ge=0, le=86400)] = 1800
    """How long a profile on which a move failed is left out for that service."""
    payback_seconds: Annotated[StrictInt, Field(ge=0, le=31_536_000)] = 3600
    """Time in which a move must save what it costs to hold both allocations while the new replicas start.
    A move that the objectives require is not held back by it."""
    startup_seconds: Annotated[StrictInt, Field(ge=0, le=86400)] = 300
    """Seconds that starting is taken to last where it was not seen and the ModelProfile does not say: for
    moves, and for loads that rise."""
    cool_down_seconds: Annotated[StrictInt, Field(ge=0, le=86400)] = 600
    """How long a service stays where it is after a move that was completed or rolled back, unless the
    objectives require a move."""
    max_concurrent: Annotated[StrictInt, Field(ge=1, le=10000)] = 5
    """Services that may move at once in the cluster."""


class OwnershipSettings(Schema):
    """What is done when somebody else changes a Deployment back."""

    revert_window_seconds: Annotated[StrictInt, Field(ge=1, le=86400)] = 1800
    """Two changes back within this time are no accident."""
    back_off_seconds: Annotated[StrictInt, Field(ge=0, le=86400)] = 1800
    """How long what was changed back twice is left to whoever did it; 0: not at all."""


class SafetySettings(Schema):
    """What makes the operator doubt what it counted."""

    unschedulable_after_seconds: Annotated[StrictInt, Field(ge=1, le=86400)] = 300
    """How long a replica may be unschedulable, seconds; after that its service is given no more accelerators
    of that type than its replicas run on. Longer than a pool takes to grow."""
    unschedulable_retry_after_seconds: Annotated[StrictInt, Field(ge=0, le=86400)] = 1800
    """How long that is remembered when the replica is gone, seconds."""


class OptimizerPolicySpec(Schema):
    """How the cluster is optimised."""

    tick_seconds: Annotated[StrictInt, Field(ge=1, le=3600)] = 30
    """Seconds between decisions."""
    accelerators: Accelerators = Accelerators.LIMITED
    """Whether the accelerators on the nodes limit the plan, or as many are assumed as are wanted."""
    solver: Solver = Solver.AUTO
    """How limited accelerators are shared: Greedy at once, Exact as well as can be, Auto the better of both
    within a bounded amount of work."""
    saturation_policy: SaturationPolicy = SaturationPolicy.PRIORITY_EXHAUSTIVE
    """How left-over accelerators go to services that cannot be served within their objectives."""
    delayed_best_effort: StrictBool = False
    """Whether left-overs are given out once at the end, rather than after each priority."""
    transition_penalty: Annotated[StrictFloat, Field(ge=0, le=10)] = 0.1
    """Share of the cost of the old and the new allocation that a change of accelerator must save."""
    keep_threshold: Annotated[StrictFloat, Field(ge=0, le=1)] = 0.0
    """Share of the cost of the current allocation by which another must be better to take its place."""
    budget: Budget = Budget()
    """What all services may cost together."""
    quotas: Annotated[tuple[AcceleratorQuota, ...], Field(max_length=256)] = ()
    """Units of a type that the services of a namespace or a class may take together."""
    load_headroom: Annotated[StrictFloat, Field(ge=0, le=10)] = 0.0
    """Share of the arrivals that is planned for beyond them, for loads that rise faster than a replica
    starts: at 0.25, for 125 requests where 100 arrive."""
    load_trend: StrictBool = True
    """Whether a load that rises by more than its noise is planned for as it will be by the time that a new
    replica can serve, at most as twice what arrives."""
    tail_rule: TailRule = TailRule.EXACT
    """How percentiles of the wait are predicted."""
    behavior: Behavior = Behavior()
    """Behaviour of services that have none of their own."""
    metrics: MetricsSettings = MetricsSettings()
    """How Prometheus is asked."""
    moves: MoveSettings = MoveSettings()
    """How changes of accelerator are made."""
    ownership: OwnershipSettings = OwnershipSettings()
    """What is done when somebody else changes a Deployment back."""
    safety: SafetySettings = SafetySettings()
    """What makes the operator doubt what it counted."""


class OptimizerPolicyStatus(Schema):
    """The last tick."""

    last_tick: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    """When the last decision was made, RFC 3339."""
    total_cost: float | None = None
    """Cost per hour of what the services hold now."""
    target_cost: float | None = None
    """Cost per hour of the plan."""
    saved_total: float | None = None
    """What was saved against what the services were when they were adopted; gaps are not credited."""
    saved_per_hour: float | None = None
    """What is saved now against that, per hour."""
    services: int | None = None
    """Services that were decided."""
    unserved: int | None = None
    """Services that the plan cannot serve within their objectives."""
    unserved_by_priority: dict[str, int] | None = None
    """The same by priority, of the services that were decided by the solver."""
    unserved_bound: dict[str, int] | None = None
    """Services that no plan can serve, by priority, with the earlier priorities served as they are."""
    gap: float | None = None
    """How far the plan may be from the best one, as a fraction of its cost."""
    lower_bound: float | None = None
    """Value (cost and transition penalty, per hour) below which no plan is that serves as much."""
    burst_cost: float | None = None
    """Cost per hour of the plan on accelerators of tier Burst."""
    placement_cost: float | None = None
    """What it costs per hour that replicas must fit on single nodes, where nodes are counted."""
    stopped: str | None = None
    """Why the solver stopped early, if it did: the plan may then differ from machine to machine."""
    prices: dict[str, float] | None = None
    """What one more unit of each type of accelerator would save, per hour."""
    shed: Annotated[tuple[ShedStatus, ...], Field(max_length=SHED_LIMIT)] = ()
    """Services that the budget or a quota leaves without their objectives, the last priority first: in this
    order they were shed."""
    shed_count: int | None = None
    """How many they are; no more than 64 are named."""
    quotas: Annotated[tuple[QuotaStatus, ...], Field(max_length=256)] = ()
    """What the target takes of each quota."""
    power: float | None = None
    """What the plan is predicted to draw, W, on profiles whose power is known."""
    observed_generation: int | None = None
    """Generation that was last read."""
    conditions: Conditions = ()
    """`Ready`: the policy is in force."""


OPTIMIZER_POLICY = Resource(
    kind="OptimizerPolicy",
    plural="optimizerpolicies",
    short_names=("optpolicy",),
    namespaced=False,
    spec=OptimizerPolicySpec,
    status=OptimizerPolicyStatus,
    columns=(
        Column("Tick", ".spec.tickSeconds", "integer", "Seconds between decisions."),
        Column("Cost/h", ".status.totalCost", "number", "Cost per hour of what the services hold now."),
        Column("Target-Cost/h", ".status.targetCost", "number", "Cost per hour of the plan."),
        Column("Saved/h", ".status.savedPerHour", "number", "Saved per hour against the adopted state."),
        Column("Saved", ".status.savedTotal", "number", "Saved since adoption.", wide=True),
        Column("Services", ".status.services", "integer", "Services that were decided."),
        Column("Unserved", ".status.unserved", "integer", "Services that cannot be served."),
        Column("Gap", ".status.gap", "number", "Distance from the best plan, a fraction.", wide=True),
        Column("Last-Tick", ".status.lastTick", "date", "Time since the last decision."),
        AGE,
    ),
    only_name=POLICY_NAME,
)
