"""Print benchmark figures: `python -m bench [SECTION …] [-o table|json|markdown]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from rich.console import Console

from bench.sections import ON_REQUEST, SECTIONS

_PIPED_WIDTH = 160


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the sections that are asked for, and print them as they are done."""
    parser = argparse.ArgumentParser(prog="bench", description="Print benchmark figures.")
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="SECTION",
        help=f"{', '.join(SECTIONS)}; all but {', '.join(sorted(ON_REQUEST))}, which take many minutes, "
        "if none is given",
    )
    parser.add_argument("-o", "--output", choices=["table", "json", "markdown"], default="table")
    parser.add_argument("--markdown", dest="output", action="store_const", const="markdown")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    data = []
    for name in options.sections or [name for name in SECTIONS if name not in ON_REQUEST]:
        for figures in SECTIONS[name]():
            if options.output == "table":
                figures.show(console)
            elif options.output == "markdown":
                print(f"### {figures.title}\n\n{figures.as_markdown()}\n\n{figures.note}\n".rstrip() + "\n")
            else:
                data.append({"section": name, **figures.as_data()})
    if options.output == "json":
        print(json.dumps(data, indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
