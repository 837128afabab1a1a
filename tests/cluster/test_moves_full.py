"""Two services swap accelerators on a cluster without a free one, and never have less than they need."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from localcluster import Cluster
from loop_objects import HARDWARE, parameters, rate_per_replica
from loop_world import PODS, World, running

SLOW, FAST = rate_per_replica("l40s"), rate_per_replica("h100")
# What others leave; every unit of it is in use. By its load, `warm` needs two of its three replicas and
# `cool` both.
UNITS = {"l40s": 3, "a100": 2}
LOAD = {"warm": 1.5 * SLOW, "cool": 1.5 * SLOW}
RATES = {"warm": {"l40s": SLOW, "a100": FAST}, "cool": {"l40s": FAST, "a100": SLOW}}
PRIORITY = {"warm": 10, "cool": 20}


@pytest.fixture(scope="module")
def world(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Services that are on each other's accelerator, in mode Recommend; the operator runs."""
    with running(cluster, namespace, tmp_path_factory.mktemp("full"), LOAD) as made:
        for name, units in UNITS.items():
            profile = made.objects.accelerator_profile(name)
            profile["spec"]["cost"] = 5
            others = _units(made, name) - units
            made.apply(profile, made.objects.deployment(f"others-{name}", name, others))
            made.eventually(
                lambda name=name, others=others: (
                    sum(_ready(pod) for pod in made.pods(f"others-{name}")) == others
                ),
                "others to take their units",
            )
        for name, here, replicas in (("warm", "l40s", 3), ("cool", "a100", 2)):
            classified = made.objects.service_class(name, name)
            classified["spec"]["priority"] = PRIORITY[name]
            made.apply(
                _model(made, name),
                classified,
                made.objects.deployment(name, here, replicas, model=name, startup_s=4),
                made.objects.service(name, model=made.named(name), serviceClass=made.named(name)),
            )
            made.demands[name].set(LOAD[name])
        made.start_operator()
        for name, there in (("warm", "a100"), ("cool", "l40s")):
            made.eventually(
                lambda name=name, there=there: made.entry(name).get("targetAccelerator") == made.named(there),
                f"a recommendation to move {name}",
            )
        yield made


def _model(world: World, name: str) -> dict[str, Any]:
    model = world.objects.model_profile(name, *UNITS)
    for profile, accelerator in zip(model["spec"]["profiles"], UNITS, strict=True):
        profile |= parameters(4 if RATES[name][accelerator] == FAST else 1)
    return model


def _units(world: World, accelerator: str) -> int:
    """Units on all nodes."""
    hardware = HARDWARE[accelerator]
    nodes = (world.api.get("api/v1/nodes") or {})["items"]
    return sum(
        int(node["status"]["allocatable"][hardware.resource])
        for node in nodes
        if hardware.selector.items() <= node["metadata"]["labels"].items()
    )


def _on(pod: dict[str, Any]) -> str:
    selector = pod["spec"]["nodeSelector"].items()
    return next(name for name in UNITS if HARDWARE[name].selector.items() <= selector)


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def test_two_services_swap_accelerators_without_a_free_one_and_without_a_moment_below_need(
    world: World,
) -> None:
    with world.taping(PODS) as pods:
        for name in LOAD:
            world.change(name, mode="Apply")
        for name in LOAD:
            world.eventually(lambda name=name: "MoveCompleted" in dict(world.events(name)), f"{name}", 120)
            world.eventually(lambda name=name: len(world.pods(name)) == 1, f"one pod of {name}")
    assert {name: _on(world.pods(name)[0]) for name in LOAD} == {"warm": "a100", "cool": "l40s"}
    for state in pods.states():
        serving = Counter[str]()
        ours = [pod for pod in state.values() if pod["metadata"]["labels"]["app"] in LOAD]
        used = Counter(_on(pod) for pod in ours if "nodeName" in pod["spec"])
        for pod in ours:
            name = pod["metadata"]["labels"]["app"]
            serving[name] += RATES[name][_on(pod)] if _ready(pod) else 0
        assert all(serving[name] >= rate for name, rate in LOAD.items()), serving
        assert all(used[name] <= units for name, units in UNITS.items()), used
    for name in LOAD:
        moved = sorted(reason for reason, _ in world.events(name) if reason.startswith("Move"))
        assert moved == ["MoveCompleted", "MoveReady", "MoveStarted"]
        assert not world.spec(name).get("paused")
        assert world.spec(name)["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
