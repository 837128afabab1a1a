"""A copy of the stores and the answers of Prometheus become one snapshot."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

import kubernetes_objects as objects
from inferscale_operator.api.base import API_VERSION
from inferscale_operator.api.metric_preset import MetricPreset
from inferscale_operator.api.optimizer_policy import MetricsSettings, OptimizerPolicySpec
from inferscale_operator.decide import advance
from inferscale_operator.kube import kinds
from inferscale_operator.kube.stores import Stores, World
from inferscale_operator.kube.writer import FINALIZER
from inferscale_operator.metrics.queries import Answer, Answers, Query
from inferscale_operator.observe import observe, policy_in_force
from inferscale_operator.snapshot import LoadState, UnknownCause, dump_snapshot, load_snapshot

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
VALUES = {Query.ARRIVALS: 2.0, Query.IN_FLIGHT: 3.0, Query.PEAK_IN_FLIGHT: 5.0, Query.COVERAGE: 120.0}


class Metrics:
    """A Prometheus whose pods all say the same, and that counts how often it was asked."""

    def __init__(self, *pods: tuple[str, str]) -> None:
        self.pods = pods
        self.asked: list[list[str]] = []

    def ask(
        self, _settings: MetricsSettings, presets: Sequence[MetricPreset], time: float
    ) -> dict[str, Answers]:
        self.asked.append([preset.name for preset in presets])
        answers = {
            query: Answer(
                {pod: time if query is Query.SAMPLED else VALUES.get(query, 1.0) for pod in self.pods}
            )
            for query in Query
        }
        return {preset.name: answers for preset in presets}


def world(**items: list[objects.Object]) -> World:
    stores = Stores()
    for name, listed in items.items():
        getattr(stores, name).seed(objects.listing(*listed))
    return stores.copy({})


def usual(**items: list[objects.Object]) -> World:
    return world(
        **{
            "services": [objects.service()],
            "deployments": [objects.deployment()],
            "replica_sets": [objects.replica_set("chat-old", revision=2), objects.replica_set()],
            "pods": [objects.pod()],
            "nodes": [objects.node()],
        }
        | items
    )


def policy(name: str = "default", **spec: Any) -> objects.Object:
    return {"apiVersion": API_VERSION, "metadata": objects.meta(name, namespace=None), "spec": spec}


def test_a_service_is_joined_with_all_that_belongs_to_it() -> None:
    snapshot = observe(
        usual(
            autoscalers=[objects.autoscaler()], allocations=[objects.allocation(status={"reason": "Optimal"})]
        ),
        NOW,
        Metrics(("team", "chat-abc-1")),
    )
    [service] = snapshot.services
    assert service.key == "team/chat"
    assert service.deployment is not None
    assert [item.revision for item in service.deployment.replica_sets] == [2, 3]
    assert service.deployment.autoscaler == "chat-hpa"
    assert service.allocation is not None
    assert service.allocation.reason == "Optimal"
    assert service.load.state is LoadState.OBSERVED
    assert [node.name for node in snapshot.nodes] == ["h100-0"]
    assert snapshot.time == NOW


def test_a_snapshot_survives_its_json() -> None:
    snapshot = observe(usual(), NOW, Metrics(("team", "chat-abc-1")))
    assert load_snapshot(dump_snapshot(snapshot)) == snapshot


def test_prometheus_is_asked_once_whatever_the_number_of_services() -> None:
    names = [f"chat{number}" for number in range(20)]
    metrics = Metrics()
    observe(
        usual(
            services=[objects.service(name) for name in names],
            deployments=[objects.deployment(name) for name in names],
        ),
        NOW,
        metrics,
    )
    assert metrics.asked == [["vllm"]]


def test_the_presets_that_services_name_are_asked_for_and_no_others() -> None:
    names = {"a": "sglang", "b": "mine", "c": "sglang", "d": "typo"}
    mine = {"name": "mine", "running": ["r"], "waiting": ["w"], "completions": ["c"]}
    other = mine | {"name": "other"}
    metrics = Metrics(*(("team", f"{name}-abc-1") for name in names))
    snapshot = observe(
        usual(
            policies=[policy(metrics={"presets": [mine, other]})],
            services=[
                objects.service(name, targetRef={"name": name}, metrics={"preset": preset})
                for name, preset in names.items()
            ],
            deployments=[objects.deployment(name) for name in names],
        ),
        NOW,
        metrics,
    )
    assert metrics.asked == [["mine", "sglang"]]
    typo = snapshot.services[-1].load
    assert typo.state is LoadState.UNKNOWN
    assert typo.cause is UnknownCause.PRESET_NOT_FOUND
    assert typo.message == (
        "spec.metrics.preset: 'typo' is not a metric preset: name one of gateway, mine, other, sglang, tgi,"
        " vllm, or add it to metrics.presets of the OptimizerPolicy"
    )


def test_a_gateway_is_joined_by_the_name_that_the_engine_gives_the_model() -> None:
    class Gateway(Metrics):
        def ask(
            self, _settings: MetricsSettings, _presets: Sequence[MetricPreset], time: float
        ) -> dict[str, Answers]:
            answers = dict.fromkeys(Query, Answer())
            for query, value in (
                (Query.GATEWAY_QUEUE, 3.0),
                (Query.GATEWAY_PEAK_QUEUE, 3.0),
                (Query.GATEWAY_SAMPLED, time),
            ):
                answers[query] = Answer({("team", "org/llama"): value, ("other", "org/llama"): 9.0})
            return {"gateway": answers}

    performance = {"accelerator": "h100", "alpha": 1, "beta": 1, "maxBatchSize": 1, "atTokens": 1}
    llama = policy("llama", modelName="org/llama", profiles=[performance])
    [service] = observe(
        usual(
            services=[objects.service(model="llama", metrics={"preset": "gateway"})],
            model_profiles=[llama],
            deployments=[objects.deployment(replicas=0)],
            pods=[],
        ),
        NOW,
        Gateway(),
    ).services
    assert (service.load.state, service.load.queued) == (LoadState.OBSERVED, 3)


def test_without_metrics_nobody_is_asked_and_the_load_says_so() -> None:
    [service] = observe(usual(), NOW, None).services
    assert service.load.state is LoadState.NOT_ASKED


def test_a_deployment_that_is_not_there_is_none() -> None:
    metrics = Metrics()
    [service] = observe(usual(deployments=[]), NOW, metrics).services
    assert service.deployment is None
    assert service.load.state is LoadState.UNKNOWN
    assert metrics.asked == []


def test_only_variables_that_the_service_names_are_in_the_snapshot() -> None:
    named = objects.service(batch={"mode": "Managed", "env": "MAX_NUM_SEQS"})
    [service] = observe(usual(services=[named]), NOW, None).services
    assert service.deployment is not None
    assert service.deployment.pod_spec["containers"][0]["env"] == [{"name": "MAX_NUM_SEQS", "value": "64"}]
    snapshot = observe(usual(), NOW, None)
    assert b"secret" not in dump_snapshot(snapshot)


def test_pods_without_accelerators_count_only_when_their_deployment_is_in_play() -> None:
    idle = objects.pod("web-1", containers=[objects.container()])
    idle["metadata"]["ownerReferences"] = objects.owner("ReplicaSet", "web-abc")
    mine = objects.pod("chat-abc-2", containers=[objects.container()])
    snapshot = observe(usual(pods=[idle, mine, objects.pod()]), NOW, None)
    assert [pod.name for pod in snapshot.pods] == ["chat-abc-1", "chat-abc-2"]


def test_a_service_that_is_going_is_not_decided() -> None:
    going = objects.service(metadata={"deletionTimestamp": objects.TIME})
    assert observe(usual(services=[going]), NOW, None).services == ()


def moving(**metadata: Any) -> objects.Object:
    annotations = {"inferscale.dev/deployment": "chat"}
    return objects.allocation(status={"move": objects.move()}, annotations=annotations, **metadata)


def test_an_allocation_with_a_move_whose_service_is_gone_is_an_orphan() -> None:
    snapshot = observe(usual(services=[], allocations=[moving()]), NOW, None)
    [orphan] = snapshot.orphans
    assert orphan.deployment is not None
    assert (orphan.name, orphan.deployment.name) == ("chat", "chat")


def test_an_allocation_with_a_move_whose_service_is_going_is_an_orphan() -> None:
    going = objects.service(metadata={"deletionTimestamp": objects.TIME})
    assert len(observe(usual(services=[going], allocations=[moving()]), NOW, None).orphans) == 1


def test_an_allocation_of_an_earlier_service_of_that_name_is_not_the_new_ones() -> None:
    other = moving(ownerReferences=objects.owner("InferenceService", "before"))
    snapshot = observe(usual(allocations=[other]), NOW, None)
    assert snapshot.services[0].allocation is None
    assert len(snapshot.orphans) == 1


def test_an_allocation_without_a_move_is_no_orphan() -> None:
    idle = objects.allocation(status={"reason": "Optimal"})
    assert observe(usual(services=[], allocations=[idle]), NOW, None).orphans == ()


@pytest.mark.parametrize("status", [{"reason": "Moved"}, {}])
def test_a_finalizer_that_a_killed_operator_left_without_a_move_is_let_go(status: dict[str, str]) -> None:
    left = objects.allocation(status=status, finalizers=[FINALIZER])
    snapshot = observe(usual(services=[], allocations=[left]), NOW, None)
    [plan] = advance(snapshot).orphans
    assert (plan.name, plan.patch, plan.release) == ("chat", None, True)


def test_a_move_goes_on_with_its_own_deployment_when_the_service_names_another_by_now() -> None:
    renamed = objects.service(targetRef={"name": "other"})
    snapshot = observe(usual(services=[renamed], allocations=[moving()]), NOW, None)
    assert snapshot.services[0].deployment is not None
    assert snapshot.services[0].deployment.name == "chat"


def test_the_policy_named_default_is_in_force() -> None:
    assert policy_in_force(world(policies=[policy(tickSeconds=7)])).tick_seconds == 7
    assert policy_in_force(world(policies=[policy("other", tickSeconds=7)])) == OptimizerPolicySpec()
    assert policy_in_force(world(policies=[policy(tickSeconds=-1)])) == OptimizerPolicySpec()


def test_a_resource_that_cannot_be_used_is_in_the_snapshot_with_its_error() -> None:
    broken = objects.service(minReplicas=-1)
    [service] = observe(usual(services=[broken]), NOW, None).services
    assert service.resource.spec is None
    assert "spec.minReplicas" in service.resource.error
    assert service.deployment is None


def test_the_order_of_events_does_not_change_the_snapshot() -> None:
    names = ["a", "b", "c"]
    forward = usual(
        services=[objects.service(name) for name in names],
        deployments=[objects.deployment(name) for name in names],
        pods=[objects.pod(f"chat-abc-{name}") for name in names],
    )
    backward = usual(
        services=[objects.service(name) for name in reversed(names)],
        deployments=[objects.deployment(name) for name in reversed(names)],
        pods=[objects.pod(f"chat-abc-{name}") for name in reversed(names)],
    )
    assert dump_snapshot(observe(forward, NOW, None)) == dump_snapshot(observe(backward, NOW, None))


def test_every_watched_kind_has_a_store() -> None:
    assert set(Stores().by_kind) == set(kinds.WATCHED)
