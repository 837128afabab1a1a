"""`inferscale replay`: make a recorded decision again, and compare."""

from __future__ import annotations

import difflib
import sys
from itertools import islice
from pathlib import Path

import click
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from inferscale_operator.decide import decide
from inferscale_operator.errors import UsageError
from inferscale_operator.plan import Plan, ServicePlan, dump_plan
from inferscale_operator.recorder import plan_of
from inferscale_operator.snapshot import Snapshot, load_snapshot

DIFFERENT = 1
PIPED_WIDTH = 120
SHOWN_LINES = 40


@click.command()
@click.argument("snapshot", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Form."
)
@click.option("--diff", is_flag=True, help="Print what differs from the recorded plan, and nothing else.")
def replay(snapshot: Path, output: str, diff: bool) -> None:
    """Make the decision of a recorded SNAPSHOT again.

    Says whether it is the same as the recorded plan when that lies beside, byte for byte; exits with 1 when
    it is not.
    """
    recorded = plan_of(snapshot)
    compared = recorded.exists() and recorded != snapshot
    if diff and not compared:
        raise UsageError(f"--diff: there is no {recorded} to compare with. Leave it out, or add the file.")
    plan = decide(read_snapshot(snapshot))
    made = dump_plan(plan)
    if not diff:
        _show(plan, made, output)
    if not compared:
        return
    before = recorded.read_bytes()
    same = before == made
    if diff:
        click.echo("".join(_difference(before, made, recorded)), nl=False)
    elif not same:
        click.echo("".join(islice(_difference(before, made, recorded), SHOWN_LINES)), err=True, nl=False)
    click.echo(f"{'The same as' if same else 'Not the same as'} {recorded}", err=True)
    if not same:
        sys.exit(DIFFERENT)


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


def _show(plan: Plan, made: bytes, output: str) -> None:
    if output == "json":
        sys.stdout.buffer.write(made)
        sys.stdout.buffer.flush()
    else:
        width = None if sys.stdout.isatty() else PIPED_WIDTH
        Console(width=width, markup=False, emoji=False).print(table(plan))


def _difference(before: bytes, made: bytes, recorded: Path) -> list[str]:
    one, other = _lines(before), _lines(made)
    return list(difflib.unified_diff(one, other, fromfile=str(recorded), tofile="decided again"))


def _lines(data: bytes) -> list[str]:
    return [f"{line}\n" for line in data.decode(errors="replace").splitlines()]


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


def read_snapshot(path: Path) -> Snapshot:
    """A recorded snapshot.

    Raises:
        UsageError: the file is none.
    """
    try:
        return load_snapshot(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(
            f"{path} is no recorded snapshot: {where}: {first['msg']}. "
            "Give a file that `inferscale run --record FOLDER` or `inferscale snapshot` wrote"
            " (….snapshot.json)."
        ) from error
