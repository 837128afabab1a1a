"""From what the files say to the problem that the solver takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from inferscale_operator.errors import UsageError
from inferscale_operator.planning.deck import Deck, LatencyModelName, Server
from inferscale_queueing.frozen import frozen
from inferscale_solver import (
    Capacity,
    Load,
    Performance,
    Problem,
    Quota,
    SaturationPolicy,
    Service,
    Settings,
    Solver,
    TailRule,
    Targets,
)

LARGEST_BATCH = 1_000_000
"""A batch beyond this is a slip in maxBatchSize, atTokens or the token lengths."""


@frozen
class Options:
    """How to plan."""

    limited: bool = False
    solver: Solver = Solver.AUTO
    saturation_policy: SaturationPolicy = SaturationPolicy.NONE
    delayed_best_effort: bool = False
    transition_penalty: float = 0.1
    keep_threshold: float = 0.0
    quotas: tuple[Quota, ...] = ()
    latency_model: LatencyModelName = LatencyModelName.AUTO
    slo_rule: TailRule = TailRule.EXACT
    percentile: float = 0.95
    max_cost: float | None = None


def options(deck: Deck, given: Mapping[str, Any]) -> Options:
    """Flags over the optimizer's file over the defaults.

    Args:
        deck: What the files say.
        given: The flags that were given, by the name of the field of `Options`.

    Returns:
        The options. Accelerators are limited where nobody said otherwise and there is a capacity file.

    Raises:
        UsageError: Accelerators are to be limited, and there is no capacity file.
    """
    data = deck.optimizer
    said = {name: getattr(data, name) for name in vars(Options()) if name != "limited"}
    said["limited"] = None if data.unlimited is None else not data.unlimited
    chosen = {name: value for name, value in said.items() if value is not None}
    chosen |= given
    chosen.setdefault("limited", deck.units is not None)
    if chosen["limited"] and deck.units is None:
        raise UsageError(
            "accelerators are limited, but there is no capacity file: "
            "put capacity-data.json into DIR, give --capacity FILE, or plan with --unlimited"
        )
    return Options(**chosen)


def problem_of(deck: Deck, options: Options) -> Problem:
    """The problem of a deck.

    Args:
        deck: What the files say; consistent, as the reader leaves it.
        options: How to plan.

    Raises:
        UsageError: A batch would be beyond `LARGEST_BATCH`.
    """
    performance: dict[str, list[Performance]] = {}
    for data in deck.models:
        performance.setdefault(data.model, []).append(data.performance)
    profiles = {profile.name for profile in deck.accelerators}
    objectives = {(each.service_class, each.model): each for each in deck.objectives}
    services = []
    for server in deck.servers:
        promised = objectives[server.service_class, server.model]
        measured = performance.get(server.model, ())
        excluded = _excluded(server, measured)
        services.append(
            Service(
                name=server.name,
                service_class=server.service_class,
                model=server.model,
                priority=promised.priority,
                load=_load(server, options.latency_model),
                targets=replace(promised.targets, percentile=_percentile(promised.targets, options)),
                performance=tuple(data for data in measured if data.profile not in excluded),
                excluded=excluded,
                min_replicas=server.min_replicas,
                max_replicas=server.max_replicas,
                keep_accelerator=server.keep_accelerator,
                weight=server.weight,
                namespace=server.namespace,
                # What it has on a removed accelerator is gone: it starts from nothing.
                current=held if (held := server.current) and held.profile in profiles else None,
            )
        )
    for service in services:
        _check_batches(service)
    return Problem(
        services=tuple(services),
        profiles=deck.accelerators,
        capacity=Capacity(deck.units or {}, deck.nodes, deck.nodes) if options.limited else None,
        settings=Settings(
            transition_penalty=options.transition_penalty,
            keep_threshold=options.keep_threshold,
            saturation_policy=options.saturation_policy,
            delayed_best_effort=options.delayed_best_effort,
            tail_rule=options.slo_rule,
            solver=options.solver,
            max_cost=options.max_cost,
        ),
        quotas=options.quotas,
    )


def _percentile(targets: Targets, options: Options) -> float | None:
    if targets.percentile is None:
        return options.percentile
    return targets.percentile or None


def _excluded(server: Server, performance: Sequence[Performance]) -> dict[str, str]:
    """Accelerators that a server may not use; what it has now it may keep."""
    held = server.current.profile if server.current is not None else None
    allowed = {*server.allowed_accelerators, held}
    if not server.allowed_accelerators:
        return {}
    return {
        data.profile: "NotAllowed: not in allowedAccelerators"
        for data in performance
        if data.profile not in allowed
    }


def _load(server: Server, model: LatencyModelName) -> Load:
    """The load in the terms of the latency model; without load its tokens mean nothing and read as 1."""
    known = server.input_tokens is not None or server.output_tokens is not None
    output = server.output_tokens if server.output_tokens is not None else server.average_length
    return Load(
        arrival_rate=server.arrival_rate,
        input_tokens=server.input_tokens or 0.0,
        output_tokens=max(output or 1.0, 1.0),
        prefill=known if model is LatencyModelName.AUTO else model is LatencyModelName.PREFILL_DECODE,
        arrival_cov=server.arrival_cov,
        service_cov=server.service_cov,
    )


def _check_batches(service: Service) -> None:
    for data in service.performance:
        batch = data.max_batch_size * data.at_tokens / service.load.output_tokens
        if batch > LARGEST_BATCH and service.load.arrival_rate > 0:
            raise UsageError(
                f"server {service.name}: at {service.load.output_tokens:g} output tokens {data.profile} "
                f"would take a batch of {batch:,.0f} of {service.model}, maxBatchSize "
                f"{data.max_batch_size:,d} at atTokens {data.at_tokens:,d}: "
                f"it must be at most {LARGEST_BATCH:,d}"
            )
