"""The simulation judges the model: Poisson arrivals, constant inputs, exponential outputs."""

import pytest

from bench.comparison import GRID, Cell, Inputs, compare


def judge(cell: Cell, requests: int, inputs: Inputs = "constant") -> None:
    """Hold the model to 1 % of the ITL, and of waits to 10 % and one iteration or the 95 % interval.

    A prefill in front of the decode can make the time in service so much steadier than exponential that it
    shows in the waits. Where the model itself says so, it is held to these bounds with the COV that follows
    from the lengths, and without it to the safe side.
    """
    found = compare(cell, requests, inputs=inputs)
    assert found.steady
    assert found.itl == pytest.approx(found.simulated_itl.mean, rel=0.01)
    for plain, told, simulated in (
        (found.wait, found.told_wait, found.simulated_wait),
        (found.wait_p95, found.told_wait_p95, found.simulated_wait_p95),
    ):
        allowed = found.tolerance(simulated)
        assert told == pytest.approx(simulated.mean, abs=allowed)
        if found.exponential:
            assert plain == pytest.approx(simulated.mean, abs=allowed)
        else:
            assert plain > simulated.mean


def names(cell: Cell) -> str:
    return f"in{cell.input_tokens}-out{cell.output_tokens}-N{cell.max_batch}-rho{cell.load}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell", [Cell(0, 256, 8, 0.7), Cell(128, 1024, 32, 0.7), Cell(512, 128, 8, 0.7)], ids=names
)
def test_the_model_agrees_with_the_simulation_in_a_few_cells(cell):
    judge(cell, 50_000)


@pytest.mark.full
@pytest.mark.parametrize("cell", GRID, ids=names)
def test_the_model_agrees_with_the_simulation_over_the_grid(cell):
    judge(cell, 2_000_000)


STEADIER = Cell(512, 128, 32, 0.9)


def test_every_cell_but_one_is_exponential_enough_for_the_plain_model():
    steadier = [cell for cell in GRID if not compare(cell, 100).exponential]
    assert steadier == [STEADIER]


@pytest.mark.slow
def test_where_a_prefill_makes_the_time_in_service_steadier_the_model_has_to_be_told_so():
    judge(STEADIER, 150_000, "exponential")
    found = compare(STEADIER, 50_000)
    assert found.service_cov == pytest.approx(found.simulated_service_cov, abs=0.05)


@pytest.mark.slow
def test_inputs_in_proportion_to_outputs_make_the_time_in_service_exponential_and_the_plain_model_right():
    judge(STEADIER, 150_000, "proportional")
    found = compare(STEADIER, 50_000, inputs="proportional")
    assert found.simulated_service_cov == pytest.approx(1, abs=0.03)


def test_the_model_is_optimistic_about_an_engine_that_stops_decoding_for_a_prefill():
    cell = Cell(128, 1024, 32, 0.5)
    found = compare(cell, 20_000, prefill="stall")
    assert found.steady
    assert 0.7 < found.itl / found.simulated_itl.mean < 0.95


def test_a_load_that_the_engine_cannot_bear_is_no_steady_state():
    assert not compare(Cell(512, 128, 128, 0.9), 5_000, prefill="stall").steady
