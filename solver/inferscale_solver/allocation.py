"""Allocations in figures: what replicas on a profile cost and what they are predicted to do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypedDict

import numpy as np

from inferscale_queueing.frozen import frozen
from inferscale_solver.candidates import Candidates
from inferscale_solver.power import power_draw
from inferscale_solver.prediction import Figures, figures, needed_replicas, rates
from inferscale_solver.problem import Performance, Problem, Profile, Service
from inferscale_solver.result import Allocation
from inferscale_solver.runs import Runs, describe
from inferscale_solver.transition import holding, transition_value


@frozen
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
    if not assignments:
        return ()
    services = {service.name: service for service in problem.services}
    data = [performance_on(services[a.service], a.profile) for a in assignments]
    profiles = {profile.name: profile for profile in problem.profiles}
    known = [
        (a, performance) for a, performance in zip(assignments, data, strict=True) if performance is not None
    ]
    runs = _runs(
        [services[a.service] for a, _ in known], [p for _, p in known], [a.max_batch for a, _ in known]
    )
    replicas = np.array([a.replicas for a, _ in known], dtype=np.float64)
    per_replica = np.divide(runs.demand, replicas, out=np.zeros(len(known)), where=replicas > 0)
    sized = rates(runs, problem.settings.tail_rule)
    expected = _expected(
        figures(runs, per_replica, problem.settings.tail_rule),
        [profiles[performance.profile] for _, performance in known],
        [a.replicas * performance.acc_count for a, performance in known],
    )
    predicted = zip(runs.deployed.tolist(), sized.rate.tolist(), expected, strict=True)

    def allocation(assignment: Assignment, performance: Performance | None) -> Allocation:
        priced = _priced(problem, profiles, services[assignment.service], assignment, performance)
        if performance is None:
            return Allocation(**priced, rate_per_replica=0.0)
        priced["max_batch"], rate, predictions = next(predicted)
        return Allocation(**priced, rate_per_replica=rate, **_Expected(*predictions)._asdict())

    return tuple(allocation(a, performance) for a, performance in zip(assignments, data, strict=True))


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
    runs = _runs([chosen], [performance], [max_batch])
    needed = int(needed_replicas(runs, rates(runs, problem.settings.tail_rule).rate)[0])
    return needed if needed > 0 or chosen.demand == 0 else None


def performance_on(service: Service, profile: str) -> Performance | None:
    """The performance data of a service on a profile."""
    return next((p for p in service.performance if p.profile == profile), None)


def candidate_allocations(candidates: Candidates) -> list[Allocation | None]:
    """The allocations that rows of the candidates stand for, with all the replicas that they need.

    None where no number of replicas would do.
    """
    priced = zip(
        [profile.name for profile in candidates.profiles],
        candidates.replicas,
        candidates.max_batch,
        candidates.cost,
        candidates.value,
        [n * units for n, units in zip(candidates.replicas, candidates.units_per_replica, strict=True)],
        candidates.rates.rate.tolist(),
        strict=True,
    )
    accelerators = [
        replicas * performance.acc_count
        for replicas, performance in zip(candidates.replicas, candidates.performances, strict=True)
    ]
    expected = _expected(candidates.figures, candidates.profiles, accelerators)
    rows = zip(priced, expected, candidates.replicas, candidates.rejections, strict=True)
    return [
        Allocation(*(*known, *predicted)) if taken > 0 or rejection is None else None
        for known, predicted, taken, rejection in rows
    ]


def _runs(
    services: Sequence[Service], performances: Sequence[Performance], asked: Sequence[int | None]
) -> Runs:
    """Services each on one profile, with the batch limits asked for."""
    runs = describe(services, range(len(services)), performances)
    batches = zip(asked, runs.deployed.tolist(), strict=True)
    deployed = [batch if limit is None else limit for limit, batch in batches]
    return replace(runs, deployed=np.array(deployed, dtype=np.int64))


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


class _Expected(NamedTuple):
    """The fields of an allocation that are predicted, in their order."""

    itl: float | None
    ttft: float | None
    wait: float | None
    wait_percentile: float | None
    utilization: float | None
    power: float | None


def _expected(
    predicted: Figures, profiles: Sequence[Profile], accelerators: Sequence[int]
) -> Iterator[tuple[float | None, ...]]:
    """The values of `_Expected` one by one, with None instead of NaN and infinity."""
    columns = [[value if math.isfinite(value) else None for value in column.tolist()] for column in predicted]
    power = [
        None
        if profile.power is None or utilization is None
        else number * power_draw(profile.power, utilization)
        for profile, number, utilization in zip(profiles, accelerators, columns[-1], strict=True)
    ]
    return zip(*columns, power, strict=True)
