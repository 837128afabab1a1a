"""`inferscale status`: whether the operator is there and well, and what holds each service back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from inferscale_operator.api import RESOURCES
from inferscale_operator.api.optimizer_policy import POLICY_NAME
from inferscale_operator.commands.access import cluster_options, connect
from inferscale_operator.commands.listing import told
from inferscale_operator.errors import UsageError
from inferscale_operator.kube.client import UNREACHABLE, ApiError, Client
from inferscale_operator.kube.kinds import (
    DEPLOYMENT,
    INFERENCE_ALLOCATION,
    INFERENCE_SERVICE,
    LEASE,
    OPTIMIZER_POLICY,
    Kind,
)
from inferscale_operator.planning.output import as_json
from inferscale_operator.views.health import Health, Refused, Seen, ServiceHealth, health
from inferscale_operator.views.objects import Raw, wire

PIPED_WIDTH = 160
NOT_WELL = 1
DEFINITION = Kind(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
NAME_LABEL, NAME = "app.kubernetes.io/name", "inferscale"
MARKS = {
    True: Text("well", style="green"),
    False: Text("not well", style="bold red"),
    None: Text("not known", style="yellow"),
}


@click.command("status")
@cluster_options
@click.option(
    "--operator-namespace", default="inferscale-system", metavar="NAME", help="Where the operator runs."
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Form [table].")
def status_command(
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    operator_namespace: str,
    output: str,
) -> None:
    """Say whether the operator is there and well, and what holds each service back.

    Without -n the services of all namespaces. Exits with 0 when all is well, with 1 when something is not.
    """
    found = health(_seen(connect(kubeconfig, context), namespace, operator_namespace))
    if output == "json":
        click.echo(as_json({"well": found.well, **wire(asdict(found))}))
    else:
        width = None if sys.stdout.isatty() else PIPED_WIDTH
        Console(width=width, highlight=False, markup=False, emoji=False).print(tables(found))
    if not found.well:
        sys.exit(NOT_WELL)


def tables(found: Health) -> Group:
    """The checks, and the services."""
    checks = Table("Check", "", "What is seen")
    for check in found.checks:
        checks.add_row(check.name, MARKS[check.well], Text(check.message))
    services = Table("Service", "Mode", "Ready", "Accelerator", "Replicas", "Reason", "Held back by")
    for service in found.services:
        services.add_row(*_row(service))
    parts = [checks, services] if found.services else [checks]
    return Group(*parts, Text("All is well." if found.well else _summary(found)))


def _row(service: ServiceHealth) -> Sequence[Text]:
    replicas = "-" if service.replicas is None else str(service.replicas)
    if service.desired not in (None, service.replicas):
        replicas += f" → {service.desired}"
    return (
        Text(service.key),
        Text(service.mode),
        Text("yes", style="green") if service.ready else Text("no", style="bold red"),
        Text(service.accelerator or "-"),
        Text(replicas),
        Text(service.reason),
        Text(service.held_back or "-"),
    )


def _summary(found: Health) -> str:
    wrong = [check.name for check in found.checks if check.well is False]
    waiting = sum(not service.ready for service in found.services)
    parts = wrong + ([f"{waiting} of {len(found.services)} services"] if waiting else [])
    return f"Not well: {', '.join(parts)}."


def _seen(client: Client, namespace: str | None, operator_namespace: str) -> Seen:
    now = datetime.now(UTC)
    definitions = {each.full_name: _read(client, DEFINITION, None, each.full_name) for each in RESOURCES}
    deployments = _operators(client, operator_namespace)
    lease: Raw | Refused | None = None
    if not isinstance(deployments, Refused):
        for each in deployments:
            where, name = each["metadata"]["namespace"], each["metadata"]["name"]
            for candidate in dict.fromkeys((name, NAME)):
                lease = lease or _read(client, LEASE, where, candidate)
    policy = _read(client, OPTIMIZER_POLICY, None, POLICY_NAME)
    services = _listed(client, INFERENCE_SERVICE, namespace)
    allocations = _listed(client, INFERENCE_ALLOCATION, namespace)
    return Seen(
        now=now,
        definitions=definitions,
        deployments=deployments,
        lease=None if isinstance(lease, Refused) else lease,
        policy=None if isinstance(policy, Refused) else policy,
        services=services,
        allocations=() if isinstance(allocations, Refused) else allocations,
    )


def _operators(client: Client, namespace: str) -> Sequence[Raw] | Refused:
    """The operator's Deployments, wherever they are; where all may not be listed, in its own namespace."""
    found = _listed(client, DEPLOYMENT, None)
    if isinstance(found, Refused):
        found = _listed(client, DEPLOYMENT, namespace)
    if isinstance(found, Refused):
        return found
    return [each for each in found if (each["metadata"].get("labels") or {}).get(NAME_LABEL) == NAME]


def _listed(client: Client, kind: Kind, namespace: str | None) -> Sequence[Raw] | Refused:
    try:
        return list(client.list_all(kind, namespace=namespace).get("items") or ())
    except ApiError as error:
        return _refused(error, kind, namespace)


def _read(client: Client, kind: Kind, namespace: str | None, name: str) -> Raw | Refused | None:
    try:
        return client.get(kind, namespace, name)
    except ApiError as error:
        return None if error.status == 404 else _refused(error, kind, namespace)


def _refused(error: ApiError, kind: Kind, namespace: str | None) -> Refused:
    """What could not be read; without an API server there is nothing to say.

    Raises:
        UsageError: the API server does not answer.
    """
    in_words: UsageError = told(error, kind, namespace)
    if error.status == UNREACHABLE:
        raise in_words from error
    return Refused(str(in_words))
