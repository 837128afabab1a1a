"""What tests of the documentation's commands share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from localcluster import Cluster, ToolsUnavailableError
from pages.fences import Block, blocks
from transcript.play import Played, ended_well
from transcript.world import ROOT, World, build


@contextmanager
def running(folder: Path) -> Iterator[World]:
    """A cluster of its own: the custom resources come and go."""
    try:
        cluster = Cluster.up(f"docs-{os.getpid()}", startup_seconds=0, owner_pid=os.getpid())
    except ToolsUnavailableError as error:
        if os.environ.get("INFERSCALE_REQUIRE_CLUSTER"):
            raise
        pytest.skip(f"no local cluster: {error}")
    try:
        yield build(cluster, folder)
    finally:
        cluster.down()


def of(*pages: Path) -> list[Block]:
    """The blocks of pages, in their order."""
    return [block for page in pages for block in blocks(ROOT / page)]


def wrong(played: list[Played]) -> str:
    """The commands that did not end well, with what they said; empty: none."""
    return "\n".join(
        f"{one.block.place}: {one.command.text}\nended with {one.status}:\n{one.output}"
        for one in played
        if not ended_well(one)
    )
