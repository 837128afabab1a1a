"""Histories of model servers for the tests of the backtest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twin_builders import ACCELERATORS, CLASSES, MODELS, POLICY

Curve = Callable[[float], float]
"""A figure at a time, Unix seconds."""

ITL_S, TTFT_S = 0.012, 0.2


def document(*services: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """What `--services` takes."""
    return {
        "seed": 3,
        "startUp": {"seconds": 20},
        "nodes": [{"type": "H100", "count": 2}, {"type": "A100", "count": 1}],
        "accelerators": ACCELERATORS,
        "models": MODELS,
        "classes": CLASSES,
        "policy": POLICY,
        "services": list(services) or [service()],
        **fields,
    }


def service(name: str = "chat", **fields: Any) -> dict[str, Any]:
    """A service without a load."""
    return {
        "name": name,
        "spec": {"model": "llama", "serviceClass": "standard", **fields.pop("spec", {})},
        "initial": {"accelerator": "h100"},
        **fields,
    }


def exported(
    pod: str,
    times: Iterable[int],
    finished: Curve,
    *,
    running: Curve = lambda _: 4.0,
    tokens: tuple[float, float] = (128.0, 64.0),
    itl_s: float = ITL_S,
    ttft_s: float = TTFT_S,
    without: tuple[str, ...] = (),
) -> str:
    """What one vLLM has exported, in the OpenMetrics format with times; `without` names what it has not."""

    def scaled(factor: float) -> Curve:
        return lambda at: factor * finished(at)

    curves: dict[str, Curve] = {
        "vllm:num_requests_running": running,
        "vllm:num_requests_waiting": lambda _: 0.0,
        "vllm:request_success_total": finished,
        "vllm:prompt_tokens_total": scaled(tokens[0]),
        "vllm:generation_tokens_total": scaled(tokens[1]),
    }
    for name, mean, count in (
        ("vllm:request_prompt_tokens", tokens[0], 1.0),
        ("vllm:request_generation_tokens", tokens[1], 1.0),
        ("vllm:inter_token_latency_seconds", itl_s, tokens[1] - 1),
        ("vllm:time_to_first_token_seconds", ttft_s, 1.0),
    ):
        curves[f"{name}_sum"] = scaled(mean * count)
        curves[f"{name}_count"] = scaled(count)
    labels = f'{{namespace="default",pod="{pod}",model_name="llama"}}'
    moments = list(times)
    return "".join(
        f"{name}{labels} {curve(at)!r} {at}\n"
        for name, curve in curves.items()
        if not name.startswith(without or ("-",))
        for at in moments
    )
