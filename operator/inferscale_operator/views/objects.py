"""Reading objects as JSON that another version, or nobody, may have written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

Raw = Mapping[str, Any]


def key(raw: Raw) -> str:
    """`namespace/name`, or the name of what has no namespace."""
    meta = raw["metadata"]
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else str(meta["name"])


def status(raw: Raw | None) -> Raw:
    """The status; empty where there is none."""
    return (raw or {}).get("status") or {}


def spec(raw: Raw | None) -> Raw:
    """The spec; empty where there is none."""
    return (raw or {}).get("spec") or {}


def entry(allocation: Raw | None) -> Raw:
    """What an InferenceAllocation says the service has and gets; empty where it says nothing."""
    return next(iter(status(allocation).get("allocations") or ()), {})


def condition(raw: Raw, kind: str) -> Raw:
    """A condition; empty where it is not stated."""
    return next((c for c in status(raw).get("conditions") or () if c.get("type") == kind), {})


def time(text: Any) -> datetime | None:
    """A time; None where there is none that can be read."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def wire(value: Any) -> Any:
    """Fields of dataclasses under the names that JSON has here: `saved_total` is `savedTotal`."""
    if isinstance(value, Mapping):
        return {_wire_name(name): wire(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [wire(each) for each in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _wire_name(text: str) -> str:
    first, *rest = text.split("_")
    return first + "".join(part.capitalize() for part in rest)
