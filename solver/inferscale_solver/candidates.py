"""Candidates: every (service, profile) pair with what it would take and what it would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inferscale_solver.prediction import (
    Figures,
    Floats,
    Ints,
    Rates,
    Run,
    batch_limits,
    figures,
    needed_replicas,
    rates,
    shortfalls,
)
from inferscale_solver.problem import Capacity, Performance, Problem, Profile, Service, Settings
from inferscale_solver.result import Rejection
from inferscale_solver.transition import Holding, holding, transition_value

# A best effort that cannot meet the objectives anyway aims at this share of the largest stable rate.
_STABLE_SHARE = 0.95
# Values are compared to this many decimals, so that a tie does not hang on how a float was rounded.
VALUE_DECIMALS = 6


@dataclass(frozen=True)
class Candidates:
    """All pairs in rows, in order of service and profile names; arrays have shape (M,)."""

    services: tuple[Service, ...]
    """By name; other fields refer to them by position."""
    holdings: tuple[Holding | None, ...]
    """What each service holds now."""
    rows: tuple[range, ...]
    """The rows of each service."""
    ranked: tuple[tuple[int, ...], ...]
    """The rows of each service that may be chosen, the best first."""
    best_effort: tuple[tuple[int, ...], ...]
    """The rows of each service that a best effort may use, the best first."""
    runs: tuple[Run, ...]
    profiles: tuple[Profile, ...]
    """The profile of each row."""
    max_batch: Ints
    """The batch limit to deploy."""
    replicas: Ints
    """Replicas that the demand needs within the objectives; 0 where they are unattainable."""
    wanted: Ints
    """Replicas that a best effort aims at."""
    units_per_replica: Ints
    cost: Floats
    """Cost per hour of `replicas`."""
    value: Floats
    """Transition value of `replicas`."""
    merit: Floats
    """What is minimised: the value, and for a change from what is enough the threshold that it must pass."""
    rates: Rates
    figures: Figures
    """What `replicas` are predicted to do."""
    rejections: tuple[tuple[Rejection, str] | None, ...]
    """Why a row may not be chosen, with a message for people."""


def candidates(problem: Problem) -> Candidates:
    """Size and predict all pairs of a problem, in arrays.

    Args:
        problem: A problem that `problem.check` accepts. The order of its parts does not matter.

    Returns:
        The rows, and each service's ranking by value; among equal values the current accelerator first,
        then the smallest change of replicas, then by profile name.
    """
    profiles = {profile.name: profile for profile in problem.profiles}
    services = tuple(sorted(problem.services, key=lambda service: service.name))
    holdings = tuple(holding(service, profiles) for service in services)
    owner, pairs, rows = _pairs(services)
    runs, max_batch, sized, replicas = _size(pairs, problem.settings)
    profile = tuple(profiles[performance.profile] for _, performance in pairs)
    units = np.array([p.acc_count * profiles[p.profile].multiplicity for _, p in pairs], dtype=np.int64)
    prices = np.array([p.acc_count * profiles[p.profile].cost for _, p in pairs], dtype=np.float64)
    cost: Floats = replicas.astype(np.float64) * prices
    rejections = _rejections(runs, [holdings[i] for i in owner], profile, units, replicas, problem)
    value = np.array(
        [
            transition_value(
                profile[i].name,
                int(replicas[i]),
                float(cost[i]),
                holdings[owner[i]],
                problem.settings.transition_penalty,
            )
            for i in range(len(pairs))
        ],
        dtype=np.float64,
    )
    merit = value + _thresholds(
        owner, holdings, profile, replicas, rejections, problem.settings.keep_threshold
    )
    demands = np.array([service.demand for service, _ in pairs], dtype=np.float64)
    per_replica = np.divide(demands, replicas, out=np.zeros(len(pairs)), where=replicas > 0)

    def rank(i: int) -> tuple[float, bool, int, str]:
        held = holdings[owner[i]]
        moves = held is not None and held.profile.name != profile[i].name
        change = abs(int(replicas[i]) - (held.replicas if held else 0))
        return round(float(merit[i]), VALUE_DECIMALS), moves, change, profile[i].name

    ranked = tuple(tuple(sorted((i for i in here if rejections[i] is None), key=rank)) for here in rows)
    return Candidates(
        services=services,
        holdings=holdings,
        rows=rows,
        ranked=ranked,
        best_effort=tuple(
            _best_effort(here, first, runs, rejections, sized)
            for here, first in zip(rows, ranked, strict=True)
        ),
        runs=runs,
        profiles=profile,
        max_batch=max_batch,
        replicas=replicas,
        wanted=_wanted(runs, sized),
        units_per_replica=units,
        cost=cost,
        value=value,
        merit=merit,
        rates=sized,
        figures=figures(runs, per_replica, problem.settings.tail_rule),
        rejections=rejections,
    )


def _thresholds(
    owner: Sequence[int],
    holdings: Sequence[Holding | None],
    profiles: Sequence[Profile],
    replicas: Ints,
    rejections: Sequence[tuple[Rejection, str] | None],
    threshold: float,
) -> Floats:
    """What a row must be better by than what its service has; 0 where that is not enough, or the same."""
    thresholds = np.zeros(len(owner))
    if threshold == 0:
        return thresholds
    enough: dict[int, float] = {}
    for i, service in enumerate(owner):
        held = holdings[service]
        here = held is not None and held.profile.name == profiles[i].name
        if held is not None and here and rejections[i] is None and replicas[i] <= held.replicas:
            enough[service] = threshold * held.cost
    for i, service in enumerate(owner):
        held = holdings[service]
        if held is not None and held.profile.name != profiles[i].name:
            thresholds[i] = enough.get(service, 0.0)
    return thresholds


def batch_to_deploy(service: Service, performance: Performance, limit: int) -> int:
    """The batch limit to deploy: what is deployed on the current profile, since a change restarts replicas.

    Elsewhere what memory holds; without load, whose token lengths mean nothing, the profile's own figure.

    Args:
        service: The service.
        performance: The model on a profile.
        limit: The batch that memory holds at the present token lengths.
    """
    current = service.current
    if current is not None and current.profile == performance.profile and current.max_batch is not None:
        return current.max_batch
    return limit if service.demand > 0 else performance.max_batch_size


def _pairs(
    services: Sequence[Service],
) -> tuple[list[int], list[tuple[Service, Performance]], tuple[range, ...]]:
    owner: list[int] = []
    pairs: list[tuple[Service, Performance]] = []
    rows: list[range] = []
    for index, service in enumerate(services):
        here = sorted(service.performance, key=lambda performance: performance.profile)
        rows.append(range(len(pairs), len(pairs) + len(here)))
        pairs.extend((service, performance) for performance in here)
        owner.extend([index] * len(here))
    return owner, pairs, tuple(rows)


def _size(
    pairs: Sequence[tuple[Service, Performance]], settings: Settings
) -> tuple[tuple[Run, ...], Ints, Rates, Ints]:
    """The run, the batch limit to deploy, the rates and the needed replicas of every pair.

    A batch limit that is deployed stays, since changing it restarts the replicas, unless the objectives
    need the larger one that memory allows.
    """
    limits = batch_limits(pairs)
    deployed = [
        batch_to_deploy(service, performance, int(limit))
        for (service, performance), limit in zip(pairs, limits, strict=True)
    ]
    runs = [
        Run(service, performance, min(batch, int(limit)))
        for (service, performance), batch, limit in zip(pairs, deployed, limits, strict=True)
    ]
    sized = rates(runs, settings.tail_rule)
    rate, max_rate, binding = sized.rate, sized.max_rate, list(sized.binding)
    replicas = needed_replicas([run.service for run in runs], rate)
    small = [
        i
        for i, run in enumerate(runs)
        if run.active and run.max_batch < limits[i] and not _acceptable(run.service, int(replicas[i]))
    ]
    large = [Run(runs[i].service, runs[i].performance, int(limits[i])) for i in small]
    again = rates(large, settings.tail_rule)
    needed = needed_replicas([run.service for run in large], again.rate)
    for position, i in enumerate(small):
        if _acceptable(runs[i].service, int(needed[position])):
            runs[i], deployed[i], replicas[i] = large[position], int(limits[i]), needed[position]
            rate[i], max_rate[i] = again.rate[position], again.max_rate[position]
            binding[i] = again.binding[position]
    return (
        tuple(runs),
        np.array(deployed, dtype=np.int64),
        Rates(rate=rate, max_rate=max_rate, binding=tuple(binding)),
        replicas,
    )


def _acceptable(service: Service, replicas: int) -> bool:
    return replicas > 0 and (service.max_replicas is None or replicas <= service.max_replicas)


def _wanted(runs: Sequence[Run], sized: Rates) -> Ints:
    """Replicas for the rate within the objectives, or for a merely stable one where there is none."""
    aim = np.where(sized.rate > 0, sized.rate, _STABLE_SHARE * sized.max_rate)
    wanted = needed_replicas([run.service for run in runs], aim)
    limits = [run.service.max_replicas for run in runs]
    return np.array(
        [w if limit is None else min(w, limit) for w, limit in zip(wanted.tolist(), limits, strict=True)],
        dtype=np.int64,
    )


def _rejections(
    runs: Sequence[Run],
    held: Sequence[Holding | None],
    profiles: Sequence[Profile],
    units: Ints,
    replicas: Ints,
    problem: Problem,
) -> tuple[tuple[Rejection, str] | None, ...]:
    rejections = [
        _ruled_out(run, held[i], profiles[i], int(units[i]), problem.capacity)
        or _too_many(run, int(replicas[i]))
        for i, run in enumerate(runs)
    ]
    unattainable = [
        i for i, run in enumerate(runs) if rejections[i] is None and run.active and replicas[i] == 0
    ]
    messages = shortfalls([runs[i] for i in unattainable], problem.settings.tail_rule)
    for i, message in zip(unattainable, messages, strict=True):
        rejections[i] = (Rejection.UNATTAINABLE, message)
    return tuple(rejections)


def _ruled_out(
    run: Run, held: Holding | None, profile: Profile, units: int, capacity: Capacity | None
) -> tuple[Rejection, str] | None:
    """Why the profile is no candidate whatever it could do."""
    service = run.service
    if profile.name in service.excluded:
        return Rejection.EXCLUDED, service.excluded[profile.name]
    if held is not None and held.profile.name != profile.name:
        if service.keep_accelerator:
            return Rejection.KEEP_ACCELERATOR, f"keepAccelerator: stays on {held.profile.name}"
        if service.demand == 0 and held.profile.name not in service.excluded:
            return Rejection.KEEP_ACCELERATOR, f"no load: stays on {held.profile.name}"
    largest = max(capacity.nodes.get(profile.type, (units,)), default=0) if capacity else units
    if units > largest:
        message = f"a replica needs {units} units of {profile.type}, its largest node has {largest}"
        return Rejection.NODE_TOO_SMALL, message
    if service.demand > 0 and not run.active:
        return Rejection.EXCLUDED, "a request takes no time there: gamma and delta are 0, outputTokens is 1"
    return None


def _too_many(run: Run, replicas: int) -> tuple[Rejection, str] | None:
    limit = run.service.max_replicas
    if limit is None or replicas <= limit:
        return None
    return Rejection.OVER_MAX_REPLICAS, f"needs {replicas} replicas, maxReplicas is {limit}"


def _best_effort(
    rows: range,
    ranked: Sequence[int],
    runs: Sequence[Run],
    rejections: Sequence[tuple[Rejection, str] | None],
    sized: Rates,
) -> tuple[int, ...]:
    """What may serve outside the objectives: candidates, then the most rate, then the lightest iteration."""

    def rejected(why: Rejection) -> list[int]:
        return [i for i in rows if (rejection := rejections[i]) is not None and rejection[0] is why]

    too_many = sorted(rejected(Rejection.OVER_MAX_REPLICAS), key=lambda i: (-sized.rate[i], i))
    unattainable = sorted(
        rejected(Rejection.UNATTAINABLE),
        key=lambda i: (runs[i].performance.alpha + runs[i].performance.beta, i),
    )
    return (*ranked, *too_many, *unattainable)
