"""The report as one page: everything is in it, and it needs no network."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType

from inferscale_operator.planning.tables import grids
from inferscale_operator.twin import chart
from inferscale_operator.twin.changes import changes, clock, log, total, whole
from inferscale_operator.twin.chart import INK, MUTED, Axis, Band, Line, Mark, Points, Stroke, plot
from inferscale_operator.twin.history import Decision
from inferscale_operator.twin.look import COLORS, SCRIPT, STYLE
from inferscale_operator.twin.markup import markup
from inferscale_operator.twin.resources import START, Setting
from inferscale_operator.twin.simulation import Outcome
from inferscale_operator.twin.traffic import Traffic

Floats = NDArray[np.float64]
Measured = Mapping[str, Mapping[str, Floats]]

MOST_POINTS = 720
MOST_MARKS = 400
LENGTH_POINTS = 240
CUT = 4.0
"""Objectives beyond which a latency is cut: everything that matters is below."""


def page(
    setting: Setting,
    outcomes: Sequence[Outcome],
    title: str,
    figures: RenderableType,
    measured: Measured | None = None,
) -> str:
    """The report as HTML.

    Args:
        setting: What was simulated.
        outcomes: Of every policy.
        title: Of the page.
        figures: What is at the top.
        measured: What was not simulated: by key of the service `itl` and `ttft` (ms), shape (windows,).
    """
    drawing = _Drawing(setting, outcomes, measured or {})
    script = SCRIPT.replace("RIGHT_EDGE", str(chart.WIDTH - chart.RIGHT))
    script = script.replace("PLOT_TOP", str(chart.TOP))
    script = script.replace("PLOT_HEIGHT", str(chart.HEIGHT - chart.TOP - chart.BOTTOM))
    links = " ".join(f'<a href="#{_text(s.key)}">{_text(s.key)}</a>' for s in setting.services)
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{_text(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{_text(title)}</h1>",
            *markup(figures),
            f"<nav>Services: {links}</nav>",
            "<h2>All services</h2>",
            *drawing.together(),
            *(part for number in range(len(setting.services)) for part in drawing.service(number)),
            '<div id="tip"></div>',
            f"<script>{script}</script></body></html>\n",
        ]
    )


class _Drawing:
    def __init__(self, setting: Setting, outcomes: Sequence[Outcome], measured: Measured) -> None:
        self._setting, self._outcomes, self._measured = setting, outcomes, measured
        self._seconds = setting.scenario.duration
        self._axis = Axis(self._seconds, None if setting.start == START else setting.start)
        self._colored = [(outcome, f"c{number % COLORS}") for number, outcome in enumerate(outcomes)]

    def together(self) -> Iterator[str]:
        """Cost, and what is different at the end."""
        yield '<div class="plots">'
        yield plot("Cost per hour", list(self._costs(cumulated=False)), self._axis)
        yield plot("Cost so far", list(self._costs(cumulated=True)), self._axis)
        yield "</div>"
        for outcome in self._outcomes:
            lines = whole(self._setting, outcome)
            if any(changes(self._setting, outcome, number) for number in range(len(lines))):
                yield f"<details><summary>{_text(outcome.policy)}: the end against the start</summary>"
                yield f'<p>{_text(total(lines))}</p><div class="grids">'
                for table in grids(lines):
                    yield from markup(table)
                yield "</div></details>"

    def service(self, number: int) -> Iterator[str]:
        """Load, replicas, latencies and changes of one service."""
        service = self._setting.services[number]
        yield f'<h2 id="{_text(service.key)}">{_text(service.key)}</h2>'
        yield f'<p class="note">{_text(self._about(number))}</p><div class="plots">'
        first = self._outcomes[0].ledger
        load = first.windows["arrived"][number] / first.window_s * 60
        yield plot("Load, requests/min", [Line("arrivals", _series(first.window_s, load), INK)], self._axis)
        yield from self._lengths(number)
        yield self._replicas(number)
        yield from self._latencies(number)
        yield from self._late(number)
        yield "</div>"
        for outcome in self._outcomes:
            if found := changes(self._setting, outcome, number):
                count = "1 change" if len(found) == 1 else f"{len(found)} changes"
                yield f"<details><summary>{_text(outcome.policy)}: {count}</summary>"
                yield from markup(log(self._setting, "", found, why=True))
                yield "</details>"

    def _about(self, number: int) -> str:
        spec, targets = self._setting.services[number].spec, self._setting.services[number].targets
        share = "mean" if targets.percentile is None else f"{100 * targets.percentile:g} %"
        said = [f"{spec.model}, class {spec.service_class}"]
        if targets.itl is not None:
            said.append(f"ITL {targets.itl:g} ms (mean)")
        if targets.ttft is not None:
            said.append(f"TTFT {targets.ttft:g} ms ({share})")
        if targets.ttw is not None:
            said.append(f"wait {targets.ttw:g} ms ({share})")
        inputs, outputs = self._tokens(number, np.zeros(1))
        said.append(f"{inputs[0]:,.0f} input and {outputs[0]:,.0f} output tokens at the start")
        return "; ".join(said)

    def _costs(self, *, cumulated: bool) -> Iterator[Line]:
        for outcome, color in self._colored:
            ledger = outcome.ledger
            cost = ledger.cost.sum(axis=0)
            values = np.nancumsum(cost) if cumulated else cost / ledger.window_s * 3600
            yield Line(outcome.policy, _series(ledger.window_s, values), color)

    def _lengths(self, number: int) -> Iterator[str]:
        """Where they change."""
        at_s = np.linspace(0.0, self._seconds, LENGTH_POINTS)
        inputs, outputs = self._tokens(number, at_s)
        if np.ptp(inputs) or np.ptp(outputs):
            lines = [
                Line(label, list(zip(at_s.tolist(), values.tolist(), strict=True)), INK, stroke)
                for label, values, stroke in (
                    ("input", inputs, Stroke.DASHED),
                    ("output", outputs, Stroke.SOLID),
                )
            ]
            yield plot("Mean tokens of a request", lines, self._axis)

    def _tokens(self, number: int, at_s: Floats) -> tuple[Floats, Floats]:
        scenario = self._setting.scenario
        given = self._setting.services[number].scenario
        traffic = Traffic(given, self._setting.path.parent, scenario.duration, scenario.seed, drawn=False)
        return traffic.lengths(at_s)

    def _replicas(self, number: int) -> str:
        lines, marks, bands = [], [], []
        key = self._setting.services[number].key
        needed = np.array(self._outcomes[0].needed[number])
        label = f"needed on what {self._outcomes[0].policy} has"
        window_s = self._outcomes[0].ledger.window_s
        lines.append(Line(label, _series(window_s, needed), MUTED, Stroke.DOTTED))
        for outcome, color in self._colored:
            asked = [(at_s, float(count)) for at_s, count, _ in outcome.replicas[number]]
            asked.append((self._seconds, asked[-1][1]))
            ready = outcome.ledger.ready_s[number] / window_s
            lines.append(Line(f"{outcome.policy}: ready", _series(window_s, ready), color))
            lines.append(Line(f"{outcome.policy}: asked", asked, color, Stroke.DASHED, step=True))
            bands.append(Band(outcome.policy, list(self._accelerators(outcome, number)), color))
            for at_s, count, accelerator in outcome.replicas[number][1:]:
                text = f"{outcome.policy}, {clock(self._setting, at_s)}: {count} × {accelerator}"
                marks.append(Mark(at_s, float(count), text, color))
            for decision in outcome.history.decisions.get(key, ())[:MOST_MARKS]:
                text = f"{outcome.policy}, {clock(self._setting, decision.at_s)}: {_said(decision)}"
                marks.append(Mark(decision.at_s, _step_at(asked, decision.at_s), text, color))
        title = "Replicas, accelerator; points have decisions and reasons"
        return plot(title, lines, self._axis, marks=marks, bands=bands, counted=True)

    def _accelerators(self, outcome: Outcome, number: int) -> Iterator[tuple[float, float, str]]:
        found = outcome.replicas[number]
        begins = [found[0], *(after for before, after in pairwise(found) if before[2] != after[2])]
        ends = [each[0] for each in begins[1:]] + [self._seconds]
        for (at_s, _, accelerator), end in zip(begins, ends, strict=True):
            yield at_s, end, accelerator

    def _latencies(self, number: int) -> Iterator[str]:
        service = self._setting.services[number]
        measured = self._measured.get(service.key, {})
        seen = "simulated" if measured else "observed"
        for name, total_ms, count, objective, predicted in (
            ("Inter-token latency, ms", "gap_sum", "gap_count", service.targets.itl, "itl"),
            ("Time to first token (mean), ms", "ttft_sum", "ttft_count", service.targets.ttft, "ttft"),
        ):
            lines = []
            if objective is not None:
                share = service.targets.percentile if predicted == "ttft" else None
                label = "objective" if share is None else f"objective of {100 * share:g} %"
                ends = [(0.0, objective), (self._seconds, objective)]
                lines.append(Line(label, ends, MUTED, Stroke.DASHED))
            if predicted in measured:
                points = _series(self._outcomes[0].ledger.window_s, measured[predicted])
                lines.append(Line("measured", points, INK))
            for outcome, color in self._colored:
                windows = outcome.ledger.windows
                with np.errstate(invalid="ignore", divide="ignore"):
                    values = windows[total_ms][number] / windows[count][number]
                points = _series(outcome.ledger.window_s, values)
                lines.append(Line(f"{outcome.policy}: {seen}", points, color))
                found = outcome.history.predictions.get(service.key, ())
                points = [
                    (each.at_s, value) for each in found if (value := getattr(each, predicted)) is not None
                ]
                if points:
                    label = f"{outcome.policy}: predicted"
                    lines.append(Line(label, _thinned(points), color, Stroke.DOTTED, step=True))
            yield plot(name, lines, self._axis, most=None if objective is None else CUT * objective)

    def _late(self, number: int) -> Iterator[str]:
        """Where an objective holds for a share of the requests."""
        targets = self._setting.services[number].targets
        if targets.percentile is None:
            return
        allowed = 100 * (1 - targets.percentile)
        for name, late, objective in (
            ("Times to first token", "ttft_late", targets.ttft),
            ("Waits", "wait_late", targets.ttw),
        ):
            if objective is None:
                continue
            ends = [(0.0, allowed), (self._seconds, allowed)]
            lines = [Line("objective", ends, MUTED, Stroke.DASHED)]
            for outcome, color in self._colored:
                windows = outcome.ledger.windows
                with np.errstate(invalid="ignore", divide="ignore"):
                    values = 100 * windows[late][number] / windows["ttft_count"][number]
                lines.append(Line(outcome.policy, _series(outcome.ledger.window_s, values), color))
            yield plot(f"{name} above {objective:g} ms, %", lines, self._axis)


def _said(decision: Decision) -> str:
    again = decision.summary and decision.message.startswith(decision.summary)
    said = [decision.reason, "" if again else decision.summary, decision.message, *decision.events]
    return "\n".join(filter(None, said))


def _series(window_s: float, values: Floats) -> Points:
    """Values of windows over their middles in seconds, put together where there are too many."""
    group = max(1, math.ceil(len(values) / MOST_POINTS))
    padded = np.concatenate([values, np.full(-len(values) % group, np.nan)]).reshape(-1, group)
    known = ~np.isnan(padded) & ~np.isinf(padded)
    sums = np.where(known, padded, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / known.sum(axis=1)
    middles = (np.arange(len(means)) + 0.5) * group * window_s
    return list(zip(middles.tolist(), means.tolist(), strict=True))


def _thinned(points: Points) -> Points:
    return points[:: max(1, math.ceil(len(points) / MOST_POINTS))]


def _step_at(points: Points, at_s: float) -> float:
    return next((value for when, value in reversed(points) if when <= at_s), points[0][1])


def _text(value: str) -> str:
    return html.escape(value, quote=True)
