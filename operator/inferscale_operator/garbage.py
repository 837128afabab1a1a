"""When the interpreter looks for reference cycles.

By itself it looks again and again through all there is while a tick makes its objects, which with a thousand
services takes longer than the rest of the tick. Here it looks between two ticks, and passes over what has
stayed; that is let go by reference counts as ever.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG = 50_000
"""New objects between two searches among the newest."""
MANY = 1_000_000
"""The same, where hardly any cycle is left behind."""
EVERYTHING_EVERY = 120
"""Ticks from one search among all objects to the next: cycles among those that stayed are found then."""


class Collections:
    """Searches for cycles, of one process."""

    def __init__(self) -> None:
        self._settled = 0

    def begin(self) -> None:
        """Modules and listings are there: look among what comes from now on."""
        gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
        self.settle()

    def settle(self) -> None:
        """Look now, between two ticks, and pass over what is left from now on."""
        if self._settled % EVERYTHING_EVERY == 0:
            gc.unfreeze()
        self._settled += 1
        gc.collect()
        gc.freeze()


@contextmanager
def seldom() -> Iterator[None]:
    """Look seldom while much is made and kept; afterwards as often as before."""
    before = gc.get_threshold()
    gc.set_threshold(MANY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
