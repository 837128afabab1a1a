"""`python -m pages`, at the top of the project: docs/cli.md, and the output in README.md and docs/, anew."""

from __future__ import annotations

from pathlib import Path

from pages import commands, renew

if __name__ == "__main__":
    commands.PAGE.write_text(commands.page(), encoding="utf-8")
    renew([Path("README.md"), *sorted(Path("docs").rglob("*.md"))])
