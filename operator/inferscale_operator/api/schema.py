"""Structural schemas, as the API server asks for them, from pydantic models.

What pydantic emits and a structural schema must not have: references, `anyOf` with null, `const`, numbers as
exclusive bounds, titles.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

JsonSchema = dict[str, Any]

_ATTRIBUTES = (
    "description",
    "type",
    "format",
    "default",
    "enum",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
    "required",
)
"""Attributes that are carried over, in the order in which they are read best."""


def structural_schema(model: type[BaseModel]) -> JsonSchema:
    """The OpenAPI v3 schema of a model that the API server accepts as structural.

    Fields keep the order of the model. A field that is nothing by default (none, an empty text, list or
    object) has no default in the schema, so that objects are not stored with empty fields.
    """
    schema = model.model_json_schema(by_alias=True)
    return _structural(schema, schema.get("$defs", {}))


def _structural(node: JsonSchema, definitions: dict[str, JsonSchema]) -> JsonSchema:
    node = _resolved(node, definitions)
    schema: JsonSchema = {key: node[key] for key in _ATTRIBUTES if key in node} | _values(node)
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    if "items" in node:
        schema["items"] = _structural(node["items"], definitions)
    if isinstance(node.get("additionalProperties"), dict):
        schema["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    elif node.get("additionalProperties") is True:
        schema["x-kubernetes-preserve-unknown-fields"] = True
    if "properties" in node:
        schema["properties"] = {
            name: _structural(child, definitions) for name, child in node["properties"].items()
        }
    if schema["type"] == "object" and schema.get("default") is not None:
        # The API server checks the rules against the default as it is, without the defaults of its fields.
        fields = schema.get("properties", {}).items()
        schema["default"] = {name: child["default"] for name, child in fields if "default" in child}
    if schema.get("default") in (None, "", [], {}):
        schema.pop("default", None)
    return schema


def _values(node: JsonSchema) -> JsonSchema:
    """The bounds, constant and default of a resolved node in the form of OpenAPI 3.0."""
    values: JsonSchema = {"enum": [node["const"]]} if "const" in node else {}
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in node:
            values |= {bound: node[exclusive], exclusive: True}
    for key in ("minimum", "maximum", "default"):
        value = values.get(key, node.get(key))
        if isinstance(value, float) and value.is_integer():
            values[key] = int(value)
    return values


def _resolved(node: JsonSchema, definitions: dict[str, JsonSchema]) -> JsonSchema:
    """The node with its reference and its one alternative to null written out."""
    if "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        return _resolved(definitions[name] | {key: node[key] for key in node if key != "$ref"}, definitions)
    if "anyOf" in node:
        alternatives = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
        if len(alternatives) != 1:
            raise ValueError(f"a structural schema has one type, not {node['anyOf']}")
        return _resolved(alternatives[0] | {key: node[key] for key in node if key != "anyOf"}, definitions)
    return node
