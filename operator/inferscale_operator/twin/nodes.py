"""The nodes of a simulated cluster, and the scheduler's choice among them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import replace

from inferscale_operator.snapshot import NodeState
from inferscale_operator.twin.resources import TYPE_LABEL, Setting

UNLIMITED = 1_000_000


class Nodes:
    """Nodes with their free units of extended resources.

    Attributes:
        states: The nodes by name.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.states = {node.name: node for node in scenario_nodes(setting)}
        self._free = {name: dict(node.allocatable) for name, node in self.states.items()}
        self._ranked: dict[tuple[tuple[str, str], ...], list[tuple[int, str]]] = {}
        """By selector, the usable nodes with the sum of their free units, in order of both."""

    def place(self, selector: Mapping[str, str], wanted: Mapping[str, int]) -> str | None:
        """Take units of the fullest node that has room, so that large pods find a whole one.

        Returns:
            Its name; None: there is no room.
        """
        ranked = self._selected(selector)
        possible = range(bisect_left(ranked, (sum(wanted.values()), "")), len(ranked))
        name = next((ranked[rank][1] for rank in possible if self._fits(ranked[rank][1], wanted)), None)
        if name is not None:
            self._take(name, wanted, 1)
        return name

    def release(self, name: str, amounts: Mapping[str, int]) -> None:
        """Give units of a node back."""
        self._take(name, amounts, -1)

    def use(self, name: str, *, usable: bool) -> None:
        """A node is lost, or there again."""
        self.states[name] = replace(self.states[name], usable=usable)
        self._ranked.clear()

    def fullest(self, kind: str) -> list[str]:
        """The usable nodes of a type of accelerators, the fullest first."""
        selectors = [s.node_selector for s in self._setting.accelerators.values() if s.type == kind]
        return sorted(
            (
                name
                for name, node in self.states.items()
                if node.usable and any(each.items() <= node.labels.items() for each in selectors)
            ),
            key=lambda name: (sum(self._free[name].values()), name),
        )

    def _selected(self, selector: Mapping[str, str]) -> list[tuple[int, str]]:
        key = tuple(sorted(selector.items()))
        if key not in self._ranked:
            self._ranked[key] = sorted(
                (sum(self._free[name].values()), name)
                for name, node in self.states.items()
                if node.usable and selector.items() <= node.labels.items()
            )
        return self._ranked[key]

    def _fits(self, name: str, wanted: Mapping[str, int]) -> bool:
        return all(self._free[name].get(resource, 0) >= amount for resource, amount in wanted.items())

    def _take(self, name: str, amounts: Mapping[str, int], sign: int) -> None:
        free = self._free[name]
        before = sum(free.values()), name
        for resource, amount in amounts.items():
            free[resource] -= sign * amount
        after = sum(free.values()), name
        for ranked in self._ranked.values():
            rank = bisect_left(ranked, before)
            if rank < len(ranked) and ranked[rank] == before:
                del ranked[rank]
                insort(ranked, after)


def scenario_nodes(setting: Setting) -> Iterator[NodeState]:
    """The nodes of a scenario: its pools, its capacity on one node a type, or one without limit."""
    scenario = setting.scenario
    pools = [(pool.type, pool.count, pool.units) for pool in scenario.nodes]
    pools += [(kind, 1, units) for kind, units in scenario.capacity.items()]
    if not pools:
        pools = [(kind, 1, UNLIMITED) for kind in sorted({s.type for s in setting.accelerators.values()})]
    made = 0
    for kind, count, units in pools:
        profiles = [spec for spec in setting.accelerators.values() if spec.type == kind]
        labels: dict[str, str] = {TYPE_LABEL: kind}
        for spec in profiles:
            labels |= spec.node_selector
        for number in range(count):
            made += 1
            name = f"{kind.lower()}-{made:05d}-{number}"
            yield NodeState(name, labels, {p.resource_name: units for p in profiles}, usable=True)
