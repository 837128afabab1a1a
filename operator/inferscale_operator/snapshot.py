"""Everything a decision is made from, at one moment: frozen, with the time in it, and nothing else.

A snapshot turns into JSON and back without loss, so a decision can be made again offline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter

from inferscale_operator.api.accelerator_profile import AcceleratorProfileSpec
from inferscale_operator.api.base import Condition
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.api.inference_service import InferenceServiceSpec
from inferscale_operator.api.model_profile import ModelProfileSpec
from inferscale_operator.api.optimizer_policy import OptimizerPolicySpec
from inferscale_operator.api.service_class import ServiceClassSpec
from inferscale_queueing.frozen import frozen

Spec = TypeVar("Spec", bound=BaseModel)


class PolicyState(StrEnum):
    """Where the settings in force come from."""

    IN_FORCE = "InForce"
    """The OptimizerPolicy, or the defaults where there is none."""
    KEPT = "Kept"
    """The OptimizerPolicy cannot be used: what it said before."""
    HELD = "Held"
    """It cannot be used, and what it said before is not known: the load of no service counts as known."""


@frozen
class Resource(Generic[Spec]):
    """A custom resource as it was read. `spec` is None when it cannot be used; `error` then says why."""

    name: str
    uid: str
    generation: int
    spec: Spec | None
    error: str = ""
    namespace: str | None = None
    conditions: tuple[Condition, ...] = ()
    """Conditions in its status now."""


class LoadState(StrEnum):
    """What is known of the load of a service."""

    OBSERVED = "Observed"
    IDLE = "Idle"
    """Fresh engine gauges, nothing running or waiting over the whole window, counters still."""
    STALLED = "Stalled"
    """Requests are running or waiting and the counters stand still."""
    PARTIAL = "Partial"
    """Some of the ready pods report, and what they say was scaled up to all of them; or a part of the window
    was not seen."""
    UNKNOWN = "Unknown"
    STARTING = "Starting"
    """Unknown since the pods have only just begun: they report, and have no rates yet."""
    NOT_ASKED = "NotAsked"
    """Prometheus was not asked: the snapshot is only good to take moves further."""

    @property
    def known(self) -> bool:
        """Whether there is a load to decide for."""
        return self in _KNOWN


_KNOWN = (LoadState.OBSERVED, LoadState.IDLE, LoadState.PARTIAL)


class UnknownCause(StrEnum):
    """Why a load is unknown."""

    QUERY_FAILED = "QueryFailed"
    ANSWER_INCOMPLETE = "AnswerIncomplete"
    """A backend that asks others said that something is missing."""
    POLICY_INVALID = "PolicyInvalid"
    """How Prometheus is to be asked is not known: see `PolicyState.HELD`."""
    PRESET_NOT_FOUND = "MetricPresetNotFound"
    NO_READY_PODS = "NoReadyPods"
    NO_SAMPLES = "NoSamples"
    SAMPLES_TOO_OLD = "SamplesTooOld"
    ABSURD_VALUE = "AbsurdValue"
    SUDDEN_JUMP = "SuddenJump"
    """A figure is a thousand times what it was last known to be, or a thousandth."""


@frozen
class ObservedLoad:
    """Load and latency of a service as Prometheus has it. Figures are None when not known."""

    state: LoadState
    message: str = ""
    """Why it is not simply observed: for people, with the query that failed."""
    arrival_rate: float | None = None
    """Requests per minute."""
    input_tokens: float | None = None
    """Mean input tokens of a request."""
    output_tokens: float | None = None
    """Mean output tokens of a request."""
    itl: float | None = None
    """Mean inter-token latency, ms."""
    ttft: float | None = None
    """Mean time to first token, ms."""
    queued: float | None = None
    """Requests that wait in front of the service, at its gateway."""
    in_flight: float | None = None
    """Requests that run and wait at its pods."""
    cause: UnknownCause | None = None
    """Why the state is `Unknown`."""
    doubted_since: datetime | None = None
    """Since when the figures have been too far from the last known ones to be believed at once."""


@frozen
class TaintState:
    """A taint that keeps pods away from a node."""

    key: str
    effect: str
    """`NoSchedule` or `NoExecute`."""
    value: str = ""


@frozen
class NodeState:
    """A node that has accelerators, or should by its labels."""

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, int]
    """Extended resources only (`nvidia.com/gpu`)."""
    usable: bool
    """Ready and schedulable."""
    taints: tuple[TaintState, ...] = ()
    """Those that pods need a toleration for."""
    cordoned: bool = False
    """Not schedulable."""


@frozen
class PodState:
    """A pod that asks for accelerators or belongs to a Deployment in play, and has not finished."""

    namespace: str
    name: str
    deployment: str | None
    """Deployment that it belongs to, by its ReplicaSet."""
    node: str | None
    requests: Mapping[str, int]
    """Extended resources only."""
    ready: bool
    terminating: bool
    unschedulable_since: datetime | None = None
    """Since when the scheduler has found no node for it; None: it has, or has not tried."""


@frozen
class ReplicaSetState:
    """A ReplicaSet of a Deployment."""

    name: str
    revision: int
    desired: int
    """Pods it should have (spec)."""
    replicas: int
    """Pods it has (status)."""
    ready: int


@frozen
class DeploymentState:
    """A Deployment that an InferenceService names."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    observed_generation: int
    revision: int
    """Of its newest ReplicaSet, from its annotation; 0 before the first."""
    replicas: int
    """Replicas that are asked for."""
    ready_replicas: int
    paused: bool
    strategy: Mapping[str, Any]
    pod_spec: Mapping[str, Any]
    """Of the pod template: nodeSelector, tolerations, runtimeClassName and, of each container, name, image,
    args, resources and those variables (with plain values) that a variant or the batch setting names."""
    replica_sets: tuple[ReplicaSetState, ...] = ()
    controller: str | None = None
    """`kind/name` of a controlling owner, such as a KServe object."""
    template_hash: str = ""
    """Of the whole pod template."""
    template_writer: str = ""
    """Field manager, other than ours, that wrote to the pod template last."""
    paused_by_us: bool = False
    """Whether it is paused and our field manager did it."""
    autoscaler: str | None = None
    """Name of a HorizontalPodAutoscaler (KEDA makes one too) that scales it."""
    writers: Mapping[str, str] = field(default_factory=dict)
    """Field manager other than ours that wrote last, by part: `replicas`, `template`."""
    grace_seconds: int | None = None
    """Time that its pods get to end, `terminationGracePeriodSeconds`; None: not recorded."""


@frozen
class ServiceState:
    """An InferenceService with all that belongs to it."""

    resource: Resource[InferenceServiceSpec]
    load: ObservedLoad
    deployment: DeploymentState | None = None
    allocation: InferenceAllocationStatus | None = None
    """What was recorded at earlier ticks."""
    approved: str = ""
    """Digest of the plan that somebody approves; empty: none."""
    lacks_label: str = ""
    """Label (`key=value`) without which nothing in its namespace may be changed; empty: none lacks."""

    @cached_property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.resource.namespace}/{self.resource.name}"


@frozen
class OrphanState:
    """An InferenceAllocation with a move or our finalizer, whose InferenceService is gone or going."""

    namespace: str
    name: str
    allocation: InferenceAllocationStatus
    deployment: DeploymentState | None
    lacks_label: str = ""
    """Label without which nothing in its namespace may be changed; empty: none lacks."""


@frozen
class Snapshot:
    """The world at `time` (with a time zone)."""

    time: datetime
    policy: OptimizerPolicySpec = field(default_factory=OptimizerPolicySpec)
    accelerator_profiles: tuple[Resource[AcceleratorProfileSpec], ...] = ()
    model_profiles: tuple[Resource[ModelProfileSpec], ...] = ()
    service_classes: tuple[Resource[ServiceClassSpec], ...] = ()
    policies: tuple[Resource[OptimizerPolicySpec], ...] = ()
    """As read; `policy` is what is in force."""
    policy_state: PolicyState = PolicyState.IN_FORCE
    services: tuple[ServiceState, ...] = ()
    orphans: tuple[OrphanState, ...] = ()
    nodes: tuple[NodeState, ...] = ()
    pods: tuple[PodState, ...] = ()
    all_pods: bool = True
    """Whether the pods of the whole cluster were read; else only those in the namespaces of the services."""
    saved: float | None = None
    """What was saved up to the last tick, all services together; None: not known."""


SNAPSHOT = TypeAdapter(Snapshot)


def dump_snapshot(snapshot: Snapshot) -> bytes:
    """The snapshot as JSON, the same bytes for the same snapshot."""
    return SNAPSHOT.dump_json(snapshot, by_alias=True, indent=1)


def load_snapshot(data: bytes) -> Snapshot:
    """A snapshot from its JSON.

    Raises:
        pydantic.ValidationError: the JSON is not a snapshot.
    """
    return SNAPSHOT.validate_json(data)
