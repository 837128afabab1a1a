"""Settling: every move is ended within the time, whatever stands in its way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

import kubernetes_objects as objects
from builders import merged
from inferscale_operator.cli import commands
from inferscale_operator.commands import settle as command
from inferscale_operator.errors import UsageError
from inferscale_operator.kube import kinds
from inferscale_operator.kube import lease as lease_module
from inferscale_operator.kube.client import ApiError
from inferscale_operator.kube.kinds import DEPLOYMENT, INFERENCE_ALLOCATION, Kind
from inferscale_operator.kube.lease import Elector, Terms
from inferscale_operator.settle import Settled, settle

STRATEGY = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}}
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MARKED = {"finalizers": ["inferscale.dev/move"], "annotations": {"inferscale.dev/deployment": "chat"}}


class Server:
    """An API server with one Deployment, its ReplicaSet and its InferenceAllocation."""

    def __init__(self, *, move: objects.Object | None, refuses: bool = False) -> None:
        self.now_s = 0.0
        self.refuses = refuses
        self.deployment = objects.deployment(replicas=8)
        self.deployment["spec"] |= {"paused": True, "strategy": {"type": "RollingUpdate"}}
        self.allocation = objects.allocation(status={"move": move} if move else {}, **MARKED)
        self.replica_set = objects.replica_set(replicas=8)

    def list_all(self, kind: Kind, *_: Any, **__: Any) -> objects.Object:
        items = {
            INFERENCE_ALLOCATION: [self.allocation],
            DEPLOYMENT: [self.deployment],
            kinds.REPLICA_SET: [self.replica_set],
        }
        return objects.listing(*items.get(kind, []))

    def patch(self, kind: Kind, _namespace: str | None, _name: str, body: Any, *_: Any) -> objects.Object:
        if kind is DEPLOYMENT:
            if self.refuses:
                raise ApiError(403, "Forbidden", "no")
            self.deployment = merged(self.deployment, body)
            return self.deployment
        if isinstance(body, list):
            self.allocation = self.allocation | {"status": body[1]["value"]}
        else:
            self.allocation = merged(self.allocation, body)
        return self.allocation

    def create(self, _kind: Kind, _namespace: str | None, body: Any) -> Any:
        return body

    def settle(self, timeout_s: float = 60.0) -> Settled:
        def sleep(seconds: float) -> None:
            self.now_s += seconds

        return settle(
            self,  # type: ignore[arg-type]
            timeout_s,
            lambda: self.now_s,
            lambda: START + timedelta(seconds=self.now_s),
            sleep,
        )


def a_move(step: str) -> objects.Object:
    prior = {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}}
    return objects.move(step) | {"priorStrategy": STRATEGY, "priorTemplate": prior}


def given_back(server: Server, replicas: int) -> bool:
    spec = server.deployment["spec"]
    return (spec["replicas"], spec["paused"], spec["strategy"]) == (replicas, False, STRATEGY)


def test_a_move_whose_service_is_gone_is_rolled_back_and_let_go() -> None:
    server = Server(move=a_move("BringUp"))
    assert server.settle() == Settled(ended=["team/chat"])
    assert given_back(server, 8)
    assert (
        "finalizers" not in server.allocation["metadata"] or not server.allocation["metadata"]["finalizers"]
    )


@pytest.mark.parametrize(("step", "replicas"), [("RollBack", 8), ("HandOver", 2)])
def test_what_does_not_end_in_time_is_ended_at_once(step: str, replicas: int) -> None:
    server = Server(move=a_move(step))
    # Its controller is not there: nothing it is told to do is ever seen to be done.
    server.deployment["metadata"]["generation"] = 9
    if replicas == 2:
        server.deployment["spec"]["template"]["spec"]["nodeSelector"] = {"amd.com/gpu": "x"}
    settled = server.settle(timeout_s=5)
    assert settled == Settled(released=["team/chat"])
    assert given_back(server, replicas)
    assert not server.allocation["metadata"]["finalizers"]
    assert "move" not in server.allocation["status"]


def test_what_cannot_be_ended_is_named_and_keeps_its_record() -> None:
    server = Server(move=a_move("BringUp"), refuses=True)
    assert server.settle(timeout_s=3) == Settled(failed={"team/chat": "no"})
    assert server.allocation["metadata"]["finalizers"] == MARKED["finalizers"]
    assert server.allocation["status"]["move"]


def test_a_finalizer_without_a_move_is_taken_off() -> None:
    server = Server(move=None)
    assert server.settle() == Settled()
    assert not server.allocation["metadata"]["finalizers"]
    assert server.deployment["spec"]["paused"]


def test_an_api_server_that_does_not_answer_is_asked_until_the_time_is_up() -> None:
    server = Server(move=None)

    def unreachable(*_: Any, **__: Any) -> objects.Object:
        raise ApiError(0, "Unreachable", "no answer")

    server.list_all = unreachable  # type: ignore[method-assign]
    with pytest.raises(ApiError):
        server.settle(timeout_s=5)
    assert server.now_s == 5


@pytest.mark.parametrize(
    ("settled", "code", "said"),
    [
        (Settled(), 0, "No move is under way."),
        (Settled(ended=["team/chat"], released=["team/code"]), 0, "team/code: the move was ended at once"),
        (Settled(failed={"team/chat": "no"}), 1, "inferscale: team/chat is not settled: no"),
    ],
)
def test_the_command_tells_what_became_of_each_move(
    settled: Settled, code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command.settling, "settle", lambda *_: settled)
    monkeypatch.setattr(command, "load_configuration", lambda *_: None)
    monkeypatch.setattr(command, "Client", lambda *_, **__: None)
    result = CliRunner().invoke(commands, ["settle", "--timeout=1", "--no-leader-elect"])
    assert (result.exit_code, said in result.output) == (code, True)


class Lease:
    """An API server with one Lease that the operator holds, and renews until it is asked for it."""

    def __init__(self, *, gives_up: bool) -> None:
        self.operator = Terms("inferscale-system", "inferscale", "operator")
        self.lease: objects.Object = {"metadata": {}}
        self.version = 0
        self.clock = 0.0
        self.gives_up = gives_up
        self.elector = Elector(self, self.operator, lambda: self.clock)
        self.elector.step()

    def get(self, *_: Any) -> objects.Object:
        if not self.lease.get("spec"):
            raise ApiError(404, "NotFound", "there is none")
        return self.lease

    def replace(self, _kind: Kind, _namespace: str | None, _name: str, body: Any) -> objects.Object:
        if body["metadata"].get("resourceVersion") != self.lease["metadata"].get("resourceVersion"):
            raise ApiError(409, "Conflict", "changed")
        self.version += 1
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        return self.lease

    def wait(self, seconds: float) -> None:
        self.clock += seconds
        if self.gives_up:
            self.elector.step()


def taken(server: Lease, monkeypatch: pytest.MonkeyPatch, seconds: float = 30.0) -> Any:
    monkeypatch.setattr(command, "Client", lambda *_, **__: server)
    monkeypatch.setattr(command.time, "sleep", server.wait)
    monkeypatch.setattr(command.time, "monotonic", lambda: server.clock)
    monkeypatch.setattr(lease_module, "running_clock", lambda: server.clock)
    terms = Terms("inferscale-system", "inferscale", "settle")
    return command.leading(None, terms, seconds, 60)  # type: ignore[arg-type]


def test_a_running_operator_gives_up_the_lease_and_keeps_off_it_until_it_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Lease(gives_up=True)
    with taken(server, monkeypatch) as guard:
        assert server.lease["spec"]["holderIdentity"] == "settle"
        guard()
        assert not server.elector.leading
    assert server.lease["spec"]["leaseDurationSeconds"] == 60
    server.wait(2)
    server.wait(50)
    assert not server.elector.leading
    server.wait(15)
    assert server.elector.leading


def test_a_lease_that_is_not_given_up_is_waited_for_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Lease(gives_up=False)
    with taken(server, monkeypatch):
        assert server.clock >= 15
        assert server.lease["spec"]["holderIdentity"] == "settle"


def test_a_lease_that_is_renewed_all_the_time_is_told_with_its_holder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Lease(gives_up=False)
    monkeypatch.setattr(server, "wait", lambda seconds: _stubborn(server, seconds))
    with (
        pytest.raises(UsageError, match="is held by operator, which does not give it up"),
        taken(server, monkeypatch, 40.0),
    ):
        raise AssertionError("it was taken")


def _stubborn(server: Lease, seconds: float) -> None:
    """An operator of an older version: it renews whatever the Lease says."""
    server.clock += seconds
    server.version += 1
    spec = {**server.lease["spec"], "holderIdentity": "operator"}
    server.lease = {"metadata": {"resourceVersion": str(server.version)}, "spec": spec}
