"""The version: pyproject.toml has it, and whatever else names it must agree.

`hack/chartfiles.py` writes it into the chart; the changelog and the pages are checked.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_NUMBER = r"(\d+\.\d+\.\d+(?:[-.]?[a-z]+\d*)?)"
_NAMED = {
    "deploy/Dockerfile": rf"inferscale:{_NUMBER}",
    "docs/install.md": rf"(?:inferscale:|Version ){_NUMBER}",
    "charts/inferscale/Chart.yaml": rf"(?m)^(?:version|appVersion): {_NUMBER}$",
}
"""Where the project's version is named, and how."""
_HEADING = re.compile(rf"(?m)^## (?:Unreleased: )?{_NUMBER}\b")


def current(root: Path = ROOT) -> str:
    """The version of the project."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def disagreements(root: Path = ROOT) -> Iterator[str]:
    """What names another version, or should name one and does not: a line each."""
    version = current(root)
    for name, pattern in _NAMED.items():
        found = re.findall(pattern, (root / name).read_text(encoding="utf-8"))
        if not found:
            yield f"{name}: names no version; pyproject.toml has {version}"
        for other in sorted(set(found) - {version}):
            yield f"{name}: names version {other}; pyproject.toml has {version}"
    newest = _HEADING.search((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    if newest is None or newest[1] != version:
        shown = newest[1] if newest else "none"
        yield f"CHANGELOG.md: the newest version is {shown}; pyproject.toml has {version}"
