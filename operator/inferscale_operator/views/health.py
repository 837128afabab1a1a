"""Whether Inferscale is there and well in a cluster, and what holds each service back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from inferscale_operator.api import RESOURCES
from inferscale_operator.api.base import VERSION
from inferscale_operator.api.crds import manifest
from inferscale_operator.api.optimizer_policy import OptimizerPolicySpec
from inferscale_operator.kube.writer import TIMES_EVERY_S
from inferscale_operator.snapshot import UnknownCause
from inferscale_operator.views.objects import Raw, condition, entry, key, spec, status, time
from inferscale_queueing.frozen import frozen

APPLY_CRDS = "kubectl apply --server-side -f crds/, or upgrade the chart"
LEAST_MARGIN_S = 60.0
TICKS = 3
SHOWN_FIELDS = 5
UNREACHABLE = frozenset({UnknownCause.QUERY_FAILED.value, UnknownCause.ANSWER_INCOMPLETE.value})
"""Reasons of `MetricsAvailable` that are Prometheus' own."""
BACK = ("ProfileValid", "MetricsAvailable", "Applied", "Optimized", "Ready")
"""Conditions that hold a service back where they are False, the first first."""
FORWARD = ("CapacityLimited", "SLOAtRisk")
"""And where they are True."""
MEANT = frozenset({"Recommend", "Paused"})


@frozen
class Refused:
    """Something that could not be read, and why."""

    message: str


@frozen
class Seen:
    """What was read of a cluster."""

    now: datetime
    definitions: Mapping[str, Raw | Refused | None]
    """CustomResourceDefinitions by full name; None: it is not there."""
    deployments: Sequence[Raw] | Refused = ()
    """Of the operator, by its label."""
    lease: Raw | None = None
    policy: Raw | None = None
    services: Sequence[Raw] | Refused = ()
    allocations: Sequence[Raw] = ()


@frozen
class Check:
    """One thing that must be well."""

    name: str
    well: bool | None
    """None: it cannot be told."""
    message: str


@frozen
class ServiceHealth:
    """A service in one row."""

    key: str
    mode: str
    ready: bool
    accelerator: str
    replicas: int | None
    desired: int | None
    reason: str
    held_back: str
    """What holds it back and what to do; empty: nothing does."""


@frozen
class Health:
    """How it is."""

    checks: tuple[Check, ...]
    services: tuple[ServiceHealth, ...]

    @property
    def well(self) -> bool:
        """Whether nothing is known to be wrong."""
        return all(check.well is not False for check in self.checks) and all(s.ready for s in self.services)


def health(seen: Seen) -> Health:
    """How Inferscale is, from what was read."""
    allocations = {key(each): each for each in seen.allocations}
    services: Sequence[Raw] = () if isinstance(seen.services, Refused) else seen.services
    return Health(
        checks=(
            _definitions(seen.definitions),
            *_operator(seen),
            _tick(seen),
            *_policy(seen.policy),
            _services_read(seen.services),
            *_prometheus(services),
        ),
        services=tuple(_service(each, allocations.get(key(each))) for each in services),
    )


def _definitions(found: Mapping[str, Raw | Refused | None]) -> Check:
    name = "custom resources"
    missing = [full for full, raw in sorted(found.items()) if raw is None]
    if missing:
        return Check(name, False, f"install them ({APPLY_CRDS}); missing: {', '.join(missing)}")
    unread = next((raw for raw in found.values() if isinstance(raw, Refused)), None)
    if unread is not None:
        return Check(name, None, unread.message)
    older = [
        f"{resource.full_name} lacks {', '.join(lacking[:SHOWN_FIELDS])}"
        + (f" and {len(lacking) - SHOWN_FIELDS} more" if len(lacking) > SHOWN_FIELDS else "")
        for resource in RESOURCES
        if isinstance(raw := found.get(resource.full_name), Mapping)
        and (lacking := sorted(_fields(manifest(resource)) - _fields(raw)))
    ]
    if older:
        return Check(name, False, f"of another version, renew them ({APPLY_CRDS}): {'; '.join(older)}")
    return Check(
        name, True, f"{len(found)} kinds of {VERSION} are installed, with every field of this version"
    )


def _fields(definition: Raw) -> set[str]:
    """The paths of all fields of spec and status in a CustomResourceDefinition."""
    for version in spec(definition).get("versions") or ():
        if version.get("name") == VERSION:
            schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
            parts = schema.get("properties") or {}
            return {path for part in ("spec", "status") for path in _paths(part, parts.get(part) or {})}
    return set()


def _paths(path: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield path
    inner = schema.get("items") or schema
    for name, field in (inner.get("properties") or {}).items():
        yield from _paths(f"{path}.{name}", field)


def _operator(seen: Seen) -> Iterator[Check]:
    name = "operator"
    if isinstance(seen.deployments, Refused):
        yield Check(name, None, seen.deployments.message)
    elif not seen.deployments:
        yield Check(
            name,
            None if _age(seen) is not None else False,
            "no Deployment has the label app.kubernetes.io/name=inferscale: install the chart, unless it runs"
            " elsewhere",
        )
    for each in () if isinstance(seen.deployments, Refused) else seen.deployments:
        wanted, ready = spec(each).get("replicas", 1), status(each).get("readyReplicas", 0)
        told = f"Deployment {key(each)} has {ready} of {wanted} replicas ready"
        namespace, _, deployment = key(each).partition("/")
        remedy = f": kubectl -n {namespace} describe deployment {deployment}, and its log"
        yield Check(name, ready > 0, told + ("" if ready else remedy))
    if seen.lease is not None:
        yield _lease(seen.lease, seen.now)


def _lease(lease: Raw, now: datetime) -> Check:
    held = spec(lease)
    holder, renewed = held.get("holderIdentity") or "", time(held.get("renewTime"))
    if not holder or renewed is None:
        return Check(
            "leader", False, f"nobody holds Lease {key(lease)}: is a replica of the operator running?"
        )
    age = (now - renewed).total_seconds()
    limit = 2 * float(held.get("leaseDurationSeconds") or 15)
    told = f"{holder} holds Lease {key(lease)}, renewed {age:.0f} s ago"
    if age > limit:
        return Check("leader", False, f"{told}, more than {limit:.0f} s: is it still running?")
    return Check("leader", True, told)


def _age(seen: Seen) -> tuple[float, float, str] | None:
    """Seconds since a decision is recorded, how many are too many, and where it is; None: none is."""
    last = time(status(seen.policy).get("lastTick"))
    where = "OptimizerPolicy default"
    if last is None:
        times = [t for each in seen.allocations if (t := time(status(each).get("lastDecision"))) is not None]
        if not times:
            return None
        last, where = max(times), "the InferenceAllocations"
    ticks = spec(seen.policy).get("tickSeconds") or OptimizerPolicySpec().tick_seconds
    # With nothing else to write, times are written so seldom.
    limit = TIMES_EVERY_S + max(LEAST_MARGIN_S, TICKS * float(ticks))
    return (seen.now - last).total_seconds(), limit, where


def _tick(seen: Seen) -> Check:
    found = _age(seen)
    if found is None:
        nothing = isinstance(seen.services, Refused) or not seen.services
        message = "no decision is recorded yet"
        if nothing:
            message += ": without an OptimizerPolicy and an InferenceService there is nowhere to record it"
        return Check("last tick", None if nothing else False, message)
    age, limit, where = found
    told = f"the last decision in {where} is {age:.0f} s old"
    if age > limit:
        return Check("last tick", False, f"{told}, more than {limit:.0f} s: look into the operator's log")
    return Check("last tick", True, told)


def _policy(policy: Raw | None) -> Iterator[Check]:
    if policy is None:
        yield Check("policy", True, "there is no OptimizerPolicy default: the defaults hold")
        return
    ready = condition(policy, "Ready")
    if ready.get("status") == "False":
        yield Check("policy", False, f"{ready.get('reason')}: {ready.get('message')}")


def _services_read(services: Sequence[Raw] | Refused) -> Check:
    if isinstance(services, Refused):
        return Check("services", None, services.message)
    return Check("services", True, f"{len(services)} InferenceService{'' if len(services) == 1 else 's'}")


def _prometheus(services: Sequence[Raw]) -> Iterator[Check]:
    """Prometheus answers where the load of any service is known; whatever failed says why."""
    stated = [found for each in services if (found := condition(each, "MetricsAvailable"))]
    failed = [found for found in stated if found.get("reason") in UNREACHABLE]
    if failed:
        yield Check(
            "Prometheus",
            False,
            f"{failed[0].get('message')} ({len(failed)} of {len(services)} services; see --prometheus-url)",
        )
    elif any(found.get("status") == "True" for found in stated):
        yield Check("Prometheus", True, "it answers")
    elif services:
        yield Check("Prometheus", None, "no service has asked it for a load that is known")


def _service(raw: Raw, allocation: Raw | None) -> ServiceHealth:
    ready, given = condition(raw, "Ready"), entry(allocation)
    reason = str(ready.get("reason") or "NotDecided")
    return ServiceHealth(
        key=key(raw),
        mode=str(spec(raw).get("mode") or "Recommend"),
        ready=ready.get("status") == "True" or reason == "Paused",
        accelerator=str(given.get("currentAccelerator") or status(raw).get("accelerator") or ""),
        replicas=given.get("currentReplicas", status(raw).get("replicas")),
        desired=given.get("desiredReplicas"),
        reason=str(status(allocation).get("reason") or reason),
        held_back=_held_back(raw, given),
    )


def _held_back(raw: Raw, given: Raw) -> str:
    if not status(raw).get("conditions"):
        return "not decided yet: does the operator run?"
    for kinds, bad in ((BACK, "False"), (FORWARD, "True")):
        for kind in kinds:
            found = condition(raw, kind)
            if found.get("status") == bad and found.get("reason") not in MEANT:
                return f"{kind} {found.get('reason')}: {found.get('message') or ''}".rstrip(": ")
    gates = given.get("gates") or ()
    return "; ".join(f"{gate.get('type')}: {gate.get('message')}" for gate in gates)
