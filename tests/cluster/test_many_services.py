"""A thousand services that appear at once: each is told how it stands, nothing is changed, nothing stalls."""

import json
import re
import sys
import time
from collections.abc import Iterator

import pytest
import requests

from localcluster import Cluster
from localcluster.process import free_ports, log_tail
from loop_objects import GROUP, Objects
from loop_world import DEPLOYMENTS, install
from tape import Api

pytestmark = pytest.mark.full

COUNT = 1000
IFA = f"apis/{GROUP}/namespaces/{{namespace}}/inferenceallocations"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def url(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of an operator that runs before the services come."""
    directory = tmp_path_factory.mktemp("many")
    account = install(cluster, directory)
    objects = Objects(namespace, namespace[-6:])
    cluster_wide = [
        objects.accelerator_profile("l40s"),
        objects.model_profile("llm", "l40s"),
        objects.service_class("standard", "llm"),
        objects.policy(),
    ]
    _apply(cluster, cluster_wide)
    [port] = free_ports(1)
    cluster.start(
        "operator-many",
        sys.executable,
        *("-m", "inferscale_operator", f"--kubeconfig={account}", f"--prometheus-url={NOBODY}"),
        *("--no-leader-elect", f"--listen=127.0.0.1:{port}"),
    )
    names = [f"chat-{number}" for number in range(COUNT)]
    _apply(cluster, [objects.deployment(name, "l40s", 0) for name in names])
    # Nobody asked for anything to be done; in Apply each would be brought up to its minReplicas.
    _apply(cluster, [objects.service(name, mode="Recommend") for name in names])
    yield f"http://127.0.0.1:{port}"
    cluster.stop("operator-many")
    cluster.kubectl("delete", "ifs", "--all", f"-n={namespace}", "--wait=false")
    for manifest in cluster_wide:
        cluster.kubectl("delete", manifest["kind"], manifest["metadata"]["name"], "--wait=false")


def _apply(cluster: Cluster, manifests: list[dict[str, object]]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    cluster.kubectl("apply", "--server-side", "--filename=-", input=text, timeout_s=600)


def test_a_thousand_services_at_once_are_all_told_and_none_is_changed(
    cluster: Cluster, namespace: str, url: str
) -> None:
    api = Api(cluster.kubeconfig)
    alive = set()
    deadline = time.monotonic() + 600
    told = 0
    while told < COUNT:
        assert time.monotonic() < deadline, (told, log_tail(cluster.directory, "operator-many", 20))
        alive.add(requests.get(f"{url}/healthz", timeout=30).status_code)
        listing = api.get(IFA.format(namespace=namespace)) or {}
        told = sum(bool(item.get("status", {}).get("reason")) for item in listing["items"])
        time.sleep(1)
    deployments = api.get(DEPLOYMENTS.format(namespace=namespace)) or {}
    assert {item["metadata"]["generation"] for item in deployments["items"]} == {1}
    assert len(deployments["items"]) == COUNT
    assert alive == {200}
    metrics = requests.get(f"{url}/metrics", timeout=30).text
    unknown = re.findall(r"^inferscale_services_unknown\{.*\} (\S+)$", metrics, re.MULTILINE)
    assert sum(map(float, unknown)) == COUNT
    api.close()
