"""Servers in the mean: the queueing model's steady state over each interval, and a fluid backlog beyond it.

Between two scrapes a service has so many ready replicas and receives so many requests, drawn from the load's
rate and variation. Below the full batch's rate its figures are those of the model at that rate; what is above
piles up, waits its turn, and is worked off at the full batch's rate. The model is tabulated over its load,
once for every profile, batch and length (lengths in steps of 2 %).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

import inferscale_queueing as queueing
from inferscale_operator.twin import engines
from inferscale_operator.twin.cluster import Engine
from inferscale_operator.twin.deployment import Pod
from inferscale_operator.twin.engines import (
    COLUMNS,
    batch_limit,
    latency_model,
    length_step,
    memory_limit,
    step_numbers,
)
from inferscale_operator.twin.firsttokens import FirstTokens, Lines, iteration_left, relative_lengths
from inferscale_operator.twin.ledger import Ledger
from inferscale_operator.twin.resources import Setting, SimulatedService
from inferscale_operator.twin.samples import Samples
from inferscale_operator.twin.traffic import Traffic

Floats = NDArray[np.float64]

GRID = np.concatenate([[0.0], np.linspace(0.02, 0.9, 45), np.linspace(0.91, 0.995, 18)])
"""Loads that the model is tabulated at, as shares of the largest rate."""
HORIZON_S = 3600.0

MAX_RATE, FULL_ITL, FULL_PREFILL, FIXED_PREFILL, MEMORY, BATCH, STRETCH = range(FIGURES := 7)
IN_SERVICE, IN_QUEUE, WAIT, P_WAIT, ITL, PREFILL = range(CURVES := 6)


@dataclass(frozen=True, eq=False)
class _Table:
    """A replica's model: figures of the full batch, and curves over `GRID`, shape (6, grid)."""

    full: Floats
    curves: Floats


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
        self._tables: dict[tuple[object, ...], _Table] = {}
        self._full = np.zeros((count, FIGURES))
        self._curves = np.zeros((count, CURVES, len(GRID)))
        """Both of the tables in force."""
        self._unknown = set(range(count))
        """Services whose table is to be looked up."""
        self._spread: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None
        """Slots of all ready pods and their services."""
        self._backlog = np.zeros(count)
        self._in_service = np.zeros(count)
        self._in_queue = np.zeros(count)
        self._keys = np.full((2, count), np.nan)
        """Lengths of the tables, in steps."""
        self._now_s = 0.0
        self._stream = np.random.default_rng([seed, 7])
        self._horizon: tuple[float, Floats, Floats, Floats] | None = None
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
                share = (self._in_service[number] + self._in_queue[number]) / len(group.ready)
                self._ledger.windows["lost"][number, self._ledger.window(now_s)] += share
                self._in_service[number] -= self._in_service[number] / len(group.ready)
                self._in_queue[number] -= self._in_queue[number] / len(group.ready)
                self._backlog[number] -= self._backlog[number] / len(group.ready)
            del group.ready[slot]
        self._choose(number)
        self._samples.remove(key, now_s)

    def _choose(self, number: int) -> None:
        """Take the profile that most of the ready pods have: during a move they are of two."""
        found = list(self._groups[number].ready.values())
        self._groups[number].engine = max(found, key=lambda e: (found.count(e), e.accelerator), default=None)
        self._unknown.add(number)
        self._spread = None

    def advance(self, now_s: float) -> None:
        """Serve up to a time."""
        seconds = now_s - self._now_s
        if seconds <= 0:
            return
        middle = self._now_s + seconds / 2
        self._now_s = now_s
        rates, inputs, outputs = self._means(middle)
        self._look_up(inputs, outputs)
        full, curves = self._full, self._curves
        replicas = np.array([len(group.ready) for group in self._groups], dtype=np.float64)
        arrived = self._drawn(rates * seconds)
        able = replicas * full[:, MAX_RATE] * seconds * 1000
        before = self._backlog + self._in_service + self._in_queue
        work = self._backlog + arrived
        with np.errstate(divide="ignore", invalid="ignore"):
            load = np.where(able > 0, work / able, np.inf)
        flowing = (replicas > 0) & (load < GRID[-1])
        figures = _interpolated(curves, np.where(flowing, load, 0.0))
        batch = full[:, BATCH]
        # What does not fit goes on waiting.
        backlog = np.where(flowing, 0.0, np.maximum(work - able, 0.0))
        least, most = self._lines.waited(self._backlog, arrived, backlog, self._now_s - seconds, self._now_s)
        wait = np.where(flowing, figures[WAIT], (least + most) / 2)
        itl = np.where(flowing, figures[ITL], full[:, FULL_ITL])
        prefill = np.where(flowing, figures[PREFILL], full[:, FULL_PREFILL])
        self._in_service = replicas * np.where(flowing, figures[IN_SERVICE], batch)
        self._in_queue = np.where(flowing, replicas * figures[IN_QUEUE], 0.0)
        self._in_service = np.where(replicas > 0, self._in_service, 0.0)
        self._backlog = backlog
        after = self._backlog + self._in_service + self._in_queue
        finished = np.maximum(before + arrived - after, 0.0)
        # Never more than came: what the steady state would hold more of is not there yet.
        short = np.maximum(after - before - arrived, 0.0)
        self._in_service = np.maximum(self._in_service - short, 0.0)
        p_wait = np.where(flowing, figures[P_WAIT], 1.0)
        fixed = np.minimum(full[:, FIXED_PREFILL], prefill)[:, None]
        firsts = FirstTokens(
            left=iteration_left(itl, figures[IN_SERVICE], p_wait),
            prefill=fixed + (prefill[:, None] - fixed) * self._relative,
            p_wait=p_wait,
            # In the full batch waits are exponential.
            rate=np.maximum(full[:, MAX_RATE] * (1 - np.minimum(load, GRID[-1])), 1e-12) / full[:, STRETCH],
            flowing=flowing,
            least=least,
            most=most,
        )
        wait = wait + firsts.left.mean(axis=1)
        ttft, gaps = wait + prefill, finished * np.maximum(outputs - 1, 0.0)
        self._count(arrived, finished, wait, ttft, itl, gaps, firsts)
        self._export(finished, ttft, itl, gaps, inputs, outputs, full[:, MEMORY])

    def _count(
        self,
        arrived: Floats,
        finished: Floats,
        wait: Floats,
        ttft: Floats,
        itl: Floats,
        gaps: Floats,
        firsts: FirstTokens,
    ) -> None:
        late, waited = firsts.later(self._ttft), firsts.waits_beyond(self._ttw)
        slow = itl > self._itl
        good = np.where(slow, 0.0, 1 - np.maximum(late, waited))
        window = self._ledger.window(self._now_s)
        for name, values in (
            ("arrived", arrived),
            ("finished", finished),
            ("good", finished * good),
            ("slow", finished * slow),
            ("ttft_count", finished),
            ("ttft_sum", finished * ttft),
            ("ttft_late", finished * late),
            ("wait_sum", finished * wait),
            ("wait_late", finished * waited),
            ("gap_count", gaps),
            ("gap_sum", gaps * itl),
        ):
            self._ledger.windows[name][:, window] += values
        self._turn += 1
        times, weights = firsts.points(self._turn)
        self._ledger.first_tokens(times, finished[:, None] * weights, window)

    def _export(
        self,
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
        for column in (engines.INPUT_COUNT, engines.OUTPUT_COUNT, engines.TTFT_COUNT):
            increments[:, column] = finished
        increments[:, engines.ITL_COUNT] = gaps
        increments[:, engines.ITL_SUM] = gaps * itl / 1000
        increments[:, engines.TTFT_SUM] = finished * ttft / 1000
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
        slots = [slot for _, slot, _, _ in self._pods.values()]
        self._samples.record(now_s, slots, self._counters[slots])

    def account(self, now_s: float) -> None:
        """Nothing is left to account for."""

    def load(self, service: int) -> tuple[float, float]:
        """Requests of a service that run and wait."""
        return float(self._in_service[service]), float(self._in_queue[service] + self._backlog[service])

    def utilization(self, pod: Pod) -> float:
        """Share of the batch that is in use."""
        found = self._pods.get(pod)
        if found is None:
            return 0.0
        return float(min(self._counters[found[1], engines.RUNNING] / self._full[found[0], BATCH], 1.0))

    def close(self) -> None:
        """The end: count what is still under way."""
        self._ledger.unfinished[:] = self._backlog + self._in_service + self._in_queue

    def _drawn(self, means: Floats) -> Floats:
        """Numbers of requests about their means, as far apart as their variation has them."""
        normal = self._stream.standard_normal(len(means))
        return np.maximum(means + self._cov * np.sqrt(means) * normal, 0.0)

    def _means(self, at_s: float) -> tuple[Floats, Floats, Floats]:
        """Rates (1/s) and lengths of all services at a time, evaluated an hour at once."""
        step = self._setting.scenario.scrape_interval / 3
        if self._horizon is None or not self._horizon[0] <= at_s < self._horizon[0] + HORIZON_S:
            start = math.floor(at_s / HORIZON_S) * HORIZON_S
            times: Floats = start + step * (np.arange(math.ceil(HORIZON_S / step), dtype=np.float64) + 0.5)
            rates = np.array([traffic.rate(times) for traffic in self._traffics])
            lengths = [traffic.lengths(times) for traffic in self._traffics]
            inputs, outputs = (np.array([pair[i] for pair in lengths]) for i in (0, 1))
            self._horizon = (start, rates, inputs, outputs)
        start, rates, inputs, outputs = self._horizon
        column = min(int((at_s - start) / step), rates.shape[1] - 1)
        return rates[:, column], inputs[:, column], outputs[:, column]

    def _look_up(self, inputs: Floats, outputs: Floats) -> None:
        """Take the tables of the present profiles and lengths."""
        keys = step_numbers(np.maximum([inputs, outputs], 1.0))
        self._unknown |= set(np.flatnonzero((keys != self._keys).any(axis=0)).tolist())
        self._keys = keys
        for number in sorted(self._unknown):
            table = self._table(number, float(inputs[number]), float(outputs[number]))
            self._full[number], self._curves[number] = table.full, table.curves
        self._unknown.clear()

    def _table(self, number: int, inputs: float, outputs: float) -> _Table:
        service, engine = self._setting.services[number], self._groups[number].engine
        if engine is None:
            return _Table(np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]), np.zeros((CURVES, len(GRID))))
        tokens = service.scenario.tokens
        performance = service.performances[engine.accelerator]
        batch = batch_limit(service, engine, outputs)
        inputs, outputs = length_step(inputs), max(length_step(outputs), 1.0)
        key = (performance, batch, inputs, outputs, self._cov[number], tokens)
        if key not in self._tables:
            latency = latency_model(performance, inputs, outputs, len(GRID))
            rate = batch / float(latency.service_time(batch)[0])
            lengths = {"exponential": 1.0, "deterministic": 0.0}
            spread = 1.0 if tokens is None else lengths.get(tokens.distribution, tokens.cov)
            one = latency_model(performance, inputs, outputs)
            service_cov = queueing.service_cov(one, batch, input_cov=spread, output_cov=spread)
            variability = queueing.Variability(self._cov[number : number + 1], service_cov)
            found = queueing.analyze(latency, batch, GRID * rate, variability=variability)
            curves = (
                found.in_service,
                found.in_queue,
                found.wait,
                found.p_wait,
                found.itl,
                found.prefill,
            )
            self._tables[key] = _Table(
                np.array(
                    [
                        rate,
                        float(latency.itl(batch)[0]),
                        float(latency.prefill(batch)[0]),
                        performance.gamma if inputs > 0 else 0.0,
                        memory_limit(service, engine, outputs),
                        batch,
                        float(variability.stretch[0]),
                    ]
                ),
                np.array(curves),
            )
        return self._tables[key]


def _interpolated(curves: Floats, load: Floats) -> Floats:
    """Curves (services, 6, grid) at a load each, shape (6, services)."""
    right = np.clip(np.searchsorted(GRID, load, side="right"), 1, len(GRID) - 1)
    low, high = GRID[right - 1], GRID[right]
    share = (load - low) / (high - low)
    rows = np.arange(len(load))
    below, above = curves[rows, :, right - 1], curves[rows, :, right]
    result: Floats = (below * (1 - share)[:, None] + above * share[:, None]).T
    return result
