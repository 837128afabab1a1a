"""One plan of a deck."""

from __future__ import annotations

import time

from inferscale_operator.errors import UsageError
from inferscale_operator.planning.deck import Deck
from inferscale_operator.planning.formulate import Options, problem_of
from inferscale_operator.planning.report import Report, WallTime, report
from inferscale_solver import Problem, candidates, solve


def make_plan(deck: Deck, now: Deck, options: Options) -> Report:
    """Plan a deck.

    Args:
        deck: What to plan.
        now: What the files say, before any what-if.
        options: How to plan.

    Raises:
        UsageError: The deck has no meaning to the solver.
    """
    return solve_problem(problem_of(deck, options), deck, now)


def solve_problem(problem: Problem, deck: Deck, now: Deck) -> Report:
    """Solve the problem of a deck, and put the result into the terms of the files; see `make_plan`."""
    try:
        start = time.perf_counter()
        candidates(problem)
        sized = time.perf_counter()
        result = solve(problem)
        end = time.perf_counter()
    except ValueError as error:
        raise UsageError(str(error)) from error
    # The solve finds the sizing kept.
    wall_time = WallTime(sizing=sized - start, solve=end - sized)
    return report(deck, now, problem, result, wall_time)
