"""Commands in the documentation, run again: blocks that begin with `$ inferscale …`, and their output.

Only commands that need nothing but files: what others show depends on the cluster. A line `…` stands for
output that is left out. `python -m pages` writes the output anew into the pages; a test compares it. Commands
that take long are written anew by `python -m pages --all` alone.
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

from inferscale_operator.cli import main

LEFT_OUT = "…"
LONG = ("scenarios/dynamic-",)
"""In commands that take up to a minute."""
_OFFLINE = "plan|analyze|fit|estimate|simulate|import docs/|export --snapshot"
_BLOCK = re.compile(
    rf"(?<=^```console\n)\$ (inferscale (?:{_OFFLINE})[^\n]*)\n(.*?)(?=^```$)", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Example:
    """A command and the output that a page shows for it."""

    page: Path
    command: str
    shown: str

    @property
    def long(self) -> bool:
        """Whether it takes long."""
        return any(part in self.command for part in LONG)


def examples(pages: Sequence[Path]) -> Iterator[Example]:
    """The commands in pages, in their order."""
    for page in pages:
        for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
            yield Example(page, block[1], block[2])


def run(command: str) -> str:
    """The output of a command and its errors, in the current folder, without trailing spaces."""
    text = io.StringIO()
    with redirect_stdout(text), redirect_stderr(text), suppress(SystemExit):
        main(shlex.split(command)[1:])
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def agrees(shown: str, output: str) -> bool:
    """Whether output is what a page shows, `…` for whatever is left out."""
    return renewed(shown, output) == shown


def renewed(shown: str, output: str) -> str:
    """What a page is to show of an output: the same parts as it shows now.

    A part is found at the beginning, at the end, or between two `…` by its first line.
    """
    parts, lines = _parts(shown), output.splitlines()
    renewed, last = [], len(parts) - 1
    for i, part in enumerate(parts):
        if last == 0:
            renewed.append(lines)
        elif i == 0:
            renewed.append(lines[: len(part)])
        elif i == last:
            renewed.append(lines[len(lines) - len(part) :])
        else:
            start = lines.index(part[0]) if part[0] in lines else 0
            renewed.append(lines[start : start + len(part)])
    return "".join(f"{line}\n" for i, part in enumerate(renewed) for line in ([LEFT_OUT] * (i > 0) + part))


def renew(pages: Sequence[Path], *, long: bool = False) -> None:
    """Run the commands of pages again and write their output into them, long ones when asked to."""
    for page in pages:
        text = page.read_text(encoding="utf-8")

        def block(found: re.Match[str], page: Path = page) -> str:
            if Example(page, found[1], found[2]).long and not long:
                return found[0]
            return f"$ {found[1]}\n{renewed(found[2], run(found[1]))}"

        page.write_text(_BLOCK.sub(block, text), encoding="utf-8")


def _parts(shown: str) -> list[list[str]]:
    """The lines between the `…`."""
    parts: list[list[str]] = [[]]
    for line in shown.splitlines():
        if line == LEFT_OUT:
            parts.append([])
        else:
            parts[-1].append(line)
    return parts
