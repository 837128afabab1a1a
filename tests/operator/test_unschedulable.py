"""A replica for which no node is found makes its service look for accelerators of another type."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from builders import (
    NAMESPACE,
    NOW,
    NVIDIA,
    UNKNOWN,
    condition,
    deployment,
    later,
    load,
    of,
    pod_spec,
    policy,
    service,
    world,
)
from inferscale_operator.api.inference_allocation import (
    InferenceAllocationStatus,
    UnschedulablePod,
)
from inferscale_operator.api.moves import MoveSide, MoveStatus, MoveStep
from inferscale_operator.api.optimizer_policy import SafetySettings
from inferscale_operator.decide import decide
from inferscale_operator.decide.unschedulable import unschedulable, waiting_pods
from inferscale_operator.kube.parse import parse_pod
from inferscale_operator.plan import ServicePlan
from inferscale_operator.snapshot import PodState, Snapshot

LIMIT, RETRY = 300, 1800
SETTINGS = SafetySettings()
SINCE = later(-LIMIT)


def pod(name: str = "llama-1-2", since: datetime | None = SINCE, **fields: Any) -> PodState:
    values = {
        "namespace": NAMESPACE,
        "name": name,
        "deployment": "llama",
        "node": None,
        "requests": {NVIDIA: 1},
        "ready": False,
        "terminating": False,
        "unschedulable_since": since,
    }
    return PodState(**(values | fields))


def record(seconds: float = 0, on: str = "h100", name: str = "llama-1-2") -> UnschedulablePod:
    """One that was last seen so many seconds from now."""
    return UnschedulablePod(accelerator=on, pod=name, since=later(seconds - LIMIT), seen=later(seconds))


def found(
    *waiting: PodState, placed: tuple[str, ...] = (), before: InferenceAllocationStatus | None = None
) -> tuple[UnschedulablePod, ...]:
    places = {(NAMESPACE, name) for name in placed}
    return unschedulable("h100", waiting, places, NAMESPACE, before, SETTINGS, NOW)


def stuck(since: datetime | None = SINCE, asked: int = 3, **fields: Any) -> Snapshot:
    """Two replicas on h100 run and a third, though six units seem to be free there, has no node."""
    state = service(on=deployment(replicas=asked, ready_replicas=min(asked, 2)), observed=load(170), **fields)
    snapshot = world(state)
    pods = tuple(
        replace(p, node=None, ready=False, unschedulable_since=since) if i >= 2 else p
        for i, p in enumerate(snapshot.pods)
    )
    return replace(snapshot, pods=pods)


def only(snapshot: Snapshot) -> ServicePlan:
    return of(decide(snapshot), "llama")


def test_the_scheduler_says_since_when_it_has_found_no_node() -> None:
    raw: dict[str, Any] = {
        "metadata": {"name": "p", "namespace": "n", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"resources": {"limits": {NVIDIA: "1"}}}]},
        "status": {
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "lastTransitionTime": "2026-01-01T00:05:00Z",
                }
            ]
        },
    }
    seen = parse_pod(raw)
    assert seen is not None
    assert seen.state.unschedulable_since == later(300)
    for change in ({"status": "True"}, {"reason": "SchedulingGated"}):
        other = raw | {"status": {"conditions": [raw["status"]["conditions"][0] | change]}}
        seen = parse_pod(other)
        assert seen is not None
        assert seen.state.unschedulable_since is None


def test_only_pods_that_wait_for_a_node_count() -> None:
    pods = (pod("a"), pod("b", node="node-h"), pod("c", terminating=True), pod("d", None))
    assert waiting_pods((*pods, pod("e", deployment=None))) == {(NAMESPACE, "llama"): (pods[0],)}


def test_a_replica_counts_as_unschedulable_after_the_limit_and_no_sooner() -> None:
    assert found(pod(since=later(-LIMIT + 1))) == ()
    assert found(pod()) == (record(),)
    # The one that waits longest is named.
    assert found(pod("b"), pod("a", later(-LIMIT - 5)))[0].pod == "a"


def test_it_is_remembered_until_the_pod_has_a_node_or_is_long_gone() -> None:
    before = InferenceAllocationStatus(unschedulable=(record(-RETRY + 1),))
    assert found(before=before) == before.unschedulable
    assert found(placed=("llama-1-2",), before=before) == ()
    assert found(before=InferenceAllocationStatus(unschedulable=(record(-RETRY),))) == ()
    # As long as it waits the time begins anew.
    assert found(pod(), before=before) == (record(),)
    written = InferenceAllocationStatus.model_validate_json(before.model_dump_json(by_alias=True))
    assert found(before=written) == before.unschedulable


def test_in_a_move_what_is_known_stays_and_nothing_is_added() -> None:
    # The old pod that found no node is still there, and is none of the new accelerator's.
    source, to = MoveSide(accelerator="h100", replicas=3), MoveSide(accelerator="a100", replicas=6)
    move = MoveStatus(step=MoveStep.BRING_UP, source=source, to=to, started_at=NOW, step_started_at=NOW)
    before = InferenceAllocationStatus(move=move, unschedulable=(record(-60),))
    assert found(pod(), before=before) == before.unschedulable
    assert found(pod("new"), before=InferenceAllocationStatus(move=move)) == ()


def test_a_service_goes_elsewhere_when_a_replica_finds_no_node() -> None:
    assert only(stuck(later(-LIMIT + 30))).allocation.move is None
    plan = only(stuck())
    assert plan.allocation.move is not None
    assert (plan.allocation.move.to.accelerator, plan.allocation.move.to.replicas) == ("a100", 6)
    assert plan.allocation.unschedulable == (record(),)
    lost = {c.accelerator: c for c in plan.allocation.candidates}["h100"]
    assert (lost.outcome, lost.message) == (
        "QuotaExceeded",
        "quota of H100 for service prod/llama short of 1 unit",
    )


def test_it_is_said_on_a_condition_and_once_in_an_event() -> None:
    first = only(stuck())
    status, reason, message = condition(first, "CapacityLimited")
    assert (status, reason) == ("True", "Unschedulable")
    assert message.startswith("no node was found for pod llama-1-2 since 23:55:00, though h100 seemed")
    assert "of type H100" in message
    said = [e for e in first.status.events if e.reason == "Unschedulable"]
    assert [(e.type.value, e.message) for e in said] == [("Warning", message)]
    again = only(stuck(allocation=InferenceAllocationStatus(unschedulable=(record(-30),))))
    assert [e.reason for e in again.status.events if e.reason == "Unschedulable"] == []


def test_where_nothing_else_will_do_it_asks_for_no_more_than_runs() -> None:
    plan = only(stuck(keepAccelerator=True))
    assert plan.patch is not None
    assert plan.patch.body == {"spec": {"replicas": 2}}
    # And not for the third again, until it is tried anew.
    for ago, asked in ((-RETRY + 30, 2), (-RETRY, 3)):
        before = InferenceAllocationStatus(unschedulable=(record(ago),))
        entry = only(stuck(asked=2, keepAccelerator=True, allocation=before)).allocation.allocations[0]
        assert entry.desired_replicas == asked


def test_it_ends_when_the_pod_has_a_node() -> None:
    before = InferenceAllocationStatus(unschedulable=(record(-60),))
    plan = only(stuck(since=None, asked=2, keepAccelerator=True, allocation=before))
    assert plan.allocation.unschedulable == before.unschedulable
    running = world(service(replicas=3, observed=load(170), keepAccelerator=True, allocation=before))
    plan = only(running)
    assert plan.allocation.unschedulable == ()
    assert plan.allocation.allocations[0].desired_replicas == 3
    assert condition(plan, "CapacityLimited")[0] == "False"


def test_other_services_are_not_kept_from_that_type() -> None:
    snapshot = stuck(serviceClass="bronze")
    other = service("other", 1, load(110), keepAccelerator=True)
    both = world(*snapshot.services, other)
    pods = (*snapshot.pods, *(p for p in both.pods if p.deployment == "other"))
    plan = decide(replace(both, pods=pods))
    patch = of(plan, "other").patch
    assert patch is not None
    assert patch.body == {"spec": {"replicas": 2}}
    assert of(plan, "llama").allocation.move is not None


@pytest.mark.parametrize("accelerators", ["Limited", "Unlimited"])
@pytest.mark.parametrize("solver", ["Greedy", "Exact"])
def test_whatever_the_solver_the_plan_goes_elsewhere(accelerators: str, solver: str) -> None:
    snapshot = replace(stuck(), policy=policy(accelerators=accelerators, solver=solver))
    assert only(snapshot).allocation.allocations[0].target_accelerator == "a100"


def test_a_service_with_unknown_load_remembers_it_and_moves_nowhere() -> None:
    snapshot = stuck()
    blind = replace(snapshot, services=(replace(snapshot.services[0], load=UNKNOWN),))
    plan = only(blind)
    assert plan.patch is None
    assert plan.allocation.unschedulable == (record(),)
    assert [e.reason for e in plan.status.events if e.reason == "Unschedulable"] == ["Unschedulable"]


def test_a_service_that_moved_away_does_not_come_back_at_once() -> None:
    before = InferenceAllocationStatus(unschedulable=(record(-60, name="llama-0-2"),))
    on = deployment(replicas=6, pod_spec=pod_spec("A100"))
    for allocation, target in ((before, "a100"), (None, "h100")):
        free = policy(transitionPenalty=0.0)
        plan = only(world(service(on=on, observed=load(170), allocation=allocation), policy=free))
        assert plan.allocation.allocations[0].target_accelerator == target
