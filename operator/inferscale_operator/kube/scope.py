"""What of the cluster is read: everything, or the namespaces that were named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from inferscale_operator.kube.kinds import NAMESPACE, POD, WATCHED, Kind
from inferscale_queueing.frozen import frozen

Raw = Mapping[str, Any]


class Listing(Protocol):
    """What lists objects."""

    def list_all(self, kind: Kind, namespace: str | None = None) -> dict[str, Any]:
        """All objects of a kind, of one namespace or of the cluster."""


@frozen
class Scope:
    """Where objects are read, and where they may be changed."""

    namespaces: tuple[str, ...] = ()
    """Namespaces of the services; empty: all."""
    namespace_label: str = ""
    """Label (`key=value`) of namespaces whose Deployments may be changed; empty: of all."""
    all_pods: bool = True
    """Whether the pods of other namespaces are read too."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that are read."""
        return (*WATCHED, NAMESPACE) if self.namespace_label else WATCHED

    def confines(self, kind: Kind) -> bool:
        """Whether objects of a kind are read in the namespaces alone."""
        return bool(self.namespaces) and kind.namespaced and not (kind is POD and self.all_pods)

    def places(self, kind: Kind) -> tuple[str | None, ...]:
        """The namespaces in which objects of a kind are read; None stands for the cluster."""
        return self.namespaces if self.confines(kind) else (None,)

    def list_all(self, client: Listing, kind: Kind) -> Raw:
        """All objects of a kind that are read, as one listing as old as its oldest part.

        Raises:
            ApiError: a listing was refused or there was no answer.
        """
        parts = [client.list_all(kind, place) for place in self.places(kind)]
        if len(parts) == 1:
            return parts[0]
        version = min(int(part["metadata"]["resourceVersion"]) for part in parts)
        items = [item for part in parts for item in part.get("items") or ()]
        return {"metadata": {"resourceVersion": str(version)}, "items": items}

    def lacks_label(self, labels: Mapping[str, str] | None) -> str:
        """The label that a namespace (None: it is not known) must carry and does not; empty: none."""
        if not self.namespace_label:
            return ""
        key, _, value = self.namespace_label.partition("=")
        return "" if labels is not None and labels.get(key) == value else self.namespace_label
