"""Which accelerators a Deployment uses, how many exist, and where there is room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from inferscale_operator.api.accelerator_profile import AcceleratorProfileSpec
from inferscale_operator.api.model_profile import PerformanceSchema
from inferscale_operator.decide.inventory import Toleration, resources_of
from inferscale_operator.snapshot import DeploymentState, NodeState, PodState
from inferscale_queueing.frozen import frozen


def units_per_replica(profile: AcceleratorProfileSpec, performance: PerformanceSchema) -> int:
    """Units of the physical type that one replica takes."""
    return profile.multiplicity * performance.acc_count


def serving_container(
    pod_spec: Mapping[str, Any], name: str | None, resource_names: Iterable[str]
) -> Mapping[str, Any] | None:
    """The container that serves the model; None when nothing singles one out.

    It is the named one, else the only one that asks for an accelerator, else the only one there is.
    """
    containers: Sequence[Mapping[str, Any]] = pod_spec.get("containers") or ()
    if name is not None:
        return next((c for c in containers if c.get("name") == name), None)
    known = set(resource_names)
    asking = [c for c in containers if known & limits(c).keys()]
    if len(asking) == 1:
        return asking[0]
    return containers[0] if len(containers) == 1 else None


def limits(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """Resource limits of a container."""
    found: Mapping[str, Any] = (container.get("resources") or {}).get("limits") or {}
    return found


def recognise(
    deployment: DeploymentState,
    profiles: Mapping[str, AcceleratorProfileSpec],
    performances: Iterable[PerformanceSchema],
) -> str | None:
    """The profile that the pod template of a Deployment asks for; None when there is none.

    Its node selector is part of the template's and its units are the ones that a container asks for. The
    profile with the most specific selector wins, then the first by name.
    """
    selector = (deployment.pod_spec.get("nodeSelector") or {}).items()
    matching = [
        (-len(profile.node_selector), performance.accelerator)
        for performance in performances
        if (profile := profiles.get(performance.accelerator)) is not None
        and profile.node_selector.items() <= selector
        and any(
            str(limits(container).get(profile.resource_name)) == str(units_per_replica(profile, performance))
            for container in deployment.pod_spec.get("containers") or ()
        )
    ]
    return min(matching)[1] if matching else None


@frozen
class Stock:
    """Accelerators of one type, in units."""

    capacity: int
    """That exist or may be made to exist, headroom not included."""
    held: Mapping[tuple[str, str], int]
    """Held by pods of InferenceServices, by (namespace, Deployment)."""
    used_by_others: int
    """Held by other pods."""
    node_sizes: tuple[int, ...]
    """Units of each usable node; empty where capacity is stated rather than counted."""
    free_by_node: tuple[int, ...]
    """Units that no pod holds, by node; empty where capacity is stated rather than counted."""
    held_by_node: tuple[Mapping[tuple[str, str], int], ...] = ()
    """What `held` is on each of these nodes."""

    @property
    def used(self) -> int:
        """Held by pods of InferenceServices."""
        return sum(self.held.values())

    @property
    def available(self) -> int:
        """Units for InferenceServices, those they hold included."""
        return max(self.capacity - self.used_by_others, 0)

    @property
    def free(self) -> int:
        """Units that nobody holds."""
        return max(self.capacity - self.used - self.used_by_others, 0)


def stocks(
    profiles: Mapping[str, AcceleratorProfileSpec],
    nodes: Iterable[NodeState],
    pods: Iterable[PodState],
    managed: frozenset[tuple[str, str]],
    tolerations: Mapping[str, Sequence[Toleration]] | None = None,
    *,
    all_pods: bool = True,
) -> dict[str, Stock]:
    """Count accelerators of every type.

    Args:
        profiles: The profiles, by name; a type is what they say it is, found on the nodes they select.
        nodes: All nodes with accelerators.
        pods: All pods that have not finished; those on no node hold nothing yet.
        managed: (namespace, Deployment) of the InferenceServices.
        tolerations: Those in the pod templates of the services, by the type that they use: nodes that they
            tolerate count, besides those that the profiles' own tolerations are for.
        all_pods: Whether `pods` has those of the whole cluster. Else it is not known what others hold: of a
            type whose capacity is not stated there is no more than services hold already.
    """
    on_node: dict[str, list[PodState]] = {}
    for pod in pods:
        if pod.node is not None:
            on_node.setdefault(pod.node, []).append(pod)
    usable = sorted((node for node in nodes if node.usable), key=lambda node: node.name)
    by_type: dict[str, list[AcceleratorProfileSpec]] = {}
    for _, profile in sorted(profiles.items()):
        by_type.setdefault(profile.type, []).append(profile)
    more = tolerations or {}
    return {
        kind: stock if all_pods or states_capacity(members) else _no_more(stock)
        for kind, members in by_type.items()
        for stock in (_stock(members, usable, on_node, managed, more.get(kind, ())),)
    }


def states_capacity(members: Iterable[AcceleratorProfileSpec]) -> bool:
    """Whether one of the profiles of a type says how much of it there is for services."""
    return any(profile.capacity.fixed is not None for profile in members)


def _no_more(stock: Stock) -> Stock:
    """What services hold, and nothing else."""
    return Stock(
        capacity=stock.used,
        held=stock.held,
        used_by_others=0,
        node_sizes=(),
        free_by_node=(),
    )


def _stock(
    members: Sequence[AcceleratorProfileSpec],
    nodes: Iterable[NodeState],
    on_node: Mapping[str, Sequence[PodState]],
    managed: frozenset[tuple[str, str]],
    tolerations: Sequence[Toleration],
) -> Stock:
    sizes: list[int] = []
    free: list[int] = []
    held_by_node: list[Counter[tuple[str, str]]] = []
    held: Counter[tuple[str, str]] = Counter()
    others = 0
    for node in nodes:
        resources = resources_of(node, members, tolerations)
        if not resources:
            continue
        size = sum(node.allocatable[resource] for resource in resources)
        taken, here = 0, Counter[tuple[str, str]]()
        for pod in on_node.get(node.name, ()):
            units = sum(pod.requests.get(resource, 0) for resource in resources)
            taken += units
            owner = (pod.namespace, pod.deployment or "")
            if owner in managed:
                here[owner] += units
                held[owner] += units
            else:
                others += units
        held_by_node.append(here)
        sizes.append(size)
        free.append(max(size - taken, 0))
    stated = [p.capacity.fixed for p in members if p.capacity.fixed is not None]
    elastic = [p.capacity.max for p in members if p.capacity.max is not None]
    counted = max(stated) if stated else max([sum(sizes), *elastic])
    by_node = not stated and not elastic
    return Stock(
        capacity=max(counted - max(p.capacity.headroom for p in members), 0),
        held=+held,
        used_by_others=others,
        node_sizes=tuple(sizes) if by_node else (),
        free_by_node=tuple(free) if by_node else (),
        held_by_node=tuple(held_by_node) if by_node else (),
    )


class Room:
    """Free units while a step is put together: what is taken is gone for those that come after."""

    def __init__(self, stocks: Mapping[str, Stock]) -> None:
        self._free = {kind: stock.free for kind, stock in stocks.items()}
        self._nodes = {kind: list(stock.free_by_node) for kind, stock in stocks.items() if stock.node_sizes}

    def free(self) -> dict[str, int]:
        """Free units by type that are left."""
        return dict(self._free)

    def lack(self, kind: str, units: int) -> str:
        """Why there is no room for one more replica of `units` units, for people."""
        free = max(self._free.get(kind, 0), 0)
        if free == 0:
            return f"no free {kind}"
        if free < units:
            return f"{free} free {kind}, a replica needs {units}"
        return f"{free} free {kind}, but no {units} on one node"

    def take(self, kind: str, units: int, replicas: int) -> int:
        """Take room for up to `replicas` replicas of `units` units each; returns for how many there was."""
        granted = min(replicas, self._free.get(kind, 0) // units)
        if kind in self._nodes:
            granted = _place(self._nodes[kind], units, granted)
        if granted:
            self._free[kind] -= granted * units
        return granted


def _place(nodes: list[int], units: int, replicas: int) -> int:
    """Best fit: small replicas go where they leave large holes whole. Returns for how many there was room."""
    placed = 0
    for free, i in sorted((free, i) for i, free in enumerate(nodes) if free >= units):
        here = min(free // units, replicas - placed)
        nodes[i] -= here * units
        placed += here
    return placed
