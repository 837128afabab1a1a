"""Emulated nodes with accelerators, from a small JSON file.

The file is a list of groups of equal nodes, `{"name", "count", "labels", "taints", "allocatable"}`, of which
only `name` and `allocatable` are needed. The nodes of a group are called `NAME-0`, `NAME-1` and so on.
"""

from __future__ import annotations

import json
from pathlib import Path

from . import kwok
from .errors import ClusterError

LABEL = "inferscale.dev/emulated"
_FIELDS = {"name": str, "count": int, "labels": dict, "taints": list, "allocatable": dict}
_BASE = {"cpu": "96", "memory": "1Ti", "pods": "110"}


def read(file: Path) -> list[dict[str, object]]:
    """The Node objects that a file describes.

    Raises:
        ClusterError: the file is missing or wrong; the message names the entry, the field and the value.
    """
    try:
        groups = json.loads(file.read_text())
    except FileNotFoundError:
        raise ClusterError(f"{file}: no such file of nodes") from None
    except json.JSONDecodeError as error:
        raise ClusterError(f"{file}: not JSON: {error}") from None
    if not isinstance(groups, list):
        raise ClusterError(f'{file}: must be a list of groups of nodes, [{{"name": …, "allocatable": …}}]')
    nodes = [node for index, group in enumerate(groups) for node in _group(group, f"{file}: entry {index}")]
    names = [group["name"] for group in groups]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ClusterError(f"{file}: name: {repeated[0]!r} is used twice")
    return nodes


def manifest(nodes: list[dict[str, object]]) -> str:
    """The nodes as one JSON document for `kubectl apply`."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes})


def _group(group: object, where: str) -> list[dict[str, object]]:
    if not isinstance(group, dict):
        raise ClusterError(f"{where}: must be an object, not {group!r}")
    for field, value in group.items():
        if field not in _FIELDS:
            raise ClusterError(
                f"{where}: {field!r} is not a field of a group of nodes: use {', '.join(_FIELDS)}"
            )
        if not isinstance(value, _FIELDS[field]) or isinstance(value, bool):
            raise ClusterError(f"{where}: {field}: must be a JSON {_FIELDS[field].__name__}, not {value!r}")
    for field in ("name", "allocatable"):
        if not group.get(field):
            raise ClusterError(f"{where}: {field}: is missing")
    count = group.get("count", 1)
    if count < 0:
        raise ClusterError(f"{where}: count: must not be negative, is {count}")
    return [_node(f"{group['name']}-{index}", group) for index in range(count)]


def _node(name: str, group: dict[str, dict[str, object]]) -> dict[str, object]:
    resources = {resource: str(amount) for resource, amount in (_BASE | group["allocatable"]).items()}
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        LABEL: "true",
    }
    key, _, value = kwok.SELECTOR.partition("=")
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels | group.get("labels", {}), "annotations": {key: value}},
        "spec": {"taints": group["taints"]} if group.get("taints") else {},
        "status": {"allocatable": resources, "capacity": resources},
    }
