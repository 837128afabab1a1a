"""Files that commands write: never over what is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from inferscale_operator.errors import UsageError


def write_new(folder: Path, contents: Mapping[str, str]) -> None:
    """Write files into a folder, which is made if need be, and tell each on stderr.

    Raises:
        UsageError: one of them is there already, or cannot be written.
    """
    for name in contents:
        if (folder / name).exists():
            raise UsageError(
                f"--output-dir {folder}: {name} is there already: remove it, or name another folder"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            (folder / name).write_text(text, encoding="utf-8")
            click.echo(f"Wrote {folder / name}", err=True)
    except OSError as error:
        raise UsageError(
            f"--output-dir {folder}: {error.strerror}: name a folder that can be written to"
        ) from error
