"""The product in the twin: its own observe, decide and advance on the simulated cluster and Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from inferscale_operator.api.base import Condition
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.api.optimizer_policy import POLICY_NAME, OptimizerPolicySpec
from inferscale_operator.decide import advance, decide
from inferscale_operator.kube.parse import AllocationRecord, CustomRecord, ReplicaSetRecord
from inferscale_operator.kube.stores import Key, World
from inferscale_operator.observe import observe
from inferscale_operator.plan import Plan, StatusPlan
from inferscale_operator.recorder import Recorder
from inferscale_operator.snapshot import DeploymentState, Resource
from inferscale_operator.twin.cluster import Cluster
from inferscale_operator.twin.history import Decision, History
from inferscale_operator.twin.prometheus import SimulatedPrometheus
from inferscale_operator.twin.resources import Setting
from inferscale_operator.twin.samples import Samples

BETWEEN_STEPS_S = 1.0
_SERVICE = "InferenceService"


@dataclass
class Product:
    """The operator: observes and decides at every tick, and takes moves further in between."""

    setting: Setting
    policy: OptimizerPolicySpec
    cluster: Cluster
    samples: Samples
    gateway: Samples
    history: History
    recorder: Recorder | None = None
    next_s: float = 0.0
    _tick_s: float = 0.0
    _seen: int = -1
    _allocations: dict[str, InferenceAllocationStatus] = field(default_factory=dict)
    _moving: set[str] = field(default_factory=set)
    """Services in a move."""
    _statuses: dict[tuple[str, Key], Sequence[Condition]] = field(default_factory=dict)
    _originals: dict[tuple[str, Key], Resource[Any]] = field(default_factory=dict)
    _customs: dict[str, dict[Key, CustomRecord[Any]]] = field(default_factory=dict)
    """Custom resources as they are now, by kind."""
    _records: dict[Key, AllocationRecord] = field(default_factory=dict)
    _deployments: dict[Key, DeploymentState] = field(default_factory=dict)
    _replica_sets: dict[str, dict[Key, ReplicaSetRecord]] = field(default_factory=dict)
    _marks: dict[str, int] = field(default_factory=dict)
    """By key of the service, the mark of its Deployment when it was looked at."""
    _saved: float | None = None
    _prometheus: SimulatedPrometheus = field(init=False)

    def __post_init__(self) -> None:
        self._prometheus = SimulatedPrometheus(self.setting, self.samples, self.gateway)
        for kind in ("AcceleratorProfile", "ModelProfile", "ServiceClass"):
            self._originals |= {(kind, ("", each.name)): each for each in self.setting.resources[kind]}
        for service in self.setting.services:
            self._originals[_SERVICE, _key(service.key)] = service.resource
        for (kind, key), resource in self._originals.items():
            self._customs.setdefault(kind, {})[key] = CustomRecord(resource, deleting=False)

    def act(self, now_s: float) -> None:
        """Decide, or take the moves further."""
        seen = self.cluster.version
        if now_s >= self._tick_s:
            self._tick_s = now_s + self.policy.tick_seconds
            snapshot = observe(self._world(), self.cluster.moment(now_s), self._prometheus)
            plan = decide(snapshot)
            self._saved = plan.savings.total if plan.savings is not None else self._saved
            if self.recorder is not None:
                self.recorder.save(snapshot, plan)
            self._apply(plan, now_s, decided=True)
        elif self._moving and seen != self._seen:
            snapshot = observe(self._world(), self.cluster.moment(now_s), None)
            self._apply(advance(snapshot), now_s, decided=False)
        self._seen = seen
        self.next_s = self._tick_s
        self.wake(now_s)

    def wake(self, now_s: float) -> None:
        """Go on with the moves soon, now that the cluster may have changed."""
        if self._moving and self.cluster.version != self._seen:
            self.next_s = min(self.next_s, now_s + BETWEEN_STEPS_S)

    def _world(self) -> World:
        cluster = self.cluster
        policy = Resource(POLICY_NAME, "uid-policy", 1, self.policy)
        self._look()
        return World(
            accelerator_profiles=self._customs["AcceleratorProfile"],
            model_profiles=self._customs["ModelProfile"],
            service_classes=self._customs["ServiceClass"],
            policies={("", POLICY_NAME): CustomRecord(policy, deleting=False)},
            services=self._customs[_SERVICE],
            allocations=self._records,
            saved=self._saved,
            nodes={("", name): node for name, node in cluster.nodes.items()},
            pods=cluster.records(),
            deployments=self._deployments,
            replica_sets={k: v for found in self._replica_sets.values() for k, v in found.items()},
        )

    def _look(self) -> None:
        """Read the Deployments that may have changed."""
        for key, mark in self.cluster.marks.items():
            if self._marks.get(key) == mark:
                continue
            self._marks[key] = mark
            state = self.cluster.state(key)
            self._deployments[state.namespace, state.name] = state
            self._replica_sets[key] = {
                (state.namespace, each.name): ReplicaSetRecord(state.namespace, state.name, each)
                for each in state.replica_sets
            }

    def _apply(self, plan: Plan, now_s: float, *, decided: bool) -> None:
        for service in plan.services:
            key = service.key
            before = self._allocations.get(key)
            self._allocations[key] = service.allocation
            if service.allocation.move is not None:
                self._moving.add(key)
            else:
                self._moving.discard(key)
            self._records[_key(key)] = _record(key, service.allocation, self.cluster)
            self._keep(service.status)
            if service.patch is not None:
                self.cluster.patch(key, service.patch.body)
            self.history.add(
                Decision(
                    at_s=now_s,
                    service=key,
                    summary=service.patch.summary if service.patch is not None else "",
                    reason=service.allocation.reason,
                    message=service.allocation.message,
                    events=tuple(f"{e.reason}: {e.message}" for e in service.status.events),
                    allocation=service.allocation,
                    decided=decided,
                    moved=_began(before, service.allocation),
                )
            )
        for status in plan.statuses:
            self._keep(status)

    def _keep(self, plan: StatusPlan) -> None:
        key = plan.ref.namespace or "", plan.ref.name
        original = self._originals.get((plan.ref.kind, key))
        conditions = plan.status.conditions
        if original is None or self._statuses.get((plan.ref.kind, key)) == conditions:
            return
        self._statuses[plan.ref.kind, key] = conditions
        resource = replace(original, conditions=conditions)
        self._customs[plan.ref.kind][key] = CustomRecord(resource, deleting=False)


def _began(before: InferenceAllocationStatus | None, after: InferenceAllocationStatus) -> bool:
    return after.move is not None and (
        before is None or before.move is None or before.move.started_at != after.move.started_at
    )


def _record(key: str, status: InferenceAllocationStatus, cluster: Cluster) -> AllocationRecord:
    namespace, name = _key(key)
    moved = cluster.deployments[key].name if status.move is not None else None
    return AllocationRecord(
        namespace=namespace,
        name=name,
        uid=f"uid-{key}",
        resource_version="1",
        service=name,
        owner_uid=None,
        finalizers=(),
        deployment=moved,
        deleting=False,
        status=status,
    )


def _key(key: str) -> Key:
    namespace, name = key.split("/")
    return namespace, name
