"""What if: more load, other targets or prices, fewer accelerators."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from inferscale_operator.errors import UsageError
from inferscale_operator.planning.deck import LARGEST_RATE, Deck, Objectives, Server
from inferscale_operator.planning.findings import Findings
from inferscale_operator.planning.reading import LAST_PRIORITY, LEAST_WEIGHT, MOST_TOKENS, MOST_WEIGHT
from inferscale_operator.planning.rows import Row
from inferscale_queueing.frozen import frozen
from inferscale_solver import Profile

Changed = Callable[[Deck, str, float], Deck | None]


@frozen
class Change:
    """One `NAME.FIELD=VALUE`."""

    name: str
    field: str
    value: float

    def __str__(self) -> str:
        return f"{self.name}.{self.field}={self.value:g}"


def parse_change(text: str) -> Change:
    """Read `NAME.FIELD=VALUE`; a name may hold dots.

    Raises:
        UsageError: It is none.
    """
    left, equals, right = text.rpartition("=")
    name, dot, field = left.rpartition(".")
    folded = {known.casefold(): known for known in FIELDS}
    try:
        value = float(right)
    except ValueError:
        value = float("nan")
    if not (equals and dot and name) or value != value:
        raise UsageError(f"--set {text}: must be NAME.FIELD=NUMBER, like llama_70b.slo-itl=30")
    if field.casefold() not in folded:
        raise UsageError(f"--set {text}: {field} is no field: use one of {', '.join(FIELDS)}")
    return Change(name, folded[field.casefold()], value)


def scale_load(deck: Deck, factor: float) -> Deck:
    """All arrival rates times a factor.

    Raises:
        UsageError: A rate would be absurd.
    """
    largest = max(deck.servers, key=lambda server: server.arrival_rate, default=None)
    if largest is not None and largest.arrival_rate * factor > LARGEST_RATE:
        raise UsageError(
            f"--scale-load {factor:g}: makes the arrivalRate of {largest.name} "
            f"{largest.arrival_rate * factor:g} requests/min: it must be at most {LARGEST_RATE:,.0f}"
        )
    return replace(
        deck,
        servers=tuple(replace(server, arrival_rate=server.arrival_rate * factor) for server in deck.servers),
    )


def apply(deck: Deck, change: Change) -> Deck:
    """Set a field of everything that a name stands for.

    Args:
        deck: What the files say.
        change: The change. Targets and loads: of a server, a model (in all classes) or a class (for all
            models); priority: of a class; cost: of an accelerator, or of all of a type, per unit; count: of
            a type.

    Returns:
        The deck with the change.

    Raises:
        UsageError: Nothing has that name, or the value cannot be.
    """
    _check(change)
    changed = FIELDS[change.field](deck, change.name, change.value)
    if changed is None:
        raise UsageError(f"--set {change}: nothing with a {change.field} is named {change.name}")
    return changed


def remove(deck: Deck, name: str) -> Deck:
    """Take something away: a type with all its accelerators, or an accelerator, server, model or class.

    Raises:
        UsageError: Nothing has that name.
    """
    kinds = {profile.type for profile in deck.accelerators}
    gone = {
        profile.name
        for profile in deck.accelerators
        if name == (profile.type if name in kinds else profile.name)
    }
    if gone:
        return replace(
            deck,
            accelerators=tuple(profile for profile in deck.accelerators if profile.name not in gone),
            models=tuple(data for data in deck.models if data.performance.profile not in gone),
            units=None
            if deck.units is None
            else {kind: units for kind, units in deck.units.items() if kind != name},
        )
    kept = tuple(server for server in deck.servers if name not in _names(server))
    if len(kept) == len(deck.servers):
        raise UsageError(f"--remove {name}: no type, accelerator, server, model or class is named so")
    return replace(deck, servers=kept)


def _names(server: Server) -> tuple[str, str, str]:
    return server.name, server.model, server.service_class


def _check(change: Change) -> None:
    """Hold a value to what the file's field may be."""
    findings = Findings()
    row = Row("--set", change.name, {change.field: change.value}, findings)
    if change.field == "priority":
        row.integer(change.field, least=1, most=LAST_PRIORITY)
    elif change.field in ("count", "minReplicas"):
        row.integer(change.field)
    elif change.field in ("avgLength", "avgOutTokens"):
        row.number(change.field, least=1.0, most=MOST_TOKENS)
    elif change.field == "avgInTokens":
        row.number(change.field, most=MOST_TOKENS)
    elif change.field == "weight":
        row.number(change.field, least=LEAST_WEIGHT, most=MOST_WEIGHT)
    else:
        row.number(change.field)
    findings.raise_any()


def _target(field: str) -> Changed:
    def change(deck: Deck, name: str, value: float) -> Deck | None:
        pairs = {(s.service_class, s.model) for s in deck.servers if s.name == name}

        def meant(each: Objectives) -> bool:
            return name in (each.model, each.service_class) or (each.service_class, each.model) in pairs

        if not any(meant(each) for each in deck.objectives):
            return None
        return replace(
            deck,
            objectives=tuple(
                replace(each, targets=replace(each.targets, **{field: value or None}))
                if meant(each)
                else each
                for each in deck.objectives
            ),
        )

    return change


def _load(*fields: str) -> Changed:
    """Set the first field and clear the others."""

    def change(deck: Deck, name: str, value: float) -> Deck | None:
        if not any(name in _names(server) for server in deck.servers):
            return None
        values = {**dict.fromkeys(fields[1:]), fields[0]: value}
        return _servers(deck, (s for s in deck.servers if name in _names(s)), values)

    return change


def _servers(deck: Deck, meant: Iterable[Server], values: dict[str, float | None]) -> Deck:
    names = {server.name for server in meant}
    return replace(
        deck,
        servers=tuple(
            replace(server, **values) if server.name in names else server  # type: ignore[arg-type]
            for server in deck.servers
        ),
    )


def _least(deck: Deck, name: str, value: float) -> Deck | None:
    return _load("min_replicas")(deck, name, int(value))


def _priority(deck: Deck, name: str, value: float) -> Deck | None:
    if not any(each.service_class == name for each in deck.objectives):
        return None
    return replace(
        deck,
        objectives=tuple(
            replace(each, priority=int(value)) if each.service_class == name else each
            for each in deck.objectives
        ),
    )


def _cost(deck: Deck, name: str, value: float) -> Deck | None:
    """The cost of an accelerator, or of a unit of a type."""
    kinds = {profile.type for profile in deck.accelerators}
    if name not in kinds | {profile.name for profile in deck.accelerators}:
        return None

    def priced(profile: Profile) -> Profile:
        if name in kinds and profile.type == name:
            return replace(profile, cost=value * profile.multiplicity)
        return replace(profile, cost=value) if profile.name == name else profile

    return replace(deck, accelerators=tuple(priced(profile) for profile in deck.accelerators))


def _count(deck: Deck, name: str, value: float) -> Deck | None:
    if name not in {profile.type for profile in deck.accelerators}:
        return None
    nodes = {kind: sizes for kind, sizes in deck.nodes.items() if kind != name}
    return replace(deck, units={**(deck.units or {}), name: int(value)}, nodes=nodes)


FIELDS: dict[str, Changed] = {
    "slo-itl": _target("itl"),
    "slo-ttft": _target("ttft"),
    "slo-ttw": _target("ttw"),
    "slo-tps": _target("tps"),
    "arrivalRate": _load("arrival_rate"),
    "avgLength": _load("average_length", "input_tokens", "output_tokens"),
    "avgInTokens": _load("input_tokens"),
    "avgOutTokens": _load("output_tokens", "average_length"),
    "minReplicas": _least,
    "weight": _load("weight"),
    "priority": _priority,
    "cost": _cost,
    "count": _count,
}
"""What can be set, by the name that it has in the files."""
