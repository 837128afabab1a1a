"""The report as one page: everything is in it, and it needs no network."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, RenderableType

from inferscale_operator.twin.resources import Setting
from inferscale_operator.twin.simulation import Outcome
from inferscale_operator.twin.summary import tables

Floats = NDArray[np.float64]
Points = Sequence[tuple[float, float]]
Measured = Mapping[str, Mapping[str, Floats]]

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 860, 150, 64, 22, 10
MOST_POINTS = 720
MOST_MARKS = 400
COLORS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
TABLE_WIDTH = 190

_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;color:#111;background:#fff;
max-width:920px;margin:24px auto;padding:0 16px}
h1{font-size:20px}h2{font-size:16px;margin:28px 0 4px}h3{font-size:13px;font-weight:600;margin:10px 0 0}
pre{font:11px/1.3 ui-monospace,monospace;overflow-x:auto}svg{display:block;width:100%;height:auto}
.key{font-size:12px;margin:2px 0}.key span{margin-right:14px;white-space:nowrap}
.key i{display:inline-block;width:18px;margin-right:4px;vertical-align:middle;border-top:2px solid}
text{font:10px system-ui,sans-serif;fill:#555}circle:hover{r:6}
"""


@dataclass(frozen=True)
class Line:
    """A line of a plot."""

    label: str
    points: Points
    color: str
    dashed: bool = False
    step: bool = False


@dataclass(frozen=True)
class Mark:
    """A point with a text that is shown on hover."""

    at: float
    value: float
    text: str
    color: str


def page(
    setting: Setting,
    outcomes: Sequence[Outcome],
    figures: dict[str, Any],
    rendered: RenderableType | None = None,
    measured: Measured | None = None,
) -> str:
    """The report as HTML.

    Args:
        setting: What was simulated.
        outcomes: Of every policy.
        figures: Theirs.
        rendered: What is at the top; None: the tables of the figures.
        measured: What was not simulated: by key of the service `itl` and `ttft` (ms), shape (windows,).
    """
    hours = setting.scenario.duration / 3600
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        f"<title>{_text(figures['scenario'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(figures['scenario'])}</h1>",
        f"<pre>{_text(_printed(tables(figures) if rendered is None else rendered))}</pre>",
        "<h2>All services</h2>",
        *_plot("Cost per hour", _cost_lines(outcomes, cumulated=False), hours),
        *_plot("Cost so far", _cost_lines(outcomes, cumulated=True), hours),
    ]
    for number, service in enumerate(setting.services):
        parts.append(f"<h2>{_text(service.key)}</h2>")
        first = outcomes[0].ledger
        load = first.windows["arrived"][number] / first.window_s * 60
        arrivals = Line("arrivals", _series(first.window_s, load), "#111")
        parts += _plot("Load, requests/min", [arrivals], hours)
        parts += _replicas(setting, outcomes, number, hours)
        parts += _latencies(setting, outcomes, number, hours, (measured or {}).get(service.key, {}))
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _printed(shown: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=TABLE_WIDTH, highlight=False, markup=False, emoji=False).print(shown)
    return out.getvalue()


def _cost_lines(outcomes: Sequence[Outcome], *, cumulated: bool) -> list[Line]:
    lines = []
    for outcome, color in zip(outcomes, _colors(), strict=False):
        ledger = outcome.ledger
        cost = ledger.cost.sum(axis=0)
        values = np.nancumsum(cost) if cumulated else cost / ledger.window_s * 3600
        lines.append(Line(outcome.policy, _series(ledger.window_s, values), color))
    return lines


def _replicas(setting: Setting, outcomes: Sequence[Outcome], number: int, hours: float) -> list[str]:
    lines, marks = [], []
    key = setting.services[number].key
    for outcome, color in zip(outcomes, _colors(), strict=False):
        ledger = outcome.ledger
        ready = ledger.ready_s[number] / ledger.window_s
        asked = [(at / 3600, float(count)) for at, count, _ in outcome.replicas[number]]
        asked.append((hours, asked[-1][1]))
        lines.append(Line(f"{outcome.policy}: asked", asked, color, dashed=True, step=True))
        lines.append(Line(f"{outcome.policy}: ready", _series(ledger.window_s, ready), color))
        if outcome is outcomes[0]:
            needed = np.array(outcome.needed[number])
            lines.append(Line("needed there", _series(ledger.window_s, needed), "#888", dashed=True))
        for change in outcome.replicas[number]:
            text = f"{outcome.policy}, {_clock(change[0])}: {change[1]} on {change[2]}"
            marks.append(Mark(change[0] / 3600, float(change[1]), text, color))
        for decision in outcome.history.decisions.get(key, ())[:MOST_MARKS]:
            said = [decision.reason, decision.summary, decision.message, *decision.events]
            text = f"{outcome.policy}, {_clock(decision.at_s)}: " + "\n".join(filter(None, said))
            marks.append(Mark(decision.at_s / 3600, _step_at(asked, decision.at_s / 3600), text, color))
    return _plot("Replicas; hover over a point for the decision and its reason", lines, hours, marks)


def _latencies(
    setting: Setting,
    outcomes: Sequence[Outcome],
    number: int,
    hours: float,
    measured: Mapping[str, Floats],
) -> list[str]:
    service, parts = setting.services[number], []
    for name, total, count, objective, predicted in (
        ("Inter-token latency, ms", "gap_sum", "gap_count", service.targets.itl, "itl"),
        ("Time to first token (mean), ms", "ttft_sum", "ttft_count", service.targets.ttft, "ttft"),
    ):
        lines = []
        if predicted in measured:
            values = measured[predicted]
            lines.append(Line("measured", _series(outcomes[0].ledger.window_s, values), "#111"))
        for outcome, color in zip(outcomes, _colors(), strict=False):
            windows = outcome.ledger.windows
            with np.errstate(invalid="ignore", divide="ignore"):
                values = windows[total][number] / windows[count][number]
            lines.append(Line(f"{outcome.policy}: observed", _series(outcome.ledger.window_s, values), color))
            found = outcome.history.predictions.get(service.key, ())
            points = [
                (each.at_s / 3600, value) for each in found if (value := getattr(each, predicted)) is not None
            ]
            if points:
                lines.append(Line(f"{outcome.policy}: predicted", _thinned(points), color, dashed=True))
        if objective is not None:
            share = service.targets.percentile if predicted == "ttft" else None
            label = "objective" if share is None else f"objective at {share:g}"
            lines.append(Line(label, [(0.0, objective), (hours, objective)], "#000", dashed=True))
        parts += _plot(name, lines, hours, most=4 * objective if objective is not None else None)
    return parts


def _plot(
    title: str, lines: Sequence[Line], hours: float, marks: Sequence[Mark] = (), most: float | None = None
) -> list[str]:
    values = [value for line in lines for _, value in line.points if math.isfinite(value)]
    top = max(values, default=1.0) * 1.05 or 1.0
    if most is not None:
        top = min(top, most)
    step = _nice(top / 4)

    def x(at: float) -> float:
        return LEFT + at / hours * (WIDTH - LEFT - 8)

    def y(value: float) -> float:
        return TOP + (1 - min(value, top) / top) * (HEIGHT - TOP - BOTTOM)

    parts = [f"<h3>{_text(title)}</h3><svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img>"]
    for number in range(int(top / step) + 1):
        at = y(number * step)
        parts.append(f"<line x1={LEFT} x2={WIDTH - 8} y1={at:.1f} y2={at:.1f} stroke='#ddd'/>")
        parts.append(f"<text x={LEFT - 5} y={at + 3:.1f} text-anchor=end>{number * step:g}</text>")
    across = _nice(hours / 8)
    for number in range(int(hours / across) + 1):
        label = f"{number * across:g} h"
        parts.append(f"<text x={x(number * across):.1f} y={HEIGHT - 6} text-anchor=middle>{label}</text>")
    for line in lines:
        dash = " stroke-dasharray='5 3'" if line.dashed else ""
        for piece in _pieces(line):
            path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in piece)
            parts.append(
                f"<polyline points='{path}' fill=none stroke='{line.color}' stroke-width=1.4{dash}/>"
            )
    parts += [
        f"<circle cx={x(m.at):.1f} cy={y(m.value):.1f} r=3 fill='{m.color}'>"
        f"<title>{_text(m.text)}</title></circle>"
        for m in marks
    ]
    key = "".join(
        f"<span><i style='border-color:{line.color};border-top-style:{'dashed' if line.dashed else 'solid'}'>"
        f"</i>{_text(line.label)}</span>"
        for line in lines
    )
    return [*parts, "</svg>", f"<div class=key>{key}</div>"]


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


def _series(window_s: float, values: Floats) -> Points:
    """Values of windows over their middles in hours, put together where there are too many."""
    group = max(1, math.ceil(len(values) / MOST_POINTS))
    padded = np.concatenate([values, np.full(-len(values) % group, np.nan)]).reshape(-1, group)
    known = ~np.isnan(padded) & ~np.isinf(padded)
    sums = np.where(known, padded, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / known.sum(axis=1)
    middles = (np.arange(len(means)) + 0.5) * group * window_s / 3600
    return list(zip(middles.tolist(), means.tolist(), strict=True))


def _thinned(points: Points) -> Points:
    return points[:: max(1, math.ceil(len(points) / MOST_POINTS))]


def _step_at(points: Points, at: float) -> float:
    return next((value for when, value in reversed(points) if when <= at), points[0][1])


def _nice(value: float) -> float:
    """The next of 1, 2, 5 and their multiples by ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= value * (1 - 1e-9))


def _colors() -> Iterable[str]:
    while True:
        yield from COLORS


def _clock(at_s: float) -> str:
    return f"{int(at_s // 3600)}:{int(at_s % 3600 // 60):02d}:{int(at_s % 60):02d}"


def _text(value: str) -> str:
    return html.escape(value, quote=True)
