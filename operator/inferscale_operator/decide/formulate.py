"""From a snapshot to problems of the solver, and back to a decision for every service."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import inferscale_queueing as queueing
from inferscale_operator.api.accelerator_profile import AcceleratorProfileSpec
from inferscale_operator.api.inference_service import BatchMode, Mode
from inferscale_operator.api.model_profile import PerformanceSchema
from inferscale_operator.decide import limits
from inferscale_operator.decide.accelerators import Stock
from inferscale_operator.decide.catalog import Catalog, Subject
from inferscale_operator.decide.overload import Planned, planned
from inferscale_operator.decide.ownership import template_refusal
from inferscale_operator.snapshot import LoadState, Snapshot
from inferscale_queueing.frozen import frozen
from inferscale_solver import (
    CurrentAllocation,
    Decision,
    Load,
    Outcome,
    Performance,
    Power,
    Problem,
    Profile,
    Quota,
    Result,
    Service,
    Settings,
    Targets,
    Tier,
    required_rate,
    solve,
)

_WITHIN_OBJECTIVES = (Outcome.SERVED, Outcome.IDLE)


@frozen
class Decided:
    """The solver's decisions, by service key, and the problem that they answer (for further predictions)."""

    decisions: Mapping[str, Decision]
    planned: Mapping[str, Planned]
    """What they were decided for."""
    problem: Problem | None
    result: Result | None = None
    """The whole answer; None where there was nothing to decide."""


def decide_targets(
    snapshot: Snapshot,
    entries: Catalog,
    subjects: Mapping[str, Subject],
    stocks: Mapping[str, Stock],
    patchable: Collection[str],
) -> tuple[Decided, Decided]:
    """What the optimiser wants, twice.

    First for the services that may be patched, beside what all others hold; then for those in mode Recommend
    as well, all together, which is what these are told.

    Services whose load is not known and those in a move are not decided: they count as using what they hold.

    Args:
        snapshot: The world.
        entries: Its valid profiles and classes.
        subjects: The services that can be decided, by key.
        stocks: The accelerators, by type.
        patchable: Keys of the services that may be patched.
    """
    plans = {
        key: planned(load, s, snapshot)
        for key, s in subjects.items()
        if not s.moving and (load := s.load) is not None
    }
    free = {key: plan for key, plan in plans.items() if key in patchable}
    target = _decide(snapshot, entries, subjects, stocks, free)
    advised = {
        key: plan for key, plan in plans.items() if key in free or subjects[key].spec.mode is Mode.RECOMMEND
    }
    advice = target if len(advised) == len(free) else _decide(snapshot, entries, subjects, stocks, advised)
    return target, advice


def needed_replicas(decision: Decision, accelerator: str, rate: float, least: int) -> int | None:
    """Replicas that a rate (requests/min) needs on a profile; None: unattainable or not known there."""
    if rate == 0:
        return least
    for candidate in decision.candidates:
        allocation = candidate.allocation
        if candidate.profile == accelerator and allocation is not None and allocation.rate_per_replica > 0:
            return queueing.replica_count(rate, allocation.rate_per_replica, least)
    return None


def rates_per_replica(decision: Decision) -> dict[str, float]:
    """The rate that a replica serves within its objectives by profile, requests/min, where it is known."""
    return {c.profile: c.allocation.rate_per_replica for c in decision.candidates if c.allocation is not None}


def rates_of(subject: Subject, load: Load, entries: Catalog, snapshot: Snapshot) -> dict[str, float]:
    """The same of a service that is not decided, for every profile that its model has data for."""
    known = _performances(entries)
    service = replace(
        _service(subject, load, known, snapshot),
        performance=tuple(known[subject.spec.model].values()),
        min_replicas=0,
        max_replicas=None,
        keep_accelerator=False,
        excluded={},
    )
    profiles = tuple(_profile(name, entries.accelerators[name]) for name in sorted(subject.performances))
    settings = Settings(tail_rule=snapshot.policy.tail_rule)
    problem = Problem(services=(service,), profiles=profiles, settings=settings)
    return rates_per_replica(solve(problem).decisions[subject.key])


def least_replicas(subject: Subject, rate: float) -> int:
    """Replicas that a service never goes below at a rate (requests/min), as far as its load is known."""
    least, running = subject.behaviour.bounds.least, subject.deployment.replicas
    if subject.state.load.state is LoadState.PARTIAL:
        # One that only partly reports may gain replicas where it is, and lose nothing.
        return max(least, running)
    # No arrivals are not yet idleness: what is running would be cut off. What waits has to be served.
    stays = rate == 0 and running > 0 and not subject.idle.enough
    return max(least, 1) if stays or subject.called else least


def least_held(subject: Subject) -> int:
    """Replicas that a service has although nothing is known of its load but that requests may wait."""
    wakes = subject.called and not subject.behaviour.limits.up.disabled
    return max(subject.behaviour.bounds.least, 1) if wakes else subject.behaviour.bounds.least


def _bounds(subject: Subject, least: int) -> tuple[int, int | None]:
    """Replicas that the plan may give: its bounds, and what there is where a direction is disabled."""
    bounds, running = subject.behaviour.bounds, subject.deployment.replicas
    if subject.behaviour.limits.down.disabled:
        least = max(least, running if bounds.most is None else min(running, bounds.most))
    most = bounds.most
    if subject.behaviour.limits.up.disabled:
        here = max(running, 1)
        most = here if most is None else min(most, here)
    return least, None if most is None else max(most, least)


def _no_more_than_runs(subjects: Mapping[str, Subject], stocks: Mapping[str, Stock]) -> Iterator[Quota]:
    """What services run on, of types of which no node was found for more."""
    for key, subject in subjects.items():
        owner = (subject.deployment.namespace, subject.deployment.name)
        known = (r.accelerator for r in subject.unschedulable if r.accelerator in subject.performances)
        for kind in sorted({subject.kind(accelerator) for accelerator in known}):
            yield Quota(type=kind, units=stocks[kind].held.get(owner, 0), service=key)


def served(decision: Decision) -> bool:
    """Whether the service is within its objectives by the plan."""
    return decision.outcome in _WITHIN_OBJECTIVES


def _decide(
    snapshot: Snapshot,
    entries: Catalog,
    subjects: Mapping[str, Subject],
    stocks: Mapping[str, Stock],
    plans: Mapping[str, Planned],
) -> Decided:
    if not plans:
        return Decided({}, {}, None)
    known = _performances(entries)
    chosen = {key: subjects[key] for key in sorted(plans)}
    free = {(s.deployment.namespace, s.deployment.name) for s in chosen.values()}
    pinned = [s for key, s in subjects.items() if key not in plans]
    problem = Problem(
        services=tuple(_service(s, plans[key].load, known, snapshot) for key, s in chosen.items()),
        profiles=tuple(_profile(name, spec) for name, spec in sorted(entries.accelerators.items())),
        capacity=limits.capacity(snapshot.policy, stocks, free, pinned),
        quotas=(
            *limits.quotas(snapshot.policy, pinned),
            *_no_more_than_runs({key: s for key, s in chosen.items() if s.unschedulable}, stocks),
        ),
        settings=Settings(
            transition_penalty=snapshot.policy.transition_penalty,
            keep_threshold=snapshot.policy.keep_threshold,
            max_cost=limits.budget(snapshot.policy, pinned),
            saturation_policy=snapshot.policy.saturation_policy,
            delayed_best_effort=snapshot.policy.delayed_best_effort,
            tail_rule=snapshot.policy.tail_rule,
            solver=snapshot.policy.solver,
        ),
    )
    result = solve(problem)
    return Decided(result.decisions, plans, problem, result)


def _service(
    subject: Subject,
    load: Load,
    known: Mapping[str, Mapping[str, Performance]],
    snapshot: Snapshot,
) -> Service:
    spec, targets = subject.spec, subject.targets
    partial = subject.state.load.state is LoadState.PARTIAL
    managed = spec.batch.mode is BatchMode.MANAGED
    least, most = _bounds(subject, least_replicas(subject, required_rate(load, subject.targets.tps)))
    excluded = subject.excluded(snapshot)
    insisted = template_refusal(subject, snapshot)
    if insisted is not None:
        others = subject.performances.keys() - {subject.accelerator}
        excluded |= dict.fromkeys(sorted(others), f"{insisted.reason}: {insisted.message}")
    return Service(
        name=subject.key,
        service_class=spec.service_class,
        model=spec.model,
        priority=subject.priority,
        load=load,
        targets=Targets(
            itl=targets.itl,
            ttft=targets.ttft,
            ttw=targets.ttw,
            tps=targets.tps,
            percentile=targets.percentile,
        ),
        performance=tuple(
            performance
            for name, performance in known[spec.model].items()
            # What it has now is predicted whether or not it may stay there.
            if name not in excluded or name == subject.accelerator
        ),
        min_replicas=least,
        max_replicas=None if most is None else max(most, 1),
        keep_accelerator=spec.keep_accelerator or partial or subject.behaviour.keeps_accelerator,
        current=CurrentAllocation(
            profile=subject.accelerator,
            replicas=subject.deployment.replicas,
            max_batch=subject.max_batch if managed else None,
        ),
        weight=spec.weight,
        namespace=subject.state.resource.namespace or "",
        excluded=excluded,
    )


def _performances(entries: Catalog) -> dict[str, dict[str, Performance]]:
    """What is known of every model, by accelerators that there are, in the order of their names."""
    return {
        model: {name: _performance(known[name]) for name in sorted(known)}
        for model, known in entries.performances.items()
    }


def _performance(schema: PerformanceSchema) -> Performance:
    return Performance(
        profile=schema.accelerator,
        alpha=schema.alpha,
        beta=schema.beta,
        gamma=schema.gamma,
        delta=schema.delta,
        acc_count=schema.acc_count,
        max_batch_size=schema.max_batch_size,
        at_tokens=schema.at_tokens,
    )


def _profile(name: str, spec: AcceleratorProfileSpec) -> Profile:
    power = spec.power
    return Profile(
        name=name,
        type=spec.type,
        multiplicity=spec.multiplicity,
        cost=spec.cost,
        power=None if power is None else Power(power.idle, power.full, power.mid_power, power.mid_util),
        tier=Tier(spec.tier.value),
    )
