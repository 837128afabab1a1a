"""What is wrong in input files, collected so that everything is told at once."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from inferscale_operator.errors import UsageError
from inferscale_queueing.frozen import frozen

_LONGEST_VALUE = 60
_UNSHOWN = ("Cc", "Cs")
"""Control characters, which would steer a terminal, and halves of characters, which cannot be written."""


def shown(text: str) -> str:
    """A text with what cannot be shown escaped."""
    return "".join(
        each.encode("unicode_escape").decode() if unicodedata.category(each) in _UNSHOWN else each
        for each in text
    )


@frozen
class Finding:
    """One error: where it is, what is there and what would be right."""

    file: str
    path: str
    value: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.path}" if self.path else self.file
        return f"{where}: {self.value}: {self.remedy}" if self.value else f"{where}: {self.remedy}"


@dataclass
class Findings:
    """The errors found so far, in the order of the input."""

    found: list[Finding] = field(default_factory=list)

    def add(self, file: str, path: str, value: Any, remedy: str) -> None:
        """Remember an error; a value that is no text is shown as JSON."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        if len(text) > _LONGEST_VALUE:
            text = f"{text[:_LONGEST_VALUE]}…"
        self.found.append(Finding(*map(shown, (file, path, text, remedy))))

    def raise_any(self) -> None:
        """Refuse the input if anything is wrong with it.

        Raises:
            UsageError: Lists every error, one a line.
        """
        if not self.found:
            return
        count = len(self.found)
        head = "1 error in the input" if count == 1 else f"{count} errors in the input"
        raise UsageError(f"{head}; nothing was planned.\n" + "\n".join(f"  {each}" for each in self.found))
