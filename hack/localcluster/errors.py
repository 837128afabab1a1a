"""What can go wrong, in words for the person at the terminal."""

from __future__ import annotations


class ClusterError(Exception):
    """A local cluster cannot do what was asked; the message says why and what to do."""


class ToolsUnavailableError(ClusterError):
    """The programs of a local cluster are neither cached nor on PATH and cannot be built here."""
