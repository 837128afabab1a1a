"""What Prometheus measured over the demo: accelerators, their cost, and what each class got."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_api_client import PrometheusConnect
from rich.table import Table

WINDOW_S = 10
# A pod is called <Deployment>-<template hash>-<random>; a Deployment here is called like its service.
_BY_SERVICE = 'sum by (service) (label_replace({}, "service", "$1", "pod", "(.*)-[^-]+-[^-]+"))'
_INCREASES = {
    "requests": "vllm:request_success_total",
    "itl_sum": "vllm:inter_token_latency_seconds_sum",
    "itl_count": "vllm:inter_token_latency_seconds_count",
    "ttft_sum": "vllm:time_to_first_token_seconds_sum",
    "ttft_count": "vllm:time_to_first_token_seconds_count",
}


@dataclass(frozen=True)
class Objective:
    """What a service was promised."""

    service_class: str
    itl_ms: float
    ttft_ms: float


@dataclass(frozen=True)
class Attainment:
    """How a class fared."""

    windows: int
    held: int
    requests: float
    requests_held: float


class Measured:
    """The figures of one stretch of time, asked of Prometheus in windows of ten seconds."""

    def __init__(self, url: str, start: float, end: float) -> None:
        self._client = PrometheusConnect(url=url)
        self._start, self._end = start, end

    def accelerators(self) -> list[dict[str, float]]:
        """Replicas that served, by node, in each window."""
        series = self._range("count by (node) (vllm:num_requests_running)")
        times = sorted({at for values in series.values() for at in values})
        return [{node: values.get(at, 0.0) for node, values in series.items()} for at in times]

    def attainment(self, objectives: Mapping[str, Objective]) -> dict[str, Attainment]:
        """By class: windows in which a service held both objectives, and the requests that finished then."""
        found = {
            name: self._range(_BY_SERVICE.format(f"increase({metric}[{WINDOW_S}s])"))
            for name, metric in _INCREASES.items()
        }
        result: dict[str, Attainment] = {}
        for service, objective in sorted(objectives.items()):
            before = result.get(objective.service_class, Attainment(0, 0, 0.0, 0.0))
            for at, requests in found["requests"].get(service, {}).items():
                held = self._held(found, service, at, objective)
                if held is None:
                    continue
                before = Attainment(
                    before.windows + 1,
                    before.held + held,
                    before.requests + requests,
                    before.requests_held + requests * held,
                )
            result[objective.service_class] = before
        return result

    def _held(
        self,
        found: Mapping[str, Mapping[str, Mapping[float, float]]],
        service: str,
        at: float,
        goal: Objective,
    ) -> bool | None:
        """Whether both means were within the objectives; None: nothing was measured in this window."""
        means = []
        for name in ("itl", "ttft"):
            total = found[f"{name}_sum"].get(service, {}).get(at, math.nan)
            count = found[f"{name}_count"].get(service, {}).get(at, 0.0)
            if not count > 0:
                return None
            means.append(1000 * total / count)
        return means[0] <= goal.itl_ms and means[1] <= goal.ttft_ms

    def _range(self, query: str) -> dict[str, dict[float, float]]:
        answer: list[dict[str, Any]] = self._client.custom_query_range(
            query,
            start_time=datetime.fromtimestamp(self._start + WINDOW_S, UTC),
            end_time=datetime.fromtimestamp(self._end, UTC),
            step=f"{WINDOW_S}s",
        )
        return {
            next(iter(series["metric"].values()), ""): {
                float(at): float(value) for at, value in series["values"]
            }
            for series in answer
        }


def cost_table(
    windows: list[dict[str, float]], static: Mapping[str, int], cost: Mapping[str, float]
) -> Table:
    """Accelerators in use and their cost, beside the static start.

    Args:
        windows: Replicas that served by node, in each window; a replica takes one accelerator here.
        static: Accelerators that the static start held, by node.
        cost: Cost per hour of an accelerator, by node.
    """
    result = Table(title="Accelerators that served", title_justify="left", box=None, pad_edge=False)
    for name in ("", *sorted(cost), "all", "cost/h"):
        result.add_column(name, justify="right" if name else "left")

    def row(label: str, counts: Mapping[str, float], digits: int) -> None:
        figures = [counts.get(node, 0) for node in sorted(cost)]
        total = sum(counts.get(node, 0) * price for node, price in cost.items())
        cells = [f"{figure:.{digits}f}" for figure in (*figures, sum(figures))]
        result.add_row(label, *cells, f"{total:.2f}")

    row("static start", {node: float(count) for node, count in static.items()}, 0)
    mean = {node: sum(w.get(node, 0.0) for w in windows) / max(len(windows), 1) for node in cost}
    row("Inferscale, mean", mean, 1)
    row("Inferscale, most", max(windows, key=lambda w: _price(w, cost), default={}), 0)
    row("Inferscale, least", min(windows, key=lambda w: _price(w, cost), default={}), 0)
    return result


def _price(window: Mapping[str, float], cost: Mapping[str, float]) -> float:
    return sum(window.get(node, 0.0) * price for node, price in cost.items())


def attainment_table(attainments: Mapping[str, Attainment]) -> Table:
    """How often each class had what it was promised."""
    result = Table(title="SLO attainment", title_justify="left", box=None, pad_edge=False)
    result.add_column("class")
    for name in (f"windows of {WINDOW_S} s", "held", "requests", "in held windows", "attainment"):
        result.add_column(name, justify="right")
    for name, each in attainments.items():
        share = each.requests_held / each.requests if each.requests else math.nan
        result.add_row(
            name,
            str(each.windows),
            str(each.held),
            f"{each.requests:.0f}",
            f"{each.requests_held:.0f}",
            f"{100 * share:.1f} %",
        )
    return result
