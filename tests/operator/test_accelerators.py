from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import AMD, NAMESPACE, NVIDIA, accelerator, deployment, model, node, performance, pod_spec
from inferscale_operator.api.accelerator_profile import AcceleratorProfileSpec
from inferscale_operator.decide.accelerators import Room, Stock, recognise, serving_container, stocks
from inferscale_operator.snapshot import NodeState, PodState

OURS = frozenset({(NAMESPACE, "llama")})


def profiles(*names: str, **fields: Any) -> dict[str, AcceleratorProfileSpec]:
    found = {name: accelerator(name, **fields).spec for name in names}
    return {name: spec for name, spec in found.items() if spec is not None}


def pod(on: str | None, units: int = 1, of: str | None = "llama", *, terminating: bool = False) -> PodState:
    return PodState(NAMESPACE, "pod", of, on, {NVIDIA: units}, not terminating, terminating)


def test_units_are_counted_on_usable_nodes_that_the_profile_selects() -> None:
    nodes = (
        node("a", "H100", 8),
        node("b", "H100", 4),
        node("cordoned", "H100", 8, usable=False),
        node("other", "A100", 8),
        NodeState("vendor", {"gpu": "H100"}, {AMD: 8}, usable=True),
    )
    pods = (pod("a", 2), pod("a", 1, terminating=True), pod("b", 3, of="theirs"), pod(None, 8))
    stock = stocks(profiles("h100"), nodes, pods, OURS)["H100"]
    assert stock.node_sizes == (8, 4)
    assert stock.free_by_node == (5, 1)
    assert (stock.capacity, stock.used, stock.used_by_others) == (12, 3, 3)
    assert (stock.available, stock.free) == (9, 6)


def test_there_is_a_stock_without_nodes() -> None:
    stock = stocks(profiles("h100"), (), (), OURS)["H100"]
    assert (stock.capacity, stock.available, stock.free, stock.node_sizes) == (0, 0, 0, ())
    assert Room({"H100": stock}).take("H100", 1, 5) == 0


@pytest.mark.parametrize(
    ("capacity", "expected"),
    [
        ({"fixed": 3}, 3),
        ({"fixed": 100, "headroom": 10}, 90),
        ({"max": 64}, 64),
        ({"max": 2}, 8),
        ({"headroom": 3}, 5),
        ({"headroom": 30}, 0),
    ],
)
def test_capacity_may_be_stated_and_headroom_is_kept(capacity: dict[str, int], expected: int) -> None:
    stock = stocks(profiles("h100", capacity=capacity), (node("a", "H100", 8),), (), OURS)["H100"]
    assert stock.capacity == expected
    assert bool(stock.node_sizes) == (capacity.keys() == {"headroom"})


def test_more_is_never_free_than_nothing() -> None:
    stock = stocks(
        profiles("h100", capacity={"fixed": 2}),
        (node("a", "H100", 8),),
        (pod("a", 5), pod("a", 2, of=None)),
        OURS,
    )["H100"]
    assert (stock.available, stock.free) == (0, 0)


def test_six_nodes_with_one_free_unit_each_cannot_host_a_replica_of_four() -> None:
    nodes = tuple(node(f"node-{i}", "H100", 4) for i in range(6))
    pods = tuple(pod(f"node-{i}", 3, of="theirs") for i in range(6))
    room = Room(stocks(profiles("h100"), nodes, pods, OURS))
    assert room.take("H100", 4, 1) == 0
    assert room.take("H100", 1, 10) == 6


def test_small_replicas_go_where_they_leave_large_holes_whole() -> None:
    room = Room({"H100": Stock(16, {}, 0, (8, 8), (8, 3))})
    assert room.take("H100", 1, 3) == 3
    assert room.take("H100", 8, 1) == 1


def test_room_for_a_billion_replicas_is_found_without_counting_them() -> None:
    room = Room({"H100": Stock(2_000_000_001, {}, 0, (), ())})
    assert room.take("H100", 2, 10**12) == 10**9
    assert room.take("H100", 2, 1) == 0


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 8), max_size=5),
    st.integers(0, 10),
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 6)), max_size=8),
)
def test_no_more_is_taken_than_there_is(
    free: list[int], headroom: int, wishes: list[tuple[int, int]]
) -> None:
    capacity = max(sum(free) - headroom, 0)
    room = Room({"H100": Stock(capacity, {}, 0, tuple(free), tuple(free))})
    given_out = [(units, room.take("H100", units, replicas)) for units, replicas in wishes]
    assert sum(units * replicas for units, replicas in given_out) <= capacity
    assert all(got <= asked for (_, got), (_, asked) in zip(given_out, wishes, strict=True))
    largest = max(free, default=0)
    assert all(got == 0 for units, got in given_out if units > largest)


def test_the_profile_is_recognised_by_selector_and_units() -> None:
    known = profiles("h100", "a100") | profiles("h100x2", type="H100", multiplicity=2)
    spec = model("llama", performance("h100", 1), performance("h100x2", 1), performance("a100", 1)).spec
    assert spec is not None

    def found(**fields: Any) -> str | None:
        return recognise(deployment(pod_spec=pod_spec(**fields)), known, spec.profiles)

    assert found() == "h100"
    assert found(units=2) == "h100x2"
    assert found(kind="A100") == "a100"
    assert found(units=3) is None
    assert found(kind="B200") is None
    assert found(nodeSelector={}) is None
    assert found(containers=[]) is None
    assert recognise(deployment(pod_spec={}), known, spec.profiles) is None


def test_the_most_specific_selector_wins() -> None:
    known = profiles("h100") | profiles("h100-east", type="H100", nodeSelector={"gpu": "H100", "zone": "e"})
    spec = model(**{"h100": 1, "h100-east": 1}).spec
    assert spec is not None
    east = deployment(pod_spec=pod_spec(nodeSelector={"gpu": "H100", "zone": "e"}))
    assert recognise(east, known, spec.profiles) == "h100-east"
    assert recognise(deployment(), known, spec.profiles) == "h100"


def test_the_serving_container_is_the_named_one_or_the_only_one_that_asks() -> None:
    sidecar = {"name": "proxy"}
    one = pod_spec()["containers"][0]
    two = {**one, "name": "second"}
    both = {"containers": [sidecar, one]}
    assert serving_container(both, None, [NVIDIA]) == one
    assert serving_container(both, "proxy", [NVIDIA]) == sidecar
    assert serving_container(both, "absent", [NVIDIA]) is None
    assert serving_container({"containers": [one, two]}, None, [NVIDIA]) is None
    assert serving_container({"containers": [sidecar]}, None, [NVIDIA]) == sidecar
    assert serving_container({"containers": [sidecar, {"name": "x"}]}, None, [NVIDIA]) is None
    assert serving_container({}, None, [NVIDIA]) is None
