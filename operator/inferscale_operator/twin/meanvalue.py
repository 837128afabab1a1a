"""Servers in the mean: the queueing model's steady state over each interval, and a fluid backlog beyond it.

Between two scrapes a service has so many ready replicas and receives so many requests, drawn from the load's
rate and variation. Below the full batch's rate its figures are those of the model at the mean rate, and what
the batch holds follows the number that came; what is above piles up, waits its turn, and is worked off at the
full batch's rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inferscale_operator.twin import engines
from inferscale_operator.twin.cluster import Engine
from inferscale_operator.twin.deployment import Pod
from inferscale_operator.twin.engines import COLUMNS, step_numbers
from inferscale_operator.twin.firsttokens import (
    FirstTokens,
    Lines,
    iteration_left,
    prefills,
    relative_lengths,
)
from inferscale_operator.twin.ledger import Ledger
from inferscale_operator.twin.meantables import (
    BATCH,
    CURVES,
    FIGURES,
    FIXED_PREFILL,
    FULL_ITL,
    FULL_PREFILL,
    GRID,
    IN_QUEUE,
    IN_SERVICE,
    ITL,
    MAX_RATE,
    MEMORY,
    P_WAIT,
    PREFILL,
    STRETCH,
    WAIT,
    Tables,
    interpolated,
)
from inferscale_operator.twin.resources import Setting, SimulatedService
from inferscale_operator.twin.samples import Samples
from inferscale_operator.twin.traffic import Traffic

Floats = NDArray[np.float64]

HORIZON_S = 3600.0
NOTHING = 1e-9
"""Requests that are none."""


@dataclass(eq=False)
class _Group:
    """The pods of a service."""

    ready: dict[int, Engine] = field(default_factory=dict)
    """Those that take requests, by slot."""
    engine: Engine | None = None


class MeanValueServers:
    """The servers of all pods, in the mean. The pods of a service share its requests evenly.

    Args:
        setting: The scenario.
        traffics: Of each service.
        samples: Where scrapes go.
        ledger: The account.
        seed: Same seed, same numbers of requests.
    """

    def __init__(
        self,
        setting: Setting,
        traffics: Sequence[Traffic],
        samples: Samples,
        ledger: Ledger,
        seed: int,
    ) -> None:
        self._setting, self._traffics, self._samples, self._ledger = setting, traffics, samples, ledger
        self._index = {service.key: number for number, service in enumerate(setting.services)}
        count = len(setting.services)
        self._groups = [_Group() for _ in range(count)]
        self._pods: dict[Pod, tuple[int, int, tuple[str, str], Engine]] = {}
        self._counters = np.zeros((0, len(COLUMNS)))
        self._tables = Tables()
        self._full = np.zeros((count, FIGURES))
        self._curves = np.zeros((count, CURVES, len(GRID)))
        """Both of the tables in force."""
        self._unknown = set(range(count))
        """Services whose table is to be looked up."""
        self._spread: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None
        """Slots of all ready pods and their services."""
        self._exporting: NDArray[np.intp] | None = None
        """Slots of all pods."""
        self._replicas = np.zeros(count)
        """Ready pods."""
        self._backlog = np.zeros(count)
        self._passed, self._held = np.zeros(count), np.zeros(count)
        self._in_service = np.zeros(count)
        self._in_queue = np.zeros(count)
        self._late = np.zeros(count)
        """Of those in service, how many were late to start."""
        self._steps = np.full((2, count), np.nan)
        """Lengths of the tables, in steps."""
        self._now_s = 0.0
        self._stream = np.random.default_rng([seed, 7])
        self._horizon: tuple[float, Floats] | None = None
        targets = [service.targets for service in setting.services]
        self._ttft = np.array([t.ttft or np.inf for t in targets])
        self._ttw = np.array([t.ttw or np.inf for t in targets])
        self._itl = np.array([t.itl or np.inf for t in targets])
        self._cov = np.array([traffic.cov for traffic in traffics])
        self._relative = relative_lengths([service.scenario.tokens for service in setting.services])
        self._lines = Lines(count)
        self._turn = 0

    def started(self, service: SimulatedService, pod: Pod, engine: Engine, now_s: float) -> None:  # noqa: ARG002
        """A pod is ready."""
        number = self._index[service.key]
        key = (service.resource.namespace or "", pod.name)
        slot = self._samples.add(key)
        if slot >= len(self._counters):
            more = np.zeros((self._samples.size - len(self._counters), len(COLUMNS)))
            self._counters = np.vstack([self._counters, more])
        self._counters[slot] = 0.0
        self._pods[pod] = (number, slot, key, engine)
        group = self._groups[number]
        group.ready[slot] = engine
        self._choose(number)

    def leaving(self, pod: Pod, now_s: float) -> None:  # noqa: ARG002 (the interval has ended already)
        """A pod takes no more requests; the others have what it has left."""
        number, slot, _, _ = self._pods[pod]
        del self._groups[number].ready[slot]
        self._counters[slot, engines.RUNNING : engines.WAITING + 1] = 0.0
        self._choose(number)

    def stopped(self, pod: Pod, now_s: float, *, lost: bool) -> None:
        """A pod is gone."""
        number, slot, key, _ = self._pods.pop(pod)
        group = self._groups[number]
        if slot in group.ready:
            if lost:
                for held in (self._in_service, self._in_queue, self._backlog):
                    share = held[number] / len(group.ready)
                    self._ledger.windows["lost"][number, self._ledger.window(now_s)] += share
                    held[number] -= share
                self._late[number] -= self._late[number] / len(group.ready)
            del group.ready[slot]
        self._choose(number)
        self._samples.remove(key, now_s)

    def _choose(self, number: int) -> None:
        """Take the profile that most of the ready pods have: during a move they are of two."""
        found = list(self._groups[number].ready.values())
        self._groups[number].engine = max(found, key=lambda e: (found.count(e), e.accelerator), default=None)
        self._replicas[number] = len(found)
        self._unknown.add(number)
        self._spread = self._exporting = None

    def advance(self, now_s: float) -> None:
        """Serve up to a time."""
        seconds = now_s - self._now_s
        if seconds <= 0:
            return
        middle = self._now_s + seconds / 2
        self._now_s = now_s
        rates, inputs, outputs, steps = self._means(middle)
        self._look_up(inputs, outputs, steps)
        full, curves, replicas = self._full, self._curves, self._replicas
        arrived = self._drawn(rates * seconds)
        able = replicas * full[:, MAX_RATE] * seconds * 1000
        served = self._in_service
        before = self._backlog + self._in_service + self._in_queue
        work = self._backlog + arrived
        with np.errstate(divide="ignore", invalid="ignore"):
            # The steady state at the mean rate has the variation of the arrivals in it already.
            expected = rates * seconds
            load = np.where(able > 0, (self._backlog + expected) / able, np.inf)
            noise = np.where(able > 0, (arrived - expected) / able, 0.0)
        flowing = (replicas > 0) & (load < GRID[-1])
        figures = interpolated(curves, np.where(flowing, load, 0.0), np.where(flowing, noise, 0.0))
        batch = full[:, BATCH]
        # What does not fit goes on waiting.
        backlog = np.where(flowing, 0.0, np.maximum(work - able, 0.0))
        least, most = self._lines.waited(self._backlog, arrived, backlog, self._now_s - seconds, self._now_s)
        queued = np.where(flowing, self._backlog / np.maximum(work, 1e-9), 1.0)
        wait = queued * (least + most) / 2 + (1 - queued) * figures[WAIT]
        itl = np.where(flowing, figures[ITL], full[:, FULL_ITL])
        prefill = np.where(flowing, figures[PREFILL], full[:, FULL_PREFILL])
        self._in_service = replicas * np.where(flowing, figures[IN_SERVICE], batch)
        self._in_queue = np.where(flowing, replicas * figures[IN_QUEUE], 0.0)
        # At no rate the model is that of a rate that goes to none.
        self._in_service = np.where(self._in_service > NOTHING, self._in_service, 0.0)
        self._in_queue = np.where(self._in_queue > NOTHING, self._in_queue, 0.0)
        self._passed += np.where(replicas > 0, arrived + self._held, 0.0)
        self._held = np.where(replicas > 0, 0.0, backlog)
        self._backlog = backlog
        after = self._backlog + self._in_service + self._in_queue
        finished = np.maximum(before + arrived - after, 0.0)
        # Never more than came: what the steady state would hold more of is not there yet.
        short = np.maximum(after - before - arrived, 0.0)
        self._in_service = np.maximum(self._in_service - short, 0.0)
        started = np.maximum(finished + self._in_service - served, 0.0)
        p_wait = np.where(flowing, figures[P_WAIT], 1.0)
        fixed = np.minimum(full[:, FIXED_PREFILL], prefill)
        firsts = FirstTokens(
            left=iteration_left(itl, figures[IN_SERVICE], p_wait),
            prefill=prefills(prefill, fixed, self._relative, figures[IN_SERVICE], p_wait),
            queued=queued,
            least=least,
            most=most,
            p_wait=p_wait,
            # In the full batch waits are exponential.
            rate=np.maximum(full[:, MAX_RATE] * (1 - np.minimum(load, GRID[-1])), 1e-12) / full[:, STRETCH],
        )
        wait = wait + firsts.left.mean(axis=1)
        ttft, gaps = wait + prefill, finished * np.maximum(outputs - 1, 0.0)
        self._count(arrived, started, finished, wait, ttft, itl, gaps, firsts)
        self._export(started, finished, ttft, itl, gaps, inputs, outputs, full[:, MEMORY])

    def _count(
        self,
        arrived: Floats,
        started: Floats,
        finished: Floats,
        wait: Floats,
        ttft: Floats,
        itl: Floats,
        gaps: Floats,
        firsts: FirstTokens,
    ) -> None:
        late, waited = firsts.later(self._ttft), firsts.waits_beyond(self._ttw)
        slow = itl > self._itl
        # Those that were late to start are late when they are finished.
        bad = self._late + started * np.maximum(late, waited)
        share = finished / np.maximum(finished + self._in_service, NOTHING)
        self._late = bad * (1 - share)
        good = np.where(slow, 0.0, np.maximum(finished - bad * share, 0.0))
        window = self._ledger.window(self._now_s)
        for name, values in (
            ("arrived", arrived),
            ("finished", finished),
            ("good", good),
            ("slow", finished * slow),
            ("ttft_count", started),
            ("ttft_sum", started * ttft),
            ("ttft_late", started * late),
            ("wait_sum", started * wait),
            ("wait_late", started * waited),
            ("gap_count", gaps),
            ("gap_sum", gaps * itl),
        ):
            self._ledger.windows[name][:, window] += values
        self._turn += 1
        services, times, weights = firsts.points(self._turn)
        self._ledger.first_tokens(services, times, started[services] * weights, window)

    def _export(
        self,
        started: Floats,
        finished: Floats,
        ttft: Floats,
        itl: Floats,
        gaps: Floats,
        inputs: Floats,
        outputs: Floats,
        memory: Floats,
    ) -> None:
        increments = np.zeros((len(finished), len(COLUMNS)))
        increments[:, engines.FINISHED] = finished
        increments[:, engines.INPUT] = increments[:, engines.INPUT_SUM] = finished * inputs
        increments[:, engines.OUTPUT] = increments[:, engines.OUTPUT_SUM] = finished * outputs
        increments[:, engines.INPUT_COUNT] = increments[:, engines.OUTPUT_COUNT] = finished
        increments[:, engines.TTFT_COUNT] = started
        increments[:, engines.ITL_COUNT] = gaps
        increments[:, engines.ITL_SUM] = gaps * itl / 1000
        increments[:, engines.TTFT_SUM] = started * ttft / 1000
        self._share(increments, memory)

    def _share(self, increments: Floats, memory: Floats) -> None:
        """Share what happened among the ready pods of each service."""
        if self._spread is None:
            pairs = [(slot, number) for number, group in enumerate(self._groups) for slot in group.ready]
            slots, owners = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
            self._spread = slots, owners
        slots, owners = self._spread
        count = np.bincount(owners, minlength=len(self._groups))[owners]
        self._counters[slots] += increments[owners] / count[:, None]
        running = self._in_service[owners] / count
        self._counters[slots, engines.RUNNING] = running
        self._counters[slots, engines.WAITING] = (self._in_queue + self._backlog)[owners] / count
        self._counters[slots, engines.KV_USAGE] = np.minimum(running / memory[owners], 1.0)

    def scrape(self, now_s: float) -> None:
        """Record what every pod exports."""
        if self._exporting is None:
            self._exporting = np.array([slot for _, slot, _, _ in self._pods.values()], dtype=np.intp)
        self._samples.record(now_s, self._exporting, self._counters[self._exporting])

    def account(self, now_s: float) -> None:
        """Let the ledger have what waits for a pod."""
        self._ledger.windows["held"][:, self._ledger.window(now_s)] = self._held

    def load(self, service: int) -> tuple[float, float]:
        """Requests of a service that run and wait."""
        return float(self._in_service[service]), float(self._in_queue[service] + self._backlog[service])

    def passed(self, service: int) -> float:
        """Requests of a service that pods were given so far."""
        return float(self._passed[service])

    def held(self, service: int) -> float:
        """Requests of a service that wait for a pod."""
        return float(self._held[service])

    def utilization(self, pod: Pod) -> float:
        """Share of the batch that is in use."""
        found = self._pods.get(pod)
        if found is None:
            return 0.0
        return float(min(self._counters[found[1], engines.RUNNING] / self._full[found[0], BATCH], 1.0))

    def close(self) -> None:
        """The end: count what is still under way, and what has waited for a pod beyond its objective."""
        self._ledger.unfinished[:] = self._backlog + self._in_service + self._in_queue
        for number in np.flatnonzero(self._held).tolist():
            patience_s = self._ledger.patience_s(number)
            self._ledger.overdue[number] = self._lines.older(number, self._now_s - patience_s)

    def _drawn(self, means: Floats) -> Floats:
        """Numbers of requests about their means, as far apart as their variation has them."""
        normal = self._stream.standard_normal(len(means))
        return np.maximum(means + self._cov * np.sqrt(means) * normal, 0.0)

    def _means(self, at_s: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Rates (1/s), lengths, and those in steps, of all services at a time; evaluated an hour at once."""
        step = self._setting.scenario.scrape_interval / 3
        if self._horizon is None or not self._horizon[0] <= at_s < self._horizon[0] + HORIZON_S:
            start = math.floor(at_s / HORIZON_S) * HORIZON_S
            times: Floats = start + step * (np.arange(math.ceil(HORIZON_S / step), dtype=np.float64) + 0.5)
            known = np.array([(traffic.rate(times), *traffic.lengths(times)) for traffic in self._traffics])
            steps = step_numbers(np.maximum(known[:, 1:], 1.0))
            means = np.hstack([known, steps]).transpose(2, 1, 0).copy()
            self._horizon = start, means
        start, means = self._horizon
        now = means[min(int((at_s - start) / step), len(means) - 1)]
        return now[0], now[1], now[2], now[3:]

    def _look_up(self, inputs: Floats, outputs: Floats, steps: Floats) -> None:
        """Take the tables of the present profiles and lengths."""
        self._unknown |= set(np.flatnonzero((steps != self._steps).any(axis=0)).tolist())
        self._steps = steps
        for number in sorted(self._unknown):
            table = self._tables.table(
                self._setting.services[number],
                self._groups[number].engine,
                float(inputs[number]),
                float(outputs[number]),
                float(self._cov[number]),
            )
            self._full[number], self._curves[number] = table.full, table.curves
        self._unknown.clear()
