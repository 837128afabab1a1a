"""`decide(snapshot) -> Plan`: the whole decision, without clock or I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from inferscale_operator.api.inference_allocation import (
    GateStatus,
    GateType,
    MoveSide,
    MoveStatus,
    MoveStep,
    Recommendation,
)
from inferscale_operator.api.inference_service import BatchMode, Mode
from inferscale_operator.decide import moves
from inferscale_operator.decide.accelerators import Stock, stocks
from inferscale_operator.decide.approval import (
    Approval,
    examine_approval,
    held_back,
    with_risks,
    within_approval,
)
from inferscale_operator.decide.catalog import Catalog, Refusal, Subject, applies, catalog, examine
from inferscale_operator.decide.findings import Figures, Outlook
from inferscale_operator.decide.follow import follow
from inferscale_operator.decide.formulate import (
    Decided,
    decide_targets,
    known_load,
    least_held,
    least_replicas,
    needed_replicas,
    served,
)
from inferscale_operator.decide.gates import gated, goes_on
from inferscale_operator.decide.inventory import Toleration
from inferscale_operator.decide.ownership import refusal, template_refusal
from inferscale_operator.decide.plausibility import with_doubts
from inferscale_operator.decide.records import with_records
from inferscale_operator.decide.report import (
    decided_plan,
    held_plan,
    moving_plan,
    orphan_plan,
    paused_plan,
    refused_plan,
    resumed_plan,
    unguided_plan,
)
from inferscale_operator.decide.savings import savings
from inferscale_operator.decide.stabilization import Holding, Stabilized
from inferscale_operator.decide.statuses import cluster_statuses
from inferscale_operator.decide.step import Budget, Grant, Intent, grants
from inferscale_operator.decide.template import inverse, template_patch
from inferscale_operator.plan import DeploymentPatch, OrphanPlan, Plan, ServicePlan
from inferscale_operator.snapshot import DeploymentState, LoadState, ServiceState, Snapshot
from inferscale_solver import Allocation, Assignment, Decision, Rejection, Result, evaluate_all, required_rate


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
    outlooks, result = _outlooks(snapshot, entries, subjects, accelerators)
    services = tuple(
        _service_plan(state, examined[state.key], outlooks.get(state.key), snapshot)
        for state in sorted(snapshot.services, key=lambda s: s.key)
    )
    saved = savings(snapshot, services)
    return Plan(
        time=snapshot.time,
        services=services,
        orphans=_orphans(snapshot),
        statuses=cluster_statuses(
            snapshot, entries, accelerators, services, result, subjects, outlooks, saved, tolerations
        ),
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
            _service_plan(state, examine(state, entries, snapshot), None, snapshot)
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
    intents = {key: _intent(subjects[key], decision, snapshot) for key, decision in decisions.items()}
    deciding = [intent.intent for key, intent in intents.items() if key in target.decisions]
    intents |= {
        intent.subject.key: replace(intents[intent.subject.key], intent=intent)
        for intent in gated(deciding, accelerators, snapshot)
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


@dataclass(frozen=True)
class _Remembered:
    intent: Intent
    history: tuple[Recommendation, ...]


def _intent(subject: Subject, decision: Decision, snapshot: Snapshot) -> _Remembered:
    load = known_load(subject)
    rate = required_rate(load, subject.targets.tps) if load is not None else 0.0
    target = _target(subject, decision, snapshot)
    needed = needed_replicas(decision, subject.accelerator, rate, least_replicas(subject, rate))
    followed = follow(subject, decision, target, rate, needed, snapshot.time)
    allowed = followed.stabilized
    if goes_on(subject, target.accelerator) and decision.allocation is not None:
        # Its windows let it through before it made the stop.
        allowed = replace(target, rising=allowed.rising)
    intent = Intent(
        subject,
        replace(target, rising=allowed.rising),
        allowed,
        needed,
        stay=_lasting(subject, followed.history, decision, snapshot),
        stops=_stops(subject, decision),
        least_here=followed.least_here,
        most_here=followed.most_here,
    )
    return _Remembered(intent, followed.history)


def _lasting(
    subject: Subject, history: Sequence[Recommendation], decision: Decision, snapshot: Snapshot
) -> int | None:
    """The most replicas that the load has needed on the present profile within the scale-down window."""
    oldest = snapshot.time - timedelta(seconds=subject.behaviour.windows.down)
    rates = [past.rate for past in history if past.time > oldest or past is history[-1]]
    needs = [
        needed_replicas(decision, subject.accelerator, rate, least_replicas(subject, rate)) for rate in rates
    ]
    known = [need for need in needs if need is not None]
    return max(known) if len(known) == len(needs) else None


def _stops(subject: Subject, decision: Decision) -> tuple[Holding, ...]:
    """Profiles besides the present one on which the objectives hold, the cheapest first."""
    stays = subject.spec.keep_accelerator or subject.behaviour.keeps_accelerator
    if subject.state.load.state is LoadState.PARTIAL or stays:
        return ()
    managed = subject.spec.batch.mode is BatchMode.MANAGED
    fitting = [
        c.allocation
        for c in decision.candidates
        if c.allocation is not None
        and c.profile != subject.accelerator
        and c.rejection in (Rejection.CHOSEN, Rejection.DEARER, Rejection.CAPACITY)
        and served(decision)
        and c.allocation.replicas > 0
    ]
    return tuple(
        Holding(a.profile, a.replicas, a.max_batch if managed else subject.holding.max_batch)
        for a in sorted(fitting, key=lambda a: (a.cost, a.profile))
    )


def _target(subject: Subject, decision: Decision, snapshot: Snapshot) -> Stabilized:
    """What the optimiser wants; without an allocation (nothing is free) a service keeps its least."""
    holding, allocation = subject.holding, decision.allocation
    if subject.state.load.state is LoadState.PARTIAL:
        # More of the same at most: what is not seen is never taken for not there.
        here = allocation is not None and allocation.profile == holding.accelerator
        wanted = allocation.replicas if allocation is not None and here else holding.replicas
        return Stabilized(holding.accelerator, max(wanted, holding.replicas), holding.max_batch)
    if allocation is None:
        least = holding.replicas if subject.behaviour.limits.down.disabled else subject.behaviour.bounds.least
        least = min(least, holding.replicas)
        return Stabilized(holding.accelerator, least, holding.max_batch)
    if allocation.replicas == 0:
        return Stabilized(holding.accelerator, 0, holding.max_batch)
    batch = holding.max_batch
    if subject.spec.batch.mode is BatchMode.MANAGED and allocation.max_batch > 0:
        # Set along with a change of accelerator; alone only where the solver had to change it.
        same = allocation.profile == holding.accelerator
        stays = same and (
            holding.max_batch is None
            or not subject.can_roll
            or subject.failed_lately(holding.accelerator, snapshot) is not None
            or template_refusal(subject, snapshot) is not None
        )
        batch = holding.max_batch if stays else allocation.max_batch
    return Stabilized(allocation.profile, allocation.replicas, batch)


def _advised(intent: Intent) -> Grant:
    wanted, here = intent.stabilized, intent.subject.holding
    return Grant(
        wanted.accelerator,
        wanted.replicas,
        wanted.max_batch,
        move=(wanted.accelerator, wanted.max_batch) != (here.accelerator, here.max_batch),
    )


def _figures(
    decided: Decided, step: Mapping[str, Grant], subjects: Mapping[str, Subject]
) -> dict[str, Figures]:
    """What each service is predicted to do with what it has, and with what it is given."""
    if decided.problem is None or not step:
        return {}
    keys = sorted(step)
    present = [Assignment(key, subjects[key].accelerator, subjects[key].deployment.replicas) for key in keys]
    wanted = [Assignment(key, step[key].accelerator, step[key].replicas, step[key].max_batch) for key in keys]
    predicted: tuple[Allocation, ...] = evaluate_all(decided.problem, present + wanted)
    return {
        key: Figures(present=predicted[i], granted=predicted[len(keys) + i]) for i, key in enumerate(keys)
    }


def _service_plan(
    state: ServiceState, found: Subject | Refusal, outlook: Outlook | None, snapshot: Snapshot
) -> ServicePlan:
    return with_records(_decided(state, found, outlook, snapshot), state, found, outlook, snapshot)


def _decided(
    state: ServiceState, found: Subject | Refusal, outlook: Outlook | None, snapshot: Snapshot
) -> ServicePlan:
    move = state.allocation.move if state.allocation is not None else None
    deployment = state.deployment
    if move is None and deployment is not None and _left_paused(state, deployment, snapshot):
        return resumed_plan(state, deployment, snapshot)
    if isinstance(found, Refusal):
        return (
            refused_plan(state, found, snapshot)
            if move is None or state.lacks_label
            else unguided_plan(state, move, found, snapshot)
        )
    if move is not None:
        return moving_plan(found, _advance_move(found, move, snapshot), snapshot)
    if found.spec.mode is Mode.PAUSED:
        return paused_plan(found, snapshot)
    if outlook is None:
        refused = refusal(found, snapshot) if applies(found.spec) else None
        return held_plan(found, refused, _up_to_least(found, refused), snapshot)
    if not applies(found.spec) or not outlook.grant.move:
        return decided_plan(found, outlook, _scaling(found, outlook.grant), None, snapshot)
    begun = _begin_move(found, outlook.grant, snapshot)
    advanced = _advance_move(found, begun, snapshot)
    return decided_plan(found, outlook, advanced.patch, advanced.move, snapshot)


def _left_paused(state: ServiceState, deployment: DeploymentState, snapshot: Snapshot) -> bool:
    """Whether we paused a Deployment and no move of it is on record, of an earlier service either."""
    spec = state.resource.spec
    ending = {(o.namespace, o.deployment.name) for o in snapshot.orphans if o.deployment is not None}
    unknown = (deployment.namespace, deployment.name) not in ending
    return deployment.paused_by_us and unknown and spec is not None and applies(spec)


def _up_to_least(subject: Subject, refused: Refusal | None) -> DeploymentPatch | None:
    """A service whose load is not known loses nothing; it has its minReplicas, and is woken, all the same."""
    least, here = least_held(subject), subject.holding
    if refused is not None or here.replicas >= least:
        return None
    return _scaling(subject, Grant(here.accelerator, least, here.max_batch))


def _scaling(subject: Subject, grant: Grant) -> DeploymentPatch | None:
    deployment = subject.deployment
    if not applies(subject.spec) or grant.replicas == deployment.replicas:
        return None
    return DeploymentPatch(
        namespace=deployment.namespace,
        name=deployment.name,
        resource_version=deployment.resource_version,
        body={"spec": {"replicas": grant.replicas}},
        summary=f"scale from {deployment.replicas} to {grant.replicas} on {grant.accelerator}",
    )


def _begin_move(subject: Subject, grant: Grant, snapshot: Snapshot) -> MoveStatus:
    deployment, holding = subject.deployment, subject.holding
    patch = template_patch(
        subject.spec,
        deployment.pod_spec,
        subject.placement(holding.accelerator),
        subject.placement(grant.accelerator),
        grant.max_batch,
    )
    return MoveStatus(
        step=MoveStep.BRING_UP,
        source=MoveSide(
            accelerator=holding.accelerator, replicas=holding.replicas, max_batch=holding.max_batch
        ),
        to=MoveSide(accelerator=grant.accelerator, replicas=grant.replicas, max_batch=grant.max_batch),
        started_at=snapshot.time,
        step_started_at=snapshot.time,
        prior_strategy=dict(deployment.strategy),
        prior_template=inverse(deployment.pod_spec, patch),
        prior_revision=deployment.revision,
        onward=grant.onward,
    )


def _advance_move(subject: Subject, move: MoveStatus, snapshot: Snapshot) -> moves.Advance:
    if move.to.accelerator in subject.performances and move.source.accelerator in subject.performances:
        patch = template_patch(
            subject.spec,
            subject.deployment.pod_spec,
            subject.placement(move.source.accelerator),
            subject.placement(move.to.accelerator),
            move.to.max_batch,
        )
    elif move.step is MoveStep.BRING_UP:
        # Its profile is gone: back to what was.
        gone = "an accelerator profile of the move is gone, or the model's data for it"
        move, patch = moves.begin_roll_back(move, snapshot.time, gone), {}
    else:
        patch = {}
    return moves.advance(
        move, subject.deployment, patch, snapshot.time, snapshot.policy.moves.bring_up_timeout_seconds
    )
