"""Small problems with round numbers, for the tests of the solver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferscale_solver import (
    Capacity,
    Load,
    Performance,
    Problem,
    Profile,
    SaturationPolicy,
    Service,
    Settings,
    Solver,
    Targets,
)

# Single requests of 100 tokens: a replica is an M/M/1 queue that takes 0.999 of its service rate.
_TOKENS = 100


def profile(name: str, cost: float = 10.0, *, type: str | None = None, multiplicity: int = 1) -> Profile:  # noqa: A002
    return Profile(name=name, type=type or name, multiplicity=multiplicity, cost=cost)


def performance(on: str, rate: float, *, acc_count: int = 1, batch: int = 1) -> Performance:
    """A profile on which a replica takes `rate` requests/min where no objective binds."""
    alpha = 0.999 * batch * 60_000 / (_TOKENS * rate)
    return Performance(
        profile=on, alpha=alpha, beta=0.0, acc_count=acc_count, max_batch_size=batch, at_tokens=_TOKENS
    )


def service(
    name: str, load: float | Load, rates: Mapping[str, float], *, priority: int = 1, **fields: Any
) -> Service:
    """A service with a load (requests/min, or a whole Load) and what a replica takes on each profile."""
    defaults: dict[str, Any] = {
        "service_class": f"class-{priority}",
        "model": "model",
        "load": load if isinstance(load, Load) else Load(load, output_tokens=_TOKENS, prefill=False),
        "targets": Targets(),
        "performance": tuple(performance(on, rate) for on, rate in rates.items()),
    }
    return Service(name=name, priority=priority, **(defaults | fields))


def problem(
    *services: Service,
    profiles: tuple[Profile, ...],
    units: Mapping[str, int] | None = None,
    policy: SaturationPolicy = SaturationPolicy.NONE,
    delayed: bool = False,
    nodes: Mapping[str, tuple[int, ...]] | None = None,
    solver: Solver = Solver.GREEDY,
    **settings: Any,
) -> Problem:
    return Problem(
        services=services,
        profiles=profiles,
        capacity=None if units is None else Capacity(units, nodes or {}),
        settings=Settings(saturation_policy=policy, delayed_best_effort=delayed, solver=solver, **settings),
    )
