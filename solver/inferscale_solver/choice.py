"""Choices: which row of the candidates each service gets, before it is put into figures and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from inferscale_queueing.frozen import frozen
from inferscale_solver.candidates import Candidates
from inferscale_solver.resources import Resources, Shortage, Use


@frozen
class Choice:
    """What a service gets. Without a profile: nothing."""

    profile: str | None
    replicas: int
    row: int | None = None
    """Its row of the candidates; None for a current profile without performance data."""
    within_objectives: bool = False
    wanted: int = 0
    """Replicas that a best effort aimed at."""
    short: Mapping[int, Shortage] = field(default_factory=dict)
    """Candidates that were lost to what runs out: their rows, and what was missing."""


def take(candidates: Candidates, row: int, short: Mapping[int, Shortage] | None = None) -> Choice:
    """Choose a candidate with all the replicas that it needs."""
    replicas = candidates.replicas[row]
    return Choice(
        profile=candidates.profiles[row].name,
        replicas=replicas,
        row=row,
        within_objectives=True,
        wanted=replicas,
        short=short or {},
    )


@frozen
class Effort:
    """A profile on which a service may run outside its objectives."""

    profile: str
    row: int | None
    use: Use
    wanted: int


def held_effort(candidates: Candidates, resources: Resources, service: int) -> Effort | None:
    """Where a service that runs may go on running: on the profile it has.

    It aims at no less than it has, unless maxReplicas is lower, and at more only where the profile may still
    be chosen for it.
    """
    held = candidates.holdings[service]
    if held is None or held.replicas == 0:
        return None
    limit = candidates.services[service].max_replicas
    kept = held.replicas if limit is None else min(held.replicas, limit)
    name = held.profile.name
    row = next((i for i in candidates.rows[service] if candidates.profiles[i].name == name), None)
    usable = row is not None and row in candidates.best_effort[service]
    more = candidates.wanted[row] if row is not None and usable else 0
    return Effort(name, row, resources.holdings[service], max(kept, more))


def efforts(candidates: Candidates, resources: Resources, service: int) -> tuple[Effort, ...]:
    """Where a service that runs nowhere may be started outside its objectives, the best first."""
    return tuple(
        Effort(
            profile=candidates.profiles[row].name,
            row=row,
            use=resources.rows[row],
            wanted=candidates.wanted[row],
        )
        for row in candidates.best_effort[service]
    )
