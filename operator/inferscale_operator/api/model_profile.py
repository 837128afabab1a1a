"""ModelProfile: how a model performs on each accelerator profile."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StrictFloat, StrictInt

from inferscale_operator.api.base import Conditions, ResourceName, RuledSchema, Schema
from inferscale_operator.api.constraints import Keyed, Rule
from inferscale_operator.api.resource import AGE, READY, Column, Resource

Milliseconds = Annotated[StrictFloat, Field(ge=0, le=1_000_000)]
"""A latency parameter, ms; the bound keeps out figures in other units."""


class PerformanceSchema(RuledSchema):
    """How the model runs on one accelerator profile."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.alpha + self.beta > 0.0",
            holds=lambda performance: performance.alpha + performance.beta > 0,
            message="alpha and beta are both 0: a decode iteration takes time, alpha + beta * batch ms",
            field="alpha",
        ),
    )

    accelerator: ResourceName
    """Name of an AcceleratorProfile."""
    acc_count: Annotated[StrictInt, Field(ge=1, le=1024)] = 1
    """Profiles in one replica."""
    alpha: Milliseconds
    """Decode iteration, constant part, ms."""
    beta: Milliseconds
    """Decode iteration, ms for each request in the batch."""
    gamma: Milliseconds = 0.0
    """Prefill, constant part, ms."""
    delta: Milliseconds = 0.0
    """Prefill, ms for each input token and request in the batch."""
    max_batch_size: Annotated[StrictInt, Field(ge=1, le=65536)]
    """Requests that fit in memory at once when each has `atTokens` tokens."""
    at_tokens: Annotated[StrictInt, Field(ge=1, le=10_000_000)]
    """Tokens of a request at which `maxBatchSize` was measured."""
    startup_seconds: Annotated[StrictInt, Field(ge=0, le=86400)] | None = None
    """Seconds from the creation of a replica until it is ready: what a move there costs, and how far ahead a
    load that rises is planned for, until it was seen. None: the policy's `moves.startupSeconds`."""


class ModelProfileSpec(Schema):
    """How a model performs on each accelerator profile that it has been measured on."""

    model_name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name the engine gives the model in its metrics (label `model_name`)."""
    profiles: Annotated[
        tuple[PerformanceSchema, ...], Field(min_length=1, max_length=64), Keyed("accelerator")
    ]
    """Performance by accelerator profile."""


class ModelProfileStatus(Schema):
    """What the operator made of the profile."""

    observed_generation: int | None = None
    """Generation that was last read."""
    conditions: Conditions = ()
    """`Ready`: valid, and every accelerator it names exists."""


MODEL_PROFILE = Resource(
    kind="ModelProfile",
    plural="modelprofiles",
    short_names=("modelprof",),
    namespaced=False,
    spec=ModelProfileSpec,
    status=ModelProfileStatus,
    columns=(
        Column("Model-Name", ".spec.modelName", "string", "Name the engine gives the model."),
        READY,
        AGE,
    ),
)
