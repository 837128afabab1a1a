"""What of the target may be done now: through debounce, and beside what everything holds at this moment."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from inferscale_operator.api.inference_allocation import GateStatus, GateType
from inferscale_operator.decide.accelerators import Room, Stock
from inferscale_operator.decide.catalog import Subject
from inferscale_operator.decide.limits import claims
from inferscale_operator.decide.ordering import Hold, Leg, LegKind, Mover, order
from inferscale_operator.decide.stabilization import Holding, Stabilized
from inferscale_queueing.frozen import frozen


@frozen
class Intent:
    """What a service would do now: its target, and how much of that its windows let through."""

    subject: Subject
    target: Stabilized
    """The target as the optimiser has it, before the windows."""
    stabilized: Stabilized
    needed_here: int | None
    """Replicas that the load needs on the present profile; None: unattainable there."""
    stay: int | None = None
    """The most that the load has needed there within the scale-down window; None: not known."""
    stops: tuple[Holding, ...] = ()
    """Where else its objectives hold, the cheapest first."""
    least_here: int = 0
    """Replicas that it may shrink to on the present profile."""
    most_here: int | None = None
    """Replicas that it may grow to on the present profile; None: no limit."""
    gate: GateStatus | None = None
    """What keeps it from a move that it would make else."""

    @property
    def moves(self) -> bool:
        """Whether it takes a change of the pod template."""
        wanted, here = self.stabilized, self.subject.holding
        return (wanted.accelerator, wanted.max_batch) != (here.accelerator, here.max_batch)

    @property
    def needy(self) -> bool:
        """Whether the load needs more than the service has where it is."""
        return self.needed_here is None or self.needed_here > self.subject.deployment.replicas


@frozen
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
    gate: GateStatus | None = None
    """What holds a move back; None: nothing."""
    onward: str | None = None
    """Where it goes on to: this is a stop that makes room for others."""
    stuck: bool = False
    """Whether its move and those of others wait for each other, and nothing gives."""


@frozen
class Budget:
    """How many services may move at once."""

    most: int
    under_way: tuple[str, ...] = ()
    """Services that are moving now."""


UNBOUNDED = Budget(1_000_000)


def grants(
    intents: Sequence[Intent],
    stocks: Mapping[str, Stock],
    holders: Sequence[Subject],
    budget: Budget = UNBOUNDED,
) -> dict[str, Grant]:
    """What every service may ask for now, together with what everything holds.

    Who needs more goes in order of priority; units that a higher priority waits for are not given to a lower
    one. Where a higher priority finds no room, services of lower priority whose target is to use less of the
    type give that up at once, the lowest priority first, whatever their scale-down window says, and no more
    of them than it takes beside what is coming free already. Moves that wait for what other moves free go in
    an order in which none waits for ever (`ordering`). Where there is none, a donor that moves away for
    somebody who is short of what its objectives need makes do with fewer replicas.

    Args:
        intents: Services that may be patched.
        stocks: The accelerators, by type.
        holders: All services, patched or not: replicas they ask for whose pods are still to be placed have
            their room already.
        budget: How many may move at once.
    """
    ordered = sorted(intents, key=lambda i: (i.subject.priority, i.subject.key))
    donors: dict[str, bool] = {}
    # A donor that moves may need what somebody of still lower priority has to give up, and so on.
    while True:
        giving = [
            replace(i, stabilized=i.target, gate=None) if i.subject.key in donors else i for i in ordered
        ]
        granted = _Granting(giving, stocks, holders, budget, donors).all()
        more = _donors(giving, granted, stocks, holders) | donors
        if more.keys() == donors.keys():
            return {
                key: replace(grant, donated=True) if key in donors else grant
                for key, grant in granted.items()
            }
        donors = more


class _Granting:
    """One round of giving out room."""

    def __init__(
        self,
        ordered: Sequence[Intent],
        stocks: Mapping[str, Stock],
        holders: Sequence[Subject],
        budget: Budget,
        donors: Mapping[str, bool],
    ) -> None:
        self._ordered, self._stocks, self._budget = ordered, stocks, budget
        self._holders = sorted(holders, key=lambda s: (s.priority, s.key))
        self._needy = {key for key, needy in donors.items() if needy}

    def all(self) -> dict[str, Grant]:
        """What everybody gets."""
        room, moving = self._room(), list(self._budget.under_way)
        granted = {i.subject.key: self._grant(i, room, moving) for i in self._ordered}
        if any(granted[i.subject.key].short and i.moves for i in self._ordered):
            room, moving = self._room(), list(self._budget.under_way)
            granted = self._in_order(granted, room, moving)
        # Last, so that growing for the time being never takes what somebody needs to get out of the way.
        for intent in self._ordered:
            key = intent.subject.key
            granted[key] = _bridged(intent, granted[key], room)
        return granted

    def _room(self) -> Room:
        return unclaimed(self._stocks, self._holders)

    def _grant(self, intent: Intent, room: Room, moving: list[str]) -> Grant:
        subject, wanted = intent.subject, intent.stabilized
        here = subject.holding
        if not intent.moves:
            grant = _scaled(subject, room, here.replicas, wanted.replicas)
            return grant if intent.gate is None else replace(grant, gate=intent.gate)
        if wanted.replicas == 0:
            return Grant(here.accelerator, here.replicas, here.max_batch)
        to = _hold(subject, Holding(wanted.accelerator, wanted.replicas, wanted.max_batch))
        return self._moved(intent, to, room, moving, partly=subject.key in self._needy)

    def _moved(
        self,
        intent: Intent,
        to: Hold,
        room: Room,
        moving: list[str],
        *,
        partly: bool = False,
        onward: str | None = None,
    ) -> Grant:
        subject, here = intent.subject, intent.subject.holding
        stays = Grant(here.accelerator, here.replicas, here.max_batch)
        scattered = room.free().get(to.kind, 0) >= to.units
        got = room.take(to.kind, to.each, to.replicas)
        if got < to.replicas and not (partly and got >= max(subject.behaviour.bounds.least, 1)):
            lacking = to.units - got * to.each
            short = f"the move to {to.replicas} on {to.accelerator} waits for {lacking} more free {to.kind}"
            if scattered:
                short += f" on nodes with {to.each} free together"
            return replace(stays, short=short, lacking=lacking)
        if len(moving) >= self._budget.most:
            message = (
                f"the move to {to.replicas} on {to.accelerator}: budget: {len(moving)} of"
                f" {self._budget.most} under way: {', '.join(moving)}"
            )
            return replace(stays, gate=GateStatus(type=GateType.BUDGET, message=message))
        moving.append(subject.key)
        room.take(
            subject.kind(here.accelerator), subject.units(here.accelerator), _surplus(here.replicas, got)
        )
        return Grant(to.accelerator, got, to.max_batch, move=True, onward=onward)

    def _in_order(self, first: Mapping[str, Grant], room: Room, moving: list[str]) -> dict[str, Grant]:
        """The same where moves wait for each other: they go in an order in which none waits for ever.

        Args:
            first: What everybody gets where moves go by priority alone; who does not move keeps that.
            room: All of it.
            moving: Services that move, to be added to.
        """
        granted: dict[str, Grant] = {}
        coming = _coming_free(self._stocks, self._holders)
        for intent in self._ordered:
            subject, grant = intent.subject, first[intent.subject.key]
            if not intent.moves or intent.stabilized.replicas == 0:
                more = grant.replicas - subject.holding.replicas
                kind, each = subject.kind(subject.accelerator), subject.units(subject.accelerator)
                room.take(kind, each, max(more, 0))
                coming[kind] += max(-more, 0) * each
                granted[subject.key] = grant
        movers = {i.subject.key: i for i in self._ordered if i.subject.key not in granted}
        found = order([_mover(i) for i in movers.values()], Counter(room.free()) + coming)
        waiting = False
        for leg in found.legs:
            intent, before = movers[leg.key], granted.get(leg.key)
            if leg.kind is LegKind.FEWER:
                if not waiting and (before is None or not before.move):
                    granted[leg.key] = _giving_up(intent, leg)
            elif before is None:
                granted[leg.key] = self._leg(intent, leg, room, moving)
                waiting |= bool(granted[leg.key].short)
            else:
                # It waits for the first leg of its own, and its room stays its own.
                room.take(leg.to.kind, leg.to.each, leg.to.replicas)
        for key, intent in movers.items():
            if key in granted:
                continue
            here = intent.subject.holding
            grant = Grant(here.accelerator, here.replicas, here.max_batch)
            if key in self._needy:
                grant = self._grant(intent, room, moving)
            if key in found.stuck and not grant.move:
                reason = found.stuck[key]
                grant = replace(grant, short=reason.message, lacking=reason.lacking, stuck=reason.mutual)
            granted[key] = grant
        return granted

    def _leg(self, intent: Intent, leg: Leg, room: Room, moving: list[str]) -> Grant:
        if leg.kind is LegKind.GOAL:
            return self._moved(intent, leg.to, room, moving)
        grant = self._moved(intent, leg.to, room, moving, onward=intent.stabilized.accelerator)
        # Nobody gives way for a stop.
        return replace(grant, lacking=0)


def _giving_up(intent: Intent, leg: Leg) -> Grant:
    here, wanted = intent.subject.holding, intent.stabilized
    short = (
        f"the move to {wanted.replicas} on {wanted.accelerator} waits for others; there is room for"
        f" them with {leg.to.replicas} on {here.accelerator}, enough for its objectives"
    )
    return Grant(here.accelerator, leg.to.replicas, here.max_batch, short=short)


def unclaimed(stocks: Mapping[str, Stock], holders: Sequence[Subject]) -> Room:
    """What nobody holds or has asked for; of the holders those come first that come first in the sequence."""
    room = Room(stocks)
    for subject in holders:
        _reserve_coming(subject, stocks, room)
    return room


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
            units[kind] += max(stock.held.get(owner, 0) - claimed.get(kind, 0), 0)
        move = subject.state.allocation.move if subject.state.allocation is not None else None
        if move is not None and move.source.accelerator == subject.accelerator:
            kind = subject.kind(subject.accelerator)
            units[kind] += move.source.replicas * subject.units(subject.accelerator)
    return units


def _hold(subject: Subject, holding: Holding) -> Hold:
    return Hold(
        accelerator=holding.accelerator,
        kind=subject.kind(holding.accelerator),
        each=subject.units(holding.accelerator),
        replicas=holding.replicas,
        max_batch=holding.max_batch,
    )


def _mover(intent: Intent) -> Mover:
    subject, wanted = intent.subject, intent.stabilized
    here, need = subject.holding, intent.needed_here
    least = here.replicas
    if need is not None:
        least = min(max(need, intent.stay or 0, intent.least_here), here.replicas)
    return Mover(
        key=subject.key,
        priority=subject.priority,
        here=_hold(subject, here),
        goal=_hold(subject, Holding(wanted.accelerator, wanted.replicas, wanted.max_batch)),
        least=least,
        stops=tuple(_hold(subject, stop) for stop in intent.stops),
    )


def _bridged(intent: Intent, grant: Grant, room: Room) -> Grant:
    """Until there is room to move, a service that is short of replicas may grow where it is."""
    here, need = intent.subject.holding, intent.needed_here
    if need is not None and intent.most_here is not None:
        need = min(need, intent.most_here)
    moves = intent.stabilized.accelerator != here.accelerator
    waits = moves and intent.stabilized.rising and not grant.move and (grant.short or grant.gate)
    if not waits or need is None or need <= here.replicas:
        return grant
    grown = _scaled(intent.subject, room, here.replicas, need)
    return replace(grant, accelerator=grown.accelerator, replicas=grown.replicas)


def _scaled(subject: Subject, room: Room, now: int, wanted: int) -> Grant:
    here = subject.holding
    if wanted <= now:
        return Grant(here.accelerator, wanted, here.max_batch)
    each, kind = subject.units(here.accelerator), subject.kind(here.accelerator)
    got = room.take(kind, each, wanted - now)
    lacking = (wanted - now - got) * each
    short = ""
    if lacking:
        short = f"no room for {wanted - now - got} more on {here.accelerator}: {room.lack(kind, each)}"
    return Grant(here.accelerator, now + got, here.max_batch, short=short, lacking=lacking)


def _donors(
    ordered: Sequence[Intent],
    granted: Mapping[str, Grant],
    stocks: Mapping[str, Stock],
    holders: Sequence[Subject],
) -> dict[str, bool]:
    """Who gives way, and whether for somebody who is short of what its objectives need."""
    if not any(grant.lacking for grant in granted.values()):
        return {}
    donors: dict[str, bool] = {}
    given = _coming_free(stocks, holders)
    able: dict[str, deque[tuple[Intent, int]]] = {}
    for other in sorted(ordered, key=lambda i: (-i.subject.priority, i.subject.key)):
        kind = other.subject.kind(other.subject.accelerator)
        if (spare := _spare(other, kind)) > 0:
            able.setdefault(kind, deque()).append((other, spare))
    for intent in ordered:
        units = granted[intent.subject.key].lacking
        kind = intent.subject.kind(intent.stabilized.accelerator)
        others = able.get(kind, ())
        while others and given[kind] < units and others[0][0].subject.priority > intent.subject.priority:
            other, spare = others.popleft()
            donors[other.subject.key] = intent.needy
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
