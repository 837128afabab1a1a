"""Reading a scenario: the file, the custom resources in it or beside it, and what they refer to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from inferscale_operator.api.accelerator_profile import AcceleratorProfileSpec
from inferscale_operator.api.inference_service import InferenceServiceSpec
from inferscale_operator.api.model_profile import ModelProfileSpec, PerformanceSchema
from inferscale_operator.api.optimizer_policy import POLICY_NAME, OptimizerPolicySpec
from inferscale_operator.api.service_class import ModelTargets, ServiceClassSpec
from inferscale_operator.errors import UsageError
from inferscale_operator.kube.parse import explain
from inferscale_operator.snapshot import Resource
from inferscale_operator.twin.scenario import Scenario, ServiceSpec
from inferscale_queueing.frozen import frozen

Spec = TypeVar("Spec", bound=BaseModel)
Found = Mapping[tuple[str, str, str], Mapping[str, Any]]
"""Specs of manifests by kind, namespace and name."""

TYPE_LABEL = "inferscale.dev/accelerator"
"""Label of simulated nodes, where a profile names no node selector."""
RESOURCE = "nvidia.com/gpu"
SHOWN_ERRORS = 3
START = datetime(2026, 1, 1, tzinfo=UTC)
"""When a simulation begins unless said."""


@frozen
class SimulatedService:
    """A service with everything it refers to."""

    key: str
    """`namespace/name`."""
    resource: Resource[InferenceServiceSpec]
    spec: InferenceServiceSpec
    scenario: ServiceSpec
    targets: ModelTargets
    priority: int
    performances: Mapping[str, PerformanceSchema]
    """By accelerator profile."""


@frozen
class Setting:
    """A scenario with its custom resources."""

    path: Path
    scenario: Scenario
    policy: OptimizerPolicySpec
    accelerators: Mapping[str, AcceleratorProfileSpec]
    resources: Mapping[str, tuple[Resource[Any], ...]]
    """AcceleratorProfiles, ModelProfiles and ServiceClasses by kind."""
    services: tuple[SimulatedService, ...]
    """By key."""
    start: datetime = START
    """When the simulation begins, as the operator sees it."""


def read_scenario(path: Path) -> Setting:
    """Read a scenario and all that belongs to it.

    Raises:
        UsageError: names file, path, value and what would be right.
    """
    return make_setting(path, read_document(path))


def read_document(path: Path) -> Mapping[str, Any]:
    """The mapping in a file of YAML.

    Raises:
        UsageError: there is none; names the file and what would be right.
    """
    document = next(_documents(path), None)
    if not isinstance(document, Mapping):
        raise UsageError(f"{path}: must be a mapping with duration, services and what they need")
    return document


def make_setting(path: Path, document: Mapping[str, Any]) -> Setting:
    """A scenario and all that belongs to it.

    Args:
        path: Where it is from, for messages; its manifests and traces are beside it.
        document: What a scenario's file holds.

    Raises:
        UsageError: names path, field, value and what would be right.
    """
    try:
        scenario = Scenario.model_validate(document)
    except ValidationError as error:
        raise UsageError(f"{path}: {_explained(error)}") from error
    return _Reader(path, scenario).setting()


@frozen
class _Reader:
    path: Path
    scenario: Scenario

    def setting(self) -> Setting:
        scenario, found = self.scenario, self._manifests()
        accelerators = self._specs(
            "AcceleratorProfile", "accelerators", AcceleratorProfileSpec, found, _filled
        )
        models = self._specs(
            "ModelProfile", "models", ModelProfileSpec, found, lambda name, raw: {"modelName": name, **raw}
        )
        classes = self._specs("ServiceClass", "classes", ServiceClassSpec, found, lambda _, raw: raw)
        given = scenario.policy
        if given is None:
            given = found.get(("OptimizerPolicy", "", POLICY_NAME), {})
        policy = self._valid(OptimizerPolicySpec, given, "policy")
        self._check_types(accelerators)
        names = [f"{s.namespace}/{s.name}" for s in scenario.services]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise self._wrong(f"services[{number}].name", name, "is there already: rename one")
        services = [
            self._service(number, each, found, accelerators, models, classes)
            for number, each in enumerate(scenario.services)
        ]
        kinds: Mapping[str, Mapping[str, BaseModel]] = {
            "AcceleratorProfile": accelerators,
            "ModelProfile": models,
            "ServiceClass": classes,
        }
        return Setting(
            path=self.path,
            scenario=scenario,
            policy=policy,
            accelerators=accelerators,
            resources={kind: _resources(specs) for kind, specs in kinds.items()},
            services=tuple(sorted(services, key=lambda each: each.key)),
        )

    def _manifests(self) -> Found:
        if self.scenario.manifests is None:
            return {}
        folder = self.path.parent / self.scenario.manifests
        if not folder.is_dir():
            raise self._wrong("manifests", self.scenario.manifests, f"{folder} is no folder: name one")
        found = {}
        for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
            for raw in _documents(file):
                if isinstance(raw, Mapping) and isinstance(raw.get("metadata"), Mapping):
                    meta = raw["metadata"]
                    key = (str(raw.get("kind")), str(meta.get("namespace", "")), str(meta.get("name")))
                    found[key] = raw.get("spec") or {}
        return found

    def _specs(
        self,
        kind: str,
        field: str,
        model: type[Spec],
        found: Found,
        filled: Callable[[str, Mapping[str, Any]], Mapping[str, Any]],
    ) -> dict[str, Spec]:
        inline: Mapping[str, Mapping[str, Any]] = getattr(self.scenario, field)
        specs = {
            name: self._valid(model, raw, f"{kind} {name} in {self.scenario.manifests}")
            for (each, _, name), raw in found.items()
            if each == kind
        }
        specs |= {
            name: self._valid(model, filled(name, raw), f"{field}.{name}") for name, raw in inline.items()
        }
        if not specs:
            raise self._wrong(field, "nothing", f"give at least one {kind}, here or in manifests")
        return specs

    def _service(
        self,
        number: int,
        given: ServiceSpec,
        found: Found,
        accelerators: Mapping[str, AcceleratorProfileSpec],
        models: Mapping[str, ModelProfileSpec],
        classes: Mapping[str, ServiceClassSpec],
    ) -> SimulatedService:
        where = f"services[{number}]"
        raw = given.spec
        if raw is None:
            raw = found.get(("InferenceService", given.namespace, given.name))
        if raw is None:
            raise self._wrong(
                f"{where}.spec",
                "nothing",
                f"give the spec of InferenceService {given.namespace}/{given.name}, here or in manifests",
            )
        filled = {"targetRef": {"name": given.name}, **raw, "mode": raw.get("mode", "Apply")}
        spec = self._valid(InferenceServiceSpec, filled, f"{where}.spec")
        model = models.get(spec.model)
        if model is None:
            raise self._wrong(f"{where}.spec.model", spec.model, f"is no model: {_one_of(models)}")
        service_class = classes.get(spec.service_class)
        if service_class is None:
            raise self._wrong(
                f"{where}.spec.serviceClass", spec.service_class, f"is no class: {_one_of(classes)}"
            )
        targets = next((t for t in service_class.models if t.model == spec.model), None)
        if targets is None:
            raise self._wrong(
                f"{where}.spec.model",
                spec.model,
                f"class {spec.service_class} has no objective for it: add one to its models",
            )
        performances = {p.accelerator: p for p in model.profiles if p.accelerator in accelerators}
        if given.initial.accelerator not in performances:
            raise self._wrong(
                f"{where}.initial.accelerator",
                given.initial.accelerator,
                f"model {spec.model} has no data for it: {_one_of(performances)}",
            )
        key = f"{given.namespace}/{given.name}"
        return SimulatedService(
            key=key,
            resource=Resource(given.name, f"uid-{key}", 1, spec, namespace=given.namespace),
            spec=spec,
            scenario=given,
            targets=targets,
            priority=service_class.priority,
            performances=performances,
        )

    def _check_types(self, accelerators: Mapping[str, AcceleratorProfileSpec]) -> None:
        types = {spec.type for spec in accelerators.values()}
        named = [(f"nodes[{i}].type", pool.type) for i, pool in enumerate(self.scenario.nodes)]
        named += [(f"capacity.{kind}", kind) for kind in self.scenario.capacity]
        for number, each in enumerate(self.scenario.disturbances):
            if each.kind == "nodeLoss":
                named.append((f"disturbances[{number}].type", each.type))
            elif each.kind == "failingStart" and each.accelerator not in accelerators:
                field = f"disturbances[{number}].accelerator"
                raise self._wrong(field, each.accelerator, f"is no accelerator: {_one_of(accelerators)}")
        for field, kind in named:
            if kind not in types:
                raise self._wrong(field, kind, f"is the type of no accelerator: {_one_of(types)}")
        if self.scenario.nodes and self.scenario.capacity:
            raise self._wrong("capacity", "given", "give nodes or capacity, not both")
        for name in self.scenario.start_up.by_accelerator:
            if name not in accelerators:
                field = f"startUp.byAccelerator.{name}"
                raise self._wrong(field, name, f"is no accelerator: {_one_of(accelerators)}")

    def _valid(self, model: type[Spec], raw: Any, where: str) -> Spec:
        try:
            return model.model_validate(raw)
        except ValidationError as error:
            raise UsageError(f"{self.path}: {where}: {explain(error)}") from error

    def _wrong(self, field: str, value: str, remedy: str) -> UsageError:
        return UsageError(f"{self.path}: {field}: {value}: {remedy}")


def _resources(specs: Mapping[str, BaseModel]) -> tuple[Resource[Any], ...]:
    return tuple(Resource(name, f"uid-{name}", 1, spec) for name, spec in sorted(specs.items()))


def _filled(_name: str, raw: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"resourceName": RESOURCE, "nodeSelector": {TYPE_LABEL: str(raw.get("type", ""))}, **raw}


def _documents(path: Path) -> Iterator[Any]:
    try:
        yield from list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}. Give a file that can be read.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise UsageError(f"{path}: is not YAML: {said}") from error


def _explained(error: ValidationError) -> str:
    found = error.errors(include_url=False)
    lines = []
    for item in found[:SHOWN_ERRORS]:
        # The discriminator of a union is part of the location, and nothing that a person wrote.
        parts = [p for p in item["loc"] if p not in ("nodeLoss", "metricOutage", "failingStart")]
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).lstrip(".")
        where = where or "the file"
        if item["type"] == "missing":
            lines.append(f"{where} is missing: it is required")
        elif item["type"] == "extra_forbidden":
            lines.append(f"{where}: there is no such field: drop it or correct its name")
        elif item["type"] == "value_error":
            lines.append(f"{where}: {item['ctx']['error']}")
        else:
            message = item["msg"][:1].lower() + item["msg"][1:]
            shown = repr(item["input"])
            shown = shown if len(shown) < 60 else f"{shown[:60]}…"
            lines.append(f"{where}: {shown} is not valid: {message}")
    if len(found) > SHOWN_ERRORS:
        lines.append(f"and {len(found) - SHOWN_ERRORS} more")
    return "; ".join(lines)


def _one_of(names: Iterable[str]) -> str:
    return f"use one of {', '.join(sorted(names)) or '(there is none)'}"
