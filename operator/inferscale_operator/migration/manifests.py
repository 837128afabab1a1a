"""Custom resources to be looked at before they are applied: manifests with remarks, as YAML or JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from inferscale_operator.api import RESOURCES
from inferscale_operator.api.base import API_VERSION
from inferscale_operator.errors import UsageError
from inferscale_operator.kube.parse import explain
from inferscale_queueing.frozen import frozen

WIDTH = 110
COMMAND = "  "
"""What a remark that is a command begins with: it stays on one line."""
LARGEST_WHOLE = 1e15
"""Figures below it that are whole are written so: `75` and not `75.0`."""
SPECS = {resource.kind: resource.spec for resource in RESOURCES}


@frozen
class Manifest:
    """A custom resource, and what whoever applies it should know."""

    kind: str
    name: str
    spec: Mapping[str, Any]
    namespace: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def object(self) -> dict[str, Any]:
        """The object as JSON."""
        metadata = {"name": self.name} | ({"namespace": self.namespace} if self.namespace else {})
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "metadata": metadata,
            "spec": _plain(self.spec),
        }


def as_yaml(manifests: Iterable[Manifest]) -> str:
    """Documents with the remarks as comments above them."""
    return "---\n".join(_document(manifest) for manifest in manifests)


def as_json(manifests: Iterable[Manifest]) -> str:
    """A list that `kubectl apply` takes; it has no room for remarks."""
    listed = {"apiVersion": "v1", "kind": "List", "items": [manifest.object for manifest in manifests]}
    return json.dumps(listed, indent=2, ensure_ascii=False) + "\n"


def check(manifests: Sequence[Manifest], origin: Mapping[tuple[str, str], str]) -> None:
    """Whether the API server would take them.

    Args:
        manifests: What was made.
        origin: What they were made of, for messages, by kind and name.

    Raises:
        UsageError: lists every one that it would not.
    """
    wrong = []
    for manifest in manifests:
        try:
            SPECS[manifest.kind].model_validate(_plain(manifest.spec))
        except ValidationError as error:
            made_of = origin.get((manifest.kind, manifest.name), "")
            wrong.append(f"  {manifest.kind} {manifest.name}{made_of}: {explain(error)}")
    if wrong:
        raise UsageError("the custom resources do not take these values:\n" + "\n".join(wrong))


def _document(manifest: Manifest) -> str:
    lines = [line for remark in manifest.remarks for line in _comment(remark)]
    text = yaml.safe_dump(manifest.object, sort_keys=False, allow_unicode=True, width=WIDTH)
    return "".join(f"{line}\n" for line in lines) + text


def _comment(remark: str) -> list[str]:
    if remark.startswith(COMMAND):
        return [f"# {remark}"]
    return textwrap.wrap(
        remark,
        WIDTH - 2,
        break_long_words=False,
        break_on_hyphens=False,
        initial_indent="# ",
        subsequent_indent="#   ",
    )


def _plain(value: Any) -> Any:
    """Without what YAML would mark with a tag: tuples, mappings of other kinds, enumerations."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_WHOLE:
        return int(value)
    return str(value) if isinstance(value, str) else value
