"""Loads that are too far from what was last known to be believed at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from inferscale_operator.api.inference_allocation import LoadStatus
from inferscale_operator.snapshot import LoadState, ObservedLoad, ServiceState, Snapshot, UnknownCause

JUMP = 1000.0
"""How many times a figure may grow or shrink between two ticks."""


def with_doubts(snapshot: Snapshot) -> Snapshot:
    """The snapshot with those loads unknown that jumped and have not stayed so for a window."""
    window = timedelta(seconds=snapshot.policy.metrics.window_seconds)

    def believed(state: ServiceState) -> ServiceState:
        if state.allocation is None or state.allocation.load is None:
            return state
        load = doubted(state.load, state.allocation.load, snapshot.time, window)
        return state if load is state.load else replace(state, load=load)

    return replace(snapshot, services=tuple(believed(state) for state in snapshot.services))


def doubted(load: ObservedLoad, last: LoadStatus, now: datetime, window: timedelta) -> ObservedLoad:
    """The load, or unknown while it is not to be believed.

    A figure a thousand times as large, or a thousandth, is rather an error of the metrics than a change. If
    it is still so after a window it is a change. Idleness is believed: it took a whole window to be seen.

    Args:
        load: as Prometheus has it.
        last: the last that was known, with the time since when it has been doubted.
        now: time of the snapshot.
        window: how long a jump has to last.
    """
    if load.state not in (LoadState.OBSERVED, LoadState.PARTIAL):
        return load
    jumps = [
        f"{name} is {figure:g}, and was {before:g} at the last decision"
        for name, figure, before in (
            ("arrival rate per minute", load.arrival_rate, last.arrival_rate),
            ("mean of input tokens", load.input_tokens, last.input_tokens),
            ("mean of output tokens", load.output_tokens, last.output_tokens),
        )
        if figure is not None and before is not None and _jumps(figure, before)
    ]
    if not jumps:
        return load
    since = min(last.doubted_since or now, now)
    if now - since >= window:
        return load
    return ObservedLoad(
        LoadState.UNKNOWN,
        f"{'; '.join(jumps)}: held until it has been so for {window.total_seconds():g} s",
        queued=load.queued,
        cause=UnknownCause.SUDDEN_JUMP,
        doubted_since=since,
    )


def _jumps(figure: float, before: float) -> bool:
    # Less than one request a minute, or one token, is nothing to compare with.
    return figure > JUMP * before >= JUMP or before > JUMP * max(figure, 1.0)
