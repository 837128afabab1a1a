"""What the worlds of `loop_world` are made of: accelerators, a model that runs on them, and the manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from inferscale_queueing import PrefillDecode, Targets, size

GROUP = "inferscale.dev/v1alpha1"
INPUT_TOKENS, OUTPUT_TOKENS = 128, 32
ITL_MS, TTFT_MS = 24.0, 2000.0
MAX_BATCH = 128
METRICS_WINDOW_S = 8

Object = dict[str, Any]


@dataclass(frozen=True)
class Hardware:
    """An accelerator of the cluster's nodes, and how fast the tests' model runs on one of it."""

    resource: str
    selector: Mapping[str, str]
    cost: float
    speed: float
    tolerations: Sequence[Mapping[str, str]] = ()
    capacity: Mapping[str, int] = field(default_factory=dict)


HARDWARE = {
    "l40s": Hardware("nvidia.com/gpu", {"nvidia.com/gpu.product": "NVIDIA-L40S"}, cost=2, speed=1),
    "a100": Hardware("nvidia.com/gpu", {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}, cost=5, speed=1),
    "h100": Hardware("nvidia.com/gpu", {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}, cost=9, speed=4),
    "mi300x": Hardware(
        "amd.com/gpu",
        {"amd.com/gpu.product-name": "Instinct_MI300X"},
        cost=3,
        speed=4,
        tolerations=[{"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    ),
    # A pool that is said to grow and never does.
    "mirage": Hardware("nvidia.com/gpu", {"pool": "mirage"}, cost=1, speed=4, capacity={"fixed": 8}),
}


def parameters(speed: float) -> dict[str, float]:
    """Iteration times (ms) of the tests' model."""
    return {"alpha": 20 / speed, "beta": 0.2 / speed, "gamma": 0.5 / speed, "delta": 0.0005 / speed}


@cache
def rate_per_replica(accelerator: str) -> float:
    """Requests per minute that a replica takes within the objectives."""
    latency = PrefillDecode(
        **parameters(HARDWARE[accelerator].speed), input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS
    )
    return 60_000 * float(size(latency, MAX_BATCH, Targets(itl=ITL_MS, ttft=TTFT_MS)).rate[0])


@dataclass(frozen=True)
class Objects:
    """Manifests of one world; `tag` tells its cluster-scoped objects from those of other tests."""

    namespace: str
    tag: str

    def named(self, name: str) -> str:
        """The name of a cluster-scoped object."""
        return f"{name}-{self.tag}"

    def accelerator_profile(self, name: str) -> Object:
        """An AcceleratorProfile of `HARDWARE`."""
        hardware = HARDWARE[name]
        spec = {
            "type": self.named(name).upper(),
            "memSize": 80,
            "memBW": 2000,
            "cost": hardware.cost,
            "resourceName": hardware.resource,
            "nodeSelector": dict(hardware.selector),
            "tolerations": list(hardware.tolerations),
        }
        if hardware.capacity:
            spec["capacity"] = dict(hardware.capacity)
        return self._custom("AcceleratorProfile", self.named(name), spec)

    def model_profile(self, name: str, *accelerators: str) -> Object:
        """A ModelProfile with data for accelerators; those that are not in `HARDWARE` do not exist."""
        profiles = [
            {
                "accelerator": self.named(accelerator),
                "maxBatchSize": MAX_BATCH,
                "atTokens": OUTPUT_TOKENS,
                **parameters(HARDWARE[accelerator].speed if accelerator in HARDWARE else 1),
            }
            for accelerator in accelerators
        ]
        return self._custom(
            "ModelProfile", self.named(name), {"modelName": self.named(name), "profiles": profiles}
        )

    def service_class(self, name: str, *models: str) -> Object:
        """A ServiceClass with the tests' objectives for models."""
        targets = [{"model": self.named(model), "itl": ITL_MS, "ttft": TTFT_MS} for model in models]
        return self._custom("ServiceClass", self.named(name), {"priority": 10, "models": targets})

    def service(self, name: str, **spec: Any) -> Object:
        """An InferenceService for the Deployment of its name."""
        known = {
            "model": self.named("llm"),
            "serviceClass": self.named("standard"),
            "targetRef": {"name": name},
        }
        return self._custom("InferenceService", name, known | spec, self.namespace)

    def deployment(
        self,
        name: str,
        accelerator: str,
        replicas: int,
        *,
        model: str = "llm",
        startup_s: int = 0,
        strategy: Mapping[str, Any] | None = None,
        pod: Mapping[str, Any] | None = None,
        container: Mapping[str, Any] | None = None,
    ) -> Object:
        """A Deployment of emulated model servers."""
        hardware = HARDWARE[accelerator]
        pod, container = pod or {}, container or {}
        server = {
            "name": "server",
            "image": "vllm/vllm-openai",
            "resources": {"limits": {hardware.resource: 1}},
            **container,
            "args": [f"--served-model-name={self.named(model)}", *container.get("args", ())],
        }
        template = {
            "metadata": {
                "labels": {"app": name, "inferscale.dev/emulated": "true"},
                "annotations": {"inferscale.dev/emulated-startup-seconds": str(startup_s)},
            },
            "spec": {
                **pod,
                "nodeSelector": {**hardware.selector, **pod.get("nodeSelector", {})},
                "tolerations": [*hardware.tolerations, *pod.get("tolerations", ())],
                "containers": [server],
            },
        }
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
        if strategy is not None:
            spec["strategy"] = strategy
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }

    def policy(self, **spec: Any) -> Object:
        """An OptimizerPolicy in a hurry."""
        hurried = {
            "tickSeconds": 1,
            "metrics": {"windowSeconds": METRICS_WINDOW_S, "maxAgeSeconds": 4},
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 2},
                "scaleDown": {"stabilizationWindowSeconds": 3},
            },
        }
        return {
            "apiVersion": GROUP,
            "kind": "OptimizerPolicy",
            "metadata": {"name": "default"},
            "spec": hurried | spec,
        }

    def _custom(self, kind: str, name: str, spec: Object, namespace: str | None = None) -> Object:
        metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
        return {"apiVersion": GROUP, "kind": kind, "metadata": metadata, "spec": spec}
