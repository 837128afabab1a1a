"""The decision under limits as an integer program: one column a candidate, one row a limit, one a level.

With x the candidates that are taken (a service is unserved where it takes none) and l the replicas that
unserved services give up of those they hold:

    Σ_j x_ij ≤ 1                                                for each service i
    Σ use · x + Σ_i use_i · (held_i · (1 − Σ_j x_ij) − l_i) ≤ limit    for each resource
    0 ≤ l_i ≤ (held_i − least_i) · (1 − Σ_j x_ij)                 for each service that holds something
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np

from inferscale_queueing.frozen import frozen
from inferscale_solver.candidates import VALUE_DECIMALS, Candidates
from inferscale_solver.choice import Choice, held_effort
from inferscale_solver.ledger import reservations
from inferscale_solver.prediction import Floats, Ints
from inferscale_solver.problem import Tier
from inferscale_solver.program import Program, matrix
from inferscale_solver.resources import Resources

_TOLERANCE = 1e-6


class Goal(StrEnum):
    """What a level minimises."""

    UNSERVED = "unserved"
    WEIGHT = "weight unserved"
    GIVEN_UP = "given up"
    BURST = "burst cost"
    VALUE = "value"
    MOVES = "changes of accelerator"
    CHANGE = "changes of replicas"


@frozen
class Level:
    """One of the objectives, minimised in their order; then a constraint."""

    goal: Goal
    priority: int
    """0 where the goal is not one of a priority."""
    cost: Floats
    """Shape (columns,)."""
    row: int
    """The row of the program that holds the objective."""
    constant: float = 0.0
    """The objective is `constant + cost · x`."""

    def at(self, x: Floats) -> float:
        """The objective at a point."""
        return self.constant + float(self.cost @ x)

    def whole(self, bound: float) -> float:
        """A bound of the objective, made sharper where the objective is whole."""
        return float(np.ceil(bound - _TOLERANCE)) if self.goal is Goal.UNSERVED else bound

    def limit(self, objective: float) -> float:
        """The limit of the level's row that keeps the objective where it is."""
        counted = self.goal is Goal.UNSERVED
        return (round(objective) if counted else objective + _TOLERANCE) - self.constant


@frozen
class Formulation:
    """The program and what its parts stand for."""

    program: Program
    levels: tuple[Level, ...]
    limits: int
    """Rows that come first: what is shared. One for each service follows."""
    services_count: int
    rows: Ints
    """The row of the candidates that each of the first columns stands for."""
    services: Ints
    """Its service."""
    givers: tuple[int, ...]
    """The services of the columns that follow: replicas given up."""
    held: Mapping[int, int]
    """Replicas that services keep if they are not served, unless they give them up."""
    column_of: Mapping[int, int]
    """The column of a row of the candidates, or of the row that takes its place since it is never worse."""

    def columns_of(self, service: int) -> range:
        """The columns of a service."""
        first, end = np.searchsorted(self.services, [service, service + 1]).tolist()
        return range(first, end)

    def point(self, choices: Sequence[Choice]) -> Floats:
        """The point of the program that choices stand for."""
        x = np.zeros(self.program.matrix.columns)
        for choice in choices:
            if choice.within_objectives and choice.row is not None:
                x[self.column_of[choice.row]] = 1.0
        for position, service in enumerate(self.givers):
            choice = choices[service]
            if not choice.within_objectives:
                x[len(self.rows) + position] = max(self.held[service] - choice.replicas, 0)
        return x

    def chosen(self, x: Floats) -> dict[int, int]:
        """The row of the candidates that each served service takes."""
        taken = np.flatnonzero(x[: len(self.rows)] > 0.5)
        return dict(zip(self.services[taken].tolist(), self.rows[taken].tolist(), strict=True))


def formulate(candidates: Candidates, resources: Resources, *, break_ties: bool) -> Formulation:
    """Write the program of a problem.

    Args:
        candidates: The candidates.
        resources: What is shared.
        break_ties: Whether plans of equal value are told apart by further levels.
    """
    column_of, kept = _undominated(candidates, resources)
    owner = np.array([i for i, here in enumerate(kept) for _ in here], dtype=np.int64)
    rows = np.array([row for here in kept for row in here], dtype=np.int64)
    held, least = _holdings(candidates, resources)
    givers = tuple(i for i in held if held[i] > least.get(i, 0))
    room = {i: held[i] - least.get(i, 0) for i in givers}
    count, first_link = len(resources.resources), len(resources.resources) + len(kept)
    link = {service: first_link + position for position, service in enumerate(givers)}
    entries = [
        _column(candidates, resources, service, row, held.get(service, 0), count + service)
        + ([(link[service], float(room[service]))] if service in link else [])
        for service, row in zip(owner.tolist(), rows.tolist(), strict=True)
    ]
    entries += [[(i, -amount) for i, amount in resources.holdings[s]] + [(link[s], 1.0)] for s in givers]
    limits = np.array([resource.limit for resource in resources.resources])
    for service, replicas in held.items():
        for i, amount in resources.holdings[service]:
            limits[i] -= amount * replicas
    upper_rows = [limits, np.ones(len(kept)), np.array([float(room[s]) for s in givers])]
    first_level = first_link + len(givers)
    levels = tuple(_levels(candidates, rows, owner, givers, first_level, break_ties=break_ties))
    for level in levels:
        for column in np.flatnonzero(level.cost).tolist():
            entries[column].append((level.row, float(level.cost[column])))
    row_upper = np.concatenate([*upper_rows, np.full(len(levels), np.inf)])
    return Formulation(
        program=Program(
            matrix=matrix(len(row_upper), entries),
            upper=np.concatenate([np.ones(len(rows)), np.array([float(room[s]) for s in givers])]),
            integer=np.concatenate([np.ones(len(rows)), np.zeros(len(givers))]).astype(np.int64),
            row_lower=np.full(len(row_upper), -np.inf),
            row_upper=row_upper,
        ),
        levels=levels,
        limits=count,
        services_count=len(kept),
        rows=rows,
        services=owner,
        givers=givers,
        held=held,
        column_of=column_of,
    )


def burst_cost(candidates: Candidates, row: int) -> float:
    """Cost per hour of a candidate if it is on a Burst profile, else 0."""
    return candidates.cost[row] if candidates.profiles[row].tier is Tier.BURST else 0.0


def _undominated(candidates: Candidates, resources: Resources) -> tuple[dict[int, int], list[list[int]]]:
    """The rows of each service for which no preferred one takes as little of everything."""
    column_of: dict[int, int] = {}
    kept: list[list[int]] = []
    columns = 0
    for ranked in candidates.ranked:
        here: list[int] = []
        frontier: dict[tuple[int, ...], list[tuple[tuple[float, ...], int]]] = {}
        for row in ranked:
            replicas, use = candidates.replicas[row], resources.rows[row]
            burst = burst_cost(candidates, row)
            amounts = (*(amount * replicas for _, amount in use), burst)
            peers = frontier.setdefault(tuple(i for i, _ in use), [])
            better = next(
                (
                    column
                    for other, column in peers
                    if all(a <= b for a, b in zip(other, amounts, strict=True))
                ),
                None,
            )
            if better is None:
                better = columns
                peers.append((amounts, columns))
                here.append(row)
                columns += 1
            column_of[row] = better
        kept.append(here)
    return column_of, kept


def _holdings(candidates: Candidates, resources: Resources) -> tuple[dict[int, int], dict[int, int]]:
    """Replicas that services keep if they are not served, and those that nobody may take from them."""
    held: dict[int, int] = {}
    for service, holding in enumerate(candidates.holdings):
        effort = held_effort(candidates, resources, service)
        if holding is not None and effort is not None and effort.use:
            held[service] = min(holding.replicas, effort.wanted)
    return held, reservations(candidates, resources, list(held))


def _column(
    candidates: Candidates, resources: Resources, service: int, row: int, held: int, assignment: int
) -> list[tuple[int, float]]:
    amounts = {i: amount * candidates.replicas[row] for i, amount in resources.rows[row]}
    if held:
        for i, amount in resources.holdings[service]:
            amounts[i] = amounts.get(i, 0.0) - amount * held
    return [*((i, a) for i, a in amounts.items() if a), (assignment, 1.0)]


def _levels(
    candidates: Candidates,
    rows: Ints,
    owner: Ints,
    givers: Sequence[int],
    first_row: int,
    *,
    break_ties: bool,
) -> list[Level]:
    columns = len(rows) + len(givers)
    priorities = np.array([service.priority for service in candidates.services], dtype=np.int64)
    able = np.array([bool(ranked) for ranked in candidates.ranked], dtype=bool)
    weights = np.array([service.weight for service in candidates.services], dtype=np.float64)
    goals: list[tuple[Goal, int, Floats, float]] = []
    for priority in sorted(set(priorities.tolist())):
        cost = np.zeros(columns)
        cost[: len(rows)] = -(priorities[owner] == priority).astype(np.float64)
        if cost.any():
            goals.append((Goal.UNSERVED, priority, cost, float(np.sum(able & (priorities == priority)))))
        given = np.zeros(columns)
        for position, service in enumerate(givers):
            holding = candidates.holdings[service]
            if candidates.services[service].priority == priority and holding is not None:
                given[len(rows) + position] = holding.units_per_replica
        if given.any():
            goals.append((Goal.GIVEN_UP, priority, given, 0.0))
    for priority in sorted(set(priorities.tolist())):
        peers = able & (priorities == priority)
        if np.unique(weights[peers]).size > 1:
            cost = np.zeros(columns)
            cost[: len(rows)] = np.where(priorities[owner] == priority, -weights[owner], 0.0)
            goals.append((Goal.WEIGHT, priority, cost, float(weights[peers].sum())))
    plain = np.zeros(columns)
    burst, value, moves, change = plain.copy(), plain.copy(), plain.copy(), plain.copy()
    for column, (service, row) in enumerate(zip(owner.tolist(), rows.tolist(), strict=True)):
        holding, profile = candidates.holdings[service], candidates.profiles[row]
        burst[column] = burst_cost(candidates, row)
        value[column] = round(candidates.merit[row], VALUE_DECIMALS)
        moves[column] = holding is not None and holding.profile.name != profile.name
        change[column] = abs(candidates.replicas[row] - holding.replicas) if holding else 0.0
    if burst.any():
        goals.append((Goal.BURST, 0, burst, 0.0))
    goals.append((Goal.VALUE, 0, value, 0.0))
    if break_ties:
        ties = ((Goal.MOVES, 0, moves, 0.0), (Goal.CHANGE, 0, change, 0.0))
        goals += [goal for goal in ties if goal[2].any()]
    return [
        Level(goal, priority, cost, first_row + i, constant)
        for i, (goal, priority, cost, constant) in enumerate(goals)
    ]
