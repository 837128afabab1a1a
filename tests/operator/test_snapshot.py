from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from builders import IDLE, NAMESPACE, UNKNOWN, load, of, orphan, policy, service, world
from inferscale_operator.decide import decide
from inferscale_operator.plan import dump_plan
from inferscale_operator.snapshot import OrphanState, Resource, Snapshot, dump_snapshot, load_snapshot


def full() -> Snapshot:
    """A snapshot with something of everything, a move among it."""
    moving = of(decide(world(service(observed=load(30)))), "llama").allocation
    assert moving.move is not None
    broken = service("broken")
    broken = replace(broken, resource=replace(broken.resource, spec=None, error="spec.model: missing"))
    return world(
        service(allocation=moving),
        service("idle", observed=IDLE, mode="Recommend"),
        service("blind", observed=UNKNOWN, mode="Paused"),
        broken,
        orphans=(orphan(moving, None), OrphanState(NAMESPACE, "another", moving, service().deployment)),
        policy=policy(tickSeconds=10),
        policies=(Resource("default", "uid-policy", 3, policy(tickSeconds=10)),),
    )


def test_a_snapshot_survives_its_json() -> None:
    snapshot = full()
    assert load_snapshot(dump_snapshot(snapshot)) == snapshot
    assert dump_snapshot(load_snapshot(dump_snapshot(snapshot))) == dump_snapshot(snapshot)


def test_a_replayed_snapshot_gives_the_same_bytes() -> None:
    snapshot = full()
    assert dump_plan(decide(load_snapshot(dump_snapshot(snapshot)))) == dump_plan(decide(snapshot))


def test_what_is_no_snapshot_is_refused() -> None:
    with pytest.raises(ValidationError, match="time"):
        load_snapshot(b"{}")


def test_the_key_of_a_service_is_its_namespace_and_name() -> None:
    assert service("llama").key == f"{NAMESPACE}/llama"
