"""The running operator: what wakes it, what it remembers, when it counts as hung."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock

import kopf
import pytest
from kubernetes.client.configuration import Configuration

import kubernetes_objects as objects
from inferscale_operator import tick, watching
from inferscale_operator.act import Outcome
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.application import App, serve
from inferscale_operator.handlers import connection
from inferscale_operator.health import ready
from inferscale_operator.kube import kinds
from inferscale_operator.kube.client import ApiError
from inferscale_operator.kube.stores import Answer
from inferscale_operator.settings import make_settings
from inferscale_operator.watching import fill

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Lists:
    """A client that answers every listing alike."""

    def __init__(self, error: ApiError | None = None) -> None:
        self.error = error
        self.asked: list[kinds.Kind] = []

    def list_all(self, kind: kinds.Kind, *_: Any, **__: Any) -> objects.Object:
        self.asked.append(kind)
        if self.error is not None:
            raise self.error
        return objects.listing()

    def page(self, kind: kinds.Kind, token: str, _namespace: str | None, **_: Any) -> objects.Object:
        assert not token
        return self.list_all(kind)


def app(client: Any = None) -> App:
    settings = make_settings({"prometheus_url": "http://prometheus:9090", "listen": "0"})
    configuration = Configuration()
    configuration.host = "http://127.0.0.1:9"
    return App(settings, configuration, client, prometheus=None)  # type: ignore[arg-type]


def woken(running: App) -> tuple[bool, bool]:
    """Whether it was woken, and by a person; and lets it sleep again."""
    result = (running.changed.is_set(), running.specs_changed)
    running.changed.clear()
    running.specs_changed = False
    return result


def test_a_new_spec_wakes_and_our_own_status_does_not() -> None:
    running = app()
    running.notice(kinds.INFERENCE_SERVICE, "ADDED", objects.service())
    assert woken(running) == (True, True)
    running.notice(kinds.INFERENCE_SERVICE, "MODIFIED", objects.service(version=2, status={"replicas": 3}))
    assert woken(running) == (False, False)
    changed = objects.service(version=3, metadata={"generation": 2})
    running.notice(kinds.INFERENCE_SERVICE, "MODIFIED", changed)
    assert woken(running) == (True, True)
    running.notice(kinds.INFERENCE_SERVICE, "DELETED", objects.service(version=4))
    assert woken(running) == (True, True)


def test_a_deployment_that_a_service_names_starts_a_tick_when_it_comes_or_goes() -> None:
    running = app()
    running.notice(kinds.INFERENCE_SERVICE, "ADDED", objects.service())
    woken(running)
    running.notice(kinds.DEPLOYMENT, "ADDED", objects.deployment("other"))
    assert woken(running) == (True, False)
    running.notice(kinds.DEPLOYMENT, "ADDED", objects.deployment())
    assert woken(running) == (True, True)
    running.notice(kinds.DEPLOYMENT, "MODIFIED", objects.deployment(version=2, replicas=5))
    assert woken(running) == (True, False)
    running.notice(kinds.DEPLOYMENT, "DELETED", objects.deployment(version=3))
    assert woken(running) == (True, True)


def test_allocations_never_wake_but_are_kept() -> None:
    running = app()
    running.notice(kinds.INFERENCE_ALLOCATION, "ADDED", objects.allocation(status={"reason": "Optimal"}))
    assert woken(running) == (False, False)
    assert len(running.copy_world().allocations) == 1


def test_an_approval_starts_a_tick() -> None:
    running = app()
    approved = {"annotations": {"inferscale.dev/approved": "0123456789ab"}}
    running.notice(kinds.INFERENCE_ALLOCATION, "ADDED", objects.allocation())
    assert woken(running) == (False, False)
    changed = objects.allocation(version=2)
    changed["metadata"] |= approved
    running.notice(kinds.INFERENCE_ALLOCATION, "MODIFIED", changed)
    assert woken(running) == (True, True)


def test_a_node_with_accelerators_starts_a_tick_when_it_comes_changes_or_goes() -> None:
    running = app()
    running.notice(kinds.NODE, "ADDED", objects.node())
    assert woken(running) == (True, True)
    running.notice(kinds.NODE, "MODIFIED", objects.node() | {"metadata": objects.meta("h100-0", version=2)})
    woken(running)
    beat = objects.node()
    beat["metadata"] = objects.meta("h100-0", version=3)
    running.notice(kinds.NODE, "MODIFIED", beat)
    assert woken(running) == (False, False)
    cordoned = objects.node(unschedulable=True)
    cordoned["metadata"] = objects.meta("h100-0", version=4)
    running.notice(kinds.NODE, "MODIFIED", cordoned)
    assert woken(running) == (True, True)
    running.notice(kinds.NODE, "DELETED", cordoned)
    assert woken(running) == (True, True)


def test_a_node_without_accelerators_starts_none() -> None:
    running = app()
    running.notice(kinds.NODE, "ADDED", objects.node(cpu="4"))
    assert woken(running) == (True, False)


def test_pods_wake_when_they_change_in_what_matters() -> None:
    running = app()
    running.notice(kinds.POD, "ADDED", objects.pod(ready=False))
    assert woken(running) == (True, False)
    running.notice(kinds.POD, "MODIFIED", objects.pod(version=2, ready=False))
    assert woken(running) == (False, False)
    running.notice(kinds.POD, "MODIFIED", objects.pod(version=3))
    assert woken(running) == (True, False)


def test_a_watch_that_starts_over_has_its_kind_compared() -> None:
    running = app()
    running.notice(kinds.POD, "ADDED", objects.pod())
    assert running.relisted == set()
    running.notice(kinds.POD, None, objects.pod())
    assert running.relisted == {kinds.POD}


def test_a_held_status_counts_until_it_is_written_or_its_object_is_gone() -> None:
    running = app()
    running.notice(kinds.INFERENCE_ALLOCATION, "ADDED", objects.allocation(status={"reason": "Old"}))
    held = InferenceAllocationStatus(reason="Held")
    running.absorb(Outcome(held={"uid-chat": held}))
    assert running.copy_world().allocations[("team", "chat")].status == held
    written = objects.allocation(version=2, status={"reason": "Written"})
    running.absorb(Outcome(answers=[Answer(kinds.INFERENCE_ALLOCATION, written)]))
    status = running.copy_world().allocations[("team", "chat")].status
    assert status is not None
    assert status.reason == "Written"
    running.written["uid-chat"] = NOW
    running.notice(kinds.INFERENCE_ALLOCATION, "DELETED", objects.allocation(version=3))
    running.absorb(Outcome())
    assert (running.held, running.written) == ({}, {})


def test_the_stores_are_complete_after_one_listing_of_each_kind() -> None:
    client = Lists()
    running = app(client)
    asyncio.run(fill(running))
    assert running.stores.complete
    assert client.asked == list(kinds.WATCHED)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ApiError(404, "NotFound", "not found"), "kubectl apply --server-side -f crds/"),
        (ApiError(403, "Forbidden", "may not"), "does not let us list acceleratorprofiles: may not"),
        (ApiError(0, "Unreachable", "no route"), "acceleratorprofiles cannot be listed yet"),
    ],
)
def test_what_a_person_must_put_right_before_it_can_start_is_told_and_waited_for(
    error: ApiError, message: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watching, "RETRY_S", 0.0)
    client = Lists(error)
    running = app(client)

    async def scenario() -> str:
        filling = asyncio.create_task(fill(running))
        while len(client.asked) < 3:
            await asyncio.sleep(0)
        told = str(ready(running.health).facts["stores"])
        assert not ready(running.health).good
        client.error = None
        await filling
        return told

    assert message in asyncio.run(scenario())
    assert len([record for record in caplog.records if message in record.getMessage()]) == 1
    assert ready(running.health).facts["stores"] == "filled"


def test_kopf_connects_as_the_client_library_does() -> None:
    configuration = Configuration()
    configuration.host = "https://10.0.0.1:443"
    configuration.ssl_ca_cert = "/ca.crt"
    configuration.api_key["BearerToken"] = "bearer abc\n"
    info = connection(configuration)
    assert (info.server, info.ca_path, info.scheme, info.token) == (
        "https://10.0.0.1:443",
        "/ca.crt",
        "bearer",
        "abc",
    )
    assert not info.insecure


@pytest.fixture
def went_on(monkeypatch: pytest.MonkeyPatch) -> list[App]:
    """The times that moves were gone on with; nothing waits."""
    calls: list[App] = []

    async def go_on(running: App) -> None:
        calls.append(running)

    monkeypatch.setattr(tick, "go_on", go_on)
    monkeypatch.setattr(tick, "DEBOUNCE_S", 0)
    monkeypatch.setattr(tick, "BETWEEN_STEPS_S", 0)
    return calls


def waited(running: App, during: Callable[[], Awaitable[None]], seconds: float = 60) -> None:
    """Wait for the next tick while something else happens."""

    async def both() -> None:
        await asyncio.gather(tick.go_on_until(running, time.monotonic() + seconds), during())

    asyncio.run(both())


def test_a_change_of_the_world_goes_on_with_moves_and_a_persons_change_starts_a_tick(
    went_on: list[App],
) -> None:
    running = app()

    async def happen() -> None:
        running.notice(kinds.POD, "ADDED", objects.pod())
        while not went_on:
            await asyncio.sleep(0)
        running.notice(kinds.INFERENCE_SERVICE, "ADDED", objects.service())

    waited(running, happen)
    assert went_on == [running]


def test_the_wait_ends_when_the_tick_is_due(went_on: list[App]) -> None:
    async def nothing() -> None:
        return

    waited(app(), nothing, seconds=0.01)
    assert len(went_on) <= 1


def test_moves_are_not_gone_on_with_when_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(tick, "advance", never)
    asyncio.run(tick.go_on(app()))


class Prometheus:
    """A connection that is closed at the end."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_a_bug_in_the_tick_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def watching(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    async def bug(_: App) -> Outcome:
        raise ZeroDivisionError

    monkeypatch.setattr(kopf, "spawn_tasks", AsyncMock(return_value=()))
    monkeypatch.setattr(kopf, "run_tasks", watching)
    monkeypatch.setattr(tick, "tick", bug)
    running = app(Lists())
    running.prometheus = prometheus = Prometheus()  # type: ignore[assignment]
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(serve(running))
    assert caught.group_contains(ZeroDivisionError)
    assert prometheus.closed


def test_the_end_of_the_watches_ends_the_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def watching(*_: Any, **__: Any) -> None:
        await asyncio.sleep(0)

    async def nothing(_: App) -> Outcome:
        return Outcome()

    monkeypatch.setattr(kopf, "spawn_tasks", AsyncMock(return_value=()))
    monkeypatch.setattr(kopf, "run_tasks", watching)
    monkeypatch.setattr(tick, "tick", nothing)
    running = app(Lists())
    running.prometheus = prometheus = Prometheus()  # type: ignore[assignment]
    asyncio.run(serve(running))
    assert prometheus.closed


def test_told_to_stop_while_it_waits_for_what_is_missing_it_ends() -> None:
    running = app(Lists(ApiError(404, "NotFound", "not found")))
    running.prometheus = prometheus = Prometheus()  # type: ignore[assignment]

    async def stopped() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, stop.set)
        await asyncio.wait_for(serve(running, stop), 30)

    asyncio.run(stopped())
    assert not running.health.filled
    assert prometheus.closed
