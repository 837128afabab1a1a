"""Commands in the documentation: fenced blocks of a shell, and what becomes of them.

A block with lines that begin with `$ ` shows commands and their output; in others every line is of a command.
A block below a comment `<!-- syntax only: WHY -->` is not run: it needs what a test does not have.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("console", "sh", "bash", "shell")
_FENCE = re.compile(
    rf"^(?P<indent> *)```(?:{'|'.join(LANGUAGES)})\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_DOCUMENT = re.compile(r"<<-?'?(\w+)'?")
_MARK = re.compile(r"<!-- syntax only: (.+?) -->\s*\Z")


@dataclass(frozen=True)
class Command:
    """A command of a page.

    Attributes:
        text: As the shell takes it; may have several lines.
        output: The lines that the page shows for it; None where it shows none.
    """

    text: str
    output: str | None


@dataclass(frozen=True)
class Block:
    """A fenced block of a shell.

    Attributes:
        page: Where.
        line: Its first one, counted from 1.
        commands: In their order.
        why_not_run: The reason where it is not to be run.
        start: Where its text begins in the page's, and ...
        end: ... where it ends.
    """

    page: Path
    line: int
    commands: tuple[Command, ...]
    why_not_run: str | None
    start: int
    end: int

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        lines = [line.removeprefix(found["indent"]) for line in found["body"].splitlines()]
        mark = _MARK.search(text, 0, found.start())
        yield Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            tuple(_commands(lines)),
            mark[1] if mark else None,
            found.start("body"),
            found.end("body"),
        )


def _commands(lines: Sequence[str]) -> Iterator[Command]:
    shown = any(line.startswith("$ ") for line in lines)
    rest = list(lines)
    while rest:
        line = rest.pop(0)
        if shown and not line.startswith("$ "):
            raise ValueError(f"output without a command: {line!r}")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        command = [line.removeprefix("$ ")]
        while rest and not _is_whole("\n".join(command)):
            command.append(rest.pop(0))
        output = []
        while shown and rest and not rest[0].startswith("$ "):
            output.append(f"{rest.pop(0)}\n")
        yield Command("\n".join(command), "".join(output) if shown else None)


def _is_whole(command: str) -> bool:
    """Whether no quote, line or here-document is left open."""
    if document := _DOCUMENT.search(command):
        return f"\n{document[1]}" in command[document.end() :]
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return not command.endswith("\\")
