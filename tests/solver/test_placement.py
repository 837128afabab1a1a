import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_solver import place, replicas_that_fit

nodes = st.lists(st.integers(0, 16), max_size=8)


def test_six_nodes_with_one_free_unit_host_no_replica_of_four() -> None:
    assert replicas_that_fit([1] * 6, 4) == 0


def test_what_is_left_on_each_node_is_lost() -> None:
    assert replicas_that_fit([8, 7, 3, 12], 4) == 2 + 1 + 0 + 3


def test_an_overcommitted_node_hosts_nothing() -> None:
    assert replicas_that_fit([-2, 8], 4) == 2


def test_a_replica_needs_at_least_one_unit() -> None:
    with pytest.raises(ValueError, match="at least 1 unit"):
        replicas_that_fit([8], 0)
    with pytest.raises(ValueError, match="demand 1 needs 0 units"):
        place([8], [(2, 1), (0, 1)])


def test_large_replicas_are_placed_before_small_ones() -> None:
    assert place([4, 4], [(1, 4), (4, 1)]) == (4, 1)


def test_small_replicas_go_without_where_large_ones_fill_the_nodes() -> None:
    assert place([4, 4], [(1, 1), (4, 2)]) == (0, 2)


@settings(deadline=None)
@given(nodes, st.integers(1, 8), st.integers(0, 40))
def test_replicas_of_one_size_are_placed_exactly(free: list[int], units: int, replicas: int) -> None:
    assert place(free, [(units, replicas)]) == (min(replicas, replicas_that_fit(free, units)),)


@settings(deadline=None)
@given(nodes, st.lists(st.tuples(st.integers(1, 8), st.integers(0, 6)), max_size=5))
def test_placed_replicas_never_exceed_what_is_free_or_asked(
    free: list[int], demands: list[tuple[int, int]]
) -> None:
    placed = place(free, demands)
    assert all(0 <= n <= replicas for n, (_, replicas) in zip(placed, demands, strict=True))
    assert sum(n * units for n, (units, _) in zip(placed, demands, strict=True)) <= sum(free)
