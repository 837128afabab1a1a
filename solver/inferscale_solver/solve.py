"""The decision: a profile, replicas and a batch for every service."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from inferscale_queueing.frozen import frozen
from inferscale_solver.allocation import Assignment, candidate_allocations, evaluate_all
from inferscale_solver.candidates import VALUE_DECIMALS, Candidates, candidates
from inferscale_solver.choice import Choice
from inferscale_solver.exact import exact
from inferscale_solver.explanation import decision
from inferscale_solver.formulation import burst_cost
from inferscale_solver.greedy import greedy
from inferscale_solver.packing import misfits
from inferscale_solver.problem import Problem, Settings, Solver, Tier, check
from inferscale_solver.proof import Proof
from inferscale_solver.resources import Kind, Resources, resources
from inferscale_solver.result import Allocation, Outcome, Result
from inferscale_solver.retention import retain
from inferscale_solver.settlement import rank, settle
from inferscale_solver.unlimited import unlimited


@frozen
class _Plan:
    """Choices, which solver they are from, and what is proved about them."""

    choices: tuple[Choice, ...]
    solver: str
    proof: Proof | None = None


def solve(problem: Problem) -> Result:
    """Decide what every service gets: by itself where nothing is limited, otherwise by `settings.solver`.

    Pure and deterministic: the same problem in any order gives the same result, unless the safety stop of
    the exact solver was reached, which the result says.

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
    plan, placement_cost = _placed(problem, found)
    choices = plan.choices
    sized = candidate_allocations(found)
    allocations = _allocations(problem, found, choices, sized)
    decisions = {
        service.name: decision(found, sized, i, choices[i], allocations[i])
        for i, service in enumerate(found.services)
    }
    given = [allocation for allocation in allocations if allocation is not None]
    profiles = {profile.name: profile for profile in problem.profiles}
    used = dict.fromkeys(sorted({profile.type for profile in problem.profiles}), 0)
    for allocation in given:
        used[profiles[allocation.profile].type] += allocation.units
    unserved = dict.fromkeys(sorted({service.priority for service in found.services}), 0)
    for service in found.services:
        if decisions[service.name].outcome in (Outcome.BEST_EFFORT, Outcome.UNSERVED):
            unserved[service.priority] += 1
    result = Result(
        decisions=decisions,
        total_cost=math.fsum(allocation.cost for allocation in given),
        total_value=math.fsum(allocation.value for allocation in given),
        used=used,
        solver=plan.solver,
        unserved_by_priority=unserved,
        power=math.fsum(allocation.power or 0.0 for allocation in given),
        burst_cost=math.fsum(
            allocation.cost for allocation in given if profiles[allocation.profile].tier is Tier.BURST
        ),
    )
    if plan.proof is None:
        return result
    proved = _proved(result, found, choices, plan.proof)
    return replace(proved, placement_cost=placement_cost)


def _placed(problem: Problem, found: Candidates) -> tuple[_Plan, float | None]:
    """A plan whose replicas fit on the nodes, and what that costs in value; None: not known.

    The plan that knows of no nodes comes first: where it fits on them none is better.
    """
    if problem.capacity is None or not problem.capacity.free_by_node:
        return _packed(problem, found), None
    unplaced = replace(problem, capacity=replace(problem.capacity, free_by_node={}))
    shared = resources(unplaced, found)
    free = _plan(found, shared, problem.settings)
    kept = retain(found, shared, free.choices, problem.settings.keep_threshold)
    if not misfits(problem.capacity.free_by_node, found, kept):
        return replace(free, choices=kept), 0.0
    plan = _packed(problem, found)
    here, there = rank(found, plan.choices), rank(found, free.choices)
    return plan, max(here.value - there.value, 0.0) if here.unserved == there.unserved else None


def _packed(problem: Problem, found: Candidates) -> _Plan:
    """A plan whose replicas fit on the nodes together.

    The limits are not enough for that where sizes do not divide each other. While a plan does not fit, its
    type may take fewer units, by one, two, four … more.
    """
    nodes = problem.capacity.free_by_node if problem.capacity is not None else {}
    most: dict[str, int] = {}
    first: _Plan | None = None
    step = 1
    while True:
        shared = resources(problem, found, most)
        plan = _plan(found, shared, problem.settings)
        kept = retain(found, shared, plan.choices, problem.settings.keep_threshold)
        over = misfits(nodes, found, kept)
        if not over:
            break
        first = first or plan
        most |= {kind: max(units - step, 0) for kind, units in over.items()}
        step *= 2
    proof = plan.proof if first is None else _loosened(found, plan, first)
    return replace(plan, choices=kept, proof=proof)


def _loosened(found: Candidates, plan: _Plan, first: _Plan) -> Proof | None:
    """What the proof of a plan that does not fit says about one that does."""
    if first.proof is None or plan.proof is None:
        return None
    here, there = rank(found, plan.choices).unserved, rank(found, first.choices).unserved
    bound = dict(first.proof.unserved_bound)
    priorities = sorted({service.priority for service in found.services})
    for position, priority in enumerate(priorities):
        # Bounds hold for plans that leave as many unserved at the priorities before.
        if here[:position] != there[:position]:
            bound.pop(priority, None)
    lower = first.proof.lower_bound if here == there else -math.inf
    timed_out = first.proof.timed_out or plan.proof.timed_out
    return replace(first.proof, unserved_bound=bound, lower_bound=lower, timed_out=timed_out)


def _plan(found: Candidates, shared: Resources, settings: Settings) -> _Plan:
    if not shared.resources:
        choices = unlimited(found, shared)
        return _Plan(choices, "unlimited", _nothing_short(found, shared, choices))
    first = greedy(found, shared, settings)
    if settings.solver is Solver.GREEDY:
        return _Plan(first, "greedy")
    if _all_preferred(found, first):
        return _Plan(first, "greedy", _nothing_short(found, shared, first))
    served, proof = exact(found, shared, settings, first)
    second = settle(found, shared, settings, served)
    if rank(found, second) <= rank(found, first):
        return _Plan(second, "exact", proof)
    return _Plan(first, "greedy", proof)


def _all_preferred(found: Candidates, choices: tuple[Choice, ...]) -> bool:
    """Whether every service that has candidates got the first of them, and none of these is a burst."""
    return all(
        choice.row == ranked[0] and choice.within_objectives and burst_cost(found, ranked[0]) == 0
        for choice, ranked in zip(choices, found.ranked, strict=True)
        if ranked
    )


def _nothing_short(found: Candidates, shared: Resources, choices: tuple[Choice, ...]) -> Proof:
    """The proof of a plan in which every service got what it prefers."""
    limited = {resource.name for resource in shared.resources if resource.kind is Kind.UNITS}
    return Proof(
        unserved_bound={},
        lower_bound=rank(found, choices).value,
        prices=dict.fromkeys(sorted(limited), 0.0),
        timed_out=False,
    )


def _proved(result: Result, found: Candidates, choices: tuple[Choice, ...], proof: Proof) -> Result:
    """The result with its bounds."""
    value = rank(found, choices).value
    hopeless = Counter(
        service.priority
        for service, ranked in zip(found.services, found.ranked, strict=True)
        if not ranked and result.decisions[service.name].outcome in (Outcome.BEST_EFFORT, Outcome.UNSERVED)
    )
    bounds = {
        priority: min(proof.unserved_bound.get(priority, 0) + hopeless[priority], unserved)
        for priority, unserved in result.unserved_by_priority.items()
    }
    known = math.isfinite(proof.lower_bound)
    lower = value if proof.lower_bound > value - 10**-VALUE_DECIMALS else proof.lower_bound
    return replace(
        result,
        unserved_bound=bounds,
        lower_bound=lower if known else None,
        gap=(value - lower) / max(result.total_cost, 1e-9) if known else None,
        prices=proof.prices,
        stopped="the exact solver reached its time limit" if proof.timed_out else None,
    )


def _allocations(
    problem: Problem,
    found: Candidates,
    choices: tuple[Choice, ...],
    sized: Sequence[Allocation | None],
) -> list[Allocation | None]:
    """The choices in figures: candidates have theirs, best efforts are evaluated together."""
    allocations: list[Allocation | None] = [None] * len(choices)
    efforts: dict[int, Assignment] = {}
    for i, choice in enumerate(choices):
        row = choice.row if choice.within_objectives else None
        if row is not None and choice.replicas == found.replicas[row]:
            allocations[i] = sized[row]
        elif choice.profile is not None:
            efforts[i] = Assignment(found.services[i].name, choice.profile, choice.replicas)
    for i, allocation in zip(efforts, evaluate_all(problem, list(efforts.values())), strict=True):
        allocations[i] = allocation
    return allocations
