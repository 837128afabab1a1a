"""What holds a move back that the optimiser wants: it does not pay, or the service has moved only just.

What the objectives require is held back by neither, nor is what makes room for somebody whose objectives
require it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from inferscale_operator.api.inference_allocation import GateStatus, GateType
from inferscale_operator.decide.accelerators import Stock
from inferscale_operator.decide.catalog import Subject
from inferscale_operator.decide.stabilization import Stabilized
from inferscale_operator.decide.startup import startup_seconds
from inferscale_operator.decide.step import Intent
from inferscale_operator.snapshot import Snapshot
from inferscale_queueing.frozen import frozen

SECONDS_PER_HOUR = 3600


@frozen
class _Worth:
    """What a move saves and what it costs to start."""

    saving: float
    """Per hour, against staying with as many replicas as the load needs."""
    start: float
    """Of both allocations while the new replicas start."""

    def pays(self, horizon_s: float) -> bool:
        return self.saving * horizon_s / SECONDS_PER_HOUR >= self.start - 1e-9


def gated(intents: Sequence[Intent], stocks: Mapping[str, Stock], snapshot: Snapshot) -> list[Intent]:
    """The intents; those whose move is held back stay where they are, with the gate that says so."""
    movers = {i.subject.key: i for i in intents if _moves(i) and i.subject.holding.replicas > 0}
    worth = {key: _worth(intent, snapshot) for key, intent in movers.items()}
    horizon = snapshot.policy.moves.payback_seconds
    urgent = {key for key, intent in movers.items() if _required(intent, stocks, snapshot)}
    paying = urgent | {key for key, each in worth.items() if each.pays(horizon)}
    result = []
    for intent in intents:
        key = intent.subject.key
        gate = None
        if key in movers and key not in urgent:
            gate = _cool_down(intent, snapshot)
            if gate is None and key not in paying:
                gate = _payback(intent, intents, worth, urgent, stocks, snapshot)
        result.append(intent if gate is None else replace(intent, stabilized=_stay(intent), gate=gate))
    return result


def goes_on(subject: Subject, accelerator: str) -> bool:
    """Whether the last move was a stop on the way to this profile."""
    last = subject.state.allocation.last_move if subject.state.allocation is not None else None
    return last is not None and last.onward is not None and last.onward == accelerator


def _moves(intent: Intent) -> bool:
    wanted, here = intent.stabilized, intent.subject.holding
    return wanted.accelerator != here.accelerator


def _required(intent: Intent, stocks: Mapping[str, Stock], snapshot: Snapshot) -> bool:
    """Whether the objectives cannot be kept where the service is, or it may not be there."""
    subject, need = intent.subject, intent.needed_here
    here = subject.holding
    if need is None or here.accelerator in subject.excluded(snapshot):
        return True
    kind = subject.kind(here.accelerator)
    if any(subject.kind(record.accelerator) == kind for record in subject.unschedulable):
        # What seems to be free there is not.
        return need > subject.deployment.ready_replicas
    if need <= here.replicas:
        return False
    most = subject.behaviour.bounds.most
    if most is not None and need > most:
        return True
    room = stocks[kind].free // subject.units(here.accelerator)
    return need - here.replicas > room


def _worth(intent: Intent, snapshot: Snapshot) -> _Worth:
    subject, wanted = intent.subject, intent.stabilized
    here = subject.holding
    stay = here.replicas if intent.needed_here is None else intent.needed_here
    goal = subject.cost(wanted.accelerator, wanted.replicas)
    # What the windows add for now does not last.
    lasting = intent.target.replicas if intent.target.accelerator == wanted.accelerator else wanted.replicas
    hours = startup_seconds(subject, wanted.accelerator, snapshot) / SECONDS_PER_HOUR
    return _Worth(
        saving=subject.cost(here.accelerator, stay) - subject.cost(wanted.accelerator, lasting),
        start=(subject.cost(here.accelerator, here.replicas) + goal) * hours,
    )


def _cool_down(intent: Intent, snapshot: Snapshot) -> GateStatus | None:
    subject = intent.subject
    last = subject.state.allocation.last_move if subject.state.allocation is not None else None
    if last is None or goes_on(subject, intent.stabilized.accelerator):
        return None
    until = last.ended_at + timedelta(seconds=snapshot.policy.moves.cool_down_seconds)
    left = (until - snapshot.time).total_seconds()
    if left <= 0:
        return None
    message = f"{_wish(intent)}: cool-down {left:.0f} s left after the last move"
    return GateStatus(type=GateType.COOL_DOWN, message=message, until=until)


def _payback(
    intent: Intent,
    intents: Sequence[Intent],
    worth: Mapping[str, _Worth],
    urgent: set[str],
    stocks: Mapping[str, Stock],
    snapshot: Snapshot,
) -> GateStatus | None:
    """A move that does not pay by itself may pay by the room that it makes for others."""
    horizon = snapshot.policy.moves.payback_seconds
    group, together = {intent.subject.key}, worth[intent.subject.key]
    kinds, waiting = {intent.subject.kind(intent.subject.accelerator)}, _scarce(intents, stocks)
    grown = True
    while grown:
        grown = False
        for other in intents:
            key, kind = other.subject.key, other.subject.kind(other.stabilized.accelerator)
            if key in group or kind not in kinds or kind not in waiting or not _wants_more(other):
                continue
            if key in urgent or key not in worth:
                return None
            group.add(key)
            kinds.add(other.subject.kind(other.subject.accelerator))
            together = _Worth(together.saving + worth[key].saving, together.start + worth[key].start)
            grown = True
    if together.pays(horizon):
        return None
    others = f" with those it makes room for ({', '.join(sorted(group - {intent.subject.key}))})"
    message = (
        f"{_wish(intent)}: payback: saves {together.saving:.2f}/h{others if len(group) > 1 else ''}"
        f" × {horizon} s < {together.start:.2f} to start it"
    )
    return GateStatus(type=GateType.PAYBACK, message=message)


def _wants_more(intent: Intent) -> bool:
    wanted, here = intent.stabilized, intent.subject.holding
    return wanted.accelerator != here.accelerator or wanted.replicas > here.replicas


def _scarce(intents: Sequence[Intent], stocks: Mapping[str, Stock]) -> set[str]:
    """Types of which more is wanted than is free."""
    wanted: Counter[str] = Counter()
    for intent in intents:
        subject, to, here = intent.subject, intent.stabilized, intent.subject.holding
        more = to.replicas - (here.replicas if to.accelerator == here.accelerator else 0)
        wanted[subject.kind(to.accelerator)] += max(more, 0) * subject.units(to.accelerator)
    return {kind for kind, units in wanted.items() if units > stocks[kind].free}


def _stay(intent: Intent) -> Stabilized:
    """As many replicas as the load needs where the service is, as far as its behaviour lets it."""
    here, need = intent.subject.holding, intent.needed_here or 0
    lasting = here.replicas if intent.stay is None else intent.stay
    replicas = max(need, min(lasting, here.replicas), intent.least_here)
    most = intent.most_here
    if most is not None:
        replicas = min(replicas, max(most, here.replicas))
    return Stabilized(here.accelerator, replicas, here.max_batch, rising=replicas > here.replicas)


def _wish(intent: Intent) -> str:
    return f"the move to {intent.stabilized.replicas} on {intent.stabilized.accelerator}"
