"""The servers of the twin against the model, the queueing library's simulation and the emulated engine."""

from __future__ import annotations

import pytest

import twinagreement as agreement
from twinagreement import Cell

pytestmark = pytest.mark.slow

HALF_AN_HOUR = 0.5
CELLS = (
    Cell("llama-7b", "h100", 0.3),
    Cell("llama-7b", "h100", 0.8),
    Cell("granite-13b", "h100", 0.6),
    Cell("llama-70b", "2xh100", 0.6),
)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_servers_of_the_twin_agree_with_each_other_and_with_what_is_not_the_twin(cell: Cell) -> None:
    ways = agreement.measure(cell, HALF_AN_HOUR)
    events = ways["events"]
    for figure in ("ITL", "wait", "TTFT"):
        # The same requests, but for those under way at the end.
        assert ways["emulated"][figure] == pytest.approx(events[figure], rel=0.01), figure
    for figure, most in (("ITL", 0.03), ("TTFT", 0.05), ("p95 TTFT", 0.15)):
        assert ways["mean-value"][figure] == pytest.approx(events[figure], rel=most), figure
    for figure in ("ITL", "TTFT", "p95 TTFT"):
        assert ways["simulation"][figure] == pytest.approx(events[figure], rel=0.1), figure
    for figure in ("ITL", "TTFT"):
        assert ways["model"][figure] == pytest.approx(events[figure], rel=0.06), figure
    assert ways["mean-value"]["wait"] == pytest.approx(events["wait"], abs=2)
    # The model does not know that a request waits for the end of an iteration, nor how inputs vary.
    assert events["wait"] - ways["model"]["wait"] == pytest.approx(events["ITL"] / 2, rel=0.1)
    assert ways["model"]["p95 TTFT"] < 0.6 * events["p95 TTFT"]


def test_every_figure_of_every_way_has_its_place_in_the_table() -> None:
    cell = CELLS[0]
    figures = {way: dict.fromkeys(agreement.FIGURES, 12.345) for way in agreement.WAYS}
    text = agreement.table([(cell, figures | {"emulated": {"ITL": 1.0}})])
    assert text.splitlines()[2] == "| llama-7b on h100 | 30 % | ITL | 12.3 | 12.3 | 12.3 | 12.3 | 1.0 |"
    assert text.splitlines()[4] == "|  |  | TTFT | 12.3 | 12.3 | 12.3 | 12.3 | – |"
