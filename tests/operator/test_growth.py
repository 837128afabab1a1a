"""A load that rises in the middle of a move gets its replicas at once, and costs nobody anything."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import (
    NOW,
    UNKNOWN,
    accelerator,
    behavior,
    deployment,
    later,
    load,
    model,
    pod_spec,
    policy,
    service,
    service_class,
)
from deployment_model import START_S, ModelDeployment
from fleet_model import ModelFleet
from inferscale_operator.api.moves import MoveSide, MoveStatus, MoveStep
from inferscale_operator.decide.growth import Sides, more
from inferscale_operator.decide.moves import advance
from inferscale_operator.snapshot import ObservedLoad
from inferscale_operator.twin.deployment import STRATEGY, merged

TEMPLATE = {"nodeSelector": {"gpu": "MI300X", "pool": "m"}}
PRIOR = {"nodeSelector": {"gpu": "H100", "pool": None}}
PLENTY = Sides(1000, 1000)


@dataclass
class Rising:
    """A move on the model of a Deployment, whose load is `rise` times as much from a time on."""

    old: int
    new: int
    rise: float
    at: float
    room: Sides = PLENTY
    able: int = 1000

    def __post_init__(self) -> None:
        self.model = ModelDeployment(
            self.old, lambda t: self.able if t["nodeSelector"]["gpu"] == "MI300X" else 1000
        )
        self.move: MoveStatus | None = MoveStatus(
            step=MoveStep.BRING_UP,
            source=MoveSide(accelerator="h100", replicas=self.old),
            to=MoveSide(accelerator="mi300x", replicas=self.new),
            started_at=NOW,
            step_started_at=NOW,
            prior_strategy=STRATEGY,
            prior_revision=1,
            prior_template=PRIOR,
        )
        self.time = 0.0
        self.served: list[float] = []
        """In loads before the rise, after every step."""
        self.steps: list[str] = []

    @property
    def needs(self) -> Sides:
        rise = self.rise if self.time >= self.at else 1.0
        return Sides(math.ceil(rise * self.old), math.ceil(rise * self.new))

    def take(self, sides: Sides) -> bool:
        if sides.old > self.room.old or sides.new > self.room.new:
            return False
        self.room = Sides(self.room.old - sides.old, self.room.new - sides.new)
        return True

    def run(self, most: int = 200, look: int = 3) -> Rising:
        """To the end; every so many steps the load is looked at."""
        for tick in range(most):
            state = self.model.state()
            if self.move is None:
                break
            if tick % look == 0:
                self.move = more(self.move, state, self.needs, None, self.take)
            to_do = {} if merged(state.pod_spec, TEMPLATE) == state.pod_spec else TEMPLATE
            done = advance(self.move, state, to_do, later(self.time), 150)
            if done.patch is not None:
                self.model.apply(done.patch)
            self.move = done.move
            self.steps += [done.move.step] if done.move and done.move.step not in self.steps[-1:] else []
            self.model.step()
            self.time += 5
            old, new = self.model.ready_on("H100"), self.model.ready_on("MI300X")
            self.served.append(old / self.old + new / self.new)
        for _ in range(2 * START_S // 5):
            self.model.step()
        return self

    @property
    def pods(self) -> dict[str, int]:
        return {s.template["nodeSelector"]["gpu"]: len(s.pods) for s in self.model.sets if s.pods}


@pytest.mark.parametrize(("old", "new"), [(8, 2), (8, 7), (5, 1), (3, 3), (2, 8)])
@pytest.mark.parametrize("rise", [1.25, 2.0])
def test_a_move_ends_with_the_replicas_that_the_load_needs_by_then(old: int, new: int, rise: float) -> None:
    done = Rising(old, new, rise, at=10).run()
    needed = math.ceil(rise * new)
    assert done.pods == {"MI300X": needed}
    assert (done.model.replicas, done.model.strategy, done.model.paused) == (needed, STRATEGY, False)
    assert min(done.served) >= 1.0


@pytest.mark.parametrize(("old", "new"), [(8, 2), (8, 7), (3, 3), (2, 8)])
def test_while_the_new_replicas_do_not_come_up_the_old_side_grows_and_stays_grown(old: int, new: int) -> None:
    done = Rising(old, new, 1.5, at=10, able=0).run()
    # It serves as much as is needed long before the move is taken back.
    assert done.served[10] >= 1.5
    assert min(done.served[10:]) >= 1.5
    assert done.pods.keys() == {"H100"}
    assert (done.model.strategy, done.model.paused) == (STRATEGY, False)


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(1.0, 3.0),
    st.integers(0, 60),
    st.integers(0, 12),
    st.integers(0, 12),
    st.sampled_from([0, 1, 1000]),
    st.integers(1, 6),
)
def test_whatever_the_room_growth_takes_nothing_away(
    old: int, new: int, rise: float, at: int, free_old: int, free_new: int, able: int, look: int
) -> None:
    done = Rising(old, new, rise, at, Sides(free_old, free_new), able).run(look=look)
    assert done.move is None
    assert min(done.served) >= 1.0
    assert (done.model.strategy, done.model.paused) == (STRATEGY, False)
    assert len(done.pods) == 1
    [(where, pods)] = done.pods.items()
    assert pods >= (new if where == "MI300X" else old)
    assert pods <= math.ceil(rise * (new if where == "MI300X" else old)) or where == "H100"


# As it is decided.

RATES = {"h100": 60.0, "a100": 20.0}
FEW, MANY = 70.0, 130.0
"""Requests per minute: 4 replicas on an A100 or 2 on an H100, and 7 or 3."""


def moving(**spec: Any) -> ModelFleet:
    """A service that has begun to move from 4 A100 to 2 H100, and whose new replicas exist."""
    state = service(
        "warm", observed=load(FEW), on=deployment("warm", 4, pod_spec=pod_spec("A100")), model="warm", **spec
    )
    fields = {
        "accelerator_profiles": tuple(accelerator(name) for name in RATES),
        "model_profiles": (model("warm", **RATES),),
        "service_classes": (service_class("gold", 1, models=("warm",)),),
        "policy": policy(moves={"bringUpTimeoutSeconds": 60}),
    }
    rates = {name.upper(): rate for name, rate in RATES.items()}
    made = ModelFleet({"A100": 12, "H100": 8}, {"warm": state}, rates, fields)
    for tick in range(3):
        made.tick(full=tick == 0)
    assert made.deployments["warm"].paused
    return made


def loaded(made: ModelFleet, observed: ObservedLoad, ticks: int) -> list[float]:
    """Its load from now on; what it serves of it after each of so many ticks."""
    served = []
    for tick in range(ticks):
        made.services["warm"] = replace(made.services["warm"], load=observed)
        made.tick(full=tick % 3 == 0)
        served.append(made.serves("warm"))
    return served


def test_a_service_in_a_move_grows_with_its_load() -> None:
    made = moving()
    served = loaded(made, load(MANY), 40)
    assert min(served[5:]) >= MANY
    assert made.where("warm") == ("H100", 3)
    assert [r for _, r in made.reasons if r.startswith("Move")] == [
        "MoveStarted",
        "MoveGrown",
        "MoveReady",
        "MoveCompleted",
    ]
    assert not made.pending()


def test_a_service_in_a_move_whose_nodes_are_lost_grows_where_it_is() -> None:
    made = moving()
    made.units = {"A100": 12, "H100": 0}
    served = loaded(made, load(MANY), 60)
    assert min(served) >= FEW
    assert min(served[14:]) >= MANY
    kind, replicas = made.where("warm")
    assert (kind, replicas >= 7) == ("A100", True)
    assert "MoveRolledBack" in [reason for _, reason in made.reasons]
    assert made.deployments["warm"].strategy == STRATEGY


def test_growth_in_a_move_waits_for_the_scale_up_window_and_no_longer() -> None:
    made = moving(behavior=behavior(20, 0))
    made.units = {"A100": 12, "H100": 0}
    loaded(made, load(MANY), 3)
    assert made.deployments["warm"].replicas == 4
    loaded(made, load(MANY), 3)
    assert made.deployments["warm"].replicas > 4


@pytest.mark.parametrize(
    "spec",
    [
        {"maxReplicas": 4},
        {
            "behavior": {
                **behavior(0, 0),
                "scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]},
            }
        },
    ],
)
def test_what_limits_a_scale_up_limits_growth_in_a_move(spec: dict[str, Any]) -> None:
    made = moving(**spec)
    loaded(made, load(MANY), 3)
    assert made.deployments["warm"].replicas == 4


@pytest.mark.parametrize("observed", [UNKNOWN, load(FEW), load(FEW / 4)])
def test_nothing_grows_in_a_move_whose_load_is_unknown_or_has_not_risen(observed: ObservedLoad) -> None:
    made = moving()
    loaded(made, observed, 3)
    assert made.deployments["warm"].replicas == 4
    loaded(made, observed, 20)
    assert made.where("warm")[0] == "H100"
    assert "MoveGrown" not in [reason for _, reason in made.reasons]


def test_without_room_for_both_sides_the_move_ends_as_it_began_and_nothing_waits_for_a_node() -> None:
    made = moving()
    made.units = {"A100": 4, "H100": 2}
    loaded(made, load(MANY), 3)
    assert made.deployments["warm"].replicas == 4
    assert not made.pending()
