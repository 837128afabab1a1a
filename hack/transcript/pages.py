"""Which pages are played, and when."""

from __future__ import annotations

from pathlib import Path

QUICKSTART = Path("docs", "quickstart.md")
AMID_HEADING = "## 6. Upgrade\n"
"""Of the quick start; the next pages are played before it, while its service is there."""
AMID = tuple(
    Path("docs", *parts)
    for parts in (
        ("concepts.md",),
        ("migration.md",),
        ("howto", "first-service.md"),
        ("howto", "approval.md"),
        ("howto", "gitops.md"),
        ("howto", "mixed-fleet.md"),
        ("howto", "priorities.md"),
        ("howto", "budgets.md"),
        ("howto", "prometheus.md"),
        ("howto", "kind.md"),
    )
)
AFTER = (Path("docs", "install.md"), Path("deploy", "samples", "README.md"))
"""Played when the quick start has ended, and its custom resources are gone."""
