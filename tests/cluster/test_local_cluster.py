"""The local cluster is a real Kubernetes with accelerator nodes, and leaves nothing behind."""

import http.server
import json
import os
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localcluster import Cluster, ClusterError, start_prometheus

HACK = Path(__file__).resolve().parents[2] / "hack"
H100 = "NVIDIA-H100-80GB-HBM3"


def eventually(condition: Callable[[], bool], timeout_s: float = 60.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def deployment(name: str, replicas: int, gpus: int, annotations: dict[str, str] | None = None) -> str:
    labels = {"app": name, "inferscale.dev/emulated": "true"}
    container = {"name": "server", "image": "vllm", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": labels, "annotations": annotations or {}},
                    "spec": {"nodeSelector": {"nvidia.com/gpu.product": H100}, "containers": [container]},
                },
            },
        }
    )


@pytest.fixture
def create(cluster: Cluster, namespace: str) -> Iterator[Callable[..., None]]:
    """Creates Deployments that hold no accelerators after the test."""
    names = []

    def create(name: str, *args: object, **kwargs: object) -> None:
        names.append(name)
        cluster.kubectl("apply", f"--namespace={namespace}", "-f-", input=deployment(name, *args, **kwargs))

    yield create
    for name in names:
        cluster.kubectl("delete", "deployment", name, f"--namespace={namespace}", "--cascade=foreground")


def pods(cluster: Cluster, namespace: str, name: str) -> list[dict]:
    output = cluster.kubectl("get", "pods", f"--namespace={namespace}", f"-lapp={name}", "-ojson").stdout
    return json.loads(output)["items"]


def conditions(thing: dict) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in thing["status"].get("conditions", [])}


def processes_naming(directory: Path) -> list[str]:
    listing = subprocess.run(
        ["ps", "-ww", "-eo", "pid,command"], check=True, capture_output=True, text=True
    ).stdout
    return [line for line in listing.splitlines() if str(directory) in line]


def test_the_api_server_says_that_it_is_ready(cluster):
    assert cluster.kubectl("get", "--raw", "/readyz").stdout == "ok"


def test_every_node_of_the_file_is_ready_and_has_its_accelerators(cluster):
    nodes = json.loads(cluster.kubectl("get", "nodes", "-linferscale.dev/emulated=true", "-ojson").stdout)[
        "items"
    ]
    assert all(conditions(node)["Ready"] == "True" for node in nodes)
    allocatable = {node["metadata"]["name"]: node["status"]["allocatable"] for node in nodes}
    for group in json.loads((HACK / "nodes" / "default.json").read_text()):
        for index in range(group["count"]):
            node = allocatable[f"{group['name']}-{index}"]
            for resource in node.keys() & {"nvidia.com/gpu", "amd.com/gpu"}:
                assert node[resource] == str(group["allocatable"][resource])


def test_a_deployment_that_fits_becomes_ready_on_the_accelerator_it_selects(cluster, namespace, create):
    create("fits", 2, 4)
    cluster.kubectl("rollout", "status", "deployment/fits", f"--namespace={namespace}", "--timeout=60s")
    assert all(pod["spec"]["nodeName"].startswith("h100-") for pod in pods(cluster, namespace, "fits"))


def test_a_pod_too_many_for_the_accelerators_stays_pending(cluster, namespace, create):
    create("full", 3, 8)

    def states() -> list[tuple[str | None, str | None]]:
        found = [conditions(pod) for pod in pods(cluster, namespace, "full")]
        return sorted((pod.get("Ready", ""), pod.get("PodScheduled", "")) for pod in found)

    assert eventually(lambda: states() == [("", "False"), ("True", "True"), ("True", "True")]), states()


def test_a_pod_with_a_start_up_time_of_its_own_runs_before_it_is_ready(cluster, namespace, create):
    create("slow", 1, 1, {"inferscale.dev/emulated-startup-seconds": "3600"})
    create("fast", 1, 1)
    cluster.kubectl("rollout", "status", "deployment/fast", f"--namespace={namespace}", "--timeout=60s")
    assert eventually(lambda: pods(cluster, namespace, "slow")[0]["status"]["phase"] == "Running")
    (slow,) = pods(cluster, namespace, "slow")
    # A change of the pod does not start it either.
    cluster.kubectl("label", "pod", slow["metadata"]["name"], f"--namespace={namespace}", "touched=yes")
    create("faster", 1, 1)
    cluster.kubectl("rollout", "status", "deployment/faster", f"--namespace={namespace}", "--timeout=60s")
    assert conditions(pods(cluster, namespace, "slow")[0])["Ready"] == "False"


def test_a_pod_with_a_shut_down_time_holds_its_accelerator_while_it_terminates(cluster, namespace, create):
    create("leaving", 1, 1, {"inferscale.dev/emulated-shutdown-seconds": "3600"})
    cluster.kubectl("rollout", "status", "deployment/leaving", f"--namespace={namespace}", "--timeout=60s")
    cluster.kubectl("scale", "deployment/leaving", f"--namespace={namespace}", "--replicas=0")
    assert eventually(lambda: "deletionTimestamp" in pods(cluster, namespace, "leaving")[0]["metadata"])
    (pod,) = pods(cluster, namespace, "leaving")
    assert pod["spec"]["nodeName"]
    cluster.kubectl("delete", "pod", pod["metadata"]["name"], f"--namespace={namespace}", "--force")


def test_a_service_account_may_do_what_its_role_says_and_no_more(cluster, namespace, tmp_path):
    cluster.kubectl("create", "serviceaccount", "reader", f"--namespace={namespace}")
    cluster.kubectl(
        *("create", "role", "reader", f"--namespace={namespace}", "--verb=get,list", "--resource=pods")
    )
    binding = ("--role=reader", f"--serviceaccount={namespace}:reader")
    cluster.kubectl("create", "rolebinding", "reader", f"--namespace={namespace}", *binding)
    kubeconfig = cluster.service_account_kubeconfig(namespace, "reader", tmp_path / "kubeconfig")

    def as_reader(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            cluster.tools["kubectl"],
            f"--kubeconfig={kubeconfig}",
            f"--cache-dir={tmp_path}",
            *arguments,
        ]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    assert eventually(lambda: as_reader("get", "pods").returncode == 0)
    refused = as_reader("get", "secrets")
    assert refused.returncode != 0
    assert f'User "system:serviceaccount:{namespace}:reader" cannot list resource "secrets"' in refused.stderr


def test_prometheus_scrapes_the_emulated_fleet_for_each_running_pod(cluster, namespace, create):
    class Fleet(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(f'scraped{{path="{self.path}"}} 1\n'.encode())

        def log_message(self, *_):
            pass

    def scraped() -> set[tuple[str, str, str]]:
        query = urllib.parse.urlencode({"query": f'scraped{{namespace="{namespace}"}}'})
        with urllib.request.urlopen(f"{url}/api/v1/query?{query}") as response:  # noqa: S310
            found = [series["metric"] for series in json.load(response)["data"]["result"]]
        return {(series["namespace"], series["pod"], series["path"]) for series in found}

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fleet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        url = start_prometheus(cluster, fleet_address=address, scrape_interval_s=0.5, name="prometheus-fleet")
        create("scraped", 2, 1)
        cluster.kubectl(
            "rollout", "status", "deployment/scraped", f"--namespace={namespace}", "--timeout=60s"
        )
        names = [pod["metadata"]["name"] for pod in pods(cluster, namespace, "scraped")]
        expected = {(namespace, name, f"/pods/{namespace}/{name}/metrics") for name in names}
        assert eventually(lambda: scraped() == expected), scraped()
        cluster.stop("prometheus-fleet")
        assert start_prometheus(cluster, fleet_address=address, name="prometheus-fleet") == url
        cluster.stop("prometheus-fleet")
        server.shutdown()


def test_up_on_a_running_cluster_says_so_and_changes_nothing(cluster):
    before = cluster.kubeconfig.read_text()
    done = subprocess.run(
        [HACK / "cluster", "up", "--name", cluster.name], check=True, capture_output=True, text=True
    )
    assert f"cluster {cluster.name} runs already" in done.stdout
    assert cluster.kubeconfig.read_text() == before


def test_two_clusters_know_nothing_of_each_other_and_down_leaves_nothing(cluster, tmp_path):
    node_file = tmp_path / "nodes.json"
    node_file.write_text('[{"name": "only", "allocatable": {"habana.ai/gaudi": 8}}]')
    other = Cluster.up(f"{cluster.name}-other", node_file=node_file, owner_pid=os.getpid())
    try:
        assert other.kubectl("get", "nodes", "-linferscale.dev/emulated", "-oname").stdout == "node/only-0\n"
        assert "node/only-0" not in cluster.kubectl("get", "nodes", "-oname").stdout
        assert processes_naming(other.directory)
    finally:
        other.down()
    assert not other.directory.exists()
    assert processes_naming(other.directory) == []
    assert cluster.kubectl("get", "--raw", "/readyz").stdout == "ok"
    with pytest.raises(ClusterError, match=f"no cluster {other.name} runs"):
        Cluster.get(other.name)


def test_a_cluster_whose_owner_was_killed_leaves_no_process_behind(cluster):
    name = f"{cluster.name}-orphan"
    program = (
        "import os, sys, time; from localcluster import Cluster\n"
        f"Cluster.up({name!r}, owner_pid=os.getpid(), wait=False, report=lambda text: None)\n"
        "print('up', flush=True); time.sleep(3600)"
    )
    directory = cluster.directory.with_name(name)
    with subprocess.Popen([sys.executable, "-c", program], cwd=HACK, stdout=subprocess.PIPE) as owner:
        try:
            assert owner.stdout.readline() == b"up\n"
            assert processes_naming(directory)
        finally:
            owner.kill()
    assert eventually(lambda: not directory.exists())
    assert eventually(lambda: processes_naming(directory) == []), processes_naming(directory)
