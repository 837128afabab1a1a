"""One endpoint for the metrics of all pods: `python -m bench.scrape PODS PORT [NOISE]`.

PODS is a file of lines `name model rate`, read again when it changed.
"""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.crowd import Reporter, exposition


def write(path: Path, reporters: list[Reporter]) -> None:
    """Write the file of pods."""
    lines = (f"{reporter.name} {reporter.model} {reporter.rate}\n" for reporter in reporters)
    path.with_suffix(".new").write_text("".join(lines))
    path.with_suffix(".new").replace(path)


def read(path: Path) -> list[Reporter]:
    """The pods of such a file."""
    rows = (line.split() for line in path.read_text().splitlines())
    return [Reporter(name, model, float(rate)) for name, model, rate in rows]


class _Handler(BaseHTTPRequestHandler):
    pods: Path
    noise: float

    def do_GET(self) -> None:
        body = exposition(read(self.pods), time.time() % 1e7, self.noise).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is the base class's
        """Scrapes are not logged."""


def main() -> None:
    """Serve until killed."""
    _Handler.pods, _Handler.noise = Path(sys.argv[1]), float(sys.argv[3])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), _Handler).serve_forever()


if __name__ == "__main__":
    main()
