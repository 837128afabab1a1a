"""The chart's roles: what the operator uses of them, and what it says when something is taken away."""

import asyncio
import gc
import json
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import installation
from inferscale_operator.application import App, make_app, serve
from inferscale_operator.health import ready
from inferscale_operator.kube import kinds, writer
from inferscale_operator.kube.client import ApiError, Client, load_configuration
from inferscale_operator.kube.parse import parse_allocation
from inferscale_operator.kube.permissions import Permission, missing, needed
from inferscale_operator.kube.scope import Scope
from inferscale_operator.settings import make_settings
from localcluster import Cluster
from localcluster.controlplane import AUDIT_LOG
from loop_objects import Object, Objects
from tape import Api

NOBODY = "http://127.0.0.1:9"
LEASE = (installation.NAMESPACE, installation.ACCOUNT)
ONLY_SOMETIMES = {"create leases.coordination.k8s.io in namespace inferscale-system"}
"""An update, in the log of the API server."""


@dataclass
class Operation:
    """The operator at work in one namespace, with nothing but the chart's account."""

    cluster: Cluster
    app: App
    api: Api
    namespace: str
    other: str
    """Another namespace with a service."""
    since: int
    """Length of the audit log before."""

    def eventually(self, look: Callable[[], Any], what: str, seconds: float = 90) -> Any:
        deadline = time.monotonic() + seconds
        while not (seen := look()):
            assert time.monotonic() < deadline, f"still waiting for {what}; {ready(self.app.health)}"
            time.sleep(0.1)
        return seen

    def get(self, plural: str, namespace: str, name: str = "chat") -> Object:
        group = "apps/v1" if plural == "deployments" else "inferscale.dev/v1alpha1"
        return self.api.get(f"apis/{group}/namespaces/{namespace}/{plural}/{name}") or {}

    def requests(self) -> list[Object]:
        """What the account has asked for since, from the log of the API server."""
        with (self.cluster.directory / AUDIT_LOG).open() as log:
            log.seek(self.since)
            lines = [json.loads(line) for line in log if line.endswith("}\n")]
        user = f"system:serviceaccount:{installation.NAMESPACE}:{installation.ACCOUNT}"
        return [line for line in lines if line["user"]["username"] == user and "objectRef" in line]


def size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


SCOPES = {
    "cluster": lambda _: Scope(namespace_label=installation.LABEL),
    "namespaces": lambda name: Scope((name,), installation.LABEL, all_pods=False),
}


@pytest.fixture(scope="module", params=SCOPES)
def scope(request: pytest.FixtureRequest, namespace: str) -> Scope:
    return SCOPES[request.param](namespace)


@pytest.fixture(scope="module")
def operation(
    cluster: Cluster, namespace: str, scope: Scope, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operation]:
    if cluster.backend != "binaries":
        pytest.skip("the API server of kind keeps no log of requests")
    other = f"other-{uuid.uuid4().hex[:6]}"
    cluster.kubectl("create", "namespace", other)
    account = installation.install(
        cluster,
        tmp_path_factory.mktemp("account"),
        namespaces=scope.namespaces,
        more=() if scope.all_pods else ("scope.readPods=false",),
    )
    since = size(cluster.directory / AUDIT_LOG)
    app = make_app(
        make_settings(
            {
                "prometheus_url": NOBODY,
                "kubeconfig": str(account),
                "listen": "0",
                "namespaces": scope.namespaces,
                "namespace_label": scope.namespace_label,
                "read_pods": scope.all_pods,
            }
        )
    )
    api = Api(cluster.kubeconfig)
    running = Operation(cluster, app, api, namespace, other, since)
    created = objects(running)
    cluster.kubectl(
        "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": created})
    )
    with at_work(app):
        yield running
    api.close()
    cluster.kubectl("delete", "namespace", other, "--wait=false")
    for item in created:
        if "namespace" not in item["metadata"]:
            cluster.kubectl("delete", item["kind"], item["metadata"]["name"], "--ignore-not-found")
    cluster.kubectl("delete", "ifs,deployments", "--all", f"-n={namespace}", "--wait=false")
    if scope.namespaces:
        installation.install(cluster, tmp_path_factory.mktemp("back"))


def objects(operation: Operation) -> list[Object]:
    """A service here that lacks a replica, one in the other namespace, and all that they refer to."""
    made = []
    for namespace in (operation.namespace, operation.other):
        build = Objects(namespace, operation.namespace[-6:])
        deployment = build.deployment("chat", "h100", 1)
        deployment["spec"]["replicas"] = 1
        made += [deployment, build.service("chat", mode="Apply", minReplicas=2)]
    build = Objects(operation.namespace, operation.namespace[-6:])
    made += [
        build.accelerator_profile("h100"),
        build.model_profile("llm", "h100"),
        build.service_class("standard", "llm"),
        build.policy(),
    ]
    return made


class at_work:  # noqa: N801 - reads as a sentence
    """The operator in a thread."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.failures: list[BaseException] = []

    def __enter__(self) -> None:
        started = threading.Event()

        async def run() -> None:
            self.stop, self.loop = asyncio.Event(), asyncio.get_running_loop()
            started.set()
            await serve(self.app, self.stop)

        def target() -> None:
            try:
                asyncio.run(run())
            except BaseException as error:
                self.failures.append(error)

        self.thread = threading.Thread(target=target, name="operator")
        self.thread.start()
        assert started.wait(30)

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(timeout=30)
        assert not self.thread.is_alive()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        assert self.failures == []


def test_it_uses_all_that_the_roles_grant_and_asks_for_nothing_else(
    operation: Operation, scope: Scope
) -> None:
    app = operation.app
    operation.eventually(
        lambda: operation.get("deployments", operation.namespace)["spec"]["replicas"] == 2, "the patch"
    )
    operation.eventually(lambda: marked_and_unmarked(operation), "an allocation that nobody else writes to")
    wanted = {str(permission): permission for permission in needed(scope, LEASE)}

    def used() -> set[str]:
        return {str(asked(request, wanted)) for request in operation.requests()}

    operation.eventually(lambda: used() >= wanted.keys() - ONLY_SOMETIMES, lacking(wanted, used))
    refused = [r["requestURI"] for r in operation.requests() if r["responseStatus"].get("code") == 403]
    assert refused == []
    assert used() - wanted.keys() == set()
    assert app.health.lacking == ""


def marked_and_unmarked(operation: Operation) -> bool:
    """What a move does to its InferenceAllocation."""
    record = operation.app.copy_world().allocations.get((operation.namespace, "chat"))
    if record is None:
        return False
    try:
        marked = parse_allocation(writer.mark_move(operation.app.client, record, "chat").raw)
        writer.mark_move(operation.app.client, marked, None)
    except ApiError as error:
        if not error.conflict:
            raise
        return False
    return True


def lacking(wanted: dict[str, Permission], used: Callable[[], set[str]]) -> Any:
    class Told:
        def __str__(self) -> str:
            return f"the use of {sorted(wanted.keys() - used())}"

    return Told()


def asked(request: Object, wanted: dict[str, Permission]) -> Permission:
    """The permission that a request needs, as wide as it is granted."""
    ref = request["objectRef"]
    resource = "/".join(part for part in (ref["resource"], ref.get("subresource")) if part)
    if resource == "selfsubjectaccessreviews":
        return next(iter(wanted.values()))
    group, verb, namespace = ref.get("apiGroup", ""), request["verb"], ref.get("namespace", "")
    everywhere = Permission(group, resource, verb)
    return everywhere if str(everywhere) in wanted else Permission(group, resource, verb, namespace)


def test_a_service_of_another_namespace_is_left_alone(operation: Operation, scope: Scope) -> None:
    operation.eventually(
        lambda: operation.get("deployments", operation.namespace)["spec"]["replicas"] == 2, "the patch"
    )
    if not scope.namespaces:

        def told() -> Any:
            status = operation.get("inferenceservices", operation.other).get("status") or {}
            return next((c for c in status.get("conditions") or () if c["type"] == "Applied"), {})

        operation.eventually(lambda: told().get("reason") == "NamespaceNotOptedIn", "the condition")
    else:
        assert "status" not in operation.get("inferenceservices", operation.other)
        assert (operation.other, "chat") not in operation.app.copy_world().services
    assert operation.get("deployments", operation.other)["spec"]["replicas"] == 1


TWIN = "twin"
"""An account of its own with the chart's roles, which nothing else runs under."""


@pytest.mark.parametrize("case", ["cluster", pytest.param("namespaces", marks=pytest.mark.full)])
def test_each_permission_that_is_taken_away_is_missed_and_no_other(
    cluster: Cluster, namespace: str, case: str, tmp_path: Path
) -> None:
    """By a request of that kind, and by what the operator says is missing."""
    scope = SCOPES[case](namespace)
    values = ["scope.readPods=false"] if not scope.all_pods else []
    values += [f"scope.namespaces={{{','.join(scope.namespaces)}}}"] if scope.namespaces else []
    options = ("settle.enabled=false", "crds.install=false", "admissionPolicy.enabled=false")
    rendered = installation.render(cluster.tools["helm"], f"fullnameOverride={TWIN}", *options, *values)
    kept = [item for item in rendered if item["kind"] == "ServiceAccount" or "Role" in item["kind"]]
    text = yaml.safe_dump_all(kept)
    cluster.kubectl("create", "namespace", installation.NAMESPACE, check=False)
    cluster.kubectl("apply", "--server-side", "-f", "-", input=text)
    account = cluster.service_account_kubeconfig(installation.NAMESPACE, TWIN, tmp_path / "kubeconfig")
    admin = Client(load_configuration(cluster.kubeconfig, None))
    client = Client(load_configuration(account, None))
    wanted = needed(scope, (installation.NAMESPACE, TWIN))
    eventually(lambda: not missing(client, wanted), "the roles")
    try:
        for permission in wanted:
            role = next(item for item in kept if "rules" in item and grants(item, permission))
            replace_role(admin, without(role, permission))
            eventually(
                lambda permission=permission: missing(client, (permission,)) == (permission,),
                f"the end of: {permission}",
            )
            assert refused(client, permission), str(permission)
            assert missing(client, wanted) == (permission,)
            replace_role(admin, role)
            eventually(
                lambda permission=permission: not refused(client, permission), f"the return of: {permission}"
            )
    finally:
        cluster.kubectl("delete", "-f", "-", input=text)


def eventually(look: Callable[[], Any], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"still waiting for {what}"
        time.sleep(0.02)


def grants(role: Object, permission: Permission) -> bool:
    return role["metadata"].get("namespace", "") == permission.namespace and any(
        permission.group in rule["apiGroups"]
        and permission.resource in rule["resources"]
        and permission.verb in rule["verbs"]
        for rule in role["rules"]
    )


def without(role: Object, permission: Permission) -> Object:
    """The same role without one verb on one resource."""
    rules = []
    for rule in role["rules"]:
        hit = permission.group in rule["apiGroups"] and permission.resource in rule["resources"]
        others = [resource for resource in rule["resources"] if resource != permission.resource]
        verbs = [verb for verb in rule["verbs"] if verb != permission.verb]
        if not hit:
            rules.append(rule)
            continue
        rules += [rule | {"resources": others}] if others else []
        rules += [rule | {"resources": [permission.resource], "verbs": verbs}] if verbs else []
    return role | {"rules": rules}


def replace_role(admin: Client, role: Object) -> None:
    namespace = role["metadata"].get("namespace")
    kind = kinds.Kind(
        "rbac.authorization.k8s.io", "v1", role["kind"], f"{role['kind'].lower()}s", namespace is not None
    )
    admin.replace(kind, namespace, role["metadata"]["name"], role)


def refused(client: Client, permission: Permission) -> bool:
    """Whether the API server refuses a request of that kind; nothing is kept of those that it takes."""
    plural, _, subresource = permission.resource.partition("/")
    namespaced = bool(permission.namespace) or permission.resource in (
        *("events", "deployments", "inferenceservices/status", "inferenceallocations"),
        "inferenceallocations/status",
    )
    kind = kinds.Kind(
        permission.group, "v1alpha1" if permission.group == kinds.GROUP else "v1", plural, plural, namespaced
    )
    namespace = permission.namespace or ("default" if namespaced else None)
    name = permission.name or "nobody"
    query = {"dryRun": "All"}
    verb, path = permission.verb, kind.path(namespace, name, subresource)
    body: Any = {"apiVersion": kind.api_version, "kind": "Lease", "metadata": {"name": name}}
    content = "application/json"
    if verb in ("list", "watch"):
        path = kind.path(permission.namespace or None)
        query, body = ({"watch": "1", "timeoutSeconds": "1"} if verb == "watch" else {"limit": "1"}), None
    elif verb == "create" and plural != "leases":
        path = kind.path(namespace)
    elif verb == "patch":
        content, body = "application/merge-patch+json", {}
    # A Lease is created by an update, which asks for both.
    sent = "update" if plural == "leases" and verb == "create" else {"watch": "list"}.get(verb, verb)
    try:
        client._request(sent, kind.name, path, query, {"Content-Type": content}, body)
    except ApiError as error:
        return error.status == 403
    return False


@pytest.mark.parametrize("namespaces", [(), ("default", "kube-public")], ids=["cluster", "namespaces"])
def test_a_signal_ends_it_at_once_and_gives_its_lease_back(
    cluster: Cluster, namespaces: tuple[str, ...]
) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={installation.ROOT / 'crds'}")
    lease = f"ends-{len(namespaces)}"
    cluster.start(
        lease,
        sys.executable,
        *("-m", "inferscale_operator", f"--kubeconfig={cluster.kubeconfig}", f"--prometheus-url={NOBODY}"),
        *("--listen=0", "--lease-namespace=default", f"--lease-name={lease}"),
        *(f"--namespace={place}" for place in namespaces),
    )
    api = Api(cluster.kubeconfig)

    def holder() -> str:
        found = api.get(f"apis/coordination.k8s.io/v1/namespaces/default/leases/{lease}") or {}
        return str((found.get("spec") or {}).get("holderIdentity") or "")

    eventually(holder, "it to lead")
    cluster.stop(lease)
    assert holder() == ""
    api.close()
