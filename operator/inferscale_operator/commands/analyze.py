"""`inferscale analyze`: latency of one replica at a rate, and the largest rate within its targets."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import click
from rich.console import Console
from rich.table import Table

from inferscale_operator.commands.cases import Answer, answer, as_json, read_cases
from inferscale_operator.commands.plot import plot
from inferscale_operator.errors import UsageError

BAD_INPUT = 2
PIPED_WIDTH = 160


@click.command()
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Form."
)
@click.option(
    "--plot",
    "picture",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Draw ITL, TTFT and wait against load, with targets and λ*; needs inferscale[plot].",
)
def analyze(file: TextIO, output: str, picture: Path | None) -> None:
    """Analyse one replica of every case in FILE (- is standard input), a JSON list.

    A case: name, latencyModel (decode-only or prefill-decode), alpha, beta, gamma, delta, maxBatch, maxQueue
    (none: unbounded), inTokens, outTokens, arrivalRate (per minute), the targets itl, ttft, ttw, tps with
    percentile (none: means) and sloRule (exact, exponential or mean), arrivalCOV, serviceCOV.

    Rates are per minute, times in ms. Exits with 2 when a case is not valid; the others are answered.
    """
    try:
        text = file.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file.name} is not UTF-8: {error}") from error
    answers = answer(read_cases(text))
    if output == "json":
        click.echo(json.dumps([as_json(known) for known in answers], indent=2, ensure_ascii=False))
    else:
        Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPED_WIDTH).print(
            table(answers)
        )
    if picture is not None:
        plot(answers, picture)
    for known in answers:
        if known.error is not None:
            click.echo(f"inferscale: {known.error}", err=True)
    if any(known.case is None for known in answers):
        sys.exit(BAD_INPUT)


def table(answers: Sequence[Answer]) -> Table:
    """A row per case: the figures at its rate, then what its targets allow and leave over."""
    result = Table(caption="Rates per minute, times in ms; slack: what each target leaves at λ*")
    result.add_column("Case")
    for column in ("Rate", "Util.", "In batch", "Queue", "ITL", "Prefill", "Wait", "P95", "TTFT"):
        result.add_column(column, justify="right")
    for column in ("λ*", "λ max"):
        result.add_column(column, justify="right")
    result.add_column("Binds")
    result.add_column("Slack")
    for known in answers:
        result.add_row(known.name or known.label, *_cells(known))
    return result


def _cells(known: Answer) -> list[str]:
    case, sized, figures = known.case, known.sized, known.figures or {}
    names = ("utilization", "avgNumInService", "avgNumInQueue", "itl", "prefill", "avgWaitTime")
    slack = sized.slack if sized else {}
    return [
        _number(case.arrival_rate if case else None),
        *(_number(figures.get(name)) for name in names),
        _number((known.wait_quantiles or {}).get("0.95")),
        _number(figures.get("ttft")),
        _number(sized.rate if sized else None),
        _number(known.max_rate),
        ("-" if sized is None else sized.binding or "none"),
        ", ".join(f"{name} {value:.0%}" for name, value in slack.items()) or "-",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"
