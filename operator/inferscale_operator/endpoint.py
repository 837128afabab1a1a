"""The HTTP endpoint of the process: `/healthz`, `/readyz`, `/metrics`.

It has threads of its own, so that it answers whatever the event loop and the remote calls are doing.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from inferscale_operator.errors import UsageError
from inferscale_operator.health import Verdict
from inferscale_queueing.frozen import frozen

REQUEST_LIMIT_S = 10.0
"""For a request to arrive, so that half a request holds no thread for long."""
TEXT = "text/plain; charset=utf-8"


@frozen
class Answer:
    """What is answered to a GET."""

    status: int
    content_type: str
    body: bytes


Route = Callable[[], Answer]


def told(verdict: Verdict) -> Answer:
    """A verdict as a probe reads it: 200 or 503, and why."""
    body = {"status": "ok" if verdict.good else "failed", **verdict.facts}
    return Answer(200 if verdict.good else 503, "application/json", json.dumps(body).encode() + b"\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], routes: Mapping[str, Route]) -> None:
        self.routes = routes
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # That of HTTPServer asks the DNS for the name of the host.
        socketserver.TCPServer.server_bind(self)
        host, port = self.socket.getsockname()[:2]
        self.server_name, self.server_port = str(host), int(port)

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked has gone away: nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_LIMIT_S
    server: _Server

    def do_GET(self) -> None:
        route = self.server.routes.get(self.path.partition("?")[0])
        answer = route() if route is not None else Answer(404, TEXT, b"not found\n")
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def version_string(self) -> str:
        return "inferscale"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
        """Probes come every few seconds: nothing to tell."""


class Endpoint:
    """A server for the given paths, from `with` on.

    Args:
        address: `host:port` to listen on; port 0 for any.
        routes: What answers a GET of each path.

    Raises:
        UsageError: the address cannot be listened on.
    """

    def __init__(self, address: str, routes: Mapping[str, Route]) -> None:
        host, _, port = address.rpartition(":")
        try:
            self._server = _Server((host, int(port)), routes)
        except OSError as error:
            raise UsageError(
                f"--listen {address}: {error.strerror}. Give another address, or 0 for none."
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="endpoint", daemon=True
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self._server.server_name}:{self._server.server_port}"

    def __enter__(self) -> Endpoint:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
