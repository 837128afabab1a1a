"""Allocations in figures: what replicas on a profile cost and what they are predicted to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from inferscale_solver.candidates import Candidates, batch_to_deploy
from inferscale_solver.power import power_draw
from inferscale_solver.prediction import (
    Figures,
    Run,
    batch_limits,
    figures,
    needed_replicas,
    rates,
)
from inferscale_solver.problem import Performance, Problem, Profile, Service
from inferscale_solver.result import Allocation
from inferscale_solver.transition import holding, transition_value


@dataclass(frozen=True)
class Assignment:
    """Replicas of a service on a profile, by name."""

    service: str
    profile: str
    replicas: int
    max_batch: int | None = None
    """The batch limit; None: on the current profile what is deployed, elsewhere what memory holds."""


def evaluate_all(problem: Problem, assignments: Sequence[Assignment]) -> tuple[Allocation, ...]:
    """Predict what replicas on profiles would do at the present load, all in arrays.

    Args:
        problem: The problem; its capacity and the limits of its services do not matter.
        assignments: Any number of them, several of one service among them.

    Returns:
        The allocations, in the same order. Without performance data of the model on the profile only cost,
        value and units are known, and `max_batch` is what was asked for or is deployed, 0 if neither.

    Raises:
        KeyError: The problem has no such service or profile.
    """
    services = {service.name: service for service in problem.services}
    data = [performance_on(services[a.service], a.profile) for a in assignments]
    profiles = {profile.name: profile for profile in problem.profiles}
    known = [i for i, performance in enumerate(data) if performance is not None]
    pairs = [(services[assignments[i].service], p) for i in known if (p := data[i]) is not None]
    runs, deployed = _runs(pairs, [assignments[i].max_batch for i in known])
    replicas = np.array([assignments[i].replicas for i in known], dtype=np.float64)
    demands = np.array([service.demand for service, _ in pairs], dtype=np.float64)
    per_replica = np.divide(demands, replicas, out=np.zeros(len(known)), where=replicas > 0)
    sized = rates(runs, problem.settings.tail_rule)
    predicted = figures(runs, per_replica, problem.settings.tail_rule)
    positions = {i: position for position, i in enumerate(known)}

    def allocation(i: int, assignment: Assignment) -> Allocation:
        service, performance = services[assignment.service], data[i]
        priced = _priced(problem, profiles, service, assignment, performance)
        position = positions.get(i)
        if performance is None or position is None:
            return Allocation(**priced, rate_per_replica=0.0)
        priced["max_batch"] = deployed[position]
        accelerators = assignment.replicas * performance.acc_count
        return Allocation(
            **priced,
            rate_per_replica=float(sized.rate[position]),
            **_predictions(predicted, position, profiles[assignment.profile], accelerators),
        )

    return tuple(allocation(i, assignment) for i, assignment in enumerate(assignments))


def evaluate(
    problem: Problem, service: str, profile: str, replicas: int, max_batch: int | None = None
) -> Allocation:
    """Predict what replicas of one service would do; see `evaluate_all`, which does many at once."""
    return evaluate_all(problem, [Assignment(service, profile, replicas, max_batch)])[0]


def required_replicas(
    problem: Problem, service: str, profile: str, max_batch: int | None = None
) -> int | None:
    """Replicas that a service needs on a profile at the present load.

    Args:
        problem: The problem.
        service: The service's name.
        profile: The profile's name.
        max_batch: The batch limit; None as in `Assignment`.

    Returns:
        At least `min_replicas`, not held to `max_replicas`; None where the objectives are unattainable or
        there is no performance data.

    Raises:
        KeyError: The problem has no such service.
    """
    chosen = {each.name: each for each in problem.services}[service]
    performance = performance_on(chosen, profile)
    if performance is None:
        return None
    runs, _ = _runs([(chosen, performance)], [max_batch])
    needed = int(needed_replicas([chosen], rates(runs, problem.settings.tail_rule).rate)[0])
    return needed if needed > 0 or chosen.demand == 0 else None


def performance_on(service: Service, profile: str) -> Performance | None:
    """The performance data of a service on a profile."""
    return next((p for p in service.performance if p.profile == profile), None)


def candidate_allocation(candidates: Candidates, row: int) -> Allocation:
    """The allocation that a row of the candidates stands for, with all the replicas that it needs."""
    profile, performance = candidates.profiles[row], candidates.runs[row].performance
    replicas = int(candidates.replicas[row])
    return Allocation(
        profile=profile.name,
        replicas=replicas,
        max_batch=int(candidates.max_batch[row]),
        cost=float(candidates.cost[row]),
        value=float(candidates.value[row]),
        units=replicas * int(candidates.units_per_replica[row]),
        rate_per_replica=float(candidates.rates.rate[row]),
        **_predictions(candidates.figures, row, profile, replicas * performance.acc_count),
    )


def _runs(
    pairs: Sequence[tuple[Service, Performance]], asked: Sequence[int | None]
) -> tuple[list[Run], list[int]]:
    """The runs of pairs with the batch limits asked for, and the limits to deploy."""
    limits = batch_limits(pairs).tolist()
    deployed = [
        batch_to_deploy(service, performance, limit) if batch is None else batch
        for (service, performance), limit, batch in zip(pairs, limits, asked, strict=True)
    ]
    runs = [
        Run(service, performance, min(batch, limit))
        for (service, performance), limit, batch in zip(pairs, limits, deployed, strict=True)
    ]
    return runs, deployed


def _priced(
    problem: Problem,
    profiles: Mapping[str, Profile],
    service: Service,
    assignment: Assignment,
    performance: Performance | None,
) -> _Priced:
    """What is known of an allocation without predictions."""
    profile, current, held = profiles[assignment.profile], service.current, holding(service, profiles)
    on_current = current is not None and current.profile == profile.name
    acc_count = current.acc_count if current is not None and on_current else 1
    max_batch = current.max_batch if current is not None and on_current else None
    if performance is not None:
        acc_count = performance.acc_count
    replicas = assignment.replicas
    cost = replicas * acc_count * profile.cost
    return {
        "profile": profile.name,
        "replicas": replicas,
        "max_batch": assignment.max_batch or max_batch or 0,
        "cost": cost,
        "value": transition_value(profile.name, replicas, cost, held, problem.settings.transition_penalty),
        "units": replicas * acc_count * profile.multiplicity,
    }


class _Priced(TypedDict):
    """The fields of an allocation that take no prediction."""

    profile: str
    replicas: int
    max_batch: int
    cost: float
    value: float
    units: int


class _Predictions(TypedDict):
    """The fields of an allocation that are predicted."""

    itl: float | None
    ttft: float | None
    wait: float | None
    wait_percentile: float | None
    utilization: float | None
    power: float | None


def _predictions(predicted: Figures, position: int, profile: Profile, accelerators: int) -> _Predictions:
    stated = predicted.stated
    utilization = stated["utilization"][position]
    power = None
    if profile.power is not None and utilization is not None:
        power = accelerators * power_draw(profile.power, utilization)
    return {
        "itl": stated["itl"][position],
        "ttft": stated["ttft"][position],
        "wait": stated["wait"][position],
        "wait_percentile": stated["wait_percentile"][position],
        "utilization": utilization,
        "power": power,
    }
