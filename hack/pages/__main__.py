"""`python -m pages`, at the top of the project: the output in README.md and docs/ anew."""

from __future__ import annotations

from pathlib import Path

from pages import renew

if __name__ == "__main__":
    renew([Path("README.md"), *sorted(Path("docs").rglob("*.md"))])
