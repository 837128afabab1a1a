"""How many replicas a load needs, whoever decides."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from inferscale_operator.twin.cluster import Engine
from inferscale_operator.twin.engines import batch_limit, latency_model, length_step
from inferscale_operator.twin.resources import Setting
from inferscale_queueing import Targets, size

MS_PER_MINUTE = 60_000.0


@dataclass
class Need:
    """Replicas by the queueing model, kept by profile, batch and length (in steps of 2 %)."""

    setting: Setting
    _rates: dict[tuple[int, Engine, int, float, float], float] = field(default_factory=dict)

    def replicas(self, service: int, engine: Engine, rate: float, inputs: float, outputs: float) -> float:
        """Replicas of one kind that a load needs within the objectives.

        Args:
            service: Index of the service.
            engine: What a replica is.
            rate: Requests per minute.
            inputs: Mean input tokens.
            outputs: Mean output tokens.

        Returns:
            A whole number; infinite where the objectives cannot be kept.
        """
        tps = self.setting.services[service].targets.tps
        rate = max(rate, 60 * (tps or 0.0) / outputs)
        if rate <= 0:
            return 0.0
        inputs, outputs = length_step(inputs), max(length_step(outputs), 1.0)
        described = self.setting.services[service]
        batch = batch_limit(described, engine, outputs)
        key = (service, engine, batch, inputs, outputs)
        if key not in self._rates:
            self._rates[key] = self._rate(service, engine, batch, inputs, outputs)
        most = self._rates[key]
        return float(math.ceil(rate / most - 1e-9)) if most > 0 else math.inf

    def _rate(self, service: int, engine: Engine, batch: int, inputs: float, outputs: float) -> float:
        described = self.setting.services[service]
        performance, targets = described.performances[engine.accelerator], described.targets
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
        return float(found.rate[0]) * MS_PER_MINUTE if found.attainable[0] else 0.0
