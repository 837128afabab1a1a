"""What a release promised of the custom resources, and whether they still take all that it took.

Fields are added, never removed, renamed or tightened. `python hack/crdbaseline.py` writes the promise into
tests/data/crds.json: at a release, and not to make a test pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
BASELINE = ROOT / "tests" / "data" / "crds.json"
_LOWER = ("minimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "maxLength", "maxItems", "maxProperties")
_SAME = ("type", "format", "x-kubernetes-list-type", "x-kubernetes-map-type", "x-kubernetes-list-map-keys")
_KEPT = (*_LOWER, *_UPPER, *_SAME, "pattern", "enum", "nullable", "x-kubernetes-int-or-string")

Fields = dict[str, dict[str, Any]]
"""What the API server checks of each field, by the definition's name, the version and the field's path."""


def fields(folder: Path = ROOT / "crds") -> Fields:
    """Those of the custom resources in a folder."""
    found: Fields = {}
    for path in sorted(folder.glob("*.yaml")):
        definition = yaml.safe_load(path.read_text(encoding="utf-8"))
        for version in definition["spec"]["versions"]:
            name = f"{definition['metadata']['name']}/{version['name']}"
            schema = version["schema"]["openAPIV3Schema"]
            found |= {f"{name}: {path or '.'}": kept for path, kept in _flat(schema, "", required=False)}
    return found


def _flat(schema: Mapping[str, Any], path: str, *, required: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    rules = sorted(rule["rule"] for rule in schema.get("x-kubernetes-validations", ()))
    kept = {key: schema[key] for key in _KEPT if key in schema}
    yield path, kept | ({"rules": rules} if rules else {}) | ({"required": True} if required else {})
    for name, child in schema.get("properties", {}).items():
        yield from _flat(child, f"{path}.{name}", required=name in schema.get("required", ()))
    for key, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), Mapping):
            yield from _flat(schema[key], f"{path}{suffix}", required=False)


def broken(before: Fields, now: Fields) -> list[str]:
    """What was promised and does not hold any more, a line each."""
    found = []
    for path, old in before.items():
        if path not in now:
            found.append(f"{path}: was removed")
        else:
            found += [f"{path}: {what}" for what in _tightened(old, now[path])]
    for path in now.keys() - before.keys():
        parent = path.rpartition(".")[0]
        # In an object that is new itself it may be required.
        if now[path].get("required") and (parent in before or f"{parent}." in before):
            found.append(f"{path}: is new and required")
    return sorted(found)


def _tightened(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in _SAME:
        if old.get(key) != new.get(key):
            yield f"{key} was {old.get(key)} and is {new.get(key)}"
    yield from _bounded(old, new)
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield f"pattern was {old.get('pattern')} and is {new['pattern']}"
    if "enum" in new and not set(new["enum"]) >= set(old.get("enum", (object(),))):
        yield f"enum was {old.get('enum', 'none')} and is {new['enum']}"
    if old.get("nullable") and not new.get("nullable"):
        yield "null was allowed and is not"
    if new.get("required") and not old.get("required"):
        yield "was optional and is required"
    for rule in new.get("rules", ()):
        if rule not in old.get("rules", ()):
            yield f"rule was added: {rule}"


def _bounded(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in _LOWER:
        if key in new and new[key] > old.get(key, float("-inf")):
            yield f"{key} was raised from {old.get(key, 'none')} to {new[key]}"
    for key in _UPPER:
        if key in new and new[key] < old.get(key, float("inf")):
            yield f"{key} was lowered from {old.get(key, 'none')} to {new[key]}"


if __name__ == "__main__":
    BASELINE.parent.mkdir(exist_ok=True)
    BASELINE.write_text(json.dumps(fields(), indent=0, sort_keys=True) + "\n", encoding="utf-8")
