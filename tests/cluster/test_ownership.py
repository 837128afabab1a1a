"""Whose Deployment it is, on a real API server: other writers, approval, release, nodes that go away."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from inferscale_operator.decide import decide
from inferscale_operator.plan import dump_plan
from inferscale_operator.recorder import plan_of
from inferscale_operator.snapshot import load_snapshot
from localcluster import Cluster
from loop_objects import HARDWARE, rate_per_replica
from loop_world import DEPLOYMENTS, IFS, World, running

EACH = rate_per_replica("l40s")
LOW, HIGH = 0.5 * EACH, 1.5 * EACH
LOAD = {"fought": HIGH, "asked": LOW, "released": HIGH}
MOST = LOAD | {"asked": HIGH}
REPLICAS = {"fought": 1, "asked": 3, "released": 1}
MODES = {"fought": "Apply", "asked": "Approve", "released": "Apply"}
GITOPS = "gitops-controller"


@pytest.fixture(scope="module")
def world(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    ownership = {"revertWindowSeconds": 3600, "backOffSeconds": 3600}
    with running(cluster, namespace, tmp_path_factory.mktemp("own"), MOST, ownership=ownership) as made:
        made.apply(*(made.objects.deployment(name, "l40s", count) for name, count in REPLICAS.items()))
        for name, mode in MODES.items():
            made.apply(made.objects.service(name, mode=mode, keepAccelerator=True))
        for name, rate in LOAD.items():
            made.demands[name].set(rate)
        for name in LOAD:
            made.eventually(lambda name=name: made.itl_ms(name), f"latency of {name} in Prometheus")
        yield made


@contextmanager
def reverting(world: World, name: str, replicas: int) -> Iterator[None]:
    """Somebody who puts the replicas of a Deployment back whenever they are not what a manifest says."""
    stop = threading.Event()
    patch = json.dumps({"spec": {"replicas": replicas}})

    def run() -> None:
        while not stop.wait(0.2):
            if world.replicas(name) != replicas:
                world.cluster.kubectl(
                    *("patch", "deployment", name, f"-n={world.namespace}", "--type=merge"),
                    *(f"--patch={patch}", f"--field-manager={GITOPS}"),
                )

    thread = threading.Thread(target=run, name="gitops")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=60)
        assert not thread.is_alive()


def inferscale(world: World, *arguments: str, code: int = 0) -> str:
    """The command line, as a person calls it."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from inferscale_operator.cli import main; main()", *arguments),
            *("-n", world.namespace, f"--kubeconfig={world.cluster.kubeconfig}"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def fought(world: World) -> list[int]:
    """Replicas that the Deployment had, one after the other, until it was given up."""
    with world.taping(DEPLOYMENTS) as tape, reverting(world, "fought", 1):
        world.start_operator()
        world.eventually(
            lambda: world.condition("fought", "Applied").get("reason") == "Reverted",
            "the writer to be noticed",
        )
        world.after_ticks(4)
        return [version["spec"]["replicas"] for version in tape.versions("fought")]


def test_who_changes_replicas_back_is_named_and_not_fought(world: World, fought: list[int]) -> None:
    changes = [now for before, now in pairwise(fought) if now != before]
    assert changes == [2, 1, 2, 1]
    condition = world.condition("fought", "Applied")
    assert condition["status"] == "False"
    assert f"{GITOPS} changed spec.replicas of Deployment fought back twice" in condition["message"]
    told = [message for reason, message in world.events("fought") if reason == "ChangedByOther"]
    assert told == [f"{GITOPS} changed replicas from 2 to 1"] * 2
    assert "Reverted" in [reason for reason, _ in world.events("fought")]
    assert [revert["manager"] for revert in world.status("fought")["reverts"]] == [GITOPS] * 2


@pytest.fixture(scope="module")
def approved(world: World, fought: list[int]) -> dict[str, Any]:
    """What waited, before and after it was approved."""
    assert fought
    seen: dict[str, Any] = {}
    seen["plan"] = world.eventually(
        lambda: world.status("asked").get("pendingPlan"), "something to wait for approval"
    )
    seen["waiting"] = world.condition("asked", "Applied")
    annotate = ("annotate", "ifa", "asked", f"-n={world.namespace}", "--overwrite")
    world.cluster.kubectl(*annotate, "inferscale.dev/approved=0123456789ab")
    seen["stale"] = world.eventually(
        lambda: (c := world.condition("asked", "Applied")).get("reason") == "ApprovalStale" and c,
        "the stale digest to be refused",
    )
    seen["replicas"] = world.replicas("asked")
    seen["refused"] = inferscale(world, "approve", "asked", "--yes", "--digest=0123456789ab", code=2)
    seen["page"] = inferscale(world, "explain", "asked")
    seen["approved"] = inferscale(world, "approve", "asked", "--yes")
    world.eventually(lambda: world.replicas("asked") == 1, "the approved plan to be carried out")
    world.after_ticks(3)
    return seen


def test_fewer_replicas_wait_until_somebody_approves_them(world: World, approved: dict[str, Any]) -> None:
    plan = approved["plan"]
    assert (plan["from"]["replicas"], plan["to"]["replicas"]) == (3, 1)
    assert approved["waiting"]["reason"] in ("AwaitingApproval", "Scaled")
    assert "0123456789ab was approved, which is not the plan any more" in approved["stale"]["message"]
    assert approved["replicas"] == 3
    assert "0123456789ab is not the plan" in approved["refused"]
    assert f"{plan['digest']} is approved" in approved["approved"]
    assert f"saves {2 * HARDWARE['l40s'].cost:.2f} an hour" in approved["approved"]
    assert world.status("asked")["approvedPlan"] == plan["digest"]
    reasons = [reason for reason, _ in world.events("asked")]
    assert {"AwaitingApproval", "ApprovalStale", "ScaledDown"} <= set(reasons)


def test_what_was_saved_is_counted_against_the_adopted_state(world: World, approved: dict[str, Any]) -> None:
    assert approved
    adopted = world.status("asked")["adopted"]
    assert (adopted["replicas"], adopted["cost"]) == (3, 3 * HARDWARE["l40s"].cost)
    last = json.loads(plan_of(_recorded(world)[-1]).read_text())
    [asked] = [s["allocation"] for s in last["services"] if s["service"]["name"] == "asked"]
    assert asked["savings"]["perHour"] == 2 * HARDWARE["l40s"].cost
    assert asked["savings"]["total"] > 0


def test_a_page_explains_it_on_the_command_line(world: World, approved: dict[str, Any]) -> None:
    page = approved["page"]
    for text in (
        f"{world.namespace}/asked",
        "mode Approve",
        "Candidates",
        "Held back by",
        "Approval:",
        "Savings",
    ):
        assert text in page
    assert "there is no InferenceService nobody" in inferscale(world, "explain", "nobody", code=2)


def test_a_deployment_that_is_released_stays_as_it_is(world: World, approved: dict[str, Any]) -> None:
    assert approved
    world.eventually(lambda: world.replicas("released") == 2, "the service to be scaled")
    before = (world.get(DEPLOYMENTS, "released") or {})["spec"]
    world.cluster.kubectl("delete", "ifs", "released", f"-n={world.namespace}")
    world.eventually(lambda: world.get(IFS, "released") is None, "the service to be gone")
    world.eventually(lambda: world.status("released") == {}, "its allocation to be gone")
    world.after_ticks(3)
    assert (world.get(DEPLOYMENTS, "released") or {})["spec"] == before


def test_more_replicas_wait_for_nobodys_approval(world: World, approved: dict[str, Any]) -> None:
    assert approved
    world.demands["asked"].set(HIGH)
    world.eventually(lambda: world.replicas("asked") == 2, "the service to be scaled up")
    assert world.status("asked")["approvedPlan"] == approved["plan"]["digest"]
    world.demands["asked"].set(LOW)
    world.eventually(lambda: world.status("asked").get("pendingPlan"), "fewer replicas to wait again")
    assert world.replicas("asked") == 2


def test_a_cordoned_and_a_tainted_node_do_not_count_and_are_named(
    world: World, approved: dict[str, Any]
) -> None:
    assert approved
    nodes = world.api.get("api/v1/nodes") or {}
    cordoned, tainted = sorted(
        node["metadata"]["name"]
        for node in nodes["items"]
        if HARDWARE["a100"].selector.items() <= node["metadata"]["labels"].items()
    )[:2]
    kubectl, profile = world.cluster.kubectl, world.named("a100")
    whole = _capacity(world, profile)["capacity"]
    try:
        kubectl("cordon", cordoned)
        kubectl("taint", "node", tainted, "team=blue:NoSchedule")
        status = world.eventually(
            lambda: len((s := _capacity(world, profile)).get("notCounted") or ()) == 2 and s,
            "the nodes to be left out",
        )
        assert status["notCounted"] == [
            f"{cordoned}: it is cordoned",
            f"{tainted}: its taint team=blue:NoSchedule is not tolerated",
        ]
        assert status["capacity"] < whole
    finally:
        kubectl("uncordon", cordoned)
        kubectl("taint", "node", tainted, "team:NoSchedule-")
    world.eventually(lambda: _capacity(world, profile)["capacity"] == whole, "the nodes to count again")


def test_the_ticks_of_the_run_are_decided_again_to_the_same_bytes(
    world: World, approved: dict[str, Any]
) -> None:
    assert approved
    for path in _recorded(world)[-20:]:
        assert dump_plan(decide(load_snapshot(path.read_bytes()))) == plan_of(path).read_bytes()


def _recorded(world: World) -> list[Path]:
    # The newest may still be written.
    return sorted(world.directory.glob("records/*.snapshot.json"))[:-1]


def _capacity(world: World, profile: str) -> dict[str, Any]:
    found = world.api.get(f"apis/inferscale.dev/v1alpha1/acceleratorprofiles/{profile}") or {}
    return dict(found.get("status") or {})
