"""Constraints that a JSON schema cannot say alone, declared once for pydantic and for the API server."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from inferscale_queueing.frozen import frozen


@frozen
class Rule:
    """A rule between the fields of one object, in CEL for the API server and in Python for everyone else."""

    cel: str
    """CEL expression over `self` that is true when the object is right."""
    holds: Callable[[Any], bool]
    """The same over the pydantic model."""
    message: str
    """What is wrong and what would be right."""
    field: str | None = None
    """Name on the wire of the field to blame; none: the object."""

    def validation(self) -> dict[str, str]:
        """The rule as an entry of `x-kubernetes-validations`."""
        entry = {"rule": self.cel, "message": self.message}
        return entry | ({"fieldPath": f".{self.field}"} if self.field is not None else {})


@frozen
class Keyed:
    """Marks a list of objects as a map by one of their fields: no two with the same."""

    key: str
    """Name of the field, the same on the wire and in Python."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate the list, then that its keys differ."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Mark the list for the API server."""
        return handler(schema) | {
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": [self.key],
        }

    def _check(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(items) > 1:
            _refuse_duplicates(self.key, [getattr(item, self.key) for item in items])
        return items


@frozen
class Distinct:
    """Marks a list of scalars as a set: no value twice."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate the list, then that its values differ."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Mark the list for the API server."""
        return handler(schema) | {"x-kubernetes-list-type": "set"}

    def _check(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        _refuse_duplicates("value", items)
        return items


def _refuse_duplicates(name: str, values: list[Any] | tuple[Any, ...]) -> None:
    if len(set(values)) == len(values):
        return
    seen: set[Hashable] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{name} {value!r} is listed twice; list it once")
        seen.add(value)
