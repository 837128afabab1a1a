"""Plots over time as SVG: lines, points with a text, and bands that name what holds when."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from inferscale_queueing.frozen import frozen

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT, RIGHT, TOP, BOTTOM, BAND = 640, 200, 12, 12, 26, 18
DIGIT_WIDTH = 8.4
"""Of a character in a label, in units of the picture."""
BAND_CHARACTER = 7.0
MOST_TICKS = 7
HEADROOM = 1.04
"""Of the axis above the highest value."""
HOUR_S, DAY_S = 3600, 86_400
TICKS_S = (60, 120, 300, 600, 900, 1800, HOUR_S, 7200, 10_800, 21_600, 43_200, DAY_S, 2 * DAY_S, 7 * DAY_S)
INK = "ink"
"""Colour of what is no policy's."""
MUTED = "muted"


class Stroke(StrEnum):
    """How a line is drawn; what policies have in common is told apart by it."""

    SOLID = "solid"
    DASHED = "dashed"
    DOTTED = "dotted"


@frozen
class Axis:
    """The time that all plots of a page have in common."""

    duration_s: float
    start: datetime | None = None
    """When it begins; None: times are shown since the start."""

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Seconds since the start, and what is written there."""
        step = next((s for s in TICKS_S if self.duration_s / s <= MOST_TICKS), None)
        if step is None:
            step = math.ceil(self.duration_s / DAY_S / MOST_TICKS) * DAY_S
        first = -self.start.timestamp() % step if self.start is not None else 0.0
        for number in range(int((self.duration_s - first) / step + 1e-9) + 1):
            at_s = first + number * step
            yield at_s, self._label(at_s, step)

    def _label(self, at_s: float, step: float) -> str:
        if self.start is not None:
            at = self.start.astimezone(UTC) + timedelta(seconds=at_s)
            return f"{at.day} {at:%b}" if at.hour == at.minute == 0 else f"{at:%H:%M}"
        if step >= DAY_S:
            return f"{at_s / DAY_S:g} d"
        return (
            f"{at_s / HOUR_S:g} h"
            if step >= HOUR_S
            else f"{int(at_s // HOUR_S)}:{int(at_s % HOUR_S // 60):02d}"
        )


@frozen
class Line:
    """A line of a plot; its points are seconds and values, not a number where there is a gap."""

    label: str
    points: Points
    color: str
    stroke: Stroke = Stroke.SOLID
    step: bool = False


@frozen
class Mark:
    """A point with a text that is shown on hover."""

    at_s: float
    value: float
    text: str
    color: str


@frozen
class Band:
    """What holds from when to when, below a plot."""

    label: str
    spans: Sequence[tuple[float, float, str]]
    """From and to (seconds), and what holds."""
    color: str


def plot(
    title: str,
    lines: Sequence[Line],
    axis: Axis,
    *,
    marks: Sequence[Mark] = (),
    bands: Sequence[Band] = (),
    most: float | None = None,
    counted: bool = False,
) -> str:
    """A plot with its legend as HTML.

    Args:
        title: What it shows, with the unit.
        lines: From the bottom to the top of the drawing.
        axis: Its time.
        marks: Points, drawn above the lines.
        bands: Below the axis.
        most: Values beyond it are cut; None: nothing is.
        counted: Whether values are whole numbers.
    """
    values = [value for line in lines for _, value in line.points if math.isfinite(value)]
    highest = max(values, default=1.0) or 1.0
    cut = most is not None and highest > most
    wanted = most if most is not None and cut else highest * HEADROOM
    step = max(_nice(wanted / 4, (1, 2, 5, 10)), 1.0) if counted else _nice(wanted / 4)
    top = step * math.ceil(wanted / step - 1e-9)
    labels = [f"{number * step:,.10g}" for number in range(round(top / step) + 1)]
    left = 10 + DIGIT_WIDTH * max(map(len, labels))
    frame = _Frame(axis, left, top)
    body = [*frame.grid(labels, step), *frame.bands(bands)]
    for line in lines:
        body += frame.line(line)
    body += [frame.mark(mark) for mark in marks]
    heading = _text(f"{title}; cut at {most:,g}" if cut else title)
    data = {"left": f"{left:g}", "top": f"{top:g}", "duration": f"{axis.duration_s:g}"}
    if axis.start is not None:
        data["start"] = f"{axis.start.timestamp():.0f}"
    known = " ".join(f'data-{name}="{value}"' for name, value in data.items())
    size = HEIGHT + BAND * len(bands)
    key = "".join(_key(line) for line in lines)
    return "\n".join(
        [
            f"<figure><figcaption>{heading}</figcaption>",
            f'<svg viewBox="0 0 {WIDTH} {size}" role="img" aria-label="{heading}" {known}>',
            *body,
            "</svg>",
            f'<p class="key">{key}</p></figure>',
        ]
    )


@frozen
class _Frame:
    axis: Axis
    left: float
    top: float

    def x(self, at_s: float) -> float:
        share = min(max(at_s / self.axis.duration_s, 0.0), 1.0)
        return self.left + share * (WIDTH - self.left - RIGHT)

    def y(self, value: float) -> float:
        return TOP + (1 - min(value, self.top) / self.top) * (HEIGHT - TOP - BOTTOM)

    def grid(self, labels: Sequence[str], step: float) -> Iterator[str]:
        for number, label in enumerate(labels):
            at = self.y(number * step)
            yield f'<path class="grid" d="M{self.left:g} {at:.1f}H{WIDTH - RIGHT}"/>'
            yield f'<text x="{self.left - 5:g}" y="{at + 3.5:.1f}" text-anchor="end">{label}</text>'
        bottom = HEIGHT - BOTTOM
        for at_s, label in self.axis.ticks():
            at = self.x(at_s)
            anchor = "end" if at > WIDTH - RIGHT - 12 else "middle"
            yield f'<path class="grid" d="M{at:.1f} {bottom}v4"/>'
            yield f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="{anchor}">{_text(label)}</text>'

    def bands(self, bands: Sequence[Band]) -> Iterator[str]:
        for number, band in enumerate(bands):
            above = HEIGHT + number * BAND
            for begin, end, what in band.spans:
                left, width = self.x(begin), self.x(end) - self.x(begin)
                shown = _text(what) if width > BAND_CHARACTER * len(what) + 6 else ""
                size = f'width="{max(width - 1, 0.5):.1f}" height="{BAND - 3}"'
                yield f'<g class="band {band.color}"><rect x="{left:.1f}" y="{above}" {size}/>'
                yield f'<text x="{left + 4:.1f}" y="{above + 11}">{shown}</text>'
                yield f"<title>{_text(f'{band.label}: {what}')}</title></g>"

    def line(self, line: Line) -> Iterator[str]:
        kind = f'class="line {line.stroke.value} {line.color}" data-label="{_text(line.label)}"'
        if line.step:
            kind += ' data-step="1"'
        for piece in _pieces(line):
            path = " ".join(f"{self.x(at):.1f},{self.y(value):.1f}" for at, value in piece)
            yield f'<polyline {kind} points="{path}"/>'

    def mark(self, mark: Mark) -> str:
        where = f'cx="{self.x(mark.at_s):.1f}" cy="{self.y(mark.value):.1f}" r="3.5"'
        return f'<circle class="mark {mark.color}" {where}><title>{_text(mark.text)}</title></circle>'


def _key(line: Line) -> str:
    return f'<span><i class="{line.stroke.value} {line.color}"></i>{_text(line.label)}</span>'


def _pieces(line: Line) -> Iterable[list[tuple[float, float]]]:
    """The parts of a line between its gaps."""
    piece: list[tuple[float, float]] = []
    for at, value in line.points:
        if not math.isfinite(value):
            if piece:
                yield piece
            piece = []
            continue
        if line.step and piece:
            piece.append((at, piece[-1][1]))
        piece.append((at, value))
    if piece:
        yield piece


def _nice(value: float, factors: Sequence[float] = (1, 2, 2.5, 5, 10)) -> float:
    """The next of some factors and their multiples by ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(power * factor for factor in factors if power * factor >= value * (1 - 1e-9))


def _text(value: str) -> str:
    return html.escape(value, quote=True)
