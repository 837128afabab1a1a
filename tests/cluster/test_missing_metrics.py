"""What is not known is never taken for zero: no metrics, no scale-down, and the others go on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from fleet.server import Fault
from localcluster import Cluster
from loop_objects import rate_per_replica
from loop_world import DEPLOYMENTS, World, running

EACH = rate_per_replica("l40s")
LOW, HIGH = 0.4 * EACH, 2.5 * EACH
LEAST, MOST = 1, 3

ACCELERATORS = {"unasked": "l40s", "silent": "l40s", "partial": "l40s", "stalled": "a100", "other": "a100"}
# Fault, how many servers have it, and the reason of MetricsAvailable that is due.
BROKEN = {
    "silent": (Fault.SILENT, MOST, "NoSamples"),
    "partial": (Fault.SILENT, LEAST, "PartlyReported"),
    "stalled": (Fault.STALLED, MOST, "EngineStalled"),
}


@dataclass(frozen=True)
class Seen:
    """What was to be seen of a service at some moment."""

    replicas: int
    generation: int
    """Of the Deployment: 1 as long as nothing was changed in it, not even to and fro."""
    status: dict[str, Any]
    metrics: dict[str, Any]
    """Condition MetricsAvailable."""
    optimized: dict[str, Any]
    """Condition Optimized."""


@pytest.fixture(scope="module")
def world(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Services under a load that needs what they have, and one that has little to do."""
    most = dict.fromkeys(ACCELERATORS, HIGH)
    with running(cluster, namespace, tmp_path_factory.mktemp("missing"), most) as made:
        for name, accelerator in ACCELERATORS.items():
            busy = name != "other"
            made.apply(
                made.objects.deployment(name, accelerator, MOST if busy else LEAST),
                made.objects.service(name, keepAccelerator=True, maxReplicas=MOST, mode="Apply"),
            )
            made.demands[name].set(HIGH if busy else LOW)
        for name in ACCELERATORS:
            made.eventually(lambda name=name: made.itl_ms(name), f"latency of {name} in Prometheus")
        made.start_operator()
        for name in ACCELERATORS:
            made.eventually(lambda name=name: _reason(made, name) == "Observed", f"a decision on {name}")
        yield made


@pytest.fixture(scope="module")
def unasked(world: World) -> Seen:
    """A service whose load fell while Prometheus did not answer."""
    world.stop_prometheus()
    world.demands["unasked"].set(LOW)
    world.eventually(lambda: _metrics(world, "unasked").get("status") == "False", "the failure to be noticed")
    world.after_ticks(4)
    seen = _look(world, "unasked")
    world.start_prometheus()
    return seen


@pytest.fixture(scope="module")
def broken(world: World) -> dict[str, Seen]:
    """Services whose load fell while servers of theirs did not report, or made no progress."""
    for name in ("other", *BROKEN):
        world.eventually(lambda name=name: _reason(world, name) == "Observed", f"metrics of {name}")
    for name, (fault, count, _) in BROKEN.items():
        for pod in world.pods(name)[:count]:
            world.break_server(pod, fault)
    for name, (_, _, reason) in BROKEN.items():
        world.eventually(
            lambda name=name, reason=reason: _reason(world, name) == reason,
            f"the fault of {name} to be noticed",
        )
    for name in BROKEN:
        world.demands[name].set(LOW)
    world.demands["other"].set(HIGH)
    world.eventually(lambda: world.replicas("other") == MOST, "the other service to go on")
    return {name: _look(world, name) for name in BROKEN}


def _metrics(world: World, name: str) -> dict[str, Any]:
    return world.condition(name, "MetricsAvailable")


def _reason(world: World, name: str) -> str:
    return str(_metrics(world, name).get("reason"))


def _look(world: World, name: str) -> Seen:
    deployment = world.get(DEPLOYMENTS, name) or {}
    return Seen(
        deployment["spec"]["replicas"],
        deployment["metadata"]["generation"],
        world.status(name),
        _metrics(world, name),
        world.condition(name, "Optimized"),
    )


def test_a_prometheus_that_does_not_answer_is_named_with_the_query(world: World, unasked: Seen) -> None:
    assert (unasked.metrics["status"], unasked.metrics["reason"]) == ("False", "QueryFailed")
    assert f"Prometheus {world.prometheus_url}: query of " in unasked.metrics["message"]
    assert dict(world.events("unasked"))["QueryFailed"] == unasked.metrics["message"]


def test_without_metrics_the_last_decision_is_held(unasked: Seen) -> None:
    assert unasked.replicas == MOST
    [entry] = unasked.status["allocations"]
    assert entry["currentReplicas"] == entry["desiredReplicas"] == MOST
    assert entry["predictedItl"] > 0
    assert unasked.status["reason"] == "MetricsUnknown"
    assert unasked.status["message"].startswith(f"holding {MOST} on ")
    assert unasked.status["load"]["state"] == "Unknown"
    assert unasked.status["load"]["arrivalRate"] > LOW
    assert (unasked.optimized["status"], unasked.optimized["reason"]) == ("Unknown", "Held")


def test_it_goes_on_when_prometheus_answers_again(world: World, unasked: Seen) -> None:
    world.eventually(lambda: world.replicas("unasked") == LEAST, "the scale-down that was due")
    assert _metrics(world, "unasked")["status"] == "True"
    assert unasked.replicas == MOST


def test_a_rate_over_a_half_seen_window_takes_nothing_from_a_busy_service(
    unasked: Seen, broken: dict[str, Seen]
) -> None:
    # Prometheus was away, and its first rates thereafter are those of a part of the window.
    assert unasked.metrics["reason"] == "QueryFailed"
    assert {name: seen.generation for name, seen in broken.items()} == dict.fromkeys(BROKEN, 1)


def test_a_service_whose_pods_are_silent_holds_while_the_others_go_on(broken: dict[str, Seen]) -> None:
    seen = broken["silent"]
    assert seen.replicas == MOST
    assert seen.metrics["status"] == "False"
    assert seen.metrics["reason"] in ("NoSamples", "SamplesTooOld")
    assert "vllm:num_requests_running" in seen.metrics["message"]
    assert f"{MOST} ready pods" in seen.metrics["message"]


def test_a_service_that_partly_reports_gives_nothing_up(broken: dict[str, Seen]) -> None:
    seen = broken["partial"]
    assert seen.replicas == MOST
    assert (seen.metrics["status"], seen.metrics["reason"]) == ("True", "PartlyReported")
    assert f"{LEAST} of {MOST} ready pods do not report" in seen.metrics["message"]


def test_servers_without_progress_are_not_taken_for_idle(broken: dict[str, Seen]) -> None:
    seen = broken["stalled"]
    assert seen.replicas == MOST
    assert (seen.metrics["status"], seen.metrics["reason"]) == ("False", "EngineStalled")
    assert "none made progress" in seen.metrics["message"]


def test_what_was_held_goes_on_when_the_servers_are_well_again(world: World, broken: dict[str, Seen]) -> None:
    for name in broken:
        assert world.replicas(name) == MOST
        for pod in world.pods(name):
            world.break_server(pod, Fault.NONE)
    for name in broken:
        world.eventually(lambda name=name: world.replicas(name) == LEAST, f"the scale-down of {name}")
