"""Where the local cluster keeps its files."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import ClusterError

HACK = Path(__file__).resolve().parent.parent
TOOLS_MODULE = HACK / "tools"
STAGES = HACK / "kwok"
DEFAULT_NODES = HACK / "nodes" / "default.json"

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


def cache_dir() -> Path:
    """The folder for what is built once: `$INFERSCALE_CACHE`, or `inferscale` in the user's cache."""
    if configured := os.environ.get("INFERSCALE_CACHE"):
        return Path(configured).absolute()
    return _xdg("XDG_CACHE_HOME", ".cache") / "inferscale"


def clusters_dir() -> Path:
    """The folder with one folder for each running cluster, in `$INFERSCALE_STATE` or the user's state."""
    if configured := os.environ.get("INFERSCALE_STATE"):
        return Path(configured).absolute() / "clusters"
    return _xdg("XDG_STATE_HOME", ".local/state") / "inferscale" / "clusters"


def cluster_dir(name: str) -> Path:
    """The folder of the cluster `name`.

    Raises:
        ClusterError: the name is not a DNS label of at most 40 characters.
    """
    if not _NAME.fullmatch(name):
        raise ClusterError(
            f"cluster name {name!r}: use at most 40 lower-case letters, digits and '-', not '-' at the ends"
        )
    return clusters_dir() / name


def _xdg(variable: str, default: str) -> Path:
    # The XDG specification: a relative path in these variables is to be ignored.
    configured = Path(os.environ.get(variable, ""))
    return configured if configured.is_absolute() else Path.home() / default
