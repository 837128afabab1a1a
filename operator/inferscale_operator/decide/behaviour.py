"""How a service may follow its recommendations now: the service's own rules over those of the policy."""

from __future__ import annotations

from inferscale_operator.api.inference_service import InferenceServiceSpec
from inferscale_operator.decide.bounds import Bounds, bounds_at, zero_bound
from inferscale_operator.decide.pacing import Limits, rules
from inferscale_operator.decide.stabilization import Windows
from inferscale_operator.metrics.presets import wakes_from_zero
from inferscale_operator.snapshot import Snapshot
from inferscale_queueing.frozen import frozen

UP_WINDOW_S, DOWN_WINDOW_S = 120, 300
"""Stabilization windows of who has none."""


@frozen
class Behaviour:
    """Windows, scaling policies and bounds, as they hold."""

    windows: Windows
    limits: Limits
    bounds: Bounds
    no_wake_up: str = ""
    """Why it does not go to 0 replicas although its bounds say so, for people; empty: nothing of the kind."""

    @property
    def keeps_accelerator(self) -> bool:
        """Whether a direction is disabled: a change of accelerator is both."""
        return self.limits.up.disabled or self.limits.down.disabled


def behaviour(spec: InferenceServiceSpec, snapshot: Snapshot) -> Behaviour:
    """The behaviour of a service at the time of the snapshot."""
    default, own = snapshot.policy.behavior, spec.behavior
    bounds, field = bounds_at(spec, snapshot.time), zero_bound(spec)
    no_wake_up = ""
    if field is not None and not wakes_from_zero(snapshot.policy, spec):
        bounds = Bounds(max(bounds.least, 1), bounds.most)
        no_wake_up = (
            f"{field} is 0, and its metrics preset has no gateway that could tell that requests wait:"
            " it counts as 1. Set it to 1, or name a preset with a gateway"
        )
    up, down = own.scale_up.stabilization_window_seconds, own.scale_down.stabilization_window_seconds
    if up is None:
        up = default.scale_up.stabilization_window_seconds
    if down is None:
        down = default.scale_down.stabilization_window_seconds
    return Behaviour(
        windows=Windows(
            up=UP_WINDOW_S if up is None else up,
            down=DOWN_WINDOW_S if down is None else down,
            tick=snapshot.policy.tick_seconds,
            # Unless somebody asked for a window.
            overdue=0 if up is None else None,
        ),
        limits=Limits(
            up=rules(own.scale_up, default.scale_up), down=rules(own.scale_down, default.scale_down)
        ),
        bounds=bounds,
        no_wake_up=no_wake_up,
    )
