"""ServiceClass: how important a class of users is and what it was promised."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StrictFloat, StrictInt

from inferscale_operator.api.base import Conditions, NamespaceName, ResourceName, RuledSchema, Schema
from inferscale_operator.api.constraints import Distinct, Keyed, Rule
from inferscale_operator.api.resource import AGE, READY, Column, Resource

Milliseconds = Annotated[StrictFloat, Field(gt=0, le=3_600_000)]
"""A latency objective, ms, up to an hour."""


class ModelTargets(RuledSchema):
    """The latency objectives of the class for one model."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.itl) || has(self.ttft) || has(self.ttw) || has(self.tps)",
            holds=lambda targets: (
                (targets.itl, targets.ttft, targets.ttw, targets.tps) != (None, None, None, None)
            ),
            message="a model needs an objective: give at least one of itl, ttft, ttw (ms) and tps (tokens/s)",
        ),
        Rule(
            cel="!has(self.percentile) || has(self.ttft) || has(self.ttw)",
            holds=lambda targets: (
                targets.percentile is None or targets.ttft is not None or targets.ttw is not None
            ),
            message="percentile is of ttft and ttw: give one of them, or drop it",
            field="percentile",
        ),
    )

    model: ResourceName
    """Name of a ModelProfile."""
    itl: Milliseconds | None = None
    """Inter-token latency, ms, a mean."""
    ttft: Milliseconds | None = None
    """Time to first token (wait + prefill), ms, held at `percentile`."""
    ttw: Milliseconds | None = None
    """Wait in the queue alone, ms, held at `percentile`."""
    tps: Annotated[StrictFloat, Field(gt=0, le=1_000_000_000)] | None = None
    """Tokens per second of the whole service."""
    percentile: Annotated[StrictFloat, Field(gt=0, lt=1)] | None = None
    """Fraction of requests within `ttft` and `ttw`, such as 0.95; none: they are means."""


class ServiceClassSpec(Schema):
    """How important a class of users is and what it was promised."""

    priority: Annotated[StrictInt, Field(ge=1, le=100)]
    """1 is served first, 100 last."""
    models: Annotated[tuple[ModelTargets, ...], Field(min_length=1, max_length=256), Keyed("model")]
    """Objectives by model."""
    allowed_namespaces: Annotated[tuple[NamespaceName, ...], Field(max_length=256), Distinct()] = ()
    """Namespaces whose services may be of this class; none: all."""


class ServiceClassStatus(Schema):
    """What the operator made of the class."""

    observed_generation: int | None = None
    """Generation that was last read."""
    conditions: Conditions = ()
    """`Ready`: valid, and every model it names exists."""


SERVICE_CLASS = Resource(
    kind="ServiceClass",
    plural="serviceclasses",
    short_names=("svcclass",),
    namespaced=False,
    spec=ServiceClassSpec,
    status=ServiceClassStatus,
    columns=(
        Column("Priority", ".spec.priority", "integer", "1 is served first, 100 last."),
        READY,
        AGE,
    ),
)
