"""Objects as the API server tells them, for tests."""

from typing import Any

from inferscale_operator.api.base import API_VERSION

Object = dict[str, Any]

TIME = "2026-03-01T12:00:00Z"


def meta(name: str, *, namespace: str | None = "team", version: int = 1, **fields: Any) -> Object:
    result = {
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "generation": 1,
        "creationTimestamp": TIME,
    }
    if namespace is not None:
        result["namespace"] = namespace
    return result | fields


def owner(kind: str, name: str) -> list[Object]:
    return [{"kind": kind, "name": name, "uid": f"uid-{name}", "controller": True}]


def service(name: str = "chat", *, version: int = 1, status: Object | None = None, **fields: Any) -> Object:
    metadata = meta(name, version=version, **fields.pop("metadata", {}))
    spec = {"model": "llama", "serviceClass": "premium", "targetRef": {"name": name}} | fields
    return {"apiVersion": API_VERSION, "metadata": metadata, "spec": spec, "status": status or {}}


def allocation(
    name: str = "chat", *, version: int = 1, status: Object | None = None, **metadata: Any
) -> Object:
    return {
        "apiVersion": API_VERSION,
        "metadata": meta(name, version=version, ownerReferences=owner("InferenceService", name)) | metadata,
        "spec": {"service": name},
        "status": status or {},
    }


def move(step: str = "BringUp") -> Object:
    return {
        "step": step,
        "from": {"accelerator": "h100", "replicas": 8},
        "to": {"accelerator": "mi300x", "replicas": 2},
        "startedAt": TIME,
        "stepStartedAt": TIME,
        "priorTemplate": {"spec": {"nodeSelector": {"amd.com/gpu.product-name": None}}},
    }


def node(
    name: str = "h100-0", *, ready: str = "True", unschedulable: bool = False, **allocatable: Any
) -> Object:
    return {
        "metadata": meta(name, namespace=None, labels={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}),
        "spec": {"unschedulable": True} if unschedulable else {},
        "status": {
            "allocatable": {"cpu": "96", "memory": "1Ti", "hugepages-1Gi": "0"}
            | (allocatable or {"nvidia.com/gpu": "8"}),
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}],
        },
    }


def container(gpus: int = 0, **fields: Any) -> Object:
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}, "requests": {"cpu": "4"}} if gpus else {}
    return {"name": "server", "image": "vllm", "resources": resources} | fields


def pod(
    name: str = "chat-abc-1", *, version: int = 1, ready: bool = True, phase: str = "Running", **spec: Any
) -> Object:
    return {
        "metadata": meta(
            name,
            version=version,
            labels={"pod-template-hash": "abc"},
            ownerReferences=owner("ReplicaSet", "chat-abc"),
        ),
        "spec": {"nodeName": "h100-0", "containers": [container(1)]} | spec,
        "status": {
            "phase": phase,
            "conditions": [
                {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-03-01T12:01:00Z"}
            ],
        },
    }


def deployment(name: str = "chat", *, version: int = 1, replicas: int = 2, **fields: Any) -> Object:
    return {
        "metadata": meta(
            name, version=version, annotations={"deployment.kubernetes.io/revision": "3"}, **fields
        ),
        "spec": {
            "replicas": replicas,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
                    "serviceAccountName": "models",
                    "containers": [
                        container(
                            1,
                            args=["--model", "llama"],
                            env=[
                                {"name": "MAX_NUM_SEQS", "value": "64"},
                                {"name": "TOKEN", "value": "secret"},
                                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "key"}}},
                            ],
                        )
                    ],
                },
            },
        },
        "status": {"observedGeneration": 1, "readyReplicas": 1},
    }


def replica_set(
    name: str = "chat-abc", *, revision: int = 3, replicas: int = 2, owned: bool = True
) -> Object:
    references = owner("Deployment", name.rpartition("-")[0]) if owned else []
    return {
        "metadata": meta(
            name,
            annotations={"deployment.kubernetes.io/revision": str(revision)},
            ownerReferences=references,
        ),
        "spec": {"replicas": replicas},
        "status": {"replicas": replicas, "readyReplicas": replicas},
    }


def autoscaler(name: str = "chat-hpa", *, kind: str = "Deployment", target: str = "chat") -> Object:
    return {"metadata": meta(name), "spec": {"scaleTargetRef": {"kind": kind, "name": target}}}


def listing(*items: Object, version: int = 10) -> Object:
    return {"metadata": {"resourceVersion": str(version)}, "items": list(items)}
