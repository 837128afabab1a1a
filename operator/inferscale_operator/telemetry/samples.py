"""What the last plan says, as samples of metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from inferscale_operator.api.inference_allocation import AllocationEntry
from inferscale_operator.plan import Plan, ServicePlan
from inferscale_operator.snapshot import Snapshot
from inferscale_operator.telemetry import families
from inferscale_operator.telemetry.families import Family
from inferscale_solver import Outcome

Sample = tuple[Family, tuple[str, ...], float]
"""A metric, the values of its labels, its value."""


def samples(snapshot: Snapshot, plan: Plan) -> Iterator[Sample]:
    """Samples of the metrics in `families.OF_PLAN`; what is not known has none."""
    yield from _counts(plan)
    yield from _cluster(snapshot, plan)
    for service in plan.services:
        yield from _service(service)


def gates(service: ServicePlan) -> frozenset[str]:
    """What holds back that the service gets what is wanted for it."""
    return frozenset(gate.type.value for entry in service.allocation.allocations for gate in entry.gates)


def _counts(plan: Plan) -> Iterator[Sample]:
    stated = [_conditions(service) for service in plan.services]
    reasons = Counter(service.allocation.reason for service in plan.services)
    unknown = Counter(
        conditions["MetricsAvailable"]["reason"]
        for conditions in stated
        if conditions.get("MetricsAvailable", {}).get("status") == "False"
    )
    held = Counter(gate for service in plan.services for gate in gates(service))
    moves = Counter(
        service.allocation.move.step.value for service in plan.services if service.allocation.move is not None
    )
    for family, counts in (
        (families.DECISIONS, reasons),
        (families.UNKNOWN, unknown),
        (families.HELD_BACK, held),
        (families.MOVES, moves),
    ):
        for value, count in sorted(counts.items()):
            yield family, (value,), count
    unserved = sum(
        conditions.get("Optimized", {}).get("reason") in (Outcome.BEST_EFFORT, Outcome.UNSERVED)
        for conditions in stated
    )
    yield families.UNSERVED, (), unserved


def _cluster(snapshot: Snapshot, plan: Plan) -> Iterator[Sample]:
    rows = [entry for service in plan.services for entry in service.allocation.allocations]
    yield families.COST, ("current",), sum(entry.current_cost or 0.0 for entry in rows)
    yield families.COST, ("target",), sum(entry.cost or 0.0 for entry in rows)
    if plan.savings is not None:
        yield families.SAVED, (), plan.savings.total
        yield families.SAVED_PER_HOUR, (), plan.savings.per_hour
    if plan.gap is not None:
        yield families.GAP, (), plan.gap
    types = {
        profile.name: profile.spec.type
        for profile in snapshot.accelerator_profiles
        if profile.spec is not None
    }
    # Profiles of one type tell the same figures.
    stock = {
        types[status.ref.name]: status.status
        for status in plan.statuses
        if status.ref.kind == "AcceleratorProfile" and status.ref.name in types
    }
    for kind, figures in sorted(stock.items()):
        for state, field in (
            ("total", "capacity"),
            ("used", "used"),
            ("others", "usedByOthers"),
            ("free", "free"),
        ):
            if figures.get(field) is not None:
                yield families.UNITS, (kind, state), figures[field]


def _service(service: ServicePlan) -> Iterator[Sample]:
    ref = (service.service.namespace or "", service.service.name)
    load = service.allocation.load
    if load is not None and load.arrival_rate is not None:
        yield families.ARRIVALS, ref, load.arrival_rate / 60
    for entry in service.allocation.allocations:
        yield from _replicas(ref, entry)
        for family, value, scale in (
            (families.ITL_PREDICTED, entry.predicted_itl, 1e-3),
            (families.ITL_OBSERVED, entry.observed_itl, 1e-3),
            (families.TTFT_PREDICTED, entry.predicted_ttft, 1e-3),
            (families.TTFT_OBSERVED, entry.observed_ttft, 1e-3),
        ):
            if value is not None:
                yield family, ref, value * scale
        if entry.current_cost is not None:
            yield families.SERVICE_COST, (*ref, "current"), entry.current_cost
        if entry.cost is not None:
            yield families.SERVICE_COST, (*ref, "target"), entry.cost


def _replicas(ref: tuple[str, ...], entry: AllocationEntry) -> Iterator[Sample]:
    here = entry.current_accelerator or ""
    yield families.REPLICAS, (*ref, here, "current"), entry.current_replicas
    yield families.REPLICAS, (*ref, here, "ready"), entry.ready_replicas
    yield families.REPLICAS, (*ref, entry.accelerator, "desired"), entry.desired_replicas
    yield families.REPLICAS, (*ref, entry.target_accelerator or "", "target"), entry.target_replicas


def _conditions(service: ServicePlan) -> Mapping[str, Mapping[str, Any]]:
    return {condition["type"]: condition for condition in service.status.status.get("conditions", ())}
