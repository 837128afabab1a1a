"""Power that accelerators draw."""

from __future__ import annotations

import numpy as np

from inferscale_solver.problem import Power


def power_draw(power: Power, utilization: float) -> float:
    """Power of one accelerator profile, piecewise linear in utilization.

    Args:
        power: The profile's figures: `idle` at 0, `mid_power` at `mid_util`, `full` at 1.
        utilization: A fraction; clamped to [0, 1].

    Returns:
        Power in W.
    """
    return float(
        np.interp(utilization, [0.0, power.mid_util, 1.0], [power.idle, power.mid_power, power.full])
    )
