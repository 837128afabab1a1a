"""Plots of latency against load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import inferscale_queueing as queueing
from inferscale_operator.commands.cases import (
    MS_PER_MINUTE,
    Answer,
    Case,
    latency_of,
    queue_limits,
    targets_of,
    variability_of,
)
from inferscale_operator.errors import UsageError

MOST_CASES = 12
_POINTS = 200
# A wait near the limit would flatten everything that matters.
_HEADROOM = 3.0


def plot(answers: Sequence[Answer], path: Path) -> None:
    """Draw ITL, TTFT and wait of every readable case against its load, with targets and λ*.

    Raises:
        UsageError: no matplotlib, nothing or too much to draw, or a file that cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("plots need matplotlib: pip install 'inferscale[plot]'") from error
    drawn = [
        (known, known.case) for known in answers if known.case is not None and known.max_rate is not None
    ]
    if not 0 < len(drawn) <= MOST_CASES:
        raise UsageError(f"--plot: there are {len(drawn)} cases to draw; give 1 to {MOST_CASES}")
    figure = Figure(figsize=(13, 3.6 * len(drawn)), layout="constrained")
    axes = figure.subplots(len(drawn), 3, squeeze=False)
    for row, (known, case) in zip(axes, drawn, strict=True):
        _draw(row, known, case)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UsageError(f"--plot {path} cannot be written: {error}") from error


def _draw(axes: Any, known: Answer, case: Case) -> None:
    max_rate = known.max_rate or 0.0
    rates = np.linspace(0, max_rate, _POINTS + 1)[1:]
    alike = [case] * rates.size
    latency, variability = latency_of(alike), variability_of(alike)
    limits = queue_limits(alike)
    analysis = queueing.analyze(
        latency, case.max_batch, rates / MS_PER_MINUTE, queue_limit=limits, variability=variability
    )
    wait, kind = analysis.wait, "mean"
    if case.percentile is not None and case.slo_rule != "mean":
        kind = f"P{100 * case.percentile:g}"
        wait = queueing.wait_quantile(
            latency,
            case.max_batch,
            rates / MS_PER_MINUTE,
            targets_of(alike).percentile,
            rule=case.slo_rule,
            queue_limit=limits,
            variability=variability,
        )
    curves = (
        ("ITL, mean", analysis.itl, case.itl),
        (f"TTFT, {kind}", wait + analysis.prefill, case.ttft),
        (f"wait, {kind}", wait, case.ttw),
    )
    for axis, (title, values, target) in zip(axes, curves, strict=True):
        axis.plot(rates, values)
        if target is not None:
            axis.axhline(target, color="tab:red", linestyle="--", label=f"target {target:g} ms")
        if known.sized is not None:
            axis.axvline(known.sized.rate, color="tab:green", label=f"λ* {known.sized.rate:.4g}/min")
        if case.arrival_rate is not None and case.arrival_rate <= max_rate:
            axis.axvline(case.arrival_rate, color="grey", linestyle=":", label=f"{case.arrival_rate:g}/min")
        at_90 = float(values[int(0.9 * _POINTS)])
        axis.set_ylim(0, _HEADROOM * max(target or at_90 / 2, float(values[0])) or 1.0)
        axis.set(title=title, xlabel="requests/min of one replica", ylabel="ms")
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
    axes[0].set_ylim(0, 1.1 * max(float(analysis.itl[-1]), case.itl or 0.0))
    axes[0].set_title(f"{known.name or 'case'}: {curves[0][0]}")
