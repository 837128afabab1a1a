"""How many replicas a load needs, whoever decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inferscale_operator.api.model_profile import PerformanceSchema
from inferscale_operator.api.service_class import ModelTargets
from inferscale_operator.twin.cluster import Engine
from inferscale_operator.twin.engines import batch_limit, latency_model, length_step, step_numbers
from inferscale_operator.twin.resources import Setting
from inferscale_operator.twin.traffic import Traffic
from inferscale_queueing import Targets, size

Floats = NDArray[np.float64]

MS_PER_MINUTE = 60_000.0
CHUNK = 64
"""Windows whose loads are computed at once."""


class Need:
    """Replicas by the queueing model, for the load in the middle of each window.

    Args:
        setting: The scenario.
        traffics: Of each service.
    """

    def __init__(self, setting: Setting, traffics: Sequence[Traffic]) -> None:
        self._setting, self._traffics = setting, traffics
        count = len(setting.services)
        self._tps = np.array([service.targets.tps or 0.0 for service in setting.services])
        self._most = np.zeros(count)
        """Requests per minute that a replica serves, by service."""
        self._engines: list[Engine | None] = [None] * count
        self._steps = np.full((2, count), np.nan)
        self._rates: dict[tuple[PerformanceSchema, ModelTargets, int, float, float], float] = {}
        self._chunk = -1
        self._means = np.empty((3, count, 0))

    def replicas(self, window: int, engines: Sequence[Engine]) -> Floats:
        """Replicas of one kind that each service needs to keep its objectives in a window.

        Args:
            window: Number of the window.
            engines: What a replica is, by service.

        Returns:
            Whole numbers, shape (services,); infinite where the objectives cannot be kept.
        """
        rates, inputs, outputs = self._at(window)
        rates = np.maximum(rates * 60, 60 * self._tps / outputs)
        steps = step_numbers(np.array([inputs, outputs]))
        changed = (steps != self._steps).any(axis=0)
        self._steps = steps
        for number, engine in enumerate(engines):
            if changed[number] or engine is not self._engines[number]:
                self._engines[number] = engine
                self._most[number] = self._rate(number, engine, float(inputs[number]), float(outputs[number]))
        with np.errstate(divide="ignore", invalid="ignore"):
            needed = np.where(self._most > 0, np.ceil(rates / self._most - 1e-9), np.inf)
        return np.where(rates > 0, needed, 0.0)

    def _at(self, window: int) -> Floats:
        """Rates (1/s) and lengths in the middle of a window, shape (3, services)."""
        chunk, column = divmod(window, CHUNK)
        if chunk != self._chunk:
            scenario = self._setting.scenario
            windows = np.arange(chunk * CHUNK, (chunk + 1) * CHUNK)
            begin = windows * scenario.window
            middle = (begin + np.minimum((windows + 1) * scenario.window, scenario.duration)) / 2
            each = [(traffic.rate(middle), *traffic.lengths(middle)) for traffic in self._traffics]
            self._means = np.array(each).reshape(-1, 3, CHUNK).swapaxes(0, 1)
            self._chunk = chunk
        return self._means[:, :, column]

    def _rate(self, service: int, engine: Engine, inputs: float, outputs: float) -> float:
        described = self._setting.services[service]
        performance, targets = described.performances[engine.accelerator], described.targets
        inputs, outputs = length_step(inputs), max(length_step(outputs), 1.0)
        batch = batch_limit(described, engine, outputs)
        key = performance, targets, batch, inputs, outputs
        if key not in self._rates:
            found = size(
                latency_model(performance, inputs, outputs),
                batch,
                Targets(
                    itl=np.array([targets.itl or np.inf]),
                    ttft=np.array([targets.ttft or np.inf]),
                    wait=np.array([targets.ttw or np.inf]),
                    percentile=np.array([targets.percentile or 0.0]),
                ),
            )
            attainable = bool(found.attainable[0])
            self._rates[key] = float(found.rate[0]) * MS_PER_MINUTE if attainable else 0.0
        return self._rates[key]
