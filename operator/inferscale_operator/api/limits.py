"""Limits on what a plan may take, beside the accelerators that exist: a budget and quotas."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StrictFloat, StrictInt

from inferscale_operator.api.base import NamespaceName, ResourceName, RuledSchema, Schema
from inferscale_operator.api.constraints import Rule

SHED_LIMIT = 64
"""Services that a status names as shed, the first ones."""


class Budget(Schema):
    """What all services may cost together."""

    max_cost_per_hour: Annotated[StrictFloat, Field(ge=0, le=1_000_000_000)] | None = None
    """Cost per hour that the target of all services may reach, in the currency of the profiles; none: no
    limit. What does not fit is shed from the last priority on; `minReplicas` are kept all the same."""


class AcceleratorQuota(RuledSchema):
    """Units of a type that the services of a namespace or a class may take together."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.__namespace__) || has(self.serviceClass)",
            holds=lambda quota: quota.namespace is not None or quota.service_class is not None,
            message="a quota is for somebody: give namespace, serviceClass, or both",
        ),
    )

    type: Annotated[str, Field(min_length=1, max_length=63)]
    """Type of accelerator, as AcceleratorProfiles have it."""
    units: Annotated[StrictInt, Field(ge=0, le=1_000_000_000)]
    """Units that they may take together."""
    namespace: NamespaceName | None = None
    """Services of this namespace only; none: of any."""
    service_class: ResourceName | None = None
    """Services of this ServiceClass only; none: of any."""


class ShedStatus(Schema):
    """A service that a budget or a quota leaves without its objectives."""

    service: str
    """`namespace/name`."""
    priority: int
    """Of its class."""
    reason: str
    """`OverBudget` or `QuotaExceeded`."""
    message: str
    """What it gets, and what it was short of."""


class QuotaStatus(Schema):
    """What the target takes of a quota."""

    type: str
    """Type of accelerator."""
    namespace: str | None = None
    """Whom the quota is for."""
    service_class: str | None = None
    """Whom the quota is for."""
    units: int
    """Units that they may take together."""
    used: int
    """Units that they take by the target."""
