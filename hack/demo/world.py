"""Everything the demo runs: cluster, emulated fleet, Prometheus, the operator under its own account."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prometheus_api_client import PrometheusConnect

from installation import LABEL, install
from localcluster import process
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
SERVICES = 4

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
    cluster.start(
        "operator",
        sys.executable,
        *("-m", "inferscale_operator", f"--kubeconfig={kubeconfig}", f"--prometheus-url={url}"),
        f"--listen={operator_address}",
        f"--record={cluster.directory / 'snapshots'}",
    )
    return World(cluster, url, kubeconfig, operator_address, started_at)


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
