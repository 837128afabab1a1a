"""The simulation of a scenario against a live run of it: the same requests, the real operator."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.agreement import Cause

# The cluster of the session only says whether there can be one here: the demo brings its own nodes.
pytestmark = [pytest.mark.full, pytest.mark.usefixtures("cluster")]

ROOT = Path(__file__).parents[2]
SECONDS = 150


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What `make demo SCENARIO=…` prints of the deck's models at half the length, and its agreement.json."""
    folder = tmp_path_factory.mktemp("agreement")
    scenario = yaml.safe_load((ROOT / "docs/examples/scenarios/deck-small.yaml").read_text())
    (folder / "deck.yaml").write_text(yaml.safe_dump(scenario | {"duration": SECONDS}))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "demo", "--name", f"agreement-{os.getpid()}"),
            *("--scenario", str(folder / "deck.yaml"), "--record", str(folder / "records")),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT / "hack")},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    said = done.stdout + done.stderr
    assert (folder / "records" / "agreement.json").exists(), said
    return said, json.loads((folder / "records" / "agreement.json").read_text())


def test_the_simulation_decides_as_the_live_run_does(run: tuple[str, dict[str, Any]]) -> None:
    said, found = run
    # All changes come in the first minute, so half the run may have twice the share of differences.
    assert found["share"] >= 0.8, said
    assert min(found["services"].values()) >= 0.8 * found["ticks"], said


def test_every_difference_has_a_reason(run: tuple[str, dict[str, Any]]) -> None:
    said, found = run
    assert {each["cause"] for each in found["differences"]} <= set(Cause) - {Cause.OTHER}, said


def test_the_run_prints_what_happened_and_how_far_both_agree(run: tuple[str, dict[str, Any]]) -> None:
    said, found = run
    assert "bringing up" in said
    assert f"the same allocations in {found['equal']} of {found['ticks']} ticks" in said
