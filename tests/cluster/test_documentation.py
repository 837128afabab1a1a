"""The quick start, typed on a cluster as a newcomer types it."""

from __future__ import annotations

import pytest

from documentation_play import of, running, wrong
from transcript.pages import QUICKSTART
from transcript.play import Played, play, skeleton


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> list[Played]:
    with running(tmp_path_factory.mktemp("documentation") / "world") as world:
        return list(play(world, of(QUICKSTART)))


def test_every_command_ends_well(quickstart: list[Played]) -> None:
    assert not wrong(quickstart), wrong(quickstart)


def test_what_the_page_shows_is_what_is_seen(quickstart: list[Played]) -> None:
    assert len(quickstart) > 20
    for one in quickstart:
        assert one.command.output, f"{one.command.text}: `make transcript` puts its output into the page"
        # Its tables follow the load.
        if not one.command.text.startswith("inferscale"):
            assert skeleton(one.command.output) - {"…"} <= skeleton(one.output), one.command.text
