"""What runs beside the local cluster: model servers and their users, Prometheus, the operator."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from installation import ACCOUNT, NAMESPACE
from localcluster import process
from localcluster.cluster import Cluster
from localcluster.prometheus import start_prometheus

ROOT = Path(__file__).resolve().parents[2]
LOAD = ROOT / "docs" / "examples" / "quickstart" / "load.yaml"
OPERATOR = "quickstart-operator"
SERVER = ("chat", "chat")
"""Namespace and name of the Deployment that the load is for."""
SCRAPE_INTERVAL_S = 1.0


@dataclass
class World:
    """A cluster on which commands are typed."""

    cluster: Cluster
    folder: Path
    """For programs on PATH, caches and the operator's kubeconfig."""
    work: Path
    """Where commands are typed: with what they read of the project, and room for what they write."""
    prometheus_url: str
    environment: dict[str, str]
    """Of commands."""
    fleet_port: int
    fleet_runs: bool = field(default=False, repr=False)
    _generation: int | None = field(default=None, repr=False)
    """Of the operator's Deployment that runs."""

    def follow(self) -> None:
        """Run what goes with what there is in the cluster now."""
        if not self.fleet_runs and self._deployment(*SERVER).get("status", {}).get("readyReplicas"):
            # Sooner, requests would wait for servers, and be late ones when those come.
            self._start_fleet()
        self._follow_release()

    def _follow_release(self) -> None:
        """Run what the operator's emulated pod would: begin with the release, anew if it changes, end."""
        found = self._deployment(NAMESPACE, ACCOUNT)
        generation = found["metadata"]["generation"] if found else None
        if generation == self._generation:
            return
        if self._generation is not None:
            self.cluster.stop(OPERATOR)
        self._generation = generation
        if found:
            self._start(found)

    def _deployment(self, namespace: str, name: str) -> dict[str, Any]:
        done = self.cluster.kubectl(
            *("get", "deployment", name, f"--namespace={namespace}", "-ojson", "--ignore-not-found")
        )
        found: dict[str, Any] = json.loads(done.stdout or "{}")
        return found

    def _start_fleet(self) -> None:
        self.cluster.start(
            "quickstart-fleet",
            sys.executable,
            *("-m", "fleet", f"--kubeconfig={self.cluster.kubeconfig}", f"--load={LOAD}"),
            f"--port={self.fleet_port}",
            env={"PYTHONPATH": str(ROOT / "hack")},
        )
        self.fleet_runs = True

    def _start(self, deployment: dict[str, Any]) -> None:
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        given = {item["name"]: item["value"] for item in container["env"] if "value" in item}
        kubeconfig = self.cluster.service_account_kubeconfig(
            NAMESPACE, ACCOUNT, self.folder / "operator.kubeconfig"
        )
        (port,) = process.free_ports(1)
        own = {
            "INFERSCALE_KUBECONFIG": str(kubeconfig),
            "INFERSCALE_PROMETHEUS_URL": self.prometheus_url,
            "INFERSCALE_LISTEN": f"127.0.0.1:{port}",
            "INFERSCALE_LEASE_NAMESPACE": NAMESPACE,
        }
        self.cluster.start(OPERATOR, sys.executable, "-m", "inferscale_operator", env=given | own)


def build(cluster: Cluster, folder: Path) -> World:
    """Start Prometheus, which ends with the cluster, as what follows does.

    Raises:
        ClusterError: Something does not start; with the end of its log.
    """
    programs, work = folder / "bin", folder / "work"
    programs.mkdir(parents=True)
    work.mkdir()
    for name in ("charts", "crds", "deploy", "docs"):
        (work / name).symlink_to(ROOT / name)
    (folder / ".kube").mkdir()
    (folder / ".kube" / "config").symlink_to(cluster.kubeconfig)
    for name in ("kubectl", "helm"):
        (programs / name).symlink_to(cluster.tools[name])
    for name in ("inferscale", "kubectl-inferscale"):
        (programs / name).symlink_to(Path(sys.executable).parent / name)
    (port,) = process.free_ports(1)
    url = start_prometheus(
        cluster,
        fleet_address=f"127.0.0.1:{port}",
        scrape_interval_s=SCRAPE_INTERVAL_S,
        name="quickstart-prometheus",
    )
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(folder),
        "KUBECONFIG": str(cluster.kubeconfig),
        "KUBECACHEDIR": str(folder / "kubectl-cache"),
        "HELM_CACHE_HOME": str(folder / "helm-cache"),
        "HELM_CONFIG_HOME": str(folder / "helm-config"),
        "HELM_DATA_HOME": str(folder / "helm-data"),
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }
    return World(cluster, folder, work, url, environment, port)
