"""The drawn pictures of `docs/twin.md`: scenarios under several policies, from the figures of the simulation.

python hack/twinpictures.py

Pictures of reports are of the pages themselves, taken with a browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from inferscale_operator.twin.resources import Setting, read_scenario
from inferscale_operator.twin.simulation import Outcome, ServerMode, parse_policy, simulate
from inferscale_operator.twin.traffic import Traffic

ROOT = Path(__file__).parents[1]
SCENARIOS = ROOT / "docs" / "examples" / "scenarios"
IMAGES = ROOT / "docs" / "images"
LABELS = {"static": "off (static)", "inferscale": "on (inferscale)"}
COLORS = ("#7f7f7f", "#0072b2", "#d55e00")
PICTURES = {
    "twin-five-models.png": ("five-models.yaml", ("static", "inferscale")),
    "twin-steps.png": ("hard/steps.yaml", ("static", "inferscale", "hpa-running:target=12")),
}
DYNAMIC = ("twin-dynamic.png", ("dynamic-unlimited.yaml", "dynamic-limited.yaml"))
CLASS_COLORS = {"premium": "#0072b2", "bronze": "#e69f00", "free": "#009e73"}
TYPE_COLORS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#999999",
    "#6b5b95",
    "#444444",
)
DPI = 110


def draw_dynamic(path: Path, runs: Sequence[tuple[Setting, Sequence[Outcome]]]) -> None:
    """Draw rates and lengths by service, units by type and cost over time, a column for each run."""
    figure = Figure(figsize=(11, 9.5), layout="constrained")
    grid = figure.subplots(4, len(runs), sharex=True, sharey="row", squeeze=False)
    for column, (setting, outcomes) in enumerate(runs):
        rates, lengths, units, cost = grid[:, column]
        minutes = np.arange(0.0, setting.scenario.duration + 1, 60) / 60
        for service in setting.services:
            traffic = Traffic(
                service.scenario, setting.path.parent, setting.scenario.duration, 0, drawn=False
            )
            look = {"color": CLASS_COLORS[service.spec.service_class], "linewidth": 0.9}
            rates.plot(minutes, traffic.rate(minutes * 60) * 60, **look)
            lengths.plot(minutes, traffic.lengths(minutes * 60)[1], **look)
        _units(units, setting, outcomes[-1])
        for outcome, color in zip(outcomes, COLORS, strict=False):
            ledger = outcome.ledger
            ends = (np.arange(ledger.count) + 1) * ledger.window_s / 60
            per_hour = ledger.cost.sum(axis=0) * 3600 / ledger.window_s
            cost.step(ends, per_hour, color=color, label=LABELS.get(outcome.policy, outcome.policy))
        rates.set_title(setting.scenario.name, loc="left")
        cost.set_xlabel("minutes")
        _above(units)
        _above(cost)
    for name, color in CLASS_COLORS.items():
        grid[0, 0].plot([], [], color=color, label=name)
    grid[0, 0].legend(loc="upper left", frameon=False, fontsize=8)
    for axes in grid[:2, 0]:
        axes.set_ylim(0, 1.05 * axes.dataLim.ymax)
    grid[3, 0].set_ylim(0, 1.05 * max(axes.dataLim.ymax for axes in grid[3]))
    names = ("requests/min\nof a service", "output tokens\nof a request", "units asked for", "cost per hour")
    for axes, name in zip(grid[:, 0], names, strict=True):
        axes.set_ylabel(name)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def _units(axes: Axes, setting: Setting, outcome: Outcome) -> None:
    """Stacked by type, of what is asked for."""
    at_s = np.arange(0.0, setting.scenario.duration + 1, 60)
    held: dict[str, np.ndarray] = {}
    for service, changes in zip(setting.services, outcome.replicas, strict=True):
        found = np.searchsorted([change[0] for change in changes], at_s, side="right") - 1
        for number, (_, replicas, accelerator) in enumerate(changes):
            profile = setting.accelerators[accelerator]
            units = replicas * profile.multiplicity * service.performances[accelerator].acc_count
            held[profile.type] = held.get(profile.type, np.zeros(at_s.size)) + units * (found == number)
    kinds = sorted(held, key=lambda kind: -float(held[kind].max()))
    known = sorted({profile.type for profile in setting.accelerators.values()})
    colors = [TYPE_COLORS[known.index(kind)] for kind in kinds]
    axes.stackplot(at_s / 60, [held[kind] for kind in kinds], labels=kinds, colors=colors, step="post")


def _above(axes: Axes) -> None:
    """The legend where no line is."""
    count = len(axes.get_legend_handles_labels()[0])
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=count, frameon=False, fontsize=8)


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
        axes[1 + number].set_ylim(0, 1.1 * axes[1 + number].dataLim.ymax)
    axes[0].set_ylabel("cost per hour", rotation=0, ha="right")
    axes[0].set_ylim(0, 1.1 * axes[0].dataLim.ymax)
    axes[0].set_title(setting.scenario.name or path.stem, loc="left")
    _above(axes[0])
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
    name, scenarios = DYNAMIC
    runs = []
    for scenario in scenarios:
        setting = read_scenario(SCENARIOS / scenario)
        policies = [parse_policy(policy) for policy in ("static", "inferscale")]
        outcomes = [simulate(setting, policy, mode=ServerMode.MEAN_VALUE) for policy in policies]
        runs.append((setting, outcomes))
    draw_dynamic(IMAGES / name, runs)


if __name__ == "__main__":
    main()
