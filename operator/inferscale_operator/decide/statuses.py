"""Statuses of the cluster-scoped objects: profiles, classes, the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inferscale_operator.api.accelerator_profile import AcceleratorProfileSpec, AcceleratorProfileStatus
from inferscale_operator.api.base import ConditionStatus
from inferscale_operator.api.limits import SHED_LIMIT, QuotaStatus, ShedStatus
from inferscale_operator.api.model_profile import ModelProfileSpec, ModelProfileStatus
from inferscale_operator.api.optimizer_policy import POLICY_NAME, OptimizerPolicySpec, OptimizerPolicyStatus
from inferscale_operator.api.service_class import ServiceClassSpec, ServiceClassStatus
from inferscale_operator.decide.accelerators import Stock, states_capacity
from inferscale_operator.decide.catalog import Catalog, Subject, unknown_references
from inferscale_operator.decide.conditions import Finding, conditions, cut, events, false, true
from inferscale_operator.decide.findings import Outlook, shed_reason
from inferscale_operator.decide.formulate import served
from inferscale_operator.decide.inventory import Toleration, left_out
from inferscale_operator.decide.limits import counts, destination
from inferscale_operator.plan import ObjectRef, Savings, ServicePlan, Status, StatusPlan
from inferscale_operator.snapshot import PolicyState, Resource, Snapshot
from inferscale_queueing.frozen import frozen
from inferscale_solver import Result

_ALARMING = {"Ready": ConditionStatus.FALSE}
_INSTEAD = {
    PolicyState.IN_FORCE: "the defaults hold",
    PolicyState.KEPT: "what it said before stays in force",
    PolicyState.HELD: "until it can be used every service keeps what it has",
}


@frozen
class Basis:
    """What a snapshot was found to hold, and what the optimiser made of it."""

    entries: Catalog
    stocks: Mapping[str, Stock]
    """The accelerators, by type."""
    tolerations: Mapping[str, Sequence[Toleration]]
    """In the pod templates of the services, by the type of accelerator that they use."""
    subjects: Mapping[str, Subject]
    """The services that can be decided, by key."""
    outlooks: Mapping[str, Outlook]
    """Of those that were."""
    result: Result | None
    """The solver's whole answer."""


def cluster_statuses(
    snapshot: Snapshot, basis: Basis, services: Sequence[ServicePlan], saved: Savings
) -> tuple[StatusPlan, ...]:
    """The status of every profile and class, and of the policy."""
    entries, plans = basis.entries, []
    for profile in snapshot.accelerator_profiles:
        stock = basis.stocks.get(profile.spec.type) if profile.spec is not None else None
        tolerated = basis.tolerations.get(profile.spec.type, ()) if profile.spec is not None else ()
        figures = (
            {
                "capacity": stock.capacity,
                "used": stock.used,
                "used_by_others": stock.used_by_others,
                "free": stock.free,
                "not_counted": left_out(profile.spec, snapshot.nodes, tolerated),
            }
            if stock is not None and profile.spec is not None
            else {}
        )
        error = profile.error or _not_stated(profile, entries, snapshot)
        finding = _validity(error, "Valid", "Invalid" if profile.error else "CapacityNotStated")
        plans.append(
            _status("AcceleratorProfile", profile, AcceleratorProfileStatus, figures, finding, snapshot)
        )
    for model in snapshot.model_profiles:
        error = _model_error(model, entries)
        reason = "Invalid" if model.spec is None else "AcceleratorNotFound"
        plans.append(
            _status(
                "ModelProfile", model, ModelProfileStatus, {}, _validity(error, "Valid", reason), snapshot
            )
        )
    for service_class in snapshot.service_classes:
        error = _class_error(service_class, entries)
        reason = "Invalid" if service_class.spec is None else "ModelNotFound"
        plans.append(
            _status(
                "ServiceClass",
                service_class,
                ServiceClassStatus,
                {},
                _validity(error, "Valid", reason),
                snapshot,
            )
        )
    for policy in snapshot.policies:
        if policy.name == POLICY_NAME:
            error = _policy_error(policy, entries, snapshot.policy_state)
            finding = _validity(error, "InForce", "Invalid" if policy.spec is None else "TypeNotFound")
            quality = _totals(snapshot, services, basis.outlooks) | _quality(basis.result) | _saved(saved)
            subjects, outlooks = basis.subjects, basis.outlooks
            limits = {**_shed(subjects, outlooks), "quotas": _quotas(snapshot, subjects, outlooks)}
            plans.append(
                _status("OptimizerPolicy", policy, OptimizerPolicyStatus, quality | limits, finding, snapshot)
            )
    return tuple(sorted(plans, key=lambda p: (p.ref.kind, p.ref.name)))


def _status(
    kind: str,
    resource: Resource[Any],
    model: type[Status],
    figures: Mapping[str, Any],
    finding: Finding,
    snapshot: Snapshot,
) -> StatusPlan:
    after = conditions(resource.conditions, {"Ready": finding}, resource.generation, snapshot.time)
    return StatusPlan(
        ref=ObjectRef(kind, resource.name, resource.uid),
        status=model(observed_generation=resource.generation, conditions=after, **figures),
        events=events(resource.conditions, after, _ALARMING),
    )


def _validity(error: str, good: str, bad: str = "Invalid") -> Finding:
    return false(bad, error) if error else true(good)


def _not_stated(resource: Resource[AcceleratorProfileSpec], entries: Catalog, snapshot: Snapshot) -> str:
    """What a profile lacks where the pods of others are not read."""
    spec = resource.spec
    if snapshot.all_pods or spec is None:
        return ""
    if states_capacity(other for other in entries.accelerators.values() if other.type == spec.type):
        return ""
    return (
        "spec.capacity.fixed is missing: the operator does not read the pods of other namespaces, so it does"
        f" not know what they hold of {spec.type}, and services get no more than they have. State how many"
        " units are for them, or run it with --read-pods"
    )


def _model_error(resource: Resource[ModelProfileSpec], entries: Catalog) -> str:
    if resource.spec is None:
        return resource.error
    named = ((f"spec.profiles[{i}].accelerator", p.accelerator) for i, p in enumerate(resource.spec.profiles))
    return unknown_references(named, "an AcceleratorProfile", entries.accelerators)


def _class_error(resource: Resource[ServiceClassSpec], entries: Catalog) -> str:
    if resource.spec is None:
        return resource.error
    named = ((f"spec.models[{i}].model", t.model) for i, t in enumerate(resource.spec.models))
    return unknown_references(named, "a ModelProfile", entries.models)


def _policy_error(resource: Resource[OptimizerPolicySpec], entries: Catalog, state: PolicyState) -> str:
    if resource.spec is None:
        return f"{resource.error}; {_INSTEAD[state]}"
    known = {profile.type for profile in entries.accelerators.values()}
    named = ((f"spec.quotas[{i}].type", quota.type) for i, quota in enumerate(resource.spec.quotas))
    return unknown_references(named, "the type of an AcceleratorProfile", known)


def _totals(
    snapshot: Snapshot, services: Sequence[ServicePlan], outlooks: Mapping[str, Outlook]
) -> dict[str, Any]:
    rows = [entry for plan in services for entry in plan.allocation.allocations]
    return {
        "last_tick": snapshot.time.isoformat(timespec="seconds"),
        "total_cost": round(sum(entry.current_cost or 0.0 for entry in rows), 2),
        "target_cost": round(sum(entry.cost or 0.0 for entry in rows), 2),
        "services": len(services),
        "unserved": sum(not served(outlook.decision) for outlook in outlooks.values()),
    }


def _saved(saved: Savings) -> dict[str, Any]:
    return {"saved_total": round(saved.total, 2), "saved_per_hour": round(saved.per_hour, 2)}


def _quality(result: Result | None) -> dict[str, Any]:
    """How good the plan is, and what would make it better."""
    if result is None:
        return {}
    return {
        "unserved_by_priority": {str(p): count for p, count in result.unserved_by_priority.items()},
        "unserved_bound": {str(p): count for p, count in result.unserved_bound.items()} or None,
        "gap": None if result.gap is None else round(result.gap, 4),
        "lower_bound": _rounded(result.lower_bound),
        "burst_cost": _rounded(result.burst_cost),
        "placement_cost": _rounded(result.placement_cost),
        "stopped": result.stopped,
        "prices": {kind: round(price, 2) for kind, price in result.prices.items()} or None,
        "power": round(result.power),
    }


def _shed(subjects: Mapping[str, Subject], outlooks: Mapping[str, Outlook]) -> dict[str, Any]:
    """The services that a budget or a quota leaves without their objectives, the last priority first."""
    shed = [
        ShedStatus(
            service=key,
            priority=subjects[key].priority,
            reason=reason,
            message=cut(outlook.decision.reason),
        )
        for key, outlook in outlooks.items()
        if (reason := shed_reason(outlook.decision)) is not None
    ]
    shed.sort(key=lambda each: (-each.priority, each.service))
    return {"shed": tuple(shed[:SHED_LIMIT]), "shed_count": len(shed)}


def _quotas(
    snapshot: Snapshot, subjects: Mapping[str, Subject], outlooks: Mapping[str, Outlook]
) -> tuple[QuotaStatus, ...]:
    """What the target takes of each quota, what is not decided counted with what it holds."""

    def taken(key: str, subject: Subject, kind: str) -> int:
        if key not in outlooks:
            return destination(subject).get(kind, 0)
        target = outlooks[key].intent.target
        fits = subject.kind(target.accelerator) == kind
        return target.replicas * subject.units(target.accelerator) if fits else 0

    return tuple(
        QuotaStatus(
            type=quota.type,
            namespace=quota.namespace,
            service_class=quota.service_class,
            units=quota.units,
            used=sum(taken(key, s, quota.type) for key, s in subjects.items() if counts(quota, s)),
        )
        for quota in snapshot.policy.quotas
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
