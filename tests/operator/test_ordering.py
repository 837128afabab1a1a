"""Moves that wait for each other: an order is found wherever there is one, and nothing is deleted first."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_operator.decide import ordering
from inferscale_operator.decide.ordering import Hold, LegKind, Mover, Order, order


def hold(kind: str, replicas: int, each: int = 1) -> Hold:
    return Hold(kind.lower(), kind, each, replicas)


def mover(
    key: str, here: Hold, goal: Hold, *stops: Hold, priority: int = 10, least: int | None = None
) -> Mover:
    return Mover(key, priority, here, goal, here.replicas if least is None else least, stops)


def told(found: Order) -> list[tuple[str, str, str, int]]:
    return [(leg.key, leg.kind.value, leg.to.kind, leg.to.replicas) for leg in found.legs]


A3, B3 = hold("A", 3), hold("B", 3)


def test_two_that_swap_with_nothing_to_spare_stay_and_name_each_other() -> None:
    found = order([mover("a", A3, B3), mover("b", B3, A3)], {})
    assert found.legs == ()
    assert found.stuck["a"].message == (
        "the move to 3 on b waits for 3 more free B, held by b (which waits for A): none of them can do with"
        " fewer replicas or on a third accelerator; 3 more B, or a type on which one of them can serve"
        " meanwhile, would free them"
    )
    assert found.stuck["b"].mutual


def test_one_that_can_do_with_fewer_gives_up_no_more_than_it_takes() -> None:
    found = order(
        [mover("a", hold("A", 4), hold("B", 2), least=2), mover("b", hold("B", 2), hold("A", 1))], {}
    )
    assert told(found) == [("a", "Fewer", "A", 3), ("b", "Goal", "A", 1), ("a", "Goal", "B", 2)]


def test_the_lowest_priority_makes_the_stop() -> None:
    third = hold("C", 3)
    for last, first in (("a", "b"), ("b", "a")):
        found = order(
            [
                mover("a", A3, B3, third, priority=20 if last == "a" else 1),
                mover("b", B3, A3, third, priority=20 if last == "b" else 1),
            ],
            {"C": 3},
        )
        assert [(leg.key, leg.kind) for leg in found.legs] == [
            (last, LegKind.STOP),
            (first, LegKind.GOAL),
            (last, LegKind.GOAL),
        ]


def test_fewer_replicas_are_preferred_to_a_stop() -> None:
    third = hold("C", 9)
    found = order(
        [mover("a", A3, B3, third, least=0), mover("b", B3, A3, third, least=3)],
        {"C": 9},
    )
    assert {leg.kind for leg in found.legs} == {LegKind.FEWER, LegKind.GOAL}


def test_the_last_free_unit_goes_to_whom_it_helps_on() -> None:
    # Were `first` to take the free B, the other two would wait for each other for ever.
    found = order(
        [
            mover("first", hold("A", 1), hold("B", 1), priority=1),
            mover("c", hold("C", 1), hold("B", 1), priority=5),
            mover("d", hold("B", 1), hold("C", 1), priority=9),
        ],
        {"B": 1},
    )
    assert [leg.key for leg in found.legs] == ["c", "d", "first"]
    assert not found.stuck


def test_others_go_on_beside_two_that_are_stuck() -> None:
    found = order([mover("a", A3, B3), mover("b", B3, A3), mover("c", hold("C", 1), hold("D", 1))], {"D": 1})
    assert told(found) == [("c", "Goal", "D", 1)]
    assert found.stuck.keys() == {"a", "b"}


def test_what_somebody_else_holds_is_only_waited_for() -> None:
    found = order([mover("a", A3, B3)], {"B": 1})
    assert found.stuck["a"].message == "the move to 3 on b waits for 2 more free B"
    assert not found.stuck["a"].mutual


def test_a_hundred_services_that_hang_together_are_ordered_in_bounded_work() -> None:
    kinds = "ABCDE"
    many = [
        mover(f"s{i:03}", hold(kinds[i % 5], 2), hold(kinds[(i + 1) % 5], 2), least=1, priority=1 + i % 7)
        for i in range(100)
    ]
    found = order(many, {"A": 2})
    state = _State(many, {"A": 2})
    for leg in found.legs:
        state.go(leg.key, leg.kind, leg.to)
    assert len(found.legs) == 100


class _State:
    """Services on accelerators, changed leg by leg; capacity and need are watched."""

    def __init__(self, movers: Sequence[Mover], free: Mapping[str, int]) -> None:
        self.movers = {m.key: m for m in movers}
        self.free = Counter(free)
        self.at = {m.key: m.here for m in movers}

    def go(self, key: str, kind: LegKind, to: Hold) -> None:
        now, mover = self.at[key], self.movers[key]
        if kind is LegKind.FEWER:
            assert mover.least <= to.replicas < now.replicas
            assert to.kind == now.kind
        else:
            assert to == mover.goal if kind is LegKind.GOAL else to in mover.stops
            # The new ones come up beside the old.
            assert self.free[to.kind] >= to.units
        self.free[to.kind] -= to.units
        self.free[now.kind] += now.units
        self.at[key] = to

    def left(self) -> list[Mover]:
        """Who is not yet where it wants to be, from where it is now."""
        return [
            Mover(m.key, m.priority, self.at[m.key], m.goal, min(m.least, self.at[m.key].replicas), stops)
            for m in self.movers.values()
            if self.at[m.key] != m.goal
            for stops in [m.stops if self.at[m.key].kind == m.here.kind else ()]
        ]


def _possible(movers: Sequence[Mover], free: Mapping[str, int]) -> bool:
    """Whether any order of moves, stops and reductions takes all of them to their goal: all are tried."""
    start = tuple(m.here for m in movers)
    total = Counter(free)
    for m in movers:
        total[m.here.kind] += m.here.units
    seen, queue = {start}, deque([start])
    while queue:
        state = queue.popleft()
        if all(h == m.goal for h, m in zip(state, movers, strict=True)):
            return True
        used: Counter[str] = Counter()
        for h in state:
            used[h.kind] += h.units
        for i, (h, m) in enumerate(zip(state, movers, strict=True)):
            if h == m.goal:
                continue
            nexts = [m.goal]
            if h.accelerator == m.here.accelerator:
                nexts += [s for s in m.stops if s.kind != h.kind]
            nexts = [n for n in nexts if used[n.kind] + n.units <= total[n.kind]]
            if h.accelerator == m.here.accelerator and h.replicas > m.least:
                nexts.append(Hold(h.accelerator, h.kind, h.each, h.replicas - 1))
            for n in nexts:
                after = (*state[:i], n, *state[i + 1 :])
                if after not in seen:
                    seen.add(after)
                    queue.append(after)
    return False


@st.composite
def instances(draw: st.DrawFn) -> tuple[list[Mover], dict[str, int]]:
    kinds = ["A", "B", "C"]
    movers = []
    for i in range(draw(st.integers(1, 4))):
        here, goal = draw(st.permutations(kinds))[:2]
        replicas = draw(st.integers(1, 3))
        stops = [k for k in kinds if k != here and draw(st.booleans())]
        movers.append(
            mover(
                f"s{i}",
                hold(here, replicas, draw(st.integers(1, 2))),
                hold(goal, draw(st.integers(1, 3))),
                *(hold(stop, draw(st.integers(1, 2))) for stop in stops if stop != goal),
                priority=draw(st.integers(1, 3)),
                least=draw(st.integers(1, replicas)),
            )
        )
    return movers, {k: draw(st.integers(0, 2)) for k in kinds}


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(instances(), st.randoms(use_true_random=False))
def test_everybody_arrives_wherever_there_is_an_order_and_stays_with_a_reason_elsewhere(
    instance: tuple[list[Mover], dict[str, int]], rng: random.Random
) -> None:
    movers, free = instance
    possible = _possible(movers, free)
    state = _State(movers, free)
    rounds = 0
    while left := state.left():
        found = order(rng.sample(left, len(left)), state.free)
        assert found == order(left, state.free)
        assert not (possible and found.stuck)
        if not found.legs:
            break
        # Only the first leg is carried out; the rest is decided again.
        leg = found.legs[0]
        state.go(leg.key, leg.kind, leg.to)
        rounds += 1
        assert rounds <= 3 * len(movers) + 12, "it never ends"
    if possible:
        assert not state.left()
    else:
        assert {m.key for m in state.left()} == found.stuck.keys()
        assert all(reason.message for reason in found.stuck.values())
        # Nobody has been left half-way.
        for m in state.left():
            assert state.at[m.key] == m.here


@settings(deadline=None, max_examples=50)
@given(instances())
def test_beyond_the_bound_services_go_by_priority_and_the_highest_that_fits_is_never_held_up(
    instance: tuple[list[Mover], dict[str, int]],
) -> None:
    movers, free = instance
    bound, ordering.LIMIT = ordering.LIMIT, 0
    try:
        found = order(movers, free)
    finally:
        ordering.LIMIT = bound
    state = _State(movers, free)
    for leg in found.legs:
        assert leg.kind is LegKind.GOAL
        state.go(leg.key, leg.kind, leg.to)
    assert all(m.goal.units > state.free[m.goal.kind] for m in state.left())
