"""The command line: run the operator, or make a recorded decision again."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import kopf
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from inferscale_operator.application import make_app, serve
from inferscale_operator.commands.analyze import analyze
from inferscale_operator.commands.estimate import estimate
from inferscale_operator.commands.fit import fit
from inferscale_operator.commands.plan import plan as plan_command
from inferscale_operator.decide import decide
from inferscale_operator.errors import UsageError
from inferscale_operator.plan import Plan, ServicePlan, dump_plan
from inferscale_operator.recorder import plan_of
from inferscale_operator.settings import ENV_PREFIX, LogFormat, LogLevel, Settings, make_settings
from inferscale_operator.snapshot import Snapshot, load_snapshot

Command = TypeVar("Command", bound=Callable[..., Any])

USAGE = 2
DIFFERENT = 1
PIPED_WIDTH = 120


@click.group(context_settings={"auto_envvar_prefix": ENV_PREFIX, "help_option_names": ["-h", "--help"]})
@click.version_option(package_name="inferscale", prog_name="inferscale")
def commands() -> None:
    """Serve many LLMs to many classes of users at the lowest cost that keeps every latency objective."""


def _option(name: str, help_text: str, metavar: str) -> Callable[[Command], Command]:
    variable = f"{ENV_PREFIX}_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, envvar=variable, show_envvar=True, help=help_text, metavar=metavar)


@commands.command()
@_option("--prometheus-url", "Base address of Prometheus, with a path where it has one.", metavar="URL")
@_option("--prometheus-token-file", "File with a bearer token, read again for every query.", metavar="FILE")
@_option("--prometheus-ca-file", "PEM file with the authorities of its certificate.", metavar="FILE")
@click.option(
    "--prometheus-header",
    "prometheus_headers",
    multiple=True,
    envvar=f"{ENV_PREFIX}_PROMETHEUS_HEADERS",
    show_envvar=True,
    metavar="NAME=VALUE",
    help="Header sent with every query; may be given several times.",
)
@_option("--prometheus-timeout-seconds", "Time for all queries of one tick together [10].", metavar="SECONDS")
@_option("--kubeconfig", "Kubeconfig file; none: the account of the pod that it runs in.", metavar="FILE")
@_option("--context", "Context of the kubeconfig; none: its current one.", metavar="NAME")
@_option("--liveness-address", "Address of /healthz [0.0.0.0:8080]; 0: none.", metavar="ADDRESS:PORT")
@_option("--record", "Folder in which every snapshot and its plan are saved.", metavar="FOLDER")
@_option("--record-keep", "Snapshots that are kept there [100].", metavar="NUMBER")
@_option("--log-format", "How log lines look: text or json [text].", metavar="FORMAT")
@_option("--log-level", "The least that is logged: debug, info or warning [info].", metavar="LEVEL")
def run(**options: Any) -> None:
    """Run the operator until SIGTERM.

    Every option can be given as an environment variable as well. How the cluster is optimised is in the
    OptimizerPolicy.
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    settings = make_settings(given)
    configure_logging(settings)
    asyncio.run(serve(make_app(settings)))


@commands.command()
@click.argument("snapshot", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Form."
)
def replay(snapshot: Path, output: str) -> None:
    """Make the decision of a recorded SNAPSHOT again.

    Says whether it is the same as the recorded plan when that lies beside; exits with 1 when it is not.
    """
    plan = decide(_read(snapshot))
    made = dump_plan(plan)
    if output == "json":
        sys.stdout.buffer.write(made)
    else:
        width = None if sys.stdout.isatty() else PIPED_WIDTH
        Console(width=width, markup=False, emoji=False).print(table(plan))
    recorded = plan_of(snapshot)
    if not recorded.exists() or recorded == snapshot:
        return
    same = recorded.read_bytes() == made
    click.echo(f"{'The same as' if same else 'Not the same as'} {recorded}", err=True)
    if not same:
        sys.exit(DIFFERENT)


commands.add_command(analyze)
commands.add_command(estimate)
commands.add_command(fit)
commands.add_command(plan_command)


def configure_logging(settings: Settings) -> None:
    """Log to stderr as the settings say; of kopf only what went wrong, unless everything is asked for."""
    if settings.log_format is LogFormat.JSON:
        kopf.configure(log_format=kopf.LogFormat.JSON)
    else:
        logging.basicConfig(format="%(asctime)s %(levelname)-7s %(message)s")
    logging.getLogger().setLevel(settings.log_level.value.upper())
    if settings.log_level is not LogLevel.DEBUG:
        for name in ("kopf", "aiohttp", "urllib3"):
            logging.getLogger(name).setLevel(logging.WARNING)


def table(plan: Plan) -> Table:
    """The services of a plan: what they have and get, what it costs an hour, and why."""
    result = Table(title=f"Plan as of {plan.time:%Y-%m-%d %H:%M:%S %Z}")
    result.add_column("Service", no_wrap=True)
    result.add_column("Accelerator", no_wrap=True)
    for column in ("Replicas", "Batch", "Cost/h", "ITL", "TTFT"):
        result.add_column(column, justify="right")
    result.add_column("Reason")
    for service in plan.services:
        result.add_row(*_row(service))
    cost = sum(entry.cost or 0.0 for service in plan.services for entry in service.allocation.allocations)
    result.caption = f"Cost per hour: {cost:.2f}"
    return result


def _row(service: ServicePlan) -> list[str]:
    status = service.allocation
    if not status.allocations:
        return [service.key, *["-"] * 6, status.reason]
    entry = status.allocations[0]
    return [
        service.key,
        _step(entry.current_accelerator or "?", entry.accelerator),
        _step(str(entry.current_replicas), str(entry.desired_replicas)),
        _figure(entry.max_batch, 0),
        _figure(entry.cost, 2),
        _figure(entry.predicted_itl, 1),
        _figure(entry.predicted_ttft, 1),
        status.reason,
    ]


def _step(now: str, wanted: str) -> str:
    return wanted if now == wanted else f"{now} → {wanted}"


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _read(path: Path) -> Snapshot:
    try:
        return load_snapshot(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(
            f"{path} is no recorded snapshot: {where}: {first['msg']}. "
            "Give a file that `inferscale run --record FOLDER` wrote (….snapshot.json)."
        ) from error


def main(arguments: list[str] | None = None) -> None:
    """Run a command; an error that the caller can put right is told in one line, with exit code 2."""
    try:
        commands(arguments, prog_name="inferscale")
    except UsageError as error:
        click.echo(f"inferscale: {error}", err=True)
        sys.exit(USAGE)
