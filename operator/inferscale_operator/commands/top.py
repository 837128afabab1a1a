"""`inferscale top`: the fleet of a cluster, live."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from inferscale_operator.api.optimizer_policy import POLICY_NAME
from inferscale_operator.commands.access import cluster_options, connect
from inferscale_operator.commands.listing import listed
from inferscale_operator.errors import UsageError
from inferscale_operator.kube.client import Client
from inferscale_operator.kube.kinds import (
    ACCELERATOR_PROFILE,
    INFERENCE_ALLOCATION,
    INFERENCE_SERVICE,
    OPTIMIZER_POLICY,
    SERVICE_CLASS,
)
from inferscale_operator.planning.output import as_json
from inferscale_operator.views.fleet import Fleet, Latency, ServiceLine, fleet
from inferscale_operator.views.objects import wire

PIPED_WIDTH = 160


@click.command("top")
@cluster_options
@click.option(
    "--interval", type=click.FloatRange(1, 3600), default=5, metavar="S", help="Seconds between looks [5]."
)
@click.option("--once", is_flag=True, help="Look once and end; so it is where the output is no terminal.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Form [table].")
def top(
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    interval: float,
    once: bool,
    output: str,
) -> None:
    """Show the fleet: services with load, accelerators, latency and cost, accelerators in use, totals.

    Without -n the services of all namespaces. ITL and TTFT are predicted / observed / objective, in ms. Ends
    with Ctrl-C.
    """
    client = connect(kubeconfig, context)
    found = look(client, namespace)
    if output == "json":
        click.echo(as_json(wire(asdict(found))))
        return
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else PIPED_WIDTH, highlight=False, markup=False, emoji=False)
    if once or not terminal:
        console.print(tables(found))
        return
    with Live(_dated(found, ""), console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(interval)
                trouble = ""
                try:
                    found = look(client, namespace)
                except UsageError as error:
                    # What was seen last stays; an API server may be away for a moment.
                    trouble = str(error)
                live.update(_dated(found, trouble), refresh=True)
        except KeyboardInterrupt:
            return


def look(client: Client, namespace: str | None) -> Fleet:
    """The fleet now.

    Raises:
        UsageError: something cannot be listed; it says what and what to do.
    """
    policies = listed(client, OPTIMIZER_POLICY)
    return fleet(
        services=listed(client, INFERENCE_SERVICE, namespace),
        allocations=listed(client, INFERENCE_ALLOCATION, namespace),
        classes=listed(client, SERVICE_CLASS),
        profiles=listed(client, ACCELERATOR_PROFILE),
        policy=next((each for each in policies if each["metadata"]["name"] == POLICY_NAME), None),
    )


def tables(found: Fleet) -> Group:
    """The fleet as tables."""
    services = Table(title="Services", title_justify="left")
    services.add_column("service", no_wrap=True)
    for name in ("class", "load"):
        services.add_column(name, justify="right" if name == "load" else "left")
    services.add_column("accelerator", no_wrap=True)
    for name in ("replicas", "ITL ms", "TTFT ms", "cost/h"):
        services.add_column(name, justify="right", no_wrap=True)
    services.add_column("mode")
    services.add_column("reason")
    for line in found.services:
        services.add_row(*_row(line))
    types = Table(title="Accelerators, units by type", title_justify="left")
    types.add_column("type", no_wrap=True)
    for name in ("used", "others", "free", "capacity"):
        types.add_column(name, justify="right")
    for each in found.types:
        shown = (each.used, each.used_by_others, each.free, each.capacity)
        style = "yellow" if each.free == 0 and each.capacity else ""
        types.add_row(each.type, *(_number(value, 0) for value in shown), style=style)
    return Group(services, types, *(Text(line) for line in _totals(found)))


def _dated(found: Fleet, trouble: str) -> Group:
    head = Text(f"Inferscale, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC; Ctrl-C ends", style="dim")
    return Group(head, *([Text(trouble, style="bold red")] if trouble else []), tables(found))


def _row(line: ServiceLine) -> list[Text]:
    moves = line.wanted not in ("", line.accelerator)
    scales = line.desired not in (None, line.replicas)
    return [
        Text(line.key),
        Text(f"{line.service_class} ({_number(line.priority, 0)})"),
        Text(_number(line.arrival_rate, 1) if line.arrival_rate is not None else line.load_state or "-"),
        Text(f"{line.accelerator or '-'} → {line.wanted}" if moves else line.accelerator or "-"),
        Text(f"{_number(line.replicas, 0)} → {line.desired}" if scales else _number(line.replicas, 0)),
        _latency(line.itl),
        _latency(line.ttft),
        Text(
            _number(line.current_cost, 2)
            if line.cost is None or line.cost == line.current_cost
            else f"{_number(line.current_cost, 2)} → {line.cost:,.2f}"
        ),
        Text(line.mode),
        Text(line.reason),
    ]


def _latency(latency: Latency) -> Text:
    shown = (latency.predicted, latency.observed, latency.objective)
    style = "" if latency.objective is None else "red" if latency.missed else "green"
    return Text(" / ".join(_number(value, 1) for value in shown), style=style)


def _totals(found: Fleet) -> list[str]:
    saving = found.current_cost - found.cost
    cost = f"Cost per hour {found.current_cost:,.2f} now, {found.cost:,.2f} as decided"
    if round(saving, 2):
        cost += f" ({'saves' if saving > 0 else 'costs'} {abs(saving):,.2f}{'' if saving > 0 else ' more'})"
    lines = [f"{cost}; {found.missed} of {len(found.services)} services miss an objective"]
    if found.saved_per_hour is not None:
        total = f", {found.saved_total:,.2f} in all" if found.saved_total is not None else ""
        lines.append(f"Saved since adoption {found.saved_per_hour:,.2f}/h{total}")
    plan = [f"gap {found.gap:.2%}"] if found.gap is not None else []
    plan += [f"{found.unserved} cannot be served"] if found.unserved else []
    plan += [f"last tick {found.last_tick:%H:%M:%S} UTC"] if found.last_tick is not None else []
    return lines + (["Plan: " + "; ".join(plan)] if plan else [])


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
