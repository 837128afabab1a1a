"""What is written to the API server, one request a function, and when a status is worth a write."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from itertools import repeat
from typing import Any
from uuid import uuid4

from inferscale_operator.api.base import API_VERSION, FIELD_MANAGER, GROUP, Schema
from inferscale_operator.kube.client import Client, PatchType
from inferscale_operator.kube.kinds import (
    DEPLOYMENT,
    EVENT,
    INFERENCE_ALLOCATION,
    INFERENCE_SERVICE,
    KIND_BY_NAME,
    Kind,
)
from inferscale_operator.kube.parse import DEPLOYMENT_ANNOTATION, AllocationRecord
from inferscale_operator.kube.stores import Answer
from inferscale_operator.plan import DeploymentPatch, EventNote, ObjectRef

FINALIZER = f"{GROUP}/move"
"""On an InferenceAllocation exactly while a move is recorded in it: its deletion would take the record away
and leave the Deployment paused."""

FIGURES_EVERY_S = 60.0
"""Figures alone are written at most this often."""
TIMES_EVERY_S = 240.0
"""When nothing but time has passed: often enough that a restart finds most of the longest default window."""

FIGURES = frozenset(
    {
        "predictedItl",
        "predictedTtft",
        "predictedWait",
        "observedItl",
        "observedTtft",
        "utilization",
        "arrivalRate",
        "inputTokens",
        "outputTokens",
        "queued",
        "itl",
        "ttft",
        "cost",
        "currentCost",
        "totalCost",
        "targetCost",
        "candidates",
        "runnerUp",
        "risk",
        "savedPerHour",
        # Follows the token lengths; one that is set comes with a move, whose record is written at once.
        "maxBatch",
        # A sentence tells the figures; the one word beside it tells whether the matter changed.
        "message",
    }
)
TIMES = frozenset(
    {
        "lastDecision",
        "lastTick",
        "observedAt",
        "history",
        "arrivals",
        "until",
        "savings",
        "savedTotal",
        "seen",
    }
)
_FIGURES_AND_TIMES = FIGURES | TIMES

EVENT_MESSAGE_LIMIT = 1024
"""Bytes of an event's message that the API server takes."""


class Worth(Enum):
    """Whether a status is to be written."""

    NOTHING = 0
    LATER = 1
    """Figures or times alone: others come first."""
    NOW = 2


def worth(old: Mapping[str, Any], new: Mapping[str, Any], age_s: float) -> Worth:
    """Whether a status is worth a write.

    A change that matters is written at once, figures at most once a minute and only when they changed, and
    mere times every four minutes.

    Args:
        old: The status on the API server; empty when there is none.
        new: The status that it should have.
        age_s: Seconds since it was last written, infinite when not known.
    """
    if not _same(old, new, _FIGURES_AND_TIMES):
        return Worth.NOW
    if age_s < FIGURES_EVERY_S:
        return Worth.NOTHING
    changed = old != new if age_s >= TIMES_EVERY_S else not _same(old, new, TIMES)
    return Worth.LATER if changed else Worth.NOTHING


def status_json(status: Schema) -> dict[str, Any]:
    """The status as the API server holds it: fields that are not set are absent."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def create_allocation(client: Client, service: ObjectRef) -> Answer:
    """Create the InferenceAllocation of a service, owned by it; its status is another request.

    Raises:
        ApiError: it was refused or there was no answer.
    """
    body = {
        "apiVersion": API_VERSION,
        "kind": INFERENCE_ALLOCATION.name,
        "metadata": {
            "name": service.name,
            "namespace": service.namespace,
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": INFERENCE_SERVICE.name,
                    "name": service.name,
                    "uid": service.uid,
                    "controller": True,
                }
            ],
        },
        "spec": {"service": service.name},
    }
    answer = client.create(INFERENCE_ALLOCATION, service.namespace, body)
    return _answer(INFERENCE_ALLOCATION, answer, created=True)


def mark_move(client: Client, record: AllocationRecord, deployment: str | None) -> Answer:
    """Put our finalizer on an InferenceAllocation, or take it off, and leave those of others.

    Args:
        client: The API server.
        record: The InferenceAllocation.
        deployment: Name of the Deployment that a move changes; None: no move is under way.

    Raises:
        ApiError: it was refused, somebody changed the object meanwhile, or there was no answer.
    """
    others = [finalizer for finalizer in record.finalizers if finalizer != FINALIZER]
    body = {
        "metadata": {
            "resourceVersion": record.resource_version,
            "finalizers": [*others, FINALIZER] if deployment is not None else others,
            "annotations": {DEPLOYMENT_ANNOTATION: deployment},
        }
    }
    answer = client.patch(INFERENCE_ALLOCATION, record.namespace, record.name, body, PatchType.MERGE)
    return _answer(INFERENCE_ALLOCATION, answer)


def write_status(client: Client, ref: ObjectRef, status: Mapping[str, Any], version: str) -> Answer:
    """Replace the status of a custom resource, unless it has changed since `version`.

    A JSON patch, since the template of a move holds nulls that matter and a merge patch would drop them, and
    since the status of an object does not take a uid as a precondition.

    Raises:
        ApiError: it was refused, it has changed, it is another object of that name, or there was no answer.
    """
    kind = KIND_BY_NAME[ref.kind]
    operations: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/uid", "value": ref.uid},
        {"op": "add", "path": "/status", "value": dict(status)},
        # An update from an older version is a conflict.
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
    ]
    answer = client.patch(kind, ref.namespace, ref.name, operations, PatchType.JSON, "status")
    return _answer(kind, answer)


def patch_deployment(client: Client, patch: DeploymentPatch) -> Answer:
    """Patch a Deployment, unless it has changed since the plan was made.

    Raises:
        ApiError: it was refused, somebody changed the object meanwhile, or there was no answer.
    """
    body = {**patch.body, "metadata": {"resourceVersion": patch.resource_version}}
    answer = client.patch(DEPLOYMENT, patch.namespace, patch.name, body, PatchType.STRATEGIC)
    return Answer(DEPLOYMENT, answer)


def send_event(client: Client, ref: ObjectRef, note: EventNote, time: datetime) -> None:
    """Create an event about a custom resource.

    Raises:
        ApiError: it was refused or there was no answer.
    """
    namespace = ref.namespace or "default"
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {"name": f"{ref.name[:200]}.{uuid4().hex[:16]}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": KIND_BY_NAME[ref.kind].api_version,
            "kind": ref.kind,
            "name": ref.name,
            "namespace": ref.namespace,
            "uid": ref.uid,
        },
        "type": note.type.value,
        "reason": note.reason,
        "message": _shortened(note.message),
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "reportingInstance": FIELD_MANAGER,
        "firstTimestamp": when,
        "lastTimestamp": when,
        "count": 1,
    }
    client.create(EVENT, namespace, body)


def _answer(kind: Kind, raw: dict[str, Any], *, created: bool = False) -> Answer:
    # Who owns which field takes more memory than all the rest, and is not asked of our own kinds.
    raw["metadata"].pop("managedFields", None)
    return Answer(kind, raw, created)


def _shortened(message: str) -> str:
    if len(message.encode()) <= EVENT_MESSAGE_LIMIT:
        return message
    return message.encode()[: EVENT_MESSAGE_LIMIT - 3].decode(errors="ignore") + "…"


def _same(one: Any, other: Any, ignored: frozenset[str]) -> bool:
    """Whether two JSON values are equal but for these keys at any depth."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(
            key in ignored or (key in one and key in other and _same(one[key], other[key], ignored))
            for key in one.keys() | other.keys()
        )
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other, repeat(ignored)))
    return bool(one == other)
