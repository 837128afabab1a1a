"""The kinds of objects that are watched or written, and their paths in the API."""

from __future__ import annotations

from urllib.parse import quote

from inferscale_operator.api.base import GROUP, VERSION
from inferscale_queueing.frozen import frozen


@frozen
class Kind:
    """A kind of object as the API server serves it."""

    group: str
    """Empty for the core group."""
    version: str
    name: str
    """Such as `Deployment`."""
    plural: str
    """Such as `deployments`."""
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As in a manifest, such as `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def custom(self) -> bool:
        """Whether it is one of Inferscale's own."""
        return self.group == GROUP

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """Path of an object or, without a name, of all objects of the namespace or the cluster."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/" + "/".join(quote(part, safe="") for part in parts)


ACCELERATOR_PROFILE = Kind(GROUP, VERSION, "AcceleratorProfile", "acceleratorprofiles", namespaced=False)
MODEL_PROFILE = Kind(GROUP, VERSION, "ModelProfile", "modelprofiles", namespaced=False)
SERVICE_CLASS = Kind(GROUP, VERSION, "ServiceClass", "serviceclasses", namespaced=False)
OPTIMIZER_POLICY = Kind(GROUP, VERSION, "OptimizerPolicy", "optimizerpolicies", namespaced=False)
INFERENCE_SERVICE = Kind(GROUP, VERSION, "InferenceService", "inferenceservices")
INFERENCE_ALLOCATION = Kind(GROUP, VERSION, "InferenceAllocation", "inferenceallocations")
NODE = Kind("", "v1", "Node", "nodes", namespaced=False)
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
POD = Kind("", "v1", "Pod", "pods")
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
REPLICA_SET = Kind("apps", "v1", "ReplicaSet", "replicasets")
AUTOSCALER = Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
EVENT = Kind("", "v1", "Event", "events")

CUSTOM = (
    ACCELERATOR_PROFILE,
    MODEL_PROFILE,
    SERVICE_CLASS,
    OPTIMIZER_POLICY,
    INFERENCE_SERVICE,
    INFERENCE_ALLOCATION,
)
WATCHED = (*CUSTOM, NODE, POD, DEPLOYMENT, REPLICA_SET, AUTOSCALER)
"""Kinds that are watched whatever the settings; `NAMESPACE` is as well where namespaces opt in."""
KIND_BY_NAME = {kind.name: kind for kind in WATCHED}
