"""Everything the demo runs: cluster, emulated fleet, Prometheus, the operator under its own account."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from kubernetes.client import CoreV1Api
from kubernetes.config import new_client_from_config
from prometheus_api_client import PrometheusConnect

from demo import scenario
from demo.agreement import saved_at
from inferscale_operator.recorder import SNAPSHOT_SUFFIX
from inferscale_operator.twin.resources import Setting
from installation import LABEL, install
from localcluster import paths, process
from localcluster.cluster import Cluster
from localcluster.errors import ClusterError
from localcluster.prometheus import start_prometheus

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAMESPACE = "demo"
IMAGES = ("vllm/vllm-openai", "rocm/vllm")
"""Those that the variants of its services set."""
STARTUP_S = 5.0
SCRAPE_INTERVAL_S = 1.0
EMULATED = "inferscale.dev/emulated=true"
SERVICES = 4
KEEP_RECORDS = 100_000
START_S = 90.0
"""Within which all pods are to be ready, besides their start-up."""
FLEET_START_S = 10.0
"""An interpreter starts and draws the requests in less, on a machine that is busy too."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class World:
    """What runs, and where."""

    cluster: Cluster
    prometheus_url: str
    operator_kubeconfig: Path
    operator_address: str
    """`host:port` of the operator's metrics and health."""
    started_at: float
    """When the load began, Unix seconds."""

    def operator_state(self) -> str:
        """`running`, or `exited STATUS`."""
        return self.cluster.states().get("operator", "gone")


def build(name: str, owner_pid: int | None, say: Say) -> World:
    """Start everything; what starts ends with the cluster.

    Args:
        name: Of the cluster.
        owner_pid: The cluster ends with this process; None: it stays.
        say: Is told what is going on.

    Raises:
        ClusterError: Something does not start; with the end of its log.
    """
    cluster = Cluster.up(
        name, node_file=HERE / "nodes.json", startup_seconds=STARTUP_S, owner_pid=owner_pid, report=say
    )
    say("installing what the chart does; the operator runs as a process, under its account")
    kubeconfig = install(cluster, cluster.directory, images=IMAGES)
    say("applying accelerators, models, classes, policy, four services and their Deployments")
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, LABEL)
    apply(cluster, *sorted((HERE / "resources").glob("*.yaml")))
    cluster.kubectl(
        "wait",
        "deployment",
        "--all",
        f"--namespace={NAMESPACE}",
        "--for=condition=Available",
        "--timeout=90s",
    )
    say("starting the emulated model servers and their load, Prometheus, and the operator")
    fleet_address = _start_fleet(cluster)
    started_at = time.time()
    [port] = process.free_ports(1)
    operator_address = f"127.0.0.1:{port}"
    url = start_prometheus(
        cluster,
        fleet_address=fleet_address,
        targets=[operator_address],
        scrape_interval_s=SCRAPE_INTERVAL_S,
    )
    _wait_for_samples(url)
    _start_operator(cluster, kubeconfig, url, operator_address, cluster.directory / "snapshots")
    return World(cluster, url, kubeconfig, operator_address, started_at)


def build_scenario(
    name: str, owner_pid: int | None, say: Say, setting: Setting, *, seed: int, record: Path
) -> World:
    """Start everything for a scenario; its load begins with one of the operator's ticks, a few seconds later.

    Args:
        name: Of the cluster.
        owner_pid: The cluster ends with this process; None: it stays.
        say: Is told what is going on.
        setting: The scenario, one that `scenario.check` accepts.
        seed: Of the requests.
        record: Folder for the operator's snapshots and plans, which is emptied.

    Raises:
        ClusterError: Something does not start; with the end of its log.
    """
    if process.is_supervised(paths.cluster_dir(name)):
        raise ClusterError(
            f"cluster {name} runs already: `hack/cluster down --name {name}`, or give another --name"
        )
    with TemporaryDirectory() as folder:
        node_file = Path(folder) / "nodes.json"
        node_file.write_text(json.dumps(scenario.nodes(setting)))
        cluster = Cluster.up(
            name,
            node_file=node_file,
            startup_seconds=setting.scenario.start_up.seconds,
            owner_pid=owner_pid,
            report=say,
        )
    say("installing what the chart does; the operator runs as a process, under its account")
    kubeconfig = install(cluster, cluster.directory, images=scenario.images(setting))
    say(f"applying what {setting.path.name} names, and Deployments of {len(setting.services)} services")
    objects = yaml.safe_dump_all(scenario.objects(setting))
    cluster.kubectl("apply", "--server-side", "--filename=-", input=objects)
    start_s = START_S + setting.scenario.start_up.seconds
    cluster.kubectl(
        *("wait", "deployment", "--all", "--all-namespaces", "--for=condition=Available"),
        f"--timeout={start_s:g}s",
        timeout_s=start_s + 30,
    )
    say("starting Prometheus and the operator")
    fleet_port, operator_port = process.free_ports(2)
    operator_address = f"127.0.0.1:{operator_port}"
    url = start_prometheus(
        cluster,
        fleet_address=f"127.0.0.1:{fleet_port}",
        targets=[operator_address],
        scrape_interval_s=setting.scenario.scrape_interval,
    )
    shutil.rmtree(record, ignore_errors=True)
    keep = f"--record-keep={KEEP_RECORDS}"
    _start_operator(cluster, kubeconfig, url, operator_address, record, keep)
    begin = _next_tick(cluster, record, setting.policy.tick_seconds)
    _ready_since(cluster, begin)
    say(f"the model servers and their load begin with the operator's tick in {begin - time.time():.1f} s")
    cluster.start(
        "fleet",
        sys.executable,
        *("-m", "fleet", f"--kubeconfig={cluster.kubeconfig}", f"--scenario={setting.path.resolve()}"),
        *(f"--seed={seed}", f"--port={fleet_port}", f"--begin={begin:.3f}"),
        env={"PYTHONPATH": str(ROOT / "hack")},
    )
    return World(cluster, url, kubeconfig, operator_address, begin)


def _start_operator(
    cluster: Cluster, kubeconfig: Path, url: str, address: str, record: Path, *options: str
) -> None:
    cluster.start(
        "operator",
        sys.executable,
        *("-m", "inferscale_operator", f"--kubeconfig={kubeconfig}", f"--prometheus-url={url}"),
        *(f"--listen={address}", f"--record={record}", *options),
    )


def _next_tick(cluster: Cluster, record: Path, tick_s: float) -> float:
    """Unix time of a tick that is far enough ahead for the fleet to start, by the rhythm of those before."""
    times: list[float] = []

    def regular() -> bool:
        files = record.glob(f"*{SNAPSHOT_SUFFIX}")
        times[:] = sorted(saved_at(file).timestamp() for file in files)
        # The first tick of all may come early again, since somebody has just applied objects.
        return len(times) > 1 and times[-1] - times[-2] > 0.9 * tick_s

    process.wait_until(
        regular,
        60 + 3 * tick_s,
        "the operator to tick",
        lambda: process.log_tail(cluster.directory, "operator"),
    )
    ahead = math.ceil((time.time() + FLEET_START_S - times[-1]) / tick_s)
    return times[-1] + ahead * tick_s


def _ready_since(cluster: Cluster, begin: float) -> None:
    """Date the readiness of all pods to the beginning of the load.

    In a simulation pods are ready from its beginning on. Those that have been ready for longer, and unseen,
    would make the operator doubt what it sees until their whole window is covered.
    """
    client = CoreV1Api(new_client_from_config(str(cluster.kubeconfig)))
    moment = datetime.fromtimestamp(begin, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": moment}
        for kind in ("Ready", "ContainersReady")
    ]
    for pod in client.list_pod_for_all_namespaces(label_selector=EMULATED).items:
        client.patch_namespaced_pod_status(
            pod.metadata.name, pod.metadata.namespace, {"status": {"conditions": conditions}}
        )


def apply(cluster: Cluster, *files: Path) -> None:
    """Apply manifests the way the README does."""
    cluster.kubectl("apply", "--server-side", *(f"--filename={file}" for file in files))


def _wait_for_samples(url: str) -> None:
    """Until every service has reported once, so that the first decision is not `unknown`."""
    client = PrometheusConnect(url=url)
    for _ in range(150):
        counted = client.custom_query("count(count by (model_name) (vllm:num_requests_running))")
        if counted and int(counted[0]["value"][1]) == SERVICES:
            return
        time.sleep(0.2)
    raise ClusterError(f"Prometheus at {url} has no samples of the emulated fleet after 30 s")


def _start_fleet(cluster: Cluster) -> str:
    port_file = cluster.directory / "fleet.port"
    cluster.start(
        "fleet",
        sys.executable,
        *("-m", "fleet", f"--kubeconfig={cluster.kubeconfig}", f"--load={HERE / 'load.yaml'}"),
        f"--port-file={port_file}",
        env={"PYTHONPATH": str(ROOT / "hack")},
    )
    for _ in range(300):
        if port_file.exists() and port_file.read_text().strip():
            return f"127.0.0.1:{port_file.read_text().strip()}"
        time.sleep(0.1)
    raise ClusterError(f"the emulated fleet did not start: see {cluster.log_file('fleet')}")
