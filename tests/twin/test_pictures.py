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


@pytest.mark.slow
def test_loads_that_change_are_drawn_beside_each_other(tmp_path: Path) -> None:
    strict = service("code", on="a100", spec={"serviceClass": "premium"})
    runs = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        world = setting(folder, strict, duration=120)
        done = simulate(world, parse_policy("inferscale"), mode=ServerMode.MEAN_VALUE)
        runs.append((world, [done]))
    twinpictures.draw_dynamic(tmp_path / "two.png", runs)
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")


def test_every_picture_is_in_the_page() -> None:
    page = (twinpictures.ROOT / "docs" / "twin.md").read_text(encoding="utf-8")
    for name, (scenario, _) in twinpictures.PICTURES.items():
        assert f"(images/{name})" in page
        assert (twinpictures.SCENARIOS / scenario).exists()
    name, scenarios = twinpictures.DYNAMIC
    assert f"(images/{name})" in page
    assert all(f"scenarios/{scenario}" in page for scenario in scenarios)
