"""What the watches told, one store for each kind: small objects in a dictionary, copied for a tick.

Events come in the order of one object's changes only, and a listing may be older than an event: an object
is replaced only by a newer resourceVersion. Stores belong to the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from typing import Any, Generic, TypeVar

from inferscale_operator.api.accelerator_profile import AcceleratorProfileSpec
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.api.inference_service import InferenceServiceSpec
from inferscale_operator.api.model_profile import ModelProfileSpec
from inferscale_operator.api.optimizer_policy import POLICY_NAME, OptimizerPolicySpec
from inferscale_operator.api.service_class import ServiceClassSpec
from inferscale_operator.kube import kinds, parse
from inferscale_operator.kube.kinds import Kind
from inferscale_operator.kube.scope import Scope
from inferscale_operator.snapshot import DeploymentState, NodeState
from inferscale_queueing.frozen import frozen

Value = TypeVar("Value")
Key = tuple[str, str]
"""Namespace (empty for cluster-scoped) and name."""
Raw = Mapping[str, Any]


@frozen
class Change(Generic[Value]):
    """What an event changed."""

    before: Value | None
    after: Value | None

    def __bool__(self) -> bool:
        return self.before != self.after


@frozen
class Answer:
    """What the API server answered to a write: the object as it is now."""

    kind: Kind
    raw: Raw
    created: bool = False


@frozen
class Listed:
    """Which objects of a kind there are."""

    keys: frozenset[Key]
    as_of: int
    """Resource version of the listing; of several, of the oldest."""


def key_of(raw: Raw) -> Key:
    """Namespace and name of an object."""
    return (raw["metadata"].get("namespace", ""), raw["metadata"]["name"])


class Store(Generic[Value]):
    """The objects of one kind.

    Args:
        parse: Makes a small object of JSON; None for an object that is of no interest.
    """

    def __init__(self, parse: Callable[[Raw], Value | None]) -> None:
        self._parse = parse
        self._values: dict[Key, Value] = {}
        self._versions: dict[Key, int] = {}
        self.complete = False
        """Whether the first listing is in."""

    def seed(self, listing: Raw) -> None:
        """Take in the first listing, or a page of it; the last one makes it complete."""
        for item in listing.get("items") or ():
            self.apply(None, item)
        self.complete = not (listing.get("metadata") or {}).get("continue")

    def apply(self, event: str | None, raw: Raw) -> Change[Value]:
        """Take in an event (`ADDED`, `MODIFIED`, `DELETED`, None for a listing) and tell what changed."""
        key, version = key_of(raw), int(raw["metadata"]["resourceVersion"])
        before = self._values.get(key)
        if version < self._versions.get(key, 0):
            return Change(before, before)
        after = None if event == "DELETED" else self._parse(raw)
        if after is None:
            self._values.pop(key, None)
            self._versions.pop(key, None)
        else:
            self._values[key] = after
            self._versions[key] = version
        return Change(before, after)

    def knows(self, raw: Raw) -> bool:
        """Whether an object of this name is there."""
        return key_of(raw) in self._values

    def reconcile(self, listed: Listed) -> tuple[Key, ...]:
        """Drop what a listing no longer has: deletions that no watch delivered.

        Returns:
            The keys of what was dropped.
        """
        # What is newer than the listing may have come after it.
        gone = tuple(
            key
            for key, version in self._versions.items()
            if version <= listed.as_of and key not in listed.keys
        )
        for key in gone:
            del self._values[key], self._versions[key]
        return gone

    def copy(self) -> Mapping[Key, Value]:
        """The objects as they are now."""
        return dict(self._values)


@frozen
class World:
    """A copy of all stores at one moment."""

    accelerator_profiles: Mapping[Key, parse.CustomRecord[AcceleratorProfileSpec]] = field(
        default_factory=dict
    )
    model_profiles: Mapping[Key, parse.CustomRecord[ModelProfileSpec]] = field(default_factory=dict)
    service_classes: Mapping[Key, parse.CustomRecord[ServiceClassSpec]] = field(default_factory=dict)
    policies: Mapping[Key, parse.CustomRecord[OptimizerPolicySpec]] = field(default_factory=dict)
    services: Mapping[Key, parse.CustomRecord[InferenceServiceSpec]] = field(default_factory=dict)
    allocations: Mapping[Key, parse.AllocationRecord] = field(default_factory=dict)
    nodes: Mapping[Key, NodeState] = field(default_factory=dict)
    pods: Mapping[Key, parse.PodRecord] = field(default_factory=dict)
    deployments: Mapping[Key, DeploymentState] = field(default_factory=dict)
    replica_sets: Mapping[Key, parse.ReplicaSetRecord] = field(default_factory=dict)
    autoscalers: Mapping[Key, parse.AutoscalerRecord] = field(default_factory=dict)
    namespaces: Mapping[Key, Mapping[str, str]] = field(default_factory=dict)
    """Labels of the namespaces, where they are read."""
    scope: Scope = field(default_factory=Scope)
    """What of the cluster is read."""
    saved: float | None = None
    """What was saved up to the last tick of this process; None: it has not ticked."""
    kept_policy: OptimizerPolicySpec | None = None
    """The last OptimizerPolicy that could be used, as long as there is one at all."""

    @property
    def moving(self) -> bool:
        """Whether a change of accelerator or batch is under way."""
        return any(
            record.status is not None and record.status.move is not None
            for record in self.allocations.values()
        )

    def status_of(self, kind: str, key: Key) -> Mapping[str, Any]:
        """Status of a custom resource as it is on the API server."""
        record = self._record(kind, key)
        return record.status if record is not None else {}

    def resource_version_of(self, kind: str, key: Key) -> str:
        """ResourceVersion of a custom resource as it was read; empty: it is not there."""
        record = self._record(kind, key)
        return record.resource_version if record is not None else ""

    def _record(self, kind: str, key: Key) -> parse.CustomRecord[Any] | None:
        records: Mapping[Key, parse.CustomRecord[Any]] = {
            kinds.ACCELERATOR_PROFILE.name: self.accelerator_profiles,
            kinds.MODEL_PROFILE.name: self.model_profiles,
            kinds.SERVICE_CLASS.name: self.service_classes,
            kinds.OPTIMIZER_POLICY.name: self.policies,
            kinds.INFERENCE_SERVICE.name: self.services,
        }.get(kind, {})  # type: ignore[assignment]
        return records.get(key)


class Stores:
    """One store for each kind.

    Args:
        scope: What of the cluster is read; None: all of it.
    """

    def __init__(self, scope: Scope | None = None) -> None:
        self.scope = scope or Scope()
        self.accelerator_profiles = Store(lambda raw: parse.parse_custom(raw, AcceleratorProfileSpec))
        self.model_profiles = Store(lambda raw: parse.parse_custom(raw, ModelProfileSpec))
        self.service_classes = Store(lambda raw: parse.parse_custom(raw, ServiceClassSpec))
        self.policies = Store(lambda raw: parse.parse_custom(raw, OptimizerPolicySpec))
        self.services = Store(lambda raw: parse.parse_custom(raw, InferenceServiceSpec))
        self.allocations = Store(parse.parse_allocation)
        self.nodes = Store(parse.parse_node)
        self.pods = Store(parse.parse_pod)
        self.deployments = Store(parse.parse_deployment)
        self.replica_sets = Store(parse.parse_replica_set)
        self.autoscalers = Store(parse.parse_autoscaler)
        self.namespaces = Store(parse.parse_namespace)
        everything: Mapping[Kind, Store[Any]] = {
            kinds.ACCELERATOR_PROFILE: self.accelerator_profiles,
            kinds.MODEL_PROFILE: self.model_profiles,
            kinds.SERVICE_CLASS: self.service_classes,
            kinds.OPTIMIZER_POLICY: self.policies,
            kinds.INFERENCE_SERVICE: self.services,
            kinds.INFERENCE_ALLOCATION: self.allocations,
            kinds.NODE: self.nodes,
            kinds.POD: self.pods,
            kinds.DEPLOYMENT: self.deployments,
            kinds.REPLICA_SET: self.replica_sets,
            kinds.AUTOSCALER: self.autoscalers,
            kinds.NAMESPACE: self.namespaces,
        }
        self.by_kind = {kind: everything[kind] for kind in self.scope.kinds}
        self._kept_policy: OptimizerPolicySpec | None = None

    def keep_policy(self) -> None:
        """Remember the OptimizerPolicy if it can be used, and forget it when there is none."""
        record = self.policies.copy().get(("", POLICY_NAME))
        if record is None or record.resource.spec is not None:
            self._kept_policy = record.resource.spec if record is not None else None

    @property
    def complete(self) -> bool:
        """Whether the first listing of every kind is in."""
        return all(store.complete for store in self.by_kind.values())

    def custom_uids(self) -> set[str]:
        """Uids of the custom resources that people wrote."""
        return {
            record.resource.uid
            for kind, store in self.by_kind.items()
            if kind.custom and kind is not kinds.INFERENCE_ALLOCATION
            for record in store.copy().values()
        }

    def absorb(self, answers: Iterable[Answer]) -> None:
        """Take in what the API server answered to writes, rather than wait for the watches to tell."""
        for answer in answers:
            store = self.by_kind[answer.kind]
            # The watch may have told already that a patched object is gone: it must not come back.
            if answer.created or store.knows(answer.raw):
                store.apply("MODIFIED", answer.raw)

    def copy(self, held: Mapping[str, InferenceAllocationStatus]) -> World:
        """A copy of everything.

        Args:
            held: By uid of the InferenceAllocation, statuses that were decided and not yet written.
        """
        self.keep_policy()
        allocations = {
            key: replace(record, status=held.get(record.uid, record.status))
            for key, record in self.allocations.copy().items()
        }
        return World(
            accelerator_profiles=self.accelerator_profiles.copy(),
            model_profiles=self.model_profiles.copy(),
            service_classes=self.service_classes.copy(),
            policies=self.policies.copy(),
            services=self.services.copy(),
            allocations=allocations,
            nodes=self.nodes.copy(),
            pods=self.pods.copy(),
            deployments=self.deployments.copy(),
            replica_sets=self.replica_sets.copy(),
            autoscalers=self.autoscalers.copy(),
            namespaces=self.namespaces.copy(),
            scope=self.scope,
            kept_policy=self._kept_policy,
        )
