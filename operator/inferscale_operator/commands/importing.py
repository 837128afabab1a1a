"""`inferscale import`: custom resources of planning files, or for what runs already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from inferscale_operator.commands.access import connect
from inferscale_operator.commands.listing import SCALED_OBJECT, listed, listed_if_there
from inferscale_operator.commands.plan import FILE, files_in
from inferscale_operator.commands.writing import write_new
from inferscale_operator.errors import UsageError
from inferscale_operator.kube.client import Client
from inferscale_operator.kube.kinds import (
    ACCELERATOR_PROFILE,
    AUTOSCALER,
    DEPLOYMENT,
    INFERENCE_SERVICE,
    MODEL_PROFILE,
    NODE,
    SERVICE_CLASS,
)
from inferscale_operator.migration.from_cluster import Cluster, propose, summary
from inferscale_operator.migration.from_files import Hints, from_deck, memory
from inferscale_operator.migration.manifests import Manifest, as_json, as_yaml
from inferscale_operator.planning.reading import read_deck
from inferscale_operator.settings import ENV_PREFIX


@click.command("import")
@click.argument("directory", metavar="[DIR]", required=False, type=FILE)
@click.option("--from-cluster", is_flag=True, help="Propose resources for vLLM, SGLang and TGI Deployments.")
@click.option(
    "-n", "--namespace", metavar="NAME", help="Namespace of the services; --from-cluster: only this one."
)
@click.option("-A", "--all-namespaces", is_flag=True, help="With --from-cluster: all namespaces.")
@click.option("--service-class", metavar="NAME", help="With --from-cluster: ServiceClass of the services.")
@click.option(
    "--resource", "resources", multiple=True, metavar="TYPE=NAME", help="Extended resource; repeatable."
)
@click.option(
    "--node-selector", "selectors", multiple=True, metavar="TYPE=KEY=VALUE", help="Node label; repeatable."
)
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", help="Form [yaml].")
@click.option("--output-dir", type=FILE, metavar="FOLDER", help="Write a file for each kind into FOLDER.")
@click.option(
    "--kubeconfig", envvar=f"{ENV_PREFIX}_KUBECONFIG", type=FILE, metavar="FILE", help="Kubeconfig file."
)
@click.option("--context", envvar=f"{ENV_PREFIX}_CONTEXT", metavar="NAME", help="Its context.")
def import_(
    directory: Path | None,
    from_cluster: bool,
    namespace: str | None,
    all_namespaces: bool,
    service_class: str | None,
    resources: Sequence[str],
    selectors: Sequence[str],
    output: str,
    output_dir: Path | None,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    """Make custom resources of the files of `inferscale plan` in DIR, or for Deployments that run already.

    Nothing in the cluster is changed: look at what is printed, then apply it. InferenceServices are in mode
    Recommend. What cannot be carried over is told on stderr.
    """
    if from_cluster == (directory is not None):
        raise UsageError("give the folder of the files, or --from-cluster")
    if not from_cluster and (all_namespaces or service_class):
        flag = "--all-namespaces" if all_namespaces else "--service-class"
        raise UsageError(f"{flag} goes with --from-cluster")
    if directory is not None:
        files = files_in(directory)
        deck = read_deck(files)
        hints = Hints(_resources(resources), _selectors(selectors), namespace)
        imported = from_deck(deck, memory(files.accelerators), hints)
        manifests = imported.manifests
        for line in imported.left_out:
            click.echo(f"Not carried over: {line}.", err=True)
    else:
        if resources or selectors:
            raise UsageError("--resource and --node-selector go with DIR")
        if namespace and all_namespaces:
            raise UsageError("--namespace and --all-namespaces: give one of them")
        client = connect(kubeconfig, context)
        where = None if all_namespaces else namespace or "default"
        proposal = propose(_cluster(client, where), service_class)
        manifests = proposal.manifests
        click.echo(f"{summary(proposal)} in {where or 'all namespaces'}.", err=True)
        for line in proposal.passed_over:
            click.echo(f"Passed over {line}.", err=True)
    _write(manifests, output, output_dir)


def _write(manifests: Sequence[Manifest], output: str, folder: Path | None) -> None:
    form = as_json if output == "json" else as_yaml
    if output == "json":
        for manifest in manifests:
            for remark in manifest.remarks:
                click.echo(f"{manifest.kind} {manifest.name}: {remark}", err=True)
    if folder is None:
        click.echo(form(manifests), nl=False)
        return
    kinds = dict.fromkeys(manifest.kind for manifest in manifests)
    write_new(
        folder,
        {
            f"{kind.lower()}.{output}": form([each for each in manifests if each.kind == kind])
            for kind in kinds
        },
    )


def _cluster(client: Client, namespace: str | None) -> Cluster:
    return Cluster(
        deployments=listed(client, DEPLOYMENT, namespace),
        autoscalers=listed(client, AUTOSCALER, namespace),
        scaled_objects=listed_if_there(client, SCALED_OBJECT, namespace),
        nodes=listed(client, NODE),
        accelerator_profiles=listed_if_there(client, ACCELERATOR_PROFILE),
        model_profiles=listed_if_there(client, MODEL_PROFILE),
        service_classes=listed_if_there(client, SERVICE_CLASS),
        services=listed_if_there(client, INFERENCE_SERVICE, namespace),
    )


def _resources(texts: Sequence[str]) -> Mapping[str, str]:
    found = {}
    for text in texts:
        kind, separator, name = text.partition("=")
        if not kind or not separator or "/" not in name:
            raise UsageError(f"--resource {text}: must be TYPE=NAME, such as H100=nvidia.com/gpu")
        found[kind] = name
    return found


def _selectors(texts: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        kind, _, label = text.partition("=")
        key, separator, value = label.partition("=")
        if not kind or not key or not separator:
            raise UsageError(
                f"--node-selector {text}: must be TYPE=KEY=VALUE, such as"
                " H100=nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3"
            )
        found.setdefault(kind, {})[key] = value
    return found
