"""Observe: a copy of the stores and the answers of Prometheus become a snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.api.inference_service import InferenceServiceSpec
from inferscale_operator.api.metric_preset import MetricPreset
from inferscale_operator.api.optimizer_policy import POLICY_NAME, MetricsSettings, OptimizerPolicySpec
from inferscale_operator.kube.parse import AllocationRecord, CustomRecord, PodRecord
from inferscale_operator.kube.stores import Key, World
from inferscale_operator.kube.writer import FINALIZER
from inferscale_operator.metrics.load import loads
from inferscale_operator.metrics.presets import presets
from inferscale_operator.metrics.queries import Answers
from inferscale_operator.metrics.workload import ReadyPod, Workload
from inferscale_operator.snapshot import (
    DeploymentState,
    LoadState,
    NodeState,
    ObservedLoad,
    OrphanState,
    PolicyState,
    ReplicaSetState,
    Resource,
    ServiceState,
    Snapshot,
    UnknownCause,
)
from inferscale_queueing.frozen import frozen

NOT_ASKED = ObservedLoad(LoadState.NOT_ASKED, "Prometheus was not asked between two ticks")
NO_DEPLOYMENT = ObservedLoad(
    LoadState.UNKNOWN,
    "there is no Deployment whose pods could report",
    cause=UnknownCause.NO_READY_PODS,
)

NO_POLICY = ObservedLoad(
    LoadState.UNKNOWN,
    f"OptimizerPolicy {POLICY_NAME} cannot be used, so it is not known how Prometheus is to be asked:"
    " see its condition Ready",
    cause=UnknownCause.POLICY_INVALID,
)


class Metrics(Protocol):
    """Whatever answers the queries."""

    def ask(
        self, settings: MetricsSettings, presets: Sequence[MetricPreset], time: float
    ) -> Mapping[str, Answers]:
        """Ask every query of some presets as of `time` (Unix seconds); the answers by name of the preset."""


@frozen
class _Joined:
    """What belongs to each Deployment."""

    deployments: Mapping[Key, DeploymentState]
    """With ReplicaSets and autoscaler."""
    pods: Mapping[Key, tuple[PodRecord, ...]]


def policy_in_force(world: World) -> OptimizerPolicySpec:
    """The OptimizerPolicy named `default`; what it said before where it cannot be used, else the defaults."""
    record = world.policies.get(("", POLICY_NAME))
    if record is not None and record.resource.spec is not None:
        return record.resource.spec
    return world.kept_policy or OptimizerPolicySpec()


def _policy_state(world: World) -> PolicyState:
    record = world.policies.get(("", POLICY_NAME))
    if record is None or record.resource.spec is not None:
        return PolicyState.IN_FORCE
    return PolicyState.KEPT if world.kept_policy is not None else PolicyState.HELD


def observe(world: World, now: datetime, metrics: Metrics | None) -> Snapshot:
    """Everything a decision needs, as of `now`. It blocks while Prometheus is asked.

    Args:
        world: A copy of the stores.
        now: Time of the snapshot, with a time zone.
        metrics: Where load is asked for; None: it is not, and unknown.
    """
    policy = policy_in_force(world)
    services = {
        key: record
        for key, record in sorted(world.services.items())
        if not record.deleting and record.resource.namespace is not None
    }
    allocations = {
        key: record for key, record in world.allocations.items() if _belongs(record, services.get(key))
    }
    targets = {
        key: target
        for key, record in services.items()
        if (target := _target(record, allocations.get(key))) is not None
    }
    pods = [pod for _, pod in sorted(world.pods.items())]
    joined = _join(world, pods)
    state = _policy_state(world)
    if state is PolicyState.HELD and metrics is not None:
        observed = dict.fromkeys(services, NO_POLICY)
    else:
        workloads = _workloads(world, services, targets, joined)
        observed = _loads(services, workloads, policy.metrics, now, metrics)
    states = tuple(
        _service(
            record,
            allocations.get(key),
            joined.deployments.get(targets[key]) if key in targets else None,
            observed.get(key, NO_DEPLOYMENT),
            _lacks_label(world, key[0]),
        )
        for key, record in services.items()
    )
    orphans = tuple(
        _orphan(record, joined, _lacks_label(world, record.namespace))
        for key, record in sorted(world.allocations.items())
        # One that was killed between its two writes may have left a finalizer without a move.
        if key not in allocations and (_moves(record) or FINALIZER in record.finalizers)
    )
    deployments = [state.deployment for state in states] + [orphan.deployment for orphan in orphans]
    in_play = {(item.namespace, item.name) for item in deployments if item is not None}
    return Snapshot(
        time=now,
        policy=policy,
        accelerator_profiles=_resources(world.accelerator_profiles),
        model_profiles=_resources(world.model_profiles),
        service_classes=_resources(world.service_classes),
        policies=_resources(world.policies),
        policy_state=state,
        services=states,
        orphans=orphans,
        nodes=_nodes(world),
        saved=_saved(world),
        all_pods=world.scope.all_pods,
        pods=tuple(
            pod.state
            for pod in pods
            if pod.state.requests or (pod.state.namespace, pod.state.deployment) in in_play
        ),
    )


def _nodes(world: World) -> tuple[NodeState, ...]:
    """Nodes with accelerators, and those that a profile selects."""
    specs = [record.resource.spec for record in world.accelerator_profiles.values()]
    selectors = [spec.node_selector.items() for spec in specs if spec is not None]
    return tuple(
        node
        for _, node in sorted(world.nodes.items())
        if any(node.allocatable.values()) or any(each <= node.labels.items() for each in selectors)
    )


def _saved(world: World) -> float | None:
    """As of the last tick of this process or, after a start, as the policy's status has it."""
    if world.saved is not None:
        return world.saved
    record = world.policies.get(("", POLICY_NAME))
    saved = record.status.get("savedTotal") if record is not None else None
    return float(saved) if isinstance(saved, int | float) else None


def _resources(records: Mapping[Key, CustomRecord[Any]]) -> tuple[Resource[Any], ...]:
    return tuple(record.resource for _, record in sorted(records.items()) if not record.deleting)


def _join(world: World, pods: Sequence[PodRecord]) -> _Joined:
    replica_sets: dict[Key, list[ReplicaSetState]] = {}
    for replica_set in world.replica_sets.values():
        owner = (replica_set.namespace, replica_set.deployment)
        replica_sets.setdefault(owner, []).append(replica_set.state)
    autoscalers = {
        (autoscaler.namespace, autoscaler.deployment): autoscaler.name
        for _, autoscaler in sorted(world.autoscalers.items())
    }
    owned: dict[Key, list[PodRecord]] = {}
    for pod in pods:
        if pod.state.deployment is not None:
            owned.setdefault((pod.state.namespace, pod.state.deployment), []).append(pod)

    def joined(key: Key, deployment: DeploymentState) -> DeploymentState:
        found = sorted(replica_sets.get(key, ()), key=lambda item: (item.revision, item.name))
        sets, autoscaler = tuple(found), autoscalers.get(key)
        if (deployment.replica_sets, deployment.autoscaler) == (sets, autoscaler):
            return deployment
        return replace(deployment, replica_sets=sets, autoscaler=autoscaler)

    return _Joined(
        {key: joined(key, deployment) for key, deployment in world.deployments.items()},
        {key: tuple(found) for key, found in owned.items()},
    )


def _loads(
    services: Mapping[Key, CustomRecord[InferenceServiceSpec]],
    workloads: Mapping[str, Workload],
    settings: MetricsSettings,
    now: datetime,
    metrics: Metrics | None,
) -> dict[Key, ObservedLoad]:
    if metrics is None:
        return dict.fromkeys(services, NOT_ASKED)
    if not workloads:
        return {}
    time = now.timestamp()
    named = {workload.preset for workload in workloads.values()}
    chosen = [preset for name, preset in sorted(presets(settings).items()) if name in named]
    found = loads(metrics.ask(settings, chosen, time), workloads, settings, time)
    return {key: found["/".join(key)] for key in services if "/".join(key) in found}


def _workloads(
    world: World,
    services: Mapping[Key, CustomRecord[InferenceServiceSpec]],
    targets: Mapping[Key, Key],
    joined: _Joined,
) -> dict[str, Workload]:
    """The pods of every service that has a Deployment, by `namespace/name` of the service."""
    found = {}
    for key, target in targets.items():
        spec = services[key].resource.spec
        if spec is None or target not in joined.deployments:
            continue
        model = world.model_profiles.get(("", spec.model))
        named = model.resource.spec.model_name if model is not None and model.resource.spec else spec.model
        found["/".join(key)] = _workload(target, joined, spec.metrics.preset, named)
    return found


def _workload(target: Key, joined: _Joined, preset: str, model: str) -> Workload:
    ready, others = [], []
    for pod in joined.pods.get(target, ()):
        if pod.ready_since is not None and not pod.state.terminating:
            ready.append(ReadyPod(pod.state.name, pod.ready_since.timestamp()))
        else:
            others.append(pod.state.name)
    deployment = joined.deployments[target]
    return Workload(
        namespace=target[0],
        ready=tuple(ready),
        others=tuple(others),
        replica_sets=tuple(item.name for item in deployment.replica_sets),
        replicas=deployment.replicas,
        preset=preset,
        model=model,
    )


def _target(record: CustomRecord[InferenceServiceSpec], allocation: AllocationRecord | None) -> Key | None:
    """The Deployment that serves it; during a move the one that is moved, whatever the spec says by now."""
    namespace, spec = record.resource.namespace or "", record.resource.spec
    if allocation is not None and allocation.deployment is not None and _moves(allocation):
        return namespace, allocation.deployment
    return (namespace, spec.target_ref.name) if spec is not None else None


def _service(
    record: CustomRecord[InferenceServiceSpec],
    allocation: AllocationRecord | None,
    deployment: DeploymentState | None,
    load: ObservedLoad,
    lacks_label: str,
) -> ServiceState:
    if deployment is not None and _has_variables(deployment.pod_spec):
        names = _named_variables(record.resource.spec)
        if allocation is not None:
            names |= _moved_variables(allocation.status)
        deployment = replace(deployment, pod_spec=_trimmed(deployment.pod_spec, names))
    return ServiceState(
        resource=record.resource,
        load=load,
        deployment=deployment,
        allocation=allocation.status if allocation is not None else None,
        approved=allocation.approved if allocation is not None else "",
        lacks_label=lacks_label,
    )


def _lacks_label(world: World, namespace: str) -> str:
    """The label that a namespace must carry before anything in it is changed, if it does not."""
    return world.scope.lacks_label(world.namespaces.get(("", namespace)))


def _orphan(record: AllocationRecord, joined: _Joined, lacks_label: str) -> OrphanState:
    status = record.status or InferenceAllocationStatus()
    deployment = joined.deployments.get((record.namespace, record.deployment or ""))
    if deployment is not None:
        deployment = replace(deployment, pod_spec=_trimmed(deployment.pod_spec, _moved_variables(status)))
    return OrphanState(record.namespace, record.name, status, deployment, lacks_label)


def _moves(record: AllocationRecord) -> bool:
    return record.status is not None and record.status.move is not None


def _belongs(allocation: AllocationRecord, service: CustomRecord[InferenceServiceSpec] | None) -> bool:
    """Whether it is this service's, and not that of an earlier one of the same name."""
    return service is not None and allocation.owner_uid in (None, service.resource.uid)


def _named_variables(spec: InferenceServiceSpec | None) -> frozenset[str]:
    if spec is None:
        return frozenset()
    names = {variable.name for variant in spec.variants for variable in variant.env}
    return frozenset(names | ({spec.batch.env} if spec.batch.env else set()))


def _moved_variables(status: InferenceAllocationStatus | None) -> frozenset[str]:
    """Variables that the move under way has changed: its service may no longer name them, or be gone."""
    if status is None or status.move is None:
        return frozenset()
    containers = status.move.prior_template.get("containers") or ()
    return frozenset(variable["name"] for container in containers for variable in container.get("env") or ())


def _has_variables(pod_spec: Mapping[str, Any]) -> bool:
    return any("env" in container for container in pod_spec.get("containers", ()))


def _trimmed(pod_spec: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """A pod spec with those variables only: others may be secrets and are nobody's business here."""
    containers = []
    for container in pod_spec.get("containers", ()):
        kept = [variable for variable in container.get("env", ()) if variable["name"] in names]
        rest = {key: value for key, value in container.items() if key != "env"}
        containers.append({**rest, "env": kept} if kept else rest)
    return {**pod_spec, "containers": containers}
