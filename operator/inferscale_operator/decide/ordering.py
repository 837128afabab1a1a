"""In which order services change accelerators where what one frees is what another waits for.

A move needs units of one type and frees those of another only when it is over, so moves can wait for each
other for ever. The order found here makes each move fit beside everything else at its time. Where no order of
moves does, it lets services give up replicas that their objectives do not need, or serve from a third profile
for a while. Nothing is ever deleted first.

It is a search (A*) over where each service is: the order with the fewest moves, then the fewest replicas
given up, then with stops of the lowest priorities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from heapq import heappop, heappush

from inferscale_queueing.frozen import frozen

LIMIT = 2000
"""States that are looked at; beyond, services go in order of priority and none makes a stop."""
WORK = 40_000
"""States times services: where there are many services, fewer states are looked at."""


@frozen
class Hold:
    """Replicas on a profile, and what they hold."""

    accelerator: str
    kind: str
    """Physical type of the profile."""
    each: int
    """Units of the type in one replica."""
    replicas: int
    max_batch: int | None = None
    """Batch limit where it is managed."""

    @property
    def units(self) -> int:
        """Units of the type that they hold."""
        return self.each * self.replicas


@frozen
class Mover:
    """A service that wants to move."""

    key: str
    priority: int
    """1 = first … 100 = last."""
    here: Hold
    goal: Hold
    least: int
    """Replicas where it is that its objectives need; what it has beyond them it can give up."""
    stops: tuple[Hold, ...] = ()
    """Where else its objectives hold, in order of preference."""


class LegKind(StrEnum):
    """What a service does on its way."""

    FEWER = "Fewer"
    STOP = "Stop"
    GOAL = "Goal"


@frozen
class Leg:
    """One step of one service."""

    key: str
    kind: LegKind
    to: Hold


@frozen
class Stuck:
    """Why a service does not get to its goal."""

    message: str
    """For people."""
    lacking: int
    """Units of the type of its goal that it waits for."""
    mutual: bool
    """Whether those are held by services that wait for others in turn."""


@frozen
class Order:
    """Legs, each of which fits when those before it are over; services without one stay where they are."""

    legs: tuple[Leg, ...]
    stuck: Mapping[str, Stuck] = field(default_factory=dict)
    """Services that do not get to their goal."""


_ORIGIN, _GOAL = 0, -1
_Place = tuple[int, int]
"""`_ORIGIN`, `_GOAL` or the number of a stop from 1 on; and the replicas at the origin."""
_State = tuple[_Place, ...]
_Cost = tuple[int, int, int]
"""Moves, replicas given up, and how much the priorities of those that make a stop weigh."""


def order(movers: Sequence[Mover], free: Mapping[str, int]) -> Order:
    """An order in which all of them get to their goal, or else as many as can, the highest priority first.

    The same for the same movers in whatever order they are given. When the first legs are carried out and it
    is asked again, it takes no more moves than were left.

    Args:
        movers: The services that want to move.
        free: Units by type that nobody holds, or that are about to be free.
    """
    ranked = sorted(movers, key=lambda m: (m.priority, m.key))
    search = _Search(ranked, free)
    legs, final = search.run()
    stuck = {
        mover.key: _reason(i, ranked, search.free(final), final)
        for i, mover in enumerate(ranked)
        if final[i][0] != _GOAL
    }
    return Order(tuple(legs), stuck)


class _Search:
    def __init__(self, ranked: Sequence[Mover], free: Mapping[str, int]) -> None:
        self._movers = ranked
        self._free = Counter(free)
        # Only units of a type that somebody wants are worth being given up.
        self._wanted = {mover.goal.kind for mover in ranked} | {s.kind for m in ranked for s in m.stops}

    def run(self) -> tuple[list[Leg], _State]:
        """The legs, and where they lead."""
        start: _State = tuple((_ORIGIN, mover.here.replicas) for mover in self._movers)
        done, begin = self._undisputed(start)
        best, path = self._by_priority(begin)
        queue: list[tuple[_Cost, int, int, _State, tuple[Leg, ...]]] = []
        pending = sum(self._rank(begin))
        heappush(queue, ((pending, 0, 0), pending, 0, begin, ()))
        costs: dict[_State, _Cost] = {begin: (0, 0, 0)}
        seen: set[_State] = set()
        number, limit = 0, min(LIMIT, WORK // max(len(begin), 1))
        while queue:
            if len(seen) >= limit:
                fallback, legs = self._by_priority(begin)
                return [*done, *legs], fallback
            _, left, _, state, legs_so_far = heappop(queue)
            if state in seen:
                continue
            seen.add(state)
            if left == 0:
                return [*done, *legs_so_far], state
            if self._clean(state) and self._rank(state) < self._rank(best):
                best, path = state, list(legs_so_far)
            moves, fewer, weight = costs[state]
            for leg, after, (m, f, w) in self._next(state):
                cost = (moves + m, fewer + f, weight + w)
                if after not in seen and cost < costs.get(after, (cost[0] + 1, 0, 0)):
                    costs[after] = cost
                    number += 1
                    left_after = left - (leg.kind is LegKind.GOAL)
                    estimate = (cost[0] + left_after, cost[1], cost[2])
                    heappush(queue, (estimate, left_after, number, after, (*legs_so_far, leg)))
        return [*done, *path], best

    def free(self, state: _State) -> Counter[str]:
        """Units by type that nobody holds in a state."""
        free = Counter(self._free)
        for mover, place in zip(self._movers, state, strict=True):
            free[mover.here.kind] += mover.here.units
            hold = self._hold(mover, place)
            free[hold.kind] -= hold.units
        return free

    @staticmethod
    def _hold(mover: Mover, place: _Place) -> Hold:
        where, replicas = place
        if where == _ORIGIN:
            here = mover.here
            return Hold(here.accelerator, here.kind, here.each, replicas, here.max_batch)
        return mover.goal if where == _GOAL else mover.stops[where - 1]

    def _clean(self, state: _State) -> bool:
        """Whether everybody is where it was, whole, or where it wants to be."""
        return all(
            where == _GOAL or (where == _ORIGIN and replicas == mover.here.replicas)
            for mover, (where, replicas) in zip(self._movers, state, strict=True)
        )

    @staticmethod
    def _rank(state: _State) -> tuple[bool, ...]:
        """Who is not where it wants to be: as many moves are left at least."""
        return tuple(where != _GOAL for where, _ in state)

    def _undisputed(self, state: _State) -> tuple[list[Leg], _State]:
        """Moves to types of which there is enough for all who could want them: they stand in nobody's way."""
        legs: list[Leg] = []
        while True:
            free = self.free(state)
            pending = [i for i, (where, _) in enumerate(state) if where == _ORIGIN]
            wanted: Counter[str] = Counter()
            for i in pending:
                wanted[self._movers[i].goal.kind] += self._movers[i].goal.units
            stops = {stop.kind for i in pending for stop in self._movers[i].stops}
            now = next(
                (
                    i
                    for i in pending
                    if (kind := self._movers[i].goal.kind) not in stops and wanted[kind] <= free[kind]
                ),
                None,
            )
            if now is None:
                return legs, state
            mover = self._movers[now]
            legs.append(Leg(mover.key, LegKind.GOAL, mover.goal))
            state = _with(state, now, (_GOAL, 0))

    def _by_priority(self, state: _State) -> tuple[_State, list[Leg]]:
        """Whoever fits goes, the highest priority first, without giving up anything or stopping anywhere."""
        legs: list[Leg] = []
        while True:
            free = self.free(state)
            now = next(
                (
                    i
                    for i, mover in enumerate(self._movers)
                    if state[i][0] == _ORIGIN and mover.goal.units <= free[mover.goal.kind]
                ),
                None,
            )
            if now is None:
                return state, legs
            mover = self._movers[now]
            legs.append(Leg(mover.key, LegKind.GOAL, mover.goal))
            state = _with(state, now, (_GOAL, 0))

    def _next(self, state: _State) -> list[tuple[Leg, _State, _Cost]]:
        free = self.free(state)
        found: list[tuple[Leg, _State, _Cost]] = []
        for i, mover in enumerate(self._movers):
            where, replicas = state[i]
            if where == _GOAL:
                continue
            if mover.goal.units <= free[mover.goal.kind]:
                leg = Leg(mover.key, LegKind.GOAL, mover.goal)
                found.append((leg, _with(state, i, (_GOAL, 0)), (1, 0, 0)))
            if where != _ORIGIN or mover.here.kind not in self._wanted:
                continue
            if replicas > mover.least:
                to = self._hold(mover, (_ORIGIN, replicas - 1))
                leg = Leg(mover.key, LegKind.FEWER, to)
                found.append((leg, _with(state, i, (_ORIGIN, replicas - 1)), (0, 1, 0)))
            for number, stop in enumerate(mover.stops, start=1):
                if stop.kind != mover.here.kind and stop.units <= free[stop.kind]:
                    leg = Leg(mover.key, LegKind.STOP, stop)
                    weight = (101 - mover.priority) * (len(mover.stops) + 1) + number
                    found.append((leg, _with(state, i, (number, 0)), (1, 0, weight)))
        return found


def _with(state: _State, i: int, place: _Place) -> _State:
    return (*state[:i], place, *state[i + 1 :])


def _reason(i: int, ranked: Sequence[Mover], free: Mapping[str, int], final: _State) -> Stuck:
    mover = ranked[i]
    kind, lacking = mover.goal.kind, max(mover.goal.units - free[mover.goal.kind], 0)
    waits = (
        f"the move to {mover.goal.replicas} on {mover.goal.accelerator} waits for {lacking} more free {kind}"
    )
    rivals = [
        other
        for j, other in enumerate(ranked)
        if j != i and final[j][0] == _ORIGIN and other.here.kind == kind
    ]
    if not rivals:
        return Stuck(waits, lacking, mutual=False)
    who = ", ".join(f"{rival.key} (which waits for {rival.goal.kind})" for rival in rivals)
    message = (
        f"{waits}, held by {who}: none of them can do with fewer replicas or on a third accelerator;"
        f" {lacking} more {kind}, or a type on which one of them can serve meanwhile, would free them"
    )
    return Stuck(message, lacking, mutual=True)
