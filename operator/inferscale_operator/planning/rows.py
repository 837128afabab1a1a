"""JSON documents, read field by field; names in any capitalisation, and every error remembered."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from inferscale_operator.planning.findings import Findings, shown

Choice = TypeVar("Choice", bound=StrEnum)

UNREAD: Final = object()
"""The content of a file that could not be read."""

_SIMILAR = 0.75


class JsonObject(dict[str, Any]):
    """A JSON object that remembers which names it held more than once."""

    duplicates: tuple[str, ...] = ()


class Row:
    """One JSON object of a file.

    A field that is missing or wrong is remembered as an error and reads as its default, so that all errors
    of a file come out together; the values mean nothing once there are errors.

    Args:
        file: Name of the file, for messages.
        path: Where in the file the object is; empty at the top.
        value: The object; anything else is an error.
        findings: Where errors go.
        name: What its field `name` is where the object does not say it.
    """

    def __init__(self, file: str, path: str, value: Any, findings: Findings, name: str | None = None) -> None:
        self.file, self.path, self.findings = file, path, findings
        self._known: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._values: Mapping[str, Any] = {}
        if not isinstance(value, Mapping):
            findings.add(file, path, value, "must be an object: {…}")
            # Nothing more can be said about its fields.
            self.findings = Findings()
            return
        self._values = value if name is None else {"name": name, **value}
        twice = list(getattr(value, "duplicates", ()))
        for key in self._values:
            folded = key.casefold()
            if folded in self._names:
                twice.append(key)
            self._names[folded] = key
        for key in twice:
            findings.add(file, self.at(key), key, "is given twice: keep one of them")

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, name: str, value: Any, remedy: str) -> None:
        """Remember that a field is wrong."""
        self.findings.add(self.file, self.at(self._names.get(name.casefold(), name)), value, remedy)

    def has(self, *names: str) -> bool:
        """Whether any of the fields is given and not null."""
        self._known.update((name.casefold(), name) for name in names)
        return any(self.get(name) is not None for name in names)

    def get(self, name: str) -> Any:
        """The value of a field as it is; None where it is absent."""
        self._known[name.casefold()] = name
        actual = self._names.get(name.casefold())
        return None if actual is None else self._values[actual]

    def text(self, name: str, default: str | None = None) -> str:
        """A field that is a name; required where there is no default."""
        value = self.get(name)
        if value is None:
            if default is None:
                self.wrong(name, "", "is missing: it is required, a text")
            return default or ""
        if not isinstance(value, str) or (not value.strip() and default is None):
            self.wrong(name, value, "must be a text that is not empty")
            return default or ""
        if shown(value) != value:
            self.wrong(name, value, "must be a text without control characters")
        return value

    def number(
        self,
        name: str,
        default: float | None = None,
        *,
        least: float = 0.0,
        most: float = 1e9,
        unit: str = "",
    ) -> float:
        """A field that is a finite number within bounds; required where there is no default."""
        value = self.get(name)
        limit = f"{most:,.0f}" if most >= 1 else f"{most:g}"
        wanted = f"a number from {least:g} to {limit}" + (f" ({unit})" if unit else "")
        if value is None:
            if default is None:
                self.wrong(name, "", f"is missing: it is required, {wanted}")
            return least if default is None else default
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong(name, value, f"must be {wanted}")
            return least
        if not (least <= value <= most):
            self.wrong(name, "NaN" if value != value else value, f"must be {wanted}")
            return least
        return float(value)

    def integer(self, name: str, default: int | None = None, *, least: int = 0, most: int = 10**9) -> int:
        """A field that is a whole number within bounds; required where there is no default."""
        before = len(self.findings.found)
        value = self.number(name, default, least=least, most=most)
        if len(self.findings.found) == before and value != math.floor(value):
            self.wrong(name, value, "must be a whole number")
        return math.floor(value)

    def flag(self, name: str, default: bool) -> bool:
        """A field that is true or false."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(name, value, "must be true or false")
            return default
        return value

    def row(self, name: str) -> Row:
        """A field that is an object; an empty one where it is absent."""
        value = self.get(name)
        return Row(self.file, self.at(name), {} if value is None else value, self.findings)

    def rows(self, name: str) -> Iterator[Row]:
        """A field that is a list of objects."""
        value = self.get(name)
        yield from rows(self.file, self.at(name), value, self.findings)

    def finish(self) -> None:
        """Remember names that are none but look like one; names that say nothing here are left alone."""
        for folded, name in self._names.items():
            if folded in self._known:
                continue
            alike = difflib.get_close_matches(folded, sorted(self._known), n=1, cutoff=_SIMILAR)
            if alike and alike[0] not in self._names:
                self.wrong(name, name, f"is no field: did you mean {self._known[alike[0]]}?")


def rows(file: str, path: str, value: Any, findings: Findings) -> Iterator[Row]:
    """The objects of a list; a value that is no list is remembered as an error."""
    if not isinstance(value, list):
        findings.add(file, path, value, "must be a list: […]")
        return
    for index, each in enumerate(value):
        yield Row(file, f"{path}[{index}]", each, findings)


def choice(row: Row, name: str, kind: type[Choice]) -> Choice | None:
    """A field that is one of the values of an enumeration, in any capitalisation; None where it is absent."""
    if not row.has(name):
        return None
    value = row.get(name)
    for each in kind:
        if isinstance(value, str) and value.casefold() == each.value.casefold():
            return each
    row.wrong(name, value, f"must be one of {', '.join(kind)}")
    return None


def one_of(names: Iterable[str]) -> str:
    """The names that would be right, for a remedy; the first ones of many."""
    listed = sorted(names)
    first = ", ".join(listed[:8])
    return f"use one of {first}" + (f" … ({len(listed)} in all)" if len(listed) > 8 else "")


def read_json(path: Path, remedy: str, findings: Findings) -> Any:
    """The content of a JSON file; `UNREAD`, and an error remembered, where it cannot be."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=json_object)
    except FileNotFoundError:
        findings.add(str(path), "", "", f"is missing: {remedy}")
    except OSError as error:
        findings.add(str(path), "", "", f"cannot be read ({error.strerror}): {remedy}")
    except UnicodeDecodeError:
        findings.add(str(path), "", "", "is no text in UTF-8: give a JSON file")
    except RecursionError:
        findings.add(str(path), "", "", "is nested too deep: give one of the forms in the documentation")
    except ValueError as error:
        findings.add(str(path), "", "", f"is no JSON: {error}")
    return UNREAD


def json_object(pairs: list[tuple[str, Any]]) -> JsonObject:
    """An object as `json` reads it, for its `object_pairs_hook`."""
    result = JsonObject(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        result.duplicates = tuple(sorted({name for name in names if names.count(name) > 1}))
    return result
