"""Custom resource definitions that are older than the operator: told once, and not written at every tick."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import yaml

import installation
from localcluster import Cluster
from localcluster.process import free_ports, log_tail
from loop_objects import GROUP, Objects
from loop_world import install
from tape import Api

NOBODY = "http://127.0.0.1:9"
LOG = "operator-older"
CRD = installation.ROOT / "crds" / "inferscale.dev_inferenceallocations.yaml"
FIELD = "serviceClass"
"""A status field that the older definition does not have."""


@pytest.fixture(scope="module")
def url(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of an operator beside the older definition."""
    account = install(cluster, tmp_path_factory.mktemp("older"))
    older = yaml.safe_load(CRD.read_text())
    del older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"][FIELD]
    _apply(cluster, older)
    objects = Objects(namespace, namespace[-6:])
    shared = [
        objects.accelerator_profile("l40s"),
        objects.model_profile("llm", "l40s"),
        objects.service_class("standard", "llm"),
        objects.policy(),
    ]
    _apply(cluster, *shared, objects.deployment("chat", "l40s", 0), objects.service("chat", mode="Recommend"))
    [port] = free_ports(1)
    cluster.start(
        LOG,
        *(sys.executable, "-m", "inferscale_operator", f"--kubeconfig={account}"),
        *(f"--prometheus-url={NOBODY}", "--no-leader-elect", f"--listen=127.0.0.1:{port}"),
    )
    yield f"http://127.0.0.1:{port}"
    cluster.stop(LOG)
    cluster.kubectl("delete", "ifs", "--all", f"-n={namespace}", "--wait=false")
    for manifest in shared:
        cluster.kubectl("delete", manifest["kind"], manifest["metadata"]["name"], "--wait=false")
    _apply(cluster, yaml.safe_load(CRD.read_text()))


def _apply(cluster: Cluster, *manifests: dict[str, object]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", input=text)


def _wait(cluster: Cluster, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, log_tail(cluster.directory, LOG, 20)
        time.sleep(0.3)


def _definitions(url: str) -> str:
    try:
        return str(requests.get(f"{url}/readyz", timeout=30).json()["definitions"])
    except requests.RequestException:
        return ""


def _ticks(url: str) -> float:
    text = requests.get(f"{url}/metrics", timeout=30).text
    [line] = [line for line in text.splitlines() if line.startswith("inferscale_tick_seconds_count")]
    return float(line.split()[-1])


def test_a_field_that_is_not_kept_is_told_once_and_not_written_again_and_again(
    cluster: Cluster, namespace: str, url: str
) -> None:
    api = Api(cluster.kubeconfig)

    def allocation() -> dict[str, dict[str, str]]:
        found = api.get(f"apis/{GROUP}/namespaces/{namespace}/inferenceallocations/chat")
        assert found is not None
        return found

    _wait(cluster, lambda: _definitions(url) == f"do not keep: InferenceAllocation status.{FIELD}")
    before, until = allocation(), _ticks(url) + 4
    assert FIELD not in before["status"]
    _wait(cluster, lambda: _ticks(url) >= until)
    assert allocation()["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert Path(cluster.log_file(LOG)).read_text().count(f"status.{FIELD}") == 1

    _apply(cluster, yaml.safe_load(CRD.read_text()))
    # Whatever is written next finds that out.
    objects = Objects(namespace, namespace[-6:])
    modes = iter(["Paused", "Recommend"] * 100)

    def kept() -> bool:
        _apply(cluster, objects.service("chat", mode=next(modes)))
        return _definitions(url) == "keep every field"

    _wait(cluster, kept)
    assert allocation()["status"][FIELD] == objects.named("standard")
    api.close()
