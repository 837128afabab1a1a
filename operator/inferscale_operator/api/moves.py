"""What an InferenceAllocation keeps of moves, and of how long replicas take to come up."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, Field

from inferscale_operator.api.base import Schema


class MoveStep(StrEnum):
    """Steps of a change of pod template."""

    BRING_UP = "BringUp"
    HAND_OVER = "HandOver"
    TRIM = "Trim"
    ROLL_BACK = "RollBack"


class MoveSide(Schema):
    """One side of a move."""

    accelerator: str
    """AcceleratorProfile; empty: not recognised."""
    replicas: int
    """Replicas."""
    max_batch: int | None = None
    """Batch limit, where it is managed."""


class MoveStatus(Schema):
    """A change of accelerator or batch that is under way, so that a restart goes on where it was."""

    step: MoveStep
    """Step that is under way."""
    source: MoveSide = Field(alias="from")
    """What served before."""
    to: MoveSide
    """What will serve."""
    started_at: AwareDatetime
    """When the move began."""
    step_started_at: AwareDatetime
    """When the step began."""
    prior_strategy: dict[str, Any] = Field(default_factory=dict)
    """The owner's own rollout strategy, put back at the end."""
    prior_template: dict[str, Any] = Field(default_factory=dict)
    """Strategic merge patch that puts the pod template back as it was."""
    prior_revision: int | None = None
    """Revision of the Deployment before."""
    template_hash: str | None = None
    """Hash of the whole pod template as we left it, to tell a change of somebody else's."""
    onward: str | None = None
    """AcceleratorProfile that the service goes on to: this is a stop that makes room for others."""
    cause: str = ""
    """Why it is taken back; empty: it is not."""


class MoveOutcome(StrEnum):
    """How a move ended."""

    COMPLETED = "Completed"
    ROLLED_BACK = "RolledBack"


class LastMove(Schema):
    """The move that ended last; the cool-down counts from it."""

    ended_at: AwareDatetime
    """When it ended."""
    outcome: MoveOutcome
    """How it ended."""
    accelerator: str
    """AcceleratorProfile that it led to, or did not."""
    onward: str | None = None
    """AcceleratorProfile that the service goes on to, without a cool-down: the move was a stop on the way."""


class ScalingUp(Schema):
    """More replicas that have been asked for, to see how long they take to come up."""

    accelerator: str
    """AcceleratorProfile."""
    replicas: int
    """Replicas that were asked for."""
    since: AwareDatetime
    """When they were."""


class StartupTime(Schema):
    """How long replicas took to come up on a profile, in a move or in a scale-up."""

    accelerator: str
    """AcceleratorProfile."""
    seconds: float
    """From the start of the move, or the patch that asked for them, until all were seen to be ready."""


class FailedMove(Schema):
    """A move that was rolled back; its profile is left out for a while."""

    accelerator: str
    """AcceleratorProfile that did not come up."""
    time: AwareDatetime
    """When it was rolled back."""
    message: str
    """What was seen."""
