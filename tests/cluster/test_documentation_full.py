"""Every other command of the documentation that can be run, while the service of the quick start is there."""

from __future__ import annotations

import pytest

from documentation_play import of, running, wrong
from transcript.pages import AFTER, AMID, AMID_HEADING, QUICKSTART
from transcript.play import play
from transcript.world import ROOT


@pytest.mark.full
def test_every_command_ends_well(tmp_path_factory: pytest.TempPathFactory) -> None:
    middle = (ROOT / QUICKSTART).read_text(encoding="utf-8").index(AMID_HEADING)
    page = of(QUICKSTART)
    first, last = ([b for b in page if (b.start < middle) is before] for before in (True, False))
    with running(tmp_path_factory.mktemp("documentation") / "world") as world:
        played = list(play(world, [*first, *of(*AMID), *last, *of(*AFTER)]))
    assert not wrong(played), wrong(played)
