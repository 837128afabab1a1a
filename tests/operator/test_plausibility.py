"""Loads that jump are not believed at once."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_operator.api.inference_allocation import LoadStatus
from inferscale_operator.decide.plausibility import JUMP, doubted
from inferscale_operator.snapshot import LoadState, ObservedLoad, UnknownCause

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
WINDOW = timedelta(seconds=120)
LAST = LoadStatus(state="Observed", arrival_rate=60, input_tokens=200, output_tokens=50)


def load(rate: float = 60, inputs: float | None = 200, outputs: float | None = 50) -> ObservedLoad:
    return ObservedLoad(LoadState.OBSERVED, "", rate, inputs, outputs)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (load(rate=60_001), "arrival rate per minute is 60001, and was 60 at the last decision"),
        (load(inputs=200_001), "mean of input tokens is 200001, and was 200 at the last decision"),
        (load(outputs=50_001), "mean of output tokens is 50001, and was 50 at the last decision"),
    ],
)
def test_a_figure_more_than_a_thousand_times_the_last_is_unknown_and_both_are_named(figures, said):
    found = doubted(figures, LAST, NOW, WINDOW)
    assert (found.state, found.cause, found.doubted_since) == (
        LoadState.UNKNOWN,
        UnknownCause.SUDDEN_JUMP,
        NOW,
    )
    assert found.message == f"{said}: held until it has been so for 120 s"
    assert found.arrival_rate is None


def test_a_figure_less_than_a_thousandth_of_the_last_is_unknown():
    last = LoadStatus(state="Observed", arrival_rate=5000)
    assert doubted(load(rate=4), last, NOW, WINDOW).cause is UnknownCause.SUDDEN_JUMP
    assert doubted(load(rate=0), last, NOW, WINDOW).cause is UnknownCause.SUDDEN_JUMP
    assert doubted(load(rate=5), last, NOW, WINDOW) == load(rate=5)


def test_a_jump_that_lasts_for_a_window_is_a_change():
    since = LAST.model_copy(update={"doubted_since": NOW - WINDOW + timedelta(seconds=1)})
    found = doubted(load(rate=1e5), since, NOW, WINDOW)
    assert (found.state, found.doubted_since) == (LoadState.UNKNOWN, since.doubted_since)
    since = LAST.model_copy(update={"doubted_since": NOW - WINDOW})
    assert doubted(load(rate=1e5), since, NOW, WINDOW) == load(rate=1e5)


def test_a_doubt_of_the_future_is_one_of_now():
    since = LAST.model_copy(update={"doubted_since": NOW + timedelta(hours=1)})
    assert doubted(load(rate=1e5), since, NOW, WINDOW).doubted_since == NOW


def test_partial_loads_are_doubted_too():
    partial = ObservedLoad(LoadState.PARTIAL, "1 of 2", 1e5)
    assert doubted(partial, LAST, NOW, WINDOW).cause is UnknownCause.SUDDEN_JUMP


def test_what_waits_at_the_gateway_stays_known():
    jumped = ObservedLoad(LoadState.OBSERVED, "", 1e5, queued=7)
    assert doubted(jumped, LAST, NOW, WINDOW).queued == 7


@pytest.mark.parametrize(
    ("figures", "last"),
    [
        (ObservedLoad(LoadState.IDLE, "", 0.0), LoadStatus(state="Observed", arrival_rate=1e6)),
        (load(rate=1e6), LoadStatus(state="Idle", arrival_rate=0)),
        (load(rate=1e6), LoadStatus(state="Observed", arrival_rate=0.5)),
        (load(rate=1e6), LoadStatus(state="Unknown")),
        (load(inputs=None, outputs=None), LAST),
    ],
)
def test_idleness_and_the_first_load_after_nothing_are_believed(figures, last):
    assert doubted(figures, last, NOW, WINDOW) == figures


@given(st.floats(0, 1e7), st.floats(0, 1e7))
@settings(deadline=None)
def test_only_figures_that_are_more_than_a_thousandfold_apart_are_doubted(rate, before):
    last = LoadStatus(state="Observed", arrival_rate=before)
    found = doubted(load(rate=rate), last, NOW, WINDOW)
    apart = max(rate, before) > JUMP * max(min(rate, before), 1.0) and not (rate > before and before < 1)
    assert (found.state is LoadState.UNKNOWN) == apart
