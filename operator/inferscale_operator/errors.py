"""Errors that the person who starts the program can put right."""

from __future__ import annotations


class UsageError(Exception):
    """What was given cannot be used; the message names it, its value and what would be right."""
