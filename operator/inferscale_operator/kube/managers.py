"""Field managers: who wrote which part of a Deployment, by its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferscale_operator.api.base import FIELD_MANAGER
from inferscale_operator.api.inference_allocation import RevertedField

Raw = Mapping[str, Any]


def _owned(entry: Raw) -> Raw:
    """What a field manager owns of a spec."""
    fields: Raw = (entry.get("fieldsV1") or {}).get("f:spec") or {}
    return fields


def we_own(meta: Raw, field: str) -> bool:
    """Whether our field manager owns a field of the spec, such as `f:paused`."""
    return any(
        entry.get("manager") == FIELD_MANAGER and field in _owned(entry)
        for entry in meta.get("managedFields") or ()
    )


def template_writer(meta: Raw) -> str:
    """Who but us wrote to the pod template last; empty: nobody did."""
    others = [
        (entry.get("time") or "", entry.get("manager") or "")
        for entry in meta.get("managedFields") or ()
        if entry.get("manager") != FIELD_MANAGER and "f:template" in _owned(entry)
    ]
    return max(others, default=("", ""))[1]


def writers(meta: Raw) -> dict[str, str]:
    """Who but us owns the replicas and the placement of the pods: the last one to write each.

    Returns:
        Field managers by part; a part that nobody else owns is left out.
    """
    found: dict[str, tuple[str, str]] = {}
    for entry in meta.get("managedFields", ()):
        if entry.get("manager") == FIELD_MANAGER or entry.get("subresource") == "status":
            continue
        spec = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        pods = (spec.get("f:template") or {}).get("f:spec") or {}
        written = (entry.get("time", ""), entry.get("manager", ""))
        for part, owns in (
            (RevertedField.REPLICAS.value, "f:replicas" in spec),
            (RevertedField.TEMPLATE.value, "f:nodeSelector" in pods),
        ):
            if owns:
                found[part] = max(found.get(part, written), written)
    return {part: manager for part, (_, manager) in sorted(found.items())}
