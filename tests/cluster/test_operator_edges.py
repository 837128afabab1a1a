"""The operator's edges on a real API server, under the chart's account."""

import asyncio
import gc
import json
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from inferscale_operator.act import Outcome, act
from inferscale_operator.api.base import Condition, ConditionStatus
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.api.inference_service import InferenceServiceStatus
from inferscale_operator.application import App, make_app, serve
from inferscale_operator.kube import kinds
from inferscale_operator.kube.client import ApiError
from inferscale_operator.kube.kinds import Kind
from inferscale_operator.kube.stores import Stores, World
from inferscale_operator.kube.writer import FINALIZER
from inferscale_operator.observe import observe
from inferscale_operator.plan import (
    DeploymentPatch,
    EventNote,
    EventType,
    ObjectRef,
    OrphanPlan,
    Plan,
    ServicePlan,
    StatusPlan,
)
from inferscale_operator.settings import Settings, make_settings
from inferscale_operator.watching import fill
from localcluster import Cluster
from loop_world import install

ROOT = Path(__file__).parents[2]
NOBODY = "http://127.0.0.1:9"
TEMPLATE = {"spec": {"nodeSelector": {"nvidia.com/gpu.product": None, "pool": "old"}}}
NOW = datetime.now(UTC)
Value = TypeVar("Value")


def eventually(look: Callable[[], Value], what: str, seconds: float = 30) -> Value:
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"still waiting for {what}"
        time.sleep(0.05)
    return seen


@pytest.fixture(scope="module")
def account(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig of the account that the operator runs under."""
    return install(cluster, tmp_path_factory.mktemp("account"))


@pytest.fixture
def running(account: Path) -> Iterator[App]:
    """The operator, running; its Prometheus does not answer."""
    settings = make_settings({"prometheus_url": NOBODY, "kubeconfig": str(account), "listen": "0"})
    made = make_app(settings)
    stopping: list[Callable[[], object]] = []
    failures: list[BaseException] = []

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stopping.append(lambda: loop.call_soon_threadsafe(stop.set))
        await serve(made, stop)

    def target() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=target, name="operator")
    thread.start()
    yield made
    eventually(lambda: stopping, "the operator to start")[0]()
    thread.join(timeout=30)
    assert not thread.is_alive()
    # Watches that were cut leave transports that only the collector closes, in whatever test it runs then.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert failures == []


@pytest.fixture
def chat(cluster: Cluster, namespace: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Name of an InferenceService and of its Deployment."""
    name = f"chat-{abs(hash(request.node.name)) % 10**6}"
    apply(cluster, namespace, deployment(name))
    apply(cluster, namespace, service(name))
    yield name
    cluster.kubectl("delete", "ifs,deployment", name, f"-n={namespace}", "--ignore-not-found", "--wait=false")


@pytest.fixture
def app(account: Path, namespace: str, chat: str) -> App:
    """The operator, not running; its stores are filled."""
    made = make_app(made_settings(account))
    eventually(lambda: (namespace, chat) in refilled(made).services, "the service in a listing")
    return made


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "inferscale.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name, "labels": {"team": "blue"}},
        "spec": {"model": "llama", "serviceClass": "premium", "targetRef": {"name": name}, "mode": "Apply"}
        | spec,
    }


def deployment(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "server", "image": "vllm"}]},
            },
        },
    }


def apply(cluster: Cluster, namespace: str, manifest: dict[str, Any]) -> None:
    cluster.kubectl("apply", f"-n={namespace}", "-f", "-", input=json.dumps(manifest))


def get(cluster: Cluster, namespace: str, what: str, *arguments: str) -> Any:
    done = cluster.kubectl("get", what, f"-n={namespace}", "-o", "json", *arguments)
    return json.loads(done.stdout)


def followed(app: App, kind: Kind, key: tuple[str, str]) -> Any:
    return app.stores.by_kind[kind].copy().get(key)


def made_settings(kubeconfig: Path) -> Settings:
    given = {"prometheus_url": NOBODY, "kubeconfig": str(kubeconfig), "listen": "0", "leader_elect": False}
    return make_settings(given)


def refilled(app: App) -> World:
    app.stores = Stores()
    asyncio.run(fill(app))
    return app.copy_world()


def status(**fields: Any) -> InferenceAllocationStatus:
    return InferenceAllocationStatus.model_validate({"model": "llama", "reason": "Optimal", **fields})


def move(step: str = "BringUp") -> dict[str, Any]:
    return {
        "step": step,
        "from": {"accelerator": "h100", "replicas": 1},
        "to": {"accelerator": "mi300x", "replicas": 1},
        "startedAt": NOW,
        "stepStartedAt": NOW,
        "priorTemplate": TEMPLATE,
    }


def plan_for(
    world: World,
    key: tuple[str, str],
    allocation: InferenceAllocationStatus,
    body: dict[str, Any] | None = None,
    *events: EventNote,
) -> Plan:
    resource = world.services[key].resource
    ref = ObjectRef("InferenceService", resource.name, resource.uid, resource.namespace)
    applied = Condition(
        type="Applied",
        status=ConditionStatus.TRUE,
        reason="Patched",
        last_transition_time=NOW,
        observed_generation=resource.generation,
    )
    stated = InferenceServiceStatus(replicas=1, conditions=(applied,))
    patch = None
    if body is not None:
        version = world.deployments[key].resource_version
        patch = DeploymentPatch(*key, version, body, "to be tried")
    service_plan = ServicePlan(ref, allocation, StatusPlan(ref, stated, events), patch)
    return Plan(NOW, (service_plan,))


def carry_out(app: App, plan: Plan) -> Outcome:
    outcome = act(app.client, plan, app.copy_world(), app.written)
    app.absorb(outcome)
    return outcome


def test_the_stores_follow_the_cluster(running: App, cluster: Cluster, namespace: str, chat: str) -> None:
    key = (namespace, chat)
    eventually(lambda: followed(running, kinds.DEPLOYMENT, key), "the Deployment")
    eventually(lambda: followed(running, kinds.INFERENCE_SERVICE, key), "the service")
    eventually(lambda: running.stores.nodes.copy(), "nodes with accelerators")
    cluster.kubectl("scale", f"deployment/{chat}", f"-n={namespace}", "--replicas=2")
    eventually(
        lambda: (
            len([pod for pod in running.stores.pods.copy().values() if pod.state.deployment == chat]) == 2
        ),
        "two pods of the Deployment",
    )
    cluster.kubectl("delete", f"deployment/{chat}", f"-n={namespace}", "--wait=false")
    eventually(lambda: followed(running, kinds.DEPLOYMENT, key) is None, "the deletion")


def test_a_deletion_that_no_watch_delivered_is_noticed(running: App, namespace: str, chat: str) -> None:
    key = (namespace, chat)
    eventually(lambda: followed(running, kinds.DEPLOYMENT, key), "the Deployment")
    ghost = replace(followed(running, kinds.DEPLOYMENT, key), name="ghost")
    store = running.stores.deployments
    store._values[(namespace, "ghost")] = ghost
    store._versions[(namespace, "ghost")] = int(ghost.resource_version)
    running.relisted.add(kinds.DEPLOYMENT)
    eventually(lambda: followed(running, kinds.DEPLOYMENT, (namespace, "ghost")) is None, "the comparison")
    assert followed(running, kinds.DEPLOYMENT, key) is not None


def test_nothing_is_written_to_the_metadata_or_spec_of_what_people_wrote(
    running: App, cluster: Cluster, namespace: str, chat: str
) -> None:
    before = get(cluster, namespace, f"deployment/{chat}", "--show-managed-fields")
    eventually(
        lambda: get(cluster, namespace, f"ifs/{chat}").get("status", {}).get("conditions"), "conditions"
    )
    ticks = running.health.beat_at
    apply(cluster, namespace, service(chat, minReplicas=2))
    eventually(lambda: running.health.beat_at > ticks, "another tick")
    written = get(cluster, namespace, f"ifs/{chat}", "--show-managed-fields")
    metadata = written["metadata"]
    assert set(metadata["annotations"]) == {"kubectl.kubernetes.io/last-applied-configuration"}
    assert metadata["labels"] == {"team": "blue"}
    assert "finalizers" not in metadata
    ours = [item for item in metadata["managedFields"] if item["manager"] == "inferscale"]
    assert [item["subresource"] for item in ours] == ["status"]
    assert set(ours[0]["fieldsV1"]) == {"f:status"}
    after = get(cluster, namespace, f"deployment/{chat}", "--show-managed-fields")
    assert after["spec"] == before["spec"]
    assert after["metadata"].get("annotations") is not None
    assert "inferscale" not in {item["manager"] for item in after["metadata"]["managedFields"]}


def test_a_service_gets_an_allocation_that_is_owned_by_it_and_goes_with_it(
    running: App, cluster: Cluster, namespace: str, chat: str
) -> None:
    key = (namespace, chat)
    eventually(lambda: followed(running, kinds.INFERENCE_ALLOCATION, key), "the allocation")
    allocation = get(cluster, namespace, f"ifa/{chat}")
    assert allocation["metadata"]["ownerReferences"][0]["name"] == chat
    assert "finalizers" not in allocation["metadata"]
    cluster.kubectl("delete", f"ifs/{chat}", f"-n={namespace}")
    eventually(lambda: followed(running, kinds.INFERENCE_ALLOCATION, key) is None, "the allocation to go")


def test_a_patch_changes_the_deployment_and_its_answer_is_in_the_store(
    app: App, cluster: Cluster, namespace: str, chat: str
) -> None:
    key = (namespace, chat)
    eventually(
        # The Deployment's controller may still be writing its status.
        lambda: (
            not carry_out(app, plan_for(refilled(app), key, status(), {"spec": {"replicas": 3}})).conflicts
        ),
        "a patch without conflict",
    )
    raw = get(cluster, namespace, f"deployment/{chat}", "--show-managed-fields")
    assert raw["spec"]["replicas"] == 3
    assert "inferscale" in {item["manager"] for item in raw["metadata"]["managedFields"]}
    assert app.copy_world().deployments[key].replicas == 3


def test_a_deployment_that_changed_meanwhile_is_not_patched(
    app: App, cluster: Cluster, namespace: str, chat: str
) -> None:
    world = app.copy_world()
    cluster.kubectl("annotate", f"deployment/{chat}", f"-n={namespace}", "somebody=else")
    outcome = carry_out(app, plan_for(world, (namespace, chat), status(), {"spec": {"replicas": 3}}))
    assert outcome.conflicts == [f"{namespace}/{chat}"]
    assert outcome.failures == []
    assert get(cluster, namespace, f"deployment/{chat}")["spec"]["replicas"] == 1


def test_a_patch_that_is_refused_is_seen_on_the_service(
    app: App, cluster: Cluster, namespace: str, chat: str
) -> None:
    key = (namespace, chat)
    failures = eventually(
        lambda: carry_out(app, plan_for(refilled(app), key, status(), {"spec": {"replicas": -1}})).failures,
        "a patch without conflict",
    )
    assert [failure.error.status for failure in failures] == [422]
    [condition] = get(cluster, namespace, f"ifs/{chat}")["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "PatchRefused")
    assert "spec.replicas" in condition["message"]
    events = cluster.kubectl("events", f"-n={namespace}", "--for", f"inferenceservice/{chat}").stdout
    assert "PatchRefused" in events


def test_events_are_seen_with_kubectl(app: App, cluster: Cluster, namespace: str, chat: str) -> None:
    note = EventNote(EventType.NORMAL, "ScaledUp", "from 1 to 2 replicas on h100")
    carry_out(app, plan_for(app.copy_world(), (namespace, chat), status(), None, note))
    told = cluster.kubectl("describe", f"ifs/{chat}", f"-n={namespace}").stdout
    assert "ScaledUp" in told
    assert "from 1 to 2 replicas on h100" in told
    assert "inferscale" in told


def test_a_move_is_recorded_with_a_finalizer_and_every_null_of_its_template(
    app: App, cluster: Cluster, namespace: str, chat: str
) -> None:
    key = (namespace, chat)
    carry_out(app, plan_for(app.copy_world(), key, status(move=move())))
    raw = get(cluster, namespace, f"ifa/{chat}")
    assert raw["metadata"]["finalizers"] == [FINALIZER]
    assert raw["status"]["move"]["priorTemplate"] == TEMPLATE
    record = app.copy_world().allocations[key]
    assert record.status is not None
    assert record.status.move is not None
    assert record.status.move.prior_template == TEMPLATE
    carry_out(app, plan_for(app.copy_world(), key, status()))
    raw = get(cluster, namespace, f"ifa/{chat}")
    assert "finalizers" not in raw["metadata"]
    assert "move" not in raw["status"]


def test_the_record_of_a_move_outlives_its_service_until_it_is_released(
    app: App, cluster: Cluster, namespace: str, chat: str, account: Path
) -> None:
    key = (namespace, chat)
    carry_out(app, plan_for(app.copy_world(), key, status(move=move("HandOver"))))
    cluster.kubectl("delete", f"ifs/{chat}", f"-n={namespace}")
    eventually(
        lambda: "deletionTimestamp" in get(cluster, namespace, f"ifa/{chat}")["metadata"],
        "the garbage collector",
    )
    restarted = make_app(made_settings(account))
    world = refilled(restarted)
    [orphan] = [item for item in observe(world, NOW, None).orphans if item.name == chat]
    assert orphan.deployment is not None
    assert orphan.deployment.name == chat
    version = orphan.deployment.resource_version
    patch = DeploymentPatch(namespace, chat, version, {"spec": {"paused": False}}, "resumed")
    plan = Plan(NOW, (), (OrphanPlan(namespace, chat, status(), patch, release=True),))
    outcome = carry_out(restarted, plan)
    assert (outcome.failures, outcome.conflicts) == ([], [])
    eventually(
        lambda: cluster.kubectl("get", f"ifa/{chat}", f"-n={namespace}", check=False).returncode != 0,
        "the allocation to go",
    )


def test_an_object_of_the_same_name_that_came_later_is_not_written_to(
    app: App, cluster: Cluster, namespace: str, chat: str
) -> None:
    key = (namespace, chat)
    carry_out(app, plan_for(app.copy_world(), key, status()))
    plan = plan_for(app.copy_world(), key, status(reason="Later"))
    cluster.kubectl("delete", f"ifs/{chat}", f"-n={namespace}", "--cascade=orphan")
    apply(cluster, namespace, service(chat))
    service_plan = replace(
        plan.services[0], status=replace(plan.services[0].status, status=InferenceServiceStatus(replicas=7))
    )
    outcome = carry_out(app, replace(plan, services=(service_plan,)))
    # Its allocation has lost its owner, and is another version.
    assert outcome.conflicts == [f"{namespace}/{chat}"]
    assert "status" not in get(cluster, namespace, f"ifs/{chat}")


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("list", "secrets"),
        ("get", "configmaps"),
        ("delete", "deployments.apps"),
        ("update", "deployments.apps"),
        ("create", "pods"),
        ("delete", "pods"),
        ("patch", "inferenceservices.inferscale.dev"),
        ("delete", "inferenceallocations.inferscale.dev"),
        ("patch", "nodes"),
    ],
)
def test_the_account_may_not_do_more_than_it_needs(cluster: Cluster, verb: str, resource: str) -> None:
    user = "system:serviceaccount:inferscale-system:inferscale"
    told = cluster.kubectl("auth", "can-i", verb, resource, "--all-namespaces", f"--as={user}", check=False)
    assert told.stdout.strip() == "no"


@pytest.mark.usefixtures("account")
def test_the_manifests_pass_the_strictest_pod_security(cluster: Cluster) -> None:
    told = cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "deploy/base"), "--dry-run=server"
    )
    assert "deployment.apps/inferscale serverside-applied (server dry run)" in told.stdout
    assert told.stderr == ""


def test_secrets_are_refused_to_the_running_client(app: App) -> None:
    with pytest.raises(ApiError) as caught:
        app.client.list_all(Kind("", "v1", "Secret", "secrets"))
    assert caught.value.status == 403
    assert "cannot list resource" in caught.value.message


def test_an_api_server_that_is_not_there_is_told_as_unreachable(tmp_path: Path, account: Path) -> None:
    gone = tmp_path / "kubeconfig"
    gone.write_text(re.sub(r"https://127\.0\.0\.1:\d+", "https://127.0.0.1:9", account.read_text()))
    made = make_app(made_settings(gone))
    with pytest.raises(ApiError) as caught:
        made.client.list_all(kinds.NODE)
    assert caught.value.status == 0
