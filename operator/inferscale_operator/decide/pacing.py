"""How much may change at once: the scaling policies and tolerance of HorizontalPodAutoscaler v2.

The rules are those of its controller: a policy is an amount beyond what there was at the start of its period;
percentages are rounded away from the present number in both directions. A change of accelerator counts as
the change of the replicas that are worth as much, by the rate that they serve.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from inferscale_operator.api.behavior import PolicyType, ScalingPolicy, ScalingRules, SelectPolicy
from inferscale_operator.api.inference_allocation import ScaleEvent
from inferscale_operator.decide.stabilization import Holding, Stabilized
from inferscale_queueing.frozen import frozen

_DISABLED = SelectPolicy.DISABLED
EVENTS_LIMIT = 128
"""Scale events that a status takes."""

Rates = Mapping[str, float]
"""Rate that a replica serves by profile, requests/min; those that are not known are absent or 0."""


@frozen
class Rules:
    """Scaling rules of one direction, as they hold. Without policies there is no limit."""

    policies: tuple[ScalingPolicy, ...] = ()
    select: SelectPolicy = SelectPolicy.MAX
    tolerance: float = 0.0

    @property
    def disabled(self) -> bool:
        """Whether nothing may change in this direction."""
        return self.select is _DISABLED


@frozen
class Limits:
    """Scaling rules by direction."""

    up: Rules = Rules()
    down: Rules = Rules()

    @property
    def longest_period(self) -> timedelta:
        """How long changes count."""
        periods = (p.period_seconds for rules in (self.up, self.down) for p in rules.policies)
        return timedelta(seconds=max(periods, default=0))


@frozen
class Past:
    """Changes of replicas in the past, as of `now`, with what makes them comparable."""

    events: Sequence[ScaleEvent]
    rates: Rates
    now: datetime

    def change(self, accelerator: str, period: timedelta) -> float:
        """Net change within a period, in replicas on an accelerator."""
        return sum(
            worth(event.after - event.before, event.accelerator, accelerator, self.rates)
            for event in self.events
            if event.time > self.now - period
        )


def rules(own: ScalingRules, default: ScalingRules) -> Rules:
    """The rules of a service over those of the policy, field by field."""
    policies = default.policies if own.policies is None else own.policies
    tolerance = default.tolerance if own.tolerance is None else own.tolerance
    return Rules(
        policies=policies or (),
        select=own.select_policy or default.select_policy or SelectPolicy.MAX,
        tolerance=tolerance or 0.0,
    )


def worth(replicas: float, here: str, there: str, rates: Rates) -> float:
    """Replicas on one profile that serve as much as those on another; as many where it is not known."""
    if here == there or not rates.get(here) or not rates.get(there):
        return replicas
    return replicas * rates[here] / rates[there]


def equivalent(holding: Holding, accelerator: str, rates: Rates) -> int:
    """Whole replicas on a profile that serve what there is."""
    return math.ceil(worth(holding.replicas, holding.accelerator, accelerator, rates) - 1e-9)


def tolerated(target: Stabilized, holding: Holding, limits: Limits) -> bool:
    """Whether a target on the same accelerator is too near to what there is to be worth a change."""
    if (target.accelerator, target.max_batch) != (holding.accelerator, holding.max_batch):
        return False
    change = target.replicas - holding.replicas
    tolerance = (limits.up if change > 0 else limits.down).tolerance
    return change != 0 and abs(change) <= tolerance * holding.replicas + 1e-9


def most_replicas(base: int, accelerator: str, limits: Limits, past: Past) -> int | None:
    """Replicas that a scale-up from `base` may reach now; None: no limit."""
    if limits.up.disabled:
        return base
    proposed = []
    for policy in limits.up.policies:
        start = base - past.change(accelerator, timedelta(seconds=policy.period_seconds))
        if policy.type is PolicyType.PODS:
            proposed.append(start + policy.value)
        else:
            proposed.append(start * (100 + policy.value) / 100)
    if not proposed:
        return None
    chosen = min(proposed) if limits.up.select is SelectPolicy.MIN else max(proposed)
    # A share of nothing is nothing: from 0 one is always allowed.
    return max(math.ceil(chosen - 1e-9), base, 1)


def least_replicas_allowed(base: int, accelerator: str, limits: Limits, past: Past) -> int:
    """Replicas that a scale-down from `base` may reach now."""
    if limits.down.disabled:
        return base
    proposed = []
    for policy in limits.down.policies:
        start = base - past.change(accelerator, timedelta(seconds=policy.period_seconds))
        if policy.type is PolicyType.PODS:
            proposed.append(start - policy.value)
        else:
            proposed.append(start * (100 - policy.value) / 100)
    if not proposed:
        return 0
    chosen = max(proposed) if limits.down.select is SelectPolicy.MIN else min(proposed)
    return min(max(math.floor(chosen + 1e-9), 0), base)


def limited(
    allowed: Stabilized, holding: Holding, limits: Limits, past: Past, needed_here: int | None
) -> Stabilized:
    """What the scaling policies let through of what the windows do.

    A move to less than they let go waits, and the service shrinks where it is until the move is within them.

    Args:
        allowed: What the windows let through.
        holding: What the service has.
        limits: The rules.
        past: The changes that count.
        needed_here: Replicas that the load needs on the present profile; None: it cannot be served there.
    """
    wanted = f"{allowed.replicas} on {allowed.accelerator}"
    base = equivalent(holding, allowed.accelerator, past.rates)
    if allowed.replicas > base:
        most = most_replicas(base, allowed.accelerator, limits, past)
        if most is None or allowed.replicas <= most:
            return allowed
        held, why = _held(wanted, "scaleUp", f"{most} at most", limits.up)
        return replace(allowed, replicas=most, held=held, why=why)
    least = least_replicas_allowed(base, allowed.accelerator, limits, past)
    if allowed.replicas >= least:
        return allowed
    held, why = _held(wanted, "scaleDown", f"{least} at least", limits.down)
    if allowed.accelerator == holding.accelerator:
        return replace(allowed, replicas=least, held=held, why=why)
    here = least_replicas_allowed(holding.replicas, holding.accelerator, limits, past)
    stays = min(max(here, holding.replicas if needed_here is None else needed_here), holding.replicas)
    return Stabilized(holding.accelerator, stays, holding.max_batch, held, allowed.rising, why)


def _held(wanted: str, direction: str, bound: str, rules: Rules) -> tuple[str, str]:
    if rules.disabled:
        return f"{wanted} is held back: behavior.{direction}.selectPolicy is Disabled", "ScalingDisabled"
    return f"{wanted} waits: behavior.{direction}.policies allow {bound} now", "RateLimited"


def standing(events: Sequence[ScaleEvent], holding: Holding) -> tuple[ScaleEvent, ...]:
    """The changes that were made: the newest was not where the service still has what it had before."""
    if events:
        newest = events[-1]
        if newest.accelerator != holding.accelerator or newest.before == holding.replicas != newest.after:
            return tuple(events[:-1])
    return tuple(events)


def remember(events: Iterable[ScaleEvent], limits: Limits, now: datetime) -> tuple[ScaleEvent, ...]:
    """The changes that still count, no more of them than a status takes."""
    oldest = now - limits.longest_period
    kept = [event for event in events if oldest < event.time <= now]
    while len(kept) > EVENTS_LIMIT:
        # Two become one at the later time: what is known less exactly never lets more through.
        first, second, *rest = kept
        before = second.before - (first.after - first.before)
        kept = [second.model_copy(update={"before": before}), *rest]
    return tuple(kept)
