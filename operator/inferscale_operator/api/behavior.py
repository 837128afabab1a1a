"""How fast a service may follow its recommendations, in the vocabulary of HorizontalPodAutoscaler v2."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StrictFloat, StrictInt

from inferscale_operator.api.base import Schema


class PolicyType(StrEnum):
    """What the value of a scaling policy counts."""

    PODS = "Pods"
    PERCENT = "Percent"


class SelectPolicy(StrEnum):
    """Which of several scaling policies holds."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


class ScalingPolicy(Schema):
    """How much may change within a period."""

    type: PolicyType
    """`Pods`: `value` is a number of replicas; `Percent`: of the replicas at the start of the period."""
    value: Annotated[StrictInt, Field(ge=1, le=10000)]
    """Largest change within the period, replicas or percent."""
    period_seconds: Annotated[StrictInt, Field(ge=1, le=1800)]
    """Length of the period, seconds."""


class ScalingRules(Schema):
    """Rules of one direction."""

    stabilization_window_seconds: Annotated[StrictInt, Field(ge=0, le=3600)] | None = None
    """Seconds of past recommendations that are taken into account before scaling: up goes to the smallest,
    down to the largest of them."""
    policies: Annotated[tuple[ScalingPolicy, ...], Field(max_length=16)] | None = None
    """How much may change within a period. None, here and in the policy: as much as is wanted; an empty list
    says so whatever the policy has."""
    select_policy: SelectPolicy | None = None
    """`Max`: the policy that allows the largest change holds, the default; `Min`: the smallest; `Disabled`:
    no change in this direction, and the accelerator stays."""
    tolerance: Annotated[StrictFloat, Field(ge=0, le=0.5)] | None = None
    """Share of the present replicas that a recommendation on the same accelerator must differ by more than;
    0 unless said."""


class Behavior(Schema):
    """Rules by direction; what is left out comes from the OptimizerPolicy."""

    scale_up: ScalingRules = ScalingRules()
    """Rules of scaling up; its window is 120 s unless said."""
    scale_down: ScalingRules = ScalingRules()
    """Rules of scaling down; its window is 300 s unless said."""
