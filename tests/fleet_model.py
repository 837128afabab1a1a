"""Several Deployments on a cluster's accelerators, and decisions carried out on them, for tests of moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from builders import NAMESPACE, NOW, NVIDIA, node, pod_spec, world
from deployment_model import ModelDeployment
from inferscale_operator.decide import advance, decide
from inferscale_operator.plan import Plan
from inferscale_operator.snapshot import PodState, ServiceState, Snapshot

STEP_S = 5


@dataclass
class ModelFleet:
    """Services (their Deployments are made here) on so many units of each type, one node a type."""

    units: Mapping[str, int]
    services: dict[str, ServiceState]
    rates: Mapping[str, float]
    """Requests per minute that a replica serves within the objectives, by type."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What differs from `builders.world`."""
    deployments: dict[str, ModelDeployment] = field(default_factory=dict)
    placed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Pods that have a node, by Deployment and ReplicaSet."""
    time: float = 0.0
    plan: Plan | None = None
    reasons: list[tuple[str, str]] = field(default_factory=list)
    """Service and reason of every event."""

    def __post_init__(self) -> None:
        for name, state in self.services.items():
            assert state.deployment is not None
            kind = state.deployment.pod_spec["nodeSelector"]["gpu"]
            model = ModelDeployment(state.deployment.replicas, template=pod_spec(kind))
            model.runs = lambda template, name=name: self._running(name, template)
            self.deployments[name] = model
        self._place()
        for model in self.deployments.values():
            model.step(0)

    def snapshot(self) -> Snapshot:
        """The world as it is."""
        states = []
        for name, state in self.services.items():
            model = replace(self.deployments[name].state(), name=name, uid=f"uid-{name}")
            self.services[name] = replace(state, deployment=model)
            states.append(self.services[name])
        fields = {"nodes": tuple(node(k.lower(), k, n) for k, n in self.units.items()), **self.fields}
        now = NOW + timedelta(seconds=self.time)
        return replace(world(*states, **fields), time=now, pods=tuple(self._pods()))

    def tick(self, *, full: bool) -> None:
        """A decision (or only the moves) is carried out, and time passes."""
        snapshot = self.snapshot()
        plan = decide(snapshot) if full else advance(snapshot)
        if full:
            self.plan = plan
        for service in plan.services:
            name = service.service.name
            self.services[name] = replace(self.services[name], allocation=service.allocation)
            self.reasons += [(name, event.reason) for event in service.status.events]
            if service.patch is not None:
                self.deployments[name].apply(service.patch)
        for model in self.deployments.values():
            model.step(STEP_S)
            self._place()
        self.time += STEP_S

    def serves(self, name: str) -> float:
        """Requests per minute that its ready replicas serve."""
        return sum(rate * self.deployments[name].ready_on(kind) for kind, rate in self.rates.items())

    def where(self, name: str) -> tuple[str, int]:
        """Type of its template, and replicas."""
        model = self.deployments[name]
        return model.template["nodeSelector"]["gpu"], model.replicas

    def pending(self) -> int:
        """Pods without a node."""
        return sum(len(s.pods) for d in self.deployments.values() for s in d.sets) - sum(self.placed.values())

    def message(self, name: str) -> str:
        """What the last full decision said of a service."""
        assert self.plan is not None
        return next(s.allocation.message for s in self.plan.services if s.service.name == name)

    def _running(self, name: str, template: Mapping[str, Any]) -> int:
        sets = [s for s in self.deployments[name].sets if s.template == template]
        return sum(self.placed[name, s.name] for s in sets)

    def _place(self) -> None:
        """The scheduler: who has a node keeps it."""
        self.placed = Counter(
            {
                (name, each.name): min(self.placed[name, each.name], len(each.pods))
                for name, model in self.deployments.items()
                for each in model.sets
            }
        )
        for name, model in self.deployments.items():
            for each in model.sets:
                kind = each.template["nodeSelector"]["gpu"]
                waiting = len(each.pods) - self.placed[name, each.name]
                self.placed[name, each.name] += min(waiting, self.units.get(kind, 0) - self._used(kind))

    def _used(self, kind: str) -> int:
        return sum(
            self.placed[name, each.name]
            for name, model in self.deployments.items()
            for each in model.sets
            if each.template["nodeSelector"]["gpu"] == kind
        )

    def _pods(self) -> list[PodState]:
        pods = []
        for name, model in self.deployments.items():
            for each in model.sets:
                kind, placed = each.template["nodeSelector"]["gpu"], self.placed[name, each.name]
                for i in range(len(each.pods)):
                    on = kind.lower() if i < placed else None
                    requests = {NVIDIA: 1}
                    pods.append(
                        PodState(NAMESPACE, f"{name}-{each.name}-{i}", name, on, requests, bool(on), False)
                    )
        return pods
