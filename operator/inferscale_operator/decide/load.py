"""The load that a service is decided for."""

from __future__ import annotations

from inferscale_operator.snapshot import ServiceState
from inferscale_solver import Load

MOST = 1e12
"""Requests per minute, or tokens of a request, beyond which a figure is absurd."""


def known_load(state: ServiceState) -> Load | None:
    """The load to decide for; None: not known, so the last decision holds.

    Token lengths are those last known while nothing finishes.
    """
    load = state.load
    if not load.state.known or load.arrival_rate is None:
        return None
    figures = (load.arrival_rate, load.input_tokens, load.output_tokens)
    if not all(0 <= figure <= MOST for figure in figures if figure is not None):
        return None
    inputs, outputs = known_lengths(state)
    if load.arrival_rate == 0:
        return Load(arrival_rate=0.0, input_tokens=inputs or 0.0, output_tokens=max(outputs or 1.0, 1.0))
    if inputs is None or outputs is None:
        return None
    return Load(arrival_rate=load.arrival_rate, input_tokens=inputs, output_tokens=max(outputs, 1.0))


def known_lengths(state: ServiceState) -> tuple[float | None, float | None]:
    """Mean input and output tokens: those of now, else those last known; None: never known."""
    load = state.load
    before = state.allocation.load if state.allocation is not None else None
    inputs, outputs = (before.input_tokens, before.output_tokens) if before is not None else (None, None)
    # To two digits, as the status tells it: what is noise beyond that is no other problem to the solver.
    return (
        round(load.input_tokens, 2) if load.input_tokens is not None else inputs,
        round(load.output_tokens, 2) if load.output_tokens is not None else outputs,
    )
