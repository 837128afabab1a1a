"""Saying what is going on, and how far a long build is."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

Report = Callable[[str], None]


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


class BuildProgress:
    """Tells of a `go build -v` while it runs: one line that changes on a terminal, else a line every 30 s."""

    def __init__(self, report: Report, expected: int) -> None:
        self.report = report
        self.expected = expected
        self.terminal = report is say and sys.stdout.isatty()
        self.packages = 0
        self.started = time.monotonic()
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> BuildProgress:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._ticker.join()
        if self.terminal:
            print()

    def count(self, line: str) -> bool:
        """Whether the line only tells progress: a package, or a download."""
        package = " " not in line.strip()
        self.packages += package
        return package or line.startswith("go: downloading")

    def text(self) -> str:
        """How far the build is. What is built already is not counted; the last minute or two links."""
        elapsed = minutes(time.monotonic() - self.started)
        return f"  compiled {self.packages} of at most {self.expected} packages, {elapsed}"

    def _tick(self) -> None:
        while not self._ended.wait(0.5 if self.terminal else 30):
            if self.terminal:
                print(f"\r{self.text()}", end="", flush=True)
            else:
                self.report(self.text())


def minutes(seconds: float) -> str:
    """A duration for people: `9:21 min`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02} min"
