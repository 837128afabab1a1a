"""The fleet at a glance: services with load, accelerators, latency and cost; accelerators; totals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from inferscale_operator.views.objects import Raw, entry, key, spec, status, time
from inferscale_queueing.frozen import frozen


@frozen
class Latency:
    """A latency, ms; None: not known, or no such objective."""

    predicted: float | None
    observed: float | None
    objective: float | None

    @property
    def missed(self) -> bool:
        """Whether what is seen, or else what is predicted, is above the objective."""
        seen = self.observed if self.observed is not None else self.predicted
        return self.objective is not None and seen is not None and seen > self.objective


@frozen
class ServiceLine:
    """A service."""

    key: str
    model: str
    service_class: str
    priority: int | None
    mode: str
    load_state: str
    arrival_rate: float | None
    """Requests per minute."""
    accelerator: str
    """Serving now."""
    wanted: str
    """Asked for by the last decision."""
    replicas: int | None
    desired: int | None
    itl: Latency
    ttft: Latency
    """The objective holds at a percentile where the class says one; the others are means."""
    current_cost: float | None
    """Per hour."""
    cost: float | None
    """Per hour, of what is wanted."""
    reason: str


@frozen
class TypeLine:
    """Accelerators of a type, in units; None: not counted yet."""

    type: str
    capacity: int | None
    used: int | None
    used_by_others: int | None
    free: int | None


@frozen
class Fleet:
    """All of it."""

    services: tuple[ServiceLine, ...]
    types: tuple[TypeLine, ...]
    current_cost: float
    """Per hour, of the services shown."""
    cost: float
    """Per hour, of what is wanted for them."""
    missed: int
    """Services whose objectives are missed."""
    saved_per_hour: float | None
    """Against what the services were when they were adopted; whole cluster."""
    saved_total: float | None
    gap: float | None
    """How far the plan may be from the best one, a fraction of its cost; whole cluster."""
    unserved: int | None
    last_tick: datetime | None


def fleet(
    services: Sequence[Raw],
    allocations: Sequence[Raw],
    classes: Sequence[Raw],
    profiles: Sequence[Raw],
    policy: Raw | None,
) -> Fleet:
    """The fleet, from the objects as JSON; the first priority first."""
    given = {key(each): each for each in allocations}
    promised = {str(each["metadata"]["name"]): each for each in classes}
    lines = sorted(
        (_service(each, given.get(key(each)), promised) for each in services),
        key=lambda line: (line.priority if line.priority is not None else 101, line.key),
    )
    last = status(policy)
    return Fleet(
        services=tuple(lines),
        types=tuple(_types(profiles)),
        current_cost=sum(line.current_cost or 0.0 for line in lines),
        cost=sum(line.cost or 0.0 for line in lines),
        missed=sum(line.itl.missed or line.ttft.missed for line in lines),
        saved_per_hour=last.get("savedPerHour"),
        saved_total=last.get("savedTotal"),
        gap=last.get("gap"),
        unserved=last.get("unserved"),
        last_tick=time(last.get("lastTick")),
    )


def _service(raw: Raw, allocation: Raw | None, classes: Mapping[str, Raw]) -> ServiceLine:
    asked, told, has = spec(raw), status(allocation), entry(allocation)
    load = told.get("load") or {}
    service_class = classes.get(str(asked.get("serviceClass")))
    targets: Raw = next(
        (each for each in spec(service_class).get("models") or () if each.get("model") == asked.get("model")),
        {},
    )
    accelerator = str(has.get("currentAccelerator") or status(raw).get("accelerator") or "")
    return ServiceLine(
        key=key(raw),
        model=str(asked.get("model") or ""),
        service_class=str(asked.get("serviceClass") or ""),
        priority=spec(service_class).get("priority"),
        mode=str(asked.get("mode") or "Recommend"),
        load_state=str(load.get("state") or ""),
        arrival_rate=load.get("arrivalRate"),
        accelerator=accelerator,
        wanted=str(has.get("accelerator") or accelerator),
        replicas=has.get("currentReplicas", status(raw).get("replicas")),
        desired=has.get("desiredReplicas"),
        itl=Latency(has.get("predictedItl"), has.get("observedItl"), targets.get("itl")),
        ttft=Latency(has.get("predictedTtft"), has.get("observedTtft"), targets.get("ttft")),
        current_cost=has.get("currentCost"),
        cost=has.get("cost"),
        reason=str(told.get("reason") or "NotDecided"),
    )


def _types(profiles: Sequence[Raw]) -> Iterator[TypeLine]:
    """A line for each type: its profiles all say the same."""
    counted: dict[str, Raw] = {}
    for profile in profiles:
        kind = str(spec(profile).get("type") or "")
        if kind not in counted or "capacity" not in counted[kind]:
            counted[kind] = status(profile)
    for kind, told in sorted(counted.items()):
        yield TypeLine(
            kind, told.get("capacity"), told.get("used"), told.get("usedByOthers"), told.get("free")
        )
