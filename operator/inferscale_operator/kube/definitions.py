"""What the installed definitions of our custom resources keep of a status.

The API server drops a field that a definition does not have. An operator that is newer than the definitions
would find its statuses changed at every tick, and write them again, if it did not take that into account.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import Lock
from typing import Any

Path = tuple[str, ...]
"""Field after field; `ITEM` for each item of a list."""

ITEM = "[]"


class Definitions:
    """Fields that the API server was seen to drop, by kind. Any thread may use it."""

    def __init__(self) -> None:
        self._dropped: dict[str, frozenset[Path]] = {}
        self._lock = Lock()

    @property
    def dropped(self) -> Mapping[str, tuple[str, ...]]:
        """Such as `status.candidates[].message`, by kind; empty: all is kept."""
        with self._lock:
            return {
                kind: tuple(sorted(".".join(("status", *path)).replace(f".{ITEM}", ITEM) for path in paths))
                for kind, paths in sorted(self._dropped.items())
                if paths
            }

    def learn(self, kind: str, sent: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
        """Take in what became of a status that was written; a field that is kept now is forgotten.

        Args:
            kind: Kind of the object.
            sent: The status as it was sent, whole.
            kept: The status in the API server's answer.
        """
        lost = frozenset() if sent == kept else frozenset(_lost(sent, kept, ()))
        with self._lock:
            before = self._dropped.get(kind, frozenset())
            if lost or before:
                self._dropped[kind] = frozenset(p for p in before if not _has(sent, p)) | lost

    def kept(self, kind: str, status: Mapping[str, Any]) -> Mapping[str, Any]:
        """A status as the API server would have it."""
        with self._lock:
            dropped = self._dropped.get(kind)
        if not dropped:
            return status
        result: Mapping[str, Any] = _without(status, dropped)
        return result


def _lost(sent: Any, kept: Any, at: Path) -> Iterator[Path]:
    if isinstance(sent, Mapping) and isinstance(kept, Mapping):
        for key, value in sent.items():
            if key in kept:
                yield from _lost(value, kept[key], (*at, key))
            elif value is not None:
                yield (*at, key)
    elif isinstance(sent, list | tuple) and isinstance(kept, list | tuple):
        for one, other in zip(sent, kept, strict=False):
            yield from _lost(one, other, (*at, ITEM))


def _has(value: Any, path: Path) -> bool:
    if not path:
        return value is not None
    field, *rest = path
    if field == ITEM:
        return isinstance(value, list | tuple) and any(_has(item, tuple(rest)) for item in value)
    return isinstance(value, Mapping) and field in value and _has(value[field], tuple(rest))


def _without(value: Any, paths: frozenset[Path]) -> Any:
    """A copy without some fields."""
    below: dict[str, set[Path]] = {}
    for field, *rest in paths:
        below.setdefault(field, set()).add(tuple(rest))
    if isinstance(value, Mapping):
        return {
            key: _without(each, frozenset(below[key])) if key in below else each
            for key, each in value.items()
            if () not in below.get(key, ())
        }
    if isinstance(value, list | tuple) and ITEM in below:
        return [_without(item, frozenset(below[ITEM])) for item in value]
    return value
