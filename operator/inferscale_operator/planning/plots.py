"""Plots of plans, with matplotlib where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inferscale_operator.errors import UsageError
from inferscale_operator.planning.frontier import Point
from inferscale_operator.planning.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 120


def plot_plan(report: Report, folder: Path) -> tuple[Path, ...]:
    """Draw the cost by model and class, and the units by type against the capacity.

    Args:
        report: The plan.
        folder: Where the files go; made where it is missing.

    Returns:
        The files.

    Raises:
        UsageError: matplotlib is missing, or the folder cannot be written.
    """
    models = sorted({line.model for line in report.lines})
    classes = list(dict.fromkeys(line.service_class for line in report.lines))

    def cost(axes: Axes) -> None:
        bottom = [0.0] * len(models)
        for name in classes:
            heights = [
                sum(line.cost for line in report.lines if line.model == model and line.service_class == name)
                for model in models
            ]
            axes.bar(models, heights, bottom=bottom, label=name)
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
        axes.set_ylim(0, 1.1 * max([*bottom, 1.0]))
        axes.set_ylabel("cost per hour")
        axes.set_title(f"Cost by model and class: {report.total_cost:,.0f}/h")
        axes.tick_params(axis="x", rotation=45)
        if classes:
            axes.legend()

    def capacity(axes: Axes) -> None:
        kinds = list(report.types)
        available = [total.available or 0 for total in report.types.values()]
        axes.bar(kinds, available, color="lightgrey", label="available")
        axes.bar(kinds, [total.used for total in report.types.values()], width=0.5, label="used")
        axes.set_ylabel("units")
        axes.set_title("Units by type")
        axes.tick_params(axis="x", rotation=45)
        axes.legend()

    return _draw(folder, {"cost": cost, "capacity": capacity})


def plot_frontier(points: Sequence[Point], folder: Path) -> tuple[Path, ...]:
    """Draw the cost, and the servers served, against the scale of the ITL targets; see `plot_plan`."""

    def frontier(axes: Axes) -> None:
        scales = [point.scale for point in points]
        costs = [point.plan.total_cost for point in points]
        whole = [point.plan.served == len(point.plan.lines) for point in points]
        full = [index for index, all_served in enumerate(whole) if all_served]
        axes.plot([scales[i] for i in full], [costs[i] for i in full], marker="o", label="all served")
        part = [index for index, all_served in enumerate(whole) if not all_served]
        if part:
            axes.plot([scales[i] for i in part], [costs[i] for i in part], "x", label="best effort for some")
            axes.legend()
        axes.set_xscale("log")
        axes.set_xticks(scales, [f"{scale:g}" for scale in scales], minor=False, fontsize=7)
        axes.minorticks_off()
        axes.set_xlabel("ITL targets times")
        axes.set_ylabel("cost per hour")
        axes.set_ylim(0, 1.1 * max([*costs, 1.0]))
        for point in points:
            missing = len(point.plan.lines) - point.plan.served
            if missing:
                where = (point.scale, point.plan.total_cost)
                axes.annotate(
                    f"{missing} unserved", where, fontsize=7, xytext=(0, 6), textcoords="offset points"
                )
        axes.set_title("Cost against ITL targets")

    return _draw(folder, {"frontier": frontier})


def _draw(folder: Path, pictures: dict[str, Callable[[Axes], None]]) -> tuple[Path, ...]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("--plot: matplotlib is missing: pip install inferscale[plot]") from error
    files = []
    for name, draw in pictures.items():
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        draw(figure.subplots())
        file = folder / f"{name}.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Without the program's version in it, the same plan draws the same bytes.
            figure.savefig(file, dpi=_DPI, metadata={"Software": None})
        except OSError as error:
            raise UsageError(
                f"--plot {folder}: {error.strerror}: give a folder that can be written"
            ) from error
        files.append(file)
    return tuple(files)
