"""A simulated cluster: nodes, the pods of Deployments on them, how they start and how they go."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from inferscale_operator.api.inference_service import BatchMode
from inferscale_operator.decide.accelerators import recognise, serving_container, units_per_replica
from inferscale_operator.decide.template import deployed_batch, variant_of
from inferscale_operator.kube.parse import PodRecord
from inferscale_operator.kube.quantities import pod_requests
from inferscale_operator.snapshot import DeploymentState, NodeState, PodState
from inferscale_operator.twin.deployment import Deployment, Pod
from inferscale_operator.twin.nodes import Nodes
from inferscale_operator.twin.resources import Setting, SimulatedService
from inferscale_operator.twin.scenario import FailingStart, NodeLoss
from inferscale_queueing.frozen import frozen

ROUNDS = 50
CONTROLLER_S = 1.0
CONTAINER = "engine"


@frozen
class Engine:
    """What a pod of a service is, by its template."""

    accelerator: str
    units: int
    max_batch: int | None
    """Batch limit that is deployed; None: the engine's own."""


class Observer(Protocol):
    """Learns of pods as they come and go."""

    def started(self, service: SimulatedService, pod: Pod, engine: Engine, now_s: float) -> None:
        """A pod is ready."""

    def leaving(self, pod: Pod, now_s: float) -> None:
        """A pod takes no more requests."""

    def stopped(self, pod: Pod, now_s: float, *, lost: bool) -> None:
        """A pod is gone; `lost`: without a warning."""


@dataclass
class _Leaving:
    service: SimulatedService
    deployment: Deployment
    pod: Pod
    ends_s: float
    engine: Engine


@dataclass
class Cluster:
    """Nodes and Deployments in virtual time, in steps to whatever happens next."""

    setting: Setting
    observer: Observer
    now_s: float = 0.0
    deployments: dict[str, Deployment] = field(default_factory=dict)
    """By key of the service."""
    version: int = 0
    """Changes whenever something did that an operator could see."""
    marks: dict[str, int] = field(default_factory=dict)
    """By key of the service, a number that grows when something of it may have changed."""
    _nodes: Nodes = field(init=False)
    _leaving: list[_Leaving] = field(default_factory=list)
    _starting: dict[Pod, tuple[SimulatedService, float]] = field(default_factory=dict)
    """With the time at which each becomes ready."""
    _unsettled: set[str] = field(default_factory=set)
    _engines: dict[tuple[str, int], tuple[Mapping[str, Any], Engine]] = field(default_factory=dict)
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _readied_s: dict[Pod, float] = field(default_factory=dict)
    _pending: set[str] = field(default_factory=set)
    """Services with pods that have no node, perhaps."""
    _lost: dict[NodeLoss, list[str]] = field(default_factory=dict)
    _services: dict[str, SimulatedService] = field(default_factory=dict)
    _marked: int = 0
    _states: dict[str, tuple[int, DeploymentState]] = field(default_factory=dict)
    _records: dict[str, tuple[int, dict[tuple[str, str], PodRecord]]] = field(default_factory=dict)
    """Both by key of the service, with its mark when they were made."""

    def __post_init__(self) -> None:
        self._nodes = Nodes(self.setting)
        for service in self.setting.services:
            initial = service.scenario.initial
            self.deployments[service.key] = Deployment(
                service.resource.namespace or "",
                service.spec.target_ref.name,
                initial.replicas,
                pod_template(self.setting, service, initial.accelerator, initial.max_batch),
            )
            self._services[service.key] = service
            self._mark(service.key)
            self._unsettled.add(service.key)
        self._settle(at_once=True)
        for number, each in enumerate(self.setting.scenario.disturbances):
            if isinstance(each, NodeLoss):
                self._due.append((each.at, number, lambda each=each: self._lose(each)))  # type: ignore[misc]
                if each.until is not None:
                    self._due.append((each.until, number, lambda each=each: self._regain(each)))  # type: ignore[misc]
        self._due.sort(key=lambda due: due[:2])

    @property
    def nodes(self) -> Mapping[str, NodeState]:
        """The nodes by name."""
        return self._nodes.states

    def moment(self, at_s: float) -> datetime:
        """A time of the simulation as the operator sees it."""
        return self.setting.start + timedelta(seconds=at_s)

    def next_s(self) -> float:
        """When something happens next by itself."""
        times = [at_s for _, at_s in self._starting.values()]
        times += [each.ends_s for each in self._leaving]
        if self._due:
            times.append(self._due[0][0])
        if self._unsettled:
            times.append(self.now_s + CONTROLLER_S)
        return min(times, default=math.inf)

    def advance(self, now_s: float) -> None:
        """Let time pass, up to what happens next at most."""
        self.now_s = now_s
        while self._due and self._due[0][0] <= now_s:
            self._due.pop(0)[2]()
        for each in [each for each in self._leaving if each.ends_s <= now_s]:
            self._leaving.remove(each)
            self._release(each.service.key, each.pod)
            self.observer.stopped(each.pod, now_s, lost=False)
            self._touch(each.service.key)
        for pod, (service, at_s) in list(self._starting.items()):
            if at_s <= now_s:
                self._ready(service, pod)
        self._settle()

    def patch(self, key: str, body: Mapping[str, Any]) -> None:
        """Patch the Deployment of a service."""
        self.deployments[key].patch(body)
        self._touch(key)
        self._settle()

    def replace(self, key: str, accelerator: str, replicas: int, max_batch: int | None) -> None:
        """What no cluster can: other replicas at once, without start-up."""
        service, deployment = self._services[key], self.deployments[key]
        deployment.template = pod_template(self.setting, service, accelerator, max_batch)
        deployment.replicas = replicas
        old = [pod for each in deployment.sets for pod in each.pods if each.template != deployment.template]
        for each in deployment.sets:
            if each.template != deployment.template:
                each.desired, each.pods = 0, []
        for pod in old:
            self._release(key, pod)
            self._starting.pop(pod, None)
            if pod.ready_s is not None:
                self.observer.stopped(pod, self.now_s, lost=False)
        self._touch(key)
        self._settle(at_once=True)

    def engine(self, service: SimulatedService, template: Mapping[str, Any]) -> Engine:
        """What a pod of a template runs as."""
        found = self._engines.get((service.key, id(template)))
        if found is not None and found[0] is template:
            return found[1]
        state = replace(self.deployments[service.key].state(), pod_spec=template)
        accelerators = self.setting.accelerators
        name = recognise(state, accelerators, service.performances.values())
        if name is None:
            raise ValueError(f"{service.key}: no profile has the pod template {template}")
        variant = variant_of(service.spec, name)
        container = serving_container(
            template, variant.container if variant else None, (accelerators[name].resource_name,)
        )
        engine = Engine(
            name,
            units_per_replica(accelerators[name], service.performances[name]),
            deployed_batch(service.spec, container) if container is not None else None,
        )
        self._engines[service.key, id(template)] = (template, engine)
        return engine

    def pods(self) -> Iterator[tuple[SimulatedService, Pod, Engine, bool]]:
        """All pods with their service, what they are, and whether they are to go."""
        for service in self.setting.services:
            yield from self.pods_of(service, leaving=False)
        for each in self._leaving:
            yield each.service, each.pod, each.engine, True

    def pods_of(
        self, service: SimulatedService, *, leaving: bool = True
    ) -> Iterator[tuple[SimulatedService, Pod, Engine, bool]]:
        """Those of one service; without `leaving` only those that are not to go."""
        for pod in self.deployments[service.key].pods:
            yield service, pod, self.engine(service, pod.template), False
        if leaving:
            for each in self._leaving:
                if each.service is service:
                    yield service, each.pod, each.engine, True

    def state(self, key: str) -> DeploymentState:
        """The Deployment of a service as the operator reads it."""
        found = self._states.get(key)
        if found is None or found[0] != self.marks[key]:
            found = self._states[key] = self.marks[key], self.deployments[key].state()
        return found[1]

    def records(self) -> dict[tuple[str, str], PodRecord]:
        """The pods as the operator has them from its watch."""
        result = {}
        for service in self.setting.services:
            mark = self.marks[service.key]
            found = self._records.get(service.key)
            if found is None or found[0] != mark:
                pods = self.deployments[service.key].pods
                made = dict(self._record(service, pod, terminating=False) for pod in pods)
                found = self._records[service.key] = mark, made
            result.update(found[1])
        for each in self._leaving:
            key, record = self._record(each.service, each.pod, terminating=True)
            result[key] = record
        return result

    def _record(
        self, service: SimulatedService, pod: Pod, *, terminating: bool
    ) -> tuple[tuple[str, str], PodRecord]:
        namespace = service.resource.namespace or ""
        ready = self._readied_s.get(pod)
        state = PodState(
            namespace=namespace,
            name=pod.name,
            deployment=service.spec.target_ref.name,
            node=pod.node,
            requests=pod_requests(pod.template),
            ready=ready is not None,
            terminating=terminating,
        )
        return (namespace, pod.name), PodRecord(state, self.moment(ready) if ready is not None else None)

    def _settle(self, *, at_once: bool = False) -> None:
        """Let the controllers and the scheduler work until nothing changes."""
        for _ in range(ROUNDS):
            if not self._unsettled:
                break
            keys, self._unsettled = sorted(self._unsettled), set()
            for key in keys:
                self._sync(self._services[key])
            self._schedule(at_once=at_once)
        # What is not settled by now goes on a moment later.

    def _sync(self, service: SimulatedService) -> None:
        deployment = self.deployments[service.key]
        before = [(s.desired, s.revision, len(s.pods)) for s in deployment.sets]
        self._pending.add(service.key)
        for pod in deployment.sync(self.now_s):
            self._starting.pop(pod, None)
            engine = self.engine(service, pod.template)
            if pod.node is None:
                continue
            ready = pod.ready_s is not None
            grace = self.setting.scenario.termination_grace if ready else 0.0
            if grace > 0:
                self._leaving.append(_Leaving(service, deployment, pod, self.now_s + grace, engine))
                self.observer.leaving(pod, self.now_s)
                continue
            self._release(service.key, pod)
            if ready:
                self.observer.stopped(pod, self.now_s, lost=False)
        self._mark(service.key)
        if before != [(s.desired, s.revision, len(s.pods)) for s in deployment.sets]:
            self._touch(service.key)

    def _schedule(self, *, at_once: bool) -> None:
        for key in sorted(self._pending):
            pods = [pod for pod in self.deployments[key].pods if pod.node is None]
            placed = [self._place(self._services[key], pod, at_once=at_once) for pod in pods]
            if all(placed):
                self._pending.discard(key)

    def _place(self, service: SimulatedService, pod: Pod, *, at_once: bool) -> bool:
        name = self._nodes.place(pod.template.get("nodeSelector") or {}, pod_requests(pod.template))
        if name is None:
            return False
        pod.node = name
        self.version += 1
        self._mark(service.key)
        if at_once:
            self._ready(service, pod)
            return True
        accelerator = self.engine(service, pod.template).accelerator
        start_up = self.setting.scenario.start_up
        seconds = start_up.by_accelerator.get(accelerator, start_up.seconds)
        self._starting[pod] = (service, self.now_s + max(seconds, CONTROLLER_S))
        return True

    def _ready(self, service: SimulatedService, pod: Pod) -> None:
        engine = self.engine(service, pod.template)
        for each in self.setting.scenario.disturbances:
            if (
                isinstance(each, FailingStart)
                and each.at <= self.now_s < each.until
                and each.accelerator == engine.accelerator
                and each.service in (None, service.key)
            ):
                # It crashes and is started anew until whatever is wrong has passed.
                self._starting[pod] = (service, each.until)
                return
        self._starting.pop(pod, None)
        # At the start pods have been ready for long.
        pod.ready_s = self.now_s
        self._readied_s[pod] = self.now_s
        self.observer.started(service, pod, engine, self.now_s)
        self._touch(service.key)

    def _release(self, key: str, pod: Pod) -> None:
        self._readied_s.pop(pod, None)
        if pod.node is not None:
            self._nodes.release(pod.node, pod_requests(pod.template))
        pod.node = None
        self.version += 1
        self._mark(key)
        # Somebody may wait for the room.
        self._unsettled |= self._pending

    def _lose(self, loss: NodeLoss) -> None:
        for name in self._nodes.fullest(loss.type)[: loss.count]:
            self._lost.setdefault(loss, []).append(name)
            self._nodes.use(name, usable=False)
            for each in [each for each in self._leaving if each.pod.node == name]:
                self._leaving.remove(each)
                self._release(each.service.key, each.pod)
                self.observer.stopped(each.pod, self.now_s, lost=True)
            for service in self.setting.services:
                for replica_set in self.deployments[service.key].sets:
                    for pod in [pod for pod in replica_set.pods if pod.node == name]:
                        replica_set.pods.remove(pod)
                        self._starting.pop(pod, None)
                        self._release(service.key, pod)
                        if pod.ready_s is not None:
                            self.observer.stopped(pod, self.now_s, lost=True)
                        self._touch(service.key)

    def _regain(self, loss: NodeLoss) -> None:
        for name in self._lost.pop(loss, []):
            self._nodes.use(name, usable=True)
        self._unsettled |= set(self.deployments)
        self.version += 1

    def _touch(self, key: str) -> None:
        self._unsettled.add(key)
        self.version += 1
        self._mark(key)

    def _mark(self, key: str) -> None:
        self._marked += 1
        self.marks[key] = self._marked


def pod_template(
    setting: Setting, service: SimulatedService, accelerator: str, max_batch: int | None
) -> dict[str, Any]:
    """The template of a service's pods on a profile, as its owner would write it."""
    profile = setting.accelerators[accelerator]
    variant = variant_of(service.spec, accelerator)
    amounts = {profile.resource_name: str(units_per_replica(profile, service.performances[accelerator]))}
    container: dict[str, Any] = {
        "name": (variant.container if variant else None) or CONTAINER,
        "image": (variant.image if variant else None) or "engine:1",
        "resources": {"limits": amounts, "requests": amounts},
    }
    batch = service.spec.batch
    if batch.mode is BatchMode.MANAGED and max_batch is not None:
        if batch.env is not None:
            container["env"] = [{"name": batch.env, "value": str(max_batch)}]
        else:
            container["args"] = [f"{batch.arg}={max_batch}"]
    template: dict[str, Any] = {"nodeSelector": dict(profile.node_selector), "containers": [container]}
    if profile.tolerations:
        template["tolerations"] = [
            t.model_dump(by_alias=True, exclude_none=True) for t in profile.tolerations
        ]
    return template
