"""A Prometheus beside a local cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from . import process
from .cluster import Cluster
from .nodes import LABEL


def start_prometheus(
    cluster: Cluster,
    *,
    fleet_address: str | None = None,
    targets: Sequence[str] = (),
    scrape_interval_s: float = 2.0,
    name: str = "prometheus",
) -> str:
    """Start a Prometheus that ends with the cluster; returns its URL when it is ready.

    After `cluster.stop(name)` it can be started again, and has the address and the data that it had.

    Args:
        cluster: the cluster whose pods it discovers.
        fleet_address: `host:port` of an emulated fleet, which serves the metrics of each running pod that is
            labelled `inferscale.dev/emulated=true` under `/pods/NAMESPACE/POD/metrics`. A new pod is
            discovered within 5 s.
        targets: `host:port` of exporters that serve `/metrics` and set the labels `namespace` and `pod`.
        scrape_interval_s: seconds between two scrapes of a target.
        name: its name among the cluster's programs, if there are to be several.

    Raises:
        ClusterError: it runs already, or does not get ready; with the end of its log.
    """
    folder = cluster.directory / name
    folder.mkdir(exist_ok=True)
    address = folder / "url"
    if not address.exists():
        address.write_text(f"http://127.0.0.1:{process.free_ports(1)[0]}")
    url = address.read_text()
    config = folder / "config.json"
    config.write_text(configuration(cluster.kubeconfig, fleet_address, targets, scrape_interval_s))
    cluster.start(name, *command(cluster.tools["prometheus"], config, folder / "data", url))
    process.wait_for_component(cluster.directory, name, lambda: process.answers(f"{url}/-/ready"), 30)
    return url


def command(prometheus: Path, config: Path, data: Path, url: str) -> list[str]:
    """The command line of Prometheus."""
    return [
        str(prometheus),
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=6h",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--log.level=warn",
    ]


def configuration(
    kubeconfig: Path, fleet_address: str | None, targets: Sequence[str], scrape_interval_s: float
) -> str:
    """The configuration file, in the part of YAML that is JSON."""
    interval = f"{round(scrape_interval_s * 1000)}ms"
    jobs: list[dict[str, object]] = []
    if fleet_address is not None:
        jobs.append(
            {
                "job_name": "emulated-fleet",
                "kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": str(kubeconfig)}],
                "relabel_configs": _fleet_relabelling(fleet_address),
            }
        )
    if targets:
        jobs.append(
            {"job_name": "static", "honor_labels": True, "static_configs": [{"targets": list(targets)}]}
        )
    return json.dumps(
        {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "scrape_configs": jobs,
        },
        indent=2,
    )


def _fleet_relabelling(fleet_address: str) -> list[dict[str, object]]:
    namespace, pod = "__meta_kubernetes_namespace", "__meta_kubernetes_pod_name"
    label = "".join(character if character.isalnum() else "_" for character in LABEL)
    return [
        {
            "source_labels": [f"__meta_kubernetes_pod_label_{label}", "__meta_kubernetes_pod_phase"],
            "regex": "true;Running",
            "action": "keep",
        },
        {
            "source_labels": [namespace, pod],
            "separator": "/",
            "target_label": "__metrics_path__",
            "replacement": "/pods/$1/metrics",
        },
        {"target_label": "__address__", "replacement": fleet_address},
        {"source_labels": [namespace], "target_label": "namespace"},
        {"source_labels": [pod], "target_label": "pod"},
        {"source_labels": [pod], "target_label": "instance"},
        {"source_labels": ["__meta_kubernetes_pod_node_name"], "target_label": "node"},
    ]
