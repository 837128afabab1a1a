"""Measured figures, and the three forms in which they are shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

Value = str | int | float | None


@dataclass(frozen=True)
class Figures:
    """A table of what was measured.

    Attributes:
        title: What it shows.
        columns: Its headings, each with its unit.
        rows: One value a column; None where there is none.
        note: How it was measured.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    note: str = ""

    def as_data(self) -> dict[str, object]:
        """The table as data: every row is an object with the headings as names."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows, "note": self.note}

    def as_markdown(self) -> str:
        """The table in Markdown, without its title."""
        lines = ["| " + " | ".join(row) + " |" for row in (self.columns, *map(_texts, self.rows))]
        lines.insert(1, "|" + "---|" * len(self.columns))
        return "\n".join(lines)

    def show(self, console: Console) -> None:
        """Print the table for people."""
        table = Table(title=self.title, title_justify="left", caption=self.note, caption_justify="left")
        for number, name in enumerate(self.columns):
            numeric = all(not isinstance(row[number], str) for row in self.rows)
            table.add_column(name, justify="right" if numeric else "left")
        for row in self.rows:
            table.add_row(*_texts(row))
        console.print(table)
        console.print()


def seconds(work: Callable[[], object], runs: int = 3) -> float:
    """The least time on the processor of a few runs, in core seconds.

    Wall time would be that of whatever else the machine does; what disturbs a run only makes it longer.
    """
    times = []
    for _ in range(runs):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def _texts(row: Sequence[Value]) -> list[str]:
    return [_text(value) for value in row]


def _text(value: Value) -> str:
    if value is None:
        return "–"
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else value
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
