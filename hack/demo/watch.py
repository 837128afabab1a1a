"""What the demo shows while it runs: the operator's events as they come, and the allocations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubernetes.client import ApiClient, CoreV1Api, CustomObjectsApi
from kubernetes.config import new_client_from_config
from rich.table import Table

from demo.world import World

COLUMNS = (
    ("SERVICE", "left"),
    ("MODEL", "left"),
    ("CLASS", "left"),
    ("ACCELERATOR", "left"),
    ("CURRENT", "right"),
    ("DESIRED", "right"),
    ("BATCH", "right"),
    ("COST/H", "right"),
    ("REQ/MIN", "right"),
    ("ITL", "right"),
    ("OBS", "right"),
    ("TTFT", "right"),
    ("OBS", "right"),
    ("REASON", "left"),
)
WIDE = 125
"""Characters of a terminal that shows all columns."""


@dataclass(frozen=True)
class Seen:
    """An event of a service."""

    at: datetime
    service: str
    reason: str
    message: str


class Watch:
    """Reads what the operator writes, as anybody could with kubectl."""

    def __init__(self, world: World) -> None:
        self._client: ApiClient = new_client_from_config(str(world.cluster.kubeconfig))
        self._uids: set[str] = set()

    def events(self) -> list[Seen]:
        """Events of InferenceServices that were not returned before, in the order in which they were sent."""
        found = []
        events = CoreV1Api(self._client).list_event_for_all_namespaces().items
        for event in sorted(events, key=lambda e: int(e.metadata.resource_version)):
            if event.involved_object.kind != "InferenceService" or event.metadata.uid in self._uids:
                continue
            self._uids.add(event.metadata.uid)
            at = event.first_timestamp or event.event_time or event.metadata.creation_timestamp
            found.append(Seen(at, event.involved_object.name, event.reason, event.message))
        return found

    def allocations(self) -> list[dict[str, Any]]:
        """The InferenceAllocations, by name."""
        answer = CustomObjectsApi(self._client).list_cluster_custom_object(
            "inferscale.dev", "v1alpha1", "inferenceallocations"
        )
        return sorted(answer["items"], key=lambda item: str(item["metadata"]["name"]))


def table(allocations: list[dict[str, Any]], title: str, width: int) -> Table:
    """The allocations as kubectl shows them; without the model where there is no room for it."""
    result = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    narrow = width < WIDE
    for name, justify in COLUMNS:
        if narrow and name == "MODEL":
            continue
        result.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for item in allocations:
        status = item.get("status") or {}
        entry = (status.get("allocations") or [{}])[0]
        load = status.get("load") or {}
        result.add_row(
            item["metadata"]["name"],
            *([] if narrow else [status.get("model", "")]),
            status.get("serviceClass", ""),
            entry.get("accelerator", ""),
            *(_number(entry.get(k), 0) for k in ("currentReplicas", "desiredReplicas", "maxBatch")),
            _number(entry.get("cost"), 2),
            _number(load.get("arrivalRate"), 0),
            *(_number(entry.get(k), 1) for k in ("predictedItl", "observedItl")),
            *(_number(entry.get(k), 0) for k in ("predictedTtft", "observedTtft")),
            status.get("reason", ""),
        )
    return result


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
