"""Saturation: what services get that cannot be served within their objectives."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from inferscale_queueing.frozen import frozen
from inferscale_solver.candidates import VALUE_DECIMALS, Candidates
from inferscale_solver.choice import Choice, Effort, efforts, held_effort
from inferscale_solver.ledger import Ledger
from inferscale_solver.problem import SaturationPolicy
from inferscale_solver.resources import Resources, Shortage


@frozen
class Grant:
    """What a service outside its objectives has been given so far."""

    service: int
    effort: Effort | None
    replicas: int
    short: Mapping[int, Shortage]
    """Its candidates that were lost to what runs out, with what was missing."""

    def choice(self) -> Choice:
        """The grant as a choice."""
        if self.effort is None:
            return Choice(profile=None, replicas=0, short=self.short)
        return Choice(
            profile=self.effort.profile if self.replicas else None,
            replicas=self.replicas,
            row=self.effort.row if self.replicas else None,
            wanted=self.effort.wanted,
            short=self.short,
        )


def precedence(candidates: Candidates, service: int) -> tuple[float, float, int]:
    """The order of services that are not served, within a priority: by weight, the dearest first, by name."""
    rows = candidates.ranked[service]
    dearest = -round(candidates.merit[rows[0]], VALUE_DECIMALS) if rows else 0.0
    return -candidates.services[service].weight, dearest, service


def keep(
    candidates: Candidates,
    resources: Resources,
    ledger: Ledger,
    service: int,
    short: Mapping[int, Shortage],
) -> Grant:
    """Let a service keep what it has, as far as it is available; never less than its reservation.

    Args:
        candidates: The candidates.
        resources: The resources.
        ledger: What is free; what is kept is taken from it.
        service: The service.
        short: Its candidates that were lost to what runs out.
    """
    held, effort = candidates.holdings[service], held_effort(candidates, resources, service)
    if held is None or effort is None:
        return Grant(service, None, 0, short)
    replicas = ledger.fits(service, effort.use, min(held.replicas, effort.wanted))
    ledger.take(service, effort.use, replicas)
    return Grant(service, effort if replicas else None, replicas, short)


def give_out(
    candidates: Candidates,
    resources: Resources,
    ledger: Ledger,
    grants: Sequence[Grant],
    policy: SaturationPolicy,
) -> list[Grant]:
    """Give what is left to services that want more, by the policy.

    A service that runs gets more of the profile it has, one that does not starts on the best one that a
    replica fits on; nobody gets more than wanted.

    Args:
        candidates: The candidates.
        resources: The resources.
        ledger: What is free; what is given is taken from it.
        grants: What the services have, in the order in which they come to draw.
        policy: None gives nothing; PriorityExhaustive fills one service after the other; the round robins
            give one replica at a time, among the services of one priority or among all, to the one that
            was given the fewest for its weight.

    Returns:
        The grants, in the same order.
    """
    match policy:
        case SaturationPolicy.NONE:
            return list(grants)
        case SaturationPolicy.PRIORITY_EXHAUSTIVE:
            return [_draw(candidates, resources, ledger, grant) for grant in grants]
        case SaturationPolicy.ROUND_ROBIN:
            return _round_robin(candidates, resources, ledger, grants)
        case SaturationPolicy.PRIORITY_ROUND_ROBIN:
            by_priority: dict[int, list[Grant]] = {}
            for grant in grants:
                by_priority.setdefault(candidates.services[grant.service].priority, []).append(grant)
            return [
                grant
                for peers in by_priority.values()
                for grant in _round_robin(candidates, resources, ledger, peers)
            ]


def _round_robin(
    candidates: Candidates, resources: Resources, ledger: Ledger, grants: Iterable[Grant]
) -> list[Grant]:
    grants = list(grants)
    weights = [candidates.services[grant.service].weight for grant in grants]
    # Whoever was given the fewest draws next; where all weigh the same that goes round.
    drawing = [(1 / weight, position, 1) for position, weight in enumerate(weights)]
    heapq.heapify(drawing)
    while drawing:
        _, position, turn = heapq.heappop(drawing)
        drawn = _draw(candidates, resources, ledger, grants[position], at_most=1)
        if drawn is not grants[position]:
            grants[position] = drawn
            heapq.heappush(drawing, ((turn + 1) / weights[position], position, turn + 1))
    return grants


def _draw(
    candidates: Candidates, resources: Resources, ledger: Ledger, grant: Grant, at_most: int | None = None
) -> Grant:
    """Give a service what is wanted and available; the same grant if that is nothing."""
    for effort in efforts(candidates, resources, grant.service) if grant.effort is None else (grant.effort,):
        wanted = effort.wanted - grant.replicas
        more = ledger.fits(grant.service, effort.use, wanted if at_most is None else min(wanted, at_most))
        if more > 0:
            ledger.take(grant.service, effort.use, more)
            return replace(grant, effort=effort, replicas=grant.replicas + more)
    return grant
