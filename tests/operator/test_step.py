from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import (
    NAMESPACE,
    NOW,
    deployment,
    model,
    node,
    performance,
    pod_spec,
    service,
    service_class,
    world,
)
from inferscale_operator.api.inference_allocation import (
    InferenceAllocationStatus,
)
from inferscale_operator.api.moves import MoveSide, MoveStatus, MoveStep
from inferscale_operator.decide.accelerators import Stock, stocks
from inferscale_operator.decide.catalog import Subject, catalog, examine
from inferscale_operator.decide.stabilization import Stabilized
from inferscale_operator.decide.step import Grant, Intent, grants
from inferscale_operator.snapshot import PodState, ServiceState, Snapshot


def subjects(snapshot: Snapshot) -> dict[str, Subject]:
    entries = catalog(snapshot)
    found = {s.resource.name: examine(s, entries, snapshot) for s in snapshot.services}
    return {name: each for name, each in found.items() if isinstance(each, Subject)}


def intent(
    subject: Subject,
    replicas: int,
    on: str = "h100",
    *,
    held: bool = False,
    rising: bool = False,
    needed: int | None = None,
) -> Intent:
    """A service that wants replicas; `held`: its windows still hold it where it is."""
    target = Stabilized(on, replicas, None, rising=rising)
    holding = subject.holding
    now = Stabilized(holding.accelerator, holding.replicas, None, "waits") if held else target
    return Intent(subject, target, now, needed)


def stock_of(snapshot: Snapshot) -> dict[str, Stock]:
    entries = catalog(snapshot)
    return stocks(entries.accelerators, snapshot.nodes, snapshot.pods, frozenset(entries.targets))


def given_to(snapshot: Snapshot, wishes: Mapping[str, Intent]) -> dict[str, Grant]:
    granted = grants(list(wishes.values()), stock_of(snapshot), list(subjects(snapshot).values()))
    return {key.removeprefix(f"{NAMESPACE}/"): grant for key, grant in granted.items()}


def three(gold: int, silver: int, bronze: int, nodes: int = 8) -> Snapshot:
    """Services of three priorities with replicas on H100."""
    return world(
        service("gold", gold, serviceClass="gold"),
        service("silver", silver, serviceClass="silver"),
        service("bronze", bronze, serviceClass="bronze"),
        nodes=(node("node-h", "H100", nodes), node("node-a", "A100", 8)),
    )


def test_room_goes_by_priority() -> None:
    snapshot = three(2, 2, 2)
    by = subjects(snapshot)
    granted = given_to(snapshot, {name: intent(by[name], 4) for name in ("bronze", "silver", "gold")})
    assert [granted[n].replicas for n in ("gold", "silver", "bronze")] == [4, 2, 2]
    assert granted["silver"].short == "no room for 2 more on h100: no free H100"
    assert granted["silver"].lacking == 2
    assert not any(grant.donated for grant in granted.values())


def test_what_is_given_up_is_not_given_out_before_it_is_free() -> None:
    snapshot = three(4, 4, 0)
    by = subjects(snapshot)
    granted = given_to(snapshot, {"gold": intent(by["gold"], 6), "silver": intent(by["silver"], 1)})
    assert (granted["gold"].replicas, granted["silver"].replicas) == (4, 1)


def test_a_donor_passes_its_window_only_when_a_higher_priority_is_short() -> None:
    snapshot = three(2, 4, 2)
    by = subjects(snapshot)
    silver = intent(by["silver"], 1, held=True)
    calm = given_to(snapshot, {"gold": intent(by["gold"], 2), "silver": silver})
    assert (calm["silver"].replicas, calm["silver"].donated) == (4, False)
    short = given_to(snapshot, {"gold": intent(by["gold"], 4), "silver": silver})
    assert (short["silver"].replicas, short["silver"].donated) == (1, True)
    # One of lower or equal priority gets nothing that way.
    lower = given_to(snapshot, {"bronze": intent(by["bronze"], 4), "silver": silver})
    assert lower["silver"].replicas == 4


def test_the_lowest_priority_gives_way_first_and_no_more_of_them_than_it_takes() -> None:
    snapshot = three(2, 3, 3)
    by = subjects(snapshot)
    wishes = {
        "gold": intent(by["gold"], 4),
        "silver": intent(by["silver"], 1, held=True),
        "bronze": intent(by["bronze"], 1, held=True),
    }
    granted = given_to(snapshot, wishes)
    assert [granted[n].donated for n in ("gold", "silver", "bronze")] == [False, False, True]
    granted = given_to(snapshot, wishes | {"gold": intent(by["gold"], 5)})
    assert [granted[n].donated for n in ("gold", "silver", "bronze")] == [False, True, True]


def test_nobody_gives_more_while_what_was_given_is_still_terminating() -> None:
    snapshot = three(2, 3, 1)
    leaving = tuple(
        PodState(NAMESPACE, f"bronze-old-{i}", "bronze", "node-h", {"nvidia.com/gpu": 1}, False, True)
        for i in range(2)
    )
    by = subjects(snapshot)
    wishes = {"gold": intent(by["gold"], 4), "silver": intent(by["silver"], 1, held=True)}
    assert given_to(snapshot, wishes)["silver"].donated is False  # two units are free
    full = replace(snapshot, pods=snapshot.pods + leaving)
    granted = given_to(full, wishes)
    assert granted["silver"].donated is False
    assert (granted["gold"].replicas, granted["gold"].lacking) == (2, 2)


def with_move(state: ServiceState, source: MoveSide, to: MoveSide) -> ServiceState:
    move = MoveStatus(step=MoveStep.BRING_UP, source=source, to=to, started_at=NOW, step_started_at=NOW)
    return replace(state, allocation=InferenceAllocationStatus(move=move))


def test_what_a_move_will_give_up_counts_as_coming_free() -> None:
    bronze = with_move(
        service("bronze", 3, serviceClass="bronze"),
        MoveSide(accelerator="h100", replicas=3),
        MoveSide(accelerator="a100", replicas=2),
    )
    snapshot = world(service("gold", 2), service("silver", 3, serviceClass="silver"), bronze)
    by = subjects(snapshot)
    wishes = {"gold": intent(by["gold"], 4), "silver": intent(by["silver"], 1, held=True)}
    granted = given_to(snapshot, wishes)
    assert (granted["silver"].replicas, granted["gold"].replicas) == (3, 2)


def test_a_move_under_way_has_room_on_both_sides() -> None:
    moving = with_move(
        service("gold", 2),
        MoveSide(accelerator="h100", replicas=2),
        MoveSide(accelerator="a100", replicas=5),
    )
    snapshot = world(
        moving,
        service("a", 1, serviceClass="silver", on=deployment("a", 1, pod_spec=pod_spec("A100"))),
        service("h", 1, serviceClass="silver"),
    )
    by = subjects(snapshot)
    granted = given_to(snapshot, {"a": intent(by["a"], 8, "a100"), "h": intent(by["h"], 8)})
    assert granted["a"].replicas == 8 - 5
    # A rollout to more replicas starts three more on the old accelerator for nothing.
    assert granted["h"].replicas == 8 - 2 - 3


def test_a_move_to_more_replicas_needs_no_room_for_those_it_starts_for_nothing() -> None:
    snapshot = world(service("gold", 2), service("h", 6, serviceClass="silver"))
    by = subjects(snapshot)
    granted = given_to(snapshot, {"gold": intent(by["gold"], 4, "a100"), "h": intent(by["h"], 7)})
    assert granted["gold"] == Grant("a100", 4, None, move=True)
    assert granted["h"].replicas == 6


def test_a_move_waits_whole_and_its_service_may_grow_meanwhile() -> None:
    snapshot = world(
        service("gold", 2),
        service("others", 6, serviceClass="silver", on=deployment("others", 6, pod_spec=pod_spec("A100"))),
    )
    by = subjects(snapshot)
    calm = given_to(snapshot, {"gold": intent(by["gold"], 4, "a100", needed=2)})["gold"]
    assert (calm.accelerator, calm.replicas, calm.move) == ("h100", 2, False)
    assert calm.short == "the move to 4 on a100 waits for 2 more free A100"
    rising = given_to(snapshot, {"gold": intent(by["gold"], 8, "a100", rising=True, needed=4)})["gold"]
    assert (rising.accelerator, rising.replicas, rising.move, rising.lacking) == ("h100", 4, False, 6)
    hopeless = given_to(snapshot, {"gold": intent(by["gold"], 8, "a100", rising=True)})["gold"]
    assert hopeless.replicas == 2


def test_units_that_a_higher_priority_waits_for_go_to_nobody_lower() -> None:
    a100 = pod_spec("A100")
    snapshot = world(
        service("gold", 2),
        service("others", 6, serviceClass="silver", on=deployment("others", 6, pod_spec=a100)),
        service("low", 0, serviceClass="bronze", on=deployment("low", 0, pod_spec=a100)),
    )
    by = subjects(snapshot)
    granted = given_to(snapshot, {"gold": intent(by["gold"], 4, "a100"), "low": intent(by["low"], 2, "a100")})
    assert (granted["gold"].move, granted["low"].replicas) == (False, 0)


def test_a_batch_alone_takes_room_for_all_its_replicas() -> None:
    snapshot = world(service("gold", 5))
    gold = subjects(snapshot)["gold"]
    target = Stabilized("h100", 5, 64)
    assert given_to(snapshot, {"gold": Intent(gold, target, target, 5)})["gold"].lacking == 2


def test_free_units_on_six_nodes_are_no_room_for_a_replica_of_four() -> None:
    nodes = tuple(node(f"node-{i}", "H100", 4) for i in range(6))
    pods = tuple(
        PodState("other", f"pod-{i}", None, f"node-{i}", {"nvidia.com/gpu": 3}, True, False) for i in range(6)
    )
    quad = service("quad", 0, on=deployment("quad", 0, pod_spec=pod_spec(units=4)))
    snapshot = world(
        quad, nodes=nodes, pods=pods, model_profiles=(model("llama", performance("h100", 60, accCount=4)),)
    )
    granted = given_to(snapshot, {"quad": intent(subjects(snapshot)["quad"], 1)})["quad"]
    assert (granted.replicas, granted.lacking) == (0, 4)
    assert granted.short == "no room for 1 more on h100: 6 free H100, but no 4 on one node"


def test_a_move_that_waits_for_free_units_on_one_node_says_so() -> None:
    nodes = (*(node(f"node-{i}", "H100", 4) for i in range(6)), node("node-a", "A100"))
    pods = tuple(
        PodState("other", f"pod-{i}", None, f"node-{i}", {"nvidia.com/gpu": 3}, True, False) for i in range(6)
    )
    mover = service("mover", 1, on=deployment("mover", 1, pod_spec=pod_spec("A100")))
    rates = (model("llama", performance("h100", 60, accCount=4), a100=30),)
    snapshot = world(mover, nodes=nodes, pods=pods, model_profiles=rates)
    waits = given_to(snapshot, {"mover": intent(subjects(snapshot)["mover"], 1, "h100")})["mover"]
    assert waits.short == "the move to 1 on h100 waits for 4 more free H100 on nodes with 4 free together"


def test_replicas_whose_pods_are_still_to_be_placed_have_their_room() -> None:
    snapshot = three(6, 1, 0)
    waiting = tuple(
        replace(p, node=None, ready=False) if p.deployment == "gold" else p for p in snapshot.pods
    )
    snapshot = replace(snapshot, pods=waiting)
    by = subjects(snapshot)
    assert given_to(snapshot, {"silver": intent(by["silver"], 8)})["silver"].replicas == 2


@st.composite
def small_worlds(draw: st.DrawFn) -> tuple[Snapshot, dict[str, Intent]]:
    nodes = tuple(
        node(f"{kind}-{i}", kind, size)
        for kind in ("H100", "A100")
        for i, size in enumerate(draw(st.lists(st.integers(0, 4), max_size=3)))
    )
    states = []
    for i in range(draw(st.integers(1, 4))):
        kind, units = draw(st.sampled_from(["H100", "A100"])), draw(st.sampled_from([1, 2]))
        name, tier = f"s{i}", draw(st.sampled_from(["gold", "silver", "bronze"]))
        on = deployment(name, draw(st.integers(0, 3)), pod_spec=pod_spec(kind, units))
        states.append(service(name, serviceClass=tier, on=on, model=f"m{units}"))
    snapshot = world(
        *states,
        nodes=nodes,
        model_profiles=tuple(
            model(f"m{u}", performance("h100", 60, accCount=u), performance("a100", 30, accCount=u))
            for u in (1, 2)
        ),
        service_classes=tuple(
            service_class(name, priority, models=("m1", "m2"))
            for priority, name in enumerate(("gold", "silver", "bronze"), start=1)
        ),
    )
    pods = tuple(p for p in snapshot.pods if p.node is not None or draw(st.booleans()))
    snapshot = replace(snapshot, pods=pods)
    wishes = {}
    for name, subject in subjects(snapshot).items():
        wishes[name] = intent(
            subject,
            draw(st.integers(0, 5)),
            draw(st.sampled_from(["h100", "a100"])),
            held=draw(st.booleans()),
            rising=draw(st.booleans()),
            needed=draw(st.none() | st.integers(0, 5)),
        )
    return snapshot, wishes


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(small_worlds())
def test_grants_and_holdings_never_exceed_what_there_is(world: tuple[Snapshot, dict[str, Intent]]) -> None:
    snapshot, wishes = world
    stock = stock_of(snapshot)
    granted = given_to(snapshot, wishes)
    assert granted.keys() == wishes.keys()
    extra: Counter[str] = Counter()
    for name, grant in granted.items():
        subject = wishes[name].subject
        now = subject.deployment.replicas
        kind, each = subject.kind(grant.accelerator), subject.units(grant.accelerator)
        if grant.move:
            assert grant.accelerator == wishes[name].stabilized.accelerator or grant.donated
            extra[kind] += grant.replicas * each
        else:
            assert grant.accelerator == subject.accelerator
            extra[kind] += max(grant.replicas - now, 0) * each
        if grant.replicas < now and not grant.move:
            wish = wishes[name]
            need = now if wish.needed_here is None else wish.needed_here
            assert grant.replicas >= min(wish.target.replicas, wish.stabilized.replicas, need)
    for kind, units in extra.items():
        assert units <= stock[kind].free
