"""`decide(snapshot) -> Plan`: the whole decision, without clock or I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from inferscale_operator.api.inference_allocation import GateStatus, GateType
from inferscale_operator.decide.accelerators import Stock, stocks
from inferscale_operator.decide.approval import (
    Approval,
    examine_approval,
    held_back,
    with_risks,
    within_approval,
)
from inferscale_operator.decide.catalog import Catalog, Subject, applies, catalog, examine
from inferscale_operator.decide.findings import Figures, Outlook
from inferscale_operator.decide.formulate import Decided, decide_targets
from inferscale_operator.decide.gates import gated
from inferscale_operator.decide.growth import growing
from inferscale_operator.decide.intents import intended
from inferscale_operator.decide.inventory import Toleration
from inferscale_operator.decide.ownership import refusal, template_refusal
from inferscale_operator.decide.plausibility import with_doubts
from inferscale_operator.decide.report import orphan_plan
from inferscale_operator.decide.savings import savings
from inferscale_operator.decide.service import service_plan
from inferscale_operator.decide.stabilization import Holding
from inferscale_operator.decide.statuses import Basis, cluster_statuses
from inferscale_operator.decide.step import Budget, Grant, Intent, grants, unclaimed
from inferscale_operator.plan import OrphanPlan, Plan
from inferscale_operator.snapshot import Snapshot
from inferscale_solver import Allocation, Assignment, Decision, Result, evaluate_all


def decide(snapshot: Snapshot) -> Plan:
    """Decide everything: targets, the step towards them, what to write and what to say."""
    snapshot = with_doubts(snapshot)
    entries = catalog(snapshot)
    examined = {s.key: examine(s, entries, snapshot) for s in sorted(snapshot.services, key=lambda s: s.key)}
    subjects = {key: found for key, found in examined.items() if isinstance(found, Subject)}
    tolerations = _tolerations(subjects.values())
    accelerators = stocks(
        entries.accelerators,
        snapshot.nodes,
        snapshot.pods,
        frozenset(entries.targets),
        tolerations,
        all_pods=snapshot.all_pods,
    )
    if any(subject.moving for subject in subjects.values()):
        room = unclaimed(accelerators, sorted(subjects.values(), key=lambda s: (s.priority, s.key)))
        subjects = growing(subjects, entries, room, snapshot)
        examined |= subjects
    outlooks, result = _outlooks(snapshot, entries, subjects, accelerators)
    services = tuple(
        service_plan(state, examined[state.key], outlooks.get(state.key), snapshot)
        for state in sorted(snapshot.services, key=lambda s: s.key)
    )
    saved = savings(snapshot, services)
    basis = Basis(entries, accelerators, tolerations, subjects, outlooks, result)
    return Plan(
        time=snapshot.time,
        services=services,
        orphans=_orphans(snapshot),
        statuses=cluster_statuses(snapshot, basis, services, saved),
        savings=saved,
        gap=result.gap if result is not None else None,
    )


def _tolerations(subjects: Iterable[Subject]) -> dict[str, tuple[Toleration, ...]]:
    """Tolerations in the pod templates of the services, by the type of accelerator that they use."""
    found: dict[str, tuple[Toleration, ...]] = {}
    for subject in subjects:
        kind, known = subject.kind(subject.accelerator), subject.deployment.pod_spec.get("tolerations") or ()
        before = found.get(kind, ())
        found[kind] = (*before, *(toleration for toleration in known if toleration not in before))
    return found


def advance(snapshot: Snapshot) -> Plan:
    """Take the moves that are under way a step further: no optimiser, no load, nothing else touched."""
    entries = catalog(snapshot)
    moving = [s for s in snapshot.services if s.allocation is not None and s.allocation.move is not None]
    return Plan(
        time=snapshot.time,
        services=tuple(
            service_plan(state, examine(state, entries, snapshot), None, snapshot)
            for state in sorted(moving, key=lambda s: s.key)
        ),
        orphans=_orphans(snapshot),
    )


def _orphans(snapshot: Snapshot) -> tuple[OrphanPlan, ...]:
    return tuple(
        orphan_plan(orphan, snapshot)
        for orphan in sorted(snapshot.orphans, key=lambda o: (o.namespace, o.name))
    )


def _outlooks(
    snapshot: Snapshot, entries: Catalog, subjects: Mapping[str, Subject], accelerators: Mapping[str, Stock]
) -> tuple[dict[str, Outlook], Result | None]:
    """Targets, windows and the step, for the services that were decided, and the solver's whole answer."""
    guards = {key: refusal(s, snapshot) for key, s in subjects.items() if applies(s.spec)}
    patchable = frozenset(key for key, refusal in guards.items() if refusal is None)
    target, advice = decide_targets(snapshot, entries, subjects, accelerators, patchable)
    decisions = {**advice.decisions, **target.decisions}
    plans = {**advice.planned, **target.planned}
    intents = {
        key: intended(subjects[key], decision, plans[key], snapshot) for key, decision in decisions.items()
    }
    deciding = [intent.intent for key, intent in intents.items() if key in target.decisions]
    intents |= {
        intent.subject.key: replace(intents[intent.subject.key], intent=intent)
        for intent in gated(deciding, accelerators, snapshot)
        if intent is not intents[intent.subject.key].intent
    }
    approvals = {
        key: approval
        for key, intent in intents.items()
        if (approval := examine_approval(intent.intent, snapshot)) is not None
    }
    approvals = with_risks(approvals, target.problem, subjects)
    waiting = {key for key, approval in approvals.items() if approval.holds}
    given = grants(
        [
            held_back(intent.intent) if key in waiting else within_approval(intent.intent)
            for key, intent in intents.items()
            if key in target.decisions
        ],
        accelerators,
        list(subjects.values()),
        _budget(snapshot),
    )
    # Nothing is granted to a service that only gets advice: it is told what its windows let through.
    step = {key: given.get(key) or _advised(intents[key].intent) for key in decisions}
    figures = _figures(target, {k: step[k] for k in target.decisions}, subjects) | _figures(
        advice, {k: step[k] for k in advice.decisions if k not in target.decisions}, subjects
    )
    insisted = {
        key: found
        for key in target.decisions
        if (found := template_refusal(subjects[key], snapshot)) is not None
    }
    outlooks = {
        key: Outlook(
            decision=decision,
            planned=plans[key],
            intent=intents[key].intent,
            history=intents[key].history,
            grant=step[key],
            figures=figures[key],
            gates=_gates(intents[key].intent, step[key], approvals.get(key)),
            approval=approvals.get(key),
            template_refusal=insisted.get(key),
        )
        for key, decision in decisions.items()
    }
    return outlooks, advice.result


def _gates(intent: Intent, grant: Grant, approval: Approval | None) -> tuple[GateStatus, ...]:
    """What holds back the change from what a service has to its target."""
    gates = []
    if intent.stabilized.held:
        window = intent.stabilized.why == "Stabilizing"
        kind = GateType.STABILIZATION if window else GateType.POLICY
        gates.append(GateStatus(type=kind, message=intent.stabilized.held))
    if grant.gate is not None:
        gates.append(grant.gate)
    if approval is not None and approval.holds:
        gates.append(approval.gate)
    return tuple(gates)


def _budget(snapshot: Snapshot) -> Budget:
    moving = [s.key for s in snapshot.services if s.allocation is not None and s.allocation.move is not None]
    orphaned = [f"{orphan.namespace}/{orphan.name}" for orphan in snapshot.orphans]
    return Budget(snapshot.policy.moves.max_concurrent, tuple(sorted(moving + orphaned)))


def _advised(intent: Intent) -> Grant:
    wanted, here = intent.stabilized, intent.subject.holding
    return Grant(
        wanted.accelerator,
        wanted.replicas,
        wanted.max_batch,
        move=(wanted.accelerator, wanted.max_batch) != (here.accelerator, here.max_batch),
    )


def _wanted(decision: Decision, assignment: Assignment) -> Allocation | None:
    """What a decision gives, if it is the same."""
    given = decision.allocation
    if given is None or (given.profile, given.replicas) != (assignment.profile, assignment.replicas):
        return None
    return given if assignment.max_batch in (None, given.max_batch) else None


def _figures(
    decided: Decided, step: Mapping[str, Grant], subjects: Mapping[str, Subject]
) -> dict[str, Figures]:
    """What each service is predicted to do with what it has, and with what it is given."""
    if decided.problem is None or not step:
        return {}
    keys = sorted(step)

    def assignment(key: str, given: Holding | Grant) -> Assignment:
        return Assignment(key, given.accelerator, given.replicas, given.max_batch)

    present = {key: assignment(key, subjects[key].holding) for key in keys}
    granted = {key: assignment(key, step[key]) for key in keys}
    # At rest both are what the optimiser wants for nearly all, which it has predicted.
    asked = dict.fromkeys([*present.values(), *granted.values()])
    predicted = {each: found for each in asked if (found := _wanted(decided.decisions[each.service], each))}
    others = [each for each in asked if each not in predicted]
    predicted |= zip(others, evaluate_all(decided.problem, others), strict=True)
    return {key: Figures(present=predicted[present[key]], granted=predicted[granted[key]]) for key in keys}
