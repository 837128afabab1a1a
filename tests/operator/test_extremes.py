"""Objects as nobody means them, a clock that jumps, a policy that cannot be used: nothing is lost by them."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kubernetes_objects as objects
from builders import NOW, after, load, of, service, world
from inferscale_operator.decide import decide
from inferscale_operator.kube import kinds
from inferscale_operator.kube.stores import Stores
from inferscale_operator.metrics.queries import Answers
from inferscale_operator.observe import observe, policy_in_force
from inferscale_operator.plan import Plan, dump_plan
from inferscale_operator.snapshot import LoadState, PolicyState, Snapshot
from loop_objects import HARDWARE, Objects, rate_per_replica

MANIFESTS = Objects("team", "test")
RATE = 2.5 * rate_per_replica("l40s")
NASTY = ['a"} or vector(1) #', "../../api/v1/secrets", "a\\", "\x00", "ü" * 300, "x" * 10_000, ""]
VALUES = [1e308, -1e308, 5e-324, 0, -1, 2**63, *NASTY, None, True, [], {}, [{}] * 10_000, {"a": "b"}]
CUSTOM = {
    kinds.ACCELERATOR_PROFILE: MANIFESTS.accelerator_profile("l40s"),
    kinds.MODEL_PROFILE: MANIFESTS.model_profile("llm", "l40s"),
    kinds.SERVICE_CLASS: MANIFESTS.service_class("standard", "llm"),
    kinds.INFERENCE_SERVICE: MANIFESTS.service("chat", mode="Apply", variants=[{"accelerator": "l40s-test"}]),
    kinds.OPTIMIZER_POLICY: MANIFESTS.policy(),
}
Path = tuple[str | int, ...]


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of everything in an object, whole lists and maps too."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*path, key))


PLACES = [(kind, path) for kind, raw in CUSTOM.items() for path in leaves(raw["spec"])]


def put(spec: Any, path: Path, value: Any) -> Any:
    """A copy with another value at a path."""
    changed = copy.deepcopy(spec)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


def seeded(spoilt: kinds.Kind | None = None, spec: Any = None) -> Stores:
    """A service `chat` that may be spoilt, and one that is well on profiles of its own."""
    stores = Stores()
    well = Objects("team", "well")
    for kind, raw in CUSTOM.items():
        there = {**raw, "spec": spec} if kind is spoilt else raw
        stores.by_kind[kind].seed({"items": [with_meta(there)]})
    for kind, raw in (
        (kinds.ACCELERATOR_PROFILE, well.accelerator_profile("a100")),
        (kinds.MODEL_PROFILE, well.model_profile("llm", "a100")),
        (kinds.SERVICE_CLASS, well.service_class("standard", "llm")),
        (kinds.INFERENCE_SERVICE, well.service("code", mode="Apply")),
        (kinds.DEPLOYMENT, well.deployment("code", "a100", 3)),
        (kinds.DEPLOYMENT, MANIFESTS.deployment("chat", "l40s", 3)),
    ):
        stores.by_kind[kind].apply("ADDED", with_meta(raw))
    for name in ("l40s", "a100"):
        node = objects.node(name)
        node["metadata"]["labels"] = dict(HARDWARE[name].selector)
        stores.nodes.apply("ADDED", node)
    return stores


def with_meta(raw: objects.Object, version: int = 1) -> objects.Object:
    namespace = raw["metadata"].get("namespace")
    return {**raw, "metadata": objects.meta(raw["metadata"]["name"], namespace=namespace, version=version)}


class Silent:
    """A Prometheus that must not be asked."""

    def ask(self, *_: Any) -> dict[str, Answers]:
        raise AssertionError


def decided(stores: Stores) -> tuple[Snapshot, Plan]:
    snapshot = observe(stores.copy({}), NOW, None)
    known = replace(load(RATE, tokens=32.0), input_tokens=128.0)
    snapshot = replace(snapshot, services=tuple(replace(s, load=known) for s in snapshot.services))
    return snapshot, decide(snapshot)


@pytest.mark.slow
@settings(deadline=None, max_examples=250)
@given(st.sampled_from(PLACES), st.sampled_from(VALUES))
def test_whatever_stands_in_an_object_the_others_are_decided(place: tuple[Any, Path], value: Any) -> None:
    kind, path = place
    _, plan = decided(seeded(kind, put(CUSTOM[kind]["spec"], path, value)))
    other = of(plan, "code")
    assert other.allocation.reason not in ("", "ServiceInvalid")
    assert other.allocation.allocations[0].desired_replicas >= 3
    assert dump_plan(plan)


# A clock that jumps.


@pytest.mark.parametrize("jump", [-86_400.0, -3600.0, 3600.0, 86_400.0])
@pytest.mark.parametrize("rate", [30.0, 0.0])
def test_a_clock_that_jumps_lets_nothing_jump_over_its_scale_down_window(jump: float, rate: float) -> None:
    windows = {
        "scaleUp": {"stabilizationWindowSeconds": 0},
        "scaleDown": {"stabilizationWindowSeconds": 300},
    }
    snapshot = world(service("llama", 4, load(200.0), keepAccelerator=True, behavior=windows))
    for _ in range(3):
        snapshot = after(snapshot, decide(snapshot))
    low = replace(snapshot, services=(replace(snapshot.services[0], load=load(rate)),))
    for seconds in (jump, 30.0, 30.0):
        low = after(low, decide(low), seconds)
        [entry] = of(decide(low), "llama").allocation.allocations
        assert entry.desired_replicas == 4
    for _ in range(11):
        low = after(low, decide(low))
    assert of(decide(low), "llama").allocation.allocations[0].desired_replicas < 4


# A policy that cannot be used.


def policy(version: int, **spec: Any) -> objects.Object:
    return with_meta({**MANIFESTS.policy(), "spec": spec}, version)


def ready(plan: Plan) -> Any:
    [status] = [s for s in plan.statuses if s.ref.kind == "OptimizerPolicy"]
    return status.status.conditions[0]


def test_what_a_policy_said_before_stays_in_force_when_it_cannot_be_used_any_more() -> None:
    stores = Stores()
    stores.policies.apply("ADDED", policy(1, tickSeconds=7))
    stores.keep_policy()
    stores.policies.apply("MODIFIED", policy(2, tickSeconds="often"))
    read = stores.copy({})
    assert policy_in_force(read).tick_seconds == 7
    snapshot = observe(read, NOW, None)
    assert (snapshot.policy_state, snapshot.policy.tick_seconds) == (PolicyState.KEPT, 7)
    condition = ready(decide(snapshot))
    assert (condition.status, condition.reason) == ("False", "Invalid")
    assert "tickSeconds" in condition.message
    assert condition.message.endswith("; what it said before stays in force")


def test_without_a_policy_the_defaults_hold_whatever_one_said_before() -> None:
    stores = Stores()
    stores.policies.apply("ADDED", policy(1, tickSeconds=7))
    stores.keep_policy()
    stores.policies.apply("DELETED", policy(2))
    assert policy_in_force(stores.copy({})).tick_seconds == 30


def test_a_policy_that_never_could_be_used_holds_everything_and_prometheus_is_not_asked() -> None:
    stores = seeded(kinds.OPTIMIZER_POLICY, {"metrics": {"matchers": {"no label": "x"}}})
    snapshot = observe(stores.copy({}), NOW, Silent())
    assert snapshot.policy_state is PolicyState.HELD
    assert {state.load.state for state in snapshot.services} == {LoadState.UNKNOWN}
    plan = decide(snapshot)
    assert [each.patch for each in plan.services] == [None, None]
    assert ready(plan).message.endswith("; until it can be used every service keeps what it has")


def test_the_time_between_two_looks_at_a_service_may_be_anything() -> None:
    snapshot = world(service("llama", 2, load(100.0)))
    for seconds in (-1e6, 1e6, 0.0):
        snapshot = replace(snapshot, time=snapshot.time + timedelta(seconds=seconds))
        snapshot = after(snapshot, decide(snapshot), 0.0)
    assert of(decide(snapshot), "llama").allocation.reason
