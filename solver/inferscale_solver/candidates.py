"""Candidates: every (service, profile) pair with what it would take and what it would do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from inferscale_queueing.frozen import frozen
from inferscale_solver.prediction import (
    Figures,
    Ints,
    Rates,
    figures,
    needed_replicas,
    rates,
)
from inferscale_solver.problem import Performance, Problem, Profile, Service, Settings
from inferscale_solver.result import Rejection
from inferscale_solver.runs import Runs, describe
from inferscale_solver.transition import Holding, holding, transition_value

# A best effort that cannot meet the objectives anyway aims at this share of the largest stable rate.
_STABLE_SHARE = 0.95
# Values are compared to this many decimals, so that a tie does not hang on how a float was rounded.
VALUE_DECIMALS = 6


@frozen
class Candidates:
    """All pairs in rows, in order of service and profile names, M of them."""

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
    owner: tuple[int, ...]
    """The service of each row."""
    performances: tuple[Performance, ...]
    """How the model runs, of each row."""
    profiles: tuple[Profile, ...]
    """The profile of each row."""
    max_batch: tuple[int, ...]
    """The batch limit to deploy, of each row."""
    replicas: tuple[int, ...]
    """Replicas that the demand needs within the objectives; 0 where they are unattainable."""
    wanted: tuple[int, ...]
    """Replicas that a best effort aims at."""
    units_per_replica: tuple[int, ...]
    cost: tuple[float, ...]
    """Cost per hour of `replicas`."""
    value: tuple[float, ...]
    """Transition value of `replicas`."""
    merit: tuple[float, ...]
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
    owner, performances, rows = _pairs(services)
    runs, sized, replicas = _size(describe(services, owner, performances), problem.settings)
    profile = tuple(profiles[performance.profile] for performance in performances)
    held = [holdings[i] for i in owner]
    units = tuple(p.acc_count * each.multiplicity for p, each in zip(performances, profile, strict=True))
    prices = [p.acc_count * each.cost for p, each in zip(performances, profile, strict=True)]
    needed = tuple(replicas.tolist())
    cost = tuple((replicas * np.array(prices, dtype=np.float64)).tolist())
    nodes = problem.capacity.nodes if problem.capacity is not None else {}
    largest = {kind: max(sizes, default=0) for kind, sizes in nodes.items()}
    queues = runs.active.tolist()
    rejections = tuple(
        rejection
        for service, has, here in zip(services, holdings, rows, strict=True)
        for rejection in _rejections(
            service, has, here, profile, units, largest, queues, needed, sized.shortfalls
        )
    )
    penalty = problem.settings.transition_penalty
    value = tuple(
        transition_value(each.name, number, price, has, penalty)
        for each, number, price, has in zip(profile, needed, cost, held, strict=True)
    )
    merit = _merits(value, holdings, rows, profile, needed, rejections, problem.settings.keep_threshold)
    per_replica = np.divide(runs.demand, replicas, out=np.zeros(len(owner)), where=replicas > 0)
    rounded = [round(each, VALUE_DECIMALS) for each in merit]

    def rank(i: int) -> tuple[float, bool, int, str]:
        has, name = held[i], profile[i].name
        if has is None:
            return rounded[i], False, needed[i], name
        return rounded[i], has.profile.name != name, abs(needed[i] - has.replicas), name

    ranked = tuple(tuple(sorted((i for i in here if rejections[i] is None), key=rank)) for here in rows)
    return Candidates(
        services=services,
        holdings=holdings,
        rows=rows,
        ranked=ranked,
        best_effort=tuple(
            _best_effort(here, first, performances, rejections, sized)
            for here, first in zip(rows, ranked, strict=True)
        ),
        owner=tuple(owner),
        performances=tuple(performances),
        profiles=profile,
        max_batch=tuple(runs.deployed.tolist()),
        replicas=needed,
        wanted=tuple(_wanted(runs, sized, replicas).tolist()),
        units_per_replica=units,
        cost=cost,
        value=value,
        merit=merit,
        rates=sized,
        figures=figures(runs, per_replica, problem.settings.tail_rule),
        rejections=rejections,
    )


def _merits(
    values: tuple[float, ...],
    holdings: Sequence[Holding | None],
    rows: Sequence[range],
    profiles: Sequence[Profile],
    replicas: Sequence[int],
    rejections: Sequence[tuple[Rejection, str] | None],
    threshold: float,
) -> tuple[float, ...]:
    """The values, with what other profiles must be better by than one that a service has enough of."""
    if threshold == 0:
        return values
    merits = list(values)
    for held, here in zip(holdings, rows, strict=True):
        if held is None:
            continue
        home = held.profile.name
        same = next((i for i in here if profiles[i].name == home), None)
        if same is not None and rejections[same] is None and replicas[same] <= held.replicas:
            for i in here:
                if i != same:
                    merits[i] += threshold * held.cost
    return tuple(merits)


def _pairs(services: Sequence[Service]) -> tuple[list[int], list[Performance], tuple[range, ...]]:
    """The rows: of each its service and how the model runs there, and the rows of each service."""
    owner: list[int] = []
    performances: list[Performance] = []
    rows: list[range] = []
    for index, service in enumerate(services):
        here = sorted(service.performance, key=lambda performance: performance.profile)
        rows.append(range(len(owner), len(owner) + len(here)))
        performances += here
        owner += [index] * len(here)
    return owner, performances, tuple(rows)


def _size(runs: Runs, settings: Settings) -> tuple[Runs, Rates, Ints]:
    """The runs with the batch limits to deploy, their rates and the replicas that they need.

    A batch limit that is deployed stays, since changing it restarts the replicas, unless the objectives
    need the larger one that memory allows.
    """
    sized = rates(runs, settings.tail_rule)
    replicas = needed_replicas(runs, sized.rate)
    small = np.flatnonzero(runs.active & (runs.deployed < runs.limit) & ~_acceptable(runs, replicas))
    if not small.size:
        return runs, sized, replicas
    large = runs.take(small)
    large = replace(large, deployed=large.limit)
    again = rates(large, settings.tail_rule)
    needed = needed_replicas(large, again.rate)
    better = np.flatnonzero(_acceptable(large, needed))
    rows = small[better]
    deployed, binding = runs.deployed.copy(), list(sized.binding)
    deployed[rows], replicas[rows] = large.limit[better], needed[better]
    sized.rate[rows], sized.max_rate[rows] = again.rate[better], again.max_rate[better]
    for row, position in zip(rows.tolist(), better.tolist(), strict=True):
        binding[row] = again.binding[position]
    mended = set(rows.tolist())
    shortfalls = {row: message for row, message in sized.shortfalls.items() if row not in mended}
    sized = replace(sized, binding=tuple(binding), shortfalls=shortfalls)
    return replace(runs, deployed=deployed), sized, replicas


def _acceptable(runs: Runs, replicas: Ints) -> NDArray[np.bool_]:
    return (replicas > 0) & (replicas <= runs.most)


def _wanted(runs: Runs, sized: Rates, replicas: Ints) -> Ints:
    """Replicas for the rate within the objectives, or for a merely stable one where there is none."""
    if not sized.rate.all():
        aim = np.where(sized.rate > 0, sized.rate, _STABLE_SHARE * sized.max_rate)
        replicas = needed_replicas(runs, aim)
    return np.minimum(replicas, runs.most).astype(np.int64)


def _rejections(
    service: Service,
    held: Holding | None,
    rows: range,
    profiles: Sequence[Profile],
    units: Sequence[int],
    largest: Mapping[str, int],
    queues: Sequence[bool],
    replicas: Sequence[int],
    shortfalls: Mapping[int, str],
) -> Iterator[tuple[Rejection, str] | None]:
    """Why each row of a service may not be chosen: first what holds whatever it could do."""
    excluded, most, idle = service.excluded, service.max_replicas, service.demand == 0
    home = None if held is None else held.profile.name
    stays = None
    if home is not None and service.keep_accelerator:
        stays = f"keepAccelerator: stays on {home}"
    elif home is not None and idle and home not in excluded:
        stays = f"no load: stays on {home}"
    for i in rows:
        name, kind = profiles[i].name, profiles[i].type
        if name in excluded:
            yield Rejection.EXCLUDED, excluded[name]
        elif stays is not None and name != home:
            yield Rejection.KEEP_ACCELERATOR, stays
        elif (node := largest.get(kind, units[i])) < units[i]:
            message = f"a replica needs {units[i]} units of {kind}, its largest node has {node}"
            yield Rejection.NODE_TOO_SMALL, message
        elif not (queues[i] or idle):
            message = "a request takes no time there: gamma and delta are 0, outputTokens is 1"
            yield Rejection.EXCLUDED, message
        elif most is not None and replicas[i] > most:
            message = f"needs {replicas[i]} replicas, maxReplicas is {most}"
            yield Rejection.OVER_MAX_REPLICAS, message
        else:
            yield None if i not in shortfalls else (Rejection.UNATTAINABLE, shortfalls[i])


def _best_effort(
    rows: range,
    ranked: tuple[int, ...],
    performances: Sequence[Performance],
    rejections: Sequence[tuple[Rejection, str] | None],
    sized: Rates,
) -> tuple[int, ...]:
    """What may serve outside the objectives: candidates, then the most rate, then the lightest iteration."""
    if len(ranked) == len(rows):
        return ranked

    def rejected(why: Rejection) -> list[int]:
        return [i for i in rows if (rejection := rejections[i]) is not None and rejection[0] is why]

    too_many = sorted(rejected(Rejection.OVER_MAX_REPLICAS), key=lambda i: (-sized.rate[i], i))
    unattainable = sorted(
        rejected(Rejection.UNATTAINABLE),
        key=lambda i: (performances[i].alpha + performances[i].beta, i),
    )
    return (*ranked, *too_many, *unattainable)
