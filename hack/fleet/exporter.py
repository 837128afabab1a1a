"""HTTP: scrapes of the emulated pods, the fleet's state, faults on demand."""

import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fleet.gateway import Fleet
from fleet.server import Fault

_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


class Exporter(ThreadingHTTPServer):
    """Serves a fleet on 127.0.0.1.

    - `GET /pods/<namespace>/<pod>/metrics`: the pod's metrics; 404 where nothing answers.
    - `GET /fleet`: the state as JSON.
    - `GET /healthz`.
    - `POST /faults/<namespace>/<pod>?mode=silent|stalled|none`.

    Args:
        fleet: The fleet.
        port: The port; 0 takes a free one.
    """

    daemon_threads = True

    def __init__(self, fleet: Fleet, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.fleet = fleet

    @property
    def url(self) -> str:
        """Where it is served."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Exporter
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        match self._path():
            case ["healthz"]:
                self._answer(HTTPStatus.OK, b"ok\n")
            case ["fleet"]:
                body = json.dumps(self.server.fleet.state(), indent=2).encode()
                self._answer(HTTPStatus.OK, body + b"\n", "application/json")
            case ["pods", namespace, pod, "metrics"]:
                metrics = self.server.fleet.exposition(namespace, pod)
                if metrics is None:
                    self._answer(HTTPStatus.NOT_FOUND, f"pod {namespace}/{pod} does not answer\n".encode())
                else:
                    self._answer(HTTPStatus.OK, metrics, _EXPOSITION)
            case _:
                self._answer(HTTPStatus.NOT_FOUND, b"not found\n")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        match self._path():
            case ["faults", namespace, pod]:
                [mode] = parse_qs(urlsplit(self.path).query).get("mode", [""])[:1]
                if mode not in list(Fault):
                    modes = ", ".join(Fault)
                    self._answer(HTTPStatus.BAD_REQUEST, f"mode is {mode!r}, not one of {modes}\n".encode())
                elif self.server.fleet.set_fault(namespace, pod, Fault(mode)):
                    self._answer(HTTPStatus.OK, f"{namespace}/{pod}: {mode}\n".encode())
                else:
                    self._answer(HTTPStatus.NOT_FOUND, f"pod {namespace}/{pod} is not served\n".encode())
            case _:
                self._answer(HTTPStatus.NOT_FOUND, b"not found\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the base class's
        """Scrapes come every second: they are not logged."""

    def _path(self) -> list[str]:
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
