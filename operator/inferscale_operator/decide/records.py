"""What the status of an InferenceAllocation keeps of a service beside its decision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inferscale_operator.api.inference_allocation import (
    InferenceAllocationStatus,
    ObjectivesStatus,
    WrittenState,
)
from inferscale_operator.decide import ownership
from inferscale_operator.decide.catalog import Refusal, Subject, applies
from inferscale_operator.decide.findings import Outlook
from inferscale_operator.decide.savings import accrue, adopt, interrupted, paid
from inferscale_operator.decide.startup import came_up, scaling_up, with_startup
from inferscale_operator.decide.trend import samples
from inferscale_operator.plan import EventNote, ServicePlan
from inferscale_operator.snapshot import LoadState, ServiceState, Snapshot


def with_records(
    plan: ServicePlan,
    state: ServiceState,
    found: Subject | Refusal,
    outlook: Outlook | None,
    snapshot: Snapshot,
) -> ServicePlan:
    """The plan of a service with the records carried on: adoption, savings, what was written, approval."""
    before = state.allocation or InferenceAllocationStatus()
    if isinstance(found, Refusal):
        return _with(plan, {"savings": interrupted(before), "pending_plan": None})
    seen = ownership.look(found, snapshot)
    moving = plan.allocation.move is not None
    update: dict[str, Any] = {
        "objectives": _objectives(found),
        "approved_plan": before.approved_plan,
        "arrivals": samples(found, snapshot),
        "scaling_up": scaling_up(found, plan, snapshot),
        "reverts": seen.reverts,
        "written": (
            _after_move(found, plan)
            if found.moving and not moving
            else ownership.write_down(found, seen, plan.patch, moves=moving)
        ),
        "adopted": before.adopted,
        "savings": before.savings,
    }
    took = came_up(found, snapshot)
    if took is not None:
        update["startup_times"] = with_startup(plan.allocation.startup_times, found.accelerator, took)
    if state.load.state is not LoadState.NOT_ASKED:
        update |= _account(found, before, plan, snapshot)
    update |= _approval(found, before, plan, outlook)
    return _with(plan, update, seen.events)


def _with(plan: ServicePlan, update: dict[str, Any], news: tuple[EventNote, ...] = ()) -> ServicePlan:
    status = replace(plan.status, events=(*news, *plan.status.events)) if news else plan.status
    return ServicePlan(plan.service, plan.allocation.model_copy(update=update), status, plan.patch)


def _account(
    subject: Subject, before: InferenceAllocationStatus, plan: ServicePlan, snapshot: Snapshot
) -> dict[str, Any]:
    if not applies(subject.spec):
        return {"savings": interrupted(before)}
    adopted = before.adopted
    if ownership.guard(subject) is None:
        adopted = adopt(subject, snapshot)
    if adopted is None:
        return {}
    known = subject.load is not None
    return {
        "adopted": adopted,
        "savings": accrue(before.savings, adopted, paid(subject, plan), snapshot, known=known),
    }


def _approval(
    subject: Subject, before: InferenceAllocationStatus, plan: ServicePlan, outlook: Outlook | None
) -> dict[str, Any]:
    if plan.allocation.move is not None or not applies(subject.spec):
        kept: dict[str, Any] = {"pending_plan": None}
    elif outlook is None:
        return {"pending_plan": before.pending_plan}
    else:
        kept = {"pending_plan": outlook.approval.plan if outlook.approval is not None else None}
    if outlook is not None and outlook.approval is not None and not outlook.approval.holds and plan.patch:
        kept["approved_plan"] = outlook.approval.plan.digest
    return kept


def _objectives(subject: Subject) -> ObjectivesStatus:
    targets = subject.targets
    return ObjectivesStatus(
        priority=subject.priority, itl=targets.itl, ttft=targets.ttft, ttw=targets.ttw, tps=targets.tps
    )


def _after_move(subject: Subject, plan: ServicePlan) -> WrittenState | None:
    serving = next((entry.current_accelerator for entry in plan.allocation.allocations), None)
    if serving is None:
        return None
    return WrittenState(
        deployment=subject.deployment.uid,
        generation=subject.deployment.generation,
        replicas=subject.deployment.replicas,
        accelerator=serving,
    )
