"""Which nodes count, and what is free on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import (
    NAMESPACE,
    NVIDIA,
    accelerator,
    deployment,
    load,
    model,
    node,
    of,
    performance,
    pod_spec,
    service,
    world,
)
from inferscale_operator.decide import decide
from inferscale_operator.decide.accelerators import stocks
from inferscale_operator.decide.inventory import SHOWN_NODES, left_out, tolerates
from inferscale_operator.snapshot import NodeState, PodState, Snapshot, TaintState

DEDICATED = TaintState("dedicated", "NoSchedule", "llm")
TOLERATED = {"key": "dedicated", "value": "llm", "effect": "NoSchedule"}
MIG = "nvidia.com/mig-1g.10gb"


def profile(name: str = "h100", **fields: Any) -> Any:
    return accelerator(name, **fields).spec


def capacity(snapshot: Snapshot, name: str = "h100") -> dict[str, Any]:
    """Status of an AcceleratorProfile."""
    status = next(s.status for s in decide(snapshot).statuses if s.ref.name == name)
    return status.model_dump(mode="json", by_alias=True)


def tainted(name: str, *taints: TaintState) -> NodeState:
    return replace(node(name, "H100"), taints=taints)


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "dedicated", "operator": "Exists"}, True),
        ({"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "dedicated", "value": "llm"}, True),
        ({"key": "dedicated", "operator": "Equal", "value": "llm", "effect": "NoSchedule"}, True),
        ({"key": "dedicated", "value": "other"}, False),
        ({"key": "dedicated"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"value": "llm"}, False),
    ],
)
def test_a_toleration_is_for_a_taint_by_the_rule_of_the_scheduler(
    toleration: dict[str, str], fits: bool
) -> None:
    assert tolerates(toleration, DEDICATED) is fits


def test_a_node_whose_taint_nobody_tolerates_does_not_count() -> None:
    snapshot = world(service(), nodes=(node("free", "H100"), tainted("kept", DEDICATED)))
    status = capacity(snapshot)
    assert status["capacity"] == 8
    assert status["notCounted"] == ["kept: its taint dedicated=llm:NoSchedule is not tolerated"]


def test_a_taint_that_the_profile_tolerates_is_none() -> None:
    tolerant = accelerator("h100", tolerations=[TOLERATED])
    snapshot = world(
        service(),
        nodes=(node("free", "H100"), tainted("kept", DEDICATED)),
        accelerator_profiles=(tolerant, accelerator("a100")),
    )
    assert capacity(snapshot)["capacity"] == 16
    assert capacity(snapshot)["notCounted"] == []


def test_a_taint_that_a_pod_template_tolerates_is_none_for_its_type() -> None:
    there = deployment(pod_spec=pod_spec(tolerations=[TOLERATED]))
    snapshot = world(
        service(on=there),
        nodes=(tainted("kept", DEDICATED), replace(node("a", "A100"), taints=(DEDICATED,))),
        pods=(PodState(NAMESPACE, "p", "llama", "kept", {NVIDIA: 1}, True, False),),
    )
    assert (capacity(snapshot)["capacity"], capacity(snapshot)["used"]) == (8, 1)
    assert capacity(snapshot, "a100")["capacity"] == 0


def test_every_taint_must_be_tolerated() -> None:
    two = tainted("two", DEDICATED, TaintState("nvidia.com/gpu", "NoExecute"))
    tolerant = profile(tolerations=[TOLERATED])
    assert left_out(tolerant, [two]) == ("two: its taint nvidia.com/gpu:NoExecute is not tolerated",)


def test_cordoned_and_lost_nodes_are_told_apart_and_do_not_count() -> None:
    cordoned = replace(node("cordoned", "H100", usable=False), cordoned=True)
    lost = node("lost", "H100", usable=False)
    status = capacity(world(service(), nodes=(node("good", "H100"), cordoned, lost)))
    assert status["capacity"] == 8
    assert status["notCounted"] == ["cordoned: it is cordoned", "lost: it is not ready"]


def test_pods_on_a_node_that_is_lost_hold_nothing_and_need_room_elsewhere() -> None:
    nodes = (node("good", "H100", 3), node("lost", "H100", usable=False))
    pods = tuple(PodState(NAMESPACE, f"p{i}", "llama", "lost", {NVIDIA: 1}, False, False) for i in range(2))
    snapshot = world(service(observed=load(235), keepAccelerator=True), nodes=nodes, pods=pods)
    assert capacity(snapshot)["used"] == 0
    plan = of(decide(snapshot), "llama")
    # Four are needed; room for three, of which two are for those that were lost.
    assert plan.patch is not None
    assert plan.patch.body["spec"]["replicas"] == 3


def test_a_node_that_publishes_through_dra_alone_is_named_as_not_counted() -> None:
    bare = NodeState("dra", {"gpu": "H100"}, {}, usable=True)
    status = capacity(world(service(), nodes=(node("plugin", "H100"), bare)))
    assert status["capacity"] == 8
    [told] = status["notCounted"]
    assert told.startswith("dra: it publishes no nvidia.com/gpu")
    assert "DRA alone" in told


def test_of_very_many_nodes_not_all_are_named() -> None:
    nodes = [node(f"n{i:02}", "H100", usable=False) for i in range(SHOWN_NODES + 3)]
    told = left_out(profile(), nodes)
    assert len(told) == SHOWN_NODES + 1
    assert told[-1] == "and 3 more"


def test_partitions_are_a_type_of_their_own() -> None:
    whole = accelerator("h100")
    part = accelerator("slice", type="H100-1g", resourceName=MIG, nodeSelector={"gpu": "H100"})
    both = NodeState("node", {"gpu": "H100"}, {NVIDIA: 4, MIG: 28}, usable=True)
    pods = (
        PodState("other", "p", None, "node", {MIG: 3}, True, False),
        PodState("other", "q", None, "node", {NVIDIA: 1}, True, False),
    )
    found = stocks({"h100": whole.spec, "slice": part.spec}, (both,), pods, frozenset())  # type: ignore[dict-item]
    assert (found["H100"].capacity, found["H100"].used_by_others) == (4, 1)
    assert (found["H100-1g"].capacity, found["H100-1g"].used_by_others) == (28, 3)


def test_profiles_that_share_a_type_share_its_units() -> None:
    one, two = accelerator("h100"), accelerator("2xh100", type="H100", multiplicity=2, cost=19.0)
    llama = model("llama", performance("h100", 60.0), performance("2xh100", 130.0))
    first = service("first", 4, load(235), keepAccelerator=True)
    second = service(
        "second",
        2,
        load(255),
        keepAccelerator=True,
        on=deployment("second", 2, pod_spec=pod_spec(units=2)),
    )
    snapshot = world(
        first, second, accelerator_profiles=(one, two), model_profiles=(llama,), nodes=(node("n", "H100"),)
    )
    for name in ("h100", "2xh100"):
        status = capacity(snapshot, name)
        assert (status["capacity"], status["used"], status["free"]) == (8, 8, 0)


def test_profiles_of_one_type_that_are_found_by_different_resources_are_counted_together() -> None:
    one = profile("h100")
    other = profile("h100-shared", type="H100", resourceName="nvidia.com/gpu.shared")
    nodes = (
        node("a", "H100", 8),
        NodeState("b", {"gpu": "H100-SHARED"}, {"nvidia.com/gpu.shared": 4}, usable=True),
    )
    other = other.model_copy(update={"node_selector": {"gpu": "H100-SHARED"}})
    assert stocks({"a": one, "b": other}, nodes, (), frozenset())["H100"].capacity == 12


def test_an_elastic_pool_at_zero_counts_as_what_it_may_grow_to() -> None:
    elastic = accelerator("h100", capacity={"max": 16, "headroom": 2})
    snapshot = world(
        service(observed=load(235), keepAccelerator=True),
        accelerator_profiles=(elastic, accelerator("a100")),
        nodes=(),
        pods=(PodState(NAMESPACE, "p", "llama", None, {NVIDIA: 1}, False, False),),
    )
    assert capacity(snapshot)["capacity"] == 14
    plan = of(decide(snapshot), "llama")
    assert plan.patch is not None
    assert plan.patch.body["spec"]["replicas"] == 4


def test_headroom_is_given_to_nobody() -> None:
    kept = accelerator("h100", capacity={"headroom": 5})
    snapshot = world(
        service(observed=load(235), keepAccelerator=True), accelerator_profiles=(kept, accelerator("a100"))
    )
    plan = of(decide(snapshot), "llama")
    assert plan.patch is not None
    assert plan.patch.body["spec"]["replicas"] == 3
