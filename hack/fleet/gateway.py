"""The fleet: the servers of all pods and the gateway that sends them their requests."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

from fleet.load import Point
from fleet.pods import Pod, match
from fleet.server import Fault, ModelServer
from inferscale_queueing.simulation import Request

_Name = tuple[str, str]  # namespace and name


class Arrivals(Protocol):
    """Requests, one after another."""

    def until(self, at_ms: float) -> list[Request]:
        """The requests that arrived since the last call, up to `at_ms` (ms since the start)."""


class Demand(Protocol):
    """The load of one Deployment."""

    @property
    def namespace(self) -> str:
        """Namespace of the Deployment."""

    @property
    def deployment(self) -> str:
        """Its name."""

    def at(self, at_s: float) -> Point:
        """The load at a time in seconds since the start."""

    def traffic(self) -> Arrivals:
        """Its requests from the beginning."""


@dataclass
class _Route:
    """The way of the requests to one Deployment."""

    load: Demand
    traffic: Arrivals
    queue: deque[Request] = field(default_factory=deque)
    arrived: int = 0
    completed_by_gone: int = 0


class Fleet:
    """Servers and gateway, moved on by `step`; safe to use from several threads.

    A request goes to the ready pod of its Deployment with the fewest requests; without one it waits here. A
    pod that is being deleted goes on with what it has; what it had not completed when it went starts again on
    another one.

    Args:
        loads: The load of each Deployment.
        bias: Factor on alpha and beta, by which the hardware differs from its profiles.
        startup_s: Time that a pod needs from ready to serving.
    """

    def __init__(self, loads: Iterable[Demand], *, bias: float = 1.0, startup_s: float = 0.0) -> None:
        self._routes = {(load.namespace, load.deployment): _Route(load, load.traffic()) for load in loads}
        self._bias = bias
        self._startup_ms = startup_s * 1000
        self._lock = Lock()
        self._now_ms = 0.0
        self._servers: dict[_Name, ModelServer] = {}
        self._ready_ms: dict[tuple[_Name, str], float] = {}  # with the uid
        self._unserved: dict[_Name, str] = {}
        self._leaving: set[_Name] = set()

    def set_pods(
        self,
        pods: Iterable[Pod],
        accelerators: Sequence[Mapping[str, Any]],
        models: Sequence[Mapping[str, Any]],
    ) -> None:
        """Take over the pods that exist now, and the profiles that say what new ones are."""
        with self._lock:
            present = {(pod.namespace, pod.name): pod for pod in pods}
            ready = {name: pod for name, pod in present.items() if pod.ready}
            self._leaving = {name for name, pod in present.items() if pod.terminating}
            staying = ready.keys() | self._leaving
            for name, server in list(self._servers.items()):
                if name not in staying or present[name].uid != server.pod.uid:
                    self._remove(name, server)
            keys = {(name, pod.uid) for name, pod in ready.items()}
            self._ready_ms = {key: self._ready_ms.get(key, self._now_ms) for key in keys}
            self._unserved = {}
            for name, pod in sorted(ready.items()):
                if name not in self._servers:
                    self._add(name, pod, accelerators, models)

    def _add(
        self,
        name: _Name,
        pod: Pod,
        accelerators: Sequence[Mapping[str, Any]],
        models: Sequence[Mapping[str, Any]],
    ) -> None:
        engine = match(pod, accelerators, models)
        if isinstance(engine, str):
            self._unserved[name] = engine
        elif self._now_ms < self._ready_ms[name, pod.uid] + self._startup_ms:
            self._unserved[name] = "starting"
        else:
            route = self._routes.get((pod.namespace, pod.deployment))
            tokens = route.load.at(self._now_ms / 1000).output_tokens if route else engine.at_tokens
            self._servers[name] = ModelServer(pod, engine, self._now_ms, max(tokens, 1), self._bias)

    def _remove(self, name: _Name, server: ModelServer) -> None:
        del self._servers[name]
        requests = server.drain()
        route = self._routes.get((server.pod.namespace, server.pod.deployment))
        if route:
            route.completed_by_gone += server.completed
            route.queue.extendleft(reversed(requests))

    def step(self, now_ms: float) -> None:
        """Move everything on to `now_ms` (ms since the start)."""
        with self._lock:
            for name, route in self._routes.items():
                self._send(name, route, now_ms)
            for server in self._servers.values():
                server.advance(now_ms)
            self._now_ms = now_ms

    def _send(self, name: _Name, route: _Route, now_ms: float) -> None:
        requests = route.traffic.until(now_ms)
        route.arrived += len(requests)
        route.queue.extend(requests)
        servers = self._servers_of(name)
        if not servers:
            return
        tokens = max(route.load.at(now_ms / 1000).output_tokens, 1)
        for server in servers:
            server.resize(tokens)
        while route.queue:
            fewest = min(servers, key=lambda server: (server.running + server.waiting, server.pod.name))
            fewest.offer(route.queue.popleft())

    def _servers_of(self, name: _Name) -> list[ModelServer]:
        """The servers of a Deployment that take requests."""
        return [
            server
            for pod, server in self._servers.items()
            if (server.pod.namespace, server.pod.deployment) == name and pod not in self._leaving
        ]

    def set_fault(self, namespace: str, pod: str, fault: Fault) -> bool:
        """Break or mend a pod's server; False if there is none."""
        with self._lock:
            server = self._servers.get((namespace, pod))
            if server is None:
                return False
            server.fault = fault
            return True

    def exposition(self, namespace: str, pod: str) -> bytes | None:
        """What a scrape of a pod gets; None if nothing answers there."""
        with self._lock:
            server = self._servers.get((namespace, pod))
            if server is None or server.fault is Fault.SILENT:
                return None
            return server.exposition()

    def state(self) -> dict[str, Any]:
        """The state for people, in the types of JSON."""
        with self._lock:
            return {
                "time_s": round(self._now_ms / 1000, 3),
                "deployments": [self._deployment(name, route) for name, route in self._routes.items()],
                "pods": [
                    {
                        "namespace": namespace,
                        "name": name,
                        "deployment": server.pod.deployment,
                        "accelerator": server.engine.accelerator,
                        "model": server.engine.model_name,
                        "maxBatch": server.max_batch,
                        "running": server.running,
                        "waiting": server.waiting,
                        "completed": server.completed,
                        "fault": server.fault.value,
                    }
                    for (namespace, name), server in sorted(self._servers.items())
                ],
                "unserved": [
                    {"namespace": namespace, "name": name, "reason": reason}
                    for (namespace, name), reason in self._unserved.items()
                ],
            }

    def _deployment(self, name: _Name, route: _Route) -> dict[str, Any]:
        load = route.load.at(self._now_ms / 1000)
        servers = [s for s in self._servers.values() if (s.pod.namespace, s.pod.deployment) == name]
        return {
            "namespace": route.load.namespace,
            "name": route.load.deployment,
            "ratePerMinute": round(load.rate, 3),
            "inputTokens": round(load.input_tokens, 3),
            "outputTokens": round(load.output_tokens, 3),
            "pods": len(servers),
            "arrived": route.arrived,
            "completed": route.completed_by_gone + sum(server.completed for server in servers),
            "inGateway": len(route.queue),
        }
