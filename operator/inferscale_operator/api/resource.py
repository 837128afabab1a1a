"""What a kind of custom resource is beyond its fields: names, scope, columns of `kubectl get`."""

from __future__ import annotations

from typing import Literal

from inferscale_operator.api.base import GROUP, Schema
from inferscale_queueing.frozen import frozen


@frozen
class Column:
    """A column of `kubectl get`."""

    name: str
    path: str
    """JSON path from the root of the object."""
    type: Literal["string", "integer", "number", "date"] = "string"
    description: str = ""
    wide: bool = False
    """Whether only `-o wide` shows it."""


AGE = Column("Age", ".metadata.creationTimestamp", "date", "Time since the object was created.")
READY = Column(
    "Ready", '.status.conditions[?(@.type=="Ready")].status', "string", "Whether it is valid and in use."
)


@frozen
class Resource:
    """A kind of custom resource of the group."""

    kind: str
    plural: str
    short_names: tuple[str, ...]
    namespaced: bool
    spec: type[Schema]
    status: type[Schema]
    columns: tuple[Column, ...]
    only_name: str | None = None
    """The one name that is accepted; none: any."""

    @property
    def singular(self) -> str:
        """Name of one object on the command line."""
        return self.kind.lower()

    @property
    def full_name(self) -> str:
        """Name of the CustomResourceDefinition, such as `serviceclasses.inferscale.dev`."""
        return f"{self.plural}.{GROUP}"
