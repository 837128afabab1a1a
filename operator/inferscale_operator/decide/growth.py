"""More replicas in the middle of a move: a load that rises does not wait for the move's end.

While a move brings up its new replicas both sides serve. A new number of replicas is shared out by the
Deployment's controller between the two ReplicaSets in proportion, and takes nothing from either, so it is the
one thing that may be changed then: a move to fewer replicas stays paused meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

import inferscale_queueing as queueing
from inferscale_operator.api.inference_allocation import Recommendation
from inferscale_operator.api.moves import MoveStatus, MoveStep
from inferscale_operator.decide.accelerators import Room
from inferscale_operator.decide.catalog import Catalog, Subject, applies
from inferscale_operator.decide.formulate import rates_of
from inferscale_operator.decide.moves import recreates, shrinks
from inferscale_operator.decide.stabilization import record
from inferscale_operator.plan import EventNote, EventType
from inferscale_operator.snapshot import DeploymentState, Snapshot
from inferscale_solver import required_rate

ROUNDINGS = 64
"""Replicas more that are tried before what rounding takes away is given up."""


class Sides(NamedTuple):
    """Replicas of the old side of a move and of its new one."""

    old: int
    new: int


def growing(
    subjects: Mapping[str, Subject], entries: Catalog, room: Room, snapshot: Snapshot
) -> dict[str, Subject]:
    """The subjects; those in a move whose load needs more have it on record, as far as there is room.

    Args:
        subjects: The services, by key.
        entries: The profiles.
        room: What nobody holds or has asked for.
        snapshot: The world.
    """
    grown = dict(subjects)
    for key, subject in sorted(subjects.items(), key=lambda item: (item[1].priority, item[0])):
        if subject.moving and applies(subject.spec):
            grown[key] = _grown(subject, entries, room, snapshot)
    return grown


def growth_event(before: MoveStatus, after: MoveStatus | None) -> tuple[EventNote, ...]:
    """The news of a move that was given more replicas; empty: there is none."""
    if after is None or (after.source.replicas, after.to.replicas) <= (
        before.source.replicas,
        before.to.replicas,
    ):
        return ()
    message = (
        f"{after.source.accelerator} -> {after.to.accelerator}: the load has risen:"
        f" {after.to.replicas} on {after.to.accelerator}, from {after.source.replicas}"
        f" on {after.source.accelerator}"
    )
    return (EventNote(EventType.NORMAL, "MoveGrown", message),)


def _grown(subject: Subject, entries: Catalog, room: Room, snapshot: Snapshot) -> Subject:
    allocation, load = subject.state.allocation, subject.load
    move = allocation.move if allocation is not None else None
    if allocation is None or move is None or load is None or load.arrival_rate == 0:
        return subject
    rates = rates_of(subject, load, entries, snapshot)
    per_new = rates.get(move.to.accelerator, 0.0)
    if per_new <= 0 or move.source.accelerator not in subject.performances:
        return subject
    rate = required_rate(load, subject.targets.tps)
    latest = Recommendation(
        time=snapshot.time,
        accelerator=move.to.accelerator,
        replicas=int(queueing.replicas(rate, per_new)[0]),
        rate=round(rate, 2),
        max_batch=move.to.max_batch,
    )
    windows = subject.behaviour.windows
    holding = replace(subject.holding, accelerator=move.source.accelerator, replicas=move.source.replicas)
    history = record(allocation.history, latest, holding, windows)
    oldest = snapshot.time - timedelta(seconds=windows.up)
    lasting = min(past.rate for past in history if past.time > oldest or past is history[-1])
    needs = Sides(
        old=_replicas(lasting, rates.get(move.source.accelerator, 0.0)), new=_replicas(lasting, per_new)
    )
    up = subject.behaviour.limits.up
    if not (up.disabled or up.policies):
        most = subject.behaviour.bounds.most
        move = more(move, subject.deployment, needs, most, _taking(subject, move, room))
    return replace(
        subject,
        state=replace(
            subject.state, allocation=allocation.model_copy(update={"move": move, "history": history})
        ),
    )


def _replicas(rate: float, per_replica: float) -> int:
    return int(queueing.replicas(rate, per_replica)[0]) if per_replica > 0 else 0


def _taking(subject: Subject, move: MoveStatus, room: Room) -> Callable[[Sides], bool]:
    """Takes room for so many more of both sides; False: there is not enough, and nothing is taken."""
    sides = [(subject.kind(s.accelerator), subject.units(s.accelerator)) for s in (move.source, move.to)]

    def take(more: Sides) -> bool:
        wanted = [(kind, units, count) for (kind, units), count in zip(sides, more, strict=True)]
        trial = deepcopy(room)
        if any(trial.take(kind, units, count) < count for kind, units, count in wanted):
            return False
        for kind, units, count in wanted:
            room.take(kind, units, count)
        return True

    return take


def more(
    move: MoveStatus,
    deployment: DeploymentState,
    needs: Sides,
    most: int | None,
    take: Callable[[Sides], bool],
) -> MoveStatus:
    """The record of a move with the replicas that are needed by now, as far as there is room; never fewer.

    Args:
        move: Its record.
        deployment: The Deployment as it is.
        needs: Replicas that the load needs on either side; 0 where it cannot be served there.
        most: Replicas that are never passed; None: no limit.
        take: Takes room for so many more of both sides, or says that there is not enough.
    """
    seen = deployment.observed_generation >= deployment.generation
    if move.step is not MoveStep.BRING_UP or recreates(move.prior_strategy) or not seen:
        return move
    return _shared(move, deployment, needs, most, take) if shrinks(move) else _rolled(move, needs, most, take)


def _rolled(move: MoveStatus, needs: Sides, most: int | None, take: Callable[[Sides], bool]) -> MoveStatus:
    """A rollout goes on to more replicas; those that it starts on the old side for nothing need no room."""
    new = needs.new if most is None else min(needs.new, most)
    for count in _downwards(new, move.to.replicas):
        if take(Sides(0, count - move.to.replicas)):
            # Where it is taken back it needs as many there.
            return _resized(move, min(max(move.source.replicas, needs.old), count), count)
    return move


def _shared(
    move: MoveStatus,
    deployment: DeploymentState,
    needs: Sides,
    most: int | None,
    take: Callable[[Sides], bool],
) -> MoveStatus:
    """A paused rollout: more replicas are shared out between the old and the new ones."""
    pods, running = _pods(deployment), deployment.replicas
    surge = (deployment.strategy.get("rollingUpdate") or {}).get("maxSurge")
    there = deployment.paused and deployment.revision != move.prior_revision
    if not there or pods.new < 1 or not isinstance(surge, int) or running != move.source.replicas:
        return move
    # What there is of the new side, where it was shared out otherwise than it was meant to be.
    to = min(move.to.replicas, pods.new)
    wanted = _enough(pods, running, surge, needs)
    for count in _downwards(wanted if most is None else min(wanted, most), running):
        after = _shares(pods, running + surge, count + surge)
        if take(Sides(max(after.old - pods.old, 0), max(after.new - pods.new, 0))):
            return _resized(move, count, max(to, min(needs.new, after.new, count - 1)))
    return _resized(move, running, max(to, min(needs.new, pods.new, running - 1)))


def _enough(pods: Sides, running: int, surge: int, needs: Sides) -> int:
    """Replicas with which either side is shared out what it needs."""
    if pods.old >= needs.old and pods.new >= needs.new:
        return running
    factor = max(needs.old / max(pods.old, 1), needs.new / pods.new)
    first = max(math.floor(factor * (running + surge)) - surge - 1, running)
    # Shares are rounded, the smaller side's last.
    for count in range(first, first + ROUNDINGS):
        after = _shares(pods, running + surge, count + surge)
        if after.old >= needs.old and after.new >= needs.new:
            return count
    return first


def _shares(pods: Sides, before: int, allowed: int) -> Sides:
    """How the controller shares out more pods, after `GetReplicaSetProportion`: the larger side first.

    Args:
        pods: Those of either side now.
        before: Replicas and surge up to now.
        allowed: Replicas and surge from now on.
    """
    add = allowed - pods.old - pods.new
    if add <= 0:
        return pods

    def part(size: int) -> int:
        return math.floor(size * allowed / before + 0.5) - size

    if pods.old > pods.new:
        new = min(part(pods.new), add - min(part(pods.old), add))
    else:
        old = min(part(pods.old), add - min(part(pods.new), add))
        new = add - old
    return Sides(pods.old + add - new, pods.new + new)


def _pods(deployment: DeploymentState) -> Sides:
    new = sum(r.desired for r in deployment.replica_sets if r.revision == deployment.revision)
    return Sides(sum(r.desired for r in deployment.replica_sets) - new, new)


def _downwards(count: int, least: int) -> range:
    """From a count down to more than `least`, in not too many steps."""
    return range(count, least, -max((count - least) // 32, 1))


def _resized(move: MoveStatus, old: int, new: int) -> MoveStatus:
    return move.model_copy(
        update={
            "source": move.source.model_copy(update={"replicas": old}),
            "to": move.to.model_copy(update={"replicas": new}),
        }
    )
