"""Mode Approve: which changes wait for somebody's approval, and what exactly is approved.

A plan has a digest of what it leads from and to and since when exactly that is wanted. An approval names the
digest, so it is good for the plan that somebody saw and for no other, nor for the same one at a later time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

from inferscale_operator.api.inference_allocation import GateStatus, GateType, PendingPlan
from inferscale_operator.api.inference_service import Mode
from inferscale_operator.api.moves import MoveSide
from inferscale_operator.decide.catalog import Subject
from inferscale_operator.decide.stabilization import Stabilized
from inferscale_operator.decide.step import Intent
from inferscale_operator.plan import EventNote, EventType
from inferscale_operator.snapshot import Snapshot
from inferscale_queueing.frozen import frozen
from inferscale_solver import Allocation, Assignment, Problem, evaluate_all

DIGEST_LENGTH = 12


AWAITING = "AwaitingApproval"
STALE = "ApprovalStale"


@frozen
class Approval:
    """A plan that needs approval, and whether it has it."""

    plan: PendingPlan
    reason: str
    """Why it waits, in one word; empty: it is approved."""
    message: str

    @property
    def holds(self) -> bool:
        """Whether the change waits."""
        return bool(self.reason)

    @property
    def gate(self) -> GateStatus:
        """The same as a gate."""
        return GateStatus(type=GateType.APPROVAL, message=self.message)


def examine_approval(intent: Intent, snapshot: Snapshot) -> Approval | None:
    """Whether what a service would do now needs approval, and has it; None: it needs none.

    In mode Approve a change of the pod template does, and fewer replicas.
    """
    subject, wanted = intent.subject, intent.stabilized
    here = subject.holding
    template = (wanted.accelerator, wanted.max_batch) != (here.accelerator, here.max_batch)
    if subject.spec.mode is not Mode.APPROVE or not (template or wanted.replicas < here.replicas):
        return None
    plan = _plan(subject, wanted, snapshot)
    approved = subject.state.approved
    recorded = subject.state.allocation
    used = recorded.approved_plan if recorded is not None else None
    change = f"{described(plan.source)} -> {described(plan.to)}"
    if approved == plan.digest:
        return Approval(plan, "", f"{change} is approved")
    name, namespace = subject.state.resource.name, subject.state.resource.namespace
    how = f"`inferscale approve {name} -n {namespace}` (digest {plan.digest})"
    if approved and approved != used:
        message = f"{approved} was approved, which is not the plan any more: {change} waits for {how}"
        return Approval(plan, STALE, message)
    return Approval(plan, AWAITING, f"{change} waits for {how}")


def held_back(intent: Intent) -> Intent:
    """A service without the change that needs approval: it keeps what it has, and grows there if it must."""
    subject, need = intent.subject, intent.needed_here
    here, limit = subject.holding, intent.most_here
    replicas = here.replicas
    if intent.stabilized.rising and need is not None:
        replicas = max(replicas, need if limit is None else min(need, limit))
    hold = Stabilized(here.accelerator, replicas, here.max_batch, rising=replicas > here.replicas)
    return replace(intent, target=hold, stabilized=hold)


def within_approval(intent: Intent) -> Intent:
    """A service of which a higher priority takes nothing in mode Approve but what may be done anyway."""
    if intent.subject.spec.mode is not Mode.APPROVE:
        return intent
    # Neither a stop on the way nor fewer replicas for others is what somebody has agreed to.
    here = intent.subject.holding
    return replace(intent, target=intent.stabilized, stops=(), stay=here.replicas)


def with_risks(
    approvals: Mapping[str, Approval], problem: Problem | None, subjects: Mapping[str, Subject]
) -> dict[str, Approval]:
    """The approvals, each with what its plan is predicted to do to latency at the present load."""
    if problem is None or not approvals:
        return dict(approvals)
    keys = sorted(approvals)
    wanted = [(key, approvals[key].plan.to) for key in keys]
    predicted: tuple[Allocation, ...] = evaluate_all(
        problem, [Assignment(key, to.accelerator, to.replicas, to.max_batch) for key, to in wanted]
    )
    return {
        key: replace(
            approvals[key],
            plan=approvals[key].plan.model_copy(
                update={"risk": _risk(subjects[key], approvals[key].plan, allocation)}
            ),
        )
        for key, allocation in zip(keys, predicted, strict=True)
    }


def approval_events(subject: Subject, approval: Approval | None) -> tuple[EventNote, ...]:
    """The news that something waits: once, however often it changes while it waits."""
    recorded = subject.state.allocation
    before = recorded.pending_plan if recorded is not None else None
    if approval is None or not approval.holds or before is not None:
        return ()
    return (EventNote(EventType.NORMAL, AWAITING, approval.message),)


def described(side: MoveSide) -> str:
    """One side of a plan, for people."""
    batch = f", batch {side.max_batch}" if side.max_batch is not None else ""
    return f"{side.replicas} on {side.accelerator}{batch}"


def _plan(subject: Subject, wanted: Stabilized, snapshot: Snapshot) -> PendingPlan:
    here = subject.holding
    source = MoveSide(accelerator=here.accelerator, replicas=here.replicas, max_batch=here.max_batch)
    to = MoveSide(accelerator=wanted.accelerator, replicas=wanted.replicas, max_batch=wanted.max_batch)
    recorded = subject.state.allocation
    before = recorded.pending_plan if recorded is not None else None
    same = before is not None and (before.source, before.to) == (source, to)
    since = before.since if same and before is not None else snapshot.time.replace(microsecond=0)
    what = [subject.state.resource.uid, subject.deployment.uid, since.isoformat()]
    sides = [side.model_dump(mode="json") for side in (source, to)]
    text = json.dumps([*what, *sides], sort_keys=True)
    return PendingPlan(
        digest=hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH],
        source=source,
        to=to,
        since=since,
        saving=round(
            subject.cost(here.accelerator, here.replicas) - subject.cost(wanted.accelerator, wanted.replicas),
            2,
        ),
        risk="",
    )


def _risk(subject: Subject, plan: PendingPlan, allocation: Allocation) -> str:
    template = (plan.source.accelerator, plan.source.max_batch) != (plan.to.accelerator, plan.to.max_batch)
    how = "every replica is started anew" if template else "replicas are removed"
    if not subject.state.load.arrival_rate:
        return f"{how}; there is no load now"
    if allocation.itl is None or allocation.ttft is None:
        return f"{how}; predicted at this load: more than it can serve"
    targets = subject.targets
    latency = ", ".join(
        f"{name} {value:.1f} ms" + (f" of {limit:.1f}" if limit is not None else "")
        for name, value, limit in (
            ("ITL", allocation.itl, targets.itl),
            ("TTFT", allocation.ttft, targets.ttft),
        )
    )
    return f"{how}; predicted at this load: {latency}"
