"""`python -m transcript`, at the top of the project: docs/quickstart.md with the output of a run, anew."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from localcluster.cluster import Cluster
from localcluster.errors import ClusterError
from pages import renewed
from pages.fences import blocks
from transcript.pages import QUICKSTART as PAGE
from transcript.play import Played, ended_well, play
from transcript.world import build


def main() -> int:
    """Play the page; 0 if every command ended well."""
    parser = argparse.ArgumentParser(prog="make transcript", description=__doc__)
    parser.add_argument("--show", action="store_true", help="show the run and leave the page as it is")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found, played = list(blocks(PAGE)), []
    with tempfile.TemporaryDirectory(prefix="quickstart-") as folder:
        cluster = Cluster.up("quickstart", owner_pid=os.getpid())
        try:
            for done in play(build(cluster, Path(folder)), found, print):
                if not ended_well(done):
                    print(f"{done.block.place}: ended with {done.status}", file=sys.stderr)
                    return 1
                played.append(done)
        finally:
            cluster.down()
    if not options.show:
        PAGE.write_text(_written(PAGE.read_text(encoding="utf-8"), played), encoding="utf-8")
    return 0


def _written(text: str, played: list[Played]) -> str:
    """The page with the output of a run; `…` stays for what it leaves out."""
    for block in reversed(list(dict.fromkeys(done.block for done in played))):
        body = ""
        for done in played:
            if done.block is block:
                shown = renewed(done.command.output or "", done.output)
                body += f"$ {done.command.text}\n{shown}"
        text = text[: block.start] + body + text[block.end :]
    return text


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ClusterError as error:
        sys.exit(f"transcript: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
