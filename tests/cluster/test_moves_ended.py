"""Whatever ends a move early: every Deployment gets its owner's strategy back and is not left paused."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import installation
from localcluster import Cluster
from loop_objects import HARDWARE, rate_per_replica
from loop_world import DEPLOYMENTS, IFA, PODS, World, running

# Long enough to be looked at in the middle, on a slow machine as well.
STARTUP_S = 10
SLOW = rate_per_replica("l40s")
STRATEGY = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "30%"}}
FIELD_MANAGER = "inferscale"

# Service: accelerator and replicas at first, load in replicas of it, accelerator in the end.
SERVICES = {
    "pausing": ("l40s", 2, 1.5, "mi300x"),
    "stopped": ("l40s", 2, 1.5, "mi300x"),
    "settled": ("l40s", 2, 1.5, "mi300x"),
    "doomed": ("a100", 2, 1.5, "mirage"),
    "edited": ("l40s", 2, 1.5, "mi300x"),
    "recreated": ("a100", 1, 0.5, "l40s"),
    "leaving": ("l40s", 2, 1.5, "mi300x"),
}
LOAD = {name: SLOW * row[2] for name, row in SERVICES.items()}


@pytest.fixture(scope="module")
def world(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Services that would move, were they not in mode Recommend; the operator runs."""
    moves = {"bringUpTimeoutSeconds": 300, "maxConcurrent": 20}
    with running(cluster, namespace, tmp_path_factory.mktemp("ended"), LOAD, moves=moves) as made:
        variant = {"accelerator": made.named("mi300x"), "image": "rocm/vllm"}
        for name, (source, replicas, _, target) in SERVICES.items():
            recreated = name == "recreated"
            strategy = {"type": "Recreate"} if recreated else STRATEGY
            made.apply(
                made.objects.deployment(name, source, replicas, startup_s=STARTUP_S, strategy=strategy),
                made.objects.service(
                    name,
                    allowedAccelerators=[made.named(source), made.named(target)],
                    variants=[variant],
                    # Its condition is to be read while it may not move.
                    mode="Apply" if recreated else "Recommend",
                ),
            )
            made.demands[name].set(LOAD[name])
        made.start_operator()
        for name, (_, _, _, target) in SERVICES.items():
            if name != "recreated":
                made.eventually(
                    lambda name=name, target=target: (
                        made.entry(name).get("accelerator") == made.named(target)
                    ),
                    f"a recommendation to move {name}",
                )
        yield made


def _begin(world: World, *names: str) -> None:
    """Let them move; returns when their rollouts are held."""
    for name in names:
        world.change(name, mode="Apply")
    for name in names:
        world.eventually(
            lambda name=name: world.spec(name).get("paused"), f"the rollout of {name} to be held"
        )


def _is_on(pod: dict[str, Any], accelerator: str) -> bool:
    return HARDWARE[accelerator].selector.items() <= pod["spec"]["nodeSelector"].items()


def _given_back(world: World, name: str, accelerator: str, replicas: int) -> None:
    """The owner's strategy is back, nothing is held, and the pods are where they should be."""

    def there() -> bool:
        pods = world.pods(name)
        return len(pods) == replicas and all(_is_on(pod, accelerator) for pod in pods)

    world.eventually(there, f"{replicas} pods of {name} on {accelerator}")
    spec = world.spec(name)
    assert (spec["replicas"], spec["strategy"], spec.get("paused", False)) == (replicas, STRATEGY, False)


def _let_go(world: World, name: str) -> None:
    """No record and no finalizer is left."""
    world.eventually(
        lambda: not world.move(name) and "finalizers" not in (world.get(IFA, name) or {})["metadata"],
        f"the end of the record of {name}",
    )


def _finished(world: World, name: str) -> None:
    world.eventually(lambda: "MoveCompleted" in dict(world.events(name)), f"the end of the move of {name}")
    _given_back(world, name, SERVICES[name][3], 1)
    _let_go(world, name)


def test_a_service_that_is_paused_in_a_move_finishes_it_and_then_stays(world: World) -> None:
    _begin(world, "pausing")
    world.change("pausing", mode="Paused")
    _finished(world, "pausing")
    world.eventually(lambda: world.condition("pausing", "Paused").get("status") == "True", "it to be paused")


def test_an_operator_that_is_told_to_stop_leaves_a_move_that_the_next_one_finishes(world: World) -> None:
    _begin(world, "stopped")
    world.stop_operator()
    assert world.move("stopped")["step"] in ("BringUp", "HandOver")
    assert world.get(IFA, "stopped")["metadata"]["finalizers"]
    world.start_operator()
    _finished(world, "stopped")


def test_a_pod_template_that_somebody_changes_in_a_move_ends_it_and_keeps_the_change(world: World) -> None:
    _begin(world, "edited")
    container = {"name": "server", "env": [{"name": "LOG_LEVEL", "value": "debug"}]}
    change = {"spec": {"template": {"spec": {"containers": [container]}}}}
    world.patch("deployment", "edited", change, field_manager="somebody")
    world.eventually(lambda: "MoveRolledBack" in dict(world.events("edited")), "the way back")
    assert "somebody changed the pod template" in dict(world.events("edited"))["MoveDisturbed"]
    _given_back(world, "edited", "l40s", 2)
    assert world.spec("edited")["template"]["spec"]["containers"][0]["env"] == container["env"]
    world.change("edited", mode="Recommend")


def test_a_deployment_that_is_recreated_moves_only_where_its_owner_allows_the_outage(world: World) -> None:
    stays = world.eventually(
        lambda: (c := world.condition("recreated", "Moving")).get("reason") == "RecreateStrategy" and c,
        "the condition that says why it stays",
    )
    assert "spec.moves.allowDowntime" in stays["message"]
    assert not any(reason == "MoveStarted" for reason, _ in world.events("recreated"))
    world.change("recreated", moves={"allowDowntime": True})
    world.eventually(lambda: "MoveCompleted" in dict(world.events("recreated")), "the move")
    assert world.spec("recreated")["strategy"] == {"type": "Recreate"}
    world.eventually(
        lambda: [_is_on(pod, "l40s") for pod in world.pods("recreated")] == [True], "the pod to be there"
    )


def test_a_deployment_that_we_left_paused_without_a_record_is_resumed(world: World) -> None:
    for name, mode in (("forgotten", "Apply"), ("left", "Recommend")):
        world.apply(
            world.objects.deployment(name, "l40s", 1, strategy=STRATEGY),
            world.objects.service(name, mode=mode, keepAccelerator=True),
        )
        world.patch("deployment", name, {"spec": {"paused": True}}, field_manager=FIELD_MANAGER)
    world.eventually(lambda: not world.spec("forgotten").get("paused"), "the rollout to go on")
    world.eventually(lambda: "Resumed" in dict(world.events("forgotten")), "the news of it")
    # Nobody has asked us to touch this one.
    assert world.spec("left")["paused"]


def test_uninstalling_ends_the_moves_and_takes_the_finalizers_off(world: World) -> None:
    _begin(world, "settled", "doomed")
    world.stop_operator()
    # The new replicas of one come up in half of this time, those of the other never.
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from inferscale_operator.cli import main; main()"),
            *("settle", "--timeout=60", f"--kubeconfig={world.account}"),
        ],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, accelerator, replicas in (("settled", "mi300x", 1), ("doomed", "a100", 2)):
        assert f"{world.namespace}/{name}: the move is over" in done.stdout
        assert not world.move(name)
        assert "finalizers" not in world.get(IFA, name)["metadata"]
        _after_the_operator(world, name, accelerator, replicas)
    world.change("settled", mode="Recommend")
    world.change("doomed", mode="Recommend")
    world.start_operator()


def _after_the_operator(world: World, name: str, accelerator: str, replicas: int) -> None:
    spec = world.spec(name)
    assert (spec["replicas"], spec["strategy"], spec.get("paused", False)) == (replicas, STRATEGY, False)
    assert HARDWARE[accelerator].selector.items() <= spec["template"]["spec"]["nodeSelector"].items()


def test_a_namespace_that_is_deleted_in_a_move_goes(world: World) -> None:
    _begin(world, "leaving")
    path = "api/v1/namespaces"
    world.cluster.kubectl("delete", "namespace", world.namespace, "--wait=false")
    world.eventually(lambda: world.api.get(f"{path}/{world.namespace}") is None, "the namespace to go", 120)
    assert world.get(DEPLOYMENTS, "leaving") is None
    assert not (world.get(PODS) or {"items": ()})["items"]
    # The fixtures expect one at the end.
    world.cluster.kubectl("create", "namespace", world.namespace)
    world.cluster.kubectl("label", "namespace", world.namespace, installation.LABEL)
