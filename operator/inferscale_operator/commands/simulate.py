"""`inferscale simulate`: what policies would do with a scenario, in virtual time."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from inferscale_operator.errors import UsageError
from inferscale_operator.twin.changes import tables as change_tables
from inferscale_operator.twin.page import page
from inferscale_operator.twin.resources import read_scenario
from inferscale_operator.twin.simulation import POLICIES, ServerMode, parse_policy, simulate
from inferscale_operator.twin.summary import summary, tables

PIPED_WIDTH = 190
DEFAULT_POLICIES = ("static", "inferscale")


@click.command("simulate")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="P[:FIELD=VALUE,…]",
    help=f"What decides: {', '.join(POLICIES)}; repeatable [{' and '.join(DEFAULT_POLICIES)}].",
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Instead of the scenario's.")
@click.option(
    "--servers",
    type=click.Choice([mode.value for mode in ServerMode]),
    default=ServerMode.EVENTS.value,
    show_default=True,
    help="Every request, or the queueing model in the mean.",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Form.")
@click.option("--changes", is_flag=True, help="Tables of what was changed too; -o json always has it.")
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE", help="Write a page of HTML.")
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Save the product's snapshots and plans.",
)
def simulate_command(
    scenario: Path,
    policies: Sequence[str],
    seed: int | None,
    servers: str,
    output: str,
    changes: bool,
    report: Path | None,
    record: Path | None,
) -> None:
    """Run SCENARIO under policies, in virtual time, and compare what comes of it.

    The product decides by the same code as in a cluster, from what a Prometheus would have scraped.
    `inferscale:solver=Greedy` sets a field of the OptimizerPolicy, `hpa-running:target=8` one of the
    autoscaler.
    """
    setting = read_scenario(scenario)
    choices = [parse_policy(text) for text in policies or DEFAULT_POLICIES]
    recorded = [choice.text for choice in choices if choice.name == "inferscale"]
    if record is not None and len(recorded) != 1:
        raise UsageError(f"--record {record}: records one policy `inferscale`, given are {len(recorded)}")
    mode = ServerMode(servers)
    outcomes = [simulate(setting, choice, seed=seed, mode=mode, record=record) for choice in choices]
    figures = summary(setting, outcomes, setting.scenario.seed if seed is None else seed, mode)
    if report is not None:
        write_report(report, page(setting, outcomes, figures["scenario"], tables(figures)))
    if output == "json":
        click.echo(json.dumps(figures, indent=1, allow_nan=False))
    else:
        width = None if sys.stdout.isatty() else PIPED_WIDTH
        console = Console(width=width, highlight=False, markup=False, emoji=False)
        console.print(tables(figures))
        if changes:
            console.print(change_tables(setting, outcomes))


def write_report(path: Path, text: str) -> None:
    """Write what `--report` names.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--report {path}: {error.strerror}. Give a file that can be written.") from error
