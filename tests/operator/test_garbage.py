"""Reference cycles are found, now or later, and what stays is passed over."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from inferscale_operator import garbage
from inferscale_operator.garbage import Collections


class Cycle:
    """Two that hold each other."""

    def __init__(self) -> None:
        self.other: Cycle | None = None

    @staticmethod
    def make() -> Cycle:
        one, other = Cycle(), Cycle()
        one.other, other.other = other, one
        return one


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_cycles_that_a_tick_leaves_are_gone_after_it() -> None:
    collections = Collections()
    collections.begin()
    left = weakref.ref(Cycle.make())
    collections.settle()
    assert left() is None


def test_what_stays_is_passed_over() -> None:
    collections = Collections()
    kept = [Cycle.make() for _ in range(100)]
    collections.begin()
    looked_at = {id(each) for each in gc.get_objects()}
    assert not any(id(each) in looked_at for each in kept)


def test_cycles_among_what_had_stayed_are_found_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "EVERYTHING_EVERY", 3)
    collections = Collections()
    kept = Cycle.make()
    collections.begin()
    left = weakref.ref(kept)
    del kept
    collections.settle()
    assert left() is not None
    for _ in range(garbage.EVERYTHING_EVERY):
        collections.settle()
    assert left() is None
