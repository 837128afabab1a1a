import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_queueing import DecodeOnly, PrefillDecode, max_batch_size
from strategies import decode_only, prefill_decode


def test_decode_only_takes_an_iteration_per_token() -> None:
    model = DecodeOnly(19, 1, 1024)
    assert model.itl(31) == pytest.approx([50])
    assert model.service_time(31) == pytest.approx([51_200])
    assert model.prefill(31) == pytest.approx([0])


def test_the_prefill_gives_the_first_token() -> None:
    model = PrefillDecode(20, 0.5, 10, 0.1, 100, 11)
    assert model.prefill(4) == pytest.approx([10 + 0.1 * 100 * 4])
    assert model.service_time(4) == pytest.approx([50 + 10 * 22])


def test_without_input_tokens_there_is_no_prefill() -> None:
    model = PrefillDecode(20, 0.5, 10, 0.1, 0, 11)
    assert model.prefill(4) == pytest.approx([0])
    assert model.service_time(4) == pytest.approx([10 * 22])


def test_curves_take_one_batch_size_one_per_candidate_or_many() -> None:
    model = DecodeOnly([10, 20], [1, 2], 5)
    assert model.itl(3) == pytest.approx([13, 26])
    assert model.itl([1, 2]) == pytest.approx([11, 24])
    assert model.itl([[1, 2, 3]]) == pytest.approx(np.array([[11, 12, 13], [22, 24, 26]]))
    assert model.service_time([[1], [2]]) == pytest.approx(np.array([[55], [120]]))


def test_candidates_can_be_taken_in_any_order_and_more_than_once() -> None:
    model = PrefillDecode([1, 2, 3], 1, 2, 3, [4, 5, 6], 7).take(np.array([2, 0, 0]))
    assert model.alpha == pytest.approx([3, 1, 1])
    assert model.input_tokens == pytest.approx([6, 4, 4])
    assert model.service_time(2) == pytest.approx(
        PrefillDecode([3, 1, 1], 1, 2, 3, [6, 4, 4], 7).service_time(2)
    )


@settings(deadline=None)
@given(model=decode_only() | prefill_decode(), n=st.floats(0.5, 500))
def test_concurrency_inverts_the_service_time(model: DecodeOnly | PrefillDecode, n: float) -> None:
    assert model.concurrency(model.service_time(n)) == pytest.approx([n], rel=1e-6)


@pytest.mark.parametrize("model", [DecodeOnly(10, 0, 5), PrefillDecode(10, 0, 5, 0.1, 0, 20)])
def test_concurrency_of_a_flat_service_time_is_not_a_number(model: DecodeOnly | PrefillDecode) -> None:
    assert np.isnan(model.concurrency(model.service_time(3))).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1, -2), 1, 5), r"alpha\[1\] is -2; give a finite number of at least 0"),
        ((1, np.nan, 5), r"beta\[0\] is nan; give a finite number of at least 0"),
        ((1, 1, 0), r"tokens\[0\] is 0; give a finite number above 0"),
        (([1, 0], [0, 0], 5), "candidate 1: alpha and beta are both 0"),
        (([1, 2], [1, 2, 3], 5), r"different numbers of candidates \(alpha 2, beta 3\)"),
        ([[[1]], 1, 5], r"alpha has shape \(1, 1\)"),
    ],
)
def test_decode_only_refuses_what_it_cannot_mean(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecodeOnly(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 1, 1, 1, 1, 0.5), r"output_tokens\[0\] is 0.5; give a finite number of at least 1"),
        ((1, 1, 1, 1, np.inf, 2), r"input_tokens\[0\] is inf"),
        ((1, 1, 1, 1, 0, 1), "candidate 0: takes no time"),
    ],
)
def test_prefill_and_decode_refuses_what_it_cannot_mean(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrefillDecode(*arguments)


def test_shorter_requests_allow_a_larger_batch() -> None:
    assert max_batch_size(48, 1024, [1024, 512, 1000]).tolist() == [48, 96, 49]


def test_the_largest_batch_is_never_below_one() -> None:
    assert max_batch_size([4, 1], 100, 1000).tolist() == [1, 1]


def test_the_largest_batch_needs_a_length() -> None:
    with pytest.raises(ValueError, match=r"^tokens\[0\] is 0; give a finite number above 0"):
        max_batch_size(4, 100, 0)
