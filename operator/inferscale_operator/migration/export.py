"""A snapshot as the files of `inferscale plan`: what the operator solves, to be solved offline."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from inferscale_operator.api.inference_service import Mode
from inferscale_operator.decide.accelerators import stocks
from inferscale_operator.decide.catalog import Catalog, Refusal, Subject, applies, catalog, examine
from inferscale_operator.decide.formulate import decide_targets
from inferscale_operator.decide.ownership import guard
from inferscale_operator.decide.plausibility import with_doubts
from inferscale_operator.snapshot import LoadState, ObservedLoad, ServiceState, Snapshot
from inferscale_queueing.frozen import frozen
from inferscale_solver import Capacity, Problem, Quota, Service

ACCELERATORS, MODELS, CLASSES, SERVERS, CAPACITY, OPTIMIZER = (
    f"{name}-data.json"
    for name in ("accelerator", "model", "serviceclass", "server", "capacity", "optimizer")
)


@frozen
class Exported:
    """The files by name, and what of the cluster is not in them."""

    files: Mapping[str, Any]
    left_out: tuple[str, ...]


def export(snapshot: Snapshot) -> Exported:
    """The files of a snapshot.

    Loads that the snapshot does not know are those that the InferenceAllocations last recorded. Accelerators
    that pods of nobody's service hold are not in the capacity.
    """
    doubted = with_doubts(snapshot)
    remembered = replace(doubted, services=tuple(_remembered(state) for state in doubted.services))
    entries = catalog(remembered)
    examined = {state.key: examine(state, entries, remembered) for state in remembered.services}
    subjects = {key: found for key, found in examined.items() if isinstance(found, Subject)}
    counted = stocks(entries.accelerators, remembered.nodes, remembered.pods, frozenset(entries.targets))
    guards = {key: guard(subject) for key, subject in subjects.items() if applies(subject.spec)}
    patchable = frozenset(key for key, refusal in guards.items() if refusal is None)
    # What is advised is for all services together, those in mode Recommend too.
    _, advice = decide_targets(remembered, entries, subjects, counted, patchable)
    problem = advice.problem
    refused = {key: found for key, found in {**examined, **guards}.items() if isinstance(found, Refusal)}
    left_out = [*_refused(refused), *_undecided(subjects, refused, problem)]
    files: dict[str, Any] = {
        ACCELERATORS: {
            "accelerators": [_accelerator(name, entries) for name in sorted(entries.accelerators)]
        },
        MODELS: {"models": list(_models(entries))},
        CLASSES: {"serviceClasses": list(_classes(entries))},
        SERVERS: {"servers": [_server(s, subjects[s.name]) for s in problem.services] if problem else []},
    }
    if problem is not None:
        files[OPTIMIZER] = {"optimizer": _optimizer(problem)}
        if problem.capacity is not None:
            rows = list(_capacity(problem.capacity))
            files[CAPACITY] = {"count": rows}
    return Exported(files, tuple(left_out))


def as_text(content: Any) -> str:
    """A file's content, one entry a line."""
    [(name, entries)] = content.items()
    if not isinstance(entries, list):
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    lines = ",\n".join(f"  {json.dumps(entry, ensure_ascii=False)}" for entry in entries)
    return f'{{"{name}": [\n{lines}\n]}}\n' if lines else f'{{"{name}": []}}\n'


def _remembered(state: ServiceState) -> ServiceState:
    """The service with the last load that was known."""
    last = state.allocation.load if state.allocation is not None else None
    if state.load.state.known or last is None or last.arrival_rate is None:
        return state
    known = ObservedLoad(
        LoadState.OBSERVED if last.arrival_rate > 0 else LoadState.IDLE,
        "the last that was known",
        last.arrival_rate,
        last.input_tokens,
        last.output_tokens,
    )
    return replace(state, load=known)


def _accelerator(name: str, entries: Catalog) -> dict[str, Any]:
    spec = entries.accelerators[name]
    power = spec.power.model_dump(mode="json", by_alias=True) if spec.power is not None else None
    fields = {
        "name": name,
        "type": spec.type,
        "multiplicity": spec.multiplicity,
        "memSize": spec.mem_size,
        "memBW": spec.mem_bw,
        "cost": spec.cost,
        "power": power,
        "tier": spec.tier.value,
    }
    return _given(fields)


def _models(entries: Catalog) -> Iterator[dict[str, Any]]:
    for name, spec in sorted(entries.models.items()):
        for data in spec.profiles:
            if data.accelerator in entries.accelerators:
                yield {
                    "name": name,
                    "acc": data.accelerator,
                    "accCount": data.acc_count,
                    "maxBatchSize": data.max_batch_size,
                    "atTokens": data.at_tokens,
                    "decodeParms": {"alpha": data.alpha, "beta": data.beta},
                    "prefillParms": {"gamma": data.gamma, "delta": data.delta},
                }


def _classes(entries: Catalog) -> Iterator[dict[str, Any]]:
    measured = {
        name
        for name, spec in entries.models.items()
        if any(data.accelerator in entries.accelerators for data in spec.profiles)
    }
    for name, spec in sorted(entries.classes.items()):
        targets = [
            _given(
                {
                    "model": target.model,
                    "slo-itl": target.itl,
                    "slo-ttft": target.ttft,
                    "slo-ttw": target.ttw,
                    "slo-tps": target.tps,
                    "percentile": target.percentile or 0,
                }
            )
            for target in spec.models
            if target.model in measured
        ]
        if targets:
            yield {"name": name, "priority": spec.priority, "modelTargets": targets}


def _server(service: Service, subject: Subject) -> dict[str, Any]:
    load = service.load
    fields: dict[str, Any] = {
        "name": service.name,
        "class": service.service_class,
        "model": service.model,
        "minReplicas": service.min_replicas,
        "maxReplicas": service.max_replicas,
        "keepAccelerator": service.keep_accelerator or None,
        "weight": service.weight,
        "namespace": subject.state.resource.namespace,
    }
    if service.excluded:
        fields["allowedAccelerators"] = [data.profile for data in service.performance]
    fields["currentAlloc"] = {
        "accelerator": subject.accelerator,
        "numReplicas": subject.deployment.replicas,
        "load": {
            "arrivalRate": load.arrival_rate,
            "avgInTokens": load.input_tokens,
            "avgOutTokens": load.output_tokens,
        },
    }
    return _given(fields)


def _capacity(capacity: Capacity) -> Iterator[dict[str, Any]]:
    for kind, units in sorted(capacity.units.items()):
        sizes = list(capacity.free_by_node.get(kind) or capacity.nodes.get(kind, ()))
        # With headroom, or units of others that are not told by node, the file could not say both.
        yield {"type": kind, "count": units} | ({"nodes": sizes} if sizes and sum(sizes) == units else {})


def _optimizer(problem: Problem) -> dict[str, Any]:
    settings = problem.settings
    return _given(
        {
            "unlimited": problem.capacity is None,
            "solver": settings.solver.value,
            "saturationPolicy": settings.saturation_policy.value,
            "delayedBestEffort": settings.delayed_best_effort,
            "transitionPenalty": settings.transition_penalty,
            "keepThreshold": settings.keep_threshold,
            "latencyModel": "prefill-decode",
            "sloRule": settings.tail_rule.value,
            "maxCostPerHour": settings.max_cost,
            "quotas": [_quota(quota) for quota in problem.quotas] or None,
        }
    )


def _quota(quota: Quota) -> dict[str, Any]:
    return _given(
        {
            "type": quota.type,
            "units": quota.units,
            "namespace": quota.namespace,
            "serviceClass": quota.service_class,
        }
    )


def _refused(refused: Mapping[str, Refusal]) -> Iterator[str]:
    for key, refusal in sorted(refused.items()):
        yield f"{key}: {refusal.reason}: {refusal.message}"


def _undecided(
    subjects: Mapping[str, Subject], refused: Mapping[str, Refusal], problem: Problem | None
) -> Iterator[str]:
    decided: Sequence[str] = [service.name for service in problem.services] if problem is not None else ()
    for key, subject in sorted(subjects.items()):
        if key in decided or key in refused:
            continue
        why = "its load was never known"
        if subject.moving:
            why = "a move is under way"
        elif subject.spec.mode is Mode.PAUSED:
            why = "its mode is Paused"
        yield f"{key}: {why}: it keeps what it has, which is not in the capacity"


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
