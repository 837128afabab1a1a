"""Explanations: what was chosen, what was rejected and why, what bound the choice, in words for people."""

from __future__ import annotations

from collections.abc import Sequence

from inferscale_solver.candidates import VALUE_DECIMALS, Candidates
from inferscale_solver.choice import Choice
from inferscale_solver.resources import Kind
from inferscale_solver.result import Allocation, CandidateOutcome, Decision, Outcome, Rejection


def decision(
    candidates: Candidates,
    sized: Sequence[Allocation | None],
    service: int,
    choice: Choice,
    allocation: Allocation | None,
) -> Decision:
    """Explain what a service gets.

    Args:
        candidates: The candidates.
        sized: What each row would take.
        service: The service's position in them.
        choice: What was chosen for it.
        allocation: The same in figures; None for nothing.

    Returns:
        The decision, its candidates in the order in which they were preferred.
    """
    outcome = _outcome(candidates, service, choice)
    other = _runner_up(candidates, service, choice)
    return Decision(
        service=candidates.services[service].name,
        outcome=outcome,
        allocation=allocation,
        candidates=_outcomes(candidates, sized, service, choice, allocation),
        reason=_reason(candidates, service, choice, allocation, outcome, other),
        binding=_binding(candidates, service, choice, outcome),
        runner_up=None if other is None else _name(candidates, other),
        limits=tuple(dict.fromkeys(short.resource.label for short in choice.short.values())),
    )


def _outcome(candidates: Candidates, service: int, choice: Choice) -> Outcome:
    described = candidates.services[service]
    if described.demand == 0 and choice.replicas >= described.min_replicas:
        return Outcome.IDLE
    if choice.within_objectives:
        return Outcome.SERVED
    return Outcome.BEST_EFFORT if choice.replicas > 0 else Outcome.UNSERVED


def _outcomes(
    candidates: Candidates,
    sized: Sequence[Allocation | None],
    service: int,
    choice: Choice,
    allocation: Allocation | None,
) -> tuple[CandidateOutcome, ...]:
    chosen = () if choice.row is None else (choice.row,)
    rows = dict.fromkeys((*chosen, *candidates.ranked[service], *candidates.rows[service]))
    outcomes = [_row_outcome(candidates, row, sized[row], choice, allocation) for row in rows]
    considered = {outcome.profile for outcome in outcomes}
    if allocation is not None and allocation.profile not in considered:
        message = f"stays on {allocation.profile}, for which there is no performance data"
        outcomes.insert(0, CandidateOutcome(allocation.profile, Rejection.CHOSEN, message, allocation))
        considered.add(allocation.profile)
    excluded = candidates.services[service].excluded
    outcomes += [
        CandidateOutcome(profile, Rejection.EXCLUDED, excluded[profile])
        for profile in sorted(excluded.keys() - considered)
    ]
    return tuple(outcomes)


def _row_outcome(
    candidates: Candidates, row: int, sized: Allocation | None, choice: Choice, allocation: Allocation | None
) -> CandidateOutcome:
    name, rejection = _name(candidates, row), candidates.rejections[row]
    binding = candidates.rates.binding[row]
    if row == choice.row and allocation is not None:
        message = _amount(allocation)
        if not choice.within_objectives:
            why = _lost(candidates, row, choice)
            message = f"best effort: {choice.replicas} of {choice.wanted} replicas; {why}"
        return CandidateOutcome(name, Rejection.CHOSEN, message, allocation, binding)
    if rejection is not None:
        return CandidateOutcome(name, *rejection, sized, binding)
    if choice.row is None or row in choice.short:
        return CandidateOutcome(name, _shortage(row, choice), _lost(candidates, row, choice), sized, binding)
    return CandidateOutcome(name, Rejection.DEARER, _dearer(candidates, row, choice.row), sized, binding)


def _shortage(row: int, choice: Choice) -> Rejection:
    """What a candidate was short of."""
    short = choice.short.get(row)
    kind = short.resource.kind if short is not None else Kind.UNITS
    return {Kind.BUDGET: Rejection.BUDGET, Kind.QUOTA: Rejection.QUOTA}.get(kind, Rejection.CAPACITY)


def _lost(candidates: Candidates, row: int, choice: Choice) -> str:
    """Why a row could not serve within the objectives."""
    if row in choice.short:
        return str(choice.short[row])
    rejection = candidates.rejections[row]
    return rejection[1] if rejection is not None else ""


def _dearer(candidates: Candidates, row: int, chosen: int) -> str:
    """How a candidate compares with the chosen one."""
    cost = candidates.cost[row] - candidates.cost[chosen]
    if cost > 0:
        return f"dearer by {cost:.2f}/h"
    if round(candidates.merit[row] - candidates.merit[chosen], VALUE_DECIMALS) == 0:
        return "as good; a tie goes to the accelerator in use, the smaller change of replicas, the first name"
    saving = f"cheaper by {-cost:.2f}/h" if cost < 0 else "costs the same"
    return f"{saving}, not worth a change of accelerator"


def _reason(
    candidates: Candidates,
    service: int,
    choice: Choice,
    allocation: Allocation | None,
    outcome: Outcome,
    other: int | None,
) -> str:
    if outcome is Outcome.IDLE:
        where = f" on {allocation.profile}" if allocation is not None else ""
        return f"no load: {_replicas(choice.replicas)}{where}"
    if allocation is None or outcome is Outcome.UNSERVED:
        return f"nothing: {_cause(candidates, service, choice)}"
    if outcome is Outcome.BEST_EFFORT:
        effort = f"{choice.replicas} of {choice.wanted} replicas on {allocation.profile}"
        return f"best effort: {effort}; {_cause(candidates, service, choice)}"
    needed = choice.replicas if choice.row is None else candidates.replicas[choice.row]
    if choice.replicas > needed:
        return (
            f"kept: {_amount(allocation)}; {needed} would do, which is not better by more than the threshold"
        )
    runner_up = "no other candidate" if other is None else f"runner-up {_priced(candidates, other)}"
    if choice.short:
        better = ", ".join(
            f"{_priced(candidates, row)} lost: {_lost(candidates, row, choice)}" for row in choice.short
        )
        return f"the best that fits: {_amount(allocation)}; {better}; {runner_up}"
    if any(candidates.cost[row] < allocation.cost for row in candidates.ranked[service]):
        return f"least cost with the change counted: {_amount(allocation)}; {runner_up}"
    return f"least cost: {_amount(allocation)}; {runner_up}"


def _cause(candidates: Candidates, service: int, choice: Choice) -> str:
    """Why a service is not served within its objectives."""
    if choice.short:
        scarce = list(dict.fromkeys(short.resource for short in choice.short.values()))
        if any(resource.kind is not Kind.UNITS for resource in scarce):
            least = {
                resource: min(
                    (s for s in choice.short.values() if s.resource == resource), key=lambda s: s.missing
                )
                for resource in scarce
            }
            return ", ".join(str(short) for short in least.values())
        others = f" and {len(scarce) - 1} more" if len(scarce) > 1 else ""
        return f"too few units are left of {scarce[0].name}{others}"
    rows = candidates.best_effort[service] or candidates.rows[service]
    if rows:
        rejection = candidates.rejections[rows[0]]
        others = (
            f" (and {len(candidates.rows[service]) - 1} more)" if len(candidates.rows[service]) > 1 else ""
        )
        return f"{_name(candidates, rows[0])}: {rejection[1] if rejection else ''}{others}"
    excluded = candidates.services[service].excluded
    if excluded:
        return "every profile is excluded: " + ", ".join(
            f"{p} ({why})" for p, why in sorted(excluded.items())
        )
    return "no performance data for any profile that it may use"


def _binding(candidates: Candidates, service: int, choice: Choice, outcome: Outcome) -> str | None:
    described = candidates.services[service]
    if outcome is Outcome.IDLE:
        return "minReplicas" if described.min_replicas > 0 else None
    if choice.short:
        return next(iter(choice.short.values())).resource.label
    if choice.within_objectives and choice.row is not None:
        rate = float(candidates.rates.rate[choice.row])
        if rate * (choice.replicas - 1) >= described.demand and choice.replicas == described.min_replicas:
            return "minReplicas"
        return candidates.rates.binding[choice.row]
    for row in candidates.best_effort[service]:
        rejection = candidates.rejections[row]
        if rejection is not None and rejection[0] is Rejection.OVER_MAX_REPLICAS:
            return "maxReplicas"
        return candidates.rates.binding[row]
    return None


def _runner_up(candidates: Candidates, service: int, choice: Choice) -> int | None:
    """The best candidate that could have been taken instead."""
    rows = candidates.ranked[service]
    return next((row for row in rows if row != choice.row and row not in choice.short), None)


def _name(candidates: Candidates, row: int) -> str:
    return candidates.profiles[row].name


def _priced(candidates: Candidates, row: int) -> str:
    return f"{_name(candidates, row)} at {candidates.cost[row]:.2f}/h"


def _amount(allocation: Allocation) -> str:
    return f"{allocation.replicas} × {allocation.profile} at {allocation.cost:.2f}/h"


def _replicas(number: int) -> str:
    return "1 replica" if number == 1 else f"{number} replicas"
