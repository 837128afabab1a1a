"""Run the commands of a page, and compare or write what they say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pages.fences import Block, Command
from transcript.world import World

TIMEOUT_S = 240.0
_NORMAL = (
    # Names that Kubernetes makes up, times, addresses.
    (r"-[bcdf0-9][bcdfghjklmnpqrstvwxz0-9]{7,9}-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "-7c6d8f9b5-x2k4q"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "2026-01-01T12:00:00Z"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( [+-]\d{4})?( UTC)?", "2026-01-01 12:00:00 UTC"),
    (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}", "Thu Jan  1 12:00:00 2026"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:9090"),
)


@dataclass(frozen=True)
class Played:
    """A command that was run.

    Attributes:
        block: Where it is.
        command: What it is.
        status: Exit status.
        output: Its output and errors, normalised.
    """

    block: Block
    command: Command
    status: int
    output: str


def play(
    world: World, blocks: Iterable[Block], say: Callable[[str], None] = lambda _: None
) -> Iterator[Played]:
    """Run the commands of blocks one after the other, those that are not to be run left out."""
    for block in blocks:
        for command in () if block.why_not_run else block.commands:
            say(f"$ {command.text}")
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command.text],
                check=False,
                cwd=world.work,
                env=world.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT_S,
            )
            output = normalised(done.stdout.replace(f"{world.work}/", ""))
            say(output.rstrip("\n"))
            world.follow()
            yield Played(block, command, done.returncode, output)


def normalised(text: str) -> str:
    """Output without what is the machine's or the moment's."""
    text = re.sub(r"(\S+)_[0-9a-f]{8} holds", _holder, text)
    for pattern, instead in _NORMAL:
        text = re.sub(pattern, instead, text)
    return "".join(f"{line.rstrip()}\n" for line in text.rstrip().splitlines())


def _holder(found: re.Match[str]) -> str:
    """A name of the same length, so that tables stay in shape."""
    return f"{('operator-' * 30)[: len(found[1])]}_1a2b3c4d holds"


def skeleton(text: str) -> set[str]:
    """What is the same in every run: the first word of each line, without numbers; not how long it waited."""
    first = (line.split()[0] for line in text.splitlines() if line.strip())
    return {re.sub(r"[0-9][0-9.]*", "0", word) for word in first} - {"Waiting"}


def ended_well(played: Played) -> bool:
    """Whether a command did what it should; `inferscale status` ends with 1 where something is not well."""
    looks = played.command.text.startswith("inferscale status")
    return played.status == 0 or (looks and played.status == 1)
