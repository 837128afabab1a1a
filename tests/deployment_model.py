"""A Deployment as its controllers treat it, for tests of moves: the parts of the rollout that matter.

After `sync`, `rolloutRolling`, `rolloutRecreate`, `scale` and `GetReplicaSetProportion` of the controller
manager: a new number of replicas is a scaling event that comes before the template and is shared out between
the ReplicaSets; a rollout stays within surge and unavailability; a paused one starts nothing new. Pods become
ready after a while, if their template can run at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from builders import STRATEGY, deployment, merged, pod_spec
from inferscale_operator.plan import DeploymentPatch
from inferscale_operator.snapshot import DeploymentState, ReplicaSetState

START_S = 20


@dataclass
class ReplicaSet:
    template: Mapping[str, Any]
    revision: int
    desired: int = 0
    """Pods that it should have."""
    scaled_for: int = 0
    """Replicas of the Deployment when it was scaled last."""
    max_pods: int = 0
    """Replicas and surge of the Deployment then."""
    ages: list[int] = field(default_factory=list)
    """Seconds since each pod was made."""


@dataclass
class ModelDeployment:
    """The Deployment. `runs` tells how many pods of a template can run."""

    replicas: int
    runs: Callable[[Mapping[str, Any]], int] = lambda _: 1000
    template: Mapping[str, Any] = field(default_factory=pod_spec)
    strategy: Mapping[str, Any] = field(default_factory=lambda: STRATEGY)
    paused: bool = False
    writer: str = ""
    """Who else wrote to the template."""
    generation: int = 1
    observed: int = 0
    version: int = 1
    sets: list[ReplicaSet] = field(default_factory=list)

    def __post_init__(self) -> None:
        for _ in range(3):
            self.step(START_S)

    def state(self) -> DeploymentState:
        return deployment(
            replicas=self.replicas,
            resource_version=str(self.version),
            generation=self.generation,
            observed_generation=self.observed,
            revision=max((s.revision for s in self.sets), default=0),
            ready_replicas=sum(self.ready(s) for s in self.sets),
            paused=self.paused,
            strategy=self.strategy,
            pod_spec=self.template,
            template_hash=str(self.template),
            template_writer=self.writer,
            replica_sets=tuple(
                ReplicaSetState(f"llama-{i}", s.revision, s.desired, len(s.ages), self.ready(s))
                for i, s in enumerate(self.sets)
            ),
        )

    def apply(self, patch: DeploymentPatch) -> None:
        spec = patch.body["spec"]
        self.replicas = spec.get("replicas", self.replicas)
        self.paused = spec.get("paused", self.paused)
        self.strategy = merged({"strategy": self.strategy}, {"strategy": spec.get("strategy", {})})[
            "strategy"
        ]
        self.template = merged(self.template, spec.get("template", {}).get("spec", {}))
        self.generation += 1
        self.version += 1

    def step(self, seconds: int = 5) -> None:
        """Time passes, and the controllers do what they do then."""
        for each in self.sets:
            each.ages = [age + seconds for age in each.ages]
        self._sync()
        self.observed = self.generation
        for each in self.sets:
            while len(each.ages) > each.desired:
                each.ages.remove(min(each.ages))
            each.ages += [0] * (each.desired - len(each.ages))

    def ready(self, each: ReplicaSet) -> int:
        able = self.runs(each.template)
        return sum(age >= START_S for age in sorted(each.ages, reverse=True)[:able])

    def ready_on(self, label: str) -> int:
        """Ready pods whose node selector has the label."""
        return sum(self.ready(s) for s in self.sets if s.template["nodeSelector"]["gpu"] == label)

    @property
    def surge(self) -> int:
        if self.strategy["type"] == "Recreate":
            return 0
        return _share(self.strategy["rollingUpdate"]["maxSurge"], self.replicas, math.ceil)

    @property
    def unavailable(self) -> int:
        share = _share(self.strategy["rollingUpdate"]["maxUnavailable"], self.replicas, math.floor)
        return min(max(share, 0 if self.surge else 1), self.replicas)

    def _sync(self) -> None:
        new = next((s for s in self.sets if s.template == self.template), None)
        top = max((s.revision for s in self.sets), default=0)
        if new is not None and new.revision < top:
            new.revision = top + 1
        active = [s for s in self.sets if s.desired > 0]
        if self.paused or any(s.scaled_for != self.replicas for s in active):
            self._scale(new, active)
            return
        recreated = self.strategy["type"] == "Recreate"
        if recreated and any(s is not new and s.ages for s in self.sets):
            for each in active:
                if each is not new:
                    self._resize(each, 0)
            return
        if new is None:
            new = ReplicaSet(self.template, top + 1)
            self.sets.append(new)
            self._resize(new, min(self._room(), self.replicas))
            return
        if new.desired > self.replicas:
            self._resize(new, self.replicas)
        elif new.desired < self.replicas and self._room() > 0:
            self._resize(new, new.desired + min(self._room(), self.replicas - new.desired))
        elif not recreated:
            self._shrink_old(new)

    def _room(self) -> int:
        return self.replicas + self.surge - sum(s.desired for s in self.sets)

    def _shrink_old(self, new: ReplicaSet) -> None:
        old = [s for s in self.sets if s is not new and s.desired > 0]
        least = self.replicas - self.unavailable
        spare = sum(s.desired for s in self.sets) - least - (new.desired - self.ready(new))
        for each in old:
            unhealthy = min(max(spare, 0), each.desired - self.ready(each))
            self._resize(each, each.desired - unhealthy)
            spare -= unhealthy
        if spare <= 0:
            return
        extra = sum(self.ready(s) for s in self.sets) - least
        for each in old:
            gone = min(max(extra, 0), each.desired)
            self._resize(each, each.desired - gone)
            extra -= gone

    def _scale(self, new: ReplicaSet | None, active: list[ReplicaSet]) -> None:
        if len(active) <= 1:
            only = active[0] if active else new
            if only is not None:
                self._resize(only, self.replicas)
            return
        if new is not None and new.desired == new.scaled_for == self.replicas == self.ready(new):
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


def _share(value: int | str, of: int, rounded: Callable[[float], int]) -> int:
    return rounded(int(value[:-1]) * of / 100) if isinstance(value, str) else value
