"""Limited accelerators, greedy: by priority, then by what a service would lose by coming later."""

from __future__ import annotations

import heapq
import math

from inferscale_solver.candidates import VALUE_DECIMALS, Candidates
from inferscale_solver.choice import Choice, take
from inferscale_solver.ledger import Ledger, reservations
from inferscale_solver.problem import Settings
from inferscale_solver.resources import Resources, Shortage
from inferscale_solver.saturation import Grant, give_out, keep, precedence


def greedy(candidates: Candidates, resources: Resources, settings: Settings) -> tuple[Choice, ...]:
    """Share limited accelerators by the llm-inferno deck's greedy algorithm.

    Priority after priority: services are served in order of regret (how much worse the next candidate is;
    infinite for the last), then value, both descending, then name; a service whose candidate does not fit
    comes again with its next one. Those that run out of candidates keep what they have, as far as it is
    left, and then share what is left by the saturation policy, at once or, with `delayed_best_effort`, after
    the last priority.

    `min_replicas` of services that run are kept for them, but only where they would otherwise go below them:
    a service that can be pushed to another accelerator is, and what it had is free for those before it.

    Args:
        candidates: The candidates.
        resources: What is shared.
        settings: Saturation policy and whether it is delayed.

    Returns:
        The choices, in the order of the candidates' services.
    """
    reserving: frozenset[int] = frozenset()
    while True:
        choices = _share(candidates, resources, settings, reserving)
        pushed = {
            service for service, choice in enumerate(choices) if _below_least(candidates, service, choice)
        }
        if pushed <= reserving:
            return choices
        reserving |= pushed


def _below_least(candidates: Candidates, service: int, choice: Choice) -> bool:
    held = candidates.holdings[service]
    return held is not None and choice.replicas < min(
        candidates.services[service].min_replicas, held.replicas
    )


def _share(
    candidates: Candidates, resources: Resources, settings: Settings, reserving: frozenset[int]
) -> tuple[Choice, ...]:
    ledger = Ledger(resources, reservations(candidates, resources, reserving))
    choices: dict[int, Choice] = {}
    waiting: list[Grant] = []
    for priority in sorted({service.priority for service in candidates.services}):
        peers = [i for i, service in enumerate(candidates.services) if service.priority == priority]
        served, lost = _serve(candidates, resources, ledger, peers)
        choices |= served
        waiting += [keep(candidates, resources, ledger, service, short) for service, short in lost.items()]
        if not settings.delayed_best_effort:
            waiting = give_out(candidates, resources, ledger, waiting, settings.saturation_policy)
            choices |= {grant.service: grant.choice() for grant in waiting}
            waiting = []
    waiting = give_out(candidates, resources, ledger, waiting, settings.saturation_policy)
    choices |= {grant.service: grant.choice() for grant in waiting}
    return tuple(choices[service] for service in range(len(candidates.services)))


def _serve(
    candidates: Candidates, resources: Resources, ledger: Ledger, peers: list[int]
) -> tuple[dict[int, Choice], dict[int, dict[int, Shortage]]]:
    """Serve services of one priority.

    Returns:
        The choices of those that are served; of the others, in their order, what each of their candidates
        was short of.
    """
    served: dict[int, Choice] = {}
    short: dict[int, dict[int, Shortage]] = {service: {} for service in peers}
    queue = [
        (_urgency(candidates, service, 0), service, 0) for service in peers if candidates.ranked[service]
    ]
    heapq.heapify(queue)
    while queue:
        _, service, position = heapq.heappop(queue)
        row = candidates.ranked[service][position]
        replicas = candidates.replicas[row]
        missing = ledger.shortage(service, resources.rows[row], replicas)
        if missing is None:
            ledger.take(service, resources.rows[row], replicas)
            served[service] = take(candidates, row, short[service])
            continue
        short[service][row] = missing
        if position + 1 < len(candidates.ranked[service]):
            entry = (_urgency(candidates, service, position + 1), service, position + 1)
            heapq.heappush(queue, entry)
    lost = sorted((i for i in peers if i not in served), key=lambda i: precedence(candidates, i))
    return served, {service: short[service] for service in lost}


def _urgency(candidates: Candidates, service: int, position: int) -> tuple[float, float]:
    """Regret and value of a service's candidate, negated for a queue that gives the least first."""
    rows = candidates.ranked[service]
    weight = candidates.services[service].weight
    value = candidates.merit[rows[position]]
    last = position + 1 == len(rows)
    regret = math.inf if last else candidates.merit[rows[position + 1]] - value
    regret = regret if last else round(weight * regret, VALUE_DECIMALS)
    return -regret, -round(weight * value, VALUE_DECIMALS)
