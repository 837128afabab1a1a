"""Since when a service has been idle."""

from __future__ import annotations

from datetime import datetime, timedelta

from inferscale_operator.api.inference_service import InferenceServiceSpec
from inferscale_operator.snapshot import LoadState, ServiceState, Snapshot
from inferscale_queueing.frozen import frozen

LONGEST_GAP = timedelta(seconds=300)
"""Longest time without a decision over which idleness is taken to have lasted: the operator was away."""


@frozen
class Idleness:
    """Idleness that goes on without a break."""

    since: datetime | None
    """Since when; None: it is not idle, or that is not known."""
    lasted: timedelta = timedelta(0)
    """How long that is."""
    enough: bool = False
    """Whether it is as long as it takes to go to 0 replicas."""


def idleness(state: ServiceState, spec: InferenceServiceSpec, snapshot: Snapshot) -> Idleness:
    """How long a service has been idle by now."""
    since = idle_since(state, snapshot)
    if since is None:
        return Idleness(None)
    lasted = snapshot.time - since
    return Idleness(since, lasted, lasted >= timedelta(seconds=spec.scale_to_zero_after_seconds))


def idle_since(state: ServiceState, snapshot: Snapshot) -> datetime | None:
    """Since when it has been idle without a break; None: it is not, or that is not known.

    Anything else than Idle ends it, Unknown too; between two ticks nothing is asked and nothing changes.
    """
    before = state.allocation
    since = before.idle_since if before is not None else None
    if state.load.state is LoadState.NOT_ASKED:
        return since
    if state.load.state is not LoadState.IDLE or (state.load.queued or 0) > 0:
        return None
    gap = max(LONGEST_GAP, timedelta(seconds=2 * snapshot.policy.tick_seconds))
    last = before.last_decision if before is not None else None
    if since is None or since > snapshot.time or last is None or snapshot.time - last > gap:
        return snapshot.time
    return since
