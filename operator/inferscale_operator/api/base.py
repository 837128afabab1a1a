"""What all custom resources share: names of the group, the base models, conditions."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from inferscale_operator.api.constraints import Keyed, Rule

GROUP = "inferscale.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "inferscale"

ResourceName = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
"""Name of a Kubernetes object, as DNS-1123 has it."""

NamespaceName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""Name of a namespace, a DNS-1123 label."""


class Schema(BaseModel):
    """Base of every model: camelCase on the wire, frozen, finite numbers, unknown fields ignored.

    Unknown fields are ignored since the API server prunes them and an older operator must survive a newer
    field.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class RuledSchema(Schema):
    """A model with rules between its fields, which the API server enforces as CEL."""

    RULES: ClassVar[tuple[Rule, ...]]

    @model_validator(mode="after")
    def _keeps_rules(self) -> Self:
        broken = [rule.message for rule in self.RULES if not rule.holds(self)]
        if broken:
            raise ValueError("; ".join(broken))
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        """Add the rules to the schema of the object."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        schema["x-kubernetes-validations"] = [rule.validation() for rule in cls.RULES]
        return schema


class ConditionStatus(StrEnum):
    """Status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Schema):
    """A condition in the form of `metav1.Condition`."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """Kind of the condition, such as `Ready` or `MetricsAvailable`."""
    status: ConditionStatus
    """Whether the condition holds."""
    reason: Annotated[
        str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ]
    """One word for machines that says why."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """A sentence for people that says why and what to do."""
    last_transition_time: AwareDatetime
    """When the status last changed."""
    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """Generation of the object that the condition was derived from."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=16), Keyed("type")]
"""The conditions of an object, one of each type."""
