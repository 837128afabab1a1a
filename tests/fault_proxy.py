"""A reverse proxy that gives back faults instead of answers, in front of an API server or of Prometheus."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    method: str
    path: str
    """With the query."""

    @property
    def writes(self) -> bool:
        """Whether it is to change something other than a Lease; a review of permissions changes nothing."""
        kept_apart = ("/leases/", "accessreviews")
        return self.method != "GET" and not any(part in self.path for part in kept_apart)

    @property
    def watches(self) -> bool:
        """Whether it is a watch."""
        return "watch=true" in self.path or "watch=1" in self.path


@dataclass(frozen=True)
class Fault:
    """What is done to a request."""

    delay_s: float = 0.0
    """Before anything else."""
    status: int | None = None
    """Answered instead of asking; None: it is asked."""
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()
    truncated: bool = False
    """Half of the answer, and the connection is closed."""
    refused: bool = False
    """The connection is closed without an answer."""


WELL = Fault()
Rule = Callable[[Request], Fault]


def always(fault: Fault) -> Rule:
    """The same for every request."""
    return lambda _: fault


def on_writes(fault: Fault) -> Rule:
    """For what is to change something."""
    return lambda request: fault if request.writes else WELL


def refusal(code: int, reason: str, *headers: tuple[str, str]) -> Fault:
    """An answer of the API server that says no."""
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
    body = json.dumps(status | {"message": f"injected: {reason}"}).encode()
    return Fault(status=code, body=body, headers=headers)


class Proxy(ThreadingHTTPServer):
    """Forwards to `target`, from `with` on; `rule` says what is done to each request.

    Args:
        target: base URL.
        certificate: PEM text of the authority of the target's certificate.
    """

    daemon_threads = True

    def __init__(self, target: str, certificate: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        parts = urlsplit(target)
        self.host, self.target_port = parts.hostname or "", parts.port
        self.tls = ssl.create_default_context(cadata=certificate) if parts.scheme == "https" else None
        self.rule: Rule = always(WELL)
        self.requests: list[Request] = []
        self.refused: list[Request] = []
        """Those that were answered with a fault's status."""
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def writes(self) -> int:
        """Requests so far that were to change something other than a Lease."""
        return sum(request.writes for request in list(self.requests))

    def cut(self) -> None:
        """Break every connection that is open."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has gone away."""

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.cut()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def setup(self) -> None:
        super().setup()
        self.server._open.add(self.connection)

    def finish(self) -> None:
        self.server._open.discard(self.connection)
        super().finish()

    def _handle(self) -> None:
        request = Request(self.command, self.path)
        self.server.requests.append(request)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.rule(request)
        time.sleep(fault.delay_s)
        if fault.refused:
            return
        if fault.status is not None:
            self.server.refused.append(request)
            self._answer(fault.status, [("Content-Type", "application/json"), *fault.headers])
            self.wfile.write(fault.body)
            return
        self._forward(body, fault)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - as the base class has it

    def _forward(self, body: bytes, fault: Fault) -> None:
        server = self.server
        if server.tls is not None:
            upstream: http.client.HTTPConnection = http.client.HTTPSConnection(
                server.host, server.target_port, timeout=120, context=server.tls
            )
        else:
            upstream = http.client.HTTPConnection(server.host, server.target_port, timeout=120)
        try:
            kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
            upstream.request(self.command, self.path, body or None, kept)
            answer = upstream.getresponse()
            server._open.add(upstream.sock)
            drop = ("transfer-encoding", "connection")
            headers = [(k, v) for k, v in answer.getheaders() if k.lower() not in drop]
            if fault.truncated:
                data = answer.read()
                headers = [(k, v) for k, v in headers if k.lower() != "content-length"]
                self._answer(answer.status, [*headers, ("Content-Length", str(len(data)))])
                self.wfile.write(data[: len(data) // 2])
                return
            self._answer(answer.status, headers)
            while part := answer.read1(65536):
                self.wfile.write(part)
        except (OSError, http.client.HTTPException):
            # As if it had been asked directly: the connection is gone.
            return
        finally:
            server._open.discard(upstream.sock)
            upstream.close()

    def _answer(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
        """Nothing is told."""


def before_api_server(kubeconfig: Path, through: Path) -> Proxy:
    """A proxy in front of the API server of a kubeconfig, with the same account through it in `through`."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    certificate = base64.b64decode(cluster.pop("certificate-authority-data")).decode()
    proxy = Proxy(cluster["server"], certificate)
    cluster["server"] = proxy.url
    through.touch(mode=0o600)
    through.write_text(yaml.safe_dump(config))
    return proxy
