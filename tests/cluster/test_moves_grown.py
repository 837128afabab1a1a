"""A load that rises while a move's new replicas load their model, with a real Deployment controller."""

from __future__ import annotations

from typing import Any

import pytest

from localcluster import Cluster
from loop_objects import HARDWARE, rate_per_replica
from loop_world import DEPLOYMENTS, PODS, World, running
from tape import Tape

SLOW, FAST = rate_per_replica("l40s"), rate_per_replica("mi300x")
LOW, HIGH = 2.5 * SLOW, 4.5 * SLOW
STARTUP_S = 25


@pytest.fixture
def world(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service that can do with one replica on another accelerator, where replicas take their time."""
    with running(cluster, namespace, tmp_path_factory.mktemp("grown"), {"grower": HIGH}) as made:
        variants = [{"accelerator": made.named("mi300x")}]
        accelerators = [made.named("l40s"), made.named("mi300x")]
        made.apply(
            made.objects.deployment("grower", "l40s", 3, startup_s=STARTUP_S),
            made.objects.service("grower", mode="Apply", variants=variants, allowedAccelerators=accelerators),
        )
        made.demands["grower"].set(LOW)
        yield made


def _ready(state: dict[str, Any]) -> float:
    serving = 0.0
    for pod in state.values():
        conditions = pod.get("status", {}).get("conditions", ())
        if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            fast = HARDWARE["mi300x"].selector.items() <= pod["spec"]["nodeSelector"].items()
            serving += 0 if "deletionTimestamp" in pod["metadata"] else FAST if fast else SLOW
    return serving


def _paused(deployments: Tape) -> list[dict[str, Any]]:
    return [v["spec"] for v in deployments.versions("grower") if v["spec"].get("paused")]


def test_the_old_replicas_become_more_while_the_new_ones_start(world: World) -> None:
    world.eventually(lambda: len(world.pods("grower")) == 3, "the old replicas")
    world.eventually(
        lambda: _ready({p["metadata"]["name"]: p for p in world.pods("grower")}) == 3 * SLOW, "them"
    )
    with world.taping(DEPLOYMENTS) as deployments, world.taping(PODS) as pods:
        world.start_operator()
        world.eventually(lambda: world.spec("grower").get("paused"), "the new replica to be there", 120)
        world.demands["grower"].set(HIGH)
        world.eventually(lambda: "MoveCompleted" in dict(world.events("grower")), "the move to end", 180)
        world.eventually(lambda: len(world.pods("grower")) == 1, "one pod")
    assert "MoveGrown" in dict(world.events("grower"))
    # More on the old side while the rollout was held, and nothing that served has gone for it.
    assert max(spec["replicas"] for spec in _paused(deployments)) >= 5
    assert min(_ready(state) for state in pods.states() if state) >= 3 * SLOW
    assert world.spec("grower")["replicas"] == 1
    assert not world.spec("grower").get("paused")
    assert world.spec("grower")["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
