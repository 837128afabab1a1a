"""The models of the custom resources, and the structural schemas that are made of them."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from custom_resource_examples import ACCEPTED, REFUSED, Object, Refused, service
from inferscale_operator.api import (
    RESOURCES,
    InferenceAllocationStatus,
    InferenceServiceSpec,
    ModelProfileSpec,
    OptimizerPolicySpec,
    Resource,
)
from inferscale_operator.api.base import RuledSchema, Schema
from inferscale_operator.api.constraints import Distinct, Keyed, Rule
from inferscale_operator.api.schema import structural_schema

KINDS = {resource.kind: resource for resource in RESOURCES}


class Colour(StrEnum):
    """What a thing looks like."""

    RED = "Red"
    BLUE = "Blue"


class Part(Schema):
    """A part."""

    name: str
    """Its name."""
    count: int = 2
    """How many."""


class Thing(RuledSchema):
    """A thing."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.share < 0.5", holds=lambda thing: thing.share < 0.5, message="too much", field="share"
        ),
    )

    share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Its share,
    a fraction."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Its limit."""
    colour: Colour = Colour.RED
    """Its colour."""
    part: Part = Part(name="a")
    """Its first part."""
    parts: Annotated[tuple[Part, ...], Field(max_length=4), Keyed("name")] = ()
    """Its parts."""
    tags: Annotated[tuple[str, ...], Field(max_length=4), Distinct()] = ()
    """Its tags."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Its labels."""
    patch: dict[str, Any] = Field(default_factory=dict)
    """Whatever."""


def fields(schema: Object) -> Iterator[Object]:
    yield schema
    for child in schema.get("properties", {}).values():
        yield from fields(child)
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from fields(schema[key])


def property_of(name: str, model: type[BaseModel] = Thing) -> Object:
    return structural_schema(model)["properties"][name]


def test_an_optional_field_has_its_type_and_no_default() -> None:
    assert property_of("limit") == {"description": "Its limit.", "type": "integer", "minimum": 1}


def test_an_exclusive_bound_is_a_bound_and_a_flag() -> None:
    assert property_of("share") == {
        "description": "Its share, a fraction.",
        "type": "number",
        "default": 0.25,
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 1,
    }


def test_an_enumeration_is_inlined_with_the_description_of_its_field() -> None:
    assert property_of("colour") == {
        "description": "Its colour.",
        "type": "string",
        "default": "Red",
        "enum": ["Red", "Blue"],
    }


def test_the_default_of_an_object_is_the_defaults_of_its_fields() -> None:
    assert property_of("part")["default"] == {"count": 2}


def test_a_keyed_list_is_a_map_for_the_server_and_refuses_a_key_twice() -> None:
    schema = property_of("parts")
    assert schema["x-kubernetes-list-type"] == "map"
    assert schema["x-kubernetes-list-map-keys"] == ["name"]
    assert schema["maxItems"] == 4
    assert "default" not in schema
    with pytest.raises(ValidationError, match="name 'a' is listed twice; list it once"):
        Thing.model_validate({"parts": [{"name": "a"}, {"name": "a"}]})


@given(st.lists(st.sampled_from("abcd"), max_size=4))
@settings(deadline=None)
def test_a_distinct_list_is_a_set_and_keeps_its_order(tags: list[str]) -> None:
    assert property_of("tags")["x-kubernetes-list-type"] == "set"
    if len(set(tags)) == len(tags):
        assert list(Thing.model_validate({"tags": tags}).tags) == tags
    else:
        with pytest.raises(ValidationError, match="listed twice"):
            Thing.model_validate({"tags": tags})


def test_a_free_object_keeps_what_it_is_given() -> None:
    assert property_of("patch") == {
        "description": "Whatever.",
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    }
    assert property_of("labels")["additionalProperties"] == {"type": "string"}


def test_a_rule_holds_in_python_and_is_written_for_the_server() -> None:
    assert structural_schema(Thing)["x-kubernetes-validations"] == [
        {"rule": "self.share < 0.5", "message": "too much", "fieldPath": ".share"}
    ]
    with pytest.raises(ValidationError, match="too much"):
        Thing(share=0.75)


def test_a_field_of_two_types_is_no_structural_schema() -> None:
    class Either(BaseModel):
        value: int | str

    with pytest.raises(ValueError, match="a structural schema has one type"):
        structural_schema(Either)


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_every_schema_is_structural_and_every_field_is_described(resource: Resource) -> None:
    for model in (resource.spec, resource.status):
        for field in fields(structural_schema(model)):
            assert field["type"] in {"object", "array", "string", "integer", "number", "boolean"}
            assert not {"$ref", "$defs", "anyOf", "allOf", "const", "title"} & field.keys()
            for child in field.get("properties", {}).values():
                assert child["description"].endswith(".")


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_every_list_text_and_map_of_a_spec_is_bounded(resource: Resource) -> None:
    bounds = {"array": "maxItems", "string": "maxLength"}
    for field in fields(structural_schema(resource.spec)):
        if "enum" not in field and field["type"] in bounds:
            assert bounds[field["type"]] in field
        if "additionalProperties" in field:
            assert "maxProperties" in field


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_a_rule_blames_a_field_that_is_there(resource: Resource) -> None:
    for field in fields(structural_schema(resource.spec)):
        for rule in field.get("x-kubernetes-validations", ()):
            assert rule.get("fieldPath", ".").removeprefix(".") in ["", *field["properties"]]


@pytest.mark.parametrize("example", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_the_server_accepts_the_model_accepts_and_writes_back(example: Object) -> None:
    spec = KINDS[example["kind"]].spec
    parsed = spec.model_validate(example["spec"])
    assert spec.model_validate(parsed.model_dump(mode="json", by_alias=True)) == parsed
    assert parsed.model_dump(mode="json", by_alias=True, exclude_unset=True) == example["spec"]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.why)
def test_what_the_server_refuses_the_model_refuses_and_says_why(case: Refused) -> None:
    with pytest.raises(ValidationError) as refusal:
        KINDS[case.object["kind"]].spec.model_validate(case.object["spec"])
    assert case.model in str(refusal.value)


def test_a_number_may_be_written_without_a_point() -> None:
    parsed = ModelProfileSpec.model_validate(
        {
            "modelName": "m",
            "profiles": [
                {"accelerator": "a", "alpha": 20, "beta": 1, "maxBatchSize": 8, "atTokens": 100},
            ],
        }
    )
    assert isinstance(parsed.profiles[0].alpha, float)


def test_a_field_of_a_newer_version_is_ignored() -> None:
    spec = service()["spec"]
    assert InferenceServiceSpec.model_validate(spec | {"colour": 3}) == InferenceServiceSpec.model_validate(
        spec
    )


def test_an_empty_policy_has_the_documented_defaults() -> None:
    policy = OptimizerPolicySpec()
    assert policy.tick_seconds == 30
    assert policy.accelerators == "Limited"
    assert policy.saturation_policy == "PriorityExhaustive"


def test_a_service_recommends_unless_its_owner_asks_for_more() -> None:
    assert InferenceServiceSpec.model_validate(service()["spec"]).mode == "Recommend"


def test_a_move_survives_its_way_through_the_status() -> None:
    status = InferenceAllocationStatus.model_validate(
        {
            "move": {
                "step": "BringUp",
                "from": {"accelerator": "h100", "replicas": 2},
                "to": {"accelerator": "l40s", "replicas": 3, "maxBatch": 16},
                "startedAt": "2026-01-01T00:00:00Z",
                "stepStartedAt": "2026-01-01T00:00:10Z",
                "priorStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
                "priorTemplate": {"spec": {"nodeSelector": {"gpu": None}}},
            }
        }
    )
    written = status.model_dump(mode="json", by_alias=True)
    assert InferenceAllocationStatus.model_validate(written) == status
    assert written["move"]["priorTemplate"] == {"spec": {"nodeSelector": {"gpu": None}}}
