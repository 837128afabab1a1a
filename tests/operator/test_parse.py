"""The JSON of the API server becomes small objects."""

from datetime import UTC, datetime
from typing import Any

import pytest

import kubernetes_objects as objects
from inferscale_operator.api.inference_service import InferenceServiceSpec
from inferscale_operator.api.moves import MoveStep
from inferscale_operator.kube.parse import (
    parse_allocation,
    parse_autoscaler,
    parse_custom,
    parse_deployment,
    parse_node,
    parse_pod,
    parse_replica_set,
    pod_requests,
)
from inferscale_operator.snapshot import TaintState


def test_a_custom_resource_keeps_its_spec_and_conditions() -> None:
    condition = {"type": "Ready", "status": "True", "reason": "Valid", "lastTransitionTime": objects.TIME}
    record = parse_custom(objects.service(status={"conditions": [condition]}), InferenceServiceSpec)
    assert record.resource.spec is not None
    assert record.resource.spec.target_ref.name == "chat"
    assert (record.resource.namespace, record.resource.name, record.resource.generation) == (
        "team",
        "chat",
        1,
    )
    assert [item.type for item in record.resource.conditions] == ["Ready"]
    assert not record.deleting
    assert record.resource.error == ""


def test_a_spec_that_cannot_be_used_names_the_field_the_value_and_what_would_be_right() -> None:
    record = parse_custom(
        objects.service(minReplicas=-1, targetRef={}, variants=[{"accelerator": "A 100"}], mode="Aply"),
        InferenceServiceSpec,
    )
    assert record.resource.spec is None
    error = record.resource.error
    assert "spec.targetRef.name is missing: it is required" in error
    assert "spec.minReplicas: -1 is not valid: input should be greater than or equal to 0" in error
    assert "spec.variants[0].accelerator: 'A 100' is not valid" in error
    assert error.endswith("and 1 more")


def test_conditions_that_cannot_be_read_do_not_spoil_the_resource() -> None:
    record = parse_custom(objects.service(status={"conditions": [{"type": "Ready"}]}), InferenceServiceSpec)
    assert record.resource.spec is not None
    assert record.resource.conditions == ()


def test_an_object_with_a_deletion_timestamp_is_going() -> None:
    raw = objects.service(metadata={"deletionTimestamp": objects.TIME})
    assert parse_custom(raw, InferenceServiceSpec).deleting


def test_an_allocation_keeps_its_move_with_the_nulls_of_its_template() -> None:
    record = parse_allocation(
        objects.allocation(
            status={"move": objects.move("HandOver")},
            finalizers=["inferscale.dev/move"],
            annotations={"inferscale.dev/deployment": "chat"},
        )
    )
    assert record.status is not None
    assert record.status.move is not None
    assert record.status.move.step is MoveStep.HAND_OVER
    assert record.status.move.prior_template["spec"]["nodeSelector"] == {"amd.com/gpu.product-name": None}
    assert (record.owner_uid, record.deployment) == ("uid-chat", "chat")
    assert record.finalizers == ("inferscale.dev/move",)


def test_an_allocation_status_that_cannot_be_read_is_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    record = parse_allocation(objects.allocation(status={"move": {"step": "Leap"}}))
    assert record.status is None
    assert "team/chat" in caplog.text


def test_a_node_counts_its_extended_resources_only() -> None:
    raw = objects.node(**{"nvidia.com/gpu": "8", "attachable.kubernetes.io/volumes": "25"})
    state = parse_node(raw)
    assert state is not None
    assert state.allocatable == {"nvidia.com/gpu": 8}
    assert state.usable


@pytest.mark.parametrize(
    "raw", [objects.node(ready="False"), objects.node(ready="Unknown"), objects.node(unschedulable=True)]
)
def test_a_node_that_is_not_ready_or_cordoned_is_not_usable(raw: objects.Object) -> None:
    assert not parse_node(raw).usable


def test_a_node_without_accelerators_has_none() -> None:
    assert not any(parse_node(objects.node(**{"nvidia.com/gpu": "0"})).allocatable.values())
    assert parse_node(objects.node(cpu="4")).allocatable == {}


def test_a_node_has_the_taints_that_pods_need_a_toleration_for() -> None:
    raw = objects.node()
    raw["spec"] = {
        "taints": [
            {"key": "dedicated", "value": "llm", "effect": "NoSchedule"},
            {"key": "slow", "effect": "PreferNoSchedule"},
            {
                "key": "node.kubernetes.io/unreachable",
                "effect": "NoExecute",
                "timeAdded": "2026-03-01T00:00:00Z",
            },
        ]
    }
    assert parse_node(raw).taints == (
        TaintState("dedicated", "NoSchedule", "llm"),
        TaintState("node.kubernetes.io/unreachable", "NoExecute"),
    )


def test_a_node_with_partitions_has_them_by_their_names() -> None:
    raw = objects.node(**{"nvidia.com/gpu": "0", "nvidia.com/mig-1g.10gb": "7"})
    assert parse_node(raw).allocatable["nvidia.com/mig-1g.10gb"] == 7


def test_a_pod_belongs_to_the_deployment_of_its_replica_set() -> None:
    record = parse_pod(objects.pod())
    assert record is not None
    assert record.state.deployment == "chat"
    assert record.state.requests == {"nvidia.com/gpu": 1}
    assert record.state.ready
    assert record.ready_since == datetime(2026, 3, 1, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_finished_is_of_no_interest(phase: str) -> None:
    assert parse_pod(objects.pod(phase=phase)) is None


def test_a_pod_that_is_not_ready_or_terminating_says_so() -> None:
    raw = objects.pod(ready=False)
    raw["metadata"]["deletionTimestamp"] = objects.TIME
    record = parse_pod(raw)
    assert record is not None
    assert (record.state.ready, record.state.terminating, record.ready_since) == (False, True, None)


def test_a_pod_of_somebody_else_counts_when_it_holds_accelerators() -> None:
    raw = objects.pod("training")
    del raw["metadata"]["ownerReferences"]
    record = parse_pod(raw)
    assert record is not None
    assert record.state.deployment is None
    raw["spec"]["containers"] = [objects.container()]
    assert parse_pod(raw) is None


def test_requests_are_counted_as_the_scheduler_does() -> None:
    sidecar = objects.container(1, restartPolicy="Always")
    assert pod_requests({"containers": [objects.container(2), objects.container(1)]}) == {"nvidia.com/gpu": 3}
    assert pod_requests({"initContainers": [objects.container(4)], "containers": [objects.container(2)]}) == {
        "nvidia.com/gpu": 4
    }
    assert pod_requests(
        {"initContainers": [sidecar, objects.container(4)], "containers": [objects.container(2)]}
    ) == {"nvidia.com/gpu": 5}
    assert pod_requests({"containers": [objects.container()]}) == {}


def test_amounts_with_suffixes_are_read() -> None:
    resources = {
        "limits": {"example.com/slices": "2k", "example.com/pages": "1Ki", "example.com/units": "1e2"}
    }
    assert pod_requests({"containers": [{"name": "c", "resources": resources}]}) == {
        "example.com/pages": 1024,
        "example.com/slices": 2000,
        "example.com/units": 100,
    }


def test_a_deployment_keeps_what_a_decision_needs_and_no_references_to_secrets() -> None:
    state = parse_deployment(objects.deployment(ownerReferences=objects.owner("InferenceGraph", "kserve")))
    assert (state.replicas, state.ready_replicas, state.revision, state.paused) == (2, 1, 3, False)
    assert state.controller == "InferenceGraph/kserve"
    assert state.strategy["rollingUpdate"] == {"maxSurge": "25%"}
    assert set(state.pod_spec) == {"nodeSelector", "containers"}
    names = [variable["name"] for variable in state.pod_spec["containers"][0]["env"]]
    assert names == ["MAX_NUM_SEQS", "TOKEN"]


def owned(manager: str, time: str, **fields: Any) -> objects.Object:
    spec = {f"f:{name}": {} for name in fields.pop("owns", ())}
    return {"manager": manager, "time": time, "fieldsV1": {"f:spec": spec}, **fields}


@pytest.mark.parametrize(
    ("manager", "paused", "ours"),
    [("inferscale", True, True), ("kubectl-rollout", True, False), ("inferscale", False, False)],
)
def test_a_deployment_tells_whether_we_paused_it(manager: str, paused: bool, ours: bool) -> None:
    raw = objects.deployment(
        managedFields=[
            owned("kube-controller-manager", "2026-03-01T13:00:00Z"),
            owned(manager, "2026-03-01T12:00:00Z", owns=("paused",)),
        ]
    )
    raw["spec"]["paused"] = paused
    assert parse_deployment(raw).paused_by_us is ours


def test_a_deployment_tells_who_else_wrote_to_its_template_last() -> None:
    raw = objects.deployment(
        managedFields=[
            owned("inferscale", "2026-03-01T14:00:00Z", owns=("template", "replicas")),
            owned("kubectl-edit", "2026-03-01T13:00:00Z", owns=("template",)),
            owned("helm", "2026-03-01T12:00:00Z", owns=("template",)),
            {"manager": "kube-controller-manager", "time": "2026-03-01T15:00:00Z", "subresource": "status"},
        ]
    )
    state = parse_deployment(raw)
    assert state.template_writer == "kubectl-edit"
    assert parse_deployment(objects.deployment()).template_writer == ""
    # Whatever of the template changes, the hash does.
    raw["spec"]["template"]["spec"]["containers"][0]["env"][1]["value"] = "another secret"
    assert parse_deployment(raw).template_hash != state.template_hash
    assert parse_deployment(objects.deployment()).template_hash == state.template_hash


def test_a_replica_set_belongs_to_the_deployment_that_owns_it() -> None:
    record = parse_replica_set(objects.replica_set())
    assert record is not None
    assert (record.deployment, record.state.revision, record.state.desired) == ("chat", 3, 2)
    assert parse_replica_set(objects.replica_set(owned=False)) is None


def test_an_autoscaler_says_what_made_it() -> None:
    raw = objects.autoscaler("keda-hpa-chat")
    raw["metadata"]["ownerReferences"] = objects.owner("ScaledObject", "chat")
    record = parse_autoscaler(raw)
    assert record is not None
    assert record.name == "keda-hpa-chat (of ScaledObject chat)"


def test_only_autoscalers_of_deployments_matter() -> None:
    record = parse_autoscaler(objects.autoscaler())
    assert record is not None
    assert (record.name, record.deployment) == ("chat-hpa", "chat")
    assert parse_autoscaler(objects.autoscaler(kind="StatefulSet")) is None
