"""`inferscale plan`: plan from JSON files, without a cluster."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console, RenderableType

from inferscale_operator.errors import UsageError
from inferscale_operator.planning.deck import BOUNDS, Deck, LatencyModelName
from inferscale_operator.planning.formulate import Options, options
from inferscale_operator.planning.frontier import frontier
from inferscale_operator.planning.output import (
    as_csv,
    as_fields,
    as_json,
    as_records,
    explanation_records,
    frontier_records,
    purchase_fields,
    purchase_records,
)
from inferscale_operator.planning.planner import make_plan
from inferscale_operator.planning.plots import plot_frontier, plot_plan
from inferscale_operator.planning.purchase import purchase
from inferscale_operator.planning.reading import Files, read_deck
from inferscale_operator.planning.tables import explanation, frontier_table, purchase_tables, tables
from inferscale_operator.planning.whatif import apply, parse_change, remove, scale_load
from inferscale_solver import SaturationPolicy, Solver, TailRule

Choice = TypeVar("Choice", bound=StrEnum)

PIPED_WIDTH = 160
FILE = click.Path(path_type=Path)


def _named(kind: type[StrEnum]) -> click.Choice[str]:
    return click.Choice([each.value.lower() if kind is Solver else each.value for each in kind], False)


@click.command()
@click.argument("directory", metavar="[DIR]", default=".", type=FILE)
@click.option("--accelerators", type=FILE, metavar="FILE", help="Instead of DIR/accelerator-data.json.")
@click.option("--models", type=FILE, metavar="FILE", help="Instead of DIR/model-data.json.")
@click.option("--classes", type=FILE, metavar="FILE", help="Instead of DIR/serviceclass-data.json.")
@click.option("--servers", type=FILE, metavar="FILE", help="Instead of DIR/server-data.json.")
@click.option("--capacity", type=FILE, metavar="FILE", help="Instead of DIR/capacity-data.json.")
@click.option("--optimizer", type=FILE, metavar="FILE", help="Instead of DIR/optimizer-data.json.")
@click.option("--limited", is_flag=True, help="Capacity limits the plan [where there is a capacity file].")
@click.option("--unlimited", is_flag=True, help="As many accelerators as are wanted.")
@click.option("--solver", type=_named(Solver), help="How limited accelerators are shared [auto].")
@click.option("--saturation-policy", type=_named(SaturationPolicy), help="Who gets left-overs [None].")
@click.option("--transition-penalty", type=float, metavar="X", help="Share of the cost [0.1].")
@click.option("--keep-threshold", type=float, metavar="X", help="What a change must save, a share [0].")
@click.option("--latency-model", type=_named(LatencyModelName), help="Queueing model [auto: by the tokens].")
@click.option("--slo-rule", type=_named(TailRule), help="How a percentile of the wait is found [exact].")
@click.option("--percentile", type=float, metavar="Q", help="What slo-ttw and slo-ttft hold at [0.95].")
@click.option("--max-cost", type=float, metavar="C", help="Most that the plan may cost an hour.")
@click.option("--scale-load", type=float, metavar="X", help="What if all arrival rates were times X.")
@click.option("--set", "changes", multiple=True, metavar="NAME.FIELD=VALUE", help="What if; repeatable.")
@click.option("--remove", "removed", multiple=True, metavar="NAME", help="What if without it; repeatable.")
@click.option("-o", "--output", type=click.Choice(["table", "json", "csv"]), default="table", help="Form.")
@click.option("--plot", type=FILE, metavar="FOLDER", help="Write plots into FOLDER.")
@click.option("--buy", is_flag=True, help="What to buy to serve everything, or for --max-cost the most.")
@click.option("--frontier", is_flag=True, help="What tighter and looser ITL targets cost.")
@click.option("--explain", metavar="SERVER", help="Show all candidates of SERVER.")
def plan(directory: Path, **given: Any) -> None:
    """Plan from the JSON files in DIR, the current folder unless said.

    Chooses for every server an accelerator, replicas and a batch, at the lowest cost that keeps every
    latency objective. Flags override the files. A plan that cannot serve everything is a plan too.
    """
    _refuse_contradictions(given)
    now = read_deck(_files(directory, given))
    chosen = _options(now, given)
    deck = _what_if(now, given)
    asked, plots = given["explain"], given["plot"]
    if asked is not None and asked not in {server.name for server in deck.servers}:
        names = ", ".join(sorted(server.name for server in deck.servers))
        raise UsageError(f"--explain {asked}: no such server: use one of {names}")
    files: tuple[Path, ...] = ()
    if given["frontier"]:
        points = frontier(deck, now, chosen)
        records = frontier_records(points)
        if plots is not None:
            files = plot_frontier(points, plots)
        _show(given["output"], {"frontier": records}, records, lambda: frontier_table(points))
    elif given["buy"]:
        bought = purchase(deck, now, chosen)
        if plots is not None:
            files = plot_plan(bought.plan, plots)
        records = purchase_records(bought)
        _show(given["output"], purchase_fields(bought), records, lambda: purchase_tables(bought))
    else:
        made = make_plan(deck, now, chosen)
        if plots is not None:
            files = plot_plan(made, plots)
        fields = as_fields(made, asked)
        if asked is None:
            _show(given["output"], fields, as_records(made), lambda: tables(made))
        else:
            why = made.decisions[asked]
            _show(given["output"], fields, explanation_records(why), lambda: explanation(why))
    for file in files:
        click.echo(f"Wrote {file}", err=True)


def _refuse_contradictions(given: Mapping[str, Any]) -> None:
    for one, other in (
        ("limited", "unlimited"),
        ("buy", "frontier"),
        ("buy", "explain"),
        ("frontier", "explain"),
    ):
        if given[one] and given[other]:
            raise UsageError(f"--{one} and --{other}: give one of them")


def _show(
    form: str,
    fields: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    content: Callable[[], RenderableType],
) -> None:
    if form == "json":
        click.echo(as_json(fields))
    elif form == "csv":
        click.echo(as_csv(records), nl=False)
    else:
        width = None if sys.stdout.isatty() else PIPED_WIDTH
        console = Console(width=width, highlight=False, markup=False, emoji=False)
        console.print(content())


def files_in(directory: Path) -> Files:
    """The files of a folder, by their usual names."""
    return _files(directory, dict.fromkeys(Files.__annotations__))


def _files(directory: Path, given: dict[str, Any]) -> Files:
    def required(flag: str, name: str) -> Path:
        return given[flag] or directory / f"{name}.json"

    def optional(flag: str, name: str) -> Path | None:
        usual = directory / f"{name}.json"
        return given[flag] or (usual if usual.exists() else None)

    named = all(given[flag] for flag in ("accelerators", "models", "classes", "servers"))
    try:
        if not named and not directory.is_dir():
            raise UsageError(f"{directory}: is no folder: give the folder that the files are in")
        return Files(
            accelerators=required("accelerators", "accelerator-data"),
            models=required("models", "model-data"),
            classes=required("classes", "serviceclass-data"),
            servers=required("servers", "server-data"),
            capacity=optional("capacity", "capacity-data"),
            optimizer=optional("optimizer", "optimizer-data"),
        )
    except OSError as error:
        raise UsageError(
            f"{directory}: cannot be read ({error.strerror}): give a folder that may be read"
        ) from error


def _options(deck: Deck, given: dict[str, Any]) -> Options:
    for name, (least, most) in BOUNDS.items():
        _number(given, name, least, most)
    kinds: dict[str, type[StrEnum]] = {
        "solver": Solver,
        "saturation_policy": SaturationPolicy,
        "latency_model": LatencyModelName,
        "slo_rule": TailRule,
    }
    said = {
        name: _member(kinds[name], value) if name in kinds else value
        for name, value in given.items()
        if name in vars(Options()) and name != "limited" and value is not None
    }
    if given["limited"] or given["unlimited"]:
        said["limited"] = given["limited"]
    return options(deck, said)


def _member(kind: type[Choice], value: str) -> Choice:
    return next(each for each in kind if each.value.casefold() == value.casefold())


def _what_if(deck: Deck, given: dict[str, Any]) -> Deck:
    _number(given, "scale_load", 0.0, math.inf)
    if given["scale_load"] is not None:
        deck = scale_load(deck, given["scale_load"])
    for text in given["changes"]:
        deck = apply(deck, parse_change(text))
    for name in given["removed"]:
        deck = remove(deck, name)
    return deck


def _number(given: dict[str, Any], name: str, least: float, most: float) -> None:
    value = given[name]
    if value is not None and not (math.isfinite(value) and least <= value <= most):
        bound = f" and at most {most:,.10g}" if math.isfinite(most) else ""
        raise UsageError(
            f"--{name.replace('_', '-')} {value}: must be a finite number, at least {least:g}{bound}"
        )
