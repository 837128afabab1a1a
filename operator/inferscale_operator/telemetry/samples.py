"""What the last plan says, as samples of metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from inferscale_operator.api.accelerator_profile import AcceleratorProfileStatus
from inferscale_operator.api.base import ConditionStatus
from inferscale_operator.api.inference_allocation import AllocationEntry
from inferscale_operator.api.service_class import ServiceClassSpec
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
    classes = {r.name: r.spec for r in snapshot.service_classes if r.spec is not None}
    for service in plan.services:
        yield from _service(service)
        yield from _promise(service, classes.get(service.allocation.service_class))
        yield from _state(service)
        move = service.allocation.move
        if move is not None:
            yield families.MOVE_SECONDS, _ref(service), (plan.time - move.started_at).total_seconds()


def gates(service: ServicePlan) -> frozenset[str]:
    """What holds back that the service gets what is wanted for it."""
    return frozenset(gate.type.value for entry in service.allocation.allocations for gate in entry.gates)


def _counts(plan: Plan) -> Iterator[Sample]:
    stated = [c for service in plan.services for c in service.status.status.conditions]
    reasons = Counter(service.allocation.reason for service in plan.services)
    unknown = Counter(
        c.reason for c in stated if c.type == "MetricsAvailable" and c.status is ConditionStatus.FALSE
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
        c.type == "Optimized" and c.reason in (Outcome.BEST_EFFORT, Outcome.UNSERVED) for c in stated
    )
    yield families.UNSERVED, (), unserved


def _cluster(snapshot: Snapshot, plan: Plan) -> Iterator[Sample]:
    rows = [entry for service in plan.services for entry in service.allocation.allocations]
    yield families.COST, ("current",), sum(entry.current_cost or 0.0 for entry in rows)
    yield families.COST, ("target",), sum(entry.cost or 0.0 for entry in rows)
    if plan.savings is not None:
        yield families.SAVED, (), plan.savings.total
        yield families.SAVED_PER_HOUR, (), plan.savings.per_hour
    yield families.TICK_INTERVAL, (), snapshot.policy.tick_seconds
    if plan.gap is not None:
        yield families.GAP, (), plan.gap
    types = {
        profile.name: profile.spec.type
        for profile in snapshot.accelerator_profiles
        if profile.spec is not None
    }
    # Profiles of one type tell the same figures.
    stock = {
        types[each.ref.name]: each.status
        for each in plan.statuses
        if isinstance(each.status, AcceleratorProfileStatus) and each.ref.name in types
    }
    for kind, figures in sorted(stock.items()):
        for state, units in (
            ("total", figures.capacity),
            ("used", figures.used),
            ("others", figures.used_by_others),
            ("free", figures.free),
        ):
            if units is not None:
                yield families.UNITS, (kind, state), units


def _service(service: ServicePlan) -> Iterator[Sample]:
    ref = _ref(service)
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


def _promise(service: ServicePlan, known: ServiceClassSpec | None) -> Iterator[Sample]:
    """What a service is, what it was promised, and whether it is kept."""
    ref, status = _ref(service), service.allocation
    priority = str(known.priority) if known is not None else ""
    yield families.INFO, (*ref, status.model, status.service_class, priority, status.mode), 1
    targets = next((t for t in known.models if t.model == status.model), None) if known is not None else None
    if targets is None:
        return
    for family, objective in ((families.ITL_OBJECTIVE, targets.itl), (families.TTFT_OBJECTIVE, targets.ttft)):
        if objective is not None:
            yield family, ref, objective * 1e-3
    within = [
        seen <= objective
        for entry in status.allocations
        for seen, objective in ((entry.observed_itl, targets.itl), (entry.observed_ttft, targets.ttft))
        if seen is not None and objective is not None
    ]
    if within:
        yield families.HELD, ref, all(within)


def _state(service: ServicePlan) -> Iterator[Sample]:
    """Conditions that are stated: those that are unknown have no sample."""
    ref = _ref(service)
    stated = {c.type: c for c in service.status.status.conditions if c.status is not ConditionStatus.UNKNOWN}
    for family, kind in ((families.LOAD_KNOWN, "MetricsAvailable"), (families.AT_RISK, "SLOAtRisk")):
        if kind in stated:
            yield family, ref, stated[kind].status is ConditionStatus.TRUE
    limited = stated.get("CapacityLimited")
    if limited is not None:
        # With that reason it is served, on something dearer.
        dearer = limited.reason == "CheaperIsExhausted"
        yield families.LIMITED, ref, limited.status is ConditionStatus.TRUE and not dearer
    yield families.MOVES_FAILED, ref, len(service.allocation.failed_moves)


def _replicas(ref: tuple[str, ...], entry: AllocationEntry) -> Iterator[Sample]:
    here = entry.current_accelerator or ""
    yield families.REPLICAS, (*ref, here, "current"), entry.current_replicas
    yield families.REPLICAS, (*ref, here, "ready"), entry.ready_replicas
    yield families.REPLICAS, (*ref, entry.accelerator, "desired"), entry.desired_replicas
    yield families.REPLICAS, (*ref, entry.target_accelerator or "", "target"), entry.target_replicas


def _ref(service: ServicePlan) -> tuple[str, ...]:
    return service.service.namespace or "", service.service.name
