"""What is read of the cluster, what may be changed in it, and what the account must be allowed for that."""

from dataclasses import replace
from typing import Any

import pytest

import kubernetes_objects as objects
from builders import NAMESPACE, accelerator, condition, deployment, of, orphan, service, world
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.decide import decide
from inferscale_operator.kube import kinds
from inferscale_operator.kube.permissions import Permission, missing, needed
from inferscale_operator.kube.scope import Scope
from inferscale_operator.kube.stores import Stores

LABEL = "inferscale.dev/managed=true"


class Lists:
    """An API server with one InferenceService in each of two namespaces."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []

    def list_all(self, kind: kinds.Kind, namespace: str | None = None, **_: Any) -> objects.Object:
        self.asked.append((kind.plural, namespace))
        version = {None: 9, "a": 7, "b": 8}[namespace]
        return {"metadata": {"resourceVersion": str(version)}, "items": [{"in": namespace}]}


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        (kinds.INFERENCE_SERVICE, ("a", "b")),
        (kinds.DEPLOYMENT, ("a", "b")),
        (kinds.NODE, (None,)),
        (kinds.SERVICE_CLASS, (None,)),
        (kinds.POD, (None,)),
    ],
)
def test_named_namespaces_are_listed_one_by_one_and_no_other(
    kind: kinds.Kind, places: tuple[str | None, ...]
) -> None:
    client = Lists()
    listing = Scope(("a", "b")).list_all(client, kind)
    assert [place for _, place in client.asked] == list(places)
    assert [item["in"] for item in listing["items"]] == list(places)
    # Not younger than any part: what came after the oldest must not count as gone.
    assert listing["metadata"]["resourceVersion"] == ("9" if None in places else "7")


def test_pods_of_others_are_read_unless_it_is_said_otherwise() -> None:
    assert Scope(("a",)).places(kinds.POD) == (None,)
    assert Scope(("a",), all_pods=False).places(kinds.POD) == ("a",)


def test_namespaces_are_read_only_where_they_opt_in() -> None:
    assert kinds.NAMESPACE not in Stores().by_kind
    assert kinds.NAMESPACE in Stores(Scope(namespace_label=LABEL)).by_kind


@pytest.mark.parametrize(
    ("labels", "lacks"),
    [
        ({"inferscale.dev/managed": "true"}, ""),
        ({"inferscale.dev/managed": "false"}, LABEL),
        ({}, LABEL),
        (None, LABEL),
    ],
)
def test_a_namespace_must_carry_the_label_with_its_value(labels: dict[str, str] | None, lacks: str) -> None:
    assert Scope(namespace_label=LABEL).lacks_label(labels) == lacks
    assert Scope().lacks_label(labels) == ""


def test_a_service_of_a_namespace_that_did_not_opt_in_is_told_and_never_patched() -> None:
    closed = replace(service("llama"), lacks_label=LABEL)
    assert of(decide(world(service("llama"))), "llama").patch is not None
    plan = of(decide(world(closed)), "llama")
    assert plan.patch is None
    status, reason, message = condition(plan, "Applied")
    assert (status, reason) == ("False", "NamespaceNotOptedIn")
    assert f"kubectl label namespace {NAMESPACE} {LABEL}" in message


def test_a_namespace_that_opts_out_in_the_middle_of_a_move_is_let_go_as_it_is() -> None:
    recorded = InferenceAllocationStatus.model_validate({"move": objects.move("BringUp")})
    closed = replace(service("llama", allocation=recorded), lacks_label=LABEL)
    plan = of(decide(world(closed)), "llama")
    assert plan.patch is None
    assert plan.allocation.move == recorded.move
    gone = replace(orphan(recorded, deployment("gone")), lacks_label=LABEL)
    (left,) = decide(world(orphans=(gone,))).orphans
    assert (left.patch, left.release, left.allocation.move) == (None, True, None)


def test_without_pods_of_others_a_type_without_a_stated_capacity_does_not_grow() -> None:
    def state(**capacity: int) -> tuple[str, str, str]:
        profile = accelerator("h100", capacity=capacity)
        snapshot = world(service("llama"), accelerator_profiles=(profile,), all_pods=False)
        plan = next(s for s in decide(snapshot).statuses if s.ref.kind == "AcceleratorProfile")
        found = next(c for c in plan.status.conditions if c.type == "Ready")
        assert plan.status.capacity == capacity.get("fixed", plan.status.used)
        return found.status, found.reason, found.message

    assert state(fixed=4)[:2] == ("True", "Valid")
    status, reason, message = state(max=64)
    assert (status, reason) == ("False", "CapacityNotStated")
    assert "spec.capacity.fixed is missing" in message


class Reviews:
    """An API server that allows everything but some verbs."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.asked: list[Any] = []

    def create(self, _kind: kinds.Kind, _namespace: str | None, body: Any) -> Any:
        attributes = body["spec"]["resourceAttributes"]
        self.asked.append(attributes)
        return {"status": {"allowed": attributes["verb"] not in self.refused}}


def test_what_the_account_lacks_is_named() -> None:
    wanted = needed(Scope(("a",), LABEL, all_pods=False), ("system", "inferscale"))
    assert missing(Reviews(), wanted) == ()
    lacking = {str(permission) for permission in missing(Reviews("create"), wanted)}
    assert lacking == {
        "create events in namespace a",
        "create events in namespace default",
        "create inferenceallocations.inferscale.dev in namespace a",
        "create leases.coordination.k8s.io in namespace system",
    }
    assert Permission("apps", "deployments", "patch", "a") in wanted
    assert not [p for p in wanted if p.group == "apps" and not p.namespace]
    assert Permission("", "namespaces", "list") in wanted
    assert "namespaces" not in {p.resource for p in needed(Scope(), None)}
