"""Behaviour on a real API server: scaling policies over a restart, slow pods, pods that find no node."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from localcluster import Cluster
from loop_objects import HARDWARE, rate_per_replica
from loop_world import DEPLOYMENTS, IFA, World, running
from tape import Tape

EACH = rate_per_replica("l40s")
PERIOD_S = 10
STARTUP_S = 8
AFTER_S = 4
AT_ONCE = {"stabilizationWindowSeconds": 0}
# Replicas that the load needs on either accelerator.
NEEDS = {"stepwise": 3, "slow": 3, "stuck": 4}


@dataclass(frozen=True)
class Run:
    """Loads that were too much for one replica each."""

    world: World
    deployments: Tape
    allocations: Tape


@pytest.fixture(scope="module")
def run(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    loads = {name: (needs - 0.5) * EACH for name, needs in NEEDS.items()}
    fields: dict[str, Any] = {
        "behavior": {"scaleUp": AT_ONCE, "scaleDown": AT_ONCE},
        "safety": {"unschedulableAfterSeconds": AFTER_S, "unschedulableRetryAfterSeconds": 3600},
    }
    with running(cluster, namespace, tmp_path_factory.mktemp("behaviour"), loads, **fields) as world:
        # Of the 48 CPUs of a node with L40S, so that the fourth replica fits on none of three.
        wide = {"resources": {"limits": {HARDWARE["l40s"].resource: 1}, "requests": {"cpu": "40"}}}
        slowly = {"policies": [{"type": "Pods", "value": 1, "periodSeconds": PERIOD_S}]}
        world.apply(
            world.objects.deployment("stepwise", "l40s", 1),
            world.objects.deployment("slow", "l40s", 1, startup_s=STARTUP_S),
            world.objects.deployment("stuck", "l40s", 1, container=wide),
            world.objects.service(
                "stepwise", mode="Apply", keepAccelerator=True, behavior={"scaleUp": slowly}
            ),
            world.objects.service("slow", mode="Apply", keepAccelerator=True),
            world.objects.service(
                "stuck", mode="Apply", allowedAccelerators=[world.named("l40s"), world.named("a100")]
            ),
        )
        for name, rate in loads.items():
            world.demands[name].set(rate)
        with world.taping(DEPLOYMENTS) as deployments, world.taping(IFA) as allocations:
            world.start_operator()
            world.eventually(lambda: world.replicas("stepwise") == 2, "the first step")
            world.kill_operator()
            world.start_operator()
            yield Run(world, deployments, allocations)


def _asked(run: Run, name: str) -> list[int]:
    """Replicas that a Deployment asked for, one after the other."""
    asked = [version["spec"]["replicas"] for version in run.deployments.versions(name)]
    return [now for before, now in zip([None, *asked], asked, strict=False) if now != before]


def test_a_scaling_policy_holds_over_a_restart(run: Run) -> None:
    run.world.eventually(lambda: run.world.replicas("stepwise") == NEEDS["stepwise"], "the last step")
    changes = {
        event["time"]: (event["before"], event["after"])
        for version in run.allocations.versions("stepwise")
        for event in version.get("status", {}).get("scaleEvents", ())
    }
    # A patch that the kill forestalled is asked for again.
    made = list(dict.fromkeys(changes.values()))
    assert made == [(1, 2), (2, 3)]
    times = [
        max(datetime.fromisoformat(t) for t, change in changes.items() if change == each) for each in made
    ]
    assert all((later - earlier).total_seconds() >= PERIOD_S for earlier, later in pairwise(times))
    assert _asked(run, "stepwise") == [1, 2, 3]


def test_pods_that_take_their_time_are_asked_for_once(run: Run) -> None:
    world = run.world

    def ready() -> bool:
        return ((world.get(DEPLOYMENTS, "slow") or {})["status"].get("readyReplicas") or 0) >= NEEDS["slow"]

    world.eventually(ready, "slow pods")
    world.after_ticks(3)
    # What waits meanwhile asks for no more and more: the load, measured over seconds, is some requests off.
    assert max(_asked(run, "slow")) <= NEEDS["slow"] + 1


def test_a_service_whose_replica_finds_no_node_goes_to_another_accelerator(run: Run) -> None:
    world = run.world

    def said() -> dict[str, Any]:
        condition = world.condition("stuck", "CapacityLimited")
        return condition if condition.get("reason") == "Unschedulable" else {}

    condition = world.eventually(said, "the condition")
    assert condition["status"] == "True"
    [named] = world.eventually(lambda: world.status("stuck").get("unschedulable"), "the record")
    assert named["accelerator"] == world.named("l40s")
    assert world.named("l40s").upper() in condition["message"]
    product = HARDWARE["a100"].selector
    world.eventually(
        lambda: (
            world.spec("stuck")["template"]["spec"]["nodeSelector"] == product and not world.move("stuck")
        ),
        "the move",
        150,
    )
    [message] = [message for reason, message in world.events("stuck") if reason == "Unschedulable"]
    assert f"pod {named['pod']} " in message
    # It is remembered: nothing goes back to where the room only seems to be.
    world.after_ticks(3)
    assert world.spec("stuck")["template"]["spec"]["nodeSelector"] == product
    assert not world.move("stuck")
    assert world.entry("stuck")["targetAccelerator"] == world.named("a100")
