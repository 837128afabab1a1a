"""The core of a program: the few candidates that a good plan may take beside those of its relaxation.

With the duals of the relaxation as prices of what is shared, every service has a cheapest option (a
candidate, or to go unserved), and every other option a regret. A plan that takes an option is worth at least
the relaxation's bound and the regret of that option (the Lagrangian bound): those of large regret may be left
out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from inferscale_queueing.frozen import frozen
from inferscale_solver.formulation import Formulation
from inferscale_solver.prediction import Floats, Ints
from inferscale_solver.program import Program, Solution


@frozen
class Core:
    """Part of a program."""

    free: Ints
    """The columns that may change."""
    base: Floats
    """The values of the others."""
    bound: float
    """No point of the program that is not one of the core has a lower objective."""


def core(
    written: Formulation,
    program: Program,
    cost: Floats,
    relaxed: Solution,
    size: int,
    fixed: Mapping[int, int | None],
) -> Core:
    """Select the options of least regret.

    Args:
        written: What the columns stand for.
        program: The program, with its limits as they were for the relaxation.
        cost: What is minimised.
        relaxed: The relaxation.
        size: Candidates that the core may have, about.
        fixed: Services that are decided: the column that they take, or None. The bound then is one of
            points that agree with them.
    """
    columns, count = len(written.rows), written.services_count
    regret, unserved, bound = _regrets(written, program, cost, relaxed)
    for service, column in fixed.items():
        here = written.services == service
        regret[here], unserved[service] = np.inf, np.inf if column is not None else 0.0
        if column is not None:
            regret[column] = 0.0
    owner = np.concatenate([written.services, np.arange(count)])
    options = np.concatenate([regret, unserved])
    order = np.lexsort((options, owner))
    first = np.searchsorted(owner[order], np.arange(count))
    second = np.full(count, np.inf)
    several = np.bincount(owner, minlength=count) > 1
    second[several] = options[order][first[several] + 1]
    # An option is of use only where its service has another.
    needed = np.maximum(options, second[owner])
    limit = np.sort(needed[:columns])[size] if size < columns else np.inf
    free = needed < limit
    changing = np.zeros(count, dtype=bool)
    changing[owner[free]] = True
    base = np.zeros(program.matrix.columns)
    cheapest = order[first][~changing]
    base[cheapest[cheapest < columns]] = 1.0
    left_out = float(needed[~free].min(initial=np.inf))
    givers = columns + np.arange(len(written.givers))
    return Core(np.concatenate([np.flatnonzero(free[:columns]), givers]), base, bound + left_out)


def restricted(written: Formulation, program: Program, part: Core) -> Formulation:
    """What is left to decide in a core: its candidates, their services, and what the others leave free.

    Args:
        written: What the columns stand for.
        program: The program, with its limits as they are now.
        part: A core of it.

    Returns:
        The formulation of the core; its columns are `part.free`, in that order.
    """
    choices = len(written.rows)
    free = part.free[part.free < choices]
    # Services that hold something stay with all of their rows, since they may give it up.
    alive = np.zeros(written.services_count, dtype=bool)
    alive[written.services[free]] = True
    alive[list(written.givers)] = True
    rest = part.base.copy()
    rest[part.free] = 0.0
    activity = program.matrix.times(rest)
    kept = np.ones(program.matrix.rows, dtype=bool)
    kept[written.limits : written.limits + written.services_count] = alive
    number = np.cumsum(kept) - 1
    position = np.cumsum(alive) - 1
    return Formulation(
        program=Program(
            matrix=program.matrix.select(part.free).renumbered(int(kept.sum()), number),
            upper=program.upper[part.free],
            integer=program.integer[part.free],
            row_lower=(program.row_lower - activity)[kept],
            row_upper=(program.row_upper - activity)[kept],
        ),
        levels=tuple(
            replace(
                level,
                cost=level.cost[part.free],
                row=int(number[level.row]),
                constant=level.constant + float(level.cost @ rest),
            )
            for level in written.levels
        ),
        limits=written.limits,
        services_count=int(alive.sum()),
        rows=written.rows[free],
        services=position[written.services[free]],
        givers=tuple(int(position[service]) for service in written.givers),
        held={int(position[service]): held for service, held in written.held.items() if alive[service]},
        column_of={},
    )


def _regrets(
    written: Formulation, program: Program, cost: Floats, relaxed: Solution
) -> tuple[Floats, Floats, float]:
    """The regret of every candidate, of every service's going unserved, and the Lagrangian bound."""
    columns, count = len(written.rows), written.services_count
    limited = np.isfinite(program.row_upper)
    prices = np.where(limited, np.minimum(relaxed.row_dual, 0.0), 0.0)
    # What concerns one service alone is no price of anything shared.
    prices[written.limits : written.levels[0].row] = 0.0
    bound = float(prices[limited] @ program.row_upper[limited])
    net = cost - program.matrix.transposed_times(prices)
    unserved = np.zeros(count)
    for position, service in enumerate(written.givers):
        given = columns + position
        unserved[service] = min(float(net[given] * program.upper[given]), 0.0)
    least = unserved.copy()
    np.minimum.at(least, written.services, net[:columns])
    return net[:columns] - least[written.services], unserved - least, bound + float(least.sum())
