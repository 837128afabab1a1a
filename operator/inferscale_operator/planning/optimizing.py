"""The file that says how to optimise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from inferscale_operator.planning.deck import BOUNDS, LatencyModelName, OptimizerData
from inferscale_operator.planning.findings import Findings
from inferscale_operator.planning.rows import UNREAD, Row, choice, one_of, read_json
from inferscale_solver import Quota, SaturationPolicy, Solver, TailRule


def read_optimizer(
    path: Path | None, types: set[str], classes: set[str], findings: Findings
) -> OptimizerData:
    """Read and validate the optimizer's file.

    Args:
        path: Where it is; None: there is none.
        types: The types of the accelerators.
        classes: The service classes.
        findings: Where errors go.
    """
    if path is None:
        return OptimizerData()
    content = read_json(path, "give --optimizer FILE", findings)
    if content is UNREAD:
        return OptimizerData()
    if isinstance(content, Mapping) and "optimizer" in content:
        content = content["optimizer"]
    row = Row(str(path), "", content, findings)
    data = OptimizerData(
        unlimited=row.flag("unlimited", default=False) if row.has("unlimited") else None,
        solver=choice(row, "solver", Solver),
        saturation_policy=choice(row, "saturationPolicy", SaturationPolicy),
        delayed_best_effort=row.flag("delayedBestEffort", default=False)
        if row.has("delayedBestEffort")
        else None,
        transition_penalty=_optional(row, "transitionPenalty", "transition_penalty"),
        keep_threshold=_optional(row, "keepThreshold", "keep_threshold"),
        quotas=tuple(_quotas(row, types, classes)) if row.has("quotas") else None,
        latency_model=choice(row, "latencyModel", LatencyModelName),
        slo_rule=choice(row, "sloRule", TailRule),
        percentile=_optional(row, "percentile", "percentile"),
        max_cost=_optional(row, "maxCostPerHour" if row.has("maxCostPerHour") else "maxCost", "max_cost"),
    )
    row.has("maxCost")
    row.finish()
    return data


def _quotas(row: Row, types: set[str], classes: set[str]) -> Iterator[Quota]:
    for quota in row.rows("quotas"):
        kind, units = quota.text("type"), quota.integer("units")
        if kind and types and kind not in types:
            quota.wrong("type", kind, f"is the type of no accelerator: {one_of(types)}")
        namespace, service_class = (
            quota.text(name) if quota.has(name) else None for name in ("namespace", "serviceClass")
        )
        if service_class and classes and service_class not in classes:
            quota.wrong("serviceClass", service_class, f"is no service class: {one_of(classes)}")
        if namespace is None and service_class is None:
            quota.wrong("namespace", "", "a quota is for somebody: give namespace, serviceClass, or both")
        quota.finish()
        yield Quota(kind, units, namespace, service_class)


def _optional(row: Row, name: str, bounded: str) -> float | None:
    least, most = BOUNDS[bounded]
    return row.number(name, least=least, most=most) if row.has(name) else None
