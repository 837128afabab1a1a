"""What can be measured: one line a section."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench import comparison, scale, simulation, sizing, solver, twin, variability
from bench.figures import Figures

SECTIONS: dict[str, Callable[[], Sequence[Figures]]] = {
    "sizing": sizing.run,
    "simulation": simulation.run,
    "solver": solver.run,
    "comparison": comparison.run,
    "variability": variability.run,
    "twin": twin.run,
    "operator": scale.run,
}

ON_REQUEST = frozenset({"comparison", "variability", "twin", "operator"})
"""Sections that take many minutes: they run only if they are named."""
