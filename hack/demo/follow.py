"""What happens in a run, as it happens."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from demo import watch
from demo.world import World
from localcluster.errors import ClusterError

TABLE_EVERY_S = 30.0
STYLES = {"ScaledUp": "green", "ScaledDown": "cyan", "MoveStarted": "magenta", "MoveReady": "magenta"} | {
    "MoveCompleted": "magenta",
    "MoveRolledBack": "red",
    "MoveTimedOut": "red",
}


def follow(
    console: Console, world: World, seconds: float, story: Iterable[Mapping[str, Any]]
) -> list[watch.Seen]:
    """Show events as they come, and the allocations: at the bottom of a terminal, else now and then.

    Args:
        console: Where.
        world: What runs.
        seconds: How long, from the beginning of the load.
        story: What is said when: `at` (s) and `say`.

    Returns:
        The events that were shown.

    Raises:
        ClusterError: the operator ended; with the end of its log.
    """
    left = list(story)
    watcher = watch.Watch(world)
    seen: list[watch.Seen] = []
    next_table = 0.0
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while (now := time.time() - world.started_at) < seconds:
            if world.operator_state() != "running":
                log = world.cluster.log_file("operator").read_text().splitlines()
                raise ClusterError("the operator ended:\n" + "\n".join(log[-25:]))
            while left and left[0]["at"] <= now:
                console.print(Text(f"{clock(now)}  » {left.pop(0)['say']}", style="bold yellow"))
            for event in watcher.events():
                # Until the load begins there is nothing to see; times of events are whole seconds.
                if event.at.timestamp() < world.started_at - 1:
                    continue
                seen.append(event)
                console.print(_line(event, world), soft_wrap=not console.is_terminal)
            allocations = watcher.allocations()
            title = f"inferenceallocations at {clock(now)}"
            if console.is_terminal:
                live.update(watch.table(allocations, title, console.width), refresh=True)
            elif allocations and now >= next_table:
                console.print(watch.table(allocations, title, console.width))
                next_table = now + TABLE_EVERY_S
            time.sleep(0.5)
    console.print(
        watch.table(watcher.allocations(), f"inferenceallocations at {clock(seconds)}", console.width)
    )
    return seen


def _line(event: watch.Seen, world: World) -> Text:
    line = Text(f"{clock(event.at.timestamp() - world.started_at)}  ")
    line.append(f"{event.service:<11}", style="bold")
    line.append(f" {event.reason:<18} ", style=STYLES.get(event.reason, "yellow"))
    line.append(event.message)
    return line


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(max(seconds, 0) // 60)}:{int(max(seconds, 0) % 60):02d}"
