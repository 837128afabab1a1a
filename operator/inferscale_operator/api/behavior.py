"""How fast a service may follow its recommendations, in the vocabulary of HorizontalPodAutoscaler v2."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictInt

from inferscale_operator.api.base import Schema


class ScalingRules(Schema):
    """Rules of one direction."""

    stabilization_window_seconds: Annotated[StrictInt, Field(ge=0, le=3600)] | None = None
    """Seconds of past recommendations that are taken into account before scaling: up goes to the smallest,
    down to the largest of them."""


class Behavior(Schema):
    """Rules by direction; what is left out comes from the OptimizerPolicy."""

    scale_up: ScalingRules = ScalingRules()
    """Rules of scaling up; its window is 120 s unless said."""
    scale_down: ScalingRules = ScalingRules()
    """Rules of scaling down; its window is 300 s unless said."""
