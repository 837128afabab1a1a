"""What the Helm chart installs, for a cluster whose pods are emulated: all but the operator's Deployment.

The operator runs as a process there, under the chart's account and with its admission policy in force.
`python hack/installation.py` writes the manifests below deploy/ for those who have no Helm; with `--check` it
fails if they are not up to date.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from localcluster import tools
from localcluster.cluster import Cluster
from localcluster.errors import ToolsUnavailableError

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "inferscale"
DEPLOY = ROOT / "deploy"
FOLDERS: Mapping[Path, tuple[str, ...]] = {
    DEPLOY / "base": (),
    DEPLOY / "overlays" / "single-namespace": ("scope.namespaces={chat}", "scope.readPods=false"),
}
"""Folders of manifests for kustomize, with the values that they are rendered with."""
NAMESPACE = "inferscale-system"
ACCOUNT = "inferscale"
LABEL = "inferscale.dev/managed=true"
"""Of namespaces that are open to the operator."""
PROMETHEUS = "http://prometheus.monitoring:9090"
COMMAND = "python hack/installation.py"
HOOK = "helm.sh/hook"
OF_HELM = ("helm.sh/chart", "app.kubernetes.io/managed-by")
NOT_IN_BASE = ("settle.enabled=false", "crds.install=false", "metrics.dashboard.enabled=false")

Object = dict[str, Any]


def render(helm: Path, *values: str) -> list[Object]:
    """The objects that the chart renders with some values, hooks not included."""
    options = [part for value in values for part in ("--set", value)]
    done = subprocess.run(
        [helm, "template", ACCOUNT, CHART, "-n", NAMESPACE, f"--set=prometheus.url={PROMETHEUS}", *options],
        check=True,
        capture_output=True,
        text=True,
    )
    found = [item for item in yaml.safe_load_all(done.stdout) if item]
    return [item for item in found if HOOK not in item["metadata"].get("annotations", {})]


def install(
    cluster: Cluster,
    directory: Path,
    *,
    images: Iterable[str] = (),
    namespaces: Iterable[str] = (),
    more: Iterable[str] = (),
) -> Path:
    """Install the custom resources and what the operator's process needs.

    Args:
        cluster: Where.
        directory: For the kubeconfig.
        images: Those that variants may set.
        namespaces: `scope.namespaces` of the chart.
        more: Other values, as `name=value`.

    Returns:
        A kubeconfig of the operator's account.
    """
    cluster.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={ROOT / 'crds'}")
    cluster.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=30s")
    values = [
        *NOT_IN_BASE,
        *_listed("admissionPolicy.images", images),
        *_listed("scope.namespaces", namespaces),
        *more,
    ]
    objects = [item for item in render(cluster.tools["helm"], *values) if item["kind"] != "Deployment"]
    text = yaml.safe_dump_all([_namespace(), *objects])
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", input=text)
    return cluster.service_account_kubeconfig(NAMESPACE, ACCOUNT, directory / "operator.kubeconfig")


def files(helm: Path) -> dict[Path, str]:
    """Content of every generated file below deploy/, by its path."""
    header = f"# Generated from charts/inferscale by `{COMMAND}`; do not edit.\n"
    found = {}
    for folder, values in FOLDERS.items():
        by_kind: dict[str, list[Object]] = {"namespace": [_namespace()]}
        for item in render(helm, *NOT_IN_BASE, *values):
            by_kind.setdefault(item["kind"].lower(), []).append(_without_helm(item))
        by_kind["kustomization"] = [
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [f"{kind}.yaml" for kind in by_kind],
            }
        ]
        for kind, items in by_kind.items():
            found[folder / f"{kind}.yaml"] = header + yaml.safe_dump_all(items, sort_keys=False, width=110)
    return found


def _listed(name: str, items: Iterable[str]) -> list[str]:
    found = list(items)
    return [f"{name}={{{','.join(found)}}}"] if found else []


def _namespace() -> Object:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def _without_helm(value: Any) -> Any:
    """The same without labels that say that Helm manages it."""
    if isinstance(value, Mapping):
        return {key: _without_helm(part) for key, part in value.items() if key not in OF_HELM}
    return [_without_helm(part) for part in value] if isinstance(value, list) else value


def main() -> None:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a file differs")
    options = parser.parse_args()
    try:
        helm = tools.ensure(("helm",), print)["helm"]
    except ToolsUnavailableError as error:
        print(f"deploy/ is left as it is: there is no Helm here: {error}")
        return
    expected = files(helm)
    stale = [path for folder in FOLDERS for path in folder.glob("*") if path not in expected]
    differing = [
        path for path, text in expected.items() if not path.exists() or path.read_text("utf-8") != text
    ]
    if options.check and (stale or differing):
        names = ", ".join(str(path.relative_to(ROOT)) for path in (*stale, *differing))
        raise SystemExit(f"not up to date, run `{COMMAND}`: {names}")
    for path in stale:
        path.unlink()
    for path in differing:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(expected[path], encoding="utf-8")


if __name__ == "__main__":
    main()
