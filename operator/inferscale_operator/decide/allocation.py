"""Parts of an InferenceAllocation's status, each from what is known of the service."""

from __future__ import annotations

from typing import Any

from inferscale_operator.api.inference_allocation import (
    AllocationEntry,
    CandidateStatus,
    LoadStatus,
)
from inferscale_operator.api.moves import FailedMove, LastMove, MoveOutcome, StartupTime
from inferscale_operator.decide import moves
from inferscale_operator.decide.catalog import Subject
from inferscale_operator.decide.load import known_lengths
from inferscale_operator.decide.startup import with_startup
from inferscale_operator.snapshot import LoadState, ServiceState, Snapshot
from inferscale_solver import Allocation, CandidateOutcome, Decision

FAILED_MOVES_LIMIT = 16
"""Failed moves that a status takes."""


def present_entry(subject: Subject, **figures: Any) -> AllocationEntry:
    """What it has, and the same wanted but for the figures that are given."""
    deployment, load = subject.deployment, subject.state.load
    present = {
        "accelerator": subject.accelerator,
        "current_accelerator": subject.accelerator,
        "current_replicas": deployment.replicas,
        "ready_replicas": deployment.ready_replicas,
        "desired_replicas": deployment.replicas,
        "target_accelerator": subject.accelerator,
        "target_replicas": deployment.replicas,
        "current_cost": subject.cost(subject.accelerator, deployment.replicas),
        "observed_itl": _rounded(load.itl),
        "observed_ttft": _rounded(load.ttft),
    }
    return AllocationEntry(**{**present, **figures})


def held_entry(subject: Subject) -> AllocationEntry:
    """What it has, with the figures of the last decision where there was one."""
    before = subject.state.allocation
    figures: dict[str, Any] = {"cost": subject.cost(subject.accelerator, subject.deployment.replicas)}
    if before is not None and before.allocations:
        names = ["max_batch", "predicted_itl", "predicted_ttft", "predicted_wait", "utilization"]
        if subject.state.load.state is LoadState.NOT_ASKED:
            names += ["observed_itl", "observed_ttft"]
        figures |= {name: getattr(before.allocations[0], name) for name in names}
    return present_entry(subject, **figures)


def predictions(allocation: Allocation) -> dict[str, float | None]:
    """Fields of an entry that are predicted."""
    wait = allocation.wait_percentile if allocation.wait_percentile is not None else allocation.wait
    return {
        "predicted_itl": _rounded(allocation.itl),
        "predicted_ttft": _rounded(allocation.ttft),
        "predicted_wait": _rounded(wait),
        "utilization": _rounded(allocation.utilization),
    }


def load_status(subject: Subject, snapshot: Snapshot) -> LoadStatus:
    """The load decided for; where it is not known, the last one that was, with its time."""
    load = subject.load
    state, queued = subject.state.load.state.value, _rounded(subject.state.load.queued)
    if load is None:
        before = subject.state.allocation.load if subject.state.allocation is not None else None
        if before is None:
            return LoadStatus(state=state, queued=queued)
        asked = subject.state.load.state is not LoadState.NOT_ASKED
        now = {"state": state, "queued": queued, "doubted_since": subject.state.load.doubted_since}
        return before.model_copy(update=now) if asked else before
    # Without a request there may be none that was ever measured: what nobody knows is not put on record.
    inputs, outputs = known_lengths(subject.state)
    return LoadStatus(
        state=state,
        arrival_rate=_rounded(load.arrival_rate),
        input_tokens=_rounded(inputs),
        output_tokens=None if outputs is None else _rounded(max(outputs, 1.0)),
        queued=queued,
        observed_at=snapshot.time,
    )


def candidate_statuses(decision: Decision) -> tuple[CandidateStatus, ...]:
    """What was considered and why it lost."""
    return tuple(_candidate_status(candidate) for candidate in decision.candidates)


def _candidate_status(candidate: CandidateOutcome) -> CandidateStatus:
    outcome, message, allocation = candidate.rejection.value, candidate.message, candidate.allocation
    if allocation is None:
        return CandidateStatus(accelerator=candidate.profile, outcome=outcome, message=message)
    return CandidateStatus(
        accelerator=candidate.profile,
        outcome=outcome,
        message=message,
        replicas=allocation.replicas,
        max_batch=allocation.max_batch,
        cost=_rounded(allocation.cost),
        itl=_rounded(allocation.itl),
        ttft=_rounded(allocation.ttft),
    )


def failed_moves_kept(
    state: ServiceState, snapshot: Snapshot, more: tuple[FailedMove, ...] = ()
) -> tuple[FailedMove, ...]:
    """The last one of each profile, while it is left out; no more than a status takes."""
    before = state.allocation.failed_moves if state.allocation is not None else ()
    if not before and not more:
        return ()
    latest = {failed.accelerator: failed for failed in (*before, *more)}
    retry = snapshot.policy.moves.retry_after_seconds
    kept = [f for f in latest.values() if (snapshot.time - f.time).total_seconds() < retry]
    return tuple(sorted(kept, key=lambda f: (f.time, f.accelerator)))[-FAILED_MOVES_LIMIT:]


def last_move_ended(subject: Subject, advanced: moves.Advance, snapshot: Snapshot) -> LastMove | None:
    """The move that ended last, which may be now."""
    before = subject.state.allocation
    if advanced.move is not None or before is None or before.move is None:
        return before.last_move if before is not None else None
    back = advanced.failed is not None
    return LastMove(
        ended_at=snapshot.time,
        outcome=MoveOutcome.ROLLED_BACK if back else MoveOutcome.COMPLETED,
        accelerator=before.move.to.accelerator,
        onward=None if back else before.move.onward,
    )


def startup_times(subject: Subject, advanced: moves.Advance, snapshot: Snapshot) -> tuple[StartupTime, ...]:
    """What was seen lately, the last first to be dropped."""
    before = subject.state.allocation
    known = before.startup_times if before is not None else ()
    if before is None or before.move is None or not any(e.reason == "MoveReady" for e in advanced.events):
        return known
    seconds = (snapshot.time - before.move.started_at).total_seconds()
    return with_startup(known, before.move.to.accelerator, seconds)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
