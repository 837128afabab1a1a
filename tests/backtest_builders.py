"""Histories of model servers for the tests of the backtest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inferscale_operator.api.metric_preset import MetricPreset
from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.backtest.profile import Gap, Profile
from inferscale_operator.backtest.pull import History
from inferscale_operator.backtest.services import Described, read_services
from inferscale_operator.backtest.span import Span
from inferscale_operator.metrics.presets import VLLM
from inferscale_operator.metrics.queries import Query, queries
from twin_builders import ACCELERATORS, CLASSES, MODELS, POLICY, write

Curve = Callable[[float], float]
"""A figure at a time, Unix seconds."""

NAN = float("nan")
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


SPAN = Span(1_750_003_200, 12, 60)


def pod(
    rate: Any, seen: Sequence[bool] | None = None, covered: Sequence[bool] | None = None, **more: float
) -> dict[Query, Any]:
    """What the queries say of a pod at every step of `SPAN`.

    Args:
        rate: Requests per minute, one or many.
        seen: At which steps it was sampled; None: at all.
        covered: At which of those throughout the step; None: at all.
        more: `itl` and `ttft` (s), `inputs` and `outputs`.
    """
    rates = np.broadcast_to(np.asarray(rate, dtype=float) / 60, SPAN.count)
    there = np.ones(SPAN.count, bool) if seen is None else np.asarray(seen, bool)
    fully = there if covered is None else np.asarray(covered, bool)
    times = np.array([SPAN.time(index) for index in range(SPAN.count)], dtype=float)
    figures = {
        Query.ARRIVALS: rates,
        Query.IN_FLIGHT: np.where(rates > 0, 2.0, 0.0),
        Query.PEAK_IN_FLIGHT: np.where(rates > 0, 2.0, 0.0),
        Query.PROGRESS: rates * 100,
        Query.SAMPLED: times - 5,
        Query.COVERAGE: np.where(fully, 4.0, 0.0),
        Query.INPUT_TOKENS_SUM: rates * more.get("inputs", 128),
        Query.INPUT_TOKENS_COUNT: rates,
        Query.OUTPUT_TOKENS_SUM: rates * more.get("outputs", 64),
        Query.OUTPUT_TOKENS_COUNT: rates,
        Query.ITL_SUM: rates * more.get("itl", ITL_S),
        Query.ITL_COUNT: rates,
        Query.TTFT_SUM: rates * more.get("ttft", TTFT_S),
        Query.TTFT_COUNT: rates,
    }
    return {query: np.where(there, values, np.nan) for query, values in figures.items()}


def history(
    pods: Mapping[str, Mapping[Query, Any]],
    preset: MetricPreset = VLLM,
    queued: Mapping[Query, Any] | None = None,
) -> History:
    """The history of pods by name, in namespace `default`, and of what a gateway holds for `llama` there."""
    settings = MetricsSettings(window_seconds=SPAN.step)
    values: dict[Query, dict[tuple[str, str], Any]] = {query: {} for query in queries(preset, settings)}
    for name, figures in (*pods.items(), ("llama", queued or {})):
        for query, series in figures.items():
            values[query]["default", name] = series
    return History(SPAN, settings, {preset.name: preset}, {preset.name: values})


def described(folder: Path, *services: dict[str, Any], **fields: Any) -> Described:
    """Services as `--services` reads them."""
    return read_services(write(folder, document(*services, **fields), "services.yaml"))


def row(value: Any) -> Any:
    """One value at every step, or one for each."""
    return np.broadcast_to(np.asarray(value, dtype=float), SPAN.count).copy()


def profile(rate: Any = 300.0, replicas: Any = 2.0, itl: Any = 11.0, ttft: Any = 15.0) -> Profile:
    """What was at every step of `SPAN`."""
    rates = row(rate)
    return Profile(
        rate=rates,
        input_tokens=row(128),
        output_tokens=row(64),
        itl=np.where(np.isnan(rates), NAN, row(itl)),
        ttft=np.where(np.isnan(rates), NAN, row(ttft)),
        replicas=row(replicas),
        partial=0,
        gaps=(Gap(SPAN.begin, SPAN.begin + 60, "no samples"),) if np.isnan(rates).any() else (),
        notes=(),
    )
