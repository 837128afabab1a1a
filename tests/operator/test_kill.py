"""An operator that is killed at any of its writes leaves nothing that the next one does not put right."""

from datetime import timedelta

import pytest

from builders import NOW
from kill_world import outcome, tick, world
from memory_server import KilledError, Server

SCENARIOS = {"scale up": ("l40s", 5.5), "scale down": ("l40s", 1.5), "move": ("mi300x", 3.5)}
TICKS = 4


def undisturbed(name: str) -> tuple[Server, int]:
    """The end, and the writes of the first tick."""
    target, rate = SCENARIOS[name]
    server = world("l40s", 4, target)
    tick(server, NOW, rate)
    first = server.writes
    for number in range(1, TICKS):
        tick(server, NOW + timedelta(seconds=30 * number), rate)
    return server, first


def test_the_scenarios_do_what_they_are_called() -> None:
    ends = {name: outcome(undisturbed(name)[0]) for name in SCENARIOS}
    assert ends["scale up"]["deployment"]["replicas"] == 6
    assert ends["scale down"]["deployment"]["replicas"] == 2
    assert ends["move"]["move"]["step"] == "BringUp"
    assert all(undisturbed(name)[1] >= 6 for name in SCENARIOS)


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_any_write_the_next_one_ends_in_the_same_state(name: str, written: bool) -> None:
    target, rate = SCENARIOS[name]
    whole, first = undisturbed(name)
    for number in range(1, first + 1):
        server = world("l40s", 4, target)
        server.dies_at, server.written = number, written
        with pytest.raises(KilledError):
            tick(server, NOW, rate)
        for later in range(1, TICKS + 1):
            tick(server, NOW + timedelta(seconds=30 * later), rate)
        assert outcome(server) == outcome(whole), f"write {number} of {first}"
