"""What a plan may take: single nodes, headroom, elastic pools, burst accelerators, a budget, quotas."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from builders import (
    NAMESPACE,
    NVIDIA,
    UNKNOWN,
    accelerator,
    condition,
    deployment,
    load,
    model,
    node,
    of,
    performance,
    pod_spec,
    pods_of,
    policy,
    service,
    world,
)
from inferscale_operator.api.inference_allocation import AllocationEntry
from inferscale_operator.api.optimizer_policy import POLICY_NAME
from inferscale_operator.decide import decide
from inferscale_operator.plan import Plan
from inferscale_operator.snapshot import PodState, Resource, ServiceState, Snapshot


def target(plan: Plan, name: str) -> tuple[str | None, int]:
    entry: AllocationEntry = of(plan, name).allocation.allocations[0]
    return entry.target_accelerator, entry.target_replicas


def with_policy(snapshot: Snapshot, **fields: Any) -> Snapshot:
    """The snapshot with this policy in force, and its object."""
    spec = policy(**fields)
    return replace(snapshot, policy=spec, policies=(Resource(POLICY_NAME, "uid-policy", 1, spec),))


def policy_status(plan: Plan) -> dict[str, Any]:
    status = next(each.status for each in plan.statuses if each.ref.kind == "OptimizerPolicy")
    return status.model_dump(mode="json", by_alias=True)


def outcomes(plan: Plan, name: str) -> dict[str, str]:
    return {each.accelerator: each.outcome for each in of(plan, name).allocation.candidates}


def strangers(count: int, units: int, *, kind: str = "h") -> list[PodState]:
    """Pods of somebody else, one on each node."""
    return [
        PodState("other", f"job-{i}", None, f"node-{kind}{i}", {NVIDIA: units}, True, False)
        for i in range(count)
    ]


# Room on single nodes.


def fours(rate: float = 60.0, **fields: Any) -> Snapshot:
    """A service on one a100, and replicas of four h100 that would be cheaper, on six nodes."""
    on = deployment(replicas=8, pod_spec=pod_spec("A100"))
    nodes = (*(node(f"node-h{i}", "H100") for i in range(6)), node("node-a", "A100"))
    values = {
        "accelerator_profiles": (accelerator("h100", cost=1.0), accelerator("a100", cost=6.0)),
        "model_profiles": (model("llama", performance("h100", 60.0, accCount=4), a100=30.0),),
        "nodes": nodes,
    }
    state = service(replicas=8, observed=load(rate), on=on)
    snapshot = world(state, **(values | fields))
    return replace(snapshot, pods=(*pods_of(on, nodes, {}), *fields.get("pods", ())))


def test_six_nodes_with_one_free_unit_each_do_not_host_a_replica_of_four() -> None:
    plan = decide(fours(pods=strangers(6, 7)))
    assert target(plan, "llama") == ("a100", 2)
    lost = next(c for c in of(plan, "llama").allocation.candidates if c.accelerator == "h100")
    assert (lost.outcome, lost.message) == (
        "CapacityShort",
        "nodes of H100 short of 1 time 4 units together",
    )
    assert condition(of(plan, "llama"), "CapacityLimited")[:2] == ("True", "CheaperIsExhausted")


def test_a_service_that_scattered_units_cannot_host_is_told_so_with_what_is_missing() -> None:
    only = (model("llama", performance("h100", 60.0, accCount=4)),)
    on = deployment(replicas=0, pod_spec=pod_spec("H100", 4))
    scattered = fours(pods=strangers(6, 7), model_profiles=only)
    state = service(replicas=0, observed=load(60.0), on=on)
    plan = decide(replace(scattered, services=(state,), pods=tuple(strangers(6, 7))))
    assert target(plan, "llama")[1] == 0
    short = "nothing: nodes of H100 short of 1 time 4 units together"
    assert condition(of(plan, "llama"), "Optimized") == ("False", "Unserved", short)
    assert condition(of(plan, "llama"), "CapacityLimited") == (
        "True",
        "WaitingForCapacity",
        "no room for 1 more on h100: 6 free H100, but no 4 on one node",
    )


def test_as_many_free_units_on_one_node_do() -> None:
    plan = decide(fours(pods=strangers(5, 8)))
    assert target(plan, "llama") == ("h100", 1)


def test_no_more_replicas_are_wanted_than_fit_on_single_nodes() -> None:
    # Five units are free on each of six nodes, 30 in all: six replicas of four fit, and not seven.
    assert target(decide(fours(6 * 60.0, pods=strangers(6, 3))), "llama") == ("h100", 6)
    assert target(decide(fours(7 * 60.0, pods=strangers(6, 3))), "llama")[0] == "a100"


def test_what_a_service_holds_on_a_node_is_its_own_to_give() -> None:
    on = deployment(replicas=2, pod_spec=pod_spec("H100", 4))
    plan = decide(
        world(
            service(replicas=2, observed=load(2 * 60.0), on=on),
            model_profiles=(model("llama", performance("h100", 60.0, accCount=4)),),
        )
    )
    assert target(plan, "llama") == ("h100", 2)
    assert condition(of(plan, "llama"), "CapacityLimited")[:2] == ("False", "Sufficient")


def test_what_a_service_without_known_load_holds_on_a_node_is_not_free() -> None:
    other = deployment("other", replicas=5)
    mine = deployment(replicas=1, pod_spec=pod_spec("A100"))
    values: dict[str, Any] = {
        "accelerator_profiles": (accelerator("h100", cost=1.0), accelerator("a100", cost=6.0)),
        "model_profiles": (
            model("llama", performance("h100", 60.0, accCount=4), a100=60.0),
            model("small", h100=60.0),
        ),
    }
    held = service("other", 5, UNKNOWN, on=other, model="small")
    plan = decide(world(service(on=mine), held, **values))
    assert target(plan, "llama") == ("a100", 1)


def test_headroom_stays_free() -> None:
    def wanted(headroom: int) -> tuple[str | None, int]:
        profiles = (accelerator("h100", capacity={"headroom": headroom}),)
        rates = (model(h100=60.0),)
        snapshot = world(
            service(observed=load(8 * 60.0)), accelerator_profiles=profiles, model_profiles=rates
        )
        return target(decide(snapshot), "llama")

    assert wanted(0) == ("h100", 8)
    assert wanted(2) == ("h100", 6)


def test_an_elastic_pool_counts_as_available_though_no_node_is_there_yet() -> None:
    def plan(**fields: Any) -> Plan:
        on = deployment(pod_spec=pod_spec("A100"))
        return decide(
            world(
                service(observed=load(60.0), on=on),
                accelerator_profiles=(
                    accelerator("h100", cost=1.0, **fields),
                    accelerator("a100", cost=6.0),
                ),
                nodes=(node("node-a", "A100"),),
            )
        )

    assert target(plan(), "llama") == ("a100", 2)
    elastic = plan(capacity={"max": 4})
    assert target(elastic, "llama") == ("h100", 1)
    moved = of(elastic, "llama").patch
    assert moved is not None
    assert "template" in moved.body["spec"]


def test_burst_accelerators_are_used_only_where_the_others_are_exhausted() -> None:
    def plan(rate: float) -> Plan:
        return decide(
            world(
                service(observed=load(rate), on=deployment(replicas=1)),
                service("more", observed=load(rate), on=deployment("more", replicas=1)),
                accelerator_profiles=(accelerator("h100"), accelerator("a100", cost=0.1, tier="Burst")),
                nodes=(node("node-h", "H100", 4), node("node-a", "A100", 64)),
            )
        )

    few, many = plan(2 * 60.0), plan(3 * 60.0)
    assert [target(few, name)[0] for name in ("llama", "more")] == ["h100", "h100"]
    assert sorted(target(many, name) for name in ("llama", "more")) == [("a100", 6), ("h100", 3)]


def test_the_policy_tells_how_good_the_plan_is_and_what_is_scarce() -> None:
    plan = decide(
        with_policy(
            world(
                service(observed=load(180), on=deployment(replicas=3)),
                service("more", observed=load(180), on=deployment("more", replicas=1)),
                accelerator_profiles=(accelerator("h100"), accelerator("a100", cost=6.0, tier="Burst")),
                nodes=(node("node-h", "H100", 4), node("node-a", "A100", 64)),
            )
        )
    )
    status = policy_status(plan)
    assert (status["unserved"], status["unservedByPriority"], status["unservedBound"]) == (
        0,
        {"1": 0},
        {"1": 0},
    )
    assert (status["burstCost"], status["placementCost"], status["stopped"]) == (36.0, 0.0, None)
    assert 0 <= status["gap"] < 0.1
    assert status["lowerBound"] is not None
    assert status["prices"].keys() == {"H100", "A100"}
    assert all(price >= 0 for price in status["prices"].values())


# A budget.


def three(**fields: Any) -> Snapshot:
    """Three services, one of each class, that want 2 h100 of 10/h each and have one."""
    states = [
        service(name, 1, load(120.0), serviceClass=kind)
        for name, kind in (("first", "gold"), ("second", "silver"), ("third", "bronze"))
    ]
    return with_policy(world(*states, model_profiles=(model(h100=60.0),)), **fields)


def test_without_a_budget_nothing_is_shed() -> None:
    plan = decide(three())
    assert [target(plan, name)[1] for name in ("first", "second", "third")] == [2, 2, 2]
    assert (policy_status(plan)["shed"], policy_status(plan)["shedCount"]) == ([], 0)


def test_a_budget_sheds_the_last_priority_first_and_says_so() -> None:
    plan = decide(three(budget={"maxCostPerHour": 50}))
    assert [target(plan, name)[1] for name in ("first", "second", "third")] == [2, 2, 1]
    status, reason, message = condition(of(plan, "third"), "CapacityLimited")
    assert (status, reason) == ("True", "OverBudget")
    assert "budget short of 10.00/h" in message
    assert condition(of(plan, "second"), "CapacityLimited")[1] == "Sufficient"
    tighter = decide(three(budget={"maxCostPerHour": 40}))
    shed = policy_status(tighter)["shed"]
    assert [(each["service"], each["priority"], each["reason"]) for each in shed] == [
        (f"{NAMESPACE}/third", 3, "OverBudget"),
        (f"{NAMESPACE}/second", 2, "OverBudget"),
    ]
    assert all("budget short of" in each["message"] for each in shed)


def test_the_least_replicas_are_kept_whatever_the_budget() -> None:
    plan = decide(three(budget={"maxCostPerHour": 0}))
    assert [target(plan, name)[1] for name in ("first", "second", "third")] == [1, 1, 1]
    assert [each["service"] for each in policy_status(plan)["shed"]] == [
        f"{NAMESPACE}/{name}" for name in ("third", "second", "first")
    ]


def test_what_is_not_decided_counts_against_the_budget() -> None:
    snapshot = three(budget={"maxCostPerHour": 50})
    unseen = replace(snapshot.services[2], load=UNKNOWN)
    free = decide(replace(snapshot, services=snapshot.services[:2]))
    beside = decide(
        replace(
            snapshot, services=(*snapshot.services[:2], unseen), policy=policy(budget={"maxCostPerHour": 45})
        )
    )
    assert [target(free, name)[1] for name in ("first", "second")] == [2, 2]
    assert target(beside, "first")[1] == 2
    assert condition(of(beside, "second"), "CapacityLimited")[1] == "OverBudget"


# Quotas.


def test_a_quota_of_a_class_holds_for_its_services_together() -> None:
    plan = decide(three(quotas=[{"type": "H100", "units": 1, "serviceClass": "silver"}]))
    assert [target(plan, name)[1] for name in ("first", "second", "third")] == [2, 1, 2]
    status, reason, message = condition(of(plan, "second"), "CapacityLimited")
    assert (status, reason) == ("True", "QuotaExceeded")
    assert "quota of H100 for class silver short of 1 unit" in message
    assert outcomes(plan, "first") == {"h100": "Chosen"}
    said = policy_status(plan)
    assert said["quotas"] == [
        {"type": "H100", "namespace": None, "serviceClass": "silver", "units": 1, "used": 1}
    ]
    assert [each["reason"] for each in said["shed"]] == ["QuotaExceeded"]


def test_a_quota_of_a_namespace_is_shared_by_priority() -> None:
    plan = decide(three(quotas=[{"type": "H100", "units": 5, "namespace": NAMESPACE}]))
    assert [target(plan, name)[1] for name in ("first", "second", "third")] == [2, 2, 1]
    elsewhere = decide(three(quotas=[{"type": "H100", "units": 0, "namespace": "elsewhere"}]))
    assert [target(elsewhere, name)[1] for name in ("first", "second", "third")] == [2, 2, 2]
    assert policy_status(elsewhere)["quotas"][0]["used"] == 0


def test_a_quota_leads_to_an_accelerator_that_it_is_not_of() -> None:
    plan = decide(
        with_policy(
            world(service(observed=load(120.0))),
            quotas=[{"type": "H100", "units": 1, "namespace": NAMESPACE}],
        )
    )
    assert target(plan, "llama") == ("a100", 4)
    assert outcomes(plan, "llama")["h100"] == "QuotaExceeded"
    assert condition(of(plan, "llama"), "CapacityLimited")[1] == "CheaperIsExhausted"


def test_what_is_not_decided_counts_against_a_quota() -> None:
    snapshot = three(quotas=[{"type": "H100", "units": 5, "namespace": NAMESPACE}])
    paused = tuple(_paused(state) if state.key.endswith("third") else state for state in snapshot.services)
    more = replace(paused[2], deployment=deployment("third", replicas=2))
    plan = decide(replace(snapshot, services=(*paused[:2], more)))
    assert [target(plan, name)[1] for name in ("first", "second")] == [2, 1]
    assert policy_status(plan)["quotas"][0]["used"] == 5


def _paused(state: ServiceState) -> ServiceState:
    spec = state.resource.spec
    assert spec is not None
    raw = spec.model_dump(by_alias=True, exclude_none=True) | {"mode": "Paused"}
    return replace(state, resource=replace(state.resource, spec=type(spec).model_validate(raw)))


def test_a_quota_of_an_unknown_type_is_named_on_the_policy() -> None:
    plan = decide(three(quotas=[{"type": "H10", "units": 1, "namespace": NAMESPACE}]))
    assert target(plan, "third")[1] == 2
    ready = next(c for c in policy_status(plan)["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "TypeNotFound")
    assert 'spec.quotas[0].type: "H10" is not the type of an AcceleratorProfile' in ready["message"]
    assert "A100, H100" in ready["message"]


# Sizes.


def test_the_status_of_the_policy_is_bounded() -> None:
    services, long = 200, "x" * 60
    states = [
        service(f"{long}-{i}", 1, load(120.0), serviceClass="bronze", minReplicas=0) for i in range(services)
    ]
    plan = decide(
        with_policy(world(*states, model_profiles=(model(h100=60.0),)), budget={"maxCostPerHour": 1})
    )
    status = policy_status(plan)
    assert status["shedCount"] == services
    assert len(status["shed"]) == 64
    assert len(json.dumps(status)) < 64_000


def test_the_explanation_of_64_profiles_with_long_names_is_well_under_the_limit_of_an_object() -> None:
    names = [f"{'x' * 240}-{i:02d}" for i in range(64)]
    profiles = tuple(accelerator(name, cost=1.0 + i, type=f"T{i}") for i, name in enumerate(names))
    rates = (model("llama", *(performance(name, 60.0) for name in names)),)
    on = deployment(pod_spec=pod_spec("T63"))
    nodes = tuple(node(f"node-{i}", f"T{i}", 64) for i in range(64))
    snapshot = world(
        service(observed=load(120.0), on=on),
        accelerator_profiles=profiles,
        model_profiles=rates,
        nodes=nodes,
    )
    tight = [{"type": f"T{i}", "units": 0, "namespace": NAMESPACE} for i in range(63)]
    for fields in ({}, {"quotas": tight}, {"budget": {"maxCostPerHour": 0}}):
        status = of(decide(with_policy(snapshot, **fields)), "llama").allocation
        assert len(status.candidates) == 64
        # The API server takes 1.5 MB.
        assert len(status.model_dump_json(by_alias=True)) < 200_000
