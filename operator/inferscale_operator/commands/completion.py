"""`inferscale completion`: the script by which a shell completes commands and options."""

from __future__ import annotations

from collections.abc import Sequence

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

COMPLETE_VARIABLE = "_INFERSCALE_COMPLETE"
SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
NO_FILES = ":4"
"""How kubectl is told that files are no completions here."""


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in SHELL."""
    made = SHELLS[shell](context.find_root().command, {}, "inferscale", COMPLETE_VARIABLE)
    # Not `source()`, which for bash runs the shell to look at its version.
    click.echo(made.source_template % made.source_vars())


def completions(command: click.Command, before: Sequence[str], incomplete: str) -> str:
    """What may come next, a line each, as kubectl takes it of a plugin."""
    found = ShellComplete(command, {}, "kubectl inferscale", COMPLETE_VARIABLE).get_completions(
        list(before), incomplete
    )
    lines = [f"{item.value}\t{item.help}" if item.help else str(item.value) for item in found]
    return "".join(f"{line}\n" for line in (*lines, NO_FILES))
