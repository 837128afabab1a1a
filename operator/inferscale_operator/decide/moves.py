"""Changes of a pod template, in steps that never break before they make.

Each step is a state that the Deployment should be in; a step is left when the Deployment is seen in it and
what it was for has happened. So every step can be repeated, and a restart goes on where the record says.
A move to fewer replicas brings the new ones up beside the old (`BringUp`), gives them the load (`HandOver`)
and removes what the rollout made too many (`Trim`); a move to as many or more is one rollout with a full
surge, and `Trim`. A move that does not come up in time goes back (`RollBack`), which takes nothing away
either before the old replicas are there again; so does one whose pod template somebody else changes. A
Deployment that is recreated, where its owner allows it, is changed in one go.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from inferscale_operator.api.moves import FailedMove, MoveStatus, MoveStep
from inferscale_operator.plan import DeploymentPatch, EventNote, EventType
from inferscale_operator.snapshot import DeploymentState
from inferscale_queueing.frozen import frozen

PUT_BACK = "somebody put the old pod template back"


@frozen
class Advance:
    """Where a move is now. `move` None: it is over. `failed` is set when it was rolled back."""

    move: MoveStatus | None
    patch: DeploymentPatch | None
    events: tuple[EventNote, ...] = ()
    failed: FailedMove | None = None


@frozen
class _Rollout:
    """The two sides of a rollout, in pods."""

    new: int
    new_ready: int
    old: int
    settled: bool
    """Whether the controller has seen the newest template."""


def advance(
    move: MoveStatus,
    deployment: DeploymentState | None,
    template: Mapping[str, Any],
    now: datetime,
    timeout_s: float,
) -> Advance:
    """The next thing to do for a move.

    Args:
        move: Its record.
        deployment: The Deployment as it is; None: it is gone, and the move with it.
        template: Strategic merge patch that still leads to the new template; empty: it is there.
        now: Time of the snapshot.
        timeout_s: Seconds for the new replicas to become ready, after which the move is rolled back.
    """
    if deployment is None:
        return Advance(
            None, None, (_event(move, "MoveDropped", "the Deployment is gone", EventType.WARNING),)
        )
    match move.step:
        case MoveStep.BRING_UP:
            return _bring_up(move, deployment, template, now, timeout_s)
        case MoveStep.HAND_OVER:
            return _hand_over(move, deployment, now)
        case MoveStep.TRIM:
            return _trim(move, deployment, now)
        case MoveStep.ROLL_BACK:
            return _roll_back(move, deployment, now)


def begin_roll_back(move: MoveStatus, now: datetime, cause: str) -> MoveStatus:
    """The record of a move that is to be taken back: possible as long as the old replicas are there."""
    return move.model_copy(update={"step": MoveStep.ROLL_BACK, "step_started_at": now, "cause": cause})


def release(move: MoveStatus, deployment: DeploymentState) -> DeploymentPatch | None:
    """What ends a move at once, where nobody will be there to see it to its end; None: nothing is left.

    The owner's strategy and `paused` are given back, and Kubernetes does the rest by itself: back while the
    old replicas are still to be there, else on.
    """
    back = move.step in (MoveStep.BRING_UP, MoveStep.ROLL_BACK)
    template = move.prior_template if back and not _is_back(deployment.pod_spec, move.prior_template) else {}
    state = {
        "replicas": (move.source if back else move.to).replicas,
        "strategy": move.prior_strategy,
        "paused": False,
    }
    return _patch(deployment, state, template, f"end the move {'back' if back else 'on'} at once")


def recreates(strategy: Mapping[str, Any]) -> bool:
    """Whether a Deployment with this strategy deletes the old pods before it starts new ones."""
    return strategy.get("type") == "Recreate"


def shrinks(move: MoveStatus) -> bool:
    """Whether it is a move to fewer replicas."""
    return move.to.replicas < move.source.replicas


def _disturbed(move: MoveStatus, deployment: DeploymentState) -> str:
    """Who else has changed the pod template since it was ours, for people; empty: nobody."""
    if move.template_hash is None or move.template_hash == deployment.template_hash:
        return ""
    return f"{deployment.template_writer or 'somebody'} changed the pod template in the middle of the move"


def _bring_up(
    move: MoveStatus,
    deployment: DeploymentState,
    template: Mapping[str, Any],
    now: datetime,
    timeout_s: float,
) -> Advance:
    rollout = _rollout(deployment)
    disturbed = _disturbed(move, deployment)
    if disturbed:
        told = (_event(move, "MoveDisturbed", f"{disturbed}: going back", EventType.WARNING),)
        return _roll_back(begin_roll_back(move, now, disturbed), deployment, now, told)
    ours = None if template else deployment.template_hash or None
    move = move.model_copy(update={"template_hash": ours})
    # A Deployment that is recreated has its new ReplicaSet only when the old pods have gone.
    there = not template and rollout.settled and deployment.revision != move.prior_revision
    if there and rollout.new_ready >= move.to.replicas:
        if shrinks(move) and not recreates(move.prior_strategy):
            return _hand_over(_at(move, MoveStep.HAND_OVER, now), deployment, now, _ready_event(move))
        if rollout.old == 0:
            return _trim(_at(move, MoveStep.TRIM, now), deployment, now, _ready_event(move))
    if now - move.step_started_at > timedelta(seconds=timeout_s):
        if there and rollout.new_ready and not move.source.replicas:
            # Nothing served before: the few that came up are better than going back to none.
            few = move.to.model_copy(update={"replicas": rollout.new_ready})
            move = move.model_copy(update={"to": few})
            return _trim(_at(move, MoveStep.TRIM, now), deployment, now, _ready_event(move))
        message = (
            f"{rollout.new_ready} of {move.to.replicas} new replicas ready after {timeout_s:.0f} s:"
            f" going back to {move.source.accelerator}"
        )
        cause = f"{rollout.new_ready} of {move.to.replicas} new replicas came up in {timeout_s:.0f} s"
        taken_back = begin_roll_back(move, now, cause)
        return _roll_back(
            taken_back, deployment, now, (_event(move, "MoveTimedOut", message, EventType.WARNING),)
        )
    if recreates(move.prior_strategy):
        state = {"replicas": move.to.replicas, "strategy": move.prior_strategy, "paused": False}
    elif shrinks(move):
        # Paused as soon as the new ones exist, or the rollout goes on to replace every old replica.
        enough = there and (deployment.paused or rollout.new >= move.to.replicas)
        # Another surge would be shared out between old and new as well.
        kept = dict(deployment.strategy) if enough and deployment.paused else None
        state = {
            "replicas": move.source.replicas,
            "strategy": kept or _rolling(surge=move.to.replicas, unavailable=0),
            "paused": enough,
        }
    else:
        state = {
            "replicas": move.to.replicas,
            "strategy": _rolling(surge="100%", unavailable=0),
            "paused": False,
        }
    return Advance(move, _patch(deployment, state, template, f"bring up {_new_side(move)}"))


def _hand_over(
    move: MoveStatus, deployment: DeploymentState, now: datetime, events: tuple[EventNote, ...] = ()
) -> Advance:
    rollout = _rollout(deployment)
    disturbed = _disturbed(move, deployment)
    if _taken_back(move, deployment) or (disturbed and deployment.paused):
        return _roll_back(begin_roll_back(move, now, disturbed or PUT_BACK), deployment, now, events)
    if disturbed:
        # The old replicas have been let go: the rest is a rollout of that template as its owner has it.
        told = (*events, _event(move, "MoveDisturbed", disturbed, EventType.WARNING))
        return _trim(_at(move, MoveStep.TRIM, now), deployment, now, told)
    if deployment.paused and rollout.new_ready < move.to.replicas:
        # Lost before the old ones gave up anything: they keep the load until the new ones are there again.
        return Advance(_at(move, MoveStep.BRING_UP, now), None, events)
    state = {
        "replicas": move.source.replicas,
        "strategy": _rolling(surge=move.to.replicas, unavailable="100%"),
        "paused": False,
    }
    patch = _patch(deployment, state, {}, f"hand over to {_new_side(move)}")
    if patch is None and rollout.settled and rollout.old == 0:
        return _trim(_at(move, MoveStep.TRIM, now), deployment, now, events)
    return Advance(move, patch, events)


def _trim(
    move: MoveStatus, deployment: DeploymentState, now: datetime, events: tuple[EventNote, ...] = ()
) -> Advance:
    if _taken_back(move, deployment):
        return _roll_back(begin_roll_back(move, now, PUT_BACK), deployment, now, events)
    state = {"replicas": move.to.replicas, "strategy": move.prior_strategy, "paused": False}
    patch = _patch(deployment, state, {}, f"trim to {_new_side(move)}")
    if patch is None:
        took = deployment_took(move)
        return Advance(
            None,
            None,
            (
                *events,
                _event(move, "MoveCompleted", f"now on {_new_side(move)}{took}"),
            ),
        )
    return Advance(move, patch, events)


def deployment_took(move: MoveStatus) -> str:
    """How long the new replicas took to come up, for people."""
    seconds = (move.step_started_at - move.started_at).total_seconds()
    return f", {seconds:.0f} s after the start" if seconds > 0 else ""


def _roll_back(
    move: MoveStatus, deployment: DeploymentState, now: datetime, events: tuple[EventNote, ...] = ()
) -> Advance:
    summary = f"roll back to {move.source.accelerator}"
    back = move.prior_template if not _is_back(deployment.pod_spec, move.prior_template) else {}
    state = {"replicas": move.source.replicas, "strategy": move.prior_strategy, "paused": False}
    patch = _patch(deployment, state, back, summary)
    # The ReplicaSet of the template as it is; with the old template back that is the old one.
    rollout = _rollout(deployment)
    there = rollout.settled and not back
    cleared = there and rollout.old == 0
    if patch is not None and not cleared and not recreates(move.prior_strategy):
        # While there are two ReplicaSets a new number of replicas would be shared out between them, so it
        # stays what it is; and nothing goes before the old replicas are ready.
        whole = there and rollout.new_ready >= move.source.replicas
        state = {"strategy": _rolling("100%", "100%" if whole else 0), "paused": False}
        patch = _patch(deployment, state, back, summary)
    elif patch is None and cleared:
        failed = FailedMove(
            accelerator=move.to.accelerator, time=now, message=move.cause or "it was taken back"
        )
        why = f": {move.cause}" if move.cause else ""
        message = f"back on {move.source.accelerator}{why}"
        return Advance(
            None, None, (*events, _event(move, "MoveRolledBack", message, EventType.WARNING)), failed
        )
    return Advance(move, patch, events)


def _rollout(deployment: DeploymentState) -> _Rollout:
    new = [r for r in deployment.replica_sets if r.revision == deployment.revision]
    old = [r for r in deployment.replica_sets if r.revision != deployment.revision]
    return _Rollout(
        new=sum(r.desired for r in new),
        new_ready=sum(r.ready for r in new),
        old=sum(max(r.desired, r.replicas) for r in old),
        settled=bool(new) and deployment.observed_generation >= deployment.generation,
    )


def _patch(
    deployment: DeploymentState, state: Mapping[str, Any], template: Mapping[str, Any], summary: str
) -> DeploymentPatch | None:
    """What leads to the state; None: the Deployment is in it."""
    present = {
        "replicas": deployment.replicas,
        "strategy": dict(deployment.strategy),
        "paused": deployment.paused,
    }
    spec: dict[str, Any] = {k: v for k, v in state.items() if v != present[k]}
    if "strategy" in spec:
        # `retainKeys`: a list of keys to keep, since the type decides which others are allowed.
        spec["strategy"] = {"$retainKeys": sorted(spec["strategy"]), **spec["strategy"]}
    if template:
        spec["template"] = {"spec": dict(template)}
    if not spec:
        return None
    return DeploymentPatch(
        namespace=deployment.namespace,
        name=deployment.name,
        resource_version=deployment.resource_version,
        body={"spec": spec},
        summary=summary,
    )


def _taken_back(move: MoveStatus, deployment: DeploymentState) -> bool:
    """Whether somebody else has put the old template back, by applying a manifest perhaps."""
    return bool(move.prior_template) and _is_back(deployment.pod_spec, move.prior_template)


def _is_back(pod_spec: Mapping[str, Any], back: Mapping[str, Any]) -> bool:
    """Whether a strategic merge patch would change nothing in the pod spec."""
    for key, value in back.items():
        if key == "containers":
            present = {c["name"]: c for c in pod_spec.get("containers") or ()}
            if not all(_container_is_back(present.get(c["name"], {}), c) for c in value):
                return False
        elif key == "nodeSelector":
            if not _holds(pod_spec.get(key) or {}, value):
                return False
        elif (pod_spec.get(key) or None) != (value or None):
            return False
    return True


def _container_is_back(container: Mapping[str, Any], back: Mapping[str, Any]) -> bool:
    env = {e["name"]: e for e in container.get("env") or ()}
    resources = container.get("resources") or {}
    return (
        all((container.get(k) or None) == (back[k] or None) for k in ("image", "args") if k in back)
        and all(
            (e["name"] not in env) if "$patch" in e else env.get(e["name"]) == e
            for e in back.get("env") or ()
        )
        and all(_holds(resources.get(part) or {}, v) for part, v in (back.get("resources") or {}).items())
    )


def _holds(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(present.get(k) == v for k, v in wanted.items())


def _rolling(surge: int | str, unavailable: int | str) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def _at(move: MoveStatus, step: MoveStep, now: datetime) -> MoveStatus:
    return move.model_copy(update={"step": step, "step_started_at": now})


def _new_side(move: MoveStatus) -> str:
    batch = f", batch {move.to.max_batch}" if move.to.max_batch is not None else ""
    return f"{move.to.replicas} on {move.to.accelerator}{batch}"


def _ready_event(move: MoveStatus) -> tuple[EventNote, ...]:
    return (_event(move, "MoveReady", f"{_new_side(move)} are ready and take over"),)


def _event(move: MoveStatus, reason: str, message: str, kind: EventType = EventType.NORMAL) -> EventNote:
    return EventNote(kind, reason, f"{move.source.accelerator} -> {move.to.accelerator}: {message}")
