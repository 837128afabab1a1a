from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

import twinpictures
from inferscale_operator.twin.simulation import ServerMode, parse_policy, simulate
from twin_builders import service, setting


@pytest.mark.slow
def test_a_picture_is_drawn(tmp_path: Path) -> None:
    world = setting(tmp_path, service(), service("code", on="a100"), duration=120)
    policies = ("static", "inferscale")
    outcomes = [simulate(world, parse_policy(policy), mode=ServerMode.MEAN_VALUE) for policy in policies]
    twinpictures.draw(tmp_path / "one.png", world, outcomes)
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_every_picture_is_in_the_page() -> None:
    page = (twinpictures.ROOT / "docs" / "twin.md").read_text(encoding="utf-8")
    for name, (scenario, _) in twinpictures.PICTURES.items():
        assert f"(images/{name})" in page
        assert (twinpictures.SCENARIOS / scenario).exists()
