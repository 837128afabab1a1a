"""What policies changed and when: allocations before and after, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from itertools import pairwise
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferscale_operator.planning.report import Line, against
from inferscale_operator.planning.tables import grids, signed
from inferscale_operator.twin.history import Allocated
from inferscale_operator.twin.ledger import cost_per_hour
from inferscale_operator.twin.resources import START, Setting
from inferscale_operator.twin.simulation import Outcome
from inferscale_queueing.frozen import frozen


@frozen
class Change:
    """One change of what a service asks for; a move is one, from its beginning to its end.

    Attributes:
        at_s: When it began.
        before: What there was.
        after: What came of it.
        line: `after` in the terms of a plan: cost per hour, and what is different from before.
        reason: Why, for people; empty: not said.
    """

    at_s: float
    before: Allocated
    after: Allocated
    line: Line
    reason: str

    @property
    def moved(self) -> bool:
        """Whether the accelerator changed."""
        return self.line.change is not None

    @property
    def kind(self) -> str:
        """What changed, for people."""
        return "accelerator" if self.moved else "replicas"


def changes(setting: Setting, outcome: Outcome, number: int) -> tuple[Change, ...]:
    """All changes of one service in the order of time."""
    key = setting.services[number].key
    found = outcome.history.decisions.get(key, ())
    reasons = {each.at_s: each.message or each.reason for each in found if each.summary}
    return tuple(
        Change(
            at_s=after.at_s,
            before=before,
            after=after,
            line=difference(setting, number, before, after),
            reason=reasons.get(after.at_s, ""),
        )
        for before, after in pairwise(_settled(outcome, number, key))
        if before.what != after.what
    )


def _settled(outcome: Outcome, number: int, key: str) -> Iterator[Allocated]:
    """What was asked for without the states in the middle of a move: its end stands at its beginning."""
    moves = list(_moves(outcome, key))
    held: dict[float, Allocated] = {}
    for each in outcome.allocated[number]:
        began = next((begin for begin, end in moves if begin <= each.at_s <= end), each.at_s)
        held[began] = replace(each, at_s=began)
    yield from held.values()


def _moves(outcome: Outcome, key: str) -> Iterator[tuple[float, float]]:
    """When each move began and when it was over."""
    began = None
    for each in outcome.history.decisions.get(key, ()):
        if began is not None and (each.moved or each.allocation is None or each.allocation.move is None):
            yield began, each.at_s
            began = None
        if each.moved:
            began = each.at_s
    if began is not None:
        yield began, float("inf")


def difference(setting: Setting, number: int, before: Allocated, after: Allocated) -> Line:
    """What a service has after a change, and what is different, in the terms of a plan."""
    service = setting.services[number]
    old, new = (each.replicas * cost_per_hour(setting, service, each.accelerator) for each in (before, after))
    line = Line(
        server=service.key,
        service_class=service.spec.service_class,
        model=service.spec.model,
        accelerator=after.accelerator,
        replicas=after.replicas,
        max_batch=after.max_batch,
        cost=new,
    )
    return against(line, before.accelerator, before.replicas, old)


def whole(setting: Setting, outcome: Outcome) -> tuple[Line, ...]:
    """Of every service the end against the start; by priority, class and name."""
    lines = [
        (
            service.priority,
            difference(setting, number, outcome.allocated[number][0], outcome.allocated[number][-1]),
        )
        for number, service in enumerate(setting.services)
    ]
    return tuple(
        line for _, line in sorted(lines, key=lambda row: (row[0], row[1].service_class, row[1].server))
    )


def as_fields(change: Change) -> dict[str, Any]:
    """A change in the fields of its JSON form; those of a plan have their names from there."""
    line, before = change.line, change.before
    return {
        "at": round(change.at_s, 3),
        "from": {
            "accelerator": before.accelerator,
            "numReplicas": before.replicas,
            "maxBatch": before.max_batch,
            "cost": round(line.cost - line.cost_diff, 4),
        },
        "to": {
            "accelerator": line.accelerator,
            "numReplicas": line.replicas,
            "maxBatch": line.max_batch,
            "cost": round(line.cost, 4),
        },
        **differing(line),
        "reason": change.reason,
    }


def differing(line: Line) -> dict[str, Any]:
    """What is different, in the fields of the JSON form."""
    return {"change": line.change, "scale": line.scale, "costDiff": round(line.cost_diff, 4)}


def tables(setting: Setting, outcomes: Sequence[Outcome]) -> Group:
    """Of every policy that changed something: the end against the start, and every change."""
    parts: list[Any] = []
    for outcome in outcomes:
        found = sorted(
            (
                change
                for number in range(len(setting.services))
                for change in changes(setting, outcome, number)
            ),
            key=lambda change: (change.at_s, change.line.server),
        )
        if not found:
            parts.append(Text(f"{outcome.policy} changed nothing."))
            continue
        lines = whole(setting, outcome)
        parts.append(Text(f"{outcome.policy}: the end against the start"))
        parts += grids(lines)
        parts.append(Text(total(lines)))
        parts.append(log(setting, f"{outcome.policy}: changes; cost per hour more than before", found))
    return Group(*parts)


def total(lines: Sequence[Line]) -> str:
    """What all services together cost at the end, and what more than before."""
    cost, more = (sum(getattr(line, name) for line in lines) for name in ("cost", "cost_diff"))
    return f"Cost per hour {cost:,.2f}, {signed(more)} against {cost - more:,.2f} at the start"


def log(setting: Setting, title: str, found: Sequence[Change], *, why: bool = False) -> Table:
    """Every change in a row, with the reason where it is asked for."""
    table = Table(title=title, title_justify="left")
    left = ("Service", "From", "To", "Change")
    for name in ("At", "Service", "From", "Batch", "To", "Batch", "Change", "Scale", "Cost/h"):
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    if why:
        table.add_column("Why")
    for change in found:
        line, before = change.line, change.before
        table.add_row(
            clock(setting, change.at_s),
            line.server,
            f"{before.replicas} × {before.accelerator}",
            str(before.max_batch),
            f"{line.replicas} × {line.accelerator}",
            str(line.max_batch),
            change.kind,
            "" if line.scale is None else signed(line.scale),
            signed(line.cost_diff),
            *([change.reason] if why else ()),
        )
    return table


def clock(setting: Setting, at_s: float) -> str:
    """A time as `1:02:03` since the start, or of the past by its own clock (UTC)."""
    if setting.start != START:
        return f"{setting.start.astimezone(UTC) + timedelta(seconds=at_s):%Y-%m-%d %H:%M:%S}"
    return f"{int(at_s // 3600)}:{int(at_s % 3600 // 60):02d}:{int(at_s % 60):02d}"
