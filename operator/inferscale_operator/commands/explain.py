"""`inferscale explain`: a page on what a service was given, why, and what holds it back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from inferscale_operator.commands.access import cluster_options, connect, names, read
from inferscale_operator.kube.kinds import INFERENCE_ALLOCATION, INFERENCE_SERVICE

Raw = Mapping[str, Any]

PIPED_WIDTH = 120
SHOWN_HISTORY = 8
GOOD = {
    "Ready": "True",
    "ProfileValid": "True",
    "MetricsAvailable": "True",
    "Optimized": "True",
    "Applied": "True",
    "CapacityLimited": "False",
    "SLOAtRisk": "False",
    "GracePeriodSufficient": "True",
    "Moving": "False",
    "Paused": "False",
}
NONE = "-"


@click.command()
@click.argument("service", metavar="[NAMESPACE/]NAME")
@cluster_options
@click.option(
    "-o", "--output", type=click.Choice(["page", "json"]), default="page", show_default=True, help="Form."
)
def explain(
    service: str, namespace: str | None, kubeconfig: Path | None, context: str | None, output: str
) -> None:
    """Explain what the InferenceService NAME was given: inputs, candidates, what bound, what waits."""
    namespace, name = names(service, namespace)
    client = connect(kubeconfig, context)
    person = read(client, INFERENCE_SERVICE, namespace, name)
    ours = read(client, INFERENCE_ALLOCATION, namespace, name)
    known = {
        "service": f"{namespace}/{name}",
        "spec": person.get("spec") or {},
        "conditions": (person.get("status") or {}).get("conditions") or [],
        "allocation": ours.get("status") or {},
    }
    if output == "json":
        click.echo(json.dumps(known, indent=2, ensure_ascii=False))
        return
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    console = Console(width=width, highlight=False, emoji=False)
    console.print(page(known))


def page(known: Raw) -> Group:
    """The page.

    Args:
        known: `service`, `spec`, `conditions` of the InferenceService and `allocation`, the status of its
            InferenceAllocation, as JSON. Whatever is absent is left out.
    """
    return Group(*_parts(known))


def _parts(known: Raw) -> Iterator[RenderableType]:
    status: Raw = known["allocation"]
    entry: Raw = next(iter(status.get("allocations") or ()), {})
    yield _line(
        f"[bold]{escape(known['service'])}[/]: model {_text(status.get('model'))}, class"
        f" {_text(status.get('serviceClass'))}, mode {_text(status.get('mode'))}"
    )
    yield _line(f"{_text(status.get('reason'))}: {_text(status.get('message'))}")
    yield _allocation(entry)
    yield _latency(status, entry)
    if status.get("candidates"):
        yield _candidates(status)
    yield from _lists(status, entry)
    yield from _conditions(known["conditions"])


def _allocation(entry: Raw) -> Group:
    table = _table("", "accelerator", "replicas", "cost/h")
    table.add_row(
        "now",
        _text(entry.get("currentAccelerator")),
        f"{_number(entry.get('currentReplicas'))} ({_number(entry.get('readyReplicas'))} ready)",
        _number(entry.get("currentCost"), 2),
    )
    table.add_row(
        "this tick",
        _text(entry.get("accelerator")),
        _number(entry.get("desiredReplicas")),
        _number(entry.get("cost"), 2),
    )
    table.add_row("target", _text(entry.get("targetAccelerator")), _number(entry.get("targetReplicas")), NONE)
    return _titled("Allocation", table)


def _latency(status: Raw, entry: Raw) -> Group:
    load, objectives = status.get("load") or {}, status.get("objectives") or {}
    title = (
        f"Load: {_number(load.get('arrivalRate'), 1)} requests/min of {_number(load.get('inputTokens'), 0)} +"
        f" {_number(load.get('outputTokens'), 0)} tokens ({_text(load.get('state'))},"
        f" {_text(load.get('observedAt'))})"
    )
    table = _table("ms", "objective", "predicted", "observed")
    for name, key in (("ITL", "Itl"), ("TTFT", "Ttft")):
        table.add_row(
            name,
            _number(objectives.get(key.lower()), 1),
            _number(entry.get(f"predicted{key}"), 1),
            _number(entry.get(f"observed{key}"), 1),
        )
    table.add_row("wait", _number(objectives.get("ttw"), 1), _number(entry.get("predictedWait"), 1), NONE)
    return _titled(title, table)


def _candidates(status: Raw) -> Group:
    bound = f"; bound by {status['binding']}" if status.get("binding") else ""
    runner_up = f"; runner-up {status['runnerUp']}" if status.get("runnerUp") else ""
    table = _table("accelerator", "replicas", "batch", "cost/h", "ITL", "TTFT", "outcome")
    table.columns[-1].justify = "left"
    for c in status["candidates"]:
        table.add_row(
            _text(c.get("accelerator")),
            _number(c.get("replicas")),
            _number(c.get("maxBatch")),
            _number(c.get("cost"), 2),
            _number(c.get("itl"), 1),
            _number(c.get("ttft"), 1),
            f"{_text(c.get('outcome'))}: {_text(c.get('message'))}",
        )
    return _titled(f"Candidates{bound}{runner_up}", table)


def _lists(status: Raw, entry: Raw) -> Iterator[RenderableType]:
    yield from _list(
        "Held back by", (f"{g.get('type')}: {g.get('message')}{_until(g)}" for g in entry.get("gates") or ())
    )
    pending = status.get("pendingPlan")
    if pending:
        saving = f"saves {pending.get('saving', 0):.2f}/h"
        waits = f"{_side(pending.get('from'))} -> {_side(pending.get('to'))}, {saving}; {pending.get('risk')}"
        yield from _list("Waits for approval", (waits, f"digest {pending.get('digest')}"))
    move = status.get("move")
    if move:
        doing = f"{_side(move.get('from'))} -> {_side(move.get('to'))}"
        yield from _list("Move", (f"{move.get('step')} since {move.get('stepStartedAt')}: {doing}",))
    failed = status.get("failedMoves") or ()
    yield from _list(
        "Moves that failed",
        (f"{f.get('time')} to {f.get('accelerator')}: {f.get('message')}" for f in failed),
    )
    reverts = status.get("reverts") or ()
    yield from _list(
        "Changed back by others", (f"{r.get('time')} {r.get('field')} by {r.get('manager')}" for r in reverts)
    )
    adopted, savings = status.get("adopted"), status.get("savings") or {}
    if adopted:
        had = f"{adopted.get('replicas')} on {adopted.get('accelerator')} for {adopted.get('cost', 0):.2f}/h"
        hours = savings.get("creditedSeconds", 0) / 3600
        saved = f"saves {savings.get('perHour', 0):.2f}/h, {savings.get('total', 0):.2f} in {hours:.1f} h"
        yield from _list("Savings", (f"adopted {adopted.get('time')} with {had}; {saved}",))
    wanted = [
        f"{past.get('time')} {past.get('replicas')} on {past.get('accelerator')} for {past.get('rate')}/min"
        for past in (status.get("history") or ())[-SHOWN_HISTORY:]
    ]
    yield from _list("Wanted lately", wanted)


def _conditions(conditions: Iterable[Raw]) -> Iterator[RenderableType]:
    notable = [c for c in conditions if GOOD.get(c["type"]) != c["status"]]
    lines = (f"{c['type']} is {c['status']}: {c['reason']} {c.get('message', '')}".rstrip() for c in notable)
    yield from _list("Conditions", lines)


def _list(title: str, lines: Iterable[str]) -> Iterator[RenderableType]:
    shown = list(lines)
    if shown:
        yield _line(f"[bold]{title}[/]")
        yield from (Text(f"  {line}") for line in shown)


def _titled(title: str, table: Table) -> Group:
    return Group(Text(title, style="bold"), table)


def _table(first: str, *others: str) -> Table:
    table = Table()
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _line(markup: str) -> Text:
    return Text.from_markup(markup, emoji=False)


def _side(side: Raw | None) -> str:
    side = side or {}
    batch = f", batch {side['maxBatch']}" if side.get("maxBatch") is not None else ""
    return f"{side.get('replicas')} on {side.get('accelerator')}{batch}"


def _until(gate: Raw) -> str:
    until = gate.get("until")
    return f" (until {datetime.fromisoformat(until):%H:%M:%S})" if until else ""


def _text(value: Any) -> str:
    return escape(str(value)) if value not in (None, "") else NONE


def _number(value: float | None, digits: int = 0) -> str:
    return NONE if value is None else f"{value:.{digits}f}"
