"""The files of `inferscale plan` as custom resources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from inferscale_operator.api.optimizer_policy import POLICY_NAME, Accelerators
from inferscale_operator.errors import UsageError
from inferscale_operator.migration.hardware import Placing, known
from inferscale_operator.migration.manifests import Manifest, check
from inferscale_operator.migration.names import nameless, object_name, object_names
from inferscale_operator.planning.deck import Deck, ModelData, Objectives, Server
from inferscale_operator.planning.findings import Findings
from inferscale_operator.planning.formulate import Options
from inferscale_operator.planning.reading import accelerator_rows
from inferscale_queueing.frozen import frozen
from inferscale_solver import Profile, Quota, TailRule

SHOWN = 5


@frozen
class Hints:
    """What the files do not say."""

    resources: Mapping[str, str] = field(default_factory=dict)
    """Extended resource by type."""
    node_selectors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels of the nodes by type."""
    namespace: str | None = None
    """Of the InferenceServices; None: what a server's name says before a `/`, else `default`."""


@frozen
class Imported:
    """Custom resources, and what of the files is not in them."""

    manifests: tuple[Manifest, ...]
    left_out: tuple[str, ...]


def memory(path: Path) -> dict[str, dict[str, float]]:
    """`memSize` (GB) and `memBW` (GB/s) of the accelerators of a file that was read before, where given."""
    found = {}
    for row in accelerator_rows(path, Findings()):
        sizes = {name: row.number(name, 0.0) for name in ("memSize", "memBW")}
        found[row.text("name")] = {name: size for name, size in sizes.items() if size > 0}
    return found


def from_deck(deck: Deck, sizes: Mapping[str, Mapping[str, float]], hints: Hints) -> Imported:
    """The custom resources of a deck.

    Args:
        deck: What the files say.
        sizes: Memory of the accelerators, see `memory`.
        hints: What they do not say.

    Raises:
        UsageError: names collide, an accelerator is not known and no hint tells it, or a value is one that
            the custom resources do not take.
    """
    accelerators = object_names("accelerator", (profile.name for profile in deck.accelerators))
    models = object_names("model", dict.fromkeys(data.model for data in deck.models))
    classes = object_names("service class", dict.fromkeys(each.service_class for each in deck.objectives))
    placings = _placings(deck.accelerators, hints)
    manifests = [
        *(
            _accelerator(profile, accelerators, sizes.get(profile.name, {}), placings, deck)
            for profile in deck.accelerators
        ),
        *(_model(name, models, accelerators, deck.models) for name in models),
        *(_class(name, classes, models, deck) for name in classes),
        *_services(deck, hints, accelerators, models, classes),
        *_policy(deck, classes),
    ]
    origin = {
        (kind, name): f" ({what} {text})"
        for kind, what, made in (
            ("AcceleratorProfile", "accelerator", accelerators),
            ("ModelProfile", "model", models),
            ("ServiceClass", "class", classes),
        )
        for text, name in made.items()
    }
    check(manifests, origin)
    return Imported(tuple(manifests), tuple(_left_out(deck)))


@frozen
class _Placed:
    placing: Placing
    remark: str


def _placings(profiles: Sequence[Profile], hints: Hints) -> dict[str, _Placed]:
    """Where pods find each type."""
    types = {profile.type: profile.name for profile in profiles}
    unused = sorted((hints.resources.keys() | hints.node_selectors.keys()) - types.keys())
    if unused:
        raise UsageError(
            f"--resource or --node-selector {unused[0]}: there is no accelerator of type {unused[0]}:"
            f" use one of {', '.join(sorted(types))}"
        )
    found, missing = {}, []
    for kind, name in types.items():
        guess = known(kind) or known(name)
        resource = hints.resources.get(kind) or (guess.placing.resource_name if guess else None)
        selector = hints.node_selectors.get(kind) or (guess.placing.node_selector if guess else None)
        if resource is None or selector is None:
            flags = [] if resource else [f"--resource {kind}=nvidia.com/gpu"]
            flags += [] if selector else [f"--node-selector {kind}=nvidia.com/gpu.product=PRODUCT"]
            missing.append(
                f"  type {kind} is not known: give {' and '.join(flags)}, with what your nodes have"
            )
            continue
        guessed = [
            what
            for what, said in (("resourceName", hints.resources), ("nodeSelector", hints.node_selectors))
            if kind not in said
        ]
        remark = f"To be checked: {' and '.join(guessed)}, guessed from type {kind}." if guessed else ""
        found[kind] = _Placed(Placing(resource, selector), remark)
    if missing:
        raise UsageError("the files do not say where pods find these accelerators:\n" + "\n".join(missing))
    return found


def _accelerator(
    profile: Profile,
    names: Mapping[str, str],
    sizes: Mapping[str, float],
    placings: Mapping[str, _Placed],
    deck: Deck,
) -> Manifest:
    placed = placings[profile.type]
    spec: dict[str, Any] = {"type": profile.type, "multiplicity": profile.multiplicity, **sizes}
    if profile.power is not None:
        power = profile.power
        spec["power"] = {
            "idle": power.idle,
            "full": power.full,
            "midPower": power.mid_power,
            "midUtil": power.mid_util,
        }
    spec |= {
        "cost": profile.cost,
        "resourceName": placed.placing.resource_name,
        "nodeSelector": placed.placing.node_selector,
        "tier": profile.tier.value,
    }
    remarks = [placed.remark] if placed.remark else []
    if deck.units is not None:
        spec["capacity"] = {"fixed": deck.units.get(profile.type, 0)}
        remarks.append(
            "capacity.fixed is from the capacity file: without it the units of ready nodes are counted."
        )
    return Manifest("AcceleratorProfile", names[profile.name], spec, remarks=tuple(remarks))


def _model(
    name: str, names: Mapping[str, str], accelerators: Mapping[str, str], data: Sequence[ModelData]
) -> Manifest:
    profiles = [
        {
            "accelerator": accelerators[p.profile],
            "accCount": p.acc_count,
            "alpha": p.alpha,
            "beta": p.beta,
            "gamma": p.gamma,
            "delta": p.delta,
            "maxBatchSize": p.max_batch_size,
            "atTokens": p.at_tokens,
        }
        for p in (each.performance for each in data if each.model == name)
    ]
    remark = "To be checked: modelName is the label model_name of the engine's series."
    return Manifest("ModelProfile", names[name], {"modelName": name, "profiles": profiles}, remarks=(remark,))


def _class(name: str, names: Mapping[str, str], models: Mapping[str, str], deck: Deck) -> Manifest:
    promised = [each for each in deck.objectives if each.service_class == name]
    listed = [entry for each in promised if len(entry := _targets(each, models, deck)) > 1]
    return Manifest("ServiceClass", names[name], {"priority": promised[0].priority, "models": listed})


def _targets(promised: Objectives, models: Mapping[str, str], deck: Deck) -> dict[str, Any]:
    targets = promised.targets
    entry: dict[str, Any] = {"model": models[promised.model]}
    for name in ("itl", "ttft", "ttw", "tps"):
        if (value := getattr(targets, name)) is not None:
            entry[name] = value
    percentile = targets.percentile
    if percentile is None:
        percentile = deck.optimizer.percentile or Options().percentile
    if percentile and deck.optimizer.slo_rule is not TailRule.MEAN and entry.keys() & {"ttft", "ttw"}:
        entry["percentile"] = percentile
    return entry


def _services(
    deck: Deck,
    hints: Hints,
    accelerators: Mapping[str, str],
    models: Mapping[str, str],
    classes: Mapping[str, str],
) -> Iterator[Manifest]:
    split = {server.name: _namespace_and_name(server, hints) for server in deck.servers}
    seen: dict[tuple[str, str], str] = {}
    for server in deck.servers:
        namespace, text = split[server.name]
        name = object_name(text)
        if not name:
            raise UsageError(nameless("server", server.name))
        first = seen.setdefault((namespace, name), server.name)
        if first != server.name:
            raise UsageError(
                f"server {first!r} and server {server.name!r} would both be named {name!r} in namespace"
                f" {namespace}: rename one"
            )
        spec: dict[str, Any] = {
            "model": models[server.model],
            "serviceClass": classes[server.service_class],
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "mode": "Recommend",
        }
        if server.min_replicas > 0:
            spec["minReplicas"] = server.min_replicas
        if server.max_replicas is not None:
            spec["maxReplicas"] = server.max_replicas
        if server.keep_accelerator:
            spec["keepAccelerator"] = True
        if server.weight != 1.0:
            spec["weight"] = server.weight
        if server.allowed_accelerators:
            spec["allowedAccelerators"] = [accelerators[each] for each in server.allowed_accelerators]
        remark = "To be checked: targetRef.name, the Deployment that serves it."
        yield Manifest("InferenceService", name, spec, namespace=namespace, remarks=(remark,))


def _namespace_and_name(server: Server, hints: Hints) -> tuple[str, str]:
    """As hints say, else as the server says, else as its name says: `namespace/name`."""
    before, separator, name = server.name.partition("/")
    qualified = bool(separator) and bool(name) and "/" not in name and _label(before)
    said = hints.namespace or server.namespace or (before if qualified else "default")
    return said, name if qualified else server.name


def _label(text: str) -> bool:
    return object_name(text) == text and "." not in text


def _policy(deck: Deck, classes: Mapping[str, str]) -> Iterator[Manifest]:
    """What the optimizer's file says; the rest is left to the defaults."""
    data = deck.optimizer
    spec: dict[str, Any] = {}
    if data.unlimited is not None:
        spec["accelerators"] = (Accelerators.UNLIMITED if data.unlimited else Accelerators.LIMITED).value
    said = {
        "solver": data.solver,
        "saturationPolicy": data.saturation_policy,
        "delayedBestEffort": data.delayed_best_effort,
        "transitionPenalty": data.transition_penalty,
        "keepThreshold": data.keep_threshold,
        "tailRule": data.slo_rule,
    }
    spec |= {name: value for name, value in said.items() if value is not None}
    if data.max_cost is not None:
        spec["budget"] = {"maxCostPerHour": data.max_cost}
    if data.quotas:
        spec["quotas"] = [_quota(quota, classes) for quota in data.quotas]
    if spec:
        yield Manifest("OptimizerPolicy", POLICY_NAME, spec)


def _quota(quota: Quota, classes: Mapping[str, str]) -> dict[str, Any]:
    named = {
        "namespace": quota.namespace,
        "serviceClass": quota.service_class and classes[quota.service_class],
    }
    return {"type": quota.type, "units": quota.units} | {key: said for key, said in named.items() if said}


def _left_out(deck: Deck) -> Iterator[str]:
    """What the custom resources have no place for."""
    if any(server.arrival_rate > 0 or server.current is not None for server in deck.servers):
        yield "loads and current allocations of servers: the operator reads them from the cluster"
    idle = [server.name for server in deck.servers if server.min_replicas == 0]
    if idle:
        yield (
            f"minReplicas 0 ({_some(idle)}): it is 1 in the InferenceService, since without pods nothing"
            " reports a load; set minReplicas: 0 where a gateway's metrics tell it"
        )
    decode_only = [server.name for server in deck.servers if server.average_length is not None]
    if decode_only:
        yield (
            f"avgLength ({_some(decode_only)}): the operator reads input and output tokens, so ModelProfiles"
            " need gamma and delta"
        )
    if any(_varied(server) for server in deck.servers):
        yield "arrivalCOV and serviceCOV: the operator takes them as 1"
    untargeted = [
        f"{each.service_class} {each.model}"
        for each in deck.objectives
        if not any(asdict(each.targets)[name] for name in ("itl", "ttft", "ttw", "tps"))
    ]
    if untargeted:
        yield f"classes without targets for a model ({_some(untargeted)}): a ServiceClass needs one"
    if deck.nodes:
        yield "nodes of the capacity file: the operator counts those of the cluster, without capacity.fixed"
    if deck.optimizer.latency_model is not None:
        yield "latencyModel: the operator uses prefill-decode"


def _varied(server: Server) -> bool:
    return (server.arrival_cov, server.service_cov) != (1.0, 1.0)


def _some(names: Sequence[str]) -> str:
    counted = list(Counter(names))
    return ", ".join(counted[:SHOWN]) + (f" and {len(counted) - SHOWN} more" if len(counted) > SHOWN else "")
