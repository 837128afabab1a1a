"""Small scenarios for the tests of the digital twin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from inferscale_operator.twin.resources import Setting, read_scenario

ACCELERATORS = {
    "h100": {
        "type": "H100",
        "cost": 10.0,
        "power": {"idle": 100, "full": 500, "midPower": 300, "midUtil": 0.5},
    },
    "a100": {
        "type": "A100",
        "cost": 4.0,
        "power": {"idle": 50, "full": 300, "midPower": 200, "midUtil": 0.5},
    },
}
MODELS = {
    "llama": {
        "profiles": [
            {"accelerator": "h100", "alpha": 10, "beta": 0.2, "gamma": 10, "delta": 0.01}
            | {"maxBatchSize": 32, "atTokens": 64},
            {"accelerator": "a100", "alpha": 20, "beta": 0.5, "gamma": 20, "delta": 0.02}
            | {"maxBatchSize": 24, "atTokens": 64},
        ]
    }
}
CLASSES = {
    "premium": {"priority": 1, "models": [{"model": "llama", "itl": 18, "ttft": 1000, "percentile": 0.95}]},
    "standard": {"priority": 5, "models": [{"model": "llama", "itl": 40, "ttft": 2000}]},
}
POLICY = {
    "tickSeconds": 30,
    "behavior": {
        "scaleUp": {"stabilizationWindowSeconds": 0},
        "scaleDown": {"stabilizationWindowSeconds": 60},
    },
    "metrics": {"windowSeconds": 60},
}


def service(name: str = "chat", replicas: int = 2, on: str = "h100", **fields: Any) -> dict[str, Any]:
    """A service with 300 requests/min of 128 and 64 tokens unless said."""
    spec = {"model": "llama", "serviceClass": "standard", **fields.pop("spec", {})}
    return {
        "name": name,
        "spec": spec,
        "initial": {"accelerator": on, "replicas": replicas},
        "load": {"rate": 300},
        "tokens": {"input": 128, "output": 64},
        **fields,
    }


def document(*services: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A scenario of ten minutes on eight units of each kind."""
    return {
        "duration": 600,
        "seed": 3,
        "startUp": {"seconds": 20},
        "nodes": [{"type": "H100", "count": 1}, {"type": "A100", "count": 1}],
        "accelerators": ACCELERATORS,
        "models": MODELS,
        "classes": CLASSES,
        "policy": POLICY,
        "services": list(services) or [service()],
        **fields,
    }


def write(folder: Path, content: Any, name: str = "scenario.yaml") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def setting(folder: Path, *services: dict[str, Any], **fields: Any) -> Setting:
    return read_scenario(write(folder, document(*services, **fields)))
