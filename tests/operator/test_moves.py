from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import NOW, later, pod_spec
from deployment_model import START_S, ModelDeployment
from inferscale_operator.api.inference_allocation import (
    InferenceAllocationStatus,
)
from inferscale_operator.api.moves import MoveSide, MoveStatus, MoveStep
from inferscale_operator.decide.moves import Advance, advance, begin_roll_back, release
from inferscale_operator.plan import DeploymentPatch
from inferscale_operator.snapshot import DeploymentState, ReplicaSetState
from inferscale_operator.twin.deployment import STRATEGY, merged

TIMEOUT_S = 100.0
TEMPLATE = {"nodeSelector": {"gpu": "MI300X", "pool": "m"}}
PRIOR = {"nodeSelector": {"gpu": "H100", "pool": None}}


def a_move(old: int, new: int, **fields: Any) -> MoveStatus:
    values = {
        "step": MoveStep.BRING_UP,
        "source": MoveSide(accelerator="h100", replicas=old),
        "to": MoveSide(accelerator="mi300x", replicas=new),
        "started_at": NOW,
        "step_started_at": NOW,
        "prior_strategy": STRATEGY,
        "prior_revision": 1,
        "prior_template": PRIOR,
    }
    return MoveStatus(**(values | fields))


def needed(state: DeploymentState) -> Mapping[str, Any]:
    return {} if merged(state.pod_spec, TEMPLATE) == state.pod_spec else TEMPLATE


def look(move: MoveStatus, state: DeploymentState | None, at: float = 0) -> Advance:
    return advance(move, state, needed(state) if state else {}, later(at), TIMEOUT_S)


def recorded(move: MoveStatus) -> MoveStatus:
    """The move as it is read back from the status."""
    written = InferenceAllocationStatus(move=move).model_dump_json(by_alias=True)
    read = InferenceAllocationStatus.model_validate_json(written).move
    assert read is not None
    return read


@dataclass
class Run:
    """A move carried out on the model of a Deployment, tick after tick."""

    model: ModelDeployment
    move: MoveStatus | None
    loses: Callable[[int], bool] = lambda _: False
    """At which ticks the operator dies between the record and the patch."""
    ticks: int = 0
    time: float = 0.0
    least: float = 10.0
    """The least capacity there ever was; 1 is what the old replicas had."""
    reasons: list[str] = field(default_factory=list)
    last: Advance | None = None

    def tick(self, steps: int = 1) -> None:
        assert self.move is not None
        source, to = self.move.source.replicas, self.move.to.replicas
        state = self.model.state()
        done = look(self.move, state, self.time)
        # Nothing has changed, so nothing else is done.
        if done.move is not None:
            again = look(recorded(done.move), state, self.time)
            assert again.patch == done.patch
        self.reasons += [event.reason for event in done.events]
        self.last = done
        if done.patch is not None and not self.loses(self.ticks):
            self.model.apply(done.patch)
        self.move = recorded(done.move) if done.move is not None else None
        for _ in range(steps):
            self.model.step()
            self.time += 5
            old, new = self.model.ready_on("H100"), self.model.ready_on("MI300X")
            self.least = min(self.least, (old / source if source else 1.0) + new / to)
        self.ticks += 1

    def to_the_end(self, steps: int = 1, most: int = 400) -> Run:
        while self.move is not None:
            self.tick(steps)
            assert self.ticks < most, f"it never ends: {self.move}"
        for _ in range(2 * START_S // 5):
            self.model.step()
        return self


def settled_on(run: Run, label: str, replicas: int) -> None:
    model = run.model
    assert [s.template["nodeSelector"]["gpu"] for s in model.sets if s.desired or s.pods] == (
        [label] if replicas else []
    )
    assert (model.replicas, model.ready_on(label)) == (replicas, replicas)
    assert (model.strategy, model.paused) == (STRATEGY, False)


def run(old: int, new: int, able: int = 1000, *, scarce: bool = False, **fields: Any) -> Run:
    """A move whose new template runs `able` pods at most, and the old one, if scarce, no more than now."""

    def runs(template: Mapping[str, Any]) -> int:
        return able if template["nodeSelector"]["gpu"] == "MI300X" else old if scarce else 1000

    return Run(ModelDeployment(old, runs), a_move(old, new), **fields)


class TestTheModelDoesWhatWasSeenOnARealControllerManager:
    @staticmethod
    def patched(model: ModelDeployment, **spec: Any) -> None:
        model.apply(DeploymentPatch("", "", "", {"spec": spec}, ""))
        model.step()

    @staticmethod
    def sizes(model: ModelDeployment) -> list[int]:
        return [s.desired for s in model.sets]

    def test_one_patch_cuts_the_old_at_once(self) -> None:
        model = ModelDeployment(8)
        self.patched(
            model,
            replicas=2,
            template={"spec": TEMPLATE},
            strategy={"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}},
        )
        assert self.sizes(model) == [2]

    def test_unpausing_with_fewer_replicas_deletes_a_ready_new_one(self) -> None:
        model = ModelDeployment(8)
        strategy = {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}}
        self.patched(model, template={"spec": TEMPLATE}, strategy=strategy)
        self.patched(model, paused=True)
        model.step(START_S)
        assert (self.sizes(model), model.ready_on("MI300X")) == ([8, 2], 2)
        self.patched(model, paused=False, replicas=2)
        assert (self.sizes(model)[1], model.ready_on("MI300X")) == (1, 1)

    def test_growing_in_one_patch_starts_old_ones_for_nothing(self) -> None:
        model = ModelDeployment(2)
        self.patched(
            model,
            replicas=8,
            template={"spec": TEMPLATE},
            strategy={"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}},
        )
        model.step()
        assert self.sizes(model) == [8, 8]


@pytest.mark.parametrize(("old", "new"), [(8, 2), (2, 1), (5, 4), (3, 3), (1, 1), (2, 8), (1, 2), (0, 3)])
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_a_move_ends_on_the_new_accelerator_and_is_never_below_what_is_needed(
    old: int, new: int, steps: int
) -> None:
    done = run(old, new).to_the_end(steps)
    assert done.least >= 1.0 or old == 0
    settled_on(done, "MI300X", new)
    assert done.reasons == ["MoveReady", "MoveCompleted"]
    assert done.model.template == pod_spec(nodeSelector={"gpu": "MI300X", "pool": "m"})


def test_the_new_replicas_that_came_up_are_the_ones_that_stay() -> None:
    done = run(8, 2)
    while done.move is not None and done.move.step is MoveStep.BRING_UP:
        done.tick()
    first = [pod.name for pod in done.model.sets[1].pods[:2]]
    done.to_the_end(most=100)
    assert [pod.name for pod in done.model.sets[1].pods] == first


@pytest.mark.parametrize(("old", "new"), [(8, 2), (3, 3), (2, 8), (1, 9)])
@pytest.mark.parametrize("able", [0, 1])
def test_a_move_that_does_not_come_up_goes_back_to_exactly_what_was(old: int, new: int, able: int) -> None:
    done = run(old, new, able)
    done.to_the_end()
    assert done.least >= 1.0
    settled_on(done, "H100", old)
    assert done.model.template == pod_spec()
    assert done.reasons == ["MoveTimedOut", "MoveRolledBack"]
    assert done.last is not None
    assert done.last.failed is not None
    assert done.last.failed.accelerator == "mi300x"
    assert done.time > TIMEOUT_S


def test_where_nothing_served_before_the_few_that_came_up_stay() -> None:
    done = run(0, 3, able=2).to_the_end()
    settled_on(done, "MI300X", 2)
    assert done.reasons == ["MoveReady", "MoveCompleted"]
    settled_on(run(0, 3, able=0).to_the_end(), "H100", 0)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 6),
    st.integers(1, 6),
    st.integers(0, 6) | st.just(1000),
    st.sets(st.integers(0, 30)),
    st.integers(1, 4),
    st.booleans(),
)
def test_a_crash_at_any_point_changes_nothing_but_the_time(
    old: int, new: int, able: int, crashes: set[int], steps: int, scarce: bool
) -> None:
    done = run(old, new, able, scarce=scarce, loses=lambda tick: tick in crashes)
    done.to_the_end(steps)
    assert done.least >= 1.0 or old == 0
    if "MoveTimedOut" in done.reasons:
        settled_on(done, "H100", old)
    else:
        settled_on(done, "MI300X", min(able, new))
    if able >= new and not crashes:
        assert done.reasons == ["MoveReady", "MoveCompleted"]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 9), st.integers(1, 9), st.integers(0, 14), st.integers(1, 3), st.booleans())
def test_a_move_is_taken_back_at_any_time_without_a_loss(
    old: int, new: int, at: int, steps: int, scarce: bool
) -> None:
    done = run(old, new, scarce=scarce)
    for _ in range(at):
        if done.move is not None and done.move.step is MoveStep.BRING_UP:
            done.tick(steps)
    if done.move is None or done.move.step is not MoveStep.BRING_UP:
        return
    done.move = begin_roll_back(done.move, later(done.time), "")
    done.to_the_end(steps)
    assert done.least >= 1.0 or old == 0
    settled_on(done, "H100", old)


def test_new_replicas_that_are_lost_before_the_hand_over_keep_the_old_ones() -> None:
    done = run(8, 2)
    while done.move is not None and done.move.step is MoveStep.BRING_UP:
        # The record is written, the patch is refused.
        done.loses = lambda _: done.model.ready_on("MI300X") == 2
        done.tick()
    assert done.move is not None
    assert done.move.step is MoveStep.HAND_OVER
    assert done.model.paused
    done.loses = lambda _: False
    for pod in done.model.sets[1].pods:
        pod.created_s, pod.ready_s = done.model.now_s, None
    done.tick()
    assert done.model.ready_on("H100") == 8
    assert done.move.step is MoveStep.BRING_UP
    done.to_the_end()
    assert done.least >= 1.0
    settled_on(done, "MI300X", 2)


@pytest.mark.parametrize("step", [MoveStep.HAND_OVER, MoveStep.TRIM])
def test_a_template_that_somebody_puts_back_ends_the_move_where_it_began(step: MoveStep) -> None:
    done = run(8, 2)
    while done.move is not None and done.move.step is not step:
        done.tick()
    done.model.template = pod_spec()
    done.model.generation += 1
    done.to_the_end()
    settled_on(done, "H100", 8)


RECREATE = {"type": "Recreate"}


@pytest.mark.parametrize(("old", "new"), [(3, 1), (1, 3), (2, 2)])
def test_a_deployment_that_is_recreated_is_changed_in_one_go_and_keeps_its_strategy(
    old: int, new: int
) -> None:
    done = run(old, new)
    done.model.strategy = RECREATE
    assert done.move is not None
    done.move = done.move.model_copy(update={"prior_strategy": RECREATE})
    done.to_the_end()
    assert done.reasons == ["MoveReady", "MoveCompleted"]
    assert (done.model.replicas, done.model.ready_on("MI300X"), done.model.ready_on("H100")) == (new, new, 0)
    assert done.model.strategy == RECREATE


def test_a_deployment_that_is_recreated_and_does_not_come_up_is_put_back() -> None:
    done = run(3, 1, able=0)
    done.model.strategy = RECREATE
    assert done.move is not None
    done.move = done.move.model_copy(update={"prior_strategy": RECREATE})
    done.to_the_end()
    assert done.reasons == ["MoveTimedOut", "MoveRolledBack"]
    assert (done.model.replicas, done.model.ready_on("H100"), done.model.strategy) == (3, 3, RECREATE)


EDITED = {"containers": [{"name": "engine", "image": "engine:2"}]}


def edited(done: Run) -> None:
    """Somebody rolls out another image."""
    done.model.template = merged(done.model.template, EDITED)
    done.model.writer = "kubectl-edit"
    done.model.generation += 1


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize(("old", "new"), [(8, 2), (3, 3), (2, 8)])
def test_a_template_that_somebody_changes_while_we_bring_up_is_kept_and_the_move_taken_back(
    old: int, new: int, held: bool
) -> None:
    done = run(old, new)
    for _ in range(3 if held else 2):
        done.tick()
    assert done.move is not None
    assert done.move.step is MoveStep.BRING_UP
    edited(done)
    done.to_the_end()
    assert done.reasons == ["MoveDisturbed", "MoveRolledBack"]
    settled_on(done, "H100", old)
    assert done.model.template == merged(pod_spec(), EDITED)
    # The new ones were not up yet: nothing that served went before there was enough on the changed template.
    assert done.least >= 1.0
    assert done.last is not None
    assert done.last.failed is not None
    assert "kubectl-edit changed the pod template" in done.last.failed.message


def test_a_template_that_is_changed_when_the_old_replicas_have_gone_is_left_to_its_owner() -> None:
    done = run(8, 2)
    while done.move is not None and not (done.move.step is MoveStep.HAND_OVER and not done.model.paused):
        done.tick()
    edited(done)
    done.to_the_end()
    assert done.reasons == ["MoveReady", "MoveDisturbed", "MoveCompleted"]
    done.to_the_end()
    settled_on(done, "MI300X", 2)
    assert done.model.template["containers"][0]["image"] == "engine:2"


@pytest.mark.parametrize("ticks", range(9))
@pytest.mark.parametrize(("old", "new"), [(4, 2), (2, 4)])
def test_a_move_that_is_ended_at_once_leaves_the_rest_to_kubernetes(old: int, new: int, ticks: int) -> None:
    done = run(old, new)
    for _ in range(ticks):
        if done.move is not None:
            done.tick()
    if done.move is None:
        return
    back = done.move.step is MoveStep.BRING_UP
    patch = release(done.move, done.model.state())
    if patch is not None:
        done.model.apply(patch)
    assert release(done.move, done.model.state()) is None
    for _ in range(60):
        done.model.step()
    settled_on(done, "H100" if back else "MI300X", old if back else new)


def test_a_move_goes_with_its_deployment() -> None:
    for step in MoveStep:
        done = look(a_move(8, 2, step=step), None)
        assert (done.move, done.patch, done.failed) == (None, None, None)
        assert [event.reason for event in done.events] == ["MoveDropped"]


def test_the_rollout_is_paused_as_soon_as_the_new_replicas_exist() -> None:
    done = run(8, 2)
    done.tick(steps=2)
    assert done.last is not None
    assert done.last.patch is not None
    assert done.last.patch.body["spec"] == {
        "strategy": {
            "$retainKeys": ["rollingUpdate", "type"],
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0},
        },
        "template": {"spec": TEMPLATE},
    }
    done.tick()
    assert done.last.patch is not None
    assert done.last.patch.body == {"spec": {"paused": True}}
    assert done.last.patch.resource_version == "2"


def test_nothing_is_believed_before_the_controller_has_seen_the_template() -> None:
    state = ModelDeployment(2).state()
    moved = replace(
        state,
        generation=2,
        observed_generation=1,
        pod_spec=merged(state.pod_spec, TEMPLATE),
        strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    )
    done = look(a_move(2, 1), moved)
    assert done.patch is None
    assert done.move is not None
    assert done.move.step is MoveStep.BRING_UP


def test_a_deployment_whose_replica_sets_are_not_seen_yet_waits() -> None:
    bare = replace(ModelDeployment(2).state(), replica_sets=(), pod_spec=merged(pod_spec(), TEMPLATE))
    for step in (MoveStep.HAND_OVER, MoveStep.ROLL_BACK):
        done = look(a_move(2, 1, step=step), bare)
        assert done.move is not None
        assert done.move.step is step


def test_the_time_for_coming_up_counts_from_the_step() -> None:
    stuck = replace(
        ModelDeployment(2).state(),
        pod_spec=merged(pod_spec(), TEMPLATE),
        revision=2,
        replica_sets=(ReplicaSetState("old", 1, 2, 2, 2), ReplicaSetState("new", 2, 1, 1, 0)),
    )
    move = a_move(2, 1, step_started_at=NOW + timedelta(seconds=100))
    on_time, late = look(move, stuck, TIMEOUT_S + 100), look(move, stuck, TIMEOUT_S + 101)
    assert on_time.move is not None
    assert on_time.move.step is MoveStep.BRING_UP
    assert late.move is not None
    assert late.move.step is MoveStep.ROLL_BACK
    assert [e.message for e in late.events] == [
        "h100 -> mi300x: 0 of 1 new replicas ready after 100 s: going back to h100"
    ]


def test_a_roll_back_goes_on_until_everything_of_the_template_is_back() -> None:
    engine = {
        "name": "engine",
        "image": "cuda",
        "args": None,
        "env": [{"name": "KEPT", "value": "1"}, {"name": "NEW", "$patch": "delete"}],
        "resources": {"limits": {"nvidia.com/gpu": "1", "amd.com/gpu": None}},
    }
    back = {**PRIOR, "tolerations": None, "runtimeClassName": "nv", "containers": [engine]}
    before = merged(pod_spec(runtimeClassName="nv"), {"containers": [{**engine, "env": [engine["env"][0]]}]})
    move = a_move(2, 1, step=MoveStep.ROLL_BACK, prior_template=back)
    settled = ModelDeployment(2).state()
    assert look(move, replace(settled, pod_spec=before)).move is None
    changes: list[dict[str, Any]] = [
        {"tolerations": [{"operator": "Exists"}]},
        {"runtimeClassName": None},
        {"nodeSelector": {"pool": "m"}},
        {"containers": [{"name": "engine", "image": "rocm"}]},
        {"containers": [{"name": "engine", "args": ["-x"]}]},
        {"containers": [{"name": "engine", "env": [{"name": "NEW", "value": "1"}]}]},
        {"containers": [{"name": "engine", "env": [{"name": "KEPT", "value": "2"}]}]},
        {"containers": [{"name": "engine", "resources": {"limits": {"amd.com/gpu": "1"}}}]},
        {"containers": [{"name": "engine", "$patch": "delete"}]},
    ]
    for change in changes:
        changed = merged(before, change)
        done = look(move, replace(settled, pod_spec=changed))
        assert done.patch is not None
        spec = done.patch.body["spec"]["template"]["spec"]
        if "$patch" not in str(change):
            assert look(move, replace(settled, pod_spec=merged(changed, spec))).move is None
