"""From the JSON of the API server to small frozen objects: only what a decision needs is kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from inferscale_operator.api.base import GROUP, Condition
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.kube.managers import template_writer, we_own, writers
from inferscale_operator.kube.quantities import extended, pod_requests
from inferscale_operator.snapshot import (
    DeploymentState,
    NodeState,
    PodState,
    ReplicaSetState,
    Resource,
    TaintState,
)
from inferscale_queueing.frozen import frozen

logger = logging.getLogger(__name__)

Spec = TypeVar("Spec", bound=BaseModel)
Raw = Mapping[str, Any]

HASH_LABEL = "pod-template-hash"
DEPLOYMENT_ANNOTATION = f"{GROUP}/deployment"
"""On an InferenceAllocation while a move is recorded in it: the Deployment that the move changes."""
APPROVED_ANNOTATION = f"{GROUP}/approved"
"""On an InferenceAllocation: the digest of the plan that somebody approves."""
REVISION = "deployment.kubernetes.io/revision"
SHOWN_ERRORS = 3
GRACE_SECONDS = 30
"""What Kubernetes gives the pods of a Deployment that says nothing."""

CONDITIONS = TypeAdapter(tuple[Condition, ...])


@frozen
class CustomRecord(Generic[Spec]):
    """A custom resource that a person wrote."""

    resource: Resource[Spec]
    deleting: bool
    packed_status: bytes = b"{}"
    """As it is on the API server, in JSON: that takes a fifth of the memory of its objects."""
    resource_version: str = ""

    @property
    def status(self) -> Mapping[str, Any]:
        """As it is on the API server."""
        return _unpacked(self.packed_status)


@frozen
class AllocationRecord:
    """An InferenceAllocation."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    service: str
    """Name of the InferenceService."""
    owner_uid: str | None
    """Of the InferenceService that owns it."""
    finalizers: tuple[str, ...]
    deployment: str | None
    """The Deployment that a move changes: from our annotation, since the service may be gone."""
    deleting: bool
    status: InferenceAllocationStatus | None
    """None: never written, or not to be read."""
    packed_status: bytes = b"{}"
    """As it is on the API server, in JSON."""
    approved: str = ""
    """Digest of the plan that somebody approves, from our annotation; empty: none."""

    @property
    def raw_status(self) -> Mapping[str, Any]:
        """As it is on the API server."""
        return _unpacked(self.packed_status)


@frozen
class PodRecord:
    """A pod that has not finished."""

    state: PodState
    ready_since: datetime | None
    """When it became ready; None: it is not."""


@frozen
class ReplicaSetRecord:
    """A ReplicaSet of a Deployment."""

    namespace: str
    deployment: str
    state: ReplicaSetState


@frozen
class AutoscalerRecord:
    """A HorizontalPodAutoscaler of a Deployment."""

    namespace: str
    name: str
    """With what made it, such as a ScaledObject of KEDA's."""
    deployment: str


def _packed(status: Raw) -> bytes:
    return json.dumps(status, separators=(",", ":")).encode()


def _unpacked(status: bytes) -> Raw:
    found: Raw = json.loads(status)
    return found


def explain(error: ValidationError) -> str:
    """What is wrong with a spec: each field, its value and what would be right.

    Returns:
        Such as `spec.minReplicas: -1 is not valid: input should be greater than or equal to 0`.
    """
    found = error.errors(include_url=False)
    lines = []
    for item in found[:SHOWN_ERRORS]:
        path = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"])
        if item["type"] == "missing":
            lines.append(f"{path} is missing: it is required")
        else:
            message = item["msg"][:1].lower() + item["msg"][1:]
            lines.append(f"{path}: {item['input']!r} is not valid: {message}")
    if len(found) > SHOWN_ERRORS:
        lines.append(f"and {len(found) - SHOWN_ERRORS} more")
    return "; ".join(lines)


def parse_custom(raw: Raw, model: type[Spec]) -> CustomRecord[Spec]:
    """A custom resource; a spec that cannot be used becomes an error that says why."""
    meta = raw["metadata"]
    status = raw.get("status") or {}
    spec: Spec | None = None
    error = ""
    try:
        spec = model.model_validate(raw.get("spec") or {})
    except ValidationError as invalid:
        error = explain(invalid)
    resource = Resource(
        name=meta["name"],
        uid=meta["uid"],
        generation=meta.get("generation", 0),
        spec=spec,
        error=error,
        namespace=meta.get("namespace"),
        conditions=_conditions(status),
    )
    return CustomRecord(
        resource,
        deleting="deletionTimestamp" in meta,
        packed_status=_packed(status),
        resource_version=meta["resourceVersion"],
    )


def parse_allocation(raw: Raw) -> AllocationRecord:
    """An InferenceAllocation; a status that an other version wrote and this one cannot read is left out."""
    meta = raw["metadata"]
    raw_status = raw.get("status") or {}
    status = None
    if raw_status:
        try:
            status = InferenceAllocationStatus.model_validate(raw_status)
        except ValidationError as error:
            logger.warning(
                "InferenceAllocation %s/%s: its status cannot be read and is made anew: %s",
                meta["namespace"],
                meta["name"],
                error,
            )
    owner = _controller(meta)
    return AllocationRecord(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        service=(raw.get("spec") or {}).get("service", meta["name"]),
        owner_uid=owner["uid"] if owner is not None and owner["kind"] == "InferenceService" else None,
        finalizers=tuple(meta.get("finalizers", ())),
        deployment=meta.get("annotations", {}).get(DEPLOYMENT_ANNOTATION),
        deleting="deletionTimestamp" in meta,
        status=status,
        packed_status=_packed(raw_status),
        approved=meta.get("annotations", {}).get(APPROVED_ANNOTATION, ""),
    )


def parse_node(raw: Raw) -> NodeState:
    """A node, whether it has accelerators or not: one that should have some is told of."""
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    ready = any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in status.get("conditions", ())
    )
    cordoned = spec.get("unschedulable", False)
    return NodeState(
        name=raw["metadata"]["name"],
        labels=dict(raw["metadata"].get("labels", {})),
        allocatable=extended(status.get("allocatable") or {}),
        usable=ready and not cordoned,
        taints=tuple(
            TaintState(key=taint["key"], effect=taint["effect"], value=taint.get("value", ""))
            for taint in spec.get("taints", ())
            if taint["effect"] in ("NoSchedule", "NoExecute")
        ),
        cordoned=cordoned,
    )


def parse_namespace(raw: Raw) -> Mapping[str, str]:
    """A namespace: its labels."""
    return dict(raw["metadata"].get("labels") or {})


def parse_pod(raw: Raw) -> PodRecord | None:
    """A pod; None when it has finished, or neither asks for accelerators nor belongs to a Deployment."""
    meta, spec, status = raw["metadata"], raw["spec"], raw.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return None
    requests = pod_requests(spec)
    deployment = _deployment_of(meta)
    if not requests and deployment is None:
        return None
    ready_since = unschedulable_since = None
    for condition in status.get("conditions", ()):
        since = datetime.fromisoformat(condition.get("lastTransitionTime") or meta["creationTimestamp"])
        match condition["type"], condition["status"], condition.get("reason"):
            case "Ready", "True", _:
                ready_since = since
            case "PodScheduled", "False", "Unschedulable":
                unschedulable_since = since
    return PodRecord(
        PodState(
            namespace=meta["namespace"],
            name=meta["name"],
            deployment=deployment,
            node=spec.get("nodeName"),
            requests=requests,
            ready=ready_since is not None,
            terminating="deletionTimestamp" in meta,
            unschedulable_since=unschedulable_since,
        ),
        ready_since,
    )


def parse_deployment(raw: Raw) -> DeploymentState:
    """A Deployment, without its ReplicaSets and autoscaler; of variables those with plain values."""
    meta, spec, status = raw["metadata"], raw["spec"], raw.get("status") or {}
    owner = _controller(meta)
    return DeploymentState(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        generation=meta.get("generation", 0),
        observed_generation=status.get("observedGeneration", 0),
        revision=_revision(meta),
        replicas=spec.get("replicas", 1),
        ready_replicas=status.get("readyReplicas", 0),
        paused=spec.get("paused", False),
        strategy=spec.get("strategy", {}),
        pod_spec=_pod_spec(spec["template"].get("spec") or {}),
        template_hash=_hash(spec["template"]),
        template_writer=template_writer(meta),
        paused_by_us=spec.get("paused", False) and we_own(meta, "f:paused"),
        controller=f"{owner['kind']}/{owner['name']}" if owner is not None else None,
        writers=writers(meta),
        grace_seconds=(spec["template"].get("spec") or {}).get(
            "terminationGracePeriodSeconds", GRACE_SECONDS
        ),
    )


def _hash(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def parse_replica_set(raw: Raw) -> ReplicaSetRecord | None:
    """A ReplicaSet; None when no Deployment owns it."""
    meta, status = raw["metadata"], raw.get("status") or {}
    owner = _controller(meta)
    if owner is None or owner["kind"] != "Deployment":
        return None
    state = ReplicaSetState(
        name=meta["name"],
        revision=_revision(meta),
        desired=raw["spec"].get("replicas", 1),
        replicas=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
    )
    return ReplicaSetRecord(meta["namespace"], owner["name"], state)


def parse_autoscaler(raw: Raw) -> AutoscalerRecord | None:
    """A HorizontalPodAutoscaler; None when it scales something else than a Deployment."""
    target = raw["spec"]["scaleTargetRef"]
    if target["kind"] != "Deployment":
        return None
    meta = raw["metadata"]
    owner = _controller(meta)
    made_by = f" (of {owner['kind']} {owner['name']})" if owner is not None else ""
    return AutoscalerRecord(meta["namespace"], f"{meta['name']}{made_by}", target["name"])


def _conditions(status: Raw) -> tuple[Condition, ...]:
    try:
        return CONDITIONS.validate_python(status.get("conditions") or ())
    except ValidationError:
        # Written by something else, or by hand: they are made anew.
        return ()


def _controller(meta: Raw) -> Raw | None:
    owners: Iterable[Raw] = meta.get("ownerReferences", ())
    return next((owner for owner in owners if owner.get("controller")), None)


def _deployment_of(meta: Raw) -> str | None:
    owner = _controller(meta)
    template = meta.get("labels", {}).get(HASH_LABEL)
    if owner is None or owner["kind"] != "ReplicaSet" or not template:
        return None
    name: str = owner["name"]
    return name.removesuffix(f"-{template}") if name.endswith(f"-{template}") else None


def _revision(meta: Raw) -> int:
    text = meta.get("annotations", {}).get(REVISION, "")
    return int(text) if text.isdecimal() else 0


def _pod_spec(spec: Raw) -> dict[str, Any]:
    kept = {key: spec[key] for key in ("nodeSelector", "tolerations", "runtimeClassName") if key in spec}
    kept["containers"] = [_container(container) for container in spec.get("containers", ())]
    return kept


def _container(container: Raw) -> dict[str, Any]:
    kept = {key: container[key] for key in ("name", "image", "args", "resources") if key in container}
    plain = [
        {"name": variable["name"], "value": variable.get("value", "")}
        for variable in container.get("env", ())
        if "valueFrom" not in variable
    ]
    if plain:
        kept["env"] = plain
    return kept
