"""Names of files as names of Kubernetes objects."""

from __future__ import annotations

import re
from collections.abc import Iterable

from inferscale_operator.errors import UsageError

LONGEST = 253


def object_name(text: str) -> str:
    """The name nearest to a text that an object may have; empty: the text has no letter or digit.

    As DNS-1123 has it: small letters, digits, `-` and `.`.
    """
    name = re.sub(r"[^a-z0-9.]+", "-", text.lower())
    name = re.sub(r"[-.]*\.[-.]*", ".", name)
    return name[:LONGEST].strip("-.")


def object_names(kind: str, texts: Iterable[str]) -> dict[str, str]:
    """The name of an object for each text, no two the same.

    Args:
        kind: What they are names of, for messages.
        texts: Names as the files have them.

    Raises:
        UsageError: a text has nothing to make a name of, or two make the same one.
    """
    made: dict[str, str] = {}
    by_name: dict[str, str] = {}
    for text in texts:
        name = object_name(text)
        if not name:
            raise UsageError(nameless(kind, text))
        if by_name.setdefault(name, text) != text:
            raise UsageError(
                f"{kind} {by_name[name]!r} and {kind} {text!r} would both be named {name!r}: rename one"
            )
        made[text] = name
    return made


def nameless(kind: str, text: str) -> str:
    """What is wrong with a text that no name can be made of."""
    return f"{kind} {text!r} has no letter or digit of a to z and 0 to 9 to make a name of: rename it"
