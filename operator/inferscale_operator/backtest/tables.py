"""The figures of a backtest for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferscale_operator.backtest.trial import Trial
from inferscale_operator.backtest.verdict import for_plots
from inferscale_operator.twin import summary
from inferscale_operator.twin.page import page
from inferscale_operator.twin.simulation import Outcome

SHOWN_GAPS = 5
LATENCIES = {"itl": "ITL", "ttft": "TTFT"}


def tables(figures: dict[str, Any]) -> Group:
    """What was, what the policies would have done, and how far they are to be believed."""
    history = figures["history"]
    return Group(
        _services(history),
        *(Text(line) for line in _doubts(history)),
        _agreement(history),
        summary.tables(figures),
        *(Text(line) for line in sentences(figures)),
    )


def report_page(trial: Trial, outcomes: Sequence[Outcome], figures: dict[str, Any]) -> str:
    """The same with plots, as a page of HTML: what was measured beside what was simulated.

    Args:
        trial: What was run.
        outcomes: Of the history and of the policies.
        figures: Theirs.
    """
    measured = {
        service.key: {"itl": profile.itl, "ttft": profile.ttft}
        for service, profile in zip(trial.setting.services, trial.profiles, strict=True)
    }
    shown = [for_plots(outcome, trial.known) for outcome in outcomes]
    return page(trial.setting, shown, figures["scenario"], tables(figures), measured)


def sentences(figures: dict[str, Any]) -> Iterator[str]:
    """What comes of it: of every policy one sentence."""
    base, *others = figures["policies"]
    observed = figures["history"]["sloWindows"]
    # Means tell of no percentile and of no wait.
    seen = "not known of every service" if observed is None else _percent(observed)
    yield (
        f"What was there: {_hours(base)}, cost {base['total']['cost']:.2f}; windows within objectives"
        f" {_percent(base['total']['sloWindows'])} in the twin, as observed {seen}."
    )
    for each in others:
        total = each["total"]
        worse, better = total["sloWindowsRange"]
        ratio = total["costRatio"]
        share = "" if ratio is None else f" ({100 * ratio:.0f} % of it)"
        yield (
            f"{each['policy']} would have used {_hours(each)}, cost {total['cost']:.2f}{share}; windows"
            f" within objectives {_percent(total['sloWindows'])}, and {_percent(worse)} to {_percent(better)}"
            " were latencies as far from the prediction as in a tenth of the steps."
        )


def _services(history: dict[str, Any]) -> Table:
    begin, end = (datetime.fromisoformat(history[name]) for name in ("from", "to"))
    table = Table(
        title=f"What was: {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, steps of {history['step']} s",
        title_justify="left",
    )
    table.add_column("Service", no_wrap=True)
    for column in ("Known", "Partial", "Gaps", "Requests/min", "Most", "Input", "Output", "Replicas"):
        table.add_column(column, justify="right")
    table.add_column("Accelerator", no_wrap=True)
    table.add_column("SLO windows observed", justify="right")
    for each in history["services"]:
        table.add_row(
            each["service"],
            _percent(each["known"]),
            _percent(each["partial"]),
            str(len(each["gaps"])),
            _number(each["rate"]["mean"], 1),
            _number(each["rate"]["most"], 1),
            _number(each["inputTokens"], 0),
            _number(each["outputTokens"], 0),
            _number(each["replicas"]["mean"], 2),
            each["accelerator"],
            _percent(each["sloWindows"]),
        )
    return table


def _doubts(history: dict[str, Any]) -> Iterator[str]:
    for each in history["services"]:
        for gap in each["gaps"][:SHOWN_GAPS]:
            begin, end = (f"{datetime.fromisoformat(gap[name]):%Y-%m-%d %H:%M:%S}" for name in ("from", "to"))
            yield f"Gap: {each['service']}: {begin} to {end}: {gap['why']}"
        if len(each["gaps"]) > SHOWN_GAPS:
            yield f"Gap: {each['service']}: and {len(each['gaps']) - SHOWN_GAPS} more (-o json has all)"
        for note in each["notes"]:
            yield f"{each['service']}: {note}"
    for line in history["leftOut"]:
        yield f"Left out: {line}"


def _agreement(history: dict[str, Any]) -> Table:
    table = Table(
        title="Predicted against observed latency, with the replicas that were there",
        title_justify="left",
        caption="Bias: mean of predicted minus observed. Error: mean of its absolute value.",
        caption_justify="left",
    )
    table.add_column("Service", no_wrap=True)
    table.add_column("Latency", no_wrap=True)
    for column in (
        "Steps",
        "Observed ms",
        "Predicted ms",
        "Bias",
        "Error",
        "Observed/predicted, 8 of 10 steps",
    ):
        table.add_column(column, justify="right")
    for each in history["services"]:
        for name, shown in LATENCIES.items():
            found = each["latency"][name]
            if found is None:
                table.add_row(each["service"], shown, "0", *("-" for _ in range(5)))
                continue
            table.add_row(
                each["service"],
                shown,
                str(found["steps"]),
                _number(found["observed"], 1),
                _number(found["predicted"], 1),
                f"{100 * found['bias'] / found['observed']:+.1f} %",
                f"{100 * found['error'] / found['observed']:.1f} %",
                f"{found['low']:.2f} to {found['high']:.2f}",
            )
    return table


def _hours(policy: dict[str, Any]) -> str:
    found = policy["total"]["acceleratorHours"]
    return ", ".join(f"{hours:.1f} {kind} h" for kind, hours in found.items()) or "nothing"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
