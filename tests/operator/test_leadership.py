"""What a replica does when it gets the Lease, loses it, or may not have it."""

import asyncio
import logging
from typing import Any

import pytest
from kubernetes.client.configuration import Configuration

from inferscale_operator import leadership
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.application import App
from inferscale_operator.errors import UsageError
from inferscale_operator.health import Role
from inferscale_operator.kube.client import ApiError
from inferscale_operator.kube.lease import Elector, Terms
from inferscale_operator.settings import make_settings

TERMS = Terms("system", "inferscale", "a", duration_s=15, renew_s=10, retry_s=0.001)


class Server:
    """A Lease that is answered in turn; an error is raised, and the end cancels."""

    def __init__(self, *answers: ApiError | dict[str, Any]) -> None:
        self.answers = list(answers)
        self.written: list[dict[str, Any]] = []

    def get(self, *_: Any) -> dict[str, Any]:
        if not self.answers:
            raise asyncio.CancelledError
        answer = self.answers.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    def replace(self, _kind: Any, _namespace: Any, _name: Any, body: dict[str, Any]) -> dict[str, Any]:
        self.written.append(body)
        return {**body, "metadata": {"resourceVersion": "2"}}


def app(server: Server, now: list[float]) -> App:
    settings = make_settings({"prometheus_url": "http://prometheus:9090", "listen": "0"})
    elector = Elector(server, TERMS, lambda: now[0])
    return App(settings, Configuration(), None, None, elector=elector)  # type: ignore[arg-type]


def elect(running: App) -> None:
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(leadership.elect(running))


def lease(holder: str) -> dict[str, Any]:
    spec = {"holderIdentity": holder, "renewTime": "x", "leaseDurationSeconds": 15}
    return {"metadata": {"resourceVersion": "1"}, "spec": spec}


def test_a_replica_begins_as_a_standby_and_leads_when_the_lease_is_free() -> None:
    running = app(Server(lease("")), [0.0])
    assert running.health.role is Role.STANDBY
    assert not running.leading.is_set()

    async def main() -> None:
        task = asyncio.create_task(leadership.elect(running))
        await running.leading.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert running.health.role is Role.LEADER


def test_what_was_decided_and_not_written_is_dropped_with_the_lease() -> None:
    running = app(Server(lease("b"), lease("b")), [0.0])
    running.lead(True)
    running.held["uid"] = InferenceAllocationStatus(reason="Held")
    elect(running)
    assert not running.leading.is_set()
    assert running.held == {}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ApiError(403, "Forbidden", "may not"), r"the Lease system/inferscale: may not\. .*base/role\.yaml"),
        (ApiError(404, "NotFound", 'namespaces "system" not found'), r"--lease-namespace system: .*Create"),
    ],
)
def test_a_lease_that_cannot_be_had_is_told_with_what_would_be_right(error: ApiError, message: str) -> None:
    server = Server(lease(""))

    def refuse(*_: Any) -> dict[str, Any]:
        raise error

    server.replace = refuse  # type: ignore[method-assign]
    with pytest.raises(UsageError, match=message):
        asyncio.run(leadership.elect(app(server, [0.0])))


def test_trouble_with_the_lease_is_logged_once_as_long_as_it_stays_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    away = ApiError(0, "Unreachable", "no answer")
    with caplog.at_level(logging.WARNING, "inferscale_operator.leadership"):
        elect(app(Server(away, away, away), [0.0]))
    assert [record.getMessage() for record in caplog.records] == [
        "The Lease cannot be looked at or renewed: no answer"
    ]


def test_a_replica_that_resigns_gives_back_the_lease_and_writes_nothing_more() -> None:
    running = app(server := Server(lease("a"), lease("a")), [0.0])
    assert running.elector is not None
    running.elector.step()
    running.lead(True)
    asyncio.run(leadership.resign(running))
    assert server.written[-1]["spec"]["holderIdentity"] == ""
    assert not running.elector.leading
    assert running.health.role is Role.STANDBY


def test_an_api_server_that_does_not_answer_keeps_nobody_from_ending(
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = app(Server(lease("a"), ApiError(0, "Unreachable", "no answer")), [0.0])
    assert running.elector is not None
    running.elector.step()
    asyncio.run(leadership.resign(running))
    assert "The Lease is not given back, it ends by itself: no answer" in caplog.text


def test_every_process_has_a_name_of_its_own() -> None:
    settings = make_settings({"prometheus_url": "http://prometheus:9090"})
    assert leadership.terms(settings).identity != leadership.terms(settings).identity
