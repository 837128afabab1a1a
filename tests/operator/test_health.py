"""Probes and metrics are answered whatever the event loop and the remote calls are doing."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from kubernetes.client.configuration import Configuration

from fault_proxy import Fault, Proxy, always
from inferscale_operator import tick
from inferscale_operator.act import Outcome
from inferscale_operator.application import App, make_app, serve
from inferscale_operator.endpoint import Answer, Endpoint, told
from inferscale_operator.errors import UsageError
from inferscale_operator.health import Health, Role, Verdict, alive, ready
from inferscale_operator.kube.client import ApiError, Client, load_configuration
from inferscale_operator.kube.kinds import EVENT
from inferscale_operator.settings import make_settings


def test_it_is_alive_as_long_as_ticks_end() -> None:
    health = Health()
    health.beat()
    assert alive(health, health.beat_at + 12.34) == Verdict(
        True, {"role": "standby", "lastTickSecondsAgo": 12.3, "limitSeconds": 300.0}
    )
    assert not alive(health, health.beat_at + 301).good


def test_the_limit_grows_with_the_time_between_ticks() -> None:
    health = Health()
    health.beat(600)
    assert alive(health, health.beat_at + 2999).good
    assert not alive(health, health.beat_at + 3001).good


def test_it_is_ready_when_the_stores_are_filled_and_the_api_server_answers() -> None:
    health = Health()
    assert not ready(health).good
    health.filled = True
    assert not ready(health).good
    health.api_error = ""
    assert ready(health).good
    health.api_error = "no route to host"
    assert not ready(health).good
    assert ready(health).facts["apiServer"] == "no route to host"


def test_a_prometheus_that_does_not_answer_is_told_and_no_reason_not_to_be_ready() -> None:
    health = Health(filled=True, api_error="", prometheus_error="no answer within 10 s")
    assert ready(health).good
    assert ready(health).facts["prometheus"] == "no answer within 10 s"


def get(url: str) -> requests.Response:
    return requests.get(url, timeout=30)


def test_a_verdict_is_a_status_and_says_why() -> None:
    routes = {"/good": lambda: told(Verdict(True, {"age": 1})), "/bad": lambda: told(Verdict(False, {}))}
    with Endpoint("127.0.0.1:0", routes) as endpoint:
        good, bad, none = (get(endpoint.url + path) for path in ("/good?verbose", "/bad", "/other"))
    assert (good.status_code, good.json()) == (200, {"status": "ok", "age": 1})
    assert (bad.status_code, bad.json()) == (503, {"status": "failed"})
    assert none.status_code == 404


def test_half_a_request_keeps_nobody_from_being_answered() -> None:
    with Endpoint("127.0.0.1:0", {"/": lambda: Answer(200, "text/plain", b"well")}) as endpoint:
        host, port = endpoint.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET / HT")
            assert get(endpoint.url + "/").text == "well"


def test_an_address_that_is_taken_is_told() -> None:
    with Endpoint("127.0.0.1:0", {}) as endpoint:
        taken = endpoint.url.removeprefix("http://")
        with pytest.raises(UsageError, match=rf"--listen {taken}: .* Give another address"):
            Endpoint(taken, {})


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that takes requests and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{"


@contextmanager
def dripping_server(head: bytes = HEAD) -> Iterator[str]:
    """A server whose answer arrives byte by byte after its beginning, for ever."""
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            connection.sendall(head)
            while not stop.wait(0.05):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    def run(server: socket.socket) -> None:
        threads = []
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                break
            threads.append(threading.Thread(target=drip, args=(connection,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=run, args=(server,))
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        stop.set()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def configured(url: str) -> Configuration:
    configuration = Configuration()
    configuration.host = url
    configuration.retries = False
    return configuration


def server_of_a_dripping_head() -> AbstractContextManager[str]:
    return dripping_server(b"HTTP/1.1 200 OK\r\nX-Long:")


@pytest.mark.parametrize("server", [silent_server, dripping_server, server_of_a_dripping_head])
def test_a_request_ends_however_slowly_it_is_answered(server: Any) -> None:
    with server() as url:
        client = Client(configured(url), timeout_s=0.3)
        with pytest.raises(ApiError, match="no answer from the API server") as caught:
            client.version()
        client._api.rest_client.pool_manager.clear()
    assert caught.value.status == 0


def test_a_wait_that_the_api_server_asks_for_is_not_waited_for_within_a_tick(tmp_path: Path) -> None:
    with answering(b"{}", 429, ("Retry-After", "3600")) as url:
        config = load_configuration(kubeconfig(tmp_path, url), None)
        client = Client(config)
        with pytest.raises(ApiError) as caught:
            client.version()
        client._api.rest_client.pool_manager.clear()
    assert caught.value.status == 429


@contextmanager
def answering(text: bytes, status: int = 200, *headers: tuple[str, str]) -> Iterator[str]:
    """A server that answers every request alike."""
    with Proxy("http://127.0.0.1:9") as server:
        server.rule = always(Fault(status=status, body=text, headers=headers))
        yield server.url


def kubeconfig(folder: Path, server: str) -> Path:
    """A kubeconfig for an API server."""
    path = folder / "kubeconfig"
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    path.write_text(
        json.dumps(
            {
                "current-context": "c",
                "contexts": [context],
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    return path


@pytest.mark.parametrize("text", [b'{"gitVer', b"[]", b"<html>", b""])
def test_an_answer_that_is_no_object_is_an_error_and_not_a_crash(text: bytes) -> None:
    with answering(text) as url:
        client = Client(configured(url))
        with pytest.raises(ApiError, match="not an object of JSON"):
            client.version()
        client._api.rest_client.pool_manager.clear()


def test_every_request_is_observed_and_every_write_is_guarded() -> None:
    seen: list[tuple[str, str, int]] = []

    def guard() -> None:
        raise ApiError(0, "NotLeader", "not sent")

    with answering(b'{"gitVersion": "v1"}') as url:
        client = Client(
            configured(url), guard=guard, observer=lambda verb, kind, code, _: seen.append((verb, kind, code))
        )
        assert client.version() == "v1"
        with pytest.raises(ApiError, match="not sent"):
            client.create(EVENT, "default", {})
        client._api.rest_client.pool_manager.clear()
    assert seen == [("get", "Version", 200)]


@pytest.mark.slow
def test_probes_are_answered_while_prometheus_and_the_api_server_are_silent(tmp_path: Path) -> None:
    with silent_server() as nobody:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        app = make_app(
            make_settings(
                {
                    "prometheus_url": nobody,
                    "kubeconfig": str(kubeconfig(tmp_path, nobody)),
                    "listen": f"127.0.0.1:{port}",
                    "leader_elect": False,
                }
            )
        )
        app.client._timeout_s = 0.5

        async def main() -> tuple[requests.Response, requests.Response]:
            serving = asyncio.create_task(serve(app))
            await asyncio.sleep(0)
            answers = [
                await asyncio.to_thread(get, f"http://127.0.0.1:{port}{path}")
                for path in ("/healthz", "/readyz")
            ]
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            return answers[0], answers[1]

        healthy, not_ready = asyncio.run(main())
        app.client._api.rest_client.pool_manager.clear()
    assert healthy.status_code == 200
    assert (not_ready.status_code, not_ready.json()["stores"]) == (503, "being filled")


def test_a_standby_is_alive_and_ticks_as_soon_as_it_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings({"prometheus_url": "http://prometheus:9090", "listen": "0"})
    standby = App(settings, Configuration(), None, None)  # type: ignore[arg-type]
    standby.lead(False)
    standby.health.beat_at -= 1000
    ticked: list[Role] = []

    async def one(app: App) -> Outcome:
        ticked.append(app.health.role)
        raise asyncio.CancelledError

    monkeypatch.setattr(tick, "tick", one)
    monkeypatch.setattr(tick, "BEAT_S", 0.01)

    async def main() -> bool:
        running = asyncio.create_task(tick.run(standby))
        while not alive(standby.health, time.monotonic()).good:
            await asyncio.sleep(0)
        waited = not ticked
        standby.lead(True)
        await asyncio.gather(running, return_exceptions=True)
        return waited

    assert asyncio.run(main())
    assert ticked == [Role.LEADER]
