"""The CustomResourceDefinitions and their reference, generated from the pydantic models.

`python -m inferscale_operator.api.crds` writes `crds/` and `docs/reference.md`; with `--check` it only says
whether they are up to date.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from inferscale_operator.api import RESOURCES
from inferscale_operator.api.base import GROUP, VERSION
from inferscale_operator.api.reference import reference
from inferscale_operator.api.resource import Column, Resource
from inferscale_operator.api.schema import JsonSchema, structural_schema

COMMAND = "python -m inferscale_operator.api.crds"
CATEGORY = "inferscale"
HEADER = f"# Generated from inferscale_operator.api by `{COMMAND}`; do not edit.\n"


def manifest(resource: Resource) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.full_name},
        "spec": {
            "group": GROUP,
            "names": {
                "categories": [CATEGORY],
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "shortNames": list(resource.short_names),
                "singular": resource.singular,
            },
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in resource.columns],
                    "schema": {"openAPIV3Schema": _schema(resource)},
                }
            ],
        },
    }


def files() -> dict[Path, str]:
    """What is generated: content by path within the project."""
    manifests = {
        Path("crds", f"{GROUP}_{resource.plural}.yaml"): HEADER
        + yaml.safe_dump(manifest(resource), sort_keys=False, width=110, allow_unicode=True)
        for resource in RESOURCES
    }
    return manifests | {Path("docs", "reference.md"): reference(RESOURCES, COMMAND)}


def drifted(root: Path) -> list[Path]:
    """The generated files under `root` that differ from the models, and those that no model has any more."""
    expected = files()
    differing = [
        path
        for path, content in expected.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != content
    ]
    return differing + [path for path in _written(root) if path not in expected]


def write(root: Path) -> None:
    """Write the generated files under `root`, and remove those that no model has any more."""
    expected = files()
    for path, content in expected.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content, encoding="utf-8")
    for path in _written(root):
        if path not in expected:
            (root / path).unlink()


def _written(root: Path) -> list[Path]:
    return sorted(path.relative_to(root) for path in (root / "crds").glob(f"{GROUP}_*.yaml"))


def _column(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
        "description": column.description,
    }
    return entry | ({"priority": 1} if column.wide else {})


def _schema(resource: Resource) -> JsonSchema:
    spec = structural_schema(resource.spec)
    required = "required" in spec
    if not required:
        fields = spec["properties"].items()
        spec["default"] = {name: child["default"] for name, child in fields if "default" in child}
    schema: JsonSchema = {
        "description": (sys.modules[resource.spec.__module__].__doc__ or "").strip(),
        "type": "object",
        "properties": {
            "apiVersion": {"description": "Version of the schema of the object.", "type": "string"},
            "kind": {"description": "Kind of the object.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": structural_schema(resource.status),
        },
    }
    if required:
        schema["required"] = ["spec"]
    if resource.only_name is not None:
        # The rule can only blame a field that the schema knows.
        schema["properties"]["metadata"]["properties"] = {"name": {"type": "string"}}
        schema["x-kubernetes-validations"] = [
            {
                "rule": f"self.metadata.name == '{resource.only_name}'",
                "message": f"the only {resource.kind} that is read is named {resource.only_name}: name it so",
                "fieldPath": ".metadata.name",
            }
        ]
    return schema


def main(arguments: list[str] | None = None) -> None:
    """Write the generated files, or check them.

    Raises:
        SystemExit: With `--check` if a file differs; the message names it and the command to run.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description="Generate crds/ and docs/reference.md.")
    parser.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: here)")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a file differs")
    options = parser.parse_args(arguments)
    if not options.check:
        write(options.root)
    elif differing := drifted(options.root):
        names = "\n".join(f"  {path}" for path in differing)
        raise SystemExit(f"not up to date with the models, run `{COMMAND}`:\n{names}")


if __name__ == "__main__":
    main()
