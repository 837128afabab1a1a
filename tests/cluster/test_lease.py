"""Two replicas on a real API server: one acts, and a leader that was frozen has nothing more to say."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from fault_proxy import WELL, Fault, Proxy, Request, before_api_server
from localcluster import Cluster
from localcluster.process import free_ports, log_tail
from loop_objects import Objects
from loop_world import install
from tape import Api

Value = TypeVar("Value")
LEASE = "apis/coordination.k8s.io/v1/namespaces/inferscale-system/leases/inferscale"
NOBODY = "http://127.0.0.1:9"


@dataclass
class Replica:
    """A replica of the operator, behind a proxy of its own."""

    cluster: Cluster
    name: str
    port: int
    proxy: Proxy

    def start(self, kubeconfig: Path) -> None:
        self.cluster.start(
            self.name,
            sys.executable,
            *("-m", "inferscale_operator", f"--kubeconfig={kubeconfig}", f"--prometheus-url={NOBODY}"),
            *("--prometheus-timeout-seconds=1", f"--listen=127.0.0.1:{self.port}"),
            *("--lease-duration-seconds=6", "--lease-renew-seconds=4", "--lease-retry-seconds=0.5"),
        )

    @property
    def pid(self) -> int:
        return int((self.cluster.directory / "components" / f"{self.name}.pid").read_text())

    def asked(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and answer of a probe; 0: there is none, as of a process that is frozen."""
        try:
            answer = requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=1)
        except requests.RequestException:
            return 0, {}
        return answer.status_code, answer.json()

    @property
    def leads(self) -> bool:
        return self.asked("/healthz")[1].get("role") == "leader"

    @property
    def patches(self) -> int:
        """Writes to Deployments so far."""
        return sum(item.writes and "/deployments/" in item.path for item in list(self.proxy.requests))


@dataclass
class Pair:
    """Two replicas, and a service of which every change of minReplicas is to be acted on."""

    cluster: Cluster
    namespace: str
    api: Api
    replicas: tuple[Replica, Replica]

    @property
    def leader(self) -> Replica:
        """The one that leads; both or none is waited for to end."""
        return self.eventually(
            lambda: (
                (leading := [replica for replica in self.replicas if replica.leads])
                and len(leading) == 1
                and leading[0]
            ),
            "one leader",
        )

    def other(self, replica: Replica) -> Replica:
        return next(item for item in self.replicas if item is not replica)

    def want(self, replicas: int) -> None:
        patch = json.dumps({"spec": {"minReplicas": replicas}})
        arguments = (f"-n={self.namespace}", "--type=merge", f"--patch={patch}")
        self.cluster.kubectl("patch", "ifs", "chat", *arguments)

    def has(self, replicas: int) -> bool:
        found = self.api.get(f"apis/apps/v1/namespaces/{self.namespace}/deployments/chat") or {}
        return bool(found["spec"]["replicas"] == replicas)

    def holder(self) -> str:
        return str((self.api.get(LEASE) or {"spec": {}})["spec"].get("holderIdentity") or "")

    def eventually(self, look: Callable[[], Value], what: str, seconds: float = 90) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > deadline:
                logs = "\n".join(log_tail(self.cluster.directory, r.name, 15) for r in self.replicas)
                raise AssertionError(f"waiting for {what}\n{logs}")
            time.sleep(0.1)
        return found


@pytest.fixture(scope="module")
def pair(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("lease")
    account = install(cluster, directory)
    objects = Objects(namespace, namespace[-6:])
    manifests = [
        objects.accelerator_profile("l40s"),
        objects.model_profile("llm", "l40s"),
        objects.service_class("standard", "llm"),
        objects.policy(),
        objects.deployment("chat", "l40s", 1),
        objects.service("chat", mode="Apply", minReplicas=1, maxReplicas=8),
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    cluster.kubectl("apply", "--filename=-", input=text)
    api = Api(cluster.kubeconfig)
    with ExitStack() as stack:
        stack.callback(api.close)
        replicas = []
        for letter, port in zip("ab", free_ports(2), strict=True):
            through = directory / f"{letter}.kubeconfig"
            proxy = stack.enter_context(before_api_server(account, through))
            replica = Replica(cluster, f"replica-{letter}-{objects.tag}", port, proxy)
            replica.start(through)
            stack.callback(cluster.stop, replica.name)
            replicas.append(replica)
        yield Pair(cluster, namespace, api, (replicas[0], replicas[1]))
        # One that is frozen would not hear that it is to end.
        for replica in replicas:
            if cluster.states().get(replica.name) == "running":
                os.kill(replica.pid, signal.SIGCONT)
    cluster.kubectl("delete", "ifs", "chat", f"-n={namespace}", "--wait=false")
    for manifest in manifests[:4]:
        cluster.kubectl("delete", manifest["kind"], manifest["metadata"]["name"], "--wait=false")


def test_of_two_replicas_one_acts_and_the_other_is_ready_and_writes_nothing(pair: Pair) -> None:
    leader = pair.leader
    standby = pair.other(leader)
    pair.eventually(lambda: standby.asked("/readyz")[0] == 200, "the standby to be ready")
    assert standby.asked("/healthz")[1]["role"] == "standby"
    pair.want(2)
    pair.eventually(lambda: pair.has(2), "the leader to act")
    assert leader.proxy.writes > 0
    assert standby.proxy.writes == 0


def test_a_leader_that_is_frozen_in_the_middle_of_its_writes_writes_nothing_when_it_is_thawed(
    pair: Pair,
) -> None:
    frozen = pair.leader
    other = pair.other(frozen)
    stopped: list[Request] = []

    def freeze(request: Request) -> Fault:
        # Between the record and the patch of the Deployment, which would come next.
        if request.method == "PATCH" and "/inferenceallocations/" in request.path and not stopped:
            stopped.append(request)
            os.kill(frozen.pid, signal.SIGSTOP)
        return WELL

    frozen.proxy.rule = freeze
    pair.want(3)
    pair.eventually(lambda: stopped, "the leader to be frozen")
    assert pair.has(2)
    pair.eventually(lambda: other.leads, "the other to lead")
    pair.eventually(lambda: pair.has(3), "the other to act")
    patches = frozen.patches
    os.kill(frozen.pid, signal.SIGCONT)
    pair.eventually(lambda: frozen.asked("/healthz")[1].get("role") == "standby", "it to know")
    # An event or a status that had passed the check beside the record may still have gone out.
    before = frozen.proxy.writes
    pair.want(4)
    pair.eventually(lambda: pair.has(4), "the other to go on")
    assert frozen.patches == patches
    assert frozen.proxy.writes == before
    assert pair.leader is other


def test_a_leader_that_ends_gives_its_lease_back(pair: Pair) -> None:
    leader = pair.leader
    other = pair.other(leader)
    held_by = pair.holder()
    assert held_by
    pair.cluster.stop(leader.name)
    assert pair.holder() != held_by
    pair.eventually(lambda: other.leads, "the other to lead")
    pair.want(5)
    pair.eventually(lambda: pair.has(5), "the other to act")
