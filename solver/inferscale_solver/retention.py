"""Retention: replicas that are enough and hardly dearer than what is needed are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from inferscale_solver.candidates import Candidates
from inferscale_solver.choice import Choice
from inferscale_solver.ledger import Ledger
from inferscale_solver.resources import Resources

_SLACK = 1e-9


def retain(
    candidates: Candidates, resources: Resources, choices: Sequence[Choice], threshold: float
) -> tuple[Choice, ...]:
    """Keep replicas of services that would lose few of them, where what is left over allows it.

    Args:
        candidates: The candidates.
        resources: What is shared.
        choices: What was decided, in the order of the candidates' services.
        threshold: `Settings.keep_threshold`.

    Returns:
        The choices; nobody has less, and only services that are served on the accelerator they have may have
        more: in the order of priority, then of names.
    """
    kept = list(choices)
    if threshold == 0:
        return tuple(kept)
    ledger = Ledger(resources)
    for service, choice in enumerate(choices):
        use = resources.holdings[service] if choice.row is None else resources.rows[choice.row]
        ledger.take(service, use, choice.replicas)
    for service in sorted(range(len(kept)), key=lambda i: (candidates.services[i].priority, i)):
        choice, held = kept[service], candidates.holdings[service]
        if choice.row is None or not choice.within_objectives or held is None:
            continue
        limit = candidates.services[service].max_replicas
        more = held.replicas - choice.replicas
        hardly_dearer = 0 < more <= threshold * held.replicas * (1 + _SLACK)
        allowed = held.profile.name == choice.profile and (limit is None or held.replicas <= limit)
        use = resources.rows[choice.row]
        if hardly_dearer and allowed and ledger.fits(service, use, more) == more:
            ledger.take(service, use, more)
            kept[service] = replace(choice, replicas=held.replicas)
    return tuple(kept)
