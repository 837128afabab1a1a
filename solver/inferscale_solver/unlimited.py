"""Unlimited accelerators: every service by itself."""

from __future__ import annotations

from inferscale_solver.candidates import Candidates
from inferscale_solver.choice import Choice, efforts, held_effort, take
from inferscale_solver.resources import Resources


def unlimited(candidates: Candidates, resources: Resources) -> tuple[Choice, ...]:
    """Give every service its best candidate.

    A service without any gets the best effort in full: nothing is scarce, so no saturation policy applies.

    Args:
        candidates: The candidates.
        resources: The resources, of which none runs out.

    Returns:
        The choices, in the order of the candidates' services.
    """
    return tuple(
        take(candidates, ranked[0]) if ranked else _best_effort(candidates, resources, service)
        for service, ranked in enumerate(candidates.ranked)
    )


def _best_effort(candidates: Candidates, resources: Resources, service: int) -> Choice:
    effort = held_effort(candidates, resources, service)
    effort = effort or next(iter(efforts(candidates, resources, service)), None)
    if effort is None:
        return Choice(profile=None, replicas=0)
    return Choice(profile=effort.profile, replicas=effort.wanted, row=effort.row, wanted=effort.wanted)
