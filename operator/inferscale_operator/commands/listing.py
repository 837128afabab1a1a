"""What commands list of a cluster, and what is told when it cannot be had."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from inferscale_operator.errors import UsageError
from inferscale_operator.kube.client import UNREACHABLE, ApiError, Client
from inferscale_operator.kube.kinds import Kind

Raw = dict[str, Any]

SCALED_OBJECT = Kind("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects")


def listed(client: Client, kind: Kind, namespace: str | None = None) -> list[Raw]:
    """The objects of a kind, in the order of their names.

    Args:
        client: The API server.
        kind: Kind of the objects.
        namespace: Only those of a namespace, where the kind has namespaces; None: all.

    Raises:
        UsageError: they may not be listed, the kind is not installed, or the API server does not answer.
    """
    try:
        return _items(client, kind, namespace)
    except ApiError as error:
        raise told(error, kind, namespace) from error


def listed_if_there(client: Client, kind: Kind, namespace: str | None = None) -> list[Raw]:
    """The same, and nothing where the kind is not installed.

    Raises:
        UsageError: they may not be listed, or the API server does not answer.
    """
    try:
        return _items(client, kind, namespace)
    except ApiError as error:
        if error.status == 404:
            return []
        raise told(error, kind, namespace) from error


def told(error: ApiError, kind: Kind, namespace: str | None = None) -> UsageError:
    """An error about a listing, in words of use to a person."""
    where = f" in namespace {namespace}" if kind.namespaced and namespace else ""
    what = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    if error.status == UNREACHABLE:
        return UsageError(
            f"the API server does not answer ({error.message}): look at --kubeconfig and --context"
        )
    if error.status == 404 and kind.custom:
        return UsageError(
            f"the API server does not know {what}: install the custom resources: "
            "kubectl apply --server-side -f crds/"
        )
    if error.status in (401, 403):
        wide = "" if where or not kind.namespaced else ", or name one namespace with -n"
        scope = f" -n {namespace}" if where else " -A" if kind.namespaced else ""
        return UsageError(
            f"{what}{where} may not be listed ({error.message}): ask for the right to list them"
            f" (kubectl auth can-i list {what}{scope}){wide}"
        )
    return UsageError(f"{what}{where} cannot be listed ({error.reason}): {error.message}")


def _items(client: Client, kind: Kind, namespace: str | None) -> list[Raw]:
    answer = client.list_all(kind, namespace=namespace)
    items: Iterable[Raw] = answer.get("items") or ()
    return sorted(items, key=lambda raw: (raw["metadata"].get("namespace", ""), raw["metadata"]["name"]))
