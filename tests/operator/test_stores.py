"""Stores hold what the watches told, whatever the order it came in."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import kubernetes_objects as objects
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.kube import kinds
from inferscale_operator.kube.parse import parse_deployment, parse_pod
from inferscale_operator.kube.stores import Answer, Listed, Store, Stores

KEY = ("team", "chat")


def versions(store: Store[Any]) -> dict[tuple[str, str], str]:
    return {key: value.resource_version for key, value in store.copy().items()}


def test_a_store_is_complete_once_its_listing_is_in() -> None:
    store = Store(parse_deployment)
    assert not store.complete
    store.seed(objects.listing(objects.deployment("a"), objects.deployment("b")))
    assert store.complete
    assert set(store.copy()) == {("team", "a"), ("team", "b")}


def test_an_empty_listing_completes_a_store() -> None:
    store = Store(parse_deployment)
    store.seed({"metadata": {"resourceVersion": "1"}, "items": None})
    assert store.complete


def test_a_newer_object_replaces_an_older_and_never_the_other_way_round() -> None:
    store = Store(parse_deployment)
    store.apply("ADDED", objects.deployment(version=5))
    assert not store.apply(None, objects.deployment(version=4, replicas=9))
    assert versions(store) == {KEY: "5"}
    change = store.apply("MODIFIED", objects.deployment(version=6, replicas=9))
    assert change
    assert change.before is not None
    assert change.after is not None
    assert (change.before.replicas, change.after.replicas) == (2, 9)


def test_an_object_whose_small_form_did_not_change_is_no_change() -> None:
    store = Store(parse_pod)
    store.apply("ADDED", objects.pod(version=1))
    heartbeat = objects.pod(version=2)
    heartbeat["metadata"]["annotations"] = {"something": "else"}
    assert not store.apply("MODIFIED", heartbeat)


def test_a_deleted_object_is_gone_and_may_come_again() -> None:
    store = Store(parse_deployment)
    store.apply("ADDED", objects.deployment(version=5))
    assert store.apply("DELETED", objects.deployment(version=6)).after is None
    assert store.copy() == {}
    store.apply("ADDED", objects.deployment(version=7))
    assert versions(store) == {KEY: "7"}


def test_the_deletion_of_an_earlier_object_of_that_name_leaves_the_newer() -> None:
    store = Store(parse_deployment)
    store.apply("ADDED", objects.deployment(version=7))
    assert not store.apply("DELETED", objects.deployment(version=6))
    assert versions(store) == {KEY: "7"}


def test_a_pod_that_finishes_leaves_the_store() -> None:
    store = Store(parse_pod)
    store.apply("ADDED", objects.pod(version=1))
    assert store.apply("MODIFIED", objects.pod(version=2, phase="Succeeded"))
    assert store.copy() == {}


def test_what_a_listing_no_longer_has_is_dropped_unless_it_is_newer_than_the_listing() -> None:
    store = Store(parse_deployment)
    for name, version in (("kept", 3), ("gone", 4), ("new", 11)):
        store.apply("ADDED", objects.deployment(name, version=version))
    assert store.reconcile(Listed(frozenset({("team", "kept")}), as_of=10)) == (("team", "gone"),)
    assert set(store.copy()) == {("team", "kept"), ("team", "new")}


@settings(deadline=None)
@given(st.permutations(range(1, 6)))
def test_whatever_the_order_the_newest_version_stays(order: list[int]) -> None:
    store = Store(parse_deployment)
    for version in order:
        store.apply("MODIFIED", objects.deployment(version=version, replicas=version))
    assert store.copy()[KEY].replicas == 5


def test_a_copy_does_not_change_with_the_store() -> None:
    store = Store(parse_deployment)
    store.apply("ADDED", objects.deployment("a"))
    copy = store.copy()
    store.apply("ADDED", objects.deployment("b"))
    assert set(copy) == {("team", "a")}


def test_the_answer_to_a_write_is_there_before_the_watch_tells() -> None:
    stores = Stores()
    stores.deployments.apply("ADDED", objects.deployment(version=1))
    stores.absorb([Answer(kinds.DEPLOYMENT, objects.deployment(version=2, replicas=7))])
    assert stores.copy({}).deployments[KEY].replicas == 7


def test_an_answer_does_not_bring_back_what_was_deleted_meanwhile() -> None:
    stores = Stores()
    stores.absorb([Answer(kinds.INFERENCE_ALLOCATION, objects.allocation())])
    assert stores.copy({}).allocations == {}
    stores.absorb([Answer(kinds.INFERENCE_ALLOCATION, objects.allocation(), created=True)])
    assert set(stores.copy({}).allocations) == {KEY}


def test_a_status_that_is_decided_and_not_yet_written_is_the_one_that_counts() -> None:
    stores = Stores()
    stores.allocations.apply("ADDED", objects.allocation(status={"reason": "Written"}))
    world = stores.copy({"uid-chat": InferenceAllocationStatus(reason="Held")})
    record = world.allocations[KEY]
    assert record.status is not None
    assert record.status.reason == "Held"
    assert record.raw_status == {"reason": "Written"}


def test_the_world_moves_while_an_allocation_records_a_move() -> None:
    stores = Stores()
    stores.allocations.apply("ADDED", objects.allocation())
    assert not stores.copy({}).moving
    stores.allocations.apply("MODIFIED", objects.allocation(version=2, status={"move": objects.move()}))
    assert stores.copy({}).moving


def test_stores_are_complete_when_every_kind_is() -> None:
    stores = Stores()
    for kind in kinds.WATCHED:
        assert not stores.complete
        stores.by_kind[kind].seed(objects.listing())
    assert stores.complete
