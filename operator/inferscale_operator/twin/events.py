"""Servers as discrete events: every request of every pod, from iteration to iteration."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from inferscale_operator.twin import engines
from inferscale_operator.twin.cluster import Engine
from inferscale_operator.twin.deployment import Pod
from inferscale_operator.twin.engines import COLUMNS, batch_limit, memory_limit
from inferscale_operator.twin.ledger import Ledger
from inferscale_operator.twin.resources import Setting, SimulatedService
from inferscale_operator.twin.samples import Samples
from inferscale_operator.twin.traffic import Traffic
from inferscale_queueing import Completion, Request, Server


class _Counters:
    """What one engine counts; a recorder of its tokens."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values = [0.0] * len(COLUMNS)

    def first_token(self, request: Request, at_ms: float) -> None:
        values = self.values
        values[engines.INPUT] += request.input_tokens
        values[engines.OUTPUT] += 1
        values[engines.TTFT_SUM] += (at_ms - request.arrival_ms) / 1000
        values[engines.TTFT_COUNT] += 1

    def token_gaps(self, gap_ms: float, count: int) -> None:
        values = self.values
        values[engines.OUTPUT] += count
        values[engines.ITL_SUM] += gap_ms * count / 1000
        values[engines.ITL_COUNT] += count

    def completed(self, completion: Completion) -> None:
        values = self.values
        values[engines.FINISHED] += 1
        values[engines.INPUT_SUM] += completion.request.input_tokens
        values[engines.INPUT_COUNT] += 1
        values[engines.OUTPUT_SUM] += completion.request.output_tokens
        values[engines.OUTPUT_COUNT] += 1


@dataclass(eq=False)
class _Replica:
    service: int
    pod: Pod
    engine: Engine
    server: Server
    counters: _Counters
    slot: int
    key: tuple[str, str]
    gaps: tuple[float, float] = (0.0, 0.0)
    """Time and number of gaps that the ledger has."""


@dataclass(eq=False)
class _Route:
    """The way of the requests of one service."""

    service: SimulatedService
    traffic: Traffic
    replicas: list[_Replica] = field(default_factory=list)
    queue: deque[Request] = field(default_factory=deque)
    """Requests that no pod has."""
    next: int = 0
    passed: int = 0
    """Requests that pods were given."""
    turn: int = 0
    rows: list[tuple[float, float, float, float, float]] = field(default_factory=list)


class EventServers:
    """The servers of all pods, and the gateway in front of them.

    A request goes to the ready pod with the fewest requests, or to the next in turn. Without one it waits. A
    pod that is to go goes on with what it has; what it has left in the end starts anew on another.

    Args:
        setting: The scenario.
        traffics: Of each service.
        samples: Where scrapes go.
        ledger: The account.
    """

    def __init__(
        self, setting: Setting, traffics: Sequence[Traffic], samples: Samples, ledger: Ledger
    ) -> None:
        self._setting = setting
        self._samples = samples
        self._ledger = ledger
        self._routes = [
            _Route(service, traffic) for service, traffic in zip(setting.services, traffics, strict=True)
        ]
        self._index = {service.key: number for number, service in enumerate(setting.services)}
        self._replicas: dict[Pod, _Replica] = {}
        self._least = setting.scenario.routing == "LeastLoaded"

    def started(self, service: SimulatedService, pod: Pod, engine: Engine, now_s: float) -> None:
        """A pod is ready."""
        number = self._index[service.key]
        performance = service.performances[engine.accelerator]
        counters = _Counters()
        key = (service.resource.namespace or "", pod.name)
        inputs, outputs = self._routes[number].traffic.lengths(np.array([now_s]))
        server = Server(
            performance.alpha,
            performance.beta,
            performance.gamma,
            performance.delta,
            batch_limit(service, engine, float(outputs[0])),
            start_ms=now_s * 1000,
            decode_only=not inputs.any(),
            recorder=counters,
        )
        replica = _Replica(number, pod, engine, server, counters, self._samples.add(key), key)
        self._replicas[pod] = replica
        self._routes[number].replicas.append(replica)

    def leaving(self, pod: Pod, now_s: float) -> None:  # noqa: ARG002 (its clock is there already)
        """A pod takes no more requests."""
        replica = self._replicas[pod]
        self._routes[replica.service].replicas.remove(replica)

    def stopped(self, pod: Pod, now_s: float, *, lost: bool) -> None:
        """A pod is gone; what it had is lost, or starts anew."""
        replica = self._replicas.pop(pod)
        route = self._routes[replica.service]
        if replica in route.replicas:
            route.replicas.remove(replica)
        left = replica.server.drain()
        self._count_gaps(replica, now_s)
        if lost:
            self._ledger.windows["lost"][replica.service, self._ledger.window(now_s)] += len(left)
        else:
            route.queue.extendleft(reversed(left))
        self._samples.remove(replica.key, now_s)

    def advance(self, now_s: float) -> None:
        """Serve up to a time."""
        now_ms = now_s * 1000
        for number, route in enumerate(self._routes):
            self._resize(route, now_s)
            self._send(number, route, now_s)
        for replica in self._replicas.values():
            self._take(self._routes[replica.service], replica, replica.server.advance(now_ms))
        for number, route in enumerate(self._routes):
            self._ledger.requests(number, route.rows)
            route.rows.clear()

    def scrape(self, now_s: float) -> None:
        """Record what every pod exports."""
        slots, rows = [], []
        for replica in self._replicas.values():
            values = replica.counters.values
            route = self._routes[replica.service]
            values[engines.RUNNING] = replica.server.running
            values[engines.WAITING] = replica.server.waiting
            _, outputs = route.traffic.lengths(np.array([now_s]))
            fits = memory_limit(route.service, replica.engine, float(outputs[0]))
            values[engines.KV_USAGE] = min(replica.server.running / fits, 1.0)
            slots.append(replica.slot)
            rows.append(list(values))
        self._samples.record(now_s, slots, rows)

    def account(self, now_s: float) -> None:
        """Let the ledger have what waits for a pod, and the gaps between tokens within the window."""
        for replica in self._replicas.values():
            self._count_gaps(replica, now_s)
        for number, route in enumerate(self._routes):
            self._ledger.windows["held"][number, self._ledger.window(now_s)] = len(route.queue)

    def load(self, service: int) -> tuple[int, int]:
        """Requests of a service that run and wait, those without a pod included."""
        mine = [r.server for r in self._replicas.values() if r.service == service]
        route = self._routes[service]
        return sum(s.running for s in mine), sum(s.waiting for s in mine) + len(route.queue)

    def passed(self, service: int) -> int:
        """Requests of a service that pods were given so far."""
        return self._routes[service].passed

    def held(self, service: int) -> int:
        """Requests of a service that wait for a pod."""
        return len(self._routes[service].queue)

    def utilization(self, pod: Pod) -> float:
        """Share of the batch that is in use."""
        replica = self._replicas.get(pod)
        return replica.server.running / replica.server.max_batch if replica is not None else 0.0

    def _count_gaps(self, replica: _Replica, now_s: float) -> None:
        values, windows = replica.counters.values, self._ledger.windows
        total, count = values[engines.ITL_SUM] * 1000, values[engines.ITL_COUNT]
        window = self._ledger.window(now_s)
        windows["gap_sum"][replica.service, window] += total - replica.gaps[0]
        windows["gap_count"][replica.service, window] += count - replica.gaps[1]
        replica.gaps = (total, count)

    def _resize(self, route: _Route, now_s: float) -> None:
        if not route.replicas:
            return
        _, outputs = route.traffic.lengths(np.array([now_s]))
        for replica in route.replicas:
            replica.server.max_batch = batch_limit(route.service, replica.engine, float(outputs[0]))

    def _send(self, number: int, route: _Route, now_s: float) -> None:
        traffic, begin = route.traffic, route.next
        end = int(np.searchsorted(traffic.at_s, now_s, side="right"))
        route.next = end
        if end > begin:
            self._ledger.windows["arrived"][number, self._ledger.window(now_s)] += end - begin
            columns = (traffic.at_s * 1000, traffic.input_tokens, traffic.output_tokens)
            rows = zip(*(column[begin:end].tolist() for column in columns), strict=True)
            route.queue.extend(
                Request(at_ms, inputs, outputs, index)
                for index, (at_ms, inputs, outputs) in enumerate(rows, begin)
            )
        replicas, queue = route.replicas, route.queue
        if not replicas:
            return
        while queue:
            request = queue.popleft()
            at_ms = max(request.arrival_ms, replicas[0].server.now_ms)
            chosen = self._chosen(route, at_ms)
            route.passed += 1
            chosen.server.offer(request, max(at_ms, chosen.server.now_ms))

    def _chosen(self, route: _Route, at_ms: float) -> _Replica:
        replicas = route.replicas
        if len(replicas) == 1:
            return replicas[0]
        if not self._least:
            route.turn = (route.turn + 1) % len(replicas)
            return replicas[route.turn]
        for replica in replicas:
            if replica.server.now_ms < at_ms:
                self._take(route, replica, replica.server.advance(at_ms))
        # A tie goes to the next in turn, or the first would have all that comes to an idle fleet.
        route.turn += 1
        turn, size = route.turn, len(replicas)
        best = min(
            range(size),
            key=lambda i: (replicas[i].server.running + replicas[i].server.waiting, (i - turn) % size),
        )
        return replicas[best]

    def _take(self, route: _Route, replica: _Replica, completions: list[Completion]) -> None:
        for one in completions:
            replica.counters.completed(one)
            route.rows.append(
                (
                    one.finished_ms / 1000,
                    one.first_token_ms / 1000,
                    one.ttft_ms,
                    one.wait_ms,
                    one.itl_ms,
                )
            )

    def close(self) -> None:
        """The end: count what is still under way, and what has waited for a pod beyond its objective."""
        end_s = self._setting.scenario.duration
        for number, route in enumerate(self._routes):
            running, waiting = self.load(number)
            self._ledger.unfinished[number] = running + waiting
            latest_ms = 1000 * (end_s - self._ledger.patience_s(number))
            self._ledger.overdue[number] = sum(each.arrival_ms < latest_ms for each in route.queue)
