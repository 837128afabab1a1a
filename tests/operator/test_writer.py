"""When a status is worth a write, and what is written."""

import math
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from inferscale_operator.api.inference_allocation import (
    AllocationEntry,
    InferenceAllocationStatus,
)
from inferscale_operator.api.moves import MoveSide, MoveStatus, MoveStep
from inferscale_operator.kube import kinds
from inferscale_operator.kube.writer import Worth, send_event, status_json, worth
from inferscale_operator.plan import EventNote, EventType, ObjectRef

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STATUS = {
    "reason": "Optimal",
    "message": "2 replicas at 24.1 ms",
    "allocations": [{"accelerator": "h100", "desiredReplicas": 2, "observedItl": 24.1, "cost": 9.0}],
    "load": {"state": "Observed", "arrivalRate": 60.5, "observedAt": "2026-03-01T12:00:00Z"},
    "history": [{"time": "2026-03-01T12:00:00Z", "replicas": 2}],
    "lastDecision": "2026-03-01T12:00:00Z",
    "conditions": [{"type": "Ready", "status": "True", "reason": "Serving", "message": "24.1 ms"}],
}


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    status: Any = deepcopy(STATUS)
    inner = status
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return status


def test_a_status_that_did_not_change_is_never_written() -> None:
    assert worth(STATUS, deepcopy(STATUS), math.inf) is Worth.NOTHING


def test_a_first_status_is_written_at_once() -> None:
    assert worth({}, STATUS, 0) is Worth.NOW


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("reason",), "CapacityLimited"),
        (("move",), {"step": "BringUp"}),
        (("allocations", 0, "desiredReplicas"), 3),
        (("allocations", 0, "accelerator"), "mi300x"),
        (("load", "state"), "Unknown"),
        (("conditions", 0, "status"), "False"),
        (("conditions", 0, "reason"), "Starting"),
    ],
)
def test_what_matters_is_written_at_once(path: tuple[str | int, ...], value: Any) -> None:
    assert worth(STATUS, changed(path, value), 0) is Worth.NOW


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("allocations", 0, "observedItl"), 25.0),
        (("allocations", 0, "cost"), 9.1),
        (("load", "arrivalRate"), 61),
        (("message",), "2 replicas at 25.0 ms"),
        (("conditions", 0, "message"), "25.0 ms"),
        (("candidates",), [{"accelerator": "h100", "cost": 9}]),
    ],
)
def test_figures_are_written_once_a_minute(path: tuple[str | int, ...], value: Any) -> None:
    assert worth(STATUS, changed(path, value), 59) is Worth.NOTHING
    assert worth(STATUS, changed(path, value), 60) is Worth.LATER


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("lastDecision",), "2026-03-01T12:01:00Z"),
        (("load", "observedAt"), "2026-03-01T12:01:00Z"),
        (("history",), []),
    ],
)
def test_mere_times_are_written_every_few_minutes(path: tuple[str | int, ...], value: Any) -> None:
    assert worth(STATUS, changed(path, value), 239) is Worth.NOTHING
    assert worth(STATUS, changed(path, value), 240) is Worth.LATER


def test_a_recorded_move_keeps_the_nulls_of_its_template_and_drops_fields_that_are_not_set() -> None:
    template = {"spec": {"nodeSelector": {"amd.com/gpu.product-name": None}}}
    status = InferenceAllocationStatus(
        allocations=(AllocationEntry(accelerator="h100"),),
        move=MoveStatus(
            step=MoveStep.BRING_UP,
            source=MoveSide(accelerator="h100", replicas=8),
            to=MoveSide(accelerator="mi300x", replicas=2),
            started_at=NOW,
            step_started_at=NOW,
            prior_template=template,
        ),
    )
    written = status_json(status)
    assert written["move"]["priorTemplate"] == template
    assert "maxBatch" not in written["allocations"][0]
    assert "load" not in written
    assert InferenceAllocationStatus.model_validate(written) == status


class Posted:
    """A client that keeps what it was to create."""

    def __init__(self) -> None:
        self.created: list[tuple[kinds.Kind, str | None, dict[str, Any]]] = []

    def create(self, kind: kinds.Kind, namespace: str | None, body: dict[str, Any]) -> dict[str, Any]:
        self.created.append((kind, namespace, body))
        return body


def test_an_event_about_a_cluster_scoped_object_goes_to_the_default_namespace() -> None:
    client = Posted()
    ref = ObjectRef("AcceleratorProfile", "h100", "uid-h100")
    send_event(client, ref, EventNote(EventType.WARNING, "NoNodes", "no node has it"), NOW)  # type: ignore[arg-type]
    [(kind, namespace, body)] = client.created
    assert (kind, namespace) == (kinds.EVENT, "default")
    assert body["involvedObject"]["uid"] == "uid-h100"
    assert (body["type"], body["reason"], body["source"]) == (
        "Warning",
        "NoNodes",
        {"component": "inferscale"},
    )
    assert body["firstTimestamp"] == "2026-03-01T12:00:00Z"


def test_a_message_that_is_too_long_for_an_event_is_cut() -> None:
    client = Posted()
    ref = ObjectRef("InferenceService", "chat", "uid-chat", "team")
    send_event(client, ref, EventNote(EventType.NORMAL, "Scaled", "ä" * 2000), NOW)  # type: ignore[arg-type]
    message = client.created[0][2]["message"]
    assert len(message.encode()) <= 1024
    assert message.endswith("…")
