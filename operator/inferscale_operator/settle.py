"""Settle: end the moves that are under way when no operator will be there to go on with them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from inferscale_operator.act import act
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.api.moves import MoveStep
from inferscale_operator.decide import advance
from inferscale_operator.decide.moves import begin_roll_back, release
from inferscale_operator.kube import writer
from inferscale_operator.kube.client import ApiError, Client
from inferscale_operator.kube.kinds import CUSTOM, DEPLOYMENT, INFERENCE_ALLOCATION, REPLICA_SET
from inferscale_operator.kube.parse import AllocationRecord
from inferscale_operator.kube.scope import Scope
from inferscale_operator.kube.stores import Stores, World
from inferscale_operator.observe import observe
from inferscale_operator.plan import ObjectRef
from inferscale_operator.snapshot import Snapshot

logger = logging.getLogger(__name__)

KINDS = (*CUSTOM, DEPLOYMENT, REPLICA_SET)
PERIOD_S = 1.0


@dataclass
class Settled:
    """What became of the moves, by `namespace/name` of the InferenceAllocation."""

    ended: list[str] = field(default_factory=list)
    """Finished or rolled back, step by step."""
    released: list[str] = field(default_factory=list)
    """Ended at once when the time was up: Kubernetes does the rest by the owner's strategy."""
    failed: dict[str, str] = field(default_factory=dict)
    """Not ended, and why."""


def settle(
    client: Client,
    timeout_s: float,
    elapsed_s: Callable[[], float],
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
    scope: Scope | None = None,
) -> Settled:
    """Finish moves; after half of the time take back those whose new replicas are not up; then end the rest.

    No operator must run meanwhile: it would begin new ones. It blocks.

    Args:
        client: The API server.
        timeout_s: Seconds after which what is left is ended at once.
        elapsed_s: Seconds since the start.
        now: The time of day.
        sleep: Waits so many seconds.
        scope: What of the cluster is looked at; None: all of it.

    Raises:
        ApiError: the objects could not be listed until the time was up.
    """
    seen: set[str] = set()
    settled = Settled()
    written: dict[str, datetime] = {}
    while True:
        world = _world(client, timeout_s, elapsed_s, sleep, scope or Scope())
        moving = _moving(world)
        seen |= moving.keys()
        settled.failed = _unmark(client, world)
        if not moving:
            break
        if elapsed_s() >= timeout_s:
            settled.failed |= _release(client, world, now())
            settled.released = sorted(moving.keys() - settled.failed.keys())
            break
        snapshot = observe(world, now(), None)
        if elapsed_s() >= timeout_s / 2:
            snapshot = _giving_up(snapshot)
        act(client, advance(snapshot), world, written)
        sleep(PERIOD_S)
    settled.ended = sorted(seen - set(settled.released) - settled.failed.keys())
    return settled


def _world(
    client: Client,
    timeout_s: float,
    elapsed_s: Callable[[], float],
    sleep: Callable[[float], None],
    scope: Scope,
) -> World:
    while True:
        stores = Stores()
        try:
            for kind in KINDS:
                stores.by_kind[kind].seed(scope.list_all(client, kind))
        except ApiError as error:
            if error.status in (401, 403, 404) or elapsed_s() >= timeout_s:
                raise
            logger.warning("once more in %.0f s: %s", PERIOD_S, error.message)
            sleep(PERIOD_S)
        else:
            return stores.copy({})


def _moving(world: World) -> dict[str, AllocationRecord]:
    return {
        f"{record.namespace}/{record.name}": record
        for record in world.allocations.values()
        if record.status is not None and record.status.move is not None
    }


def _unmark(client: Client, world: World) -> dict[str, str]:
    """Take our finalizer off InferenceAllocations that have no move; returns where that failed, and why."""
    failed = {}
    for record in world.allocations.values():
        if writer.FINALIZER not in record.finalizers or (record.status is not None and record.status.move):
            continue
        try:
            writer.mark_move(client, record, None)
        except ApiError as error:
            failed[f"{record.namespace}/{record.name}"] = error.message
    return failed


def _giving_up(snapshot: Snapshot) -> Snapshot:
    """The same with every move that is still bringing up replicas on its way back."""

    def back(status: InferenceAllocationStatus) -> InferenceAllocationStatus:
        if status.move is None or status.move.step is not MoveStep.BRING_UP:
            return status
        move = begin_roll_back(status.move, snapshot.time, "Inferscale is being removed")
        return status.model_copy(update={"move": move})

    return replace(
        snapshot,
        services=tuple(
            replace(s, allocation=back(s.allocation)) if s.allocation is not None else s
            for s in snapshot.services
        ),
        orphans=tuple(replace(o, allocation=back(o.allocation)) for o in snapshot.orphans),
    )


def _release(client: Client, world: World, time: datetime) -> dict[str, str]:
    """End every move at once; returns which could not be ended, and why."""
    snapshot = observe(world, time, None)
    found = {s.key: s.deployment for s in snapshot.services}
    found |= {f"{o.namespace}/{o.name}": o.deployment for o in snapshot.orphans}
    failed = {}
    for key, record in _moving(world).items():
        deployment = found.get(key)
        if record.status is None or record.status.move is None:
            continue
        try:
            patch = release(record.status.move, deployment) if deployment is not None else None
            if patch is not None:
                writer.patch_deployment(client, patch)
            ref = ObjectRef(INFERENCE_ALLOCATION.name, record.name, record.uid, record.namespace)
            ended = record.status.model_copy(update={"move": None})
            answer = writer.write_status(client, ref, writer.status_json(ended), record.resource_version)
            version = answer.raw["metadata"]["resourceVersion"]
            writer.mark_move(client, replace(record, resource_version=version), None)
        except ApiError as error:
            failed[key] = error.message
    return failed
