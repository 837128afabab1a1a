import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_queueing.bracket import RELATIVE_WIDTH, Bracket, narrow


def search(function, low, high):
    low, high = np.atleast_1d(np.asarray(low, dtype=float)), np.atleast_1d(np.asarray(high, dtype=float))
    every = np.arange(low.size)
    return narrow(function, Bracket(low, high), function(low, every), function(high, every))


@settings(deadline=None)
@given(
    root=st.floats(1e-6, 0.999),
    shape=st.sampled_from(["step", "kink", "pole", "steep", "flat"]),
)
def test_the_bracket_closes_on_the_sign_change_whatever_the_shape(root: float, shape: str) -> None:
    shapes = {
        "step": lambda x: np.where(x > root, 1.0, -1.0),
        "kink": lambda x: np.where(x > root, 1e6, 1e-3) * (x - root),
        "pole": lambda x: 1 / (1 - x) - 1 / (1 - root),
        "steep": lambda x: np.expm1(50 * (x - root)),
        "flat": lambda x: np.where(x > root, x - root, 0.0),
    }
    found = search(lambda x, _: shapes[shape](x), 1e-9, 0.9999)
    # Where the function rounds to nothing, its sign change is not where the root is.
    slack = 1e-9 if shape in ("pole", "steep") else 0.0
    assert found.low[0] <= root * (1 + slack) + slack
    assert found.high[0] >= root * (1 - slack) - slack
    assert shapes[shape](found.low)[0] <= 0 < shapes[shape](found.high)[0]
    assert found.high[0] - found.low[0] <= RELATIVE_WIDTH * found.high[0]


def test_each_candidate_has_its_own_root_and_is_left_alone_when_it_is_found() -> None:
    roots = np.array([0.25, 3.0, 7.5])
    evaluated = np.zeros(3, dtype=int)

    def function(x, rows):
        evaluated[rows] += 1
        return np.where(rows == 2, np.sign(x - 7.5 - 1e-9), x - roots[rows])

    found = search(function, np.zeros(3) + 1e-3, np.full(3, 10.0))
    assert found.low == pytest.approx(roots, rel=1e-8)
    assert evaluated[0] < evaluated[2]


def test_no_candidates_need_no_search() -> None:
    assert search(lambda x, _: x, np.zeros(0), np.zeros(0)).low.size == 0
