import json

import numpy as np
import pytest

from bench import comparison, scalar, simulation, sizing, twin, variability
from bench.__main__ import main
from bench.figures import Figures
from bench.sections import SECTIONS
from inferscale_queueing import Targets, analyze, size

FIGURES = Figures("Cost", ["N", "s", "prefill"], [[1024, 0.5, "stall"], [1, 1234.5, None]], "a note")


def test_the_scalar_code_finds_the_rates_that_the_arrays_find():
    whole = sizing.candidates(20)
    rates = size(whole.latency, whole.max_batch, whole.targets).rate
    sample = list(sizing.sampled_replicas(whole, 40))
    itl, ttft = whole.targets.itl, whole.targets.ttft
    found = [scalar.largest_rate(replica, float(itl[at]), float(ttft[at])) for at, replica in sample]
    assert found == pytest.approx([rates[at] for at, _ in sample], rel=1e-9)
    assert 0 < np.count_nonzero(found) < len(found)


def test_the_scalar_code_finds_the_latencies_that_the_arrays_find():
    whole = sizing.candidates(4)
    rate = 0.7 * whole.max_batch / whole.latency.service_time(whole.max_batch)
    analysis = analyze(whole.latency, whole.max_batch, rate)
    for at, replica in sizing.sampled_replicas(whole, 20):
        expected = analysis.itl[at], analysis.ttft[at]
        assert scalar.latencies(replica, float(rate[at])) == pytest.approx(expected, rel=1e-9)


def test_the_candidates_are_as_many_and_as_large_as_promised():
    whole = sizing.candidates(120)
    assert whole.count == 120 * 21
    assert whole.max_batch.mean() == pytest.approx(54, rel=0.1)
    assert whole.max_batch.max() == 409


def test_evaluations_are_counted_for_each_candidate():
    whole = sizing.candidates(1)
    with sizing.counted_evaluations() as count:
        size(whole.latency, whole.max_batch, Targets())
        assert count() == 2 * whole.count  # at both ends of the search


def test_sizing_is_measured_for_any_number_of_services():
    kinds, new_rates, by_services, by_batch = sizing.run(services=2, growth=[1, 2], batches=[1, 8])
    assert kinds.rows[0][:2] == ["mean ITL and mean TTFT", 42]
    assert kinds.rows[-1][0].startswith("plain scalar code")
    assert len(new_rates.rows) == 2
    assert [row[:2] for row in by_services.rows] == [[1, 21], [2, 42]]
    assert [row[0] for row in by_batch.rows] == [1, 8]


def test_a_small_simulation_and_a_small_grid_are_measured(monkeypatch):
    [speed] = simulation.run(requests=200)
    assert len(speed.rows) == len(simulation.CASES)
    monkeypatch.setattr(
        comparison, "GRID", [comparison.Cell(0, 256, 8, 0.5), comparison.Cell(512, 128, 32, 0.9)]
    )
    table, told, seeds = comparison.run(requests=400, stall_requests=400, seeds=[1, 2])
    assert [row[:3] for row in table.rows] == [["0 / 256", 8, 0.5], ["512 / 128", 32, 0.9]]
    assert [row[:3] for row in told.rows] == [["512 / 128", 32, 0.9]]
    assert [row[3] for row in seeds.rows] == ["constant", "exponential", "proportional"]


def test_the_correction_for_variability_is_measured_for_every_pair_of_covs(monkeypatch):
    monkeypatch.setattr(variability, "LOADS", [0.5, 0.95])
    monkeypatch.setattr(variability, "BATCHES", [1, 16])
    [table] = variability.run(requests=300)
    assert len(table.rows) == len(variability.ARRIVAL_COVS) * len(variability.SERVICE_COVS)
    assert table.rows[0][:2] == ["0.5", "0"]
    assert "long waits" in table.note


def test_figures_are_shown_as_table_json_or_markdown(monkeypatch, capsys):
    monkeypatch.setitem(SECTIONS, "sizing", lambda: [FIGURES])
    assert main(["sizing", "-o", "json"]) == 0
    [data] = json.loads(capsys.readouterr().out)
    assert data["section"] == "sizing"
    assert data["rows"][1] == {"N": 1, "s": 1234.5, "prefill": None}
    assert main(["sizing", "--markdown"]) == 0
    assert "| N | s | prefill |\n|---|---|---|\n| 1,024 | 0.500 | stall |\n| 1 | 1,234 | – |" in (
        capsys.readouterr().out
    )
    assert main(["sizing"]) == 0
    assert "a note" in capsys.readouterr().out


def test_a_section_that_does_not_exist_is_refused_with_those_that_do(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["speed"])
    assert caught.value.code == 2
    assert "there is no section 'speed'; there are sizing" in capsys.readouterr().err


def test_the_twin_is_measured_in_both_modes():
    [speed] = twin.run(hours=0.05, large=2)
    rows = [dict(zip(speed.columns, row, strict=True)) for row in speed.rows]
    day, week = rows[:2]
    assert (day["services"], day["simulated h"]) == (30, 0.05)
    assert (week["services"], week["simulated h"]) == (2, 7 * 0.05)
    assert {row["servers"] for row in rows} == {"events", "mean-value"}
    for row in rows:
        assert row["s"] == pytest.approx(row["simulate"] + row["observe"] + row["decide"])
        assert (row["decide"] > 0) == (row["policy"] == "inferscale")
