"""The frontier: what tighter or looser targets of the inter-token latency cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from inferscale_operator.planning.deck import Deck
from inferscale_operator.planning.formulate import Options
from inferscale_operator.planning.planner import make_plan
from inferscale_operator.planning.report import Report
from inferscale_queueing.frozen import frozen

SCALES = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.85, 1.0, 1.5, 2.0, 4.0)
"""What all targets are multiplied by."""


@frozen
class Point:
    """A plan with all ITL targets times `scale`."""

    scale: float
    least: float | None
    """The tightest ITL target, ms; None where there is none."""
    most: float | None
    """The loosest."""
    plan: Report


def frontier(deck: Deck, now: Deck, options: Options, scales: Sequence[float] = SCALES) -> tuple[Point, ...]:
    """Plan with all ITL targets times each of `scales`.

    Args:
        deck: What to plan.
        now: What the files say, before any what-if.
        options: How to plan.
        scales: Factors above 0.
    """
    points = []
    for scale in scales:
        scaled = replace(
            deck,
            objectives=tuple(
                replace(
                    each,
                    targets=replace(
                        each.targets, itl=None if each.targets.itl is None else each.targets.itl * scale
                    ),
                )
                for each in deck.objectives
            ),
        )
        used = {(server.service_class, server.model) for server in deck.servers}
        targets = [
            each.targets.itl
            for each in scaled.objectives
            if each.targets.itl is not None and (each.service_class, each.model) in used
        ]
        points.append(
            Point(
                scale, min(targets, default=None), max(targets, default=None), make_plan(scaled, now, options)
            )
        )
    return tuple(points)
