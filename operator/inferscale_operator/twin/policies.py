"""What the product is compared with: nothing, Kubernetes' own autoscaler, a threshold scaler, and a seer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from inferscale_operator.api.behavior import Behavior, ScalingRules
from inferscale_operator.api.optimizer_policy import OptimizerPolicySpec
from inferscale_operator.decide import decide
from inferscale_operator.snapshot import LoadState, ObservedLoad, ServiceState, Snapshot
from inferscale_operator.twin.cluster import Cluster
from inferscale_operator.twin.history import Decision, History
from inferscale_operator.twin.resources import Setting, SimulatedService
from inferscale_operator.twin.samples import Samples
from inferscale_operator.twin.traffic import Traffic
from inferscale_queueing.frozen import frozen

WINDOW_S = 1.0
"""Steps in which a coming load is integrated."""


class Policy(Protocol):
    """Whatever scales the services."""

    next_s: float
    """When it wants to act next."""

    def act(self, now_s: float) -> None:
        """Look and act."""

    def wake(self, now_s: float) -> None:
        """The cluster may have changed."""


class Servers(Protocol):
    """What a scaler can see besides the metrics."""

    def load(self, service: int) -> tuple[float, float]:
        """Requests of a service that run and wait, those without a pod included."""


@dataclass
class Static:
    """Everything stays as it is."""

    next_s: float = math.inf

    def act(self, now_s: float) -> None:
        """Nothing."""

    def wake(self, now_s: float) -> None:
        """Nothing."""


@frozen
class HpaSettings:
    """A HorizontalPodAutoscaler (v2) on the average of a metric of the pods; Kubernetes' own defaults."""

    metric: str
    target: float
    tolerance: float = 0.1
    sync_s: float = 15.0
    up_window_s: float = 0.0
    down_window_s: float = 300.0
    policy_s: float = 15.0
    """Time that the limits on steps hold for."""
    up_percent: float = 100.0
    up_pods: int = 4
    down_percent: float = 100.0


@dataclass
class _Scaling:
    """What an autoscaler remembers of one workload."""

    recommendations: list[tuple[float, int]] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)
    last_active_s: float = 0.0


@dataclass
class Hpa:
    """Kubernetes' own algorithm, per service: `ceil(replicas · average / target)` within tolerance.

    A pod that is not ready counts as idle when it would scale up. Of the recommendations of the window of a
    direction the smallest (up) or the largest (down) holds, and steps are limited: up to the double or 4 more
    in 15 s, down to nothing.
    """

    setting: Setting
    cluster: Cluster
    samples: Samples
    history: History
    hpa: HpaSettings
    next_s: float = 0.0
    _scalings: dict[str, _Scaling] = field(default_factory=dict)

    def wake(self, now_s: float) -> None:
        """It looks at its own times only."""

    def act(self, now_s: float) -> None:
        """Scale every service."""
        self.next_s = now_s + self.hpa.sync_s
        values = self.samples.instant(self.hpa.metric, self.setting.start.timestamp() + now_s)
        found = {
            key: float(value)
            for key, value in zip(self.samples.keys, values, strict=True)
            if not math.isnan(value)
        }
        for service in self.setting.services:
            self._scale(service, found, now_s)

    def _scale(self, service: SimulatedService, found: Mapping[tuple[str, str], float], now_s: float) -> None:
        deployment = self.cluster.deployments[service.key]
        replicas = deployment.replicas
        if replicas == 0:
            # It is off.
            return
        namespace = service.resource.namespace or ""
        pods = list(deployment.pods)
        seen = [
            found[namespace, p.name] for p in pods if p.ready_s is not None and (namespace, p.name) in found
        ]
        if not seen:
            return
        desired = self.desired(seen, len(pods) - len(seen), replicas)
        self.follow(service, desired, now_s, f"{self.hpa.metric} {sum(seen) / len(seen):.3g}")

    def desired(self, seen: Sequence[float], unseen: int, replicas: int) -> int:
        """Replicas by the values of the pods that report, with `unseen` others that start."""
        hpa = self.hpa
        ratio = sum(seen) / len(seen) / hpa.target
        if abs(ratio - 1) <= hpa.tolerance:
            return replicas
        if not unseen:
            return math.ceil(ratio * len(seen))
        # Those that start count as idle if it would go up, and as at the target if it would go down.
        total = sum(seen) / hpa.target + (0 if ratio > 1 else unseen)
        all_pods = len(seen) + unseen
        again = total / all_pods
        if abs(again - 1) <= hpa.tolerance or (ratio > 1) != (again > 1):
            return replicas
        return math.ceil(total)

    def follow(self, service: SimulatedService, desired: int, now_s: float, why: str) -> None:
        """Go to what is desired as far as windows, limits and bounds let it."""
        hpa, deployment = self.hpa, self.cluster.deployments[service.key]
        replicas, scaling = deployment.replicas, self._scalings.setdefault(service.key, _Scaling())
        longest = max(hpa.up_window_s, hpa.down_window_s)
        if not scaling.recommendations:
            # What it finds is the first recommendation.
            scaling.recommendations.append((now_s, replicas))
        earlier = [(at_s, n) for at_s, n in scaling.recommendations if at_s > now_s - longest]
        up = min([desired, *(n for at_s, n in earlier if at_s > now_s - hpa.up_window_s)])
        down = max([desired, *(n for at_s, n in earlier if at_s > now_s - hpa.down_window_s)])
        scaling.recommendations = [*earlier, (now_s, desired)]
        wanted = max(replicas, up) if up > replicas else min(replicas, down)
        scaling.changes = [(at_s, n) for at_s, n in scaling.changes if at_s > now_s - hpa.policy_s]
        added = sum(n for _, n in scaling.changes if n > 0)
        removed = -sum(n for _, n in scaling.changes if n < 0)
        before = replicas - added
        most = max(before + hpa.up_pods, math.ceil(before * (1 + hpa.up_percent / 100)))
        fewest = math.floor((replicas + removed) * (1 - hpa.down_percent / 100))
        wanted = min(max(wanted, min(fewest, replicas)), max(most, replicas))
        wanted = max(wanted, service.spec.min_replicas, 1)
        if service.spec.max_replicas is not None:
            wanted = min(wanted, service.spec.max_replicas)
        self.scale(service, wanted, now_s, why)

    def scale(self, service: SimulatedService, wanted: int, now_s: float, why: str) -> None:
        """Patch the replicas."""
        replicas = self.cluster.deployments[service.key].replicas
        if wanted == replicas:
            return
        self._scalings.setdefault(service.key, _Scaling()).changes.append((now_s, wanted - replicas))
        self.cluster.patch(service.key, {"spec": {"replicas": wanted}})
        self.history.add(
            Decision(now_s, service.key, summary=f"scale from {replicas} to {wanted}", reason=why)
        )


@dataclass
class Threshold(Hpa):
    """A threshold scaler in the manner of KEDA: requests of the whole service over a number for each replica.

    Requests that wait for a pod count too, so it comes back from zero; it goes there when there was nothing
    for the cool-down. In between an autoscaler follows the total. `minReplicas` above zero keep it from zero.
    """

    servers: Servers | None = None
    polling_s: float = 30.0
    cool_down_s: float = 300.0

    def act(self, now_s: float) -> None:
        """Scale every service."""
        self.next_s = now_s + min(self.polling_s, self.hpa.sync_s)
        if self.servers is None:
            raise ValueError("a threshold scaler needs the servers")
        for number, service in enumerate(self.setting.services):
            running, waiting = self.servers.load(number)
            total = running + waiting
            scaling = self._scalings.setdefault(service.key, _Scaling())
            if total > 0:
                scaling.last_active_s = now_s
            replicas = self.cluster.deployments[service.key].replicas
            why = f"{total:.3g} requests"
            if replicas == 0:
                if total > 0:
                    self.scale(service, 1, now_s, why)
                continue
            idle = now_s - scaling.last_active_s >= self.cool_down_s
            if idle and service.spec.min_replicas == 0:
                self.scale(service, 0, now_s, why)
                continue
            ratio = total / self.hpa.target / replicas
            near = abs(ratio - 1) <= self.hpa.tolerance
            desired = replicas if near else math.ceil(total / self.hpa.target)
            self.follow(service, max(desired, 1), now_s, why)


@dataclass
class Clairvoyant:
    """A lower bound: at every tick the optimum for the load that will come until the next, at once.

    It asks the product's own `decide` with that load, without windows and transition penalty, and what it
    wants is there without start-up and without a move.
    """

    setting: Setting
    policy: OptimizerPolicySpec
    cluster: Cluster
    history: History
    traffics: Sequence[Traffic]
    servers: Servers
    next_s: float = 0.0

    def __post_init__(self) -> None:
        at_once = ScalingRules(stabilization_window_seconds=0)
        self.policy = self.policy.model_copy(
            update={
                "transition_penalty": 0.0,
                "load_headroom": 0.0,
                "behavior": self.policy.behavior.model_copy(
                    update={"scale_up": at_once, "scale_down": at_once}
                ),
            }
        )

    def wake(self, now_s: float) -> None:
        """It looks at its own times only."""

    def act(self, now_s: float) -> None:
        """Put the optimum in place."""
        until_s = now_s + self.policy.tick_seconds
        self.next_s = until_s
        services = tuple(
            ServiceState(
                resource=replace(
                    service.resource, spec=service.spec.model_copy(update={"behavior": Behavior()})
                ),
                load=self._load(number, now_s, until_s),
                deployment=self.cluster.deployments[service.key].state(),
            )
            for number, service in enumerate(self.setting.services)
        )
        resources = self.setting.resources
        snapshot = Snapshot(
            time=self.cluster.moment(now_s),
            policy=self.policy,
            accelerator_profiles=resources["AcceleratorProfile"],
            model_profiles=resources["ModelProfile"],
            service_classes=resources["ServiceClass"],
            services=services,
            nodes=tuple(self.cluster.nodes.values()),
            pods=tuple(record.state for record in self.cluster.records().values()),
        )
        # Those that shrink first, so that the others find room.
        changes = []
        for plan in decide(snapshot).services:
            entry = next(iter(plan.allocation.allocations), None)
            if entry is None:
                continue
            accelerator = entry.target_accelerator or entry.accelerator
            deployment = self.cluster.deployments[plan.key]
            changes.append((entry.target_replicas - deployment.replicas, plan, accelerator, entry))
        for change, plan, accelerator, entry in sorted(changes, key=lambda c: (c[0], c[1].key)):
            if change or accelerator != entry.current_accelerator:
                self.cluster.replace(plan.key, accelerator, entry.target_replicas, entry.max_batch)
                self.history.add(
                    Decision(
                        now_s,
                        plan.key,
                        summary=f"{entry.target_replicas} on {accelerator}",
                        reason=plan.allocation.reason,
                        message=plan.allocation.message,
                        moved=accelerator != entry.current_accelerator,
                    )
                )

    def _load(self, number: int, from_s: float, to_s: float) -> ObservedLoad:
        traffic = self.traffics[number]
        times = np.arange(from_s, to_s, WINDOW_S) + WINDOW_S / 2
        inputs, outputs = (float(tokens.mean()) for tokens in traffic.lengths(times))
        rate = float(traffic.rate(times).mean())
        if traffic.at_s.size:
            begin, end = np.searchsorted(traffic.at_s, [from_s, to_s])
            rate = max(rate, (end - begin) / (to_s - from_s))
        state = LoadState.OBSERVED if rate > 0 else LoadState.IDLE
        return ObservedLoad(state, "", rate * 60, inputs, outputs)
