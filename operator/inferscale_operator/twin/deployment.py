"""A Deployment as its controllers treat it: the parts of a rollout that matter to moves.

After `sync`, `rolloutRolling`, `rolloutRecreate`, `scale` and `GetReplicaSetProportion` of the controller
manager: a new number of replicas is a scaling event that comes before the template and is shared out between
the ReplicaSets; a rollout stays within surge and unavailability; a paused one starts nothing new.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from inferscale_operator.snapshot import DeploymentState, ReplicaSetState

STRATEGY = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
"""What Kubernetes gives a Deployment that names none."""


@dataclass(eq=False)
class Pod:
    """A pod of a ReplicaSet. Times are in seconds."""

    name: str
    template: Mapping[str, Any]
    created_s: float
    node: str | None = None
    """None: no node has room for it."""
    ready_s: float | None = None
    """When it became ready; None: it is not."""


@dataclass(eq=False)
class ReplicaSet:
    """A ReplicaSet of a Deployment."""

    name: str
    template: Mapping[str, Any]
    revision: int
    desired: int = 0
    """Pods that it should have."""
    scaled_for: int = 0
    """Replicas of the Deployment when it was scaled last."""
    max_pods: int = 0
    """Replicas and surge of the Deployment then."""
    pods: list[Pod] = field(default_factory=list)

    @property
    def ready(self) -> int:
        """Pods that are ready."""
        return sum(pod.ready_s is not None for pod in self.pods)


@dataclass
class Deployment:
    """A Deployment with its ReplicaSets: `patch` changes what is asked for, `sync` is one round."""

    namespace: str
    name: str
    replicas: int
    template: Mapping[str, Any]
    strategy: Mapping[str, Any] = field(default_factory=lambda: STRATEGY)
    paused: bool = False
    writer: str = ""
    """Who else wrote to the template."""
    generation: int = 1
    observed: int = 0
    version: int = 1
    sets: list[ReplicaSet] = field(default_factory=list)
    _made: int = 0

    @property
    def pods(self) -> Iterator[Pod]:
        """All pods, the oldest ReplicaSet first."""
        return (pod for each in self.sets for pod in each.pods)

    def state(self) -> DeploymentState:
        """As the operator reads it."""
        return DeploymentState(
            namespace=self.namespace,
            name=self.name,
            uid=f"uid-{self.name}",
            resource_version=str(self.version),
            generation=self.generation,
            observed_generation=self.observed,
            revision=max((s.revision for s in self.sets), default=0),
            replicas=self.replicas,
            ready_replicas=sum(s.ready for s in self.sets),
            paused=self.paused,
            strategy=self.strategy,
            pod_spec=self.template,
            template_hash=_hash(self.template),
            template_writer=self.writer,
            replica_sets=tuple(
                ReplicaSetState(s.name, s.revision, s.desired, len(s.pods), s.ready) for s in self.sets
            ),
        )

    def patch(self, body: Mapping[str, Any]) -> None:
        """Apply a strategic merge patch."""
        spec = body["spec"]
        self.replicas = spec.get("replicas", self.replicas)
        self.paused = spec.get("paused", self.paused)
        self.strategy = merged({"strategy": self.strategy}, {"strategy": spec.get("strategy", {})})[
            "strategy"
        ]
        if template := (spec.get("template") or {}).get("spec"):
            self.template = merged(self.template, template)
        self.generation += 1
        self.version += 1

    def sync(self, now_s: float) -> list[Pod]:
        """One round of the controllers.

        Returns:
            The pods that were deleted. New ones are in `pods`, without a node.
        """
        self._plan()
        self.observed = self.generation
        deleted = []
        for each in self.sets:
            while len(each.pods) > each.desired:
                # Those without a node go first, then those that are not ready, then the youngest.
                pod = min(each.pods, key=lambda p: (p.node is not None, p.ready_s is not None, -p.created_s))
                each.pods.remove(pod)
                deleted.append(pod)
            while len(each.pods) < each.desired:
                self._made += 1
                each.pods.append(Pod(f"{each.name}-{_suffix(self._made)}", each.template, now_s))
        # An empty ReplicaSet is kept for rolling back; of several the newest.
        empty = [s for s in self.sets if not s.desired and not s.pods and s.template != self.template]
        for each in empty[:-2]:
            self.sets.remove(each)
        return deleted

    @property
    def surge(self) -> int:
        """Pods beyond the replicas that a rollout may make."""
        if self._recreated:
            return 0
        return _share(self._rolling["maxSurge"], self.replicas, math.ceil)

    @property
    def unavailable(self) -> int:
        """Pods that a rollout may do without."""
        share = _share(self._rolling["maxUnavailable"], self.replicas, math.floor)
        return min(max(share, 0 if self.surge else 1), self.replicas)

    @property
    def _recreated(self) -> bool:
        return self.strategy.get("type") == "Recreate"

    @property
    def _rolling(self) -> Mapping[str, Any]:
        return {**STRATEGY["rollingUpdate"], **(self.strategy.get("rollingUpdate") or {})}  # type: ignore[dict-item]

    def _plan(self) -> None:
        new = next((s for s in self.sets if s.template == self.template), None)
        top = max((s.revision for s in self.sets), default=0)
        if new is not None and new.revision < top:
            new.revision = top + 1
        active = [s for s in self.sets if s.desired > 0]
        if self.paused or any(s.scaled_for != self.replicas for s in active):
            self._scale(new, active)
            return
        if self._recreated and any(s is not new and s.pods for s in self.sets):
            for each in active:
                if each is not new:
                    self._resize(each, 0)
            return
        if new is None:
            new = ReplicaSet(f"{self.name}-{top + 1}", self.template, top + 1)
            self.sets.append(new)
            self._resize(new, min(self._room(), self.replicas))
            return
        if new.desired > self.replicas:
            self._resize(new, self.replicas)
        elif new.desired < self.replicas and self._room() > 0:
            self._resize(new, new.desired + min(self._room(), self.replicas - new.desired))
        elif not self._recreated:
            self._shrink_old(new)

    def _room(self) -> int:
        return self.replicas + self.surge - sum(s.desired for s in self.sets)

    def _shrink_old(self, new: ReplicaSet) -> None:
        old = [s for s in self.sets if s is not new and s.desired > 0]
        least = self.replicas - self.unavailable
        spare = sum(s.desired for s in self.sets) - least - (new.desired - new.ready)
        for each in old:
            unhealthy = min(max(spare, 0), each.desired - each.ready)
            self._resize(each, each.desired - unhealthy)
            spare -= unhealthy
        if spare <= 0:
            return
        extra = sum(s.ready for s in self.sets) - least
        for each in old:
            gone = min(max(extra, 0), each.desired)
            self._resize(each, each.desired - gone)
            extra -= gone

    def _scale(self, new: ReplicaSet | None, active: Sequence[ReplicaSet]) -> None:
        if len(active) <= 1:
            only = active[0] if active else new
            if only is not None:
                self._resize(only, self.replicas)
            return
        if new is not None and new.desired == new.scaled_for == self.replicas == new.ready:
            for each in active:
                if each is not new:
                    self._resize(each, 0)
            return
        add = (self.replicas + self.surge if self.replicas else 0) - sum(s.desired for s in active)
        order = sorted(active, key=lambda s: (-s.desired, -s.revision if add > 0 else s.revision))
        sizes, added = [], 0
        for each in order:
            part = self._proportion(each, add, added)
            sizes.append(each.desired + part)
            added += part
        sizes[0] = max(sizes[0] + add - added, 0)
        for each, size in zip(order, sizes, strict=True):
            self._resize(each, size)

    def _proportion(self, each: ReplicaSet, add: int, added: int) -> int:
        if add == added:
            return 0
        if self.replicas == 0:
            share = -each.desired
        else:
            size = each.desired * (self.replicas + self.surge) / each.max_pods
            share = math.floor(size + 0.5) - each.desired
        return min(share, add - added) if add > 0 else max(share, add - added)

    def _resize(self, each: ReplicaSet, size: int) -> None:
        each.desired, each.scaled_for, each.max_pods = size, self.replicas, self.replicas + self.surge


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """What a strategic merge patch makes of a Deployment's spec or a part of it.

    The subset that is used: maps merge and null deletes; containers and env merge by name, with `$patch:
    delete`; other lists are replaced; `$retainKeys` drops the other keys of its map.
    """
    result = dict(base)
    if "$retainKeys" in patch:
        result = {k: v for k, v in result.items() if k in patch["$retainKeys"]}
    for key, value in patch.items():
        if key == "$retainKeys":
            continue
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            result[key] = merged(result.get(key) or {}, value)
        elif key in ("containers", "env"):
            result[key] = _merged_list(result.get(key) or (), value)
        else:
            result[key] = value
    return result


def _merged_list(base: Sequence[Mapping[str, Any]], patch: Sequence[Mapping[str, Any]]) -> list[Any]:
    items = {item["name"]: dict(item) for item in base}
    for change in patch:
        if change.get("$patch") == "delete":
            items.pop(change["name"], None)
        else:
            items[change["name"]] = merged(items.get(change["name"], {}), change)
    return list(items.values())


def _share(value: int | str, of: int, rounded: Callable[[float], int]) -> int:
    return rounded(int(value[:-1]) * of / 100) if isinstance(value, str) else value


def _hash(template: Mapping[str, Any]) -> str:
    return sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:16]


def _suffix(number: int) -> str:
    """Five characters, as the API server gives."""
    return f"{number:05d}"[-5:]
