from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import NOW, later
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus, Recommendation
from inferscale_operator.decide.stabilization import (
    HISTORY_LIMIT,
    Holding,
    Stabilized,
    Windows,
    record,
    stabilize,
)

WINDOWS = Windows(up=120, down=300)
RATE = 100.0


def wanted(
    replicas: int, at: float, on: str = "h100", rate: float = 0.0, batch: int | None = None
) -> Recommendation:
    return Recommendation(time=later(at), accelerator=on, replicas=replicas, rate=rate, max_batch=batch)


def follow(
    targets: list[int], holding: Holding, windows: Windows = WINDOWS, tick: float = 30
) -> list[Stabilized]:
    """What may be done at each tick when it is done at once."""
    history: tuple[Recommendation, ...] = ()
    done = []
    for i, target in enumerate(targets):
        history = record(history, wanted(target, i * tick), holding, windows)
        allowed = stabilize(history, holding, windows, RATE, target)
        holding = replace(holding, replicas=allowed.replicas)
        done.append(allowed)
    return done


def replicas(done: list[Stabilized]) -> list[int]:
    return [each.replicas for each in done]


def test_a_scale_up_waits_for_its_window_and_then_goes_to_the_smallest_of_it() -> None:
    done = follow([6, 5, 7, 8, 9, 9], Holding("h100", 2))
    assert replicas(done) == [2, 2, 2, 2, 5, 7]
    assert done[0].held == (
        "6 on h100 waits for its stabilization window (120 s), until 00:02:00 at the earliest"
    )


def test_a_scale_down_waits_for_its_window_and_then_goes_to_the_largest_of_it() -> None:
    done = follow([3, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2], Holding("h100", 8))
    assert replicas(done) == [8] * 10 + [4, 2]


def test_without_windows_the_latest_recommendation_is_followed() -> None:
    assert replicas(follow([5, 1, 9], Holding("h100", 3), Windows(up=0, down=0))) == [5, 1, 9]


@pytest.mark.parametrize("tick", [30, 60])
def test_a_window_shorter_than_a_tick_does_not_hold_forever(tick: int) -> None:
    windows = Windows(up=15, down=20, tick=tick)
    assert replicas(follow([5, 5, 1, 1], Holding("h100", 2), windows, tick)) == [2, 5, 1, 1]


def test_a_steady_need_is_never_held() -> None:
    assert all(each.held == "" for each in follow([2] * 12, Holding("h100", 2)))


def test_an_oscillating_load_moves_nothing() -> None:
    assert replicas(follow([1, 5] * 30, Holding("h100", 3))) == [3] * 60
    # Once it has followed a peak that lasted, it stays there through the troughs.
    assert replicas(follow([5] * 6 + [1, 5] * 20, Holding("h100", 3)))[5:] == [5] * 41


def test_a_lost_history_does_not_jump_over_the_windows() -> None:
    history = record((), wanted(9, 0), Holding("h100", 4), WINDOWS)
    assert [r.replicas for r in history] == [4, 9]
    assert stabilize(history, Holding("h100", 4), WINDOWS, RATE, 9).replicas == 4


@pytest.mark.parametrize("windows", [WINDOWS, Windows(up=900, down=300)])
def test_after_a_gap_one_recommendation_does_not_scale_down(windows: Windows) -> None:
    holding = Holding("h100", 4)
    history = record((), wanted(4, 0), holding, windows)
    history = record(history, wanted(1, 400), holding, windows)
    assert stabilize(history, holding, windows, RATE, 1).replicas == 4


def test_a_clock_that_was_set_back_forgets_the_future() -> None:
    history = record((wanted(1, 500),), wanted(1, 0), Holding("h100", 4), WINDOWS)
    assert [r.time for r in history] == [NOW, NOW]
    assert stabilize(history, Holding("h100", 4), WINDOWS, RATE, 1).replicas == 4


def test_another_accelerator_waits_while_the_present_one_was_wanted_in_the_window() -> None:
    holding = Holding("h100", 2)
    history = (wanted(2, 0, rate=120), wanted(4, 30, "a100", rate=120))
    # The load can be served where it is, so the slower window holds.
    held = stabilize(history, holding, WINDOWS, 30, 2)
    assert (held.accelerator, held.replicas, held.rising) == ("h100", 2, False)
    assert "4 on a100 waits" in held.held
    # Where it cannot, the faster one does.
    history = (wanted(2, 0, rate=120), wanted(4, 130, "a100", rate=120))
    assert stabilize(history, holding, WINDOWS, 30, 2).accelerator == "h100"
    assert stabilize(history, holding, WINDOWS, 30, 3).accelerator == "a100"
    assert stabilize(history, holding, WINDOWS, 30, None).accelerator == "a100"


def test_recommendations_on_other_accelerators_are_compared_by_their_rate() -> None:
    history = (wanted(1, 0, "b200", rate=240), wanted(3, 30, "a100", rate=90))
    # 240 requests a minute would be 8 replicas at 30 each.
    down = stabilize(history, Holding("h100", 9), WINDOWS, 30, 2)
    assert (down.accelerator, down.replicas) == ("a100", 8)
    history = (wanted(1, 0, "b200", rate=150), wanted(8, 30, "a100", rate=240))
    up = stabilize(history, Holding("h100", 2), WINDOWS, 30, 4)
    assert (up.accelerator, up.replicas) == ("a100", 5)


def test_a_move_that_scales_up_never_serves_less_than_there_is() -> None:
    history = (wanted(1, 0, "b200", rate=30), wanted(8, 30, "a100", rate=240))
    # Three of the four h100 that the load needs are worth six of the eight a100.
    assert stabilize(history, Holding("h100", 3), WINDOWS, 30, 4).replicas == 6


def test_a_batch_alone_waits_like_another_accelerator() -> None:
    holding = Holding("h100", 2, 32)
    history = (wanted(2, 0, batch=32), wanted(2, 30, batch=64))
    assert stabilize(history, holding, WINDOWS, RATE, 2).max_batch == 32
    assert stabilize(history[1:], holding, WINDOWS, RATE, 2).max_batch == 64


def test_the_history_survives_the_status() -> None:
    history = record((wanted(3, 0, rate=1.5, batch=8),), wanted(9, 30), Holding("h100", 4), WINDOWS)
    written = InferenceAllocationStatus(history=history).model_dump_json(by_alias=True)
    assert InferenceAllocationStatus.model_validate_json(written).history == history


def test_a_run_of_equal_recommendations_is_kept_as_its_last() -> None:
    history: tuple[Recommendation, ...] = ()
    for i in range(100):
        history = record(history, wanted(2, 30 * i, rate=60), Holding("h100", 2), WINDOWS)
    assert history == (wanted(2, 30 * 99, rate=60),)


def test_the_history_never_outgrows_the_status() -> None:
    windows = Windows(up=3600, down=3600, tick=1)
    history: tuple[Recommendation, ...] = ()
    for i in range(HISTORY_LIMIT + 50):
        history = record(history, wanted(i, i), Holding("h100", 4), windows)
    assert len(history) == HISTORY_LIMIT
    assert len(InferenceAllocationStatus(history=history).history) == HISTORY_LIMIT


def recommendations() -> st.SearchStrategy[list[Recommendation]]:
    one = st.tuples(
        st.sampled_from(["h100", "a100", "b200"]),
        st.integers(0, 4),
        st.sampled_from([0.0, 10.0, 55.0, 90.0, 240.0]),
        st.sampled_from([None, 8]),
        st.integers(1, 200),
    )

    def spread(items: list[tuple[str, int, float, int | None, int]]) -> list[Recommendation]:
        time, result = NOW, []
        for on, count, rate, batch, gap in items:
            time += timedelta(seconds=gap)
            result.append(
                Recommendation(time=time, accelerator=on, replicas=count, rate=rate, max_batch=batch)
            )
        return result

    return st.lists(one, min_size=1, max_size=25).map(spread)


holdings = st.builds(
    Holding, st.sampled_from(["h100", "a100"]), st.integers(0, 5), st.sampled_from([None, 8])
)
windows = st.builds(Windows, st.integers(0, 400), st.integers(0, 400))


@settings(deadline=None)
@given(recommendations(), holdings, windows, st.sampled_from([0.0, 30.0]), st.none() | st.integers(0, 6))
def test_dropping_what_can_no_longer_tell_changes_no_outcome(
    wants: list[Recommendation],
    holding: Holding,
    windows: Windows,
    rate_per_replica: float,
    needed: int | None,
) -> None:
    short: tuple[Recommendation, ...] = ()
    full: list[Recommendation] = []
    for want in wants:
        before = full[-1].time if full else None
        short = record(short, want, holding, windows)
        gap = timedelta(seconds=max(windows.down, 2 * windows.tick))
        if before is None or before <= want.time - gap:
            full.append(
                want.model_copy(
                    update={
                        "accelerator": holding.accelerator,
                        "replicas": holding.replicas,
                        "max_batch": holding.max_batch,
                    }
                )
            )
        full.append(want)
        assert stabilize(short, holding, windows, rate_per_replica, needed) == stabilize(
            full, holding, windows, rate_per_replica, needed
        )


@settings(deadline=None)
@given(recommendations(), holdings, windows, st.none() | st.integers(0, 6))
def test_nothing_goes_past_its_window_or_past_what_there_is(
    wants: list[Recommendation], holding: Holding, windows: Windows, needed: int | None
) -> None:
    allowed = stabilize(wants, holding, windows, RATE, needed)
    latest = wants[-1]
    here = (holding.accelerator, holding.max_batch)
    assert (allowed.accelerator, allowed.max_batch) in (here, (latest.accelerator, latest.max_batch))
    if (latest.accelerator, latest.max_batch) == here:
        low, high = sorted((holding.replicas, latest.replicas))
        assert low <= allowed.replicas <= high
        window = timedelta(seconds=windows.up if allowed.rising else windows.down)
        seen = [
            r.replicas
            for r in wants
            if (r.time > latest.time - window and r.accelerator == latest.accelerator) or r is latest
        ]
        if allowed.rising:
            assert allowed.replicas <= max(min(seen), holding.replicas)
        else:
            assert allowed.replicas >= min(max(seen), holding.replicas)
