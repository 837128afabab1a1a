"""`python -m pages [--all]`, at the top of the project: docs/cli.md, and the output in all pages, anew."""

from __future__ import annotations

import sys
from pathlib import Path

from pages import commands, renew

if __name__ == "__main__":
    commands.PAGE.write_text(commands.page(), encoding="utf-8")
    renew([Path("README.md"), *sorted(Path("docs").rglob("*.md"))], long="--all" in sys.argv[1:])
