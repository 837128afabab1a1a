"""The decision: a profile, replicas and a batch for every service."""

from __future__ import annotations

import math

from inferscale_solver.allocation import Assignment, candidate_allocation, evaluate_all
from inferscale_solver.candidates import Candidates, candidates
from inferscale_solver.choice import Choice
from inferscale_solver.explanation import decision
from inferscale_solver.greedy import greedy
from inferscale_solver.problem import Problem, check
from inferscale_solver.result import Allocation, Outcome, Result
from inferscale_solver.unlimited import unlimited


def solve(problem: Problem) -> Result:
    """Decide what every service gets: unlimited where no capacity is given, otherwise limited, greedy.

    Pure and deterministic: the same problem in any order gives the same result.

    Args:
        problem: What is to be decided.

    Returns:
        A decision for every service, whatever its load, its objectives or the capacity: what cannot be is a
        result with its reason.

    Raises:
        ValueError: The problem has no meaning; the message names the object, the field and the value.
    """
    check(problem)
    found = candidates(problem)
    if problem.capacity is None:
        choices = unlimited(found)
    else:
        choices = greedy(found, problem.capacity, problem.settings)
    allocations = _allocations(problem, found, choices)
    decisions = {
        service.name: decision(found, i, choices[i], allocations[i])
        for i, service in enumerate(found.services)
    }
    given = [allocation for allocation in allocations if allocation is not None]
    types = {profile.name: profile.type for profile in problem.profiles}
    used = dict.fromkeys(sorted({*types.values()}), 0)
    for allocation in given:
        used[types[allocation.profile]] += allocation.units
    unserved = dict.fromkeys(sorted({service.priority for service in found.services}), 0)
    for service in found.services:
        if decisions[service.name].outcome in (Outcome.BEST_EFFORT, Outcome.UNSERVED):
            unserved[service.priority] += 1
    return Result(
        decisions=decisions,
        total_cost=math.fsum(allocation.cost for allocation in given),
        total_value=math.fsum(allocation.value for allocation in given),
        used=used,
        solver="unlimited" if problem.capacity is None else "greedy",
        unserved_by_priority=unserved,
    )


def _allocations(problem: Problem, found: Candidates, choices: tuple[Choice, ...]) -> list[Allocation | None]:
    """The choices in figures: candidates have theirs, best efforts are evaluated together."""
    allocations: list[Allocation | None] = [None] * len(choices)
    efforts: dict[int, Assignment] = {}
    for i, choice in enumerate(choices):
        if choice.within_objectives and choice.row is not None:
            allocations[i] = candidate_allocation(found, choice.row)
        elif choice.profile is not None:
            efforts[i] = Assignment(found.services[i].name, choice.profile, choice.replicas)
    for i, allocation in zip(efforts, evaluate_all(problem, list(efforts.values())), strict=True):
        allocations[i] = allocation
    return allocations
