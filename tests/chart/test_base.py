"""deploy/base and its overlays, against the chart and the API server."""

import pytest
import yaml

import installation
from chart_builders import Render
from inferscale_operator.kube.permissions import Permission, needed
from inferscale_operator.kube.scope import Scope
from localcluster import Cluster

LABEL = installation.LABEL


def test_the_manifests_are_what_the_chart_renders(cluster: Cluster) -> None:
    expected = installation.files(cluster.tools["helm"])
    there = {path: path.read_text("utf-8") for folder in installation.FOLDERS for path in folder.iterdir()}
    assert there == expected


@pytest.mark.parametrize(
    "overlay", sorted(path.name for path in (installation.DEPLOY / "overlays").iterdir())
)
def test_an_overlay_is_taken_by_the_api_server(cluster: Cluster, overlay: str) -> None:
    text = cluster.kubectl("kustomize", str(installation.DEPLOY / "overlays" / overlay)).stdout
    objects = [item for item in yaml.safe_load_all(text) if item]
    places = {item["metadata"].get("namespace") for item in objects} - {None, "default"}
    for place in places:
        cluster.kubectl("create", "namespace", place, check=False)
    told = cluster.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", input=text)
    assert len(told.stdout.splitlines()) == len(objects)


def granted(objects: list[dict]) -> set[Permission]:
    """What roles grant to the operator's account."""
    return {
        Permission(group, resource, verb, item["metadata"].get("namespace", ""), name)
        for item in objects
        if item["kind"] in ("ClusterRole", "Role")
        for rule in item["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", ("",))
    }


@pytest.mark.parametrize(
    ("values", "scope"),
    [
        ((), Scope(namespace_label=LABEL)),
        (("scope.namespaceLabel=",), Scope()),
        (('scope.namespaces:=["a","b"]',), Scope(("a", "b"), LABEL)),
        (
            ('scope.namespaces:=["default"]', "scope.readPods=false"),
            Scope(("default",), LABEL, all_pods=False),
        ),
    ],
)
def test_the_roles_grant_what_the_operator_says_that_it_needs_and_nothing_else(
    render: Render, values: tuple[str, ...], scope: Scope
) -> None:
    objects = render(*values, files=("clusterrole.yaml", "role.yaml"))
    assert granted(objects) == set(needed(scope, (installation.NAMESPACE, installation.ACCOUNT)))


def test_pods_are_read_somewhere(render: Render) -> None:
    with pytest.raises(AssertionError, match=r"scope.readPods=false needs scope.namespaces"):
        render("scope.readPods=false", files=("clusterrole.yaml",))
