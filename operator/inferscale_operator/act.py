"""Act: carry out a plan, a few services at a time; the failure of one never stops the others.

The record of a move is written before the Deployment is patched, and ended only after.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import Any

from inferscale_operator.api.base import Condition, ConditionStatus
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.kube import writer
from inferscale_operator.kube.client import UNREACHABLE, ApiError, Client
from inferscale_operator.kube.definitions import Definitions
from inferscale_operator.kube.kinds import INFERENCE_ALLOCATION
from inferscale_operator.kube.parse import AllocationRecord, parse_allocation
from inferscale_operator.kube.stores import Answer, World
from inferscale_operator.kube.writer import Worth
from inferscale_operator.plan import (
    DeploymentPatch,
    EventNote,
    EventType,
    ObjectRef,
    OrphanPlan,
    Plan,
    ServicePlan,
    StatusPlan,
)
from inferscale_queueing.frozen import frozen

logger = logging.getLogger(__name__)

APPLIED = "Applied"
PATCH_REFUSED = "PatchRefused"
MOVE_STARTED = "MoveStarted"
# What the API server will refuse again: a person must do something.
REFUSALS = frozenset({400, 403, 404, 405, 413, 422})
CONFLICT = 409
STOPS = frozenset({UNREACHABLE, 429})
"""After these every further request would wait for its time limit, or add to what is too much already."""


@frozen
class Failure:
    """A write that did not succeed."""

    key: str
    """`namespace/name`, or the name of a cluster-scoped object."""
    error: ApiError


@dataclass
class Outcome:
    """What became of a plan."""

    answers: list[Answer] = field(default_factory=list)
    """Objects as the API server has them after the writes."""
    held: dict[str, InferenceAllocationStatus] = field(default_factory=dict)
    """By uid of the InferenceAllocation: statuses that were decided and not worth a write yet."""
    failures: list[Failure] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    """Services whose objects changed meanwhile: to be decided again soon."""
    left: list[str] = field(default_factory=list)
    """What was not tried, since the time was up or the API server does not answer."""

    @property
    def stopped(self) -> bool:
        """Whether the API server stopped answering, or asks to be left alone."""
        return any(failure.error.status in STOPS for failure in self.failures)


def act(
    client: Client,
    plan: Plan,
    world: World,
    written: dict[str, datetime],
    *,
    definitions: Definitions | None = None,
    first: Collection[str] = (),
    deadline: float = math.inf,
    figures_s: float = math.inf,
    workers: int = 1,
) -> Outcome:
    """Carry out a plan. It blocks.

    Args:
        client: The API server.
        plan: What is to be done.
        world: The copy of the stores that the plan was made from.
        written: By uid, when a status was last written; kept up to date here.
        definitions: What the API server is known to keep of a status; kept up to date here.
        first: What was left the last time, and is begun with now.
        deadline: When nothing more is begun, by the monotonic clock.
        figures_s: Seconds for figures alone, after all that matters; what they do not suffice for comes with
            a later plan, the longest unwritten first.
        workers: How many services are written at a time; the writes of one are always in order.
    """
    actor = _Actor(client, plan.time, world, written, definitions or Definitions(), deadline)
    works: list[Work] = [
        *(work for service in plan.services for work in actor.works(service)),
        *((f"{orphan.namespace}/{orphan.name}", partial(actor.settle, orphan)) for orphan in plan.orphans),
        *((status.ref.name, partial(actor.report, status)) for status in plan.statuses),
    ]
    pool = ThreadPoolExecutor(workers, "act")
    try:
        _each(pool, actor, sorted(works, key=lambda work: work[0] not in first))
        _each(pool, actor, actor.figures(time.monotonic() + figures_s))
    finally:
        pool.shutdown(cancel_futures=True)
    return actor.outcome


Work = tuple[str, Callable[[], object]]


def _each(pool: ThreadPoolExecutor, actor: _Actor, works: Iterable[Work]) -> None:
    """Everything, a few at a time; an exception that is no `ApiError` ends it."""
    for _ in pool.map(lambda work: actor.attempt(*work), works):
        pass


@dataclass
class _Actor:
    """One plan being carried out."""

    client: Client
    time: datetime
    world: World
    written: dict[str, datetime]
    definitions: Definitions
    deadline: float
    outcome: Outcome = field(default_factory=Outcome)
    waiting: list[tuple[float, str, Callable[[], object]]] = field(default_factory=list)
    """Writes of figures alone: since when unwritten (s, negative), the service, what to do."""

    def figures(self, until: float) -> list[Work]:
        """What may wait, the longest unwritten first; after `until` (monotonic) it waits for a later plan."""

        def once(work: Callable[[], object]) -> None:
            if time.monotonic() < until:
                work()

        return [(key, partial(once, work)) for _, key, work in sorted(self.waiting, key=itemgetter(0, 1))]

    def attempt(self, key: str, work: Callable[[], object]) -> None:
        if self.outcome.stopped or time.monotonic() >= self.deadline:
            self.outcome.left.append(key)
            return
        try:
            work()
        except ApiError as error:
            if error.conflict:
                logger.info("%s: changed meanwhile, to be decided again: %s", key, error.message)
                self.outcome.conflicts.append(key)
            else:
                self._failed(key, error)

    def works(self, plan: ServicePlan) -> list[Work]:
        """What there is to do for a service, without a request: of most there is nothing but to look."""
        service = plan.service
        record = self.world.allocations.get((service.namespace or "", service.name))
        still = plan.patch is None and plan.allocation.move is None and not plan.status.events
        if not still or record is None or record.owner_uid not in (None, service.uid) or _in_move(record):
            return [(plan.key, partial(self.serve, plan))]
        looked = (self._recording(record, plan.allocation), self._reporting(plan.status))
        writes = [write for write in looked if write is not None]
        return [(plan.key, lambda: [write() for write in writes])] if writes else []

    def serve(self, plan: ServicePlan) -> None:
        record = self._allocation(plan.service)
        moving = plan.allocation.move is not None
        ending = not moving and record.status is not None and record.status.move is not None
        if moving:
            record = self._marked(record, plan.patch)
        if not (ending and plan.patch):
            record = self._recorded(record, plan.allocation)
        try:
            refusal = self._patched(plan.key, plan.patch)
        except ApiError as error:
            if moving and error.status != UNREACHABLE:
                # The next decision finds the step on record already, and would not tell of it.
                self.report(plan.status)
            raise
        if refusal is None and ending and plan.patch:
            record = self._recorded(record, plan.allocation)
        if refusal is None and not moving:
            self._unmarked(record)
        self.report(plan.status if refusal is None else self._refused(plan.status, refusal))

    def settle(self, plan: OrphanPlan) -> None:
        record = self.world.allocations.get((plan.namespace, plan.name))
        if record is None:
            return
        if not plan.release:
            record = self._recorded(self._marked(record, plan.patch), plan.allocation)
        if self._patched(f"{plan.namespace}/{plan.name}", plan.patch) is None and plan.release:
            self._unmarked(self._recorded(record, plan.allocation))

    def report(self, plan: StatusPlan) -> None:
        write = self._reporting(plan)
        if write is not None:
            write()
        for note in plan.events:
            writer.send_event(self.client, plan.ref, note, self.time)

    def _reporting(self, plan: StatusPlan) -> Callable[[], object] | None:
        """The write of a status, if it is to be done now; one that may wait is put down."""
        ref = plan.ref
        key = (ref.namespace or "", ref.name)
        old = self.world.status_of(ref.kind, key)
        new = self.definitions.kept(ref.kind, writer.status_json(plan.status))
        # An event is sent since something changed: without the write it would be sent again and again.
        age_s = math.inf if plan.events else self._age_s(ref.uid)

        def write() -> None:
            version = self.world.resource_version_of(ref.kind, key)
            answer = self._written(ref, writer.status_json(plan.status), version)
            self.outcome.answers.append(answer)

        found = writer.worth(old, new, age_s)
        if found is Worth.NOW or (found is Worth.LATER and plan.events):
            return write
        if found is Worth.LATER:
            self.waiting.append((-age_s, ref.name, write))
        return None

    def _allocation(self, service: ObjectRef) -> AllocationRecord:
        record = self.world.allocations.get((service.namespace or "", service.name))
        if record is None:
            return self._answered(writer.create_allocation(self.client, service))
        if record.owner_uid not in (None, service.uid):
            raise ApiError(
                CONFLICT, "Conflict", "the InferenceAllocation of an earlier service of that name is going"
            )
        return record

    def _marked(self, record: AllocationRecord, patch: DeploymentPatch | None) -> AllocationRecord:
        deployment = record.deployment or (patch.name if patch is not None else None)
        if deployment is None:
            service = self.world.services.get((record.namespace, record.service))
            spec = service.resource.spec if service is not None else None
            deployment = spec.target_ref.name if spec is not None else None
        if deployment is None or (writer.FINALIZER in record.finalizers and record.deployment == deployment):
            return record
        return self._answered(writer.mark_move(self.client, record, deployment))

    def _unmarked(self, record: AllocationRecord) -> None:
        if _bears_marks(record):
            self._answered(writer.mark_move(self.client, record, None))

    def _recorded(self, record: AllocationRecord, status: InferenceAllocationStatus) -> AllocationRecord:
        write = self._recording(record, status)
        return record if write is None else write()

    def _recording(
        self, record: AllocationRecord, status: InferenceAllocationStatus
    ) -> Callable[[], AllocationRecord] | None:
        """The write of a status, if it is to be done now; one that may wait is put down."""
        kind = INFERENCE_ALLOCATION.name
        age_s = self._age_s(record.uid)

        def write() -> AllocationRecord:
            # Made anew, since all that wait would be many.
            sent = writer.status_json(status)
            ref = ObjectRef(kind, record.name, record.uid, record.namespace)
            answer = self._written(ref, sent, record.resource_version)
            self.outcome.held.pop(record.uid, None)
            return self._answered(answer)

        new = self.definitions.kept(kind, writer.status_json(status))
        found = writer.worth(record.raw_status, new, age_s)
        if found is Worth.NOW:
            return write
        self.outcome.held[record.uid] = status
        if found is Worth.LATER:
            self.waiting.append((-age_s, record.service, write))
        return None

    def _written(self, ref: ObjectRef, status: Mapping[str, Any], version: str) -> Answer:
        answer = writer.write_status(self.client, ref, status, version)
        self.written[ref.uid] = self.time
        self.definitions.learn(ref.kind, status, answer.raw.get("status") or {})
        return answer

    def _patched(self, key: str, patch: DeploymentPatch | None) -> ApiError | None:
        """Patch a Deployment; an error that a person must put right is returned, others are raised."""
        if patch is None:
            return None
        try:
            self.outcome.answers.append(writer.patch_deployment(self.client, patch))
        except ApiError as error:
            if error.status not in REFUSALS:
                raise
            self._failed(key, error)
            return error
        logger.debug("%s: patched: %s", key, patch.summary)
        return None

    def _refused(self, plan: StatusPlan, error: ApiError) -> StatusPlan:
        """The status and events of a service whose Deployment could not be patched."""
        ref = plan.ref
        before = _condition(self.world.status_of(ref.kind, (ref.namespace or "", ref.name)), APPLIED)
        was_false = before.get("status") == ConditionStatus.FALSE
        stated = {c.type: c for c in plan.status.conditions}
        condition = Condition(
            type=APPLIED,
            status=ConditionStatus.FALSE,
            reason=PATCH_REFUSED,
            message=error.message,
            last_transition_time=before["lastTransitionTime"] if was_false else self.time,
            observed_generation=stated[APPLIED].observed_generation if APPLIED in stated else None,
        )
        stated[APPLIED] = condition
        told = before.get("reason") == PATCH_REFUSED and before.get("message") == error.message
        note = EventNote(EventType.WARNING, PATCH_REFUSED, error.message)
        # What was to be done was not: only warnings still hold, and that a move is on record now.
        warnings = tuple(
            event for event in plan.events if event.type is EventType.WARNING or event.reason == MOVE_STARTED
        )
        return StatusPlan(
            ref,
            plan.status.model_copy(update={"conditions": tuple(c for _, c in sorted(stated.items()))}),
            warnings if told else (*warnings, note),
        )

    def _answered(self, answer: Answer) -> AllocationRecord:
        self.outcome.answers.append(answer)
        return parse_allocation(answer.raw)

    def _age_s(self, uid: str) -> float:
        before = self.written.get(uid)
        # A clock that was put back tells nothing.
        return (
            (self.time - before).total_seconds() if before is not None and before <= self.time else math.inf
        )

    def _failed(self, key: str, error: ApiError) -> None:
        logger.warning("%s: not written (%s): %s", key, error.reason, error.message)
        self.outcome.failures.append(Failure(key, error))


def _bears_marks(record: AllocationRecord) -> bool:
    """Whether an InferenceAllocation bears the marks of a move."""
    return writer.FINALIZER in record.finalizers or record.deployment is not None


def _in_move(record: AllocationRecord) -> bool:
    return _bears_marks(record) or (record.status is not None and record.status.move is not None)


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(
        (item for item in status.get("conditions") or () if item["type"] == kind), {}
    )
    return found
