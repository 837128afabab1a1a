"""Tables for the terminal as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text


def markup(shown: RenderableType) -> Iterator[str]:
    """Tables and lines of text, one after the other, as HTML.

    Raises:
        TypeError: it holds something else.
    """
    match shown:
        case Group():
            for part in shown.renderables:
                yield from markup(part)
        case Table():
            yield from _table(shown)
        case Text() | str():
            yield f"<p>{_text(str(shown))}</p>"
        case _:
            raise TypeError(f"{type(shown).__name__} has no form in HTML")


def _table(table: Table) -> Iterator[str]:
    yield '<div class="scroll"><table>'
    if table.title:
        yield f"<caption>{_text(str(table.title))}</caption>"
    sides = [_class(column) for column in table.columns]
    heads = [_text(str(column.header)) for column in table.columns]
    cells = "".join(f'<th scope="col"{side}>{head}</th>' for side, head in zip(sides, heads, strict=True))
    yield f"<thead><tr>{cells}</tr></thead><tbody>"
    columns = [list(column.cells) for column in table.columns]
    for number, row in enumerate(table.rows):
        values = [_text(str(column[number])) for column in columns]
        cells = "".join(f"<td{side}>{value}</td>" for side, value in zip(sides, values, strict=True))
        yield f'<tr class="last">{cells}</tr>' if row.end_section else f"<tr>{cells}</tr>"
    yield "</tbody></table></div>"
    if table.caption:
        yield f'<p class="note">{_text(str(table.caption))}</p>'


def _class(column: Column) -> str:
    if column.justify == "right":
        return ' class="right"'
    return "" if column.no_wrap else ' class="prose"'


def _text(value: str) -> str:
    return html.escape(value, quote=True)
