"""InferenceAllocation: what a service was given and why. Written by the operator only."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field

from inferscale_operator.api.base import ResourceName, Schema
from inferscale_operator.api.constraints import Keyed
from inferscale_operator.api.moves import FailedMove, LastMove, MoveSide, MoveStatus, ScalingUp, StartupTime
from inferscale_operator.api.resource import AGE, Column, Resource


class InferenceAllocationSpec(Schema):
    """Which service it belongs to."""

    service: ResourceName
    """Name of the InferenceService in the same namespace."""


class CandidateStatus(Schema):
    """One accelerator profile that was considered."""

    accelerator: str
    """Name of the AcceleratorProfile."""
    outcome: str
    """`Chosen`, or why it lost."""
    message: str
    """The same for people."""
    replicas: int | None = None
    """Replicas it would have taken."""
    max_batch: int | None = None
    """Batch limit of a replica."""
    cost: float | None = None
    """Cost per hour."""
    itl: float | None = None
    """Predicted mean inter-token latency, ms."""
    ttft: float | None = None
    """Predicted mean time to first token, ms."""


class GateType(StrEnum):
    """What can hold a change back that the optimiser wants."""

    STABILIZATION = "Stabilization"
    """A stabilization window."""
    POLICY = "Policy"
    """What `behavior` says besides: a scaling policy, a tolerance, a direction that is disabled."""
    COOL_DOWN = "CoolDown"
    """The service has moved lately."""
    BUDGET = "Budget"
    """As many services as may move at once do."""
    PAYBACK = "Payback"
    """The move costs more than it saves in its time."""
    APPROVAL = "Approval"
    """Mode Approve: somebody has to agree."""
    ROLLOUT_IN_PROGRESS = "RolloutInProgress"
    """A rollout of somebody else's is under way."""


class GateStatus(Schema):
    """Something that holds a change back at this tick."""

    type: GateType
    """What it is."""
    message: str
    """What waits, for what, and how much of it is left."""
    until: AwareDatetime | None = None
    """When it opens at the earliest, where that is known."""


class AllocationEntry(Schema):
    """What the service has and gets. One entry for now; one for each accelerator later."""

    accelerator: str
    """AcceleratorProfile that this tick asks for, after debounce and what capacity allows."""
    current_accelerator: str | None = None
    """AcceleratorProfile that serves now; none: not recognised."""
    current_replicas: int = 0
    """Replicas that the Deployment asks for now."""
    ready_replicas: int = 0
    """Replicas that serve now."""
    desired_replicas: int = 0
    """Replicas that this tick asks for, after debounce and what capacity allows."""
    target_accelerator: str | None = None
    """AcceleratorProfile that the optimiser wants."""
    target_replicas: int = 0
    """Replicas that the optimiser wants."""
    max_batch: int | None = None
    """Batch limit of a replica."""
    cost: float | None = None
    """Cost per hour of what is wanted."""
    current_cost: float | None = None
    """Cost per hour of what the service has now."""
    predicted_itl: float | None = None
    """Predicted mean inter-token latency, ms."""
    predicted_ttft: float | None = None
    """Predicted mean time to first token, ms."""
    predicted_wait: float | None = None
    """Predicted wait at the class's percentile, ms."""
    utilization: float | None = None
    """Predicted share of the batch that is in use."""
    observed_itl: float | None = None
    """Observed mean inter-token latency, ms."""
    observed_ttft: float | None = None
    """Observed mean time to first token, ms."""
    gates: Annotated[tuple[GateStatus, ...], Field(max_length=16)] = ()
    """What holds back the change from what there is to the target."""


class LoadStatus(Schema):
    """The load that the decision was made for."""

    state: str
    """`Observed`, `Idle`, `Stalled`, `Partial`, `Starting` or `Unknown`."""
    arrival_rate: float | None = None
    """Requests per minute."""
    input_tokens: float | None = None
    """Mean input tokens of a request."""
    output_tokens: float | None = None
    """Mean output tokens of a request."""
    queued: float | None = None
    """Requests that wait at the gateway now; none: there is no gateway, or it does not tell."""
    observed_at: AwareDatetime | None = None
    """When the load was last known."""
    doubted_since: AwareDatetime | None = None
    """Since when Prometheus has told figures that are too far from these to be believed at once; none: it has
    not."""


class ArrivalSample(Schema):
    """What arrived in a window of the metrics that ended in the past."""

    time: AwareDatetime
    """When the window ended."""
    rate: float
    """Requests per minute."""


class Recommendation(Schema):
    """A past decision of the optimiser, kept for the stabilization windows."""

    time: AwareDatetime
    """When it was made."""
    accelerator: str
    """AcceleratorProfile that was wanted."""
    replicas: int
    """Replicas that were wanted."""
    rate: float
    """Rate that they were to serve, requests per minute."""
    max_batch: int | None = None
    """Batch limit that was wanted, where it is managed."""


class AdoptedState(Schema):
    """What a Deployment was when Inferscale was first allowed to patch it."""

    time: AwareDatetime
    """When that was."""
    deployment: str
    """Name of the Deployment."""
    accelerator: str
    """AcceleratorProfile that its pod template asked for."""
    replicas: int
    """Replicas that it asked for."""
    max_batch: int | None = None
    """Batch limit, where it is managed."""
    cost: float
    """Cost per hour of that: what later costs are compared with."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Node selector of its pod template."""


class SavingsStatus(Schema):
    """What was saved against the adopted state since then."""

    total: float = 0.0
    """Sum over the time that was credited of the adopted cost less the cost; negative: it cost more."""
    per_hour: float = 0.0
    """The adopted cost less the cost now, per hour."""
    credited_seconds: float = 0.0
    """Time that the total is made of; gaps are left out."""
    as_of: AwareDatetime | None = None
    """When it was last counted."""


class PendingPlan(Schema):
    """A change that waits for approval."""

    digest: str
    """What the annotation `inferscale.dev/approved` must say to approve exactly this."""
    source: MoveSide = Field(alias="from")
    """What serves now."""
    to: MoveSide
    """What would."""
    since: AwareDatetime
    """When exactly this was first wanted."""
    saving: float
    """Cost per hour that it saves; negative: it costs more."""
    risk: str
    """What it may cost besides, for people."""


class WrittenState(Schema):
    """What was last written to the Deployment: to tell when somebody else changes it back."""

    deployment: str
    """Uid of the Deployment."""
    generation: int
    """Its generation after the write."""
    replicas: int
    """Replicas that were asked for."""
    accelerator: str
    """AcceleratorProfile that the pod template asked for."""


class RevertedField(StrEnum):
    """Part of a Deployment that somebody else changed back."""

    REPLICAS = "replicas"
    TEMPLATE = "template"


class RevertStatus(Schema):
    """A change of somebody else's to what we had written."""

    field: RevertedField
    """What was changed."""
    manager: str
    """Who did it: the field manager on the Deployment."""
    time: AwareDatetime
    """When it was seen."""


class ObjectivesStatus(Schema):
    """The objectives that the decision was made for."""

    priority: int
    """1 = first … 100 = last."""
    itl: float | None = None
    """Mean inter-token latency, ms."""
    ttft: float | None = None
    """Time to first token, ms."""
    ttw: float | None = None
    """Wait, ms."""
    tps: float | None = None
    """Tokens per second."""


class ScaleEvent(Schema):
    """A past change of replicas, kept for the scaling policies."""

    time: AwareDatetime
    """When it was decided."""
    accelerator: str
    """AcceleratorProfile that it led to."""
    before: int
    """Replicas before; after a change of accelerator as many as were worth the same."""
    after: int
    """Replicas that were asked for."""


class UnschedulablePod(Schema):
    """A replica for which no node was found, though accelerators seemed to be free."""

    accelerator: str
    """AcceleratorProfile that it was to run on."""
    pod: str
    """Name of the pod."""
    since: AwareDatetime
    """Since when no node was found."""
    seen: AwareDatetime
    """When it was last so."""


class InferenceAllocationStatus(Schema):
    """What the service was given and why."""

    model: str = ""
    """ModelProfile."""
    service_class: str = ""
    """ServiceClass."""
    mode: str = ""
    """Mode of the service."""
    reason: str = ""
    """One word: why it is as it is."""
    message: str = ""
    """One sentence: why it is as it is."""
    allocations: Annotated[tuple[AllocationEntry, ...], Field(max_length=16), Keyed("accelerator")] = ()
    """What the service has and gets."""
    load: LoadStatus | None = None
    """The load that the decision was made for."""
    binding: str | None = None
    """The constraint that bound the choice."""
    runner_up: str | None = None
    """The next best candidate."""
    candidates: Annotated[tuple[CandidateStatus, ...], Field(max_length=64)] = ()
    """What was considered and why it lost."""
    history: Annotated[tuple[Recommendation, ...], Field(max_length=512)] = ()
    """Past recommendations within the stabilization windows."""
    arrivals: Annotated[tuple[ArrivalSample, ...], Field(max_length=16)] = ()
    """What arrived lately, for the trend of the load."""
    move: MoveStatus | None = None
    """The change of accelerator or batch that is under way."""
    failed_moves: Annotated[tuple[FailedMove, ...], Field(max_length=16)] = ()
    """Moves that were rolled back lately."""
    objectives: ObjectivesStatus | None = None
    """The objectives that the decision was made for."""
    pending_plan: PendingPlan | None = None
    """In mode Approve: what waits for approval."""
    approved_plan: str | None = None
    """Digest of the plan that was carried out last on somebody's approval."""
    adopted: AdoptedState | None = None
    """What the Deployment was when Inferscale was first allowed to patch it."""
    savings: SavingsStatus | None = None
    """What was saved against that."""
    written: WrittenState | None = None
    """What was last written to the Deployment."""
    reverts: Annotated[tuple[RevertStatus, ...], Field(max_length=8)] = ()
    """Changes of others to what we had written, lately."""
    last_move: LastMove | None = None
    """The move that ended last."""
    scaling_up: ScalingUp | None = None
    """The scale-up that is under way; the first one while several follow each other."""
    startup_times: Annotated[tuple[StartupTime, ...], Field(max_length=16), Keyed("accelerator")] = ()
    """What starting took when it was last seen, by profile."""
    scale_events: Annotated[tuple[ScaleEvent, ...], Field(max_length=128)] = ()
    """Past changes of replicas within the periods of the scaling policies."""
    idle_since: AwareDatetime | None = None
    """Since when the service has been idle without a break; none: it is not, or that is not known."""
    unschedulable: Annotated[tuple[UnschedulablePod, ...], Field(max_length=16)] = ()
    """Replicas for which no node was found lately, one of each accelerator."""
    last_decision: AwareDatetime | None = None
    """When the figures were last decided, with known load."""


_ENTRY = ".status.allocations[0]"

INFERENCE_ALLOCATION = Resource(
    kind="InferenceAllocation",
    plural="inferenceallocations",
    short_names=("ifa",),
    namespaced=True,
    spec=InferenceAllocationSpec,
    status=InferenceAllocationStatus,
    columns=(
        Column("Model", ".status.model", "string", "ModelProfile."),
        Column("Class", ".status.serviceClass", "string", "ServiceClass."),
        Column("Accelerator", f"{_ENTRY}.accelerator", "string", "AcceleratorProfile that is asked for."),
        Column("Current", f"{_ENTRY}.currentReplicas", "integer", "Replicas the Deployment asks for now."),
        Column("Desired", f"{_ENTRY}.desiredReplicas", "integer", "Replicas that this tick asks for."),
        Column("Batch", f"{_ENTRY}.maxBatch", "integer", "Batch limit of a replica."),
        Column("Cost/h", f"{_ENTRY}.cost", "number", "Cost per hour of what is wanted."),
        Column("ITL", f"{_ENTRY}.predictedItl", "number", "Predicted mean inter-token latency, ms."),
        Column("Obs-ITL", f"{_ENTRY}.observedItl", "number", "Observed mean inter-token latency, ms."),
        Column("TTFT", f"{_ENTRY}.predictedTtft", "number", "Predicted mean time to first token, ms."),
        Column("Obs-TTFT", f"{_ENTRY}.observedTtft", "number", "Observed mean time to first token, ms."),
        Column("Reason", ".status.reason", "string", "Why it is as it is, in one word."),
        Column(
            "Serving-On",
            f"{_ENTRY}.currentAccelerator",
            "string",
            "AcceleratorProfile that serves now.",
            wide=True,
        ),
        Column("Ready", f"{_ENTRY}.readyReplicas", "integer", "Replicas that serve now.", wide=True),
        Column("Target", f"{_ENTRY}.targetReplicas", "integer", "Replicas the optimiser wants.", wide=True),
        Column("Runner-Up", ".status.runnerUp", "string", "The next best candidate.", wide=True),
        Column("Binding", ".status.binding", "string", "The constraint that bound the choice.", wide=True),
        Column("Load", ".status.load.arrivalRate", "number", "Requests per minute.", wide=True),
        Column("Message", ".status.message", "string", "Why it is as it is, in a sentence.", wide=True),
        AGE,
    ),
)
