"""Whose history it is: the services, described as in a scenario, or read from a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from inferscale_operator.api.inference_service import Mode, ServiceMetrics
from inferscale_operator.api.metric_preset import DEFAULT_PRESET, MetricPreset
from inferscale_operator.api.optimizer_policy import Accelerators, MetricsSettings, OptimizerPolicySpec
from inferscale_operator.decide.accelerators import stocks
from inferscale_operator.decide.catalog import Catalog, Refusal, Subject, catalog, examine
from inferscale_operator.errors import UsageError
from inferscale_operator.metrics.presets import presets
from inferscale_operator.snapshot import Snapshot
from inferscale_operator.twin.resources import Setting, SimulatedService, make_setting, read_document
from inferscale_queueing.frozen import frozen

FROM_CLUSTER = Path("cluster")
"""Stands for the file in messages."""
LARGEST_NODE = 1024
"""Units of a simulated node."""
NO_TOKENS = {"input": 1, "output": 1}


@frozen
class Described:
    """The services, and how they are found in Prometheus.

    Attributes:
        setting: A scenario without a load.
        metrics: How Prometheus is asked.
        preset: Metric preset by key of the service.
        model: Name by which a gateway knows the model, by key of the service.
        left_out: Services that cannot be tested, with the reason.
    """

    setting: Setting
    metrics: MetricsSettings
    preset: Mapping[str, str]
    model: Mapping[str, str]
    left_out: tuple[str, ...] = ()

    @property
    def presets(self) -> tuple[MetricPreset, ...]:
        """Those that the services name."""
        known = presets(self.metrics)
        return tuple(known[name] for name in sorted(set(self.preset.values())))


def read_services(path: Path) -> Described:
    """Services of a file in the form of a scenario; its load, token lengths and disturbances are not used.

    Raises:
        UsageError: names file, field, value and what would be right.
    """
    return _described(path, read_document(path), ())


def services_of(snapshot: Snapshot) -> Described:
    """Services of a cluster with what they refer to. Those that the operator could not decide are left out.

    Raises:
        UsageError: there is none to test.
    """
    entries = catalog(snapshot)
    examined = {state.key: examine(state, entries, snapshot) for state in snapshot.services}
    subjects = [found for found in examined.values() if isinstance(found, Subject)]
    left_out = tuple(
        f"{key}: {found.reason}: {found.message}"
        for key, found in sorted(examined.items())
        if isinstance(found, Refusal)
    )
    if not subjects:
        why = f": {left_out[0]}" if left_out else ": create one, or give --services FILE"
        raise UsageError(f"--from-cluster: the cluster has no InferenceService to test{why}")
    document = {
        "accelerators": _specs(entries.accelerators),
        "models": _specs(entries.models),
        "classes": _specs(entries.classes),
        "policy": _plain(snapshot.policy),
        "nodes": list(_nodes(snapshot, entries)),
        "services": [_service(subject) for subject in subjects],
    }
    return _described(FROM_CLUSTER, document, left_out)


def _described(path: Path, document: Mapping[str, Any], left_out: tuple[str, ...]) -> Described:
    given = document.get("services")
    filled = dict(document) | {"duration": document.get("duration", 1), "disturbances": []}
    if isinstance(given, Sequence) and not isinstance(given, str):
        filled["services"] = [_filled(each) for each in given]
    setting = make_setting(path, filled)
    _check_targets(path, setting.services)
    known = presets(setting.policy.metrics)
    for service in setting.services:
        name = service.spec.metrics.preset
        if name not in known:
            raise UsageError(
                f"{path}: service {service.key}: spec.metrics.preset: {name!r} is not a metric preset: name"
                f" one of {', '.join(sorted(known))}, or add it to metrics.presets of the policy"
            )
    models = {each.name: each.spec.model_name for each in setting.resources["ModelProfile"] if each.spec}
    return Described(
        setting=_product_setting(setting),
        metrics=setting.policy.metrics,
        preset={service.key: service.spec.metrics.preset for service in setting.services},
        model={service.key: models[service.spec.model] for service in setting.services},
        left_out=left_out,
    )


def _filled(raw: Any) -> Any:
    """A service with what the history is to replace."""
    if not isinstance(raw, Mapping):
        return raw
    initial = raw.get("initial")
    if isinstance(initial, Mapping):
        initial = {"replicas": 1, **initial}
    load = raw.get("load", {"rate": 0})
    tokens = {} if isinstance(load, Mapping) and "trace" in load else {"tokens": raw.get("tokens", NO_TOKENS)}
    return {**raw, "initial": initial, "load": load, **tokens}


def _check_targets(path: Path, services: Sequence[SimulatedService]) -> None:
    targets = Counter(target(service) for service in services)
    for service in services:
        if targets[target(service)] > 1:
            namespace, name = target(service)
            raise UsageError(
                f"{path}: service {service.key}: spec.targetRef.name: Deployment {name} in namespace"
                f" {namespace} is the target of another service too: keep one of them"
            )


def target(service: SimulatedService) -> tuple[str, str]:
    """Namespace and name of the Deployment of a service."""
    return service.resource.namespace or "", service.spec.target_ref.name


def _product_setting(setting: Setting) -> Setting:
    """The setting as the product is tested in it: it may act, and reads the metrics of the twin."""
    metrics = MetricsSettings(
        window_seconds=setting.policy.metrics.window_seconds,
        max_age_seconds=setting.policy.metrics.max_age_seconds,
    )
    policy: OptimizerPolicySpec = setting.policy.model_copy(update={"metrics": metrics})
    services = []
    for service in setting.services:
        changed = {"mode": Mode.APPLY, "metrics": ServiceMetrics(preset=DEFAULT_PRESET)}
        spec = service.spec.model_copy(update=changed)
        services.append(replace(service, spec=spec, resource=replace(service.resource, spec=spec)))
    return replace(setting, policy=policy, services=tuple(services))


def _specs(specs: Mapping[str, BaseModel]) -> dict[str, Any]:
    return {name: _plain(spec) for name, spec in specs.items()}


def _plain(spec: BaseModel) -> Any:
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def _service(subject: Subject) -> dict[str, Any]:
    initial: dict[str, Any] = {"accelerator": subject.accelerator}
    if subject.holding.max_batch is not None:
        initial["maxBatch"] = subject.holding.max_batch
    return {
        "name": subject.state.resource.name,
        "namespace": subject.deployment.namespace,
        "spec": _plain(subject.spec),
        "initial": initial,
    }


def _nodes(snapshot: Snapshot, entries: Catalog) -> Iterator[dict[str, Any]]:
    """What services may have of each type, on nodes as large as its own."""
    counted = stocks(entries.accelerators, snapshot.nodes, snapshot.pods, frozenset(entries.targets))
    if snapshot.policy.accelerators is Accelerators.UNLIMITED:
        return
    for kind, stock in sorted(counted.items()):
        sizes = Counter(stock.node_sizes)
        if sum(stock.node_sizes) != stock.available:
            size = min(max(stock.node_sizes, default=LARGEST_NODE), max(stock.available, 1), LARGEST_NODE)
            whole, rest = divmod(stock.available, size)
            sizes = Counter({size: whole}) + Counter({rest: 1} if rest else {})
        # A type without a unit is named too: no nodes at all would stand for no limit.
        for units, count in sorted(sizes.items()) or [(1, 0)]:
            yield {"type": kind, "count": count, "units": units}
