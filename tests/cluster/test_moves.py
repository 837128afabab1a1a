"""Changes of accelerator on a real API server, with pods that take their time: never break before make."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from localcluster import Cluster
from loop_objects import HARDWARE, rate_per_replica
from loop_world import DEPLOYMENTS, IFA, IFS, PODS, World, running
from tape import Tape

STARTUP_S = 6
# It is stopped twice before its new replica is up.
LONG_STARTUP_S = 12
TIMEOUT_S = 40
SLOW = rate_per_replica("l40s")
STRATEGY = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "30%"}}
IMAGE = "rocm/vllm"

# Service: accelerator and replicas at first, load in replicas of it, accelerator and replicas in the end.
SERVICES = {
    "shrink": ("l40s", 4, 3.5, "mi300x", 1),
    "grow": ("h100", 1, None, "l40s", 3),
    "killed": ("l40s", 4, 3.5, "mi300x", 1),
    "failing": ("a100", 2, 1.5, "mirage", 1),
    "deleted": ("a100", 2, 1.5, "mi300x", 1),
}
LOAD = {name: SLOW * (row[2] or 2.5) for name, row in SERVICES.items()}


@pytest.fixture(scope="module")
def world(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Services that would move, were they not in mode Recommend; the operator runs."""
    moves = {"bringUpTimeoutSeconds": TIMEOUT_S, "retryAfterSeconds": 3600}
    with running(cluster, namespace, tmp_path_factory.mktemp("moves"), LOAD, moves=moves) as made:
        foreign = {
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "team", "operator": "Equal", "value": "blue", "effect": "NoSchedule"}],
        }
        server = {
            "env": [{"name": "LOG_LEVEL", "value": "debug"}, {"name": "GPUS", "value": "many"}],
            "args": ["--seed=7", "--max-num-seqs", "100"],
        }
        variant = {
            "accelerator": made.named("mi300x"),
            "image": IMAGE,
            "env": [{"name": "GPUS", "value": "{acceleratorCount}"}, {"name": "ROCM", "value": "1"}],
        }
        for name, (source, replicas, _, target, _) in SERVICES.items():
            made.apply(
                made.objects.deployment(
                    name,
                    source,
                    replicas,
                    startup_s=LONG_STARTUP_S if name == "killed" else STARTUP_S,
                    strategy=STRATEGY,
                    pod=foreign,
                    container=server,
                ),
                made.objects.service(
                    name,
                    allowedAccelerators=[made.named(source), made.named(target)],
                    variants=[variant],
                    batch={"mode": "Managed", "arg": "--max-num-seqs"},
                ),
            )
            made.demands[name].set(LOAD[name])
        made.start_operator()
        for name, (_, _, _, target, _) in SERVICES.items():
            made.eventually(
                lambda name=name, target=target: made.entry(name).get("accelerator") == made.named(target),
                f"a recommendation to move {name}",
            )
        yield made


@dataclass(frozen=True)
class Begun:
    """The world with moves under way."""

    world: World
    pods: Tape
    """From before the first move on."""
    before: dict[str, dict[str, Any]]
    """Specs of the Deployments before."""


@pytest.fixture(scope="module")
def begun(world: World) -> Iterator[Begun]:
    """The moves that are not disturbed have begun, all at once."""
    with world.taping(PODS) as pods:
        before = {name: world.spec(name) for name in SERVICES}
        for name in ("shrink", "grow", "failing"):
            world.change(name, mode="Apply")
        yield Begun(world, pods, before)


def _pods(tape: Tape, name: str) -> Iterator[dict[str, dict[str, Any]]]:
    """Pods of a Deployment by uid, after every change."""
    for state in tape.states():
        yield {uid: pod for uid, pod in state.items() if pod["metadata"]["labels"]["app"] == name}


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _is_on(pod: dict[str, Any], accelerator: str) -> bool:
    return HARDWARE[accelerator].selector.items() <= pod["spec"]["nodeSelector"].items()


def _assert_always_enough(tape: Tape, name: str) -> None:
    """At every moment the ready pods can take the load."""
    source, _, _, target, _ = SERVICES[name]
    rates = {accelerator: rate_per_replica(accelerator) for accelerator in (source, target)}
    for pods in _pods(tape, name):
        ready = [pod for pod in pods.values() if _is_ready(pod)]
        capacity = sum(rate for pod in ready for on, rate in rates.items() if _is_on(pod, on))
        assert capacity >= LOAD[name], [pod["metadata"]["name"] for pod in ready]


def _assert_the_new_are_whole_before_an_old_one_goes(tape: Tape, name: str) -> set[str]:
    """Returns the uids of the new pods that were ready when the first old one went."""
    source, replicas, _, target, goal = SERVICES[name]
    for pods in _pods(tape, name):
        old = [uid for uid, pod in pods.items() if _is_on(pod, source) and _is_ready(pod)]
        new = {uid for uid, pod in pods.items() if _is_on(pod, target) and _is_ready(pod)}
        if len(old) < replicas:
            assert len(new) >= goal
            return new
    raise AssertionError("no old pod went")


def _completed(world: World, name: str) -> dict[str, Any]:
    """Spec of the Deployment after the move."""
    world.eventually(lambda: "MoveCompleted" in dict(world.events(name)), f"the move of {name}", 120)
    # What has been trimmed goes a moment later.
    goal = SERVICES[name][-1]
    world.eventually(lambda: len(world.pods(name)) == goal, f"pods of {name}")
    return world.spec(name)


def _expected(world: World, name: str, before: dict[str, Any]) -> dict[str, Any]:
    """The spec of a Deployment moved from l40s to mi300x: all else is as its owner left it."""
    expected = copy.deepcopy(before)
    expected["replicas"] = SERVICES[name][-1]
    pod = expected["template"]["spec"]
    [container] = pod["containers"]
    pod["nodeSelector"] = {"kubernetes.io/os": "linux", **HARDWARE["mi300x"].selector}
    pod["tolerations"] = [*before["template"]["spec"]["tolerations"], *HARDWARE["mi300x"].tolerations]
    container["image"] = IMAGE
    container["resources"] = {"limits": {"amd.com/gpu": "1"}, "requests": {"amd.com/gpu": "1"}}
    entry = world.entry(name)
    container["args"] = [*container["args"][:-1], str(entry["maxBatch"])]
    container["env"] = [
        {"name": "LOG_LEVEL", "value": "debug"},
        {"name": "GPUS", "value": "1"},
        {"name": "ROCM", "value": "1"},
    ]
    return expected


def _normal(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec without what the API server's strategic merge puts into another order."""
    spec = copy.deepcopy(spec)
    [container] = spec["template"]["spec"]["containers"]
    container["env"] = sorted(container["env"], key=lambda variable: variable["name"])
    return spec


def _written(deployment: dict[str, Any]) -> set[str]:
    """Fields that the operator has written, as paths; items of lists without their keys."""

    def paths(fields: dict[str, Any], path: str) -> Iterator[str]:
        inner = {key: value for key, value in fields.items() if key != "."}
        if not inner:
            yield path
        for key, value in inner.items():
            kind, _, name = key.partition(":")
            yield from paths(value, f"{path}.{name}" if kind == "f" else f"{path}[]")

    ours = [f for f in deployment["metadata"]["managedFields"] if f["manager"] == "inferscale"]
    return {path.removeprefix(".") for field in ours for path in paths(field["fieldsV1"], "")}


def test_fewer_replicas_on_another_accelerator_never_leave_less_than_the_load_needs(begun: Begun) -> None:
    _completed(begun.world, "shrink")
    _assert_always_enough(begun.pods, "shrink")
    took_over = _assert_the_new_are_whole_before_an_old_one_goes(begun.pods, "shrink")
    assert {pod["metadata"]["uid"] for pod in begun.world.pods("shrink")} == took_over


def test_a_move_changes_the_accelerator_and_leaves_the_rest_as_its_owner_had_it(begun: Begun) -> None:
    after = _completed(begun.world, "shrink")
    assert _normal(after) == _normal(_expected(begun.world, "shrink", begun.before["shrink"]))
    deployment = begun.world.get(DEPLOYMENTS, "shrink") or {}
    container = "spec.template.spec.containers[]"
    assert _written(deployment) <= {
        "spec.replicas",
        "spec.paused",
        "spec.strategy.type",
        "spec.strategy.rollingUpdate.maxSurge",
        "spec.strategy.rollingUpdate.maxUnavailable",
        "spec.template.spec.nodeSelector",
        "spec.template.spec.tolerations",
        f"{container}.image",
        f"{container}.args",
        f"{container}.env[].name",
        f"{container}.env[].value",
        f"{container}.resources.limits.amd.com/gpu",
        f"{container}.resources.requests.amd.com/gpu",
    }
    assert "finalizers" not in deployment["metadata"]


def test_a_move_ends_with_its_record_and_events(begun: Begun) -> None:
    _completed(begun.world, "shrink")
    allocation = begun.world.eventually(
        lambda: (found := begun.world.get(IFA, "shrink") or {}) and "move" not in found["status"] and found,
        "the end of the record",
    )
    assert "finalizers" not in allocation["metadata"]
    assert begun.world.condition("shrink", "Moving")["status"] == "False"
    reasons = [reason for reason, _ in begun.world.events("shrink") if reason.startswith("Move")]
    assert sorted(reasons) == ["MoveCompleted", "MoveReady", "MoveStarted"]


def test_more_replicas_on_another_accelerator_never_leave_less_than_the_load_needs(begun: Begun) -> None:
    after = _completed(begun.world, "grow")
    _assert_always_enough(begun.pods, "grow")
    assert after["replicas"] == 3
    assert after["strategy"] == begun.before["grow"]["strategy"]
    assert not after.get("paused")
    assert all(_is_on(pod, "l40s") for pod in begun.world.pods("grow"))


def test_an_operator_that_is_killed_in_a_move_goes_on_where_it_was(begun: Begun) -> None:
    begun.world.change("killed", mode="Apply")
    begun.world.eventually(lambda: begun.world.move("killed").get("step") == "BringUp", "the move to begin")
    begun.world.kill_operator()
    begun.world.start_operator()
    begun.world.eventually(lambda: begun.world.spec("killed").get("paused"), "the rollout to be paused")
    begun.world.kill_operator()
    assert begun.world.get(IFA, "killed")["metadata"]["finalizers"]
    begun.world.eventually(
        lambda: any(_is_on(pod, "mi300x") and _is_ready(pod) for pod in begun.world.pods("killed")),
        "a new pod",
    )
    begun.world.start_operator()
    after = _completed(begun.world, "killed")
    assert _normal(after) == _normal(_expected(begun.world, "killed", begun.before["killed"]))
    _assert_always_enough(begun.pods, "killed")
    _assert_the_new_are_whole_before_an_old_one_goes(begun.pods, "killed")
    begun.world.eventually(lambda: not begun.world.move("killed"), "the end of the record")
    assert "finalizers" not in begun.world.get(IFA, "killed")["metadata"]


def test_a_move_that_does_not_come_up_is_taken_back_and_left_out_from_then_on(begun: Begun) -> None:
    begun.world.eventually(
        lambda: "MoveRolledBack" in dict(begun.world.events("failing")), "the way back", 120
    )
    assert begun.world.spec("failing") == begun.before["failing"]
    assert "MoveTimedOut" in dict(begun.world.events("failing"))
    mirage = begun.world.named("mirage")

    def outcome() -> str:
        candidates = begun.world.status("failing").get("candidates") or ()
        return next((c["message"] for c in candidates if c["accelerator"] == mirage), "")

    begun.world.eventually(lambda: "MoveFailed" in outcome(), "the reason among the candidates")
    assert begun.world.entry("failing")["accelerator"] == begun.world.named("a100")
    source, replicas, *_ = SERVICES["failing"]
    for pods in _pods(begun.pods, "failing"):
        assert sum(_is_on(pod, source) and _is_ready(pod) for pod in pods.values()) == replicas
    started = [reason for reason, _ in begun.world.events("failing") if reason == "MoveStarted"]
    assert len(started) == 1


def test_a_service_that_is_deleted_in_a_move_leaves_its_deployment_as_it_was(begun: Begun) -> None:
    begun.world.change("deleted", mode="Apply")
    begun.world.eventually(lambda: begun.world.spec("deleted").get("paused"), "the rollout to be paused")
    begun.world.cluster.kubectl("delete", "ifs", "deleted", f"-n={begun.world.namespace}", "--wait=false")
    begun.world.eventually(lambda: begun.world.get(IFA, "deleted") is None, "the allocation to go")
    assert begun.world.get(IFS, "deleted") is None
    assert begun.world.spec("deleted") == begun.before["deleted"]
    begun.world.eventually(
        lambda: len(begun.world.pods("deleted")) == SERVICES["deleted"][1], "the new pods to go"
    )
    _assert_always_enough(begun.pods, "deleted")
    old = {uid for uid, pod in next(_pods(begun.pods, "deleted")).items()}
    assert {pod["metadata"]["uid"] for pod in begun.world.pods("deleted")} == old
