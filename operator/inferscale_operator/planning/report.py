"""The report of a plan: a line for each server, totals, and the same as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field, replace

from inferscale_operator.planning.deck import Deck, Server
from inferscale_queueing.frozen import frozen
from inferscale_solver import CurrentAllocation, Decision, Outcome, Problem, Result

_WITHIN = (Outcome.SERVED, Outcome.IDLE)


@frozen
class Line:
    """What one server gets; names and units as in the JSON output. No accelerator: it gets nothing."""

    server: str
    service_class: str
    model: str
    accelerator: str | None = None
    replicas: int = 0
    max_batch: int | None = None
    cost: float = 0.0
    value: float = 0.0
    itl: float | None = None
    ttft: float | None = None
    wait: float | None = None
    utilization: float | None = None
    change: str | None = None
    """`A->B` where the accelerator changes."""
    scale: int | None = None
    """Replicas more than now; None where the accelerator changes."""
    cost_diff: float = 0.0
    """Cost per hour more than now, both at today's prices."""
    binding: str | None = None
    runner_up: str | None = None
    outcome: Outcome = Outcome.UNSERVED
    reason: str = ""
    held: bool = False
    """Whether it has something now."""

    @property
    def served(self) -> bool:
        """Within its objectives, or without load."""
        return self.outcome in _WITHIN


@frozen
class TypeTotal:
    """Units of one type of accelerator."""

    available: int | None
    """None: unlimited."""
    used: int
    price: float | None
    """What one unit more would save, cost per hour; None where no bound was computed."""


@frozen
class WallTime:
    """How long it took, in seconds; no part of the plan."""

    sizing: float
    solve: float


@frozen
class Report:
    """A plan in figures. Costs per hour, power in W."""

    lines: tuple[Line, ...]
    """By priority, class and name."""
    solver: str
    total_cost: float
    total_value: float
    value_within: float
    """The value of what is within its objectives; `lower_bound` is one for it, and knows no best efforts."""
    lower_bound: float | None
    gap: float | None
    unserved_by_priority: Mapping[int, int]
    unserved_bound: Mapping[int, int]
    types: Mapping[str, TypeTotal]
    power: float
    notes: tuple[str, ...]
    """What else must be known about the plan: a safety stop, cost of bursts, of placement on nodes."""
    wall_time: WallTime
    decisions: Mapping[str, Decision] = field(default_factory=dict)

    @property
    def served(self) -> int:
        """Number of servers within their objectives."""
        return sum(line.served for line in self.lines)


def report(deck: Deck, now: Deck, problem: Problem, result: Result, wall_time: WallTime) -> Report:
    """Put a result into the terms of the files.

    Args:
        deck: What was planned.
        now: What the files say, where that is something else: current allocations come from it.
        problem: The problem of `deck`.
        result: What the solver made of it.
        wall_time: How long it took.
    """
    priorities = {service.name: service.priority for service in problem.services}
    current = {server.name: server.current for server in now.servers}
    costs = _costs_now(deck, now)
    lines = [
        _line(server, result.decisions[server.name], current[server.name], costs[server.name])
        for server in deck.servers
    ]
    bound = _bound(problem, result)
    given = [decision.allocation for decision in result.decisions.values()]
    return Report(
        lines=tuple(
            sorted(lines, key=lambda line: (priorities[line.server], line.service_class, line.server))
        ),
        solver=result.solver,
        total_cost=result.total_cost,
        total_value=result.total_value,
        value_within=_value_within(result),
        lower_bound=bound.value,
        gap=bound.gap,
        unserved_by_priority=result.unserved_by_priority,
        unserved_bound=bound.unserved,
        types=_types(deck, problem, result),
        power=math.fsum(held.power or 0.0 for held in given if held is not None),
        notes=_notes(result),
        wall_time=wall_time,
        decisions=result.decisions,
    )


@frozen
class _Bound:
    """What no plan can be better than."""

    value: float | None
    gap: float | None
    unserved: Mapping[int, int]


def _bound(problem: Problem, result: Result) -> _Bound:
    """The solver's bound; where nothing limits the plan every server has its own optimum."""
    if problem.capacity is not None or problem.settings.max_cost is not None:
        return _Bound(result.lower_bound, result.gap, result.unserved_bound)
    return _Bound(_value_within(result), 0.0, result.unserved_by_priority)


def _value_within(result: Result) -> float:
    """The value of what is within the objectives, which is what a bound is for."""
    return math.fsum(
        decision.allocation.value
        for decision in result.decisions.values()
        if decision.allocation is not None and decision.outcome in _WITHIN
    )


def _line(server: Server, decision: Decision, held: CurrentAllocation | None, cost_now: float) -> Line:
    line = Line(
        server=server.name,
        service_class=server.service_class,
        model=server.model,
        cost_diff=-cost_now,
        binding=decision.binding,
        runner_up=decision.runner_up,
        outcome=decision.outcome,
        reason=decision.reason,
        held=held is not None,
    )
    allocation = decision.allocation
    if allocation is None:
        return line
    line = replace(
        line,
        accelerator=allocation.profile,
        replicas=allocation.replicas,
        max_batch=allocation.max_batch,
        cost=allocation.cost,
        value=allocation.value,
        itl=allocation.itl,
        ttft=allocation.ttft,
        wait=allocation.wait,
        utilization=allocation.utilization,
    )
    if held is None:
        return against(line, None, 0, cost_now)
    return against(line, held.profile, held.replicas, cost_now)


def against(line: Line, accelerator: str | None, replicas: int, cost: float) -> Line:
    """The line with what is different from what was held before.

    Args:
        line: With an accelerator.
        accelerator: What was held; None: nothing.
        replicas: Of it.
        cost: Of them, per hour.
    """
    moved = accelerator is not None and accelerator != line.accelerator
    return replace(
        line,
        change=f"{accelerator}->{line.accelerator}" if moved else None,
        scale=None if moved else line.replicas - replicas,
        cost_diff=line.cost - cost,
        held=accelerator is not None,
    )


def _costs_now(deck: Deck, now: Deck) -> dict[str, float]:
    """What each server costs now at today's prices; a removed accelerator has the price of the files."""
    prices = {profile.name: profile.cost for profile in (*now.accelerators, *deck.accelerators)}
    counts = {(data.model, data.performance.profile): data.performance.acc_count for data in now.models}
    return {
        server.name: 0.0
        if (held := server.current) is None
        else held.replicas * counts.get((server.model, held.profile), held.acc_count) * prices[held.profile]
        for server in now.servers
    }


def _types(deck: Deck, problem: Problem, result: Result) -> dict[str, TypeTotal]:
    limited = problem.capacity is not None
    free = not limited and problem.settings.max_cost is None
    units = (deck.units or {}) if problem.capacity is None else problem.capacity.units
    return {
        kind: TypeTotal(
            available=units.get(kind, 0 if limited else None),
            used=result.used.get(kind, 0),
            price=0.0 if free else result.prices.get(kind),
        )
        for kind in sorted({profile.type for profile in problem.profiles} | {*units})
    }


def _notes(result: Result) -> tuple[str, ...]:
    notes = []
    if result.stopped is not None:
        notes.append(f"stopped early: {result.stopped}")
    if result.burst_cost > 0:
        notes.append(f"burst accelerators cost {result.burst_cost:.2f}/h of it")
    if result.placement_cost is not None and result.placement_cost > 0:
        notes.append(f"fitting on nodes costs {result.placement_cost:.2f}/h")
    return tuple(notes)
