"""Which nodes count for a type of accelerator, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from inferscale_operator.api.accelerator_profile import AcceleratorProfileSpec
from inferscale_operator.snapshot import NodeState, TaintState

Toleration = Mapping[str, Any]
"""As in a pod."""

SHOWN_NODES = 16
"""Nodes that a status names."""


def resources_of(
    node: NodeState, members: Iterable[AcceleratorProfileSpec], more: Sequence[Toleration] = ()
) -> tuple[str, ...]:
    """The resources of a node that count for a type; empty: none does.

    Args:
        node: The node.
        members: The profiles of the type.
        more: Tolerations in the pod templates of the services that use the type: a move keeps them.
    """
    found: dict[str, None] = {}
    for profile in members:
        there = _selects(profile, node) and node.allocatable.get(profile.resource_name, 0) > 0
        if there and not obstacle(node, profile, more):
            found[profile.resource_name] = None
    return tuple(found)


def obstacle(node: NodeState, profile: AcceleratorProfileSpec, more: Sequence[Toleration] = ()) -> str:
    """Why a node that a profile selects does not count; empty: it does."""
    if node.cordoned:
        return "it is cordoned"
    if not node.usable:
        return "it is not ready"
    for taint in node.taints:
        own = (t.model_dump(by_alias=True, exclude_none=True) for t in profile.tolerations)
        if not any(tolerates(toleration, taint) for toleration in (*own, *more)):
            value = f"={taint.value}" if taint.value else ""
            return f"its taint {taint.key}{value}:{taint.effect} is not tolerated"
    if node.allocatable.get(profile.resource_name, 0) == 0:
        return (
            f"it publishes no {profile.resource_name} (no device plugin runs, its devices are partitioned, or"
            " they are published through DRA alone, which is not counted)"
        )
    return ""


def tolerates(toleration: Toleration, taint: TaintState) -> bool:
    """Whether a toleration is for a taint, by the rule of the scheduler."""
    if toleration.get("effect") not in (None, "", taint.effect):
        return False
    key = toleration.get("key") or ""
    exists = toleration.get("operator") == "Exists"
    if key not in ("", taint.key) or (not key and not exists):
        return False
    return exists or (toleration.get("value") or "") == taint.value


def left_out(
    profile: AcceleratorProfileSpec, nodes: Iterable[NodeState], more: Sequence[Toleration] = ()
) -> tuple[str, ...]:
    """The nodes that a profile selects and that do not count, each with the reason; not all of very many."""
    found = [
        f"{node.name}: {why}"
        for node in sorted(nodes, key=lambda node: node.name)
        if _selects(profile, node) and (why := obstacle(node, profile, more))
    ]
    rest = len(found) - SHOWN_NODES
    return (*found[:SHOWN_NODES], f"and {rest} more") if rest > 0 else tuple(found)


def _selects(profile: AcceleratorProfileSpec, node: NodeState) -> bool:
    return profile.node_selector.items() <= node.labels.items()
