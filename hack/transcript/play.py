"""Run the commands of a page, and compare or write what they say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pages.fences import Block, Command
from transcript.world import ROOT, World

TIMEOUT_S = 240.0
_NORMAL = (
    # Names that Kubernetes makes up, times, addresses.
    (r"-[bcdf0-9][bcdfghjklmnpqrstvwxz0-9]{7,9}-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "-7c6d8f9b5-x2k4q"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "2026-01-01T12:00:00Z"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( [+-]\d{4})?( UTC)?", "2026-01-01 12:00:00 UTC"),
    (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}", "Thu Jan  1 12:00:00 2026"),
    (r"\S+_[0-9a-f]{8} holds", "inferscale-7c6d8f9b5-x2k4q_1a2b3c4d holds"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:9090"),
    (re.escape(f"{ROOT}/"), ""),
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
                cwd=ROOT,
                env=world.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT_S,
            )
            output = normalised(done.stdout)
            say(output.rstrip("\n"))
            world.follow()
            yield Played(block, command, done.returncode, output)


def normalised(text: str) -> str:
    """Output without what is the machine's or the moment's."""
    for pattern, instead in _NORMAL:
        text = re.sub(pattern, instead, text)
    return "".join(f"{line.rstrip()}\n" for line in text.rstrip().splitlines())


def skeleton(text: str) -> str:
    """What is the same in every run: the first word of each line, numbers left out."""
    lines = (re.split(r"\s{2,}|: ", line.strip(), maxsplit=1)[0] for line in text.splitlines())
    return "".join(f"{re.sub(r'[0-9][0-9.]*', '0', line)}\n" for line in lines)
