"""A budget and quotas of the policy on a cluster: who gives way, who is told, and that it ends with them."""

from collections.abc import Iterator
from typing import Any

import pytest

from localcluster import Cluster
from loop_objects import GROUP, HARDWARE, rate_per_replica
from loop_world import World, running

HIGH = 2.5 * rate_per_replica("l40s")
MOST = 3
PRICE = HARDWARE["l40s"].cost
FIRST, LAST = "first", "last"
# Enough for all replicas of the first, and one of the last.
ENOUGH_FOR = MOST + 1


@pytest.fixture(scope="module")
def world(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two services of one replica that need three, of two priorities."""
    directory, most = tmp_path_factory.mktemp("limits"), dict.fromkeys((FIRST, LAST), HIGH)
    with running(cluster, namespace, directory, most, budget=_budget()) as made:
        for priority, name in enumerate((FIRST, LAST), start=1):
            service_class = made.objects.service_class(name, "llm")
            service_class["spec"]["priority"] = priority
            named = made.named(name)
            made.apply(
                service_class,
                made.objects.deployment(name, "l40s", 1),
                made.objects.service(
                    name, serviceClass=named, keepAccelerator=True, maxReplicas=MOST, mode="Apply"
                ),
            )
            made.demands[name].set(HIGH)
        for name in (FIRST, LAST):
            made.eventually(lambda name=name: made.itl_ms(name), f"latency of {name} in Prometheus")
        made.start_operator()
        yield made


def _budget() -> dict[str, float]:
    return {"maxCostPerHour": ENOUGH_FOR * PRICE}


def _replicas(world: World) -> tuple[int, int]:
    return world.replicas(FIRST), world.replicas(LAST)


def _policy(world: World) -> dict[str, Any]:
    return (world.api.get(f"apis/{GROUP}/optimizerpolicies/default") or {}).get("status") or {}


def _limited(world: World, reason: str, message: str) -> None:
    """Return when the condition of the last service says so; by how much it is short goes with the load."""

    def said() -> bool:
        condition = world.condition(LAST, "CapacityLimited")
        return condition.get("reason") == reason and message in condition["message"]

    world.eventually(said, f"{reason}: {message}")


def test_a_limit_is_kept_told_and_lifted(world: World) -> None:
    served = (MOST, ENOUGH_FOR - MOST)
    # The load is seen to rise in steps: the last may have its second replica before the first its third.
    world.eventually(lambda: _replicas(world) == served, "the first priority to be served")
    _limited(world, "OverBudget", "budget short of")
    shed = world.eventually(lambda: _policy(world).get("shed"), "the policy to say what was shed")
    assert [(each["service"], each["priority"]) for each in shed] == [(f"{world.namespace}/{LAST}", 2)]
    world.after_ticks(5)
    assert _replicas(world) == served

    kind = world.objects.accelerator_profile("l40s")["spec"]["type"]
    quota = {"type": kind, "units": ENOUGH_FOR, "namespace": world.namespace}
    world.apply(world.objects.policy(quotas=[quota]))
    _limited(world, "QuotaExceeded", f"quota of {kind} for namespace {world.namespace} short of 2 units")
    world.eventually(
        lambda: [each["used"] for each in _policy(world).get("quotas") or ()] == [ENOUGH_FOR],
        "the policy to say what is used of the quota",
    )
    world.after_ticks(5)
    assert _replicas(world) == served

    world.apply(world.objects.policy())
    world.eventually(lambda: world.replicas(LAST) == MOST, "the last priority to be served")
    world.eventually(lambda: not _policy(world).get("shed"), "the policy to shed nothing any more")
