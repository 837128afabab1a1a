"""Settlement: from the services that are served to what everybody gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inferscale_queueing.frozen import frozen
from inferscale_solver.candidates import VALUE_DECIMALS, Candidates
from inferscale_solver.choice import Choice, take
from inferscale_solver.formulation import burst_cost
from inferscale_solver.ledger import Ledger, reservations
from inferscale_solver.problem import SaturationPolicy, Settings
from inferscale_solver.resources import Resources, Shortage
from inferscale_solver.saturation import Grant, give_out, keep, precedence


def settle(
    candidates: Candidates, resources: Resources, settings: Settings, served: Mapping[int, int]
) -> tuple[Choice, ...]:
    """Give services what was decided for them, and the others what they hold and what is left.

    A service that could do better with what is left does.

    Args:
        candidates: The candidates.
        resources: What is shared.
        settings: The saturation policy.
        served: The row of each service that is served.

    Returns:
        The choices, in the order of the candidates' services.
    """
    order = sorted(
        range(len(candidates.services)),
        key=lambda i: (candidates.services[i].priority, precedence(candidates, i)),
    )
    held = [i for i, holding in enumerate(candidates.holdings) if holding is not None]
    least = reservations(candidates, resources, held)
    ledger = Ledger(resources, {i: replicas for i, replicas in least.items() if i not in served})
    for service, row in served.items():
        ledger.take(service, resources.rows[row], candidates.replicas[row])
    grants = {
        service: keep(candidates, resources, ledger, service, {})
        for service in order
        if service not in served
    }
    rows = dict(served)
    for service in order:
        _improve(candidates, resources, ledger, service, rows, grants)
    lost = {
        service: _lost(candidates, resources, ledger, service, rows.get(service), grants.get(service))
        for service in order
    }
    waiting = [
        Grant(service, grants[service].effort, grants[service].replicas, lost[service])
        for service in order
        if service in grants
    ]
    policy = settings.saturation_policy
    if policy is SaturationPolicy.ROUND_ROBIN and not settings.delayed_best_effort:
        # Each priority draws before the next, as in greedy.
        policy = SaturationPolicy.PRIORITY_ROUND_ROBIN
    given = give_out(candidates, resources, ledger, waiting, policy)
    choices = {service: take(candidates, row, lost[service]) for service, row in rows.items()}
    choices |= {grant.service: grant.choice() for grant in given}
    return tuple(choices[service] for service in range(len(candidates.services)))


@frozen(order=True)
class Rank:
    """How good a plan is, the least best."""

    unserved: tuple[int, ...]
    """Services by priority."""
    weight: tuple[float, ...]
    """Their weights, by priority."""
    burst: float
    value: float
    """Merit of what is served."""


def rank(candidates: Candidates, choices: Sequence[Choice]) -> Rank:
    """Rank a plan."""
    unserved = dict.fromkeys(sorted({service.priority for service in candidates.services}), 0)
    weight = dict.fromkeys(unserved, 0.0)
    burst = value = 0.0
    for service, choice in zip(candidates.services, choices, strict=True):
        if choice.within_objectives and choice.row is not None:
            burst += burst_cost(candidates, choice.row)
            value += candidates.merit[choice.row]
        else:
            unserved[service.priority] += 1
            weight[service.priority] += service.weight
    return Rank(
        unserved=tuple(unserved.values()),
        weight=tuple(round(each, VALUE_DECIMALS - 1) for each in weight.values()),
        burst=round(burst, VALUE_DECIMALS - 1),
        value=round(value, VALUE_DECIMALS - 1),
    )


def _improve(
    candidates: Candidates,
    resources: Resources,
    ledger: Ledger,
    service: int,
    rows: dict[int, int],
    grants: dict[int, Grant],
) -> None:
    """Move a service to a candidate that it prefers, if that fits now, without more burst cost."""
    now = rows.get(service)
    grant = grants.get(service)
    use, replicas = _taken(candidates, resources, now, grant)
    if now is not None and now == candidates.ranked[service][0]:
        return
    ledger.give_back(use, replicas)
    for row in candidates.ranked[service]:
        if row == now:
            break
        fits = ledger.shortage(service, resources.rows[row], candidates.replicas[row]) is None
        if fits and (now is None or burst_cost(candidates, row) <= burst_cost(candidates, now)):
            rows[service] = row
            grants.pop(service, None)
            use, replicas = resources.rows[row], candidates.replicas[row]
            break
    ledger.take(service, use, replicas)


def _lost(
    candidates: Candidates,
    resources: Resources,
    ledger: Ledger,
    service: int,
    now: int | None,
    grant: Grant | None,
) -> dict[int, Shortage]:
    """The candidates that a service would prefer, with what they are short of."""
    use, replicas = _taken(candidates, resources, now, grant)
    ledger.give_back(use, replicas)
    lost: dict[int, Shortage] = {}
    for row in candidates.ranked[service]:
        if row == now:
            break
        short = ledger.shortage(service, resources.rows[row], candidates.replicas[row])
        if short is not None:
            lost[row] = short
    ledger.take(service, use, replicas)
    return lost


def _taken(
    candidates: Candidates, resources: Resources, row: int | None, grant: Grant | None
) -> tuple[tuple[tuple[int, float], ...], int]:
    if row is not None:
        return resources.rows[row], candidates.replicas[row]
    if grant is not None and grant.effort is not None:
        return grant.effort.use, grant.replicas
    return (), 0
