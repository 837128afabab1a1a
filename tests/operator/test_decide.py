from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import (
    AMD,
    IDLE,
    NAMESPACE,
    NOW,
    UNKNOWN,
    accelerator,
    after,
    behavior,
    condition,
    deployment,
    later,
    load,
    model,
    node,
    of,
    orphan,
    performance,
    pod_spec,
    policy,
    service,
    service_class,
    world,
)
from deployment_model import START_S, ModelDeployment
from inferscale_operator.api.inference_allocation import (
    InferenceAllocationStatus,
    LoadStatus,
    Recommendation,
    ScaleEvent,
    UnschedulablePod,
)
from inferscale_operator.api.moves import FailedMove, MoveSide, MoveStatus, MoveStep
from inferscale_operator.decide import advance, decide
from inferscale_operator.plan import Plan, ServicePlan, dump_plan
from inferscale_operator.snapshot import (
    DeploymentState,
    LoadState,
    ObservedLoad,
    ReplicaSetState,
    Resource,
    ServiceState,
    Snapshot,
    UnknownCause,
)

STALLED = ObservedLoad(LoadState.STALLED, "12 requests make no progress", 0.0, 0.0, 100.0)
WINDOWS = behavior(120, 300)
LIMITED = {
    way: {
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        "tolerance": 0.1,
    }
    for way in ("scaleUp", "scaleDown")
}
DISABLED = {way: {"selectPolicy": "Disabled"} for way in ("scaleUp", "scaleDown")}


def only(snapshot: Snapshot) -> ServicePlan:
    return decide(snapshot).services[0]


def replicas(plan: ServicePlan) -> int | None:
    """The replicas that are patched; None: no patch."""
    return None if plan.patch is None else plan.patch.body["spec"].get("replicas")


def ticks(snapshot: Snapshot, count: int, **fields: Any) -> list[ServicePlan]:
    """The first service's plans of so many ticks in which nothing is carried out."""
    plans = []
    for _ in range(count):
        plan = decide(snapshot)
        plans.append(plan.services[0])
        snapshot = after(snapshot, plan, **fields)
    return plans


def remembered(*wants: tuple[float, int]) -> InferenceAllocationStatus:
    history = tuple(
        Recommendation(time=later(at), accelerator="h100", replicas=count, rate=60.0 * count)
        for at, count in wants
    )
    return InferenceAllocationStatus(history=history)


def with_move(step: MoveStep = MoveStep.BRING_UP, **fields: Any) -> InferenceAllocationStatus:
    values = {
        "step": step,
        "source": MoveSide(accelerator="h100", replicas=2),
        "to": MoveSide(accelerator="a100", replicas=1),
        "started_at": NOW,
        "step_started_at": NOW,
        "prior_strategy": deployment().strategy,
        "prior_template": {"nodeSelector": {"gpu": "H100"}},
    }
    return InferenceAllocationStatus(move=MoveStatus(**(values | fields)))


def moving(step: MoveStep) -> DeploymentState:
    """A Deployment in the middle of that step of `with_move`."""
    old = ReplicaSetState("llama-1", 1, 2, 2, 2)
    new = ReplicaSetState("llama-2", 2, 1, 1, 0 if step is MoveStep.BRING_UP else 1)
    sets = {
        MoveStep.BRING_UP: (old, new),
        MoveStep.HAND_OVER: (old, new),
        MoveStep.TRIM: (ReplicaSetState("llama-2", 2, 2, 2, 1),),
        MoveStep.ROLL_BACK: (old, new),
    }[step]
    return deployment(
        paused=step is not MoveStep.TRIM,
        pod_spec=pod_spec("A100"),
        revision=2,
        replica_sets=sets,
        strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    )


# What is decided and patched.


def test_a_rising_load_scales_up_after_its_window() -> None:
    plans = ticks(world(service(observed=load(230), behavior=WINDOWS)), 5)
    assert [replicas(p) for p in plans] == [None, None, None, None, 4]
    assert [p.allocation.reason for p in plans] == ["Stabilizing"] * 4 + ["ScalingUp"]
    assert [p.allocation.allocations[0].target_replicas for p in plans] == [4] * 5
    patch = plans[-1].patch
    assert patch is not None
    assert (patch.namespace, patch.name, patch.resource_version) == (NAMESPACE, "llama", "7")
    assert [e.reason for e in plans[-1].status.events] == ["ScaledUp"]
    assert condition(plans[0], "SLOAtRisk")[:2] == ("True", "PredictedMiss")


def test_an_idle_service_goes_to_its_least_through_the_window() -> None:
    snapshot = world(service(replicas=4, observed=IDLE, behavior=WINDOWS))
    assert [replicas(p) for p in ticks(snapshot, 11)] == [None] * 10 + [1]
    assert replicas(only(world(service(replicas=4, observed=IDLE, minReplicas=2)))) == 2


def test_no_arrivals_are_not_yet_idleness() -> None:
    assert replicas(only(world(service(replicas=4, observed=load(0.0), minReplicas=0)))) == 1


def test_more_replicas_than_the_most_go_down_at_once() -> None:
    snapshot = world(service(replicas=6, observed=load(360), behavior=WINDOWS, maxReplicas=3))
    assert replicas(only(snapshot)) == 3


def test_a_move_never_passes_the_most_replicas() -> None:
    history = (
        Recommendation(time=later(-60), accelerator="b200", replicas=1, rate=290),
        Recommendation(time=later(-30), accelerator="a100", replicas=1, rate=20),
    )
    state = service(
        observed=load(20),
        behavior=WINDOWS,
        maxReplicas=3,
        allocation=InferenceAllocationStatus(history=history),
    )
    plan = only(world(state))
    assert plan.allocation.move is not None
    assert (plan.allocation.move.to.accelerator, plan.allocation.move.to.replicas) == ("a100", 3)


def test_a_cheaper_accelerator_is_moved_to_and_the_way_back_is_recorded() -> None:
    plan = only(world(service(observed=load(30), maxReplicas=9)))
    move = plan.allocation.move
    assert move is not None
    assert (move.step, move.source.replicas, move.to.replicas) == (MoveStep.BRING_UP, 2, 1)
    assert move.prior_strategy == deployment().strategy
    assert move.prior_template == {"nodeSelector": {"gpu": "H100"}}
    assert plan.patch is not None
    assert plan.patch.body["spec"]["template"] == {"spec": {"nodeSelector": {"gpu": "A100"}}}
    assert [e.reason for e in plan.status.events] == ["MoveStarted"]
    assert condition(plan, "Moving")[:2] == ("True", "BringUp")


def test_a_whole_move_through_decisions_and_a_rollout() -> None:
    fleet = ModelDeployment(2)
    snapshot = world(service(observed=load(30), on=fleet.state()))
    least = 2.0
    for tick in range(40):
        plan = decide(snapshot) if tick % 3 == 0 else advance(snapshot)
        if not plan.services:
            continue
        found = plan.services[0]
        if found.patch is not None:
            fleet.apply(found.patch)
        fleet.step()
        least = min(least, fleet.ready_on("H100") + 2 * fleet.ready_on("A100"))
        state = replace(snapshot.services[0], deployment=fleet.state(), allocation=found.allocation)
        snapshot = replace(
            snapshot, time=snapshot.time + timedelta(seconds=5), services=(state,), pods=world(state).pods
        )
        if found.allocation.reason == "Moved":
            break
    entry = found.allocation.allocations[0]
    assert (entry.accelerator, entry.current_accelerator, entry.desired_replicas) == ("a100", "a100", 1)
    assert found.status.status.accelerator == "a100"
    assert least >= 2.0
    assert (fleet.ready_on("H100"), fleet.ready_on("A100"), fleet.paused) == (0, 1, False)
    assert fleet.strategy == deployment().strategy
    settled = only(snapshot)
    assert settled.patch is None
    assert settled.allocation.allocations[0].current_accelerator == "a100"


def test_another_resource_without_a_variant_is_no_candidate() -> None:
    amd = accelerator("mi300x", cost=0.5, resourceName=AMD)
    fields = {
        "accelerator_profiles": (accelerator("h100"), amd),
        "model_profiles": (model(h100=60, mi300x=300),),
        "nodes": (node("h", "H100"), node("m", "MI300X", resource=AMD)),
    }
    plan = only(world(service(), **fields))
    outcome = next(c for c in plan.allocation.candidates if c.accelerator == "mi300x")
    assert "NoVariant" in outcome.message
    plan = only(world(service(variants=[{"accelerator": "mi300x", "image": "rocm"}]), **fields))
    assert plan.allocation.move is not None


def test_profiles_that_the_service_or_its_namespace_may_not_use_are_no_candidates() -> None:
    def message(plan: ServicePlan) -> str:
        return next(c for c in plan.allocation.candidates if c.accelerator == "a100").message

    chosen = only(world(service(observed=load(30), allowedAccelerators=["h100"])))
    assert "spec.allowedAccelerators" in message(chosen)
    closed = accelerator("a100", cost=6.0, allowedNamespaces=["elsewhere"])
    plan = only(world(service(observed=load(30)), accelerator_profiles=(accelerator("h100"), closed)))
    assert "does not allow namespace prod" in message(plan)
    assert (chosen.allocation.move, plan.allocation.move) == (None, None)


def test_a_service_gets_no_more_of_a_profile_that_its_namespace_may_not_use() -> None:
    closed = accelerator("h100", cost=6.0, allowedNamespaces=["elsewhere"])
    moved = only(world(service(observed=load(120)), accelerator_profiles=(closed, accelerator("a100"))))
    assert moved.allocation.move is not None
    assert moved.allocation.move.to.accelerator == "a100"
    stays = only(world(service(observed=load(600)), accelerator_profiles=(closed,)))
    assert (stays.patch, stays.allocation.move) == (None, None)
    assert "does not allow namespace prod" in stays.allocation.message
    assert stays.allocation.allocations[0].predicted_itl is not None


RECREATED = deployment(strategy={"type": "Recreate"})


def test_a_deployment_that_is_recreated_never_moves_and_says_so_unless_its_owner_allows_it() -> None:
    plan = only(world(service(observed=load(30), on=RECREATED)))
    assert (plan.allocation.move, replicas(plan)) == (None, 1)
    status, reason, message = condition(plan, "Moving")
    assert (status, reason) == ("False", "RecreateStrategy")
    assert "spec.moves.allowDowntime" in message
    plan = only(world(service(observed=load(30), on=RECREATED, moves={"allowDowntime": True})))
    assert plan.allocation.move is not None
    assert plan.patch is not None
    assert plan.patch.body["spec"].keys() == {"replicas", "template"}


@pytest.mark.parametrize("allowed", [True, False])
def test_the_batch_of_a_deployment_that_is_recreated_is_changed_only_on_permission(allowed: bool) -> None:
    container = {**pod_spec()["containers"][0], "args": ["--max-num-seqs=1"]}
    small = replace(RECREATED, pod_spec=pod_spec(containers=[container]))
    state = service(
        observed=load(40),
        on=small,
        maxReplicas=2,
        batch={"mode": "Managed", "arg": "--max-num-seqs"},
        moves={"allowDowntime": allowed},
    )
    plan = only(world(state, model_profiles=(model("llama", performance("h100", 6, maxBatchSize=16)),)))
    assert (plan.allocation.move is not None) == allowed


@pytest.mark.parametrize(("mode", "resumed"), [("Apply", True), ("Recommend", False), ("Paused", False)])
def test_a_deployment_that_we_left_paused_is_resumed_where_its_owner_lets_us(
    mode: str, resumed: bool
) -> None:
    left = deployment(paused=True, paused_by_us=True)
    plan = only(world(service(on=left, mode=mode)))
    if not resumed:
        assert plan.patch is None
        return
    assert plan.patch is not None
    assert (plan.patch.body, plan.patch.resource_version) == ({"spec": {"paused": False}}, "7")
    assert condition(plan, "Applied")[:2] == ("False", "Resumed")
    assert "Resumed" in [event.reason for event in plan.status.events]
    # One that somebody else paused is left alone, and so is one whose move an earlier service left behind.
    assert only(world(service(on=deployment(paused=True)))).patch is None
    behind = (orphan(with_move(), left),)
    assert only(world(service(on=left), orphans=behind)).patch is None


def test_a_move_that_ended_is_remembered_with_what_starting_took() -> None:
    fleet = ModelDeployment(2)
    snapshot = world(service(observed=load(30), on=fleet.state()))
    for _ in range(40):
        plan = only(snapshot) if snapshot.services[0].allocation is None else advance(snapshot).services[0]
        if plan.patch is not None:
            fleet.apply(plan.patch)
        fleet.step()
        state = replace(snapshot.services[0], deployment=fleet.state(), allocation=plan.allocation)
        snapshot = replace(snapshot, time=snapshot.time + timedelta(seconds=5), services=(state,))
        if plan.allocation.move is None:
            break
    last = plan.allocation.last_move
    assert last is not None
    assert (last.accelerator, last.outcome.value, last.ended_at) == ("a100", "Completed", plan_time(snapshot))
    [startup] = plan.allocation.startup_times
    assert (startup.accelerator, startup.seconds >= START_S) == ("a100", True)
    # The next decision keeps both, and stays.
    settled = only(replace(snapshot, pods=world(snapshot.services[0]).pods))
    assert (settled.allocation.last_move, settled.allocation.startup_times) == (last, (startup,))


def plan_time(snapshot: Snapshot) -> datetime:
    """Time of the decision before."""
    return snapshot.time - timedelta(seconds=5)


def test_a_higher_priority_takes_what_a_lower_one_holds_donor_first() -> None:
    low = service("low", 6, load(340), serviceClass="bronze", behavior=WINDOWS, keepAccelerator=True)
    high = service("high", 2, load(280), serviceClass="gold", keepAccelerator=True)
    plan = decide(world(low, high))
    assert replicas(of(plan, "high")) is None
    assert of(plan, "high").allocation.reason == "CapacityLimited"
    assert replicas(of(plan, "low")) == 3
    assert "a higher priority needs the accelerators" in of(plan, "low").allocation.message


def test_of_two_that_swap_accelerators_the_lower_priority_makes_do_with_what_is_free() -> None:
    a100 = deployment("high", 4, pod_spec=pod_spec("A100"))
    high = service("high", 4, load(200), serviceClass="fast", on=a100)
    low = service("low", 4, load(100), serviceClass="bronze", behavior=WINDOWS)
    plan = decide(
        world(
            high,
            low,
            nodes=(node("h", "H100", 4), node("a", "A100", 5)),
            service_classes=(service_class("fast", itl=15.0), service_class("bronze", 3)),
        )
    )
    assert of(plan, "high").patch is None
    move = of(plan, "low").allocation.move
    assert move is not None
    assert (move.to.accelerator, move.to.replicas) == ("a100", 1)


def test_a_donor_is_never_taken_below_its_least() -> None:
    low = service("low", 6, load(340), serviceClass="bronze", minReplicas=5, keepAccelerator=True)
    high = service("high", 2, load(180), serviceClass="gold", keepAccelerator=True)
    assert replicas(of(decide(world(low, high)), "low")) == 5


def test_a_service_that_nothing_is_left_for_keeps_what_it_has() -> None:
    # Its node is lost, so the plan has nothing for it, and nobody else needs anything.
    state = service(replicas=3, observed=load(180), minReplicas=0, keepAccelerator=True)
    lost = replace(world(state), nodes=(node("node-h", "H100", usable=False), node("node-a", "A100")))
    plans = ticks(lost, 15)
    assert [replicas(p) for p in plans] == [None] * 15
    assert condition(plans[-1], "Optimized")[0] == "False"


# What is never done.


@pytest.mark.parametrize("observed", [UNKNOWN, STALLED, ObservedLoad(LoadState.OBSERVED, "")])
@pytest.mark.parametrize("allocation", [None, remembered((-90, 1), (-30, 1)), remembered((-30, 9))])
def test_a_load_that_is_not_known_changes_nothing(
    observed: ObservedLoad, allocation: InferenceAllocationStatus | None
) -> None:
    plans = ticks(world(service(replicas=4, observed=observed, allocation=allocation)), 15)
    for plan in plans:
        assert plan.patch is None
        assert condition(plan, "Ready")[0] == "False"
        assert "holding 4 on h100" in plan.allocation.message
        assert plan.allocation.history == (allocation.history if allocation else ())


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf"), 1e300])
def test_an_absurd_load_is_not_known(rate: float) -> None:
    plan = decide(world(service(observed=load(rate)), service("other", 1, load(170))))
    assert of(plan, "llama").patch is None
    assert replicas(of(plan, "other")) == 3


@pytest.mark.parametrize("rate", [0.0, 10.0, 60.0])
def test_a_partial_load_lowers_nothing_and_moves_nothing(rate: float) -> None:
    partial = load(rate, LoadState.PARTIAL)
    higher = service("higher", 2, load(900), serviceClass="gold")
    state = service(replicas=4, observed=partial, serviceClass="bronze", minReplicas=0)
    assert all(p.patch is None for p in ticks(world(state), 12))
    assert of(decide(world(state, higher)), "llama").patch is None


@pytest.mark.parametrize("state", [s for s in LoadState if s not in (LoadState.OBSERVED, LoadState.IDLE)])
@pytest.mark.parametrize("rate", [None, 0.0, 30.0, 900.0])
def test_in_no_state_but_observed_and_idle_is_anything_taken_away(
    state: LoadState, rate: float | None
) -> None:
    # The other accelerator would be cheaper, a higher priority wants this one, and the windows are long over.
    observed = ObservedLoad(state, "said so", rate, 0.0, 100.0)
    doubtful = service(
        replicas=3,
        observed=observed,
        serviceClass="bronze",
        minReplicas=0,
        allocation=remembered((-900, 1), (-600, 1), (-300, 1), (-30, 1)),
    )
    snapshot = world(doubtful, service("higher", 2, load(900), serviceClass="gold", behavior=WINDOWS))
    for _ in range(15):
        plan = decide(snapshot)
        found = of(plan, "llama")
        assert found.allocation.move is None
        assert found.patch is None or (replicas(found) or 0) > 3
        snapshot = after(snapshot, plan)


@pytest.mark.parametrize(
    "load_now",
    [
        ObservedLoad(LoadState.UNKNOWN, f"query of arrivals: {cause.value}", cause=cause)
        for cause in UnknownCause
    ]
    + [STALLED],
    ids=lambda observed: observed.cause or observed.state,
)
def test_the_last_good_decision_is_held_from_the_record_alone_and_the_cause_is_told(
    load_now: ObservedLoad,
) -> None:
    good = world(service(replicas=4, observed=load(230), behavior=WINDOWS))
    record = only(good).allocation
    # A new process: what it knows of the past is the record, as it was read back from the cluster.
    read = InferenceAllocationStatus.model_validate_json(record.model_dump_json(by_alias=True))
    state = service(replicas=4, observed=load_now, allocation=read, behavior=WINDOWS)
    plan = only(replace(world(state), time=later(30)))
    assert plan.patch is None
    [before], [entry] = record.allocations, plan.allocation.allocations
    assert (entry.accelerator, entry.desired_replicas) == ("h100", 4)
    assert (entry.predicted_itl, entry.predicted_ttft) == (before.predicted_itl, before.predicted_ttft)
    assert plan.allocation.history == record.history
    assert plan.allocation.load is not None
    assert (plan.allocation.load.arrival_rate, plan.allocation.load.observed_at) == (230, NOW)
    reason = load_now.cause.value if load_now.cause else "EngineStalled"
    assert condition(plan, "MetricsAvailable") == ("False", reason, load_now.message)
    assert [e.reason for e in plan.status.events if e.message == load_now.message] == [reason]
    assert condition(plan, "Ready")[:2] == ("False", "MetricsUnknown" if load_now.cause else "EngineStalled")


def test_a_service_at_zero_follows_what_its_gateway_tells() -> None:
    allocation = InferenceAllocationStatus(load=LoadStatus(state="Idle", input_tokens=0, output_tokens=100))

    def asked(observed: ObservedLoad) -> int | None:
        spec = {"minReplicas": 0, "metrics": {"preset": "gateway"}}
        state = service(replicas=0, observed=observed, allocation=allocation, **spec)
        plan = only(world(state))
        assert plan.allocation.load is not None
        assert plan.allocation.load.queued == observed.queued
        return replicas(plan)

    assert asked(ObservedLoad(LoadState.OBSERVED, "6 wait", 3.0, queued=6)) == 1
    assert asked(ObservedLoad(LoadState.IDLE, "", 0.0, queued=0)) is None
    assert asked(ObservedLoad(LoadState.UNKNOWN, "no queue", cause=UnknownCause.NO_SAMPLES)) is None


def test_a_load_a_thousand_times_the_last_one_is_held_for_a_window_across_a_restart() -> None:
    plan = only(world(service(observed=load(60), replicas=1)))
    seen = []
    for seconds in (30, 60, 90, 120, 150):
        record = plan.allocation.model_dump_json(by_alias=True)
        read = InferenceAllocationStatus.model_validate_json(record)
        state = service(observed=load(90_000), replicas=1, allocation=read)
        plan = only(replace(world(state), time=later(seconds)))
        seen.append((condition(plan, "MetricsAvailable")[1], plan.patch is not None))
    assert seen == [("SuddenJump", False)] * 4 + [("Observed", True)]
    assert plan.allocation.load is not None
    assert (plan.allocation.load.arrival_rate, plan.allocation.load.doubted_since) == (90_000, None)


def test_a_spike_that_is_gone_at_the_next_tick_leaves_no_doubt() -> None:
    allocation = only(world(service(observed=load(60), replicas=1))).allocation
    for seconds, rate, doubted in ((30, 9e4, later(30)), (60, 60.0, None), (200, 9e4, later(200))):
        state = service(observed=load(rate), replicas=1, allocation=allocation)
        plan = only(replace(world(state), time=later(seconds)))
        assert plan.patch is None
        allocation = plan.allocation
        assert allocation.load is not None
        assert allocation.load.doubted_since == doubted


def test_a_partial_load_may_raise() -> None:
    assert replicas(only(world(service(observed=load(290, LoadState.PARTIAL))))) == 5


def test_token_lengths_last_known_serve_while_nothing_finishes() -> None:
    without = load(230, tokens=None)
    assert replicas(only(world(service(observed=without)))) is None
    before = InferenceAllocationStatus(load=LoadStatus(state="Observed", input_tokens=0, output_tokens=100))
    assert replicas(only(world(service(observed=without, allocation=before)))) == 4


@pytest.mark.parametrize("mode", ["Recommend", "Paused"])
@pytest.mark.parametrize("rate", [0.0, 30.0, 400.0])
def test_nothing_is_patched_unless_its_owner_asks_for_it(mode: str, rate: float) -> None:
    observed = load(rate) if rate else IDLE
    plans = ticks(world(service(observed=observed, mode=mode, minReplicas=0)), 12)
    assert all(p.patch is None and p.allocation.move is None for p in plans)
    assert condition(plans[-1], "Applied")[:2] == ("False", mode)
    if mode == "Recommend":
        assert plans[-1].allocation.history
        assert plans[-1].allocation.last_decision is not None
    else:
        assert plans[-1].allocation.history == ()


def test_advice_takes_nothing_from_those_that_apply() -> None:
    adviser = service("adviser", 2, load(400), mode="Recommend")
    lower = service("lower", 2, load(350), serviceClass="bronze", keepAccelerator=True)
    plan = decide(world(adviser, lower))
    assert replicas(of(plan, "lower")) == 6
    assert of(plan, "adviser").patch is None


# What is wrong is said, and the others go on.

WRONG: dict[str, tuple[dict[str, Any], tuple[str, str], list[str]]] = {
    "model": ({"model": "lama"}, ("ProfileValid", "ModelNotFound"), ["spec.model", "lama", "llama"]),
    "class": (
        {"serviceClass": "god"},
        ("ProfileValid", "ClassNotFound"),
        ["spec.serviceClass", "god", "bronze, closed, gold"],
    ),
    "class without the model": (
        {"serviceClass": "narrow"},
        ("ProfileValid", "ModelNotInClass"),
        ["spec.serviceClass", "narrow", "llama", "spec.models"],
    ),
    "class of others": (
        {"serviceClass": "closed"},
        ("ProfileValid", "ClassNotAllowed"),
        ["spec.serviceClass", "closed", NAMESPACE, "elsewhere"],
    ),
    "model without data": (
        {"model": "bare", "serviceClass": "wide"},
        ("ProfileValid", "NoPerformanceData"),
        ["bare", "b200", "a100, h100"],
    ),
    "invalid model": (
        {"model": "broken", "serviceClass": "wide"},
        ("ProfileValid", "ModelInvalid"),
        ["spec.model", "broken", "alpha is -1"],
    ),
    "deployment that is not there": (
        {"on": None},
        ("Applied", "DeploymentNotFound"),
        ["spec.targetRef.name", "llama", NAMESPACE],
    ),
    "template of no profile": (
        {"on": deployment(pod_spec=pod_spec("T4", 3))},
        ("ProfileValid", "AcceleratorNotRecognised"),
        ["llama", "3 nvidia.com/gpu", "gpu=T4", "h100 is 1 nvidia.com/gpu on gpu=H100"],
    ),
    "controller": (
        {"on": deployment(controller="InferenceService/llama")},
        ("Applied", "ControlledByOther"),
        ["InferenceService/llama", "Recommend"],
    ),
    "autoscaler": (
        {"on": deployment(autoscaler="llama-hpa")},
        ("Applied", "AutoscalerPresent"),
        ["llama-hpa", "remove it"],
    ),
    "paused": (
        {"on": deployment(paused=True)},
        ("Applied", "DeploymentPaused"),
        ["kubectl rollout resume"],
    ),
    "rollout": (
        {"on": deployment(replica_sets=(ReplicaSetState("a", 1, 1, 1, 1), ReplicaSetState("b", 2, 1, 1, 0)))},
        ("Applied", "RolloutInProgress"),
        ["llama", "in progress"],
    ),
    "generation": (
        {"on": deployment(generation=2)},
        ("Applied", "RolloutInProgress"),
        ["llama", "in progress"],
    ),
}


def peculiar(name: str) -> ServiceState:
    fields, _, _ = WRONG[name]
    state = service(observed=load(230), **{k: v for k, v in fields.items() if k != "on"})
    return replace(state, deployment=fields.get("on", state.deployment))


def with_others(*states: ServiceState) -> Snapshot:
    base = world()
    return world(
        *states,
        service("other", 1, load(170)),
        model_profiles=(
            *base.model_profiles,
            model("bare", b200=1),
            Resource("broken", "uid", 1, None, "spec.profiles[0].alpha is -1: it must be 0 or more"),
        ),
        service_classes=(
            *base.service_classes,
            service_class("narrow", models=("bare",)),
            service_class("wide", models=("llama", "bare", "broken")),
            replace(
                service_class("closed"),
                spec=service_class().spec
                and service_class().spec.model_copy(update={"allowed_namespaces": ("elsewhere",)}),
            ),
        ),
    )


@pytest.mark.parametrize("name", WRONG)
def test_what_stands_in_the_way_is_named_and_the_others_go_on(name: str) -> None:
    _, (kind, reason), words = WRONG[name]
    plan = decide(with_others(peculiar(name)))
    status, found, message = condition(of(plan, "llama"), kind)
    assert (status, found) == ("False", reason)
    for word in words:
        assert word in message
    assert condition(of(plan, "llama"), "Ready")[:2] == ("False", reason)
    assert of(plan, "llama").patch is None
    assert reason in [e.reason for e in of(plan, "llama").status.events]
    if "ModelProfile" not in message:
        assert replicas(of(plan, "other")) == 3
    assert of(plan, "other").patch is not None


def test_an_invalid_service_says_what_is_wrong_with_it() -> None:
    state = service()
    broken = replace(state, resource=replace(state.resource, spec=None, error="spec.minReplicas is 9"))
    plan = only(world(broken))
    assert condition(plan, "ProfileValid") == ("False", "InvalidSpec", "spec.minReplicas is 9")
    assert plan.patch is None


def test_two_services_on_one_deployment_are_both_refused() -> None:
    first, second = service("first"), service("second", targetRef={"name": "first"})
    plan = decide(world(first, replace(second, deployment=first.deployment)))
    for name in ("first", "second"):
        status, reason, message = condition(of(plan, name), "Applied")
        assert (status, reason) == ("False", "TargetConflict")
        assert "first, second" in message
        assert of(plan, name).patch is None


def test_an_autoscaler_does_not_keep_from_advice() -> None:
    plan = only(world(service(observed=load(230), mode="Recommend", on=deployment(autoscaler="hpa"))))
    assert plan.allocation.allocations[0].desired_replicas == 4


def test_metrics_and_the_deployment_are_blamed_each_for_its_own() -> None:
    plan = only(world(service(observed=UNKNOWN, on=deployment(autoscaler="hpa"))))
    assert condition(plan, "Applied")[1] == "AutoscalerPresent"
    assert condition(plan, "MetricsAvailable")[1] == "MetricsUnknown"


@pytest.mark.parametrize(("replicas", "patched"), [(0, 2), (1, 2), (2, None), (3, None)])
def test_min_replicas_hold_whatever_is_known_of_the_load(replicas: int, patched: int | None) -> None:
    plan = only(world(service(observed=UNKNOWN, min_replicas=2, on=deployment(replicas=replicas))))
    assert (plan.patch.body["spec"]["replicas"] if plan.patch else None) == patched
    assert [e.reason for e in plan.status.events if e.type == "Normal"] == (["ScaledUp"] if patched else [])


def test_capacity_is_not_blamed_for_objectives_that_no_accelerator_meets() -> None:
    hopeless = (service_class(itl=0.001),)
    plan = only(world(service(observed=load(60)), service_classes=hopeless))
    assert condition(plan, "Optimized")[0] == "False"
    assert condition(plan, "CapacityLimited")[0] == "False"


def test_references_of_profiles_and_classes_that_lead_nowhere_are_named_on_them() -> None:
    statuses = {(s.ref.kind, s.ref.name): s for s in decide(with_others()).statuses}
    found = statuses["ModelProfile", "bare"].status.conditions[0]
    assert (found.status, found.reason) == ("False", "AcceleratorNotFound")
    assert 'spec.profiles[0].accelerator: "b200"' in found.message
    found = statuses["ServiceClass", "wide"].status.conditions[0]
    assert (found.status, found.reason) == ("False", "ModelNotFound")
    assert 'spec.models[2].model: "broken"' in found.message
    assert statuses["AcceleratorProfile", "h100"].status.capacity == 8


# Moves that are under way.


@pytest.mark.parametrize("mode", ["Recommend", "Paused", "Apply"])
@pytest.mark.parametrize("decider", [decide, advance])
def test_a_move_goes_on_whatever_the_mode_is_now(mode: str, decider: Callable[[Snapshot], Plan]) -> None:
    state = service(on=moving(MoveStep.HAND_OVER), mode=mode, allocation=with_move(MoveStep.HAND_OVER))
    plan = decider(world(state)).services[0]
    assert plan.patch is not None
    assert plan.patch.body["spec"]["paused"] is False
    assert plan.allocation.move is not None


@pytest.mark.parametrize("step", list(MoveStep))
@pytest.mark.parametrize("gone", ["accelerator", "model", "class", "target", "rival", "source"])
def test_a_move_that_lost_its_ground_ends_and_leaves_nothing_paused(step: MoveStep, gone: str) -> None:
    state = service(on=moving(step), allocation=with_move(step))
    snapshot = world(state)
    if gone == "accelerator":
        snapshot = replace(snapshot, accelerator_profiles=(accelerator("h100"),))
    elif gone == "source":
        snapshot = replace(snapshot, accelerator_profiles=(accelerator("a100"),))
    elif gone == "model":
        snapshot = replace(snapshot, model_profiles=())
    elif gone == "class":
        snapshot = replace(snapshot, service_classes=())
    elif gone == "rival":
        rival = service("rival", targetRef={"name": "llama"})
        snapshot = replace(snapshot, services=(state, replace(rival, deployment=state.deployment)))
    else:
        other = service(targetRef={"name": "other"}).resource
        snapshot = replace(snapshot, services=(replace(state, resource=other),))
    plan = of(decide(snapshot), "llama")
    assert plan.patch is not None
    spec = plan.patch.body["spec"]
    assert spec.get("paused", False) is False
    assert plan.allocation.move is not None
    if step is MoveStep.BRING_UP and gone != "source":
        assert plan.allocation.move.step is MoveStep.ROLL_BACK
    if plan.allocation.move.step is MoveStep.ROLL_BACK:
        assert spec["template"] == {"spec": {"nodeSelector": {"gpu": "H100"}}}
    if step is MoveStep.HAND_OVER:
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": "100%"}
    if step is MoveStep.TRIM:
        assert spec["replicas"] == 1


@pytest.mark.parametrize("step", list(MoveStep))
def test_an_orphaned_move_is_ended_and_then_let_go(step: MoveStep) -> None:
    plan = decide(world(orphans=(orphan(with_move(step), moving(step)),))).orphans[0]
    assert plan.patch is not None
    assert plan.patch.body["spec"].get("paused", False) is False
    assert plan.release is False
    assert plan.allocation.move is not None
    assert plan.allocation.move.step is (MoveStep.ROLL_BACK if step is MoveStep.BRING_UP else step)


@pytest.mark.parametrize("step", list(MoveStep))
def test_an_orphan_whose_deployment_is_gone_is_let_go(step: MoveStep) -> None:
    plan = decide(world(orphans=(orphan(with_move(step), None),))).orphans[0]
    assert (plan.patch, plan.release, plan.allocation.move) == (None, True, None)
    assert decide(world(orphans=(orphan(remembered(), None),))).orphans[0].release is True


def test_an_orphan_is_let_go_when_everything_is_back() -> None:
    back = decide(world(orphans=(orphan(with_move(MoveStep.ROLL_BACK), deployment()),))).orphans[0]
    assert (back.patch, back.release) == (None, True)


def test_only_moves_advance_between_decisions() -> None:
    plan = advance(world(service("calm", 1, load(400)), service("blind", 2, UNKNOWN)))
    assert plan.services == ()
    state = service(observed=UNKNOWN, on=moving(MoveStep.BRING_UP), allocation=with_move())
    found = advance(world(state, service("calm", 1, load(400)))).services
    assert [p.service.name for p in found] == ["llama"]


def failed(at: float) -> FailedMove:
    return FailedMove(accelerator="a100", time=later(at), message="the new replicas did not come up")


def test_a_move_that_failed_is_not_tried_again_for_a_while() -> None:
    state = service(observed=load(30), allocation=InferenceAllocationStatus(failed_moves=(failed(-60),)))
    plan = only(world(state))
    assert plan.allocation.move is None
    assert "MoveFailed" in next(c for c in plan.allocation.candidates if c.accelerator == "a100").message
    assert plan.allocation.failed_moves == (failed(-60),)
    old = service(observed=load(30), allocation=InferenceAllocationStatus(failed_moves=(failed(-1801),)))
    plan = only(world(old))
    assert plan.allocation.move is not None
    assert plan.allocation.failed_moves == ()


def test_failed_moves_never_outgrow_the_status() -> None:
    many = tuple(
        FailedMove(accelerator=f"{name}", time=later(i - 100), message="")
        for i, name in enumerate([f"x{n % 20}" for n in range(60)])
    )
    allocation = InferenceAllocationStatus.model_construct(failed_moves=many)
    plan = only(world(service(allocation=allocation)))
    assert len(plan.allocation.failed_moves) == 16
    assert plan.allocation.failed_moves[-1].time == later(-41)


def test_a_batch_that_did_not_come_up_is_left_for_a_while() -> None:
    container = {**pod_spec()["containers"][0], "args": ["--max-num-seqs=1"]}
    small = deployment(pod_spec=pod_spec(containers=[container]))
    fields: dict[str, Any] = {
        "model_profiles": (model("llama", performance("h100", 6, maxBatchSize=16)),),
    }
    values: dict[str, Any] = {
        "observed": load(40),
        "on": small,
        "maxReplicas": 2,
        "batch": {"mode": "Managed", "arg": "--max-num-seqs"},
    }
    plan = only(world(service(**values), **fields))
    assert plan.allocation.move is not None
    assert plan.allocation.move.to.max_batch == 16
    lately = failed(-60).model_copy(update={"accelerator": "h100"})
    values["allocation"] = InferenceAllocationStatus(failed_moves=(lately,))
    assert only(world(service(**values), **fields)).allocation.move is None


# The same for the same.


def busy() -> Snapshot:
    """Services of every kind."""
    return with_others(
        service("up", 1, load(400), serviceClass="silver"),
        service("down", 3, load(30), serviceClass="bronze"),
        service("blind", 2, UNKNOWN),
        service("advised", 1, load(200), mode="Recommend"),
        service("resting", 1, mode="Paused"),
        service("idle", 1, IDLE, on=deployment("idle", 1, pod_spec=pod_spec("A100"))),
        peculiar("controller"),
    )


def test_the_order_of_the_input_does_not_matter() -> None:
    snapshot = replace(
        busy(),
        orphans=(
            orphan(with_move(), None, "b"),
            orphan(with_move(MoveStep.TRIM), moving(MoveStep.TRIM), "a"),
        ),
    )
    expected = dump_plan(decide(snapshot))
    for seed in range(5):
        mixed = random.Random(seed)  # noqa: S311
        fields = {
            name: tuple(mixed.sample(value, len(value)))
            for name in (
                "services",
                "nodes",
                "pods",
                "orphans",
                "model_profiles",
                "service_classes",
                "accelerator_profiles",
            )
            for value in (getattr(snapshot, name),)
        }
        assert dump_plan(decide(replace(snapshot, **fields))) == expected


def test_events_are_sent_on_change_only() -> None:
    snapshot = with_others(
        service("blind", 2, UNKNOWN),
        service("short", 2, load(900), keepAccelerator=True, maxReplicas=8),
        service("advised", 1, load(200), mode="Recommend"),
        replace(service("missing"), deployment=None),
        peculiar("controller"),
    )
    snapshot = replace(snapshot, services=tuple(s for s in snapshot.services if s.resource.name != "other"))
    first = decide(snapshot)
    assert all(of(first, name).status.events for name in ("blind", "short", "missing", "llama"))
    again = decide(after(snapshot, first))
    assert [p.status.events for p in again.services] == [()] * 5
    assert [p.events for p in again.statuses] == [()] * len(again.statuses)
    transitions = [c.last_transition_time for p in again.services for c in p.status.status.conditions]
    assert set(transitions) == {snapshot.time}


def test_a_tick_later_nothing_but_time_has_changed() -> None:
    snapshot = world(service(observed=load(110)), service("blind", 2, UNKNOWN))
    first = decide(snapshot)
    second = decide(after(snapshot, first))
    for before, now in zip(first.services, second.services, strict=True):
        assert now.status.status == before.status.status
        ages = {"history", "last_decision", "load", "savings"}
        assert now.allocation.model_dump(exclude=ages) == before.allocation.model_dump(exclude=ages)


# Odd worlds.


@pytest.mark.parametrize("rate", [1e-9, 1e6, 1e9, 1e12])
@pytest.mark.parametrize("mode", ["Limited", "Unlimited"])
def test_any_rate_is_decided(rate: float, mode: str) -> None:
    snapshot = world(service(observed=load(rate)), policy=policy(accelerators=mode))
    plan = only(snapshot)
    assert replicas(plan) is None or 0 < (replicas(plan) or 0) <= 8
    assert plan.allocation.last_decision == NOW


@pytest.mark.parametrize(
    "fields",
    [
        {"nodes": ()},
        {"nodes": (), "accelerator_profiles": (accelerator("h100", capacity={"fixed": 0}),)},
        {"accelerator_profiles": (accelerator("h100", capacity={"max": 10**9}),)},
        {"accelerator_profiles": ()},
        {"nodes": (node("tiny", "H100", 0),)},
        {"service_classes": (), "model_profiles": ()},
    ],
)
def test_worlds_without_much_are_decided(fields: dict[str, Any]) -> None:
    states = (service("busy", 1, load(1e9)), service("idle", 0, IDLE, minReplicas=0), service("rest", 0))
    plan = decide(world(*states, **fields))
    assert len(plan.services) == 3


def test_an_empty_cluster_is_decided() -> None:
    plan = decide(Snapshot(time=NOW))
    assert (plan.services, plan.orphans, plan.statuses) == ((), (), ())


def test_two_hundred_services_are_decided_together() -> None:
    states = [
        service(f"s{i:03}", i % 5, load(20.0 * (i % 9)), serviceClass=("gold", "silver", "bronze")[i % 3])
        for i in range(200)
    ]
    nodes = tuple(node(f"n{i}", ("H100", "A100")[i % 2]) for i in range(60))
    plan = decide(world(*states, nodes=nodes))
    assert len(plan.services) == 200
    json.loads(dump_plan(plan))


loads = st.builds(
    ObservedLoad,
    st.sampled_from(LoadState),
    st.just("said so"),
    st.none() | st.sampled_from([0.0, 1.0, 59.0, 400.0, 1e7, -3.0]),
    st.none() | st.sampled_from([0.0, 500.0]),
    st.none() | st.sampled_from([0.0, 1.0, 100.0, 1e6]),
    st.none() | st.just(20.0),
    st.none() | st.just(900.0),
    st.none() | st.sampled_from([0.0, 3.0]),
)


@st.composite
def deployments(draw: st.DrawFn, name: str) -> DeploymentState | None:
    if draw(st.integers(0, 9)) == 0:
        return None
    count = draw(st.integers(0, 5))
    new = draw(st.integers(0, 3))
    sets = [ReplicaSetState(f"{name}-1", 1, count, count, draw(st.integers(0, count)))]
    if draw(st.booleans()):
        sets.append(ReplicaSetState(f"{name}-2", 2, new, new, draw(st.integers(0, new))))
    return deployment(
        name,
        count,
        pod_spec=draw(st.sampled_from([pod_spec(), pod_spec("A100"), pod_spec("T4"), pod_spec(units=2), {}])),
        replica_sets=tuple(draw(st.sampled_from([sets, []]))),
        revision=draw(st.integers(0, 2)),
        paused=draw(st.booleans()),
        generation=draw(st.integers(1, 2)),
        controller=draw(st.none() | st.just("KServe/x")),
        strategy=draw(st.sampled_from([{}, {"type": "Recreate"}, deployment().strategy])),
    )


def some_move(step: MoveStep, old: tuple[str, int], new: tuple[str, int], age: int, back: Any) -> MoveStatus:
    return MoveStatus(
        step=step,
        source=MoveSide(accelerator=old[0], replicas=old[1]),
        to=MoveSide(accelerator=new[0], replicas=new[1]),
        started_at=later(-9000),
        step_started_at=later(-age),
        prior_strategy=deployment().strategy,
        prior_template=back,
    )


sides = st.tuples(st.sampled_from(["h100", "a100", "gone"]), st.integers(0, 4))
moves_under_way = st.builds(
    some_move,
    st.sampled_from(MoveStep),
    sides,
    sides,
    st.sampled_from([10, 9000]),
    st.sampled_from([{}, {"nodeSelector": {"gpu": "H100", "x": None}}]),
)
allocations = st.none() | st.builds(
    lambda **fields: InferenceAllocationStatus(**fields),
    history=st.lists(
        st.builds(
            lambda **fields: Recommendation(**fields),
            time=st.integers(-500, 10).map(later),
            accelerator=st.sampled_from(["h100", "a100", "gone"]),
            replicas=st.integers(0, 6),
            rate=st.sampled_from([0.0, 60.0, 400.0]),
        ),
        max_size=4,
    ).map(tuple),
    move=st.none() | st.none() | moves_under_way,
    load=st.none()
    | st.just(LoadStatus(state="Observed", input_tokens=0.0, output_tokens=100.0))
    | st.builds(
        LoadStatus,
        state=st.just("Observed"),
        arrival_rate=st.sampled_from([0.05, 60.0, 1e6]),
        doubted_since=st.sampled_from([None, later(-30), later(-500)]),
    ),
    failed_moves=st.sampled_from([(), (failed(-60),)]),
    scale_events=st.lists(
        st.builds(
            ScaleEvent,
            time=st.integers(-200, 10).map(later),
            accelerator=st.sampled_from(["h100", "a100", "gone"]),
            before=st.integers(0, 6),
            after=st.integers(0, 6),
        ),
        max_size=3,
    ).map(tuple),
    idle_since=st.sampled_from([None, later(-700), later(10)]),
    unschedulable=st.lists(
        st.builds(
            UnschedulablePod,
            accelerator=st.sampled_from(["h100", "a100", "gone"]),
            pod=st.just("lost"),
            since=st.just(later(-500)),
            seen=st.sampled_from([later(-60), later(-9999)]),
        ),
        max_size=2,
        unique_by=lambda each: each.accelerator,
    ).map(tuple),
)


@st.composite
def services(draw: st.DrawFn, name: str) -> ServiceState:
    state = service(
        name,
        observed=draw(loads),
        allocation=draw(allocations),
        model=draw(st.sampled_from(["llama", "llama", "llama", "gone"])),
        serviceClass=draw(st.sampled_from(["gold", "silver", "bronze", "gone"])),
        mode=draw(st.sampled_from(["Apply", "Apply", "Recommend", "Paused"])),
        minReplicas=draw(st.integers(0, 2)),
        maxReplicas=draw(st.none() | st.integers(2, 4)),
        keepAccelerator=draw(st.booleans()),
        targetRef={"name": draw(st.sampled_from([name, name, name, "shared"]))},
        behavior=draw(st.sampled_from([behavior(0, 0), WINDOWS, LIMITED, DISABLED])),
        schedule=draw(st.sampled_from([[], [{"from": "23:00", "to": "01:00", "maxReplicas": 2}]])),
        scaleToZeroAfterSeconds=draw(st.sampled_from([0, 600])),
        batch=draw(st.sampled_from([{}, {"mode": "Managed", "arg": "--n"}])),
    )
    return replace(state, deployment=draw(deployments(state.resource.spec.target_ref.name)))


@st.composite
def worlds(draw: st.DrawFn) -> Snapshot:
    states = [draw(services(f"s{i}")) for i in range(draw(st.integers(0, 4)))]
    nodes = tuple(
        node(f"n{i}", draw(st.sampled_from(["H100", "A100", "T4"])), draw(st.integers(0, 4)))
        for i in range(draw(st.integers(0, 3)))
    )
    orphans = tuple(
        orphan(found, draw(deployments("gone")))
        for found in [draw(allocations)]
        if found is not None and draw(st.booleans())
    )
    fields: dict[str, Any] = {}
    if draw(st.integers(0, 5)) == 0:
        fields["accelerator_profiles"] = (accelerator("h100", capacity={"fixed": 3, "headroom": 1}),)
    limits = draw(st.sampled_from(["Limited", "Limited", "Unlimited"]))
    return world(*states, nodes=nodes, orphans=orphans, policy=policy(accelerators=limits), **fields)


@pytest.mark.slow
@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
def test_a_decision_never_fails_and_what_is_not_known_is_never_taken_for_nothing(snapshot: Snapshot) -> None:
    plan = decide(snapshot)
    assert json.loads(dump_plan(plan))
    for state in snapshot.services:
        found = of(plan, state.resource.name)
        assert InferenceAllocationStatus.model_validate_json(found.allocation.model_dump_json(by_alias=True))
        under_way = state.allocation is not None and state.allocation.move is not None
        if under_way or state.deployment is None:
            continue
        asked = replicas(found)
        if state.load.state not in (LoadState.OBSERVED, LoadState.IDLE):
            assert asked is None or asked >= state.deployment.replicas
            assert found.allocation.move is None
        if state.load.state in (LoadState.UNKNOWN, LoadState.STALLED) and found.patch is not None:
            assert state.resource.spec is not None
            least = max(state.resource.spec.min_replicas, 1)
            assert found.patch.body == {"spec": {"replicas": least}}
            assert least > state.deployment.replicas
        if state.resource.spec is not None and state.resource.spec.mode != "Apply":
            assert found.patch is None
        if asked == 0:
            assert state.load.state is LoadState.IDLE or state.deployment.replicas == 0
    assert {p.service.name for p in advance(snapshot).services} == {
        s.resource.name
        for s in snapshot.services
        if s.allocation is not None and s.allocation.move is not None
    }
