"""What a decision asks for: frozen, to be carried out by `act` or only looked at."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from inferscale_operator.api.accelerator_profile import AcceleratorProfileStatus
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.api.inference_service import InferenceServiceStatus
from inferscale_operator.api.model_profile import ModelProfileStatus
from inferscale_operator.api.optimizer_policy import OptimizerPolicyStatus
from inferscale_operator.api.service_class import ServiceClassStatus
from inferscale_queueing.frozen import frozen


class EventType(StrEnum):
    """Severity of an event."""

    NORMAL = "Normal"
    WARNING = "Warning"


@frozen
class EventNote:
    """An event to be sent once: plans hold one only when something changed."""

    type: EventType
    reason: str
    message: str


@frozen
class ObjectRef:
    """A custom resource."""

    kind: str
    name: str
    uid: str
    namespace: str | None = None


Status = (
    InferenceServiceStatus
    | AcceleratorProfileStatus
    | ModelProfileStatus
    | ServiceClassStatus
    | OptimizerPolicyStatus
)


@frozen
class StatusPlan:
    """The status that a custom resource should have, and events about it."""

    ref: ObjectRef
    status: Status
    events: tuple[EventNote, ...] = ()


@frozen
class DeploymentPatch:
    """A strategic merge patch of a Deployment, guarded by its resourceVersion."""

    namespace: str
    name: str
    resource_version: str
    body: Mapping[str, Any]
    """Without metadata: the writer adds the resourceVersion."""
    summary: str
    """One line for the log."""


@frozen
class ServicePlan:
    """What is to be done for one service, in this order: allocation, Deployment, conditions."""

    service: ObjectRef
    allocation: InferenceAllocationStatus
    status: StatusPlan
    """Of the InferenceService: conditions and events."""
    patch: DeploymentPatch | None = None

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.service.namespace}/{self.service.name}"


@frozen
class OrphanPlan:
    """What is to be done for an allocation whose service is gone."""

    namespace: str
    name: str
    allocation: InferenceAllocationStatus
    patch: DeploymentPatch | None
    release: bool
    """The move is over: the finalizer can go."""


@frozen
class Savings:
    """What is saved against the adopted states, all services together."""

    total: float
    """Since the first adoption; gaps are not credited."""
    per_hour: float
    """Now."""


@frozen
class Plan:
    """A whole decision."""

    time: datetime
    services: tuple[ServicePlan, ...]
    orphans: tuple[OrphanPlan, ...] = ()
    statuses: tuple[StatusPlan, ...] = ()
    """Of the cluster-scoped objects: profiles, classes, the policy."""
    savings: Savings | None = None
    """None: between two ticks, when nothing is counted."""
    gap: float | None = None
    """How far the plan may be from the best one, as a fraction of its cost."""


PLAN = TypeAdapter(Plan)


def dump_plan(plan: Plan) -> bytes:
    """The plan as JSON, the same bytes for the same plan."""
    return PLAN.dump_json(plan, by_alias=True, indent=1)
