"""A thousand services: their manifests, the nodes that they need, and what their pods report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from inferscale_operator.api.base import API_VERSION

Manifest = dict[str, Any]

NAMESPACE = "crowd"
MODELS = 20
CLASSES = 5
PROFILES: Mapping[str, tuple[float, float]] = {
    "l4": (1.0, 1.0),
    "l40s": (2.0, 2.2),
    "a100": (3.0, 4.0),
    "mi300x": (4.5, 6.0),
    "h100": (5.0, 9.0),
    "h200": (6.0, 11.0),
}
"""Speed and cost per hour of each accelerator."""
UNITS_PER_NODE = 32
SPARE = 1.25
"""Units there are for each that is used."""

_INPUT_TOKENS, _OUTPUT_TOKENS = 300, 200
_BATCH, _AT_TOKENS = 48, 512
_WAVE_S = 600.0


@dataclass(frozen=True)
class Reporter:
    """A pod that serves a steady load.

    Attributes:
        name: Name of the pod.
        model: Name of its model.
        rate: Requests per second.
    """

    name: str
    model: str
    rate: float


def service_name(number: int) -> str:
    """Name of a service and its Deployment."""
    return f"chat-{number:04}"


def model_of(number: int) -> str:
    """Name of the model of a service."""
    return f"model-{number % MODELS:02}"


def accelerator_of(number: int) -> str:
    """The accelerator that a service starts on."""
    return list(PROFILES)[number % len(PROFILES)]


def rate_of(number: int) -> float:
    """Requests per second of each pod of a service."""
    return 0.6 + 0.05 * (number % 7)


def node_groups(services: int, replicas: int) -> list[Manifest]:
    """Groups of nodes, in the form of `localcluster.nodes`, with some units to spare."""
    used = math.ceil(services / len(PROFILES)) * replicas
    return [
        {
            "name": name,
            "count": math.ceil(used * SPARE / UNITS_PER_NODE),
            "labels": {"accelerator": name},
            "allocatable": {"cpu": "512", "memory": "8Ti", "nvidia.com/gpu": UNITS_PER_NODE},
        }
        for name in PROFILES
    ]


def shared(tick_seconds: int, window_seconds: int) -> list[Manifest]:
    """The cluster-scoped objects: accelerators, models, classes and the policy."""
    policy = {
        "tickSeconds": tick_seconds,
        "metrics": {"windowSeconds": window_seconds, "maxAgeSeconds": window_seconds},
        # The plan is to come to rest: nothing is moved for less than a tenfold saving.
        "transitionPenalty": 10.0,
    }
    return [
        *(
            _custom(
                "AcceleratorProfile",
                name,
                {
                    "type": name.upper(),
                    "cost": cost,
                    "resourceName": "nvidia.com/gpu",
                    "nodeSelector": {"accelerator": name},
                },
            )
            for name, (_, cost) in PROFILES.items()
        ),
        *(_custom("ModelProfile", model_of(number), _model(number)) for number in range(MODELS)),
        *(_custom("ServiceClass", f"class-{number}", _class(number)) for number in range(CLASSES)),
        _custom("OptimizerPolicy", "default", policy),
    ]


def service(number: int, replicas: int) -> Manifest:
    """An InferenceService that the operator may patch."""
    spec = {
        "model": model_of(number),
        "serviceClass": f"class-{number // MODELS % CLASSES}",
        "targetRef": {"name": service_name(number)},
        "minReplicas": replicas,
        "maxReplicas": replicas + 2,
        "mode": "Apply",
    }
    return _custom("InferenceService", service_name(number), spec, NAMESPACE)


def deployment(number: int, replicas: int) -> Manifest:
    """The Deployment of a service."""
    name = service_name(number)
    server = {
        "name": "server",
        "image": "vllm/vllm-openai",
        "args": [f"--served-model-name={model_of(number)}"],
        "resources": {"limits": {"nvidia.com/gpu": 1}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name, "service": str(number)}},
                "spec": {
                    "nodeSelector": {"accelerator": accelerator_of(number)},
                    "containers": [server],
                },
            },
        },
    }


def exposition(reporters: Iterable[Reporter], seconds: float, noise: float) -> str:
    """What all pods report, in Prometheus' text format with the names of vLLM.

    Args:
        reporters: The pods.
        seconds: For how long they have been serving.
        noise: How far the rate swings about its mean, as a fraction of it.
    """
    return "".join(
        line for number, reporter in enumerate(reporters) for line in _lines(number, reporter, seconds, noise)
    )


def _lines(number: int, reporter: Reporter, seconds: float, noise: float) -> Iterator[str]:
    # The integral of a rate that swings: it always grows.
    swing = noise * _WAVE_S / (2 * math.pi)
    wave = math.sin(2 * math.pi * seconds / _WAVE_S + number) - math.sin(number)
    requests = reporter.rate * (seconds + swing * wave)
    itl, ttft = 0.02, 0.2
    labels = f'{{namespace="{NAMESPACE}",pod="{reporter.name}",model_name="{reporter.model}"}}'
    gaps = requests * (_OUTPUT_TOKENS - 1)
    for name, value in (
        ("num_requests_running", round(reporter.rate * itl * _OUTPUT_TOKENS)),
        ("num_requests_waiting", 0),
        ("request_success_total", requests),
        ("prompt_tokens_total", requests * _INPUT_TOKENS),
        ("generation_tokens_total", requests * _OUTPUT_TOKENS),
        ("request_prompt_tokens_sum", requests * _INPUT_TOKENS),
        ("request_prompt_tokens_count", requests),
        ("request_generation_tokens_sum", requests * _OUTPUT_TOKENS),
        ("request_generation_tokens_count", requests),
        ("inter_token_latency_seconds_sum", gaps * itl),
        ("inter_token_latency_seconds_count", gaps),
        ("time_to_first_token_seconds_sum", requests * ttft),
        ("time_to_first_token_seconds_count", requests),
    ):
        yield f"vllm:{name}{labels} {value}\n"


def _model(number: int) -> Manifest:
    size = 1 + number / MODELS
    return {
        "modelName": model_of(number),
        "profiles": [
            {
                "accelerator": name,
                "alpha": round(20 * size / speed, 3),
                "beta": round(0.6 * size / speed, 3),
                "gamma": round(8 * size / speed, 3),
                "delta": round(0.02 * size / speed, 4),
                "maxBatchSize": _BATCH,
                "atTokens": _AT_TOKENS,
            }
            for name, (speed, _) in PROFILES.items()
        ],
    }


def _class(number: int) -> Manifest:
    models = [{"model": model_of(m), "itl": 80.0 + 20 * number, "ttft": 3000.0} for m in range(MODELS)]
    return {"priority": 1 + 10 * number, "models": models}


def _custom(kind: str, name: str, spec: Manifest, namespace: str | None = None) -> Manifest:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
