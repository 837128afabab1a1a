from __future__ import annotations

import math
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest
from rich.console import Group
from rich.panel import Panel
from rich.table import Table

from inferscale_operator.twin.chart import Axis, Band, Line, Mark, plot
from inferscale_operator.twin.markup import markup

HOUR = Axis(3600.0)


def drawing(html: str) -> ElementTree.Element:
    found = html[html.index("<svg") : html.index("</svg>") + 6]
    return ElementTree.fromstring(found)  # noqa: S314 (it is our own)


def texts(html: str) -> list[str]:
    return [each.text or "" for each in drawing(html).findall("text")]


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (300, ["0:00", "0:01", "0:02", "0:03", "0:04", "0:05"]),
        (3600, ["0:00", "0:10", "0:20", "0:30", "0:40", "0:50", "1:00"]),
        (21_600, ["0 h", "1 h", "2 h", "3 h", "4 h", "5 h", "6 h"]),
        (7 * 86_400, ["0 d", "1 d", "2 d", "3 d", "4 d", "5 d", "6 d", "7 d"]),
        (70 * 86_400, ["0 d", "10 d", "20 d", "30 d", "40 d", "50 d", "60 d", "70 d"]),
    ],
)
def test_ticks_are_round_times_and_few(seconds: float, labels: list[str]) -> None:
    assert [label for _, label in Axis(seconds).ticks()] == labels


def test_the_past_is_shown_by_its_clock_with_round_hours() -> None:
    axis = Axis(8 * 3600.0, datetime(2026, 3, 2, 20, 30, tzinfo=UTC))
    ticks = list(axis.ticks())
    assert [label for _, label in ticks] == ["22:00", "3 Mar", "02:00", "04:00"]
    assert ticks[0][0] == 5400


def test_a_line_has_a_piece_for_each_part_between_gaps() -> None:
    points = [(0, 1.0), (60, 2.0), (120, math.nan), (180, 2.0), (240, math.inf), (300, 1.0)]
    html = plot("Load", [Line("arrivals", points, "ink")], HOUR)
    assert [len((line.get("points") or "").split()) for line in drawing(html).findall("polyline")] == [
        2,
        1,
        1,
    ]


def test_a_step_goes_across_and_then_up() -> None:
    line = Line("asked", [(0, 1.0), (1800, 2.0)], "c0", step=True)
    (shown,) = drawing(plot("Replicas", [line], HOUR, counted=True)).findall("polyline")
    (_, begin), (across, before), (up, _) = (p.split(",") for p in (shown.get("points") or "").split())
    assert begin == before
    assert across == up


def test_what_is_far_beyond_is_cut_and_the_title_says_so() -> None:
    line = Line("observed", [(0, 30.0), (60, 9000.0)], "c0")
    html = plot("ITL, ms", [line], HOUR, most=80.0)
    assert "ITL, ms; cut at 80" in html
    assert "80" in texts(html)
    assert "9,000" not in html
    assert "cut" not in plot("ITL, ms", [Line("observed", [(0, 30.0)], "c0")], HOUR, most=80.0)


def test_counts_have_whole_numbers_at_the_axis() -> None:
    line = Line("ready", [(0, 1.0), (60, 2.0)], "c0")
    assert [text for text in texts(plot("Replicas", [line], HOUR, counted=True)) if ":" not in text] == [
        "0",
        "1",
        "2",
        "3",
    ]


def test_nothing_at_all_is_drawn_too() -> None:
    assert "<svg" in plot("Cost", [Line("static", [(0, 0.0)], "c0"), Line("none", [], "c1")], HOUR)


def test_names_and_reasons_cannot_be_taken_for_markup() -> None:
    evil = '"><script>alert(1)</script>'
    html = plot(
        evil,
        [Line(evil, [(0, 1.0)], "c0")],
        HOUR,
        marks=[Mark(0, 1.0, evil, "c0")],
        bands=[Band(evil, [(0, 3600, evil)], "c0")],
    )
    assert "<script" not in html
    assert drawing(html).find("circle/title").text == evil  # type: ignore[union-attr]


def test_tables_and_lines_become_html() -> None:
    table = Table(title="By <service>", caption="Ratios.")
    table.add_column("Service")
    table.add_column("Cost", justify="right")
    table.add_row("a & b", "1.00")
    html = "\n".join(markup(Group(table, "said <so>")))
    assert "By &lt;service&gt;" in html
    assert '<td class="right">1.00</td>' in html
    assert "a &amp; b" in html
    assert "<p>said &lt;so&gt;</p>" in html
    with pytest.raises(TypeError, match="Panel"):
        list(markup(Panel("x")))
