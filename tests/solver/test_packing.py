"""Whether replicas fit on nodes together."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_solver import Solver, candidates, solve
from inferscale_solver.packing import fits
from solver_builders import performance, problem, profile, service

A100 = profile("A100", 6.0)


def packed(nodes: tuple[int, ...], sizes: tuple[int, ...]) -> bool:
    """By trying every node for every replica."""
    for places in itertools.product(range(len(nodes)), repeat=len(sizes)):
        taken = Counter[int]()
        for node, size in zip(places, sizes, strict=True):
            taken[node] += size
        if all(taken[node] <= units for node, units in enumerate(nodes)):
            return True
    return not sizes


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=3),
    st.lists(st.integers(1, 6), max_size=6),
)
@settings(deadline=None, max_examples=150)
def test_replicas_fit_where_some_arrangement_of_them_does(nodes: list[int], sizes: list[int]) -> None:
    assert fits(nodes, Counter(sizes)) == packed(tuple(nodes), tuple(sizes))


def test_first_fit_decreasing_is_not_the_last_word() -> None:
    # 4+3+3 and 4+2+2+2 fill two nodes of 10; the largest first would put 4 and 4 together.
    assert fits((10, 10), {4: 2, 3: 2, 2: 3})


@pytest.mark.parametrize("solver", Solver)
def test_a_plan_whose_sizes_do_not_divide_each_other_fits_on_nodes(solver: Solver) -> None:
    # Three replicas of 3 and one of 2 are 11 of 12 units, and each size alone has room: 1 + 1 + 1 times 3 on
    # nodes of 4, but then no two units are left together.
    three = service("three", 30, {}, performance=(performance("A100", 10, acc_count=3),))
    two = service("two", 10, {}, performance=(performance("A100", 10, acc_count=2),), priority=2)
    whole = problem(three, two, profiles=(A100,), units={"A100": 12}, solver=solver)
    assert whole.capacity is not None
    assert solve(whole).unserved_by_priority == {1: 0, 2: 0}
    for free, unserved in (((4, 4, 4), {1: 0, 2: 1}), ((5, 4, 3), {1: 0, 2: 0}), ((2, 2, 8), {1: 1, 2: 0})):
        result = solve(replace(whole, capacity=replace(whole.capacity, free_by_node={"A100": free})))
        assert result.unserved_by_priority == unserved, free
        for priority, bound in result.unserved_bound.items():
            assert bound <= unserved[priority]


@pytest.mark.parametrize("solver", [Solver.GREEDY, Solver.AUTO])
@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_what_is_planned_always_fits_on_nodes(solver: Solver, data: st.DataObject) -> None:
    nodes = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    services = [
        service(
            f"s{i}",
            data.draw(st.sampled_from([5, 20, 35])),
            {},
            performance=(performance("A100", 10, acc_count=data.draw(st.sampled_from([1, 2, 3, 5]))),),
            priority=data.draw(st.integers(1, 2)),
        )
        for i in range(data.draw(st.integers(1, 5)))
    ]
    whole = problem(*services, profiles=(A100,), units={"A100": sum(nodes)}, solver=solver)
    assert whole.capacity is not None
    whole = replace(whole, capacity=replace(whole.capacity, free_by_node={"A100": nodes}))
    result = solve(whole)
    found = candidates(whole)
    sizes: list[int] = []
    for i, each in enumerate(found.services):
        allocation = result.decisions[each.name].allocation
        size = int(found.units_per_replica[found.rows[i][0]])
        sizes += [size] * (allocation.replicas if allocation is not None else 0)
    assert fits(nodes, Counter(sizes))
