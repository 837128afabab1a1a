"""What of the target may be done now: through debounce, and beside what everything holds at this moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from inferscale_operator.decide.accelerators import Room, Stock
from inferscale_operator.decide.catalog import Subject
from inferscale_operator.decide.limits import claims
from inferscale_operator.decide.stabilization import Stabilized


@dataclass(frozen=True)
class Intent:
    """What a service would do now: its target, and how much of that its windows let through."""

    subject: Subject
    target: Stabilized
    """The target as the optimiser has it, before the windows."""
    stabilized: Stabilized
    needed_here: int | None
    """Replicas that the load needs on the present profile; None: unattainable there."""


@dataclass(frozen=True)
class Grant:
    """What a service may ask for now."""

    accelerator: str
    replicas: int
    max_batch: int | None
    move: bool = False
    """Whether it takes a move to get there."""
    short: str = ""
    """What there is no room for, for people; empty: nothing."""
    lacking: int = 0
    """Units of the wanted type that there is no room for."""
    donated: bool = False
    """Whether a window was passed since a higher priority needs the accelerators."""


def grants(
    intents: Sequence[Intent], stocks: Mapping[str, Stock], holders: Sequence[Subject]
) -> dict[str, Grant]:
    """What every service may ask for now, together with what everything holds.

    Who needs more goes in order of priority; units that a higher priority waits for are not given to a lower
    one. Where a higher priority finds no room, services of lower priority whose target is to use less of the
    type give that up at once, the lowest priority first, whatever their scale-down window says, and no more
    of them than it takes beside what is coming free already. A donor that moves away makes do with fewer
    replicas where there is no room for all, so that two services never wait for what the other holds.

    Args:
        intents: Services that may be patched.
        stocks: The accelerators, by type.
        holders: All services, patched or not: replicas they ask for whose pods are still to be placed have
            their room already.
    """
    ordered = sorted(intents, key=lambda i: (i.subject.priority, i.subject.key))
    coming_free = _coming_free(stocks, holders)
    donors: frozenset[str] = frozenset()
    # A donor that moves may need what somebody of still lower priority has to give up, and so on.
    while True:
        giving = [replace(i, stabilized=i.target) if i.subject.key in donors else i for i in ordered]
        granted = _grant_all(giving, stocks, holders, donors)
        more = donors | _donors(giving, granted, coming_free)
        if more == donors:
            return {key: replace(grant, donated=key in donors) for key, grant in granted.items()}
        donors = more


def _grant_all(
    ordered: Sequence[Intent],
    stocks: Mapping[str, Stock],
    holders: Sequence[Subject],
    donors: Collection[str] = (),
) -> dict[str, Grant]:
    room = Room(stocks)
    for subject in sorted(holders, key=lambda s: (s.priority, s.key)):
        _reserve_coming(subject, stocks, room)
    granted = {i.subject.key: _grant(i, room, partly=i.subject.key in donors) for i in ordered}
    # Last, so that growing for the time being never takes what somebody needs to get out of the way.
    for intent in ordered:
        key = intent.subject.key
        granted[key] = _bridged(intent, granted[key], room)
    return granted


def _reserve_coming(subject: Subject, stocks: Mapping[str, Stock], room: Room) -> None:
    owner = (subject.deployment.namespace, subject.deployment.name)
    sides = [subject.accelerator]
    move = subject.state.allocation.move if subject.state.allocation is not None else None
    if move is not None and move.to.accelerator in subject.performances:
        sides.append(move.to.accelerator)
    claimed = claims(subject)
    if move is not None and move.source.accelerator == subject.accelerator:
        surplus = _surplus(move.source.replicas, move.to.replicas)
        claimed[subject.kind(subject.accelerator)] += surplus * subject.units(subject.accelerator)
    for kind, units in claimed.items():
        each = max(subject.units(s) for s in sides if subject.kind(s) == kind)
        missing = units - stocks[kind].held.get(owner, 0)
        if missing > 0:
            room.take(kind, each, -(-missing // each))


def _surplus(old: int, new: int) -> int:
    """Replicas that a rollout to more of them starts on the old accelerator for nothing.

    The controller scales what there is before it looks at the template.
    """
    return max(new - old, 0) if old > 0 else 0


def _coming_free(stocks: Mapping[str, Stock], holders: Sequence[Subject]) -> Counter[str]:
    """Units by type that pods on their way out still hold, and those that moves under way will give up."""
    units: Counter[str] = Counter()
    for subject in holders:
        owner, claimed = (subject.deployment.namespace, subject.deployment.name), claims(subject)
        for kind, stock in stocks.items():
            units[kind] += max(stock.held.get(owner, 0) - claimed[kind], 0)
        move = subject.state.allocation.move if subject.state.allocation is not None else None
        if move is not None and move.source.accelerator == subject.accelerator:
            kind = subject.kind(subject.accelerator)
            units[kind] += move.source.replicas * subject.units(subject.accelerator)
    return units


def _grant(intent: Intent, room: Room, *, partly: bool) -> Grant:
    subject, wanted = intent.subject, intent.stabilized
    here = subject.holding
    if (wanted.accelerator, wanted.max_batch) == (here.accelerator, here.max_batch):
        return _scaled(subject, room, here.replicas, wanted.replicas)
    if wanted.replicas == 0:
        return Grant(here.accelerator, here.replicas, here.max_batch)
    got = room.take(subject.kind(wanted.accelerator), subject.units(wanted.accelerator), wanted.replicas)
    if got == wanted.replicas or (partly and got >= max(subject.spec.min_replicas, 1)):
        room.take(
            subject.kind(here.accelerator), subject.units(here.accelerator), _surplus(here.replicas, got)
        )
        return Grant(wanted.accelerator, got, wanted.max_batch, move=True)
    lacking = (wanted.replicas - got) * subject.units(wanted.accelerator)
    short = (
        f"the move to {wanted.replicas} on {wanted.accelerator} waits for {lacking} more free"
        f" {subject.kind(wanted.accelerator)}"
    )
    return Grant(here.accelerator, here.replicas, here.max_batch, short=short, lacking=lacking)


def _bridged(intent: Intent, grant: Grant, room: Room) -> Grant:
    """Until there is room to move, a service that is short of replicas may grow where it is."""
    here, need = intent.subject.holding, intent.needed_here
    moves = intent.stabilized.accelerator != here.accelerator
    if not (grant.short and moves and intent.stabilized.rising) or need is None or need <= here.replicas:
        return grant
    grown = _scaled(intent.subject, room, here.replicas, need)
    return replace(grown, short=grant.short, lacking=grant.lacking)


def _scaled(subject: Subject, room: Room, now: int, wanted: int) -> Grant:
    here = subject.holding
    if wanted <= now:
        return Grant(here.accelerator, wanted, here.max_batch)
    each, kind = subject.units(here.accelerator), subject.kind(here.accelerator)
    got = room.take(kind, each, wanted - now)
    lacking = (wanted - now - got) * each
    short = f"no room for {wanted - now - got} more on {here.accelerator}: no free {kind}" if lacking else ""
    return Grant(here.accelerator, now + got, here.max_batch, short=short, lacking=lacking)


def _donors(
    ordered: Sequence[Intent], granted: Mapping[str, Grant], coming_free: Mapping[str, int]
) -> set[str]:
    donors: set[str] = set()
    given = Counter(coming_free)
    for intent in ordered:
        units = granted[intent.subject.key].lacking
        kind = intent.subject.kind(intent.stabilized.accelerator)
        for other in sorted(ordered, key=lambda i: (-i.subject.priority, i.subject.key)):
            if given[kind] >= units:
                break
            spare = _spare(other, kind)
            if (
                other.subject.priority > intent.subject.priority
                and spare > 0
                and other.subject.key not in donors
            ):
                donors.add(other.subject.key)
                given[kind] += spare
        given[kind] -= min(units, given[kind])
    return donors


def _spare(intent: Intent, kind: str) -> int:
    """Units of a type that a service is to give up by its target, and holds now."""
    subject, target = intent.subject, intent.target
    if subject.kind(subject.accelerator) != kind:
        return 0
    held = subject.deployment.replicas * subject.units(subject.accelerator)
    if subject.kind(target.accelerator) == kind:
        return held - target.replicas * subject.units(target.accelerator)
    return held
