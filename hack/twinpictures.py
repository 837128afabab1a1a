"""The pictures of `docs/twin.md`: scenarios under several policies, from the figures of the simulation.

python hack/twinpictures.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from inferscale_operator.twin.resources import Setting, read_scenario
from inferscale_operator.twin.simulation import Outcome, ServerMode, parse_policy, simulate

ROOT = Path(__file__).parents[1]
SCENARIOS = ROOT / "docs" / "examples" / "scenarios"
IMAGES = ROOT / "docs" / "images"
LABELS = {"static": "off (static)", "inferscale": "on (inferscale)"}
COLORS = ("#6b7280", "#2563eb", "#d97706")
PICTURES = {
    "twin-five-models.png": ("five-models.yaml", ("static", "inferscale")),
    "twin-steps.png": ("hard/steps.yaml", ("static", "inferscale", "hpa-running:target=12")),
}
DPI = 110


def draw(path: Path, setting: Setting, outcomes: Sequence[Outcome]) -> None:
    """Draw cost, replicas that are ready and needed, and what is within the objectives, over time."""
    minutes = (np.arange(outcomes[0].ledger.count) + 1) * setting.scenario.window / 60
    count = len(setting.services)
    figure = Figure(figsize=(9, 2.2 + 1.5 * (count + 1)), layout="constrained")
    axes = figure.subplots(count + 2, 1, sharex=True)
    for outcome, color in zip(outcomes, COLORS, strict=False):
        ledger = outcome.ledger
        label = LABELS.get(outcome.policy, outcome.policy)
        axes[0].step(minutes, ledger.cost.sum(axis=0) * 3600 / ledger.window_s, color=color, label=label)
        kept = np.array([ledger.all_kept(number) for number in range(count)])
        axes[-1].step(minutes, 100 * np.nanmean(kept, axis=0), color=color)
        for number in range(count):
            axes[1 + number].step(minutes, ledger.ready_s[number] / ledger.window_s, color=color)
    needed = np.array(outcomes[0].needed)
    for number, service in enumerate(setting.services):
        _need(axes[1 + number], minutes, needed[number], outcomes)
        axes[1 + number].set_ylabel(service.resource.name, rotation=0, ha="right")
        axes[1 + number].set_ylim(bottom=0)
    axes[0].set_ylabel("cost per hour", rotation=0, ha="right")
    axes[0].set_ylim(bottom=0)
    axes[0].set_title(setting.scenario.name or path.stem, loc="left")
    axes[0].legend(loc="upper right", ncols=len(outcomes), frameon=False)
    axes[-1].set_ylabel("services within\nobjectives, %", rotation=0, ha="right")
    axes[-1].set_ylim(-5, 105)
    axes[-1].set_xlabel("minutes; in between: replicas that are ready, by service (dotted: needed)")
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def _need(axes: Axes, minutes: np.ndarray, needed: np.ndarray, outcomes: Sequence[Outcome]) -> None:
    """Replicas that the load needs, where every policy stays on one accelerator: elsewhere they differ."""
    kinds = {change[2] for outcome in outcomes for service in outcome.replicas for change in service}
    if len(kinds) == 1:
        axes.step(minutes, needed, color="#111111", linestyle=":", linewidth=1)


def main() -> None:
    """Draw all of them."""
    for name, (scenario, policies) in PICTURES.items():
        setting = read_scenario(SCENARIOS / scenario)
        mode = ServerMode.MEAN_VALUE if name == "twin-five-models.png" else ServerMode.EVENTS
        outcomes = [simulate(setting, parse_policy(policy), mode=mode) for policy in policies]
        draw(IMAGES / name, setting, outcomes)


if __name__ == "__main__":
    main()
