"""A scenario on the local cluster, and what its simulation says of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from demo import agreement, scenario, summary
from demo.world import World
from inferscale_operator.snapshot import load_snapshot
from inferscale_operator.twin.resources import Setting, read_scenario
from inferscale_operator.twin.simulation import parse_policy, simulate


@dataclass(frozen=True)
class Chosen:
    """The scenario of a run, and where its decisions are kept.

    Attributes:
        setting: The scenario.
        seed: Of its requests.
        folder: For `agreement.json` and what both runs decided.
    """

    setting: Setting
    seed: int
    folder: Path

    @property
    def live(self) -> Path:
        """Folder for the snapshots and plans of the live run."""
        return self.folder / "live"

    @property
    def twin(self) -> Path:
        """Folder for those of the simulation."""
        return self.folder / "twin"


def chosen(path: Path | None, seed: int | None, folder: Path | None) -> Chosen | None:
    """Read the scenario of a run, if one is asked for.

    Args:
        path: File of the scenario.
        seed: Instead of the scenario's.
        folder: For what both runs decided; None: below build/demo.

    Raises:
        UsageError: the scenario is wrong, or cannot be shown live.
    """
    if path is None:
        return None
    setting = read_scenario(path)
    scenario.check(setting)
    folder = (folder if folder is not None else Path("build", "demo", path.stem)).resolve()
    return Chosen(setting, setting.scenario.seed if seed is None else seed, folder)


def sum_up(console: Console, say: Callable[[str], None], run: Chosen, world: World) -> int:
    """Print what each class got; simulate the same, and print how far both agree; 0 if in enough ticks.

    Args:
        console: Where.
        say: Is told what is going on.
        run: What ran.
        world: Where it ran.
    """
    tick_s, duration_s = float(run.setting.policy.tick_seconds), run.setting.scenario.duration
    begin = world.started_at
    measured = summary.Measured(world.prometheus_url, begin, begin + duration_s)
    console.print()
    console.print(summary.attainment_table(measured.attainment(scenario.objectives(run.setting))))
    console.print()
    say("simulating the same scenario with the same seed")
    shutil.rmtree(run.twin, ignore_errors=True)
    simulate(run.setting, parse_policy("inferscale"), seed=run.seed, record=run.twin)
    files = [
        agreement.tick_files(folder, start, tick_s, duration_s)
        for folder, start in ((run.live, datetime.fromtimestamp(begin, UTC)), (run.twin, run.setting.start))
    ]
    live, twin = (agreement.read_ticks(each) for each in files)

    def swapped(number: int) -> dict[str, agreement.Choice]:
        return agreement.with_load_of(*(load_snapshot(each[number].read_bytes()) for each in files))

    found = agreement.compare(live, twin, swapped)
    (run.folder / "agreement.json").write_text(json.dumps(agreement.document(found), indent=1) + "\n")
    say(f"the decisions of both, and agreement.json, are in {run.folder}")
    console.print()
    console.print(agreement.table(found, live, twin))
    if found.differences:
        console.print()
        console.print(agreement.explanation(found.differences, tick_s))
    console.print()
    unexplained = sum(each.cause is agreement.Cause.OTHER for each in found.differences)
    share, least = f"{found.share:.0%}", f"{agreement.ENOUGH:.0%}"
    promised = {
        f"a decision every {tick_s:g} s: {len(live)} of {len(twin)}": len(live) >= len(twin),
        f"the same allocations in {found.equal} of {found.ticks} ticks ({share}; {least} are promised)": (
            found.share >= agreement.ENOUGH
        ),
        f"differences that nothing explains: {unexplained}": not unexplained,
    }
    for what, held in promised.items():
        console.print(f"  {'[green]✓[/]' if held else '[red]✗[/]'} {what}")
    return 0 if all(promised.values()) else 1
