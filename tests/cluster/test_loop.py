"""The closed loop on a real API server: load, Prometheus, decision, Deployment, scheduled pods, latency."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from localcluster import Cluster
from loop_objects import HARDWARE, ITL_MS, rate_per_replica
from loop_world import DEPLOYMENTS, IFA, IFS, World, running
from tape import Tape

UP_S, DOWN_S = 6, 8
EACH = rate_per_replica("l40s")
LOW, HIGH = 0.5 * EACH, 2.5 * EACH
LEAST, MOST = 1, 3
UNTOUCHED = ("advised", "paused")


@dataclass(frozen=True)
class Run:
    """A load that rose and fell again."""

    world: World
    itl_ms: dict[str, float]
    """Inter-token latency that Prometheus had at some moments."""
    at_risk: dict[str, Any]
    """Condition SLOAtRisk at the worst."""
    serving: list[dict[str, Any]]
    """Pods at the peak."""
    deployments: Tape
    allocations: Tape


@pytest.fixture(scope="module")
def world(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    most = dict.fromkeys(("chat", *UNTOUCHED), HIGH)
    windows = {
        "scaleUp": {"stabilizationWindowSeconds": UP_S},
        "scaleDown": {"stabilizationWindowSeconds": DOWN_S},
    }
    with running(cluster, namespace, tmp_path_factory.mktemp("loop"), most, behavior=windows) as made:
        made.apply(
            *(made.objects.deployment(name, "l40s", LEAST) for name in most),
            made.objects.service(
                "chat", mode="Apply", allowedAccelerators=[made.named("l40s"), made.named("a100")]
            ),
            made.objects.service("advised", keepAccelerator=True),
            made.objects.service("paused", keepAccelerator=True, mode="Paused"),
        )
        made.demands["chat"].set(LOW)
        for name in UNTOUCHED:
            made.demands[name].set(HIGH)
        yield made


@pytest.fixture(scope="module")
def run(world: World) -> Iterator[Run]:
    """What became of a load that rose and fell."""
    chat, itl = world.demands["chat"], {}
    world.eventually(lambda: world.itl_ms("chat"), "latency in Prometheus")
    with world.taping(DEPLOYMENTS) as deployments, world.taping(IFA) as allocations:
        world.start_operator()
        world.eventually(lambda: "lastDecision" in world.status("chat"), "the first decision")
        # Were a window jumped over at the start, it would be seen here.
        world.after_ticks(UP_S)
        itl["before"] = world.itl_ms("chat") or 0.0
        chat.set(HIGH)
        at_risk = world.eventually(
            lambda: (c := world.condition("chat", "SLOAtRisk")).get("reason") == "ObservedMiss" and c,
            "the latency to be noticed",
        )
        world.eventually(lambda: world.replicas("chat") >= MOST, "replicas for the load")
        itl["worst"] = world.itl_ms("chat") or 0.0
        serving = world.eventually(lambda: _ready(world, "chat", MOST), "ready pods")
        world.eventually(
            lambda: world.condition("chat", "SLOAtRisk").get("status") == "False",
            "latency within the objective",
        )
        itl["after"] = world.itl_ms("chat") or 0.0
        chat.set(LOW)
        world.eventually(lambda: world.replicas("chat") == LEAST, "the scale-down")
        # Were it to go on up and down, it would be seen here.
        world.after_ticks(DOWN_S)
        yield Run(world, itl, at_risk, serving, deployments, allocations)


def _ready(world: World, name: str, count: int) -> list[dict[str, Any]]:
    ready = [
        pod
        for pod in world.pods(name)
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
    ]
    return ready if len(ready) == count else []


def _replicas(run: Run, name: str) -> list[int]:
    """Replicas that a Deployment asked for, one after the other."""
    asked = [version["spec"]["replicas"] for version in run.deployments.versions(name)]
    return [now for before, now in zip([None, *asked], asked, strict=False) if now != before]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _recommendations(run: Run) -> dict[datetime, int]:
    """What was recommended at every tick."""
    services = [service for plan in run.world.plans() for service in plan["services"]]
    latest = [s["allocation"]["history"][-1] for s in services if s["service"]["name"] == "chat"]
    return {_time(recommendation["time"]): recommendation["replicas"] for recommendation in latest}


def _changes(run: Run, reason: str) -> list[dict[str, Any]]:
    """Statuses of the allocation that were written along with a change of replicas."""
    statuses = [version.get("status", {}) for version in run.allocations.versions("chat")]
    return [status for status in statuses if status.get("reason") == reason]


def test_replicas_rise_and_fall_with_the_load_and_do_not_flap(run: Run) -> None:
    asked = _replicas(run, "chat")
    peak = asked.index(MOST)
    assert asked == sorted(asked[: peak + 1]) + sorted(asked[peak + 1 :], reverse=True)
    assert (asked[0], max(asked), asked[-1]) == (LEAST, MOST, LEAST)
    assert len(set(asked[:peak])) == peak


@pytest.mark.parametrize(
    ("reason", "window_s", "further"),
    [
        ("ScalingUp", UP_S, lambda recommended, wanted: recommended < wanted),
        ("ScalingDown", DOWN_S, lambda recommended, wanted: recommended > wanted),
    ],
)
def test_nothing_changes_before_every_recommendation_of_the_window_asks_for_it(
    run: Run, reason: str, window_s: int, further: Callable[[int, int], bool]
) -> None:
    recommended = _recommendations(run)
    changes = _changes(run, reason)
    assert changes
    for status in changes:
        at, wanted = _time(status["history"][-1]["time"]), status["allocations"][0]["desiredReplicas"]
        # What was recommended before the load changed is known: nothing jumped over the window.
        against = [then for then, replicas in recommended.items() if then < at and further(replicas, wanted)]
        assert at - max(against) >= timedelta(seconds=window_s)
        assert len([then for then in recommended if max(against) < then < at]) >= window_s / 2


def test_the_new_replicas_are_scheduled_on_nodes_of_the_accelerator(run: Run) -> None:
    nodes = [pod["spec"]["nodeName"] for pod in run.serving]
    assert len(nodes) == MOST
    assert all(node.startswith("l40s-") for node in nodes)


def test_latency_misses_its_objective_until_the_new_replicas_serve(run: Run) -> None:
    assert run.itl_ms["before"] < ITL_MS < run.itl_ms["worst"]
    assert run.itl_ms["after"] <= ITL_MS
    assert run.at_risk["status"] == "True"
    assert f"above the objective of {ITL_MS:.2f} ms" in run.at_risk["message"]


def test_the_allocation_explains_what_was_chosen_and_what_was_not(run: Run) -> None:
    world, status = run.world, run.world.status("chat")
    [entry] = status["allocations"]
    assert entry["accelerator"] == entry["currentAccelerator"] == world.named("l40s")
    assert entry["currentReplicas"] == entry["desiredReplicas"] == entry["readyReplicas"] == LEAST
    assert entry["cost"] == HARDWARE["l40s"].cost
    assert 0 < entry["predictedItl"] <= ITL_MS
    outcomes = {c["accelerator"]: (c["outcome"], c["message"]) for c in status["candidates"]}
    assert outcomes[world.named("l40s")][0] == "Chosen"
    assert set(outcomes) == {world.named(name) for name in HARDWARE}
    assert "spec.allowedAccelerators" in outcomes[world.named("h100")][1]
    table = world.cluster.kubectl("get", "ifa", "chat", f"-n={world.namespace}").stdout
    assert world.named("l40s") in table


def test_the_conditions_say_that_all_is_well(run: Run) -> None:
    stated = {
        c["type"]: (c["status"], c.get("message", ""))
        for c in (run.world.get(IFS, "chat") or {})["status"]["conditions"]
    }
    true = {kind for kind, (status, _) in stated.items() if status == "True"}
    false = {kind for kind, (status, _) in stated.items() if status == "False"}
    assert true == {
        "Ready",
        "MetricsAvailable",
        "ProfileValid",
        "Optimized",
        "Applied",
        "GracePeriodSufficient",
    }
    assert false == {"CapacityLimited", "SLOAtRisk", "Moving", "Paused"}


def test_events_tell_of_every_change_once(run: Run) -> None:
    asked = _replicas(run, "chat")
    reasons = [reason for reason, _ in run.world.events("chat")]
    assert reasons.count("ScaledUp") == asked.index(MOST)
    assert reasons.count("ScaledUp") + reasons.count("ScaledDown") == len(asked) - 1
    assert "ObservedMiss" in reasons
    messages = [message for reason, message in run.world.events("chat") if reason == "ScaledDown"]
    assert any(f"to {LEAST} on {run.world.named('l40s')}" in message for message in messages)


def test_recommend_says_what_it_would_do_and_does_nothing(run: Run) -> None:
    entry = run.world.entry("advised")
    assert (entry["currentReplicas"], entry["desiredReplicas"]) == (LEAST, MOST)
    assert run.world.status("advised")["mode"] == "Recommend"
    applied = run.world.condition("advised", "Applied")
    assert (applied["status"], applied["reason"]) == ("False", "Recommend")
    _assert_untouched(run, "advised")


def test_paused_does_neither(run: Run) -> None:
    status = run.world.status("paused")
    assert status["reason"] == "Paused"
    assert "candidates" not in status or status["candidates"] == []
    assert run.world.entry("paused")["desiredReplicas"] == LEAST
    assert run.world.condition("paused", "Paused")["status"] == "True"
    _assert_untouched(run, "paused")


def _assert_untouched(run: Run, name: str) -> None:
    deployment = run.world.get(DEPLOYMENTS, name) or {}
    assert deployment["metadata"]["generation"] == 1
    assert deployment["spec"]["replicas"] == LEAST
    assert "inferscale" not in {field["manager"] for field in deployment["metadata"]["managedFields"]}


@pytest.mark.parametrize(
    "kind", ["acceleratorprofiles", "modelprofiles", "serviceclasses", "optimizerpolicies", "ifs"]
)
def test_of_what_people_wrote_only_the_status_is_written(run: Run, kind: str) -> None:
    listing = run.world.api.get(_path(run.world, kind)) or {}
    ours = [item for item in listing["items"] if _is_ours(run.world, item["metadata"])]
    assert ours
    for item in ours:
        metadata = item["metadata"]
        written = [field for field in metadata["managedFields"] if field["manager"] == "inferscale"]
        assert [field["subresource"] for field in written] == ["status"]
        assert set(written[0]["fieldsV1"]) == {"f:status"}
        assert set(metadata["annotations"]) == {"kubectl.kubernetes.io/last-applied-configuration"}
        assert "finalizers" not in metadata
        assert metadata["generation"] == 1


def _path(world: World, kind: str) -> str:
    return IFS.format(namespace=world.namespace) if kind == "ifs" else f"apis/inferscale.dev/v1alpha1/{kind}"


def _is_ours(world: World, metadata: dict[str, Any]) -> bool:
    known = {name for _, name in world.created}
    return metadata.get("namespace") == world.namespace or metadata["name"] in known


def test_of_a_deployment_only_the_replicas_are_written_to_scale_it(run: Run) -> None:
    deployment = run.world.get(DEPLOYMENTS, "chat") or {}
    fields = [f for f in deployment["metadata"]["managedFields"] if f["manager"] == "inferscale"]
    assert [field["fieldsV1"] for field in fields] == [{"f:spec": {"f:replicas": {}}}]
    assert "finalizers" not in deployment["metadata"]
