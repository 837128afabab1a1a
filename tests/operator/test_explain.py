"""`inferscale explain` and `inferscale approve` against an API server that is played."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import NAMESPACE, NOW, behavior, load, service, world
from inferscale_operator.api.inference_allocation import (
    AdoptedState,
    InferenceAllocationStatus,
    RevertedField,
    RevertStatus,
    SavingsStatus,
)
from inferscale_operator.api.moves import FailedMove
from inferscale_operator.cli import main
from inferscale_operator.commands import approve, explain
from inferscale_operator.decide import decide
from inferscale_operator.kube.client import UNREACHABLE, ApiError
from inferscale_operator.kube.kinds import INFERENCE_ALLOCATION, Kind
from inferscale_operator.kube.writer import status_json

PATH = "/metadata/annotations/inferscale.dev~1approved"


def waiting() -> tuple[dict[str, Any], dict[str, Any]]:
    """An InferenceService and its InferenceAllocation, where a reduction waits for approval."""
    before = InferenceAllocationStatus(
        adopted=AdoptedState(time=NOW, deployment="llama", accelerator="h100", replicas=6, cost=60.0),
        savings=SavingsStatus(total=5.0, per_hour=20.0, as_of=NOW - timedelta(seconds=30)),
        failed_moves=(FailedMove(accelerator="a100", time=NOW, message="the new replicas did not come up"),),
        reverts=(RevertStatus(field=RevertedField.REPLICAS, manager="flux", time=NOW),),
    )
    state = service(replicas=4, observed=load(110), mode="Approve", allocation=before)
    plan = decide(world(state)).services[0]
    meta = {"name": "llama", "namespace": NAMESPACE, "uid": "uid-a"}
    spec = state.resource.spec
    assert spec is not None
    person = {
        "metadata": meta,
        "spec": spec.model_dump(mode="json", by_alias=True),
        "status": status_json(plan.status.status),
    }
    return person, {"metadata": meta, "status": status_json(plan.allocation)}


class Server:
    """Has the two objects, and applies a JSON patch to the InferenceAllocation."""

    def __init__(self) -> None:
        self.person, self.ours = waiting()
        self.patches: list[Any] = []
        self.error: ApiError | None = None
        self.before_patch: Callable[[], None] = lambda: None

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        if (namespace, name) != (NAMESPACE, "llama"):
            raise ApiError(404, "NotFound", "not found")
        return self.ours if kind is INFERENCE_ALLOCATION else self.person

    def patch(self, *request: Any) -> dict[str, Any]:
        body = request[3]
        self.before_patch()
        for operation in body:
            if operation["op"] == "test":
                found: Any = self.ours
                for part in operation["path"].split("/")[1:]:
                    found = found.get(part, {})
                if found != operation["value"]:
                    raise ApiError(422, "Invalid", "the server rejected our request")
        self.patches.append(body)
        return self.ours


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    for module in (explain, approve):
        monkeypatch.setattr(module, "connect", lambda *_: made)
    return made


def call(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    told = capsys.readouterr()
    assert caught.value.code == code, told.err
    return told.out if code == 0 else told.err


@pytest.mark.usefixtures("server")
def test_a_page_has_inputs_what_was_chosen_what_lost_and_what_holds_it_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = call(capsys, "explain", "prod/llama")
    for text in (
        "prod/llama: model llama, class gold, mode Approve",
        "AwaitingApproval: 4 on h100 -> 2 on h100 waits for",
        "Load: 110.0 requests/min of 0 + 100 tokens (Observed",
        "4 (4 ready)",
        "Chosen",
        "Excluded: MoveFailed",
        "Approval: 4 on h100 -> 2 on h100",
        "saves 20.00/h; ",
        "to a100: the new replicas did not come up",
        "replicas by flux",
        "adopted 2026-01-01T00:00:00Z with 6 on h100 for 60.00/h; saves 20.00/h, 5.17 in 0.0 h",
        "Applied is False: AwaitingApproval",
    ):
        assert text in page, text


@pytest.mark.usefixtures("server")
def test_the_same_is_to_be_had_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    known = json.loads(call(capsys, "explain", "llama", "-n", "prod", "-o", "json"))
    assert known["service"] == "prod/llama"
    assert known["allocation"]["objectives"] == {"priority": 1, "ttft": 3_600_000.0}
    [entry] = known["allocation"]["allocations"]
    assert [gate["type"] for gate in entry["gates"]] == ["Approval"]
    assert {c["type"] for c in known["conditions"]} >= {"Applied", "Ready"}


def test_a_service_that_was_never_decided_has_a_page(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.ours = {"metadata": {}}
    server.person = {"metadata": {}}
    assert "prod/llama: model -, class -, mode -" in call(capsys, "explain", "prod/llama")


def test_what_a_person_wrote_is_no_markup(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.ours["status"]["message"] = "[bold]not[/] [red"
    assert "[bold]not[/] [red" in call(capsys, "explain", "prod/llama")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explain", "prod/nothing"), "there is no InferenceService nothing in namespace prod"),
        (("explain", "llama"), "there is no InferenceService llama in namespace default"),
        (("explain", "a/b", "-n", "c"), "give one"),
        (("explain", "a/b/c"), "is no name of a service"),
        (("explain", "/b"), "is no name of a service"),
        (("approve", "prod/nothing"), "is there an InferenceService of that name"),
    ],
)
def test_a_service_that_is_not_there_is_told(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert message in call(capsys, *arguments, code=2)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ApiError(403, "Forbidden", "no"), "does not allow it: no"),
        (ApiError(UNREACHABLE, "Unreachable", "refused"), "the API server does not answer"),
        (ApiError(500, "InternalError", "oh"), "refused (InternalError): oh"),
    ],
)
def test_an_api_server_that_does_not_help_is_told(
    server: Server, capsys: pytest.CaptureFixture[str], error: ApiError, message: str
) -> None:
    server.error = error
    assert message in call(capsys, "explain", "prod/llama", code=2)


def test_an_approval_shows_what_it_is_worth_and_names_the_plan(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = server.ours["status"]["pendingPlan"]["digest"]
    told = call(capsys, "approve", "prod/llama", "--yes")
    for text in (
        "prod/llama: 4 on h100 -> 2 on h100",
        "saves 20.00 an hour",
        "replicas are removed; predicted at this load: ITL",
        f"{digest} is approved",
    ):
        assert text in told
    [patch] = server.patches
    assert patch[-1] == {"op": "add", "path": PATH, "value": digest}
    assert {"op": "add", "path": "/metadata/annotations", "value": {}} in patch


def test_other_annotations_stay(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.ours["metadata"]["annotations"] = {"a": "b"}
    call(capsys, "approve", "prod/llama", "--yes")
    assert [operation["path"] for operation in server.patches[0] if operation["op"] == "add"] == [PATH]


def test_nothing_is_approved_without_a_yes(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    call(capsys, "approve", "prod/llama", code=1)
    assert server.patches == []


def test_a_plan_that_was_seen_earlier_and_is_not_the_plan_is_refused(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    told = call(capsys, "approve", "prod/llama", "--yes", "--digest", "123456789abc", code=2)
    assert "123456789abc is not the plan of prod/llama any more" in told
    assert server.patches == []


def test_a_plan_that_changes_while_it_is_looked_at_is_not_approved(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    def change() -> None:
        server.ours["status"]["pendingPlan"] = {"digest": "another"}

    server.before_patch = change
    assert "has changed meanwhile" in call(capsys, "approve", "prod/llama", "--yes", code=2)
    assert server.patches == []


def test_where_nothing_waits_it_is_said(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    del server.ours["status"]["pendingPlan"]
    told = call(capsys, "approve", "prod/llama", "--yes", code=2)
    assert "nothing of prod/llama waits for approval (mode Approve" in told


def test_a_status_of_another_version_is_told(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.ours["status"]["pendingPlan"] = {"digest": 3}
    assert "status.pendingPlan.digest cannot be read" in call(capsys, "approve", "prod/llama", code=2)


def test_a_rollout_of_somebody_else_is_a_gate() -> None:
    state = service(replicas=4)
    assert state.deployment is not None
    busy = replace(state, deployment=replace(state.deployment, observed_generation=0))
    [entry] = decide(world(busy)).services[0].allocation.allocations
    assert [gate.type for gate in entry.gates] == ["RolloutInProgress"]


def test_a_window_is_a_gate_that_says_until_when() -> None:
    state = service(replicas=4, keepAccelerator=True, behavior=behavior(0, 300))
    [entry] = decide(world(state)).services[0].allocation.allocations
    [gate] = entry.gates
    assert gate.type == "Stabilization"
    assert "until 00:05:00 at the earliest" in gate.message
