"""What the API server lets the operator's account change, with the chart's admission policy in force."""

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from chart_builders import Render
from localcluster import Cluster

Patch = Callable[..., subprocess.CompletedProcess[str]]

ACCOUNT = "inferscale"
LABELS = {"open-to": "inferscale"}


def deployment(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [
                        {
                            "name": "server",
                            "image": "vllm/vllm-openai:v0.12.0",
                            "env": [{"name": "MODE", "value": "a"}],
                            "resources": {
                                "limits": {"cpu": "4", "nvidia.com/gpu": "1"},
                                "requests": {"cpu": "1"},
                            },
                        },
                        {"name": "sidecar", "image": "busybox:1"},
                    ],
                },
            },
        },
    }


@pytest.fixture(scope="module")
def places(cluster: Cluster, render: Render) -> Iterator[tuple[str, str, str]]:
    """The operator's own namespace, one that is open to it and one that is not, with the policy in force."""
    system, opened, closed = (f"{name}-{uuid.uuid4().hex[:6]}" for name in ("system", "opened", "closed"))
    for name in (system, opened, closed):
        cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", opened, "inferscale.dev/managed=true")
    objects = render(
        'admissionPolicy.images:=["rocm/vllm","registry.example:5000/vllm"]',
        "admissionPolicy.deploymentLabel=open-to=inferscale",
        files=("serviceaccount.yaml", "clusterrole.yaml", "admissionpolicy.yaml"),
    )
    text = yaml.safe_dump_all(objects).replace("inferscale-system", system)
    cluster.kubectl("apply", "--server-side", "-f", "-", input=text)
    for name in (opened, closed):
        cluster.kubectl("create", "-n", name, "-f", "-", input=json.dumps(deployment("chat", LABELS)))
    cluster.kubectl("create", "-n", opened, "-f", "-", input=json.dumps(deployment("other", {})))
    # kubectl reads what it patches; the operator has a watch for that.
    account = f"--serviceaccount={system}:{ACCOUNT}"
    for name in (opened, closed):
        cluster.kubectl("create", "rolebinding", "view", "--clusterrole=view", account, "-n", name)
    yield system, opened, closed
    cluster.kubectl("delete", "-f", "-", "--ignore-not-found", input=text)
    for name in (system, opened, closed):
        cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def patch(cluster: Cluster, places: tuple[str, str, str], tmp_path_factory: pytest.TempPathFactory) -> Patch:
    """Patches a Deployment as the operator's account; nothing is kept (server-side dry run)."""
    system, opened, closed = places
    kubeconfig = cluster.service_account_kubeconfig(
        system, ACCOUNT, tmp_path_factory.mktemp("account") / "kubeconfig"
    )
    namespaces = {"opened": opened, "closed": closed}

    def run(
        body: dict[str, Any], name: str = "chat", where: str = "opened"
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                cluster.tools["kubectl"],
                f"--kubeconfig={kubeconfig}",
                "patch",
                "deployment",
                name,
                f"--namespace={namespaces[where]}",
                "--dry-run=server",
                "--type=strategic",
                f"--patch={json.dumps(body)}",
            ],
            check=False,
            capture_output=True,
            text=True,
        )

    eventually_in_force(run)
    return run


def eventually_in_force(run: Patch) -> None:
    """The API server takes up a new policy within seconds."""
    deadline = time.monotonic() + 60
    while "Inferscale" not in run({"metadata": {"labels": {"probe": "x"}}}).stderr:
        assert time.monotonic() < deadline, "the policy is not in force"
        time.sleep(0.2)


def pod(**fields: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": fields}}}


def server(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "server", **fields}])


OWNED = {
    "replicas": {"spec": {"replicas": 3}},
    "strategy and paused": {
        "spec": {
            "paused": True,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}},
        }
    },
    "node selector and tolerations": pod(
        nodeSelector={"gpu": "h100"}, tolerations=[{"key": "gpu", "operator": "Exists"}]
    ),
    "runtime class": pod(runtimeClassName="nvidia"),
    "another accelerator": server(resources={"limits": {"nvidia.com/gpu": None, "amd.com/gpu": "2"}}),
    "plain variables and arguments": server(
        args=["--max-num-seqs=64"], env=[{"name": "MAX_NUM_SEQS", "value": "64"}]
    ),
    "an image that is allowed": server(image="rocm/vllm:v1"),
    "an image that is allowed, by digest": server(image=f"rocm/vllm@sha256:{'0' * 64}"),
    "an image of a registry with a port": server(image="registry.example:5000/vllm:v1"),
}

FOREIGN = {
    "an image": (server(image="evil/miner:latest"), "admissionPolicy.images"),
    "an image with a name that begins like one that is allowed": (
        server(image="rocm/vllm-miner:latest"),
        "admissionPolicy.images",
    ),
    "an image of the sidecar": (
        pod(containers=[{"name": "sidecar", "image": "evil/miner"}]),
        "admissionPolicy.images",
    ),
    "a command": (server(command=["sh"]), "of a container"),
    "a variable from a secret": (
        server(env=[{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
        "nothing from secrets",
    ),
    "variables from a secret": (server(envFrom=[{"secretRef": {"name": "s"}}]), "of a container"),
    "a security context": (server(securityContext={"privileged": True}), "of a container"),
    "a volume": (pod(volumes=[{"name": "v", "secret": {"secretName": "s"}}]), "of a pod"),
    "the account": (pod(serviceAccountName="admin"), "of a pod"),
    "the host's network": (pod(hostNetwork=True), "of a pod"),
    "an init container": (pod(initContainers=[{"name": "i", "image": "evil/miner"}]), "of a pod"),
    "one more container": (pod(containers=[{"name": "more", "image": "rocm/vllm:v1"}]), "neither adds"),
    "cpu": (server(resources={"requests": {"cpu": "2"}}), "not cpu or memory"),
    "a limit of memory": (server(resources={"limits": {"memory": "1Gi"}}), "not cpu or memory"),
    "no limit of cpu": (server(resources={"limits": {"cpu": None}}), "not cpu or memory"),
    "labels": ({"metadata": {"labels": {"a": "b"}}}, "metadata"),
    "annotations": ({"metadata": {"annotations": {"a": "b"}}}, "metadata"),
    "labels of the pods": ({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}, "pod template"),
    "the history limit": ({"spec": {"revisionHistoryLimit": 1}}, "pod template"),
}


@pytest.mark.parametrize("case", OWNED)
def test_what_the_operator_owns_may_be_changed(patch: Patch, case: str) -> None:
    done = patch(OWNED[case])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("case", FOREIGN)
def test_what_it_does_not_own_is_refused(patch: Patch, case: str) -> None:
    body, message = FOREIGN[case]
    done = patch(body)
    assert done.returncode != 0
    assert "ValidatingAdmissionPolicy" in done.stderr
    assert message in done.stderr


def test_a_deployment_of_a_namespace_that_is_not_open_is_refused(patch: Patch) -> None:
    done = patch({"spec": {"replicas": 3}}, where="closed")
    assert "is not open to Inferscale: label it inferscale.dev/managed=true" in done.stderr


def test_a_deployment_without_the_label_is_refused(patch: Patch) -> None:
    done = patch({"spec": {"replicas": 3}}, name="other")
    assert "the Deployment other is not open to Inferscale: label it open-to=inferscale" in done.stderr


def test_other_accounts_are_not_confined(cluster: Cluster, places: tuple[str, str, str]) -> None:
    _, _, closed = places
    cluster.kubectl(
        "patch",
        "deployment",
        "chat",
        "-n",
        closed,
        "--dry-run=server",
        "-p",
        json.dumps(server(image="any:1")),
    )


def test_the_role_has_no_wildcards_deletes_nothing_and_reads_no_secrets(render: Render) -> None:
    for item in render(files=("clusterrole.yaml",)):
        for rule in item.get("rules", ()):
            assert not {"*", "delete", "deletecollection", "update"} & set(rule["verbs"])
            assert "*" not in rule["resources"] + rule["apiGroups"]
            assert "secrets" not in rule["resources"]
