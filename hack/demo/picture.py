"""A picture of the dashboard: its panels, as they would look over the demo."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from prometheus_api_client import PrometheusConnect

from dashboard.panels import PANELS, Panel
from dashboard.queries import filled

STEP_S = 5
COLUMNS = 4
DPI = 80
_LAST_ONLY = ("stat", "bargauge")
_SCALES = {"percentunit": (100.0, "%"), "bytes": (2.0**-20, "MiB"), "s": (1.0, "s"), "reqps": (1.0, "/s")}

Curve = Mapping[int, float]
"""Values by time (s)."""


def draw(url: str, start: float, end: float, file: Path) -> None:
    """Ask Prometheus for every panel that has a course over time, and draw them side by side.

    Args:
        url: Of Prometheus.
        start: Begin of the time that is shown, Unix seconds; 0 of the axes.
        end: End of it.
        file: PNG to be written.
    """
    client = PrometheusConnect(url=url)
    panels = [panel for panel in PANELS if panel.kind not in _LAST_ONLY]
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(5 * COLUMNS, 3 * rows), layout="constrained")
    places = figure.subplots(rows, COLUMNS).flat
    figure.suptitle("    ".join(_last(client, panel, start, end) for panel in PANELS if panel.kind == "stat"))
    for panel, axes in zip(panels, places, strict=False):
        _draw(axes, panel, _curves(client, panel, start, end))
        axes.set_xlim(0, end - start)
    for axes in list(places):
        axes.set_axis_off()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=DPI, metadata={"Software": None})


def _curves(client: PrometheusConnect, panel: Panel, start: float, end: float) -> dict[str, Curve]:
    """Series of a panel by their legends."""
    found = {}
    for query in panel.queries:
        answer = client.custom_query_range(
            filled(query.expression, round(end - start), STEP_S),
            start_time=datetime.fromtimestamp(start, UTC),
            end_time=datetime.fromtimestamp(end, UTC),
            step=f"{STEP_S}s",
        )
        for series in answer:
            points = {round(float(at) - start): float(value) for at, value in series["values"]}
            found[_legend(query.legend, series["metric"])] = points
    return dict(sorted(found.items()))


def _last(client: PrometheusConnect, panel: Panel, start: float, end: float) -> str:
    [query] = panel.queries
    expression = filled(query.expression, round(end - start), STEP_S)
    answer = client.custom_query(expression, params={"time": end})
    scale, unit = _SCALES.get(panel.unit, (1.0, ""))
    value = f"{float(answer[0]['value'][1]) * scale:.3g}" if answer else "–"
    return f"{panel.title}: {value} {unit}".rstrip()


def _legend(text: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), text)


def _draw(axes: Axes, panel: Panel, curves: Mapping[str, Curve]) -> None:
    scale, unit = _SCALES.get(panel.unit, (1.0, ""))
    axes.set_title(panel.title + (f" ({unit})" if unit else ""), fontsize=10)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    times = sorted({at for curve in curves.values() for at in curve})
    if times:
        # Where a series has nothing for a while, its line is broken.
        times = list(range(times[0], times[-1] + 1, STEP_S))
    missing = 0.0 if panel.stacked else math.nan
    values = [[curve.get(at, missing) * scale for at in times] for curve in curves.values()]
    if panel.stacked and curves:
        axes.stackplot(times, values, labels=list(curves), alpha=0.6, step="post")
    else:
        for name, course in zip(curves, values, strict=True):
            dashed = name.endswith(("objective", "target"))
            axes.plot(times, course, "--" if dashed else "-", label=name, lw=1)
    if panel.most is not None:
        axes.set_ylim(0, panel.most * scale * 1.05)
    if any(curves):
        axes.legend(fontsize=5, loc="best", ncols=2)
