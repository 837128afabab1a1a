"""What became of the requests, and what it cost: figures by service and window of time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inferscale_operator.twin.resources import Setting, SimulatedService
from inferscale_queueing.frozen import frozen

Floats = NDArray[np.float64]

FIELDS = (
    "arrived",
    "finished",
    "good",
    "lost",
    "slow",
    "held",
    "ttft_count",
    "ttft_sum",
    "ttft_late",
    "wait_sum",
    "wait_late",
    "gap_count",
    "gap_sum",
)
"""Counts and sums of a window: requests that came, that were finished, that met every objective, that were
lost, whose ITL was above the objective, that no pod has at its end; first tokens, their time since arrival
(ms), those later than the objective; the waits (ms) and those longer than the objective; gaps between tokens
and their time (ms)."""

# Times to first token are counted in bins that are 3 % wide.
BINS = np.concatenate([[0.0], np.geomspace(0.1, 1e8, 701), [math.inf]])
BIN_WIDTH = math.log(BINS[2] / BINS[1])


@frozen(eq=False)
class Held:
    """What the services hold at a time.

    Attributes:
        cost: Per hour, shape (services,).
        ready: Replicas that serve, shape (services,).
        asked: Replicas that are asked for, shape (services,).
        units: Units by type of accelerator, shape (services, types).
    """

    cost: Floats
    ready: Floats
    asked: Floats
    units: Floats


class Ledger:
    """The account of one simulation.

    Attributes:
        windows: By field, shape (services, windows).
        ready_s: Replica-seconds that were ready, shape (services, windows).
        asked_s: Replica-seconds that were asked for, shape (services, windows).
        cost: What was held cost, shape (services, windows).
        types: Types of accelerators.
        counted: Whether a window counts where figures are not kept by window (energy, units, the tail of
            TTFT), shape (services, windows); None: all do.
        units_s: Unit-seconds held, shape (services, types).
        energy_j: Joules by service, on profiles whose power is known.
        unfinished: Requests still under way at the end, by service.
        overdue: Those of them that no pod has and that are late already, by service.
        ttft_bins: Counts of times to first token, shape (services, bins).
    """

    def __init__(self, setting: Setting, counted: NDArray[np.bool_] | None = None) -> None:
        scenario = setting.scenario
        self.setting, self.counted = setting, counted
        self.window_s = scenario.window
        self.count = max(1, math.ceil(scenario.duration / scenario.window))
        shape = (len(setting.services), self.count)
        self.windows = {name: np.zeros(shape) for name in FIELDS}
        self.ready_s = np.zeros(shape)
        self.asked_s = np.zeros(shape)
        self.cost = np.zeros(shape)
        self.types = sorted({spec.type for spec in setting.accelerators.values()})
        self.units_s = np.zeros((len(setting.services), len(self.types)))
        self.energy_j = np.zeros(len(setting.services))
        self.unfinished = np.zeros(len(setting.services))
        self.overdue = np.zeros(len(setting.services))
        self.ttft_bins = np.zeros((len(setting.services), len(BINS) - 1))

    def window(self, at_s: float) -> int:
        """The window of a time; its end belongs to it."""
        return min(max(math.ceil(at_s / self.window_s) - 1, 0), self.count - 1)

    def requests(self, service: int, rows: Sequence[tuple[float, float, float, float, float]]) -> None:
        """Take in completed requests.

        Args:
            service: Index of the service.
            rows: Of each: when it was finished and gave its first token (s), its TTFT, wait and mean time
                between tokens (ms; nan without gaps).
        """
        if not rows:
            return
        targets = self.setting.services[service].targets
        finished, first, ttft, wait, itl = np.array(rows).T
        late = ttft > (targets.ttft or math.inf)
        waited = wait > (targets.ttw or math.inf)
        slow = itl > (targets.itl or math.inf)
        ends = np.clip(np.ceil(finished / self.window_s).astype(int) - 1, 0, self.count - 1)
        begins = np.clip(np.ceil(first / self.window_s).astype(int) - 1, 0, self.count - 1)
        for name, where, values in (
            ("finished", ends, None),
            ("good", ends, ~(late | waited | slow)),
            ("slow", ends, slow),
            ("ttft_count", begins, None),
            ("ttft_sum", begins, ttft),
            ("ttft_late", begins, late),
            ("wait_sum", begins, wait),
            ("wait_late", begins, waited),
        ):
            weights = None if values is None else values.astype(np.float64)
            self.windows[name][service] += np.bincount(where, weights, minlength=self.count)
        counts = ttft if self.counted is None else ttft[self.counted[service, begins]]
        self.ttft_bins[service] += np.histogram(counts, BINS)[0]

    def first_tokens(self, services: NDArray[np.intp], times: Floats, weights: Floats, window: int) -> None:
        """Take in the times to first token of requests that are not known singly.

        Args:
            services: Number of the service of each row, shape (rows,).
            times: Times that stand for those of all requests, ms, shape (rows, K).
            weights: Requests that each time of a row stands for, shape (rows,).
            window: The window they were in.
        """
        if self.counted is not None:
            weights = weights * self.counted[services, window]
        # The same as a search for each, and many times as fast.
        places = np.log(np.maximum(times, BINS[1] / 2) / BINS[1]) / BIN_WIDTH
        bins = np.clip(places + 1, 0, len(BINS) - 2).astype(np.intp)
        first, end = bins.min(), bins.max() + 1
        part = self.ttft_bins[:, first:end]
        cells = services[:, None] * part.shape[1] + (bins - first)
        each = np.repeat(weights, times.shape[1])
        part += np.bincount(cells.ravel(), each, minlength=part.size).reshape(part.shape)

    def hold(self, from_s: float, to_s: float, held: Held, watts: Floats) -> None:
        """Account for what the services held in a while within one window, drawing so much power."""
        seconds, window = to_s - from_s, self.window(to_s)
        self.ready_s[:, window] += held.ready * seconds
        self.asked_s[:, window] += held.asked * seconds
        self.cost[:, window] += held.cost * seconds / 3600
        counts = 1.0 if self.counted is None else self.counted[:, window].astype(np.float64)
        self.energy_j += watts * seconds * counts
        self.units_s += held.units * (seconds * np.reshape(counts, (-1, 1)))

    def patience_s(self, service: int) -> float:
        """How long a request may wait for a pod until it is late, s."""
        targets = self.setting.services[service].targets
        return min(targets.ttft or math.inf, targets.ttw or math.inf) / 1000

    def ttft_quantile(self, service: int, share: float) -> float | None:
        """The TTFT (ms) that a share of the requests does not exceed; None: not known."""
        counts = self.ttft_bins[service]
        total = counts.sum()
        if not total:
            return None
        number = int(np.searchsorted(np.cumsum(counts), share * total))
        return float(min(BINS[min(number + 1, len(BINS) - 2)], 1e8))

    def kept(self, service: int) -> dict[str, NDArray[np.bool_]]:
        """By objective, whether each window with requests kept it; shape (windows with requests,)."""
        targets, figures = self.setting.services[service].targets, self._of(service)
        result = {}
        gaps, firsts = figures["gap_count"], figures["ttft_count"]
        if targets.itl is not None:
            busy = gaps > 0
            result["itl"] = figures["gap_sum"][busy] / gaps[busy] <= targets.itl
        busy = firsts > 0
        for name, objective in (("ttft", targets.ttft), ("wait", targets.ttw)):
            if objective is None:
                continue
            if targets.percentile is None:
                result[name] = figures[f"{name}_sum"][busy] / firsts[busy] <= objective
            else:
                late = figures[f"{name}_late"][busy] / firsts[busy]
                result[name] = late <= 1 - targets.percentile + 1e-9
        return result

    def requests_kept(self, service: int) -> dict[str, float]:
        """By objective, the share of the requests that kept it themselves; empty without requests."""
        targets, total = self.setting.services[service].targets, self._totals(service)
        shares = {}
        for name, objective, missed, of in (
            ("itl", targets.itl, "slow", "finished"),
            ("ttft", targets.ttft, "ttft_late", "ttft_count"),
            ("wait", targets.ttw, "wait_late", "ttft_count"),
        ):
            if objective is not None and total[of] > 0:
                shares[name] = 1 - total[missed] / total[of]
        return shares

    def all_kept(self, service: int) -> NDArray[np.float64]:
        """Whether each window kept every objective; 1, 0 or NaN where there was nothing, shape (windows,)."""
        result = np.full(self.count, np.nan)
        figures = self._of(service)
        for name, kept in self.kept(service).items():
            busy = (figures["gap_count"] if name == "itl" else figures["ttft_count"]) > 0
            value = np.full(self.count, np.nan)
            value[busy] = kept
            result = np.fmin(result, value)
        # Requests that wait, and nothing that serves them.
        waiting = (figures["arrived"] > 0) | (figures["held"] > 0)
        starved = waiting & (self.ready_s[service] == 0)
        result[starved] = 0.0
        return result

    def _totals(self, service: int) -> dict[str, float]:
        return {name: float(values.sum()) for name, values in self._of(service).items()}

    def _of(self, service: int) -> dict[str, Floats]:
        return {name: values[service] for name, values in self.windows.items()}


def cost_per_hour(setting: Setting, service: SimulatedService, accelerator: str) -> float:
    """Of one replica."""
    return service.performances[accelerator].acc_count * setting.accelerators[accelerator].cost
