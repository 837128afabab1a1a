"""Hours of decisions in a second: what is decided is done at once, and the next tick sees it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from builders import after, merged, of, pods_of
from inferscale_operator.api.moves import MoveStep
from inferscale_operator.decide import decide
from inferscale_operator.plan import Plan, ServicePlan
from inferscale_operator.snapshot import ObservedLoad, PodState, Snapshot


@dataclass(frozen=True)
class Tick:
    """A service at a tick, as it was seen, and what was decided."""

    time: datetime
    accelerator: str | None
    replicas: int
    asked: int
    """Replicas after the tick."""
    plan: ServicePlan

    @property
    def changed(self) -> bool:
        """Whether the Deployment was patched."""
        return self.plan.patch is not None


def play(
    snapshot: Snapshot,
    loads: Sequence[ObservedLoad] | Mapping[str, Sequence[ObservedLoad]],
    seconds: float = 30.0,
    refused: Collection[int] = (),
) -> dict[str, list[Tick]]:
    """A tick for every load of all services, or of each by name.

    Args:
        snapshot: The world at the start.
        loads: The loads, tick after tick.
        seconds: Time between ticks.
        refused: Ticks whose patches are refused.
    """
    ticks: dict[str, list[Tick]] = {state.resource.name: [] for state in snapshot.services}
    by_name = loads if isinstance(loads, Mapping) else dict.fromkeys(ticks, loads)
    for i in range(min(len(each) for each in by_name.values())):
        states = tuple(replace(state, load=by_name[state.resource.name][i]) for state in snapshot.services)
        snapshot = replace(snapshot, services=states)
        plan = decide(snapshot)
        following = after(snapshot, plan, seconds)
        if i not in refused:
            following = done(following, plan)
        for state in following.services:
            assert state.deployment is not None
            found = of(plan, state.resource.name)
            entry = found.allocation.allocations[0]
            ticks[state.resource.name].append(
                Tick(
                    snapshot.time,
                    entry.current_accelerator,
                    entry.current_replicas,
                    state.deployment.replicas,
                    found,
                )
            )
        snapshot = following
    return ticks


def done(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The world when what was decided is done: replicas run, moves are over."""
    states = []
    for state in snapshot.services:
        found, deployment = of(plan, state.resource.name), state.deployment
        assert deployment is not None
        assert state.allocation is not None
        if found.patch is not None:
            spec = found.patch.body["spec"]
            replicas = spec.get("replicas", deployment.replicas)
            pod_spec = merged(deployment.pod_spec, spec.get("template", {}).get("spec", {}))
            move = state.allocation.move
            if move is not None and move.step is MoveStep.BRING_UP:
                replicas = move.to.replicas
                state = replace(state, allocation=state.allocation.model_copy(update={"move": None}))
            sets = tuple(
                replace(s, desired=replicas, replicas=replicas, ready=replicas)
                for s in deployment.replica_sets
            )
            deployment = replace(
                deployment,
                replicas=replicas,
                ready_replicas=replicas,
                pod_spec=pod_spec,
                replica_sets=sets,
            )
        states.append(replace(state, deployment=deployment))
    pods: list[PodState] = [pod for pod in snapshot.pods if pod.deployment is None]
    for state in states:
        held: dict[str, int] = {}
        for pod in pods:
            if pod.node is not None:
                held[pod.node] = held.get(pod.node, 0) + sum(pod.requests.values())
        assert state.deployment is not None
        pods += pods_of(state.deployment, snapshot.nodes, held)
    return replace(snapshot, services=tuple(states), pods=tuple(pods))
