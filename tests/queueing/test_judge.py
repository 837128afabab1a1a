"""The simulation judges the model: Poisson arrivals, constant inputs, exponential outputs."""

import pytest

from bench.comparison import GRID, Cell, compare

# Below, a constant prefill makes the time in service so much steadier than exponential that waits show it.
EXPONENTIAL = 0.8


def judge(cell: Cell, requests: int) -> None:
    """Hold the model to 1 % of the ITL, and of waits to 10 % and one iteration or the 95 % interval."""
    found = compare(cell, requests)
    assert found.steady
    assert found.itl == pytest.approx(found.simulated_itl.mean, rel=0.01)
    for modelled, told, simulated in (
        (found.wait, found.told_wait, found.simulated_wait),
        (found.wait_p95, found.told_wait_p95, found.simulated_wait_p95),
    ):
        allowed = max(0.1 * simulated.mean + found.itl, simulated.half_width)
        assert told == pytest.approx(simulated.mean, abs=allowed)
        if found.service_cov > EXPONENTIAL:
            assert modelled == pytest.approx(simulated.mean, abs=allowed)
        else:
            assert simulated.mean - allowed <= modelled <= 1.25 * simulated.mean + allowed


def names(cell: Cell) -> str:
    return f"in{cell.input_tokens}-out{cell.output_tokens}-N{cell.max_batch}-rho{cell.load}"


@pytest.mark.parametrize(
    "cell", [Cell(0, 256, 8, 0.7), Cell(128, 1024, 32, 0.7), Cell(512, 128, 8, 0.7)], ids=names
)
def test_the_model_agrees_with_the_simulation_in_a_few_cells(cell):
    judge(cell, 50_000)


@pytest.mark.full
@pytest.mark.parametrize("cell", GRID, ids=names)
def test_the_model_agrees_with_the_simulation_over_the_grid(cell):
    judge(cell, 2_000_000)


def test_the_model_is_optimistic_about_an_engine_that_stops_decoding_for_a_prefill():
    cell = Cell(128, 1024, 32, 0.5)
    found = compare(cell, 20_000, prefill="stall")
    assert found.steady
    assert 0.7 < found.itl / found.simulated_itl.mean < 0.95


def test_a_load_that_the_engine_cannot_bear_is_no_steady_state():
    assert not compare(Cell(512, 128, 128, 0.9), 5_000, prefill="stall").steady
