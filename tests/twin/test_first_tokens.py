from __future__ import annotations

import numpy as np
import pytest

from inferscale_operator.twin.firsttokens import (
    POINTS,
    FirstTokens,
    Lines,
    iteration_left,
    prefills,
    relative_lengths,
)
from inferscale_operator.twin.scenario import TokenSpec


def firsts(queued: float) -> FirstTokens:
    return FirstTokens(
        left=np.zeros((1, POINTS)),
        prefill=np.full((1, POINTS), 20.0),
        queued=np.array([queued]),
        least=np.array([1000.0]),
        most=np.array([3000.0]),
        p_wait=np.array([0.5]),
        rate=np.array([0.01]),
    )


def test_a_share_of_the_requests_waits_for_an_exponential_time_below_the_full_batch() -> None:
    later = [firsts(0.0).later(np.array([limit]))[0] for limit in (19, 20, 120, np.inf)]
    assert later == pytest.approx([1.0, 0.5, 0.5 * np.exp(-1), 0.0])
    assert firsts(0.0).waits_beyond(np.array([100.0]))[0] == pytest.approx(0.5 * np.exp(-1))


def test_with_a_backlog_all_wait_their_turn() -> None:
    later = [firsts(1.0).later(np.array([limit]))[0] for limit in (1020, 1520, 3020)]
    assert later == pytest.approx([1.0, 0.75, 0.0])


def test_those_of_a_backlog_that_is_worked_off_have_waited_and_the_others_have_not() -> None:
    later = [firsts(0.25).later(np.array([limit]))[0] for limit in (20, 920, 2020)]
    assert later == pytest.approx([0.25 + 0.75 * 0.5, 0.25, 0.125], abs=1e-3)


def test_the_times_that_stand_for_all_have_the_tail_of_all() -> None:
    told = [firsts(0.0).points(turn) for turn in range(20)]
    times = np.concatenate([times.ravel() for _, times, _ in told])
    weights = np.concatenate([np.repeat(weights, POINTS) for _, _, weights in told])
    assert weights.sum() == pytest.approx(20)
    for share in (0.5, 0.9, 0.95, 0.99):
        limit = 20 + max(np.log(0.5 / (1 - share)) / 0.01, 0)
        assert weights[times > limit].sum() / 20 == pytest.approx(1 - share, rel=0.1)


@pytest.mark.parametrize("queued", [0.0, 0.25, 1.0])
def test_the_weights_of_a_service_are_one_in_all_and_a_row_is_of_its_backlog(queued: float) -> None:
    services, times, weights = firsts(queued).points(1)
    assert services.tolist() == [0, 0, 0][: 3 if queued else 2]
    assert times.shape == (len(services), POINTS)
    assert weights.sum() * POINTS == pytest.approx(1)
    assert weights[times.min(axis=1) >= 1020].sum() * POINTS == pytest.approx(queued)


def test_lengths_are_relative_to_their_mean_and_vary_as_they_do() -> None:
    given = [
        TokenSpec(input=8, output=8, distribution="deterministic"),
        TokenSpec(input=8, output=8, distribution="lognormal", cov=0.5),
        None,
    ]
    found = relative_lengths(given)
    assert found.mean(axis=1) == pytest.approx([1, 1, 1])
    assert found.std(axis=1) == pytest.approx([0, 0.5, 1], abs=0.1)


def test_a_prefill_varies_with_its_input_and_with_the_batch_that_it_finds() -> None:
    exponential, alike = relative_lengths([None]), np.ones((1, POINTS))
    mean, fixed, none = np.array([50.0]), np.array([10.0]), np.array([0.0])
    for lengths, running, p_wait, spread in (
        (alike, 16.0, 0.0, 40 / 4),
        (alike, 16.0, 1.0, 0.0),
        (exponential, 1e9, 0.0, 40.0),
        (exponential, 16.0, 0.0, 40 * np.sqrt(1 + 2 / 16)),
    ):
        found = prefills(mean, fixed, lengths, np.array([running]), none + p_wait)[0]
        assert found.mean() == pytest.approx(50, rel=0.02)
        assert found.std() == pytest.approx(spread, rel=0.1)


def test_an_iteration_is_half_over_when_a_request_finds_one() -> None:
    left = iteration_left(np.full(3, 10.0), np.array([0.0, 50.0, 50.0]), np.array([0.0, 0.0, 1.0]))
    assert left.mean(axis=1) == pytest.approx([0, 5, 0], abs=0.2)


def test_who_leaves_a_line_has_waited_since_it_came() -> None:
    lines, flow = Lines(1), np.array([100.0])

    def waited(before: float, after: float, from_s: float) -> list[float]:
        ages = lines.waited(np.array([before]), flow, np.array([after]), from_s, from_s + 10)
        return [round(float(age[0])) for age in ages]

    # Ten a second come and five are served: who is served at 20 s came at 10 s.
    assert waited(0, 50, 0) == [0, 5000]
    assert waited(50, 100, 10) == [5000, 10000]
    # Some of those that wait are lost: the first go.
    assert waited(20, 20, 20) == [2000, 2000]
    assert waited(20, 0, 30) == [0, 2000]
