"""The queueing model of a replica, tabulated over its load."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

import inferscale_queueing as queueing
from inferscale_operator.twin.cluster import Engine
from inferscale_operator.twin.engines import batch_limit, latency_model, length_step, memory_limit
from inferscale_operator.twin.resources import SimulatedService
from inferscale_queueing.frozen import frozen

Floats = NDArray[np.float64]

GRID = np.concatenate([[0.0], np.linspace(0.02, 0.9, 45), np.linspace(0.91, 0.995, 18)])
"""Loads that the model is tabulated at, as shares of the largest rate."""

MAX_RATE, FULL_ITL, FULL_PREFILL, FIXED_PREFILL, MEMORY, BATCH, STRETCH = range(FIGURES := 7)
IN_SERVICE, IN_QUEUE, WAIT, P_WAIT, ITL, PREFILL = range(CURVES := 6)


@frozen(eq=False)
class Table:
    """A replica's model.

    Attributes:
        full: Figures of the full batch, shape (7,).
        curves: Figures over `GRID`, shape (6, grid).
    """

    full: Floats
    curves: Floats


@dataclass(eq=False)
class Tables:
    """Tables of all replicas, one for each profile, batch and length (lengths in steps of 2 %)."""

    _known: dict[tuple[object, ...], Table] = field(default_factory=dict)

    def table(
        self,
        service: SimulatedService,
        engine: Engine | None,
        inputs: float,
        outputs: float,
        cov: float,
    ) -> Table:
        """The table of a replica.

        Args:
            service: What it serves.
            engine: What it is; None: there is none, which serves nothing.
            inputs: Mean input tokens.
            outputs: Mean output tokens.
            cov: Coefficient of variation of the gaps between arrivals.
        """
        if engine is None:
            return Table(np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]), np.zeros((CURVES, len(GRID))))
        tokens = service.scenario.tokens
        performance = service.performances[engine.accelerator]
        batch = batch_limit(service, engine, outputs)
        inputs, outputs = length_step(inputs), max(length_step(outputs), 1.0)
        key = (performance, batch, inputs, outputs, cov, tokens)
        if key not in self._known:
            latency = latency_model(performance, inputs, outputs, len(GRID))
            rate = batch / float(latency.service_time(batch)[0])
            lengths = {"exponential": 1.0, "deterministic": 0.0}
            spread = 1.0 if tokens is None else lengths.get(tokens.distribution, tokens.cov)
            one = latency_model(performance, inputs, outputs)
            service_cov = queueing.service_cov(one, batch, input_cov=spread, output_cov=spread)
            variability = queueing.Variability(np.array([cov]), service_cov)
            found = queueing.analyze(latency, batch, GRID * rate, variability=variability)
            curves = (
                found.in_service,
                found.in_queue,
                found.wait,
                found.p_wait,
                found.itl,
                found.prefill,
            )
            self._known[key] = Table(
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
        return self._known[key]


def interpolated(curves: Floats, load: Floats, noise: Floats) -> Floats:
    """Curves (services, 6, grid) at a load each, shape (6, services).

    What the batch holds follows the noise in a straight line, as far down as up, so that its mean is that of
    the load.
    """
    right = np.minimum(np.maximum(np.searchsorted(GRID, load, side="right"), 1), len(GRID) - 1)
    low, high = GRID[right - 1], GRID[right]
    share = (load - low) / (high - low)
    rows = np.arange(len(load))
    below, above = curves[rows, :, right - 1], curves[rows, :, right]
    result: Floats = (below * (1 - share)[:, None] + above * share[:, None]).T
    slope: Floats = ((above - below) / (high - low)[:, None]).T
    # Arrivals see the mean (they know nothing of each other): prefill and wait are its own.
    for name in (IN_SERVICE, ITL):
        room = np.minimum(result[name] - curves[rows, name, 0], curves[rows, name, -1] - result[name])
        result[name] += np.minimum(np.maximum(slope[name] * noise, -room), room)
    return result
