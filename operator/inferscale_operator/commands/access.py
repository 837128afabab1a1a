"""Options and look-ups of the commands that read a cluster as the person who calls them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from inferscale_operator.errors import UsageError
from inferscale_operator.kube.client import UNREACHABLE, ApiError, Client, load_configuration
from inferscale_operator.kube.kinds import INFERENCE_ALLOCATION, Kind
from inferscale_operator.settings import ENV_PREFIX

Command = TypeVar("Command", bound=Callable[..., Any])
HOME_KUBECONFIG = Path(".kube", "config")


def cluster_options(command: Command) -> Command:
    """Add --namespace, --kubeconfig and --context."""
    for option in (
        click.option("--context", envvar=f"{ENV_PREFIX}_CONTEXT", metavar="NAME", help="Its context."),
        click.option(
            "--kubeconfig",
            envvar=f"{ENV_PREFIX}_KUBECONFIG",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Kubeconfig file; none: $KUBECONFIG, ~/.kube/config, or the account of the pod.",
        ),
        click.option("-n", "--namespace", metavar="NAME", help="Namespace of the service [default]."),
    ):
        command = option(command)
    return command


def connect(kubeconfig: Path | None, context: str | None) -> Client:
    """A client of the API server that a person means.

    Raises:
        UsageError: the kubeconfig cannot be used, or there is none.
    """
    return Client(load_configuration(kubeconfig or found_kubeconfig(), context))


def names(service: str, namespace: str | None) -> tuple[str, str]:
    """Namespace and name of a service that is given as `NAME` or `NAMESPACE/NAME`.

    Raises:
        UsageError: the namespace is given twice, and not the same.
    """
    before, separator, name = service.rpartition("/")
    if separator and namespace not in (None, before):
        raise UsageError(f"{service} is in namespace {before} and --namespace says {namespace}: give one")
    found = before if separator else namespace or "default"
    if not found or not name or "/" in found:
        raise UsageError(f"{service!r} is no name of a service: give NAME -n NAMESPACE, or NAMESPACE/NAME")
    return found, name


def read(client: Client, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
    """An object, or in words of use to a person why it cannot be had.

    Raises:
        UsageError: it is not there, may not be read, or the API server does not answer.
    """
    try:
        return client.get(kind, namespace, name)
    except ApiError as error:
        raise told(error, kind, namespace, name) from error


def told(error: ApiError, kind: Kind, namespace: str, name: str) -> UsageError:
    """An error of the API server about an object, in words of use to a person."""
    what = f"{kind.name} {name} in namespace {namespace}"
    if error.status == 404:
        remedy = "is there an InferenceService of that name, and does the operator run?"
        if kind is not INFERENCE_ALLOCATION:
            remedy = f"`kubectl get {kind.plural} -A` has all"
        return UsageError(f"there is no {what}: {remedy}")
    if error.status in (401, 403):
        return UsageError(f"{what}: the API server does not allow it: {error.message}")
    if error.status == UNREACHABLE:
        return UsageError(f"the API server does not answer: {error.message}")
    return UsageError(f"{what}: the API server refused ({error.reason}): {error.message}")


def found_kubeconfig() -> Path | None:
    """The kubeconfig that kubectl would use; None: there is none."""
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    if named:
        return Path(named)
    at_home = Path.home() / HOME_KUBECONFIG
    return at_home if at_home.exists() else None
