"""Small worlds for the tests of the decision: parts of a snapshot with sensible defaults.

A replica on a profile takes a round number of requests a minute: single requests of 100 tokens, so a replica
is an M/M/1 queue that takes 0.999 of its service rate where no objective binds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from inferscale_operator.api.accelerator_profile import AcceleratorProfileSpec
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.api.inference_service import InferenceServiceSpec
from inferscale_operator.api.model_profile import ModelProfileSpec
from inferscale_operator.api.optimizer_policy import OptimizerPolicySpec
from inferscale_operator.api.service_class import ServiceClassSpec
from inferscale_operator.plan import Plan, ServicePlan
from inferscale_operator.snapshot import (
    DeploymentState,
    LoadState,
    NodeState,
    ObservedLoad,
    OrphanState,
    PodState,
    ReplicaSetState,
    Resource,
    ServiceState,
    Snapshot,
)
from inferscale_operator.twin.deployment import STRATEGY
from inferscale_operator.twin.deployment import merged as merged

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMESPACE = "prod"
TOKENS = 100.0
NVIDIA, AMD = "nvidia.com/gpu", "amd.com/gpu"


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def accelerator(name: str, *, cost: float = 10.0, **fields: Any) -> Resource[AcceleratorProfileSpec]:
    """A profile of one unit, of a type of its own name in capitals, found by a label of that name."""
    kind = fields.pop("type", name.upper())
    spec = {"type": kind, "cost": cost, "resourceName": NVIDIA, "nodeSelector": {"gpu": kind}, **fields}
    return Resource(name, f"uid-{name}", 1, AcceleratorProfileSpec.model_validate(spec))


def performance(on: str, rate: float, **fields: Any) -> dict[str, Any]:
    """A profile on which a replica takes `rate` requests/min."""
    alpha = 0.999 * 60_000 / (TOKENS * rate)
    figures = {"alpha": alpha, "beta": 0.0, "maxBatchSize": 1, "atTokens": int(TOKENS)}
    return {"accelerator": on, **figures, **fields}


def model(name: str = "llama", *profiles: Mapping[str, Any], **rates: float) -> Resource[ModelProfileSpec]:
    """A model by its performances, or by the rate of a replica on each profile."""
    measured = [*profiles, *(performance(on, rate) for on, rate in rates.items())]
    spec = {"modelName": name, "profiles": measured}
    return Resource(name, f"uid-{name}", 1, ModelProfileSpec.model_validate(spec))


def service_class(
    name: str = "gold", priority: int = 1, models: Sequence[str] = ("llama",), **objectives: float
) -> Resource[ServiceClassSpec]:
    """A class; its objective binds nowhere unless said."""
    targets = objectives or {"ttft": 3_600_000.0}
    spec = {"priority": priority, "models": [{"model": each, **targets} for each in models]}
    return Resource(name, f"uid-{name}", 1, ServiceClassSpec.model_validate(spec))


def node(name: str, kind: str, units: int = 8, *, resource: str = NVIDIA, usable: bool = True) -> NodeState:
    return NodeState(name, {"gpu": kind}, {resource: units}, usable)


def policy(**fields: Any) -> OptimizerPolicySpec:
    return OptimizerPolicySpec.model_validate(fields)


def behavior(up: int, down: int) -> dict[str, Any]:
    return {
        "scaleUp": {"stabilizationWindowSeconds": up},
        "scaleDown": {"stabilizationWindowSeconds": down},
    }


def load(
    rate: float | None = 60.0, state: LoadState = LoadState.OBSERVED, tokens: float | None = TOKENS
) -> ObservedLoad:
    """A load in requests/min; input tokens do not matter to the models here."""
    return ObservedLoad(state, "said so", rate, None if tokens is None else 0.0, tokens)


UNKNOWN = ObservedLoad(LoadState.UNKNOWN, "Prometheus does not answer")
IDLE = load(0.0, LoadState.IDLE, tokens=None)


def pod_spec(kind: str = "H100", units: int = 1, *, resource: str = NVIDIA, **fields: Any) -> dict[str, Any]:
    """A template that asks for `units` of a type in one container."""
    amounts = {resource: str(units)}
    container = {"name": "engine", "image": "engine:1", "resources": {"limits": amounts, "requests": amounts}}
    return {"nodeSelector": {"gpu": kind}, "containers": [container], **fields}


def deployment(name: str = "llama", replicas: int = 2, **fields: Any) -> DeploymentState:
    """A settled Deployment, on one H100 a replica unless said."""
    values: dict[str, Any] = {
        "namespace": NAMESPACE,
        "name": name,
        "uid": f"uid-{name}",
        "resource_version": "7",
        "generation": 1,
        "observed_generation": 1,
        "revision": 1,
        "replicas": replicas,
        "ready_replicas": replicas,
        "paused": False,
        "strategy": STRATEGY,
        "pod_spec": pod_spec(),
        "replica_sets": (ReplicaSetState(f"{name}-1", 1, replicas, replicas, replicas),),
    }
    return DeploymentState(**(values | fields))


def service(
    name: str = "llama",
    replicas: int = 2,
    observed: ObservedLoad | None = None,
    *,
    on: DeploymentState | None = None,
    allocation: InferenceAllocationStatus | None = None,
    **spec: Any,
) -> ServiceState:
    """A service in mode Apply that follows at once, of class gold and model llama, with its Deployment."""
    values = {
        "model": "llama",
        "serviceClass": "gold",
        "targetRef": {"name": name},
        "mode": "Apply",
        "behavior": behavior(0, 0),
        **spec,
    }
    resource = Resource(
        name, f"uid-{name}", 1, InferenceServiceSpec.model_validate(values), namespace=NAMESPACE
    )
    return ServiceState(resource, observed or load(), on or deployment(name, replicas), allocation)


def pods_of(state: DeploymentState, nodes: Sequence[NodeState], held: Mapping[str, int]) -> list[PodState]:
    """The pods of a Deployment, each on the first node that has its labels and room beside what is held."""
    selector = state.pod_spec.get("nodeSelector", {}).items()
    asked: dict[str, int] = {}
    for container in state.pod_spec.get("containers", ()):
        for resource, amount in container.get("resources", {}).get("limits", {}).items():
            asked[resource] = asked.get(resource, 0) + int(amount)
    taken = dict(held)
    pods = []
    for i in range(state.replicas):
        place = next(
            (
                each.name
                for each in nodes
                if each.usable
                and selector <= each.labels.items()
                and all(each.allocatable.get(r, 0) - taken.get(each.name, 0) >= n for r, n in asked.items())
            ),
            None,
        )
        if place is not None:
            taken[place] = taken.get(place, 0) + sum(asked.values())
        pods.append(
            PodState(
                state.namespace, f"{state.name}-1-{i}", state.name, place, asked, place is not None, False
            )
        )
    return pods


def world(*services: ServiceState, **fields: Any) -> Snapshot:
    """A snapshot with the pods of its services placed.

    Unless said: profiles h100 (10/h) and a100 (6/h), 8 units of each on one node; a replica of llama takes 60
    and 30 requests a minute there; class gold of priority 1, silver 2, bronze 3.
    """
    nodes = fields.pop("nodes", (node("node-h", "H100"), node("node-a", "A100")))
    pods = list(fields.pop("pods", ()))
    if not pods:
        for state in services:
            if state.deployment is not None:
                held: dict[str, int] = {}
                for pod in pods:
                    if pod.node is not None:
                        held[pod.node] = held.get(pod.node, 0) + sum(pod.requests.values())
                pods += pods_of(state.deployment, nodes, held)
    values: dict[str, Any] = {
        "time": NOW,
        "accelerator_profiles": (accelerator("h100"), accelerator("a100", cost=6.0)),
        "model_profiles": (model(h100=60.0, a100=30.0),),
        "service_classes": tuple(
            service_class(name, priority)
            for priority, name in enumerate(("gold", "silver", "bronze"), start=1)
        ),
        "services": services,
        "nodes": tuple(nodes),
        "pods": tuple(pods),
    }
    return Snapshot(**(values | fields))


def orphan(
    allocation: InferenceAllocationStatus, state: DeploymentState | None, name: str = "gone"
) -> OrphanState:
    return OrphanState(NAMESPACE, name, allocation, state)


def of(plan: Plan, name: str) -> ServicePlan:
    """What a plan has for a service."""
    return next(each for each in plan.services if each.service.name == name)


def condition(plan: ServicePlan, kind: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition."""
    found = next(c for c in plan.status.status.conditions if c.type == kind)
    return found.status, found.reason, found.message


def after(snapshot: Snapshot, plan: Plan, seconds: float = 30.0, **fields: Any) -> Snapshot:
    """The snapshot of the next tick where nothing was patched: what was decided is in the statuses."""
    decided = {each.key: each for each in plan.services}
    services = tuple(
        replace(
            state,
            allocation=decided[state.key].allocation,
            resource=replace(state.resource, conditions=decided[state.key].status.status.conditions),
        )
        for state in snapshot.services
    )
    statuses = {(s.ref.kind, s.ref.name): s.status for s in plan.statuses}
    cluster = {
        field: tuple(
            replace(each, conditions=statuses[kind, each.name].conditions)
            for each in getattr(snapshot, field)
        )
        for field, kind in (
            ("accelerator_profiles", "AcceleratorProfile"),
            ("model_profiles", "ModelProfile"),
            ("service_classes", "ServiceClass"),
        )
    }
    time = snapshot.time + timedelta(seconds=seconds)
    return replace(snapshot, time=time, services=services, **(cluster | fields))
