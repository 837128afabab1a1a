"""An operator that is killed at any write of a whole move: the next one ends it, and nothing is lost.

On an API server in memory, with the digital twin's controllers, whose pods take 20 s to become ready.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from builders import NOW
from inferscale_operator.kube import kinds
from kill_world import outcome, tick, world
from loop_objects import HARDWARE, rate_per_replica
from memory_server import Controllers, KilledError, Server

STEP_S, TICK_S, END_S = 5, 30, 120
TIMEOUT_S = 40
CHAT = ("team", "chat")


def delete(server: Server) -> None:
    """The owner deletes the service; Kubernetes then deletes what it owned."""
    server.release(kinds.INFERENCE_SERVICE, CHAT)
    server.release(kinds.INFERENCE_ALLOCATION, CHAT)


def pause(server: Server) -> None:
    """The owner sets the mode to Paused."""
    [service] = server.stored[kinds.INFERENCE_SERVICE].values()
    service["spec"] = {**service["spec"], "mode": "Paused"}
    service["metadata"] = {**service["metadata"], "resourceVersion": str(next(server.versions))}


@dataclass(frozen=True)
class Scenario:
    """A move, what happens in it, and where it ends."""

    source: tuple[str, int]
    target: str
    rate: float
    """Replicas of an L40S that the load needs."""
    end: tuple[str, int]
    able: int = 1000
    """New pods that become ready."""
    event: Callable[[Server], None] | None = None
    """What happens in it,"""
    during: str = "BringUp"
    """in this step: of BringUp when the new pods are there."""


FEWER = Scenario(("l40s", 4), "mi300x", 3.5, ("mi300x", 1))
MORE = Scenario(("h100", 1), "l40s", 1.5, ("l40s", 2))
SCENARIOS = {
    "fewer": FEWER,
    "more": MORE,
    "fewer that do not come up": Scenario(("l40s", 4), "mi300x", 3.5, ("l40s", 4), able=0),
    "more that do not come up": Scenario(("h100", 1), "l40s", 1.5, ("h100", 1), able=0),
    "deleted while it brings up": Scenario(("l40s", 4), "mi300x", 3.5, ("l40s", 4), event=delete),
    "deleted while it hands over": Scenario(
        ("l40s", 4), "mi300x", 3.5, ("mi300x", 1), event=delete, during="HandOver"
    ),
    "paused": Scenario(("l40s", 4), "mi300x", 3.5, ("mi300x", 1), event=pause),
}


class Play:
    """A move from its first tick to long after its end; the operator may die at one of its writes."""

    def __init__(self, scenario: Scenario, dies_at: int | None = None, *, written: bool = False) -> None:
        (accelerator, replicas), target = scenario.source, scenario.target
        self.server = world(
            accelerator, replicas, target, moves={"bringUpTimeoutSeconds": TIMEOUT_S, "startupSeconds": 20}
        )
        self.server.dies_at, self.server.written = dies_at, written
        selector = HARDWARE[target].selector.items()
        self.controllers = Controllers(
            self.server,
            lambda template: scenario.able if selector <= template["nodeSelector"].items() else 1000,
        )
        self.scenario, self.killed, self._starts = scenario, False, False
        self.steps: list[str] = []
        """Steps of the move on record."""
        coming = [scenario.event] if scenario.event is not None else []
        for time in range(0, END_S, STEP_S):
            self._operate(time)
            step = self._step()
            self.steps += [step] if step not in self.steps[-1:] else []
            if coming and step == scenario.during and (self._paused or step != "BringUp"):
                coming.pop()(self.server)
            self.controllers.run(STEP_S)
            assert self.serves() >= scenario.rate, time

    def _step(self) -> str:
        records = self.server.stored.get(kinds.INFERENCE_ALLOCATION, {}).values()
        return next((each.get("status", {}).get("move", {}).get("step", "") for each in records), "")

    @property
    def _paused(self) -> bool:
        return bool(self.server.deployment["spec"].get("paused"))

    def _operate(self, time: int) -> None:
        now = NOW + timedelta(seconds=time)
        # One that has just been started begins with a whole tick.
        full, self._starts = time % TICK_S == 0 or self._starts, False
        try:
            tick(self.server, now, self.scenario.rate, full=full)
        except KilledError:
            self.killed = self._starts = True

    def serves(self) -> float:
        """Of the load of one L40S, what the ready pods serve within the objectives."""
        return sum(
            self.controllers.ready(HARDWARE[name]) * rate_per_replica(name) / rate_per_replica("l40s")
            for name in (self.scenario.source[0], self.scenario.target)
        )

    def end(self) -> dict[str, Any]:
        """Where it ended."""
        return outcome(self.server)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_move_ends_where_it_should_with_the_strategy_of_its_owner(name: str) -> None:
    scenario, play = SCENARIOS[name], Play(SCENARIOS[name])
    accelerator, replicas = scenario.end
    spec = play.server.deployment["spec"]
    assert (play.controllers.ready(HARDWARE[accelerator]), play.serves()) == (
        replicas,
        pytest.approx(replicas * rate_per_replica(accelerator) / rate_per_replica("l40s")),
    )
    assert (spec["replicas"], spec["strategy"], spec.get("paused", False)) == (
        replicas,
        {"type": "RollingUpdate"},
        False,
    )
    back = accelerator == scenario.source[0]
    assert ("RollBack" in play.steps) is back
    assert ("HandOver" in play.steps) is (not back and scenario.source[1] > replicas)
    left = play.server.stored[kinds.INFERENCE_ALLOCATION].values()
    assert bool(left) is (scenario.event is not delete)
    assert all(not each["metadata"].get("finalizers") and not each["status"].get("move") for each in left)


def killed_at_every_write(scenario: Scenario, *, written: bool) -> None:
    whole = Play(scenario)
    number, end = 0, whole.end()
    while True:
        number += 1
        play = Play(scenario, number, written=written)
        if not play.killed:
            break
        assert play.end() == end, f"write {number}"
    assert number > 12


@pytest.mark.slow
@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", ["fewer", "deleted while it brings up"])
def test_killed_at_any_write_of_a_move_the_next_one_ends_in_the_same_state(name: str, written: bool) -> None:
    killed_at_every_write(SCENARIOS[name], written=written)


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - {"fewer", "deleted while it brings up"}))
def test_killed_at_any_write_the_next_one_ends_in_the_same_state_whatever_happens_to_the_move(
    name: str, written: bool
) -> None:
    killed_at_every_write(SCENARIOS[name], written=written)
