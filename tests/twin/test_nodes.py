from __future__ import annotations

from pathlib import Path

import pytest

from inferscale_operator.twin.nodes import Nodes
from twin_builders import setting

GPU = "nvidia.com/gpu"
H100 = {"inferscale.dev/accelerator": "H100"}


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    pools = [{"type": "H100", "count": 3, "units": 8}, {"type": "A100", "count": 1, "units": 8}]
    return Nodes(setting(tmp_path, nodes=pools))


def place(nodes: Nodes, units: int) -> str | None:
    return nodes.place(H100, {GPU: units})


def test_a_pod_goes_to_the_fullest_node_that_has_room_for_it(nodes: Nodes):
    first, second = place(nodes, 6), place(nodes, 4)
    assert first != second
    assert place(nodes, 2) == first
    assert place(nodes, 2) == second
    assert place(nodes, 8) not in (first, second, None)


def test_a_pod_without_room_is_not_placed_and_takes_nothing(nodes: Nodes):
    assert {place(nodes, 5) for _ in range(3)} == {name for name in nodes.states if name.startswith("h100")}
    assert place(nodes, 5) is None
    assert nodes.place({"inferscale.dev/accelerator": "B200"}, {GPU: 1}) is None
    assert nodes.place(H100, {"amd.com/gpu": 1}) is None
    assert place(nodes, 3) is not None


def test_units_that_are_given_back_can_be_taken_again(nodes: Nodes):
    name = place(nodes, 8)
    assert name is not None
    assert place(nodes, 8) != name
    nodes.release(name, {GPU: 8})
    assert place(nodes, 6) == name


def test_a_lost_node_takes_nothing_until_it_is_there_again_with_what_is_free_then(nodes: Nodes):
    name = place(nodes, 2)
    assert name is not None
    assert nodes.fullest("H100")[0] == name
    nodes.use(name, usable=False)
    assert name not in nodes.fullest("H100")
    assert place(nodes, 1) != name
    nodes.release(name, {GPU: 2})
    nodes.use(name, usable=True)
    assert name in {place(nodes, 8), place(nodes, 8)}
