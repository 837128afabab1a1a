"""The services that can be decided, and for the others the field that stands in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from functools import cached_property

from inferscale_operator.api.accelerator_profile import AcceleratorProfileSpec
from inferscale_operator.api.inference_allocation import UnschedulablePod
from inferscale_operator.api.inference_service import BatchMode, InferenceServiceSpec, Mode
from inferscale_operator.api.model_profile import ModelProfileSpec, PerformanceSchema
from inferscale_operator.api.moves import FailedMove
from inferscale_operator.api.service_class import ModelTargets, ServiceClassSpec
from inferscale_operator.decide.accelerators import recognise, serving_container, units_per_replica
from inferscale_operator.decide.behaviour import Behaviour, behaviour
from inferscale_operator.decide.idleness import Idleness, idleness
from inferscale_operator.decide.load import known_load
from inferscale_operator.decide.stabilization import Holding
from inferscale_operator.decide.template import Placement, deployed_batch, template_obstacle, variant_of
from inferscale_operator.decide.unschedulable import Owner, unschedulable, waiting_pods
from inferscale_operator.snapshot import DeploymentState, PodState, ServiceState, Snapshot
from inferscale_queueing.frozen import frozen
from inferscale_solver import Load

_PATCHED = (Mode.APPLY, Mode.APPROVE)


@frozen
class Catalog:
    """The valid profiles and classes of a snapshot, by name, and which Deployments services name."""

    accelerators: Mapping[str, AcceleratorProfileSpec]
    models: Mapping[str, ModelProfileSpec]
    performances: Mapping[str, Mapping[str, PerformanceSchema]]
    """Of each model, by accelerator profile, those that exist."""
    classes: Mapping[str, ServiceClassSpec]
    invalid: Mapping[tuple[str, str], str]
    """Error of an object that is there and cannot be used, by (kind, name)."""
    targets: Mapping[tuple[str, str], tuple[str, ...]]
    """Names of the InferenceServices by (namespace, Deployment)."""
    waiting: Mapping[Owner, tuple[PodState, ...]]
    """Pods that no node was found for, by (namespace, Deployment)."""
    placed: frozenset[tuple[str, str]]
    """(namespace, name) of the pods that have a node."""


def catalog(snapshot: Snapshot) -> Catalog:
    """Index a snapshot."""
    invalid: dict[tuple[str, str], str] = {}
    for kind, resources in (
        ("AcceleratorProfile", snapshot.accelerator_profiles),
        ("ModelProfile", snapshot.model_profiles),
        ("ServiceClass", snapshot.service_classes),
    ):
        invalid |= {(kind, r.name): r.error for r in resources if r.spec is None}
    targets: dict[tuple[str, str], tuple[str, ...]] = {}
    for service in sorted(snapshot.services, key=lambda s: s.key):
        resource = service.resource
        if resource.spec is not None and resource.namespace is not None:
            target = (resource.namespace, resource.spec.target_ref.name)
            targets[target] = (*targets.get(target, ()), resource.name)
    accelerators = {r.name: r.spec for r in snapshot.accelerator_profiles if r.spec is not None}
    models = {r.name: r.spec for r in snapshot.model_profiles if r.spec is not None}
    return Catalog(
        accelerators=accelerators,
        models=models,
        performances={
            name: {p.accelerator: p for p in spec.profiles if p.accelerator in accelerators}
            for name, spec in models.items()
        },
        classes={r.name: r.spec for r in snapshot.service_classes if r.spec is not None},
        invalid=invalid,
        targets=targets,
        waiting=waiting_pods(snapshot.pods),
        placed=frozenset((pod.namespace, pod.name) for pod in snapshot.pods if pod.node is not None),
    )


@frozen
class Refusal:
    """Why a service cannot be decided. `condition` is the one that says so."""

    condition: str
    reason: str
    message: str


@frozen
class Subject:
    """A service that can be decided, with everything it refers to."""

    state: ServiceState
    spec: InferenceServiceSpec
    service_class: ServiceClassSpec
    targets: ModelTargets
    deployment: DeploymentState
    performances: Mapping[str, PerformanceSchema]
    """By accelerator profile, those that exist."""
    accelerators: Mapping[str, AcceleratorProfileSpec]
    accelerator: str
    """The profile that its pod template asks for."""
    behaviour: Behaviour
    idle: Idleness
    unschedulable: tuple[UnschedulablePod, ...] = ()
    """Accelerators of which it gets no more than it runs on, since no node was found for a replica."""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return self.state.key

    @property
    def priority(self) -> int:
        """1 = first … 100 = last."""
        return self.service_class.priority

    @property
    def moving(self) -> bool:
        """Whether a move is under way."""
        return self.state.allocation is not None and self.state.allocation.move is not None

    @property
    def called(self) -> bool:
        """Whether requests wait at the gateway."""
        return (self.state.load.queued or 0) > 0

    @cached_property
    def load(self) -> Load | None:
        """The load to decide for; None: not known."""
        return known_load(self.state)

    @cached_property
    def max_batch(self) -> int | None:
        """Batch limit that is deployed; None: the engine's own."""
        variant = variant_of(self.spec, self.accelerator)
        container = serving_container(
            self.deployment.pod_spec,
            variant.container if variant else None,
            (self.accelerators[self.accelerator].resource_name,),
        )
        return deployed_batch(self.spec, container) if container is not None else None

    @cached_property
    def holding(self) -> Holding:
        """What it has now."""
        managed = self.spec.batch.mode is BatchMode.MANAGED
        return Holding(self.accelerator, self.deployment.replicas, self.max_batch if managed else None)

    def placement(self, accelerator: str) -> Placement:
        """A profile as this service uses it."""
        return Placement(
            profile=self.accelerators[accelerator],
            variant=variant_of(self.spec, accelerator),
            units=self.units(accelerator),
        )

    def units(self, accelerator: str) -> int:
        """Units of the type that a replica on a profile takes."""
        return units_per_replica(self.accelerators[accelerator], self.performances[accelerator])

    def kind(self, accelerator: str) -> str:
        """The physical type of a profile."""
        return self.accelerators[accelerator].type

    def cost(self, accelerator: str, replicas: int) -> float:
        """Cost per hour of replicas on a profile."""
        return replicas * self.performances[accelerator].acc_count * self.accelerators[accelerator].cost

    @property
    def can_roll(self) -> bool:
        """Whether the pod template may be changed: not where that would be an outage that nobody allows."""
        recreated = self.deployment.strategy.get("type") == "Recreate"
        return self.spec.moves.allow_downtime or self.moving or not recreated

    def excluded(self, snapshot: Snapshot) -> dict[str, str]:
        """Profiles that this service may not use, with the reason."""
        reasons = {}
        for name in sorted(self.performances):
            failed = self.failed_lately(name, snapshot) if name != self.accelerator else None
            if failed is not None:
                reasons[name] = f"MoveFailed: {failed.message} at {failed.time:%H:%M:%S}"
            elif reason := self._exclusion(name):
                reasons[name] = reason
        return reasons

    def failed_lately(self, accelerator: str, snapshot: Snapshot) -> FailedMove | None:
        """The last move to a profile that was rolled back and is not to be tried again yet."""
        failed = self.state.allocation.failed_moves if self.state.allocation is not None else ()
        rest = timedelta(seconds=snapshot.policy.moves.retry_after_seconds)
        lately = [f for f in failed if f.accelerator == accelerator and snapshot.time - f.time < rest]
        return lately[-1] if lately else None

    def _exclusion(self, name: str) -> str:
        profile = self.accelerators[name]
        namespace = self.state.resource.namespace
        # Of the present one too: who is not allowed gets no more of it by already being there.
        if profile.allowed_namespaces and namespace not in profile.allowed_namespaces:
            return f"NotAllowed: AcceleratorProfile {name} does not allow namespace {namespace}"
        if name == self.accelerator:
            return ""
        if self.spec.allowed_accelerators and name not in self.spec.allowed_accelerators:
            return "NotAllowed: not in spec.allowedAccelerators"
        own = self.accelerators[self.accelerator].resource_name
        if profile.resource_name != own and variant_of(self.spec, name) is None:
            return (
                f"NoVariant: {profile.resource_name} differs from {own} and spec.variants has none for {name}"
            )
        if not self.can_roll:
            return (
                "RecreateStrategy: a Deployment with strategy Recreate cannot move without an outage, which"
                " spec.moves.allowDowntime would allow"
            )
        old, new = self.placement(self.accelerator), self.placement(name)
        return template_obstacle(self.spec, self.deployment.pod_spec, old, new)


def examine(state: ServiceState, entries: Catalog, snapshot: Snapshot) -> Subject | Refusal:
    """Everything that a service refers to, or the first thing that is wrong with it."""
    if state.lacks_label:
        return Refusal(
            "Applied",
            "NamespaceNotOptedIn",
            f"namespace {state.resource.namespace} is not open to Inferscale, and nothing in it is changed:"
            f" kubectl label namespace {state.resource.namespace} {state.lacks_label}",
        )
    spec = state.resource.spec
    if spec is None:
        return Refusal("ProfileValid", "InvalidSpec", state.resource.error)
    service_class = entries.classes.get(spec.service_class)
    model = entries.models.get(spec.model)
    if model is None:
        return _missing("model", "ModelProfile", spec.model, entries.models, entries)
    if service_class is None:
        return _missing("serviceClass", "ServiceClass", spec.service_class, entries.classes, entries)
    wrong = _class_refusal(state, spec, service_class)
    if wrong is not None:
        return wrong
    targets = next(t for t in service_class.models if t.model == spec.model)
    performances = entries.performances[spec.model]
    if not performances:
        named = ", ".join(p.accelerator for p in model.profiles)
        return Refusal(
            "ProfileValid",
            "NoPerformanceData",
            f"ModelProfile {spec.model} has data for {named}, none of which is an AcceleratorProfile"
            f" ({_names(entries.accelerators)}): add the profile, or data for one that exists",
        )
    deployment = state.deployment
    if deployment is None:
        return Refusal(
            "Applied",
            "DeploymentNotFound",
            f"spec.targetRef.name: there is no Deployment {spec.target_ref.name!r} in namespace"
            f" {state.resource.namespace}: create it, or name another",
        )
    if deployment.name != spec.target_ref.name:
        return Refusal(
            "Applied",
            "TargetChanged",
            f"spec.targetRef.name is {spec.target_ref.name!r} now: the move of Deployment {deployment.name}"
            " is ended first",
        )
    rivals = entries.targets.get((deployment.namespace, deployment.name), ())
    if len(rivals) > 1:
        return Refusal(
            "Applied",
            "TargetConflict",
            f"spec.targetRef.name: Deployment {deployment.name} is the target of {', '.join(rivals)}:"
            " keep one InferenceService for it",
        )
    accelerator = _accelerator(state, deployment, entries, performances)
    if accelerator is None:
        return _unrecognised(spec, deployment, entries, performances)
    owner = (deployment.namespace, deployment.name)
    return Subject(
        state=state,
        spec=spec,
        service_class=service_class,
        targets=targets,
        deployment=deployment,
        performances=performances,
        accelerators=entries.accelerators,
        accelerator=accelerator,
        behaviour=behaviour(spec, snapshot),
        idle=idleness(state, spec, snapshot),
        unschedulable=unschedulable(
            accelerator,
            entries.waiting.get(owner, ()),
            entries.placed,
            deployment.namespace,
            state.allocation,
            snapshot.policy.safety,
            snapshot.time,
        ),
    )


def _accelerator(
    state: ServiceState,
    deployment: DeploymentState,
    entries: Catalog,
    performances: Mapping[str, PerformanceSchema],
) -> str | None:
    """During a move the template is already the new one; the old replicas still serve."""
    move = state.allocation.move if state.allocation is not None else None
    if move is not None and move.source.accelerator in performances:
        return move.source.accelerator
    return recognise(deployment, entries.accelerators, performances.values())


def _class_refusal(
    state: ServiceState, spec: InferenceServiceSpec, service_class: ServiceClassSpec
) -> Refusal | None:
    namespace = state.resource.namespace
    if service_class.allowed_namespaces and namespace not in service_class.allowed_namespaces:
        return Refusal(
            "ProfileValid",
            "ClassNotAllowed",
            f"spec.serviceClass: ServiceClass {spec.service_class} does not allow namespace {namespace}"
            f" (allowed: {', '.join(service_class.allowed_namespaces)})",
        )
    if not any(t.model == spec.model for t in service_class.models):
        return Refusal(
            "ProfileValid",
            "ModelNotInClass",
            f"spec.serviceClass: ServiceClass {spec.service_class} has no objectives for model {spec.model}"
            f" (it has {', '.join(t.model for t in service_class.models)}): add it to its spec.models",
        )
    return None


def _missing(field: str, kind: str, name: str, known: Mapping[str, object], entries: Catalog) -> Refusal:
    error = entries.invalid.get((kind, name))
    if error is not None:
        return Refusal(
            "ProfileValid", f"{_short(kind)}Invalid", f"spec.{field}: {kind} {name} is not valid: {error}"
        )
    return Refusal(
        "ProfileValid",
        f"{_short(kind)}NotFound",
        f"spec.{field}: {name!r} is not a {kind}: create it, or name one of {_names(known)}",
    )


def _short(kind: str) -> str:
    return {"ModelProfile": "Model", "ServiceClass": "Class"}[kind]


def _unrecognised(
    spec: InferenceServiceSpec,
    deployment: DeploymentState,
    entries: Catalog,
    performances: Mapping[str, PerformanceSchema],
) -> Refusal:
    asked: Counter[str] = Counter()
    for container in deployment.pod_spec.get("containers") or ():
        for name, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            if "/" in name:
                asked[f"{amount} {name}"] += 1
    selector = ", ".join(
        f"{k}={v}" for k, v in sorted((deployment.pod_spec.get("nodeSelector") or {}).items())
    )
    wanted = "; ".join(
        f"{name} is {units_per_replica(entries.accelerators[name], performance)}"
        f" {entries.accelerators[name].resource_name} on"
        f" {', '.join(f'{k}={v}' for k, v in sorted(entries.accelerators[name].node_selector.items()))}"
        for name, performance in sorted(performances.items())
    )
    return Refusal(
        "ProfileValid",
        "AcceleratorNotRecognised",
        f"Deployment {deployment.name} asks for {', '.join(sorted(asked)) or 'no accelerator'} with node"
        f" selector {{{selector}}}, which is no accelerator profile of model {spec.model} ({wanted}):"
        " set both in its pod template",
    )


def applies(spec: InferenceServiceSpec) -> bool:
    """Whether the Deployment may be patched at all."""
    return spec.mode in _PATCHED


def _names(known: Iterable[str]) -> str:
    return ", ".join(sorted(known)) or "none exist"


def unknown_references(named: Iterable[tuple[str, str]], what: str, known: Collection[str]) -> str:
    """Which references lead nowhere, and what would be right; empty: all lead somewhere.

    Args:
        named: Path of the field and the name in it.
        what: What should be named, with its article: `a ModelProfile`.
        known: Names of the objects of that kind.
    """
    wrong = [f'{path}: "{name}" is not {what}' for path, name in named if name not in known]
    return f"{'; '.join(wrong)}: create it, or name one of {_names(known)}" if wrong else ""
