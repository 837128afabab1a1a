"""The life of a release on a real API server; its pods are emulated."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from chart_builders import ADDRESS, CHART, Helm, sets
from localcluster import Cluster

WAIT = ("--wait", "--timeout", "120s")


@pytest.fixture(scope="module")
def release(cluster: Cluster, helm: Helm) -> Iterator[tuple[str, str]]:
    """Name and namespace of a release that is installed as a user would."""
    name, namespace = f"live-{uuid.uuid4().hex[:6]}", f"live-system-{uuid.uuid4().hex[:6]}"
    helm(
        *("install", name, str(CHART), "-n", namespace, "--create-namespace"),
        *(*sets(ADDRESS), "--take-ownership", *WAIT),
    )
    yield name, namespace
    helm("uninstall", name, "-n", namespace, "--ignore-not-found")
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def objects(cluster: Cluster, kinds: str, release: tuple[str, str], *options: str) -> list[dict[str, Any]]:
    selector = f"--selector=app.kubernetes.io/instance={release[0]}"
    listing = cluster.kubectl("get", kinds, selector, "-ojson", *(options or ("-n", release[1])))
    return json.loads(listing.stdout)["items"]


def test_an_installed_release_is_available_with_its_custom_resources(
    cluster: Cluster, release: tuple[str, str]
) -> None:
    (deployment,) = objects(cluster, "deployments", release)
    assert deployment["status"]["availableReplicas"] == 1
    definitions = json.loads(cluster.kubectl("get", "crd", "-ojson").stdout)["items"]
    ours = [item for item in definitions if item["spec"]["group"] == "inferscale.dev"]
    assert len(ours) == 6
    assert {item["metadata"]["annotations"]["helm.sh/resource-policy"] for item in ours} == {"keep"}


def test_its_test_runs(helm: Helm, release: tuple[str, str]) -> None:
    name, namespace = release
    done = helm("test", name, "-n", namespace, "--timeout", "120s")
    assert "Succeeded" in done.stdout


def test_it_is_upgraded_and_rolled_back(cluster: Cluster, helm: Helm, release: tuple[str, str]) -> None:
    name, namespace = release
    helm("upgrade", name, str(CHART), "-n", namespace, *sets(ADDRESS, "replicas=2"), *WAIT)
    assert objects(cluster, "deployments", release)[0]["status"]["availableReplicas"] == 2
    assert objects(cluster, "poddisruptionbudgets", release)
    helm("rollback", name, "1", "-n", namespace, *WAIT)
    assert objects(cluster, "deployments", release)[0]["spec"]["replicas"] == 1
    assert not objects(cluster, "poddisruptionbudgets", release)


def test_uninstalled_it_leaves_the_custom_resources_and_nothing_else_and_can_come_back_under_another_name(
    cluster: Cluster, helm: Helm, release: tuple[str, str]
) -> None:
    name, namespace = release
    cluster.kubectl(
        *("apply", "--server-side", "-f", "-"),
        input=json.dumps(
            {
                "apiVersion": "inferscale.dev/v1alpha1",
                "kind": "ServiceClass",
                "metadata": {"name": name},
                "spec": {"priority": 1, "models": [{"model": "m", "itl": 20}]},
            }
        ),
    )
    helm("uninstall", name, "-n", namespace, "--timeout", "120s")
    kinds = "deployments,services,serviceaccounts,roles,rolebindings,jobs"
    assert objects(cluster, kinds, release) == []
    everywhere = (
        "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
    )
    assert objects(cluster, everywhere, release, "-A") == []
    cluster.kubectl("get", "serviceclass", name)
    refused = helm("install", f"{name}-new", str(CHART), "-n", namespace, *sets(ADDRESS), check=False)
    assert "invalid ownership metadata" in refused.stderr
    helm(
        *("install", f"{name}-new", str(CHART), "-n", namespace, *sets(ADDRESS)),
        *("--take-ownership", *WAIT),
    )
    cluster.kubectl("get", "serviceclass", name)
    helm("uninstall", f"{name}-new", "-n", namespace, "--timeout", "120s")
    cluster.kubectl("delete", "serviceclass", name)
