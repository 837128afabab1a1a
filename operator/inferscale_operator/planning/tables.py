"""The plan as tables, one per question, model by class as the deck shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table

from inferscale_operator.planning.frontier import Point
from inferscale_operator.planning.purchase import Purchase
from inferscale_operator.planning.report import Line, Report
from inferscale_solver import Decision, Rejection

Cell = Callable[[Line], str]

_NOTHING = "–"


def tables(report: Report) -> Group:
    """All tables of a plan; those of changes only where anything is allocated now."""
    return Group(*_parts(report))


def _parts(report: Report) -> Iterator[RenderableType]:
    if report.lines:
        yield from grids(report.lines)
    yield _totals(report)
    yield _summary(report)


def grids(lines: Sequence[Line]) -> Iterator[Table]:
    """What the lines get, and where anything is held, what changes: models by classes, as the deck has it."""
    yield grid(lines, "Accelerator", lambda line: line.accelerator or _NOTHING, justify="left")
    yield grid(lines, "Replicas", lambda line: str(line.replicas))
    if any(line.held for line in lines):
        yield grid(lines, "Accelerator change", lambda line: line.change or "", justify="left")
        yield grid(lines, "Scale", lambda line: "" if line.scale is None else signed(line.scale))
        yield grid(lines, "Cost differential, per hour", lambda line: signed(line.cost_diff))


def grid(lines: Sequence[Line], title: str, cell: Cell, *, justify: JustifyMethod = "right") -> Table:
    """A table of models by classes; of servers by classes where a class has several of one model."""
    classes = list(dict.fromkeys(line.service_class for line in lines))
    several = len({(line.model, line.service_class) for line in lines}) < len(lines)
    cells: dict[str, dict[str, str]] = {}
    for line in lines:
        cells.setdefault(line.server if several else line.model, {})[line.service_class] = cell(line)
    table = Table(title=title, title_justify="left")
    table.add_column("server" if several else "model", no_wrap=True)
    for name in classes:
        table.add_column(name, justify=justify, no_wrap=True)
    for row in sorted(cells):
        table.add_row(row, *(cells[row].get(name, "") for name in classes))
    return table


def explanation(decision: Decision) -> Table:
    """The candidates of one server, each with what it would take and why it was not chosen."""
    table = Table(title=f"{decision.service}: {decision.reason}", title_justify="left")
    table.add_column("accelerator", no_wrap=True)
    for name in ("replicas", "batch", "cost/h", "ITL ms", "TTFT ms", "wait ms"):
        table.add_column(name, justify="right")
    table.add_column("bound by")
    table.add_column("verdict")
    for candidate in decision.candidates:
        sized = candidate.allocation
        numbers = (
            [_NOTHING] * 6
            if sized is None
            else [
                str(sized.replicas),
                str(sized.max_batch),
                f"{sized.cost:,.2f}",
                figure(sized.itl),
                figure(sized.ttft),
                figure(sized.wait),
            ]
        )
        chosen = "chosen: " if candidate.rejection is Rejection.CHOSEN else ""
        verdict = f"{chosen}{candidate.message}"
        table.add_row(candidate.profile, *numbers, candidate.binding or _NOTHING, verdict)
    table.caption = (
        f"bound by {decision.binding or 'nothing'}; runner-up {decision.runner_up or 'none'}; "
        f"{decision.outcome.value}"
    )
    return table


def purchase_tables(bought: Purchase) -> Group:
    """What to buy, and the plan on what is then there."""
    rows = [
        [kind, f"{item.owned:,d}", f"{item.buy:,d}", figure(item.price, 2), figure(item.cost, 2)]
        for kind, item in bought.items.items()
    ]
    table = columns("To buy", ["type", "owned", "buy", "price", "cost/h"], rows)
    budget = "" if bought.budget is None else f" of a budget of {bought.budget:,.2f}"
    bound = f"no purchase that serves as many costs less than {bought.lower_bound:,.2f}/h"
    return Group(table, f"Buying costs {bought.cost:,.2f}/h{budget}; {bound}", *_parts(bought.plan))


def frontier_table(points: Sequence[Point]) -> Table:
    """Cost and servers served against the ITL targets."""
    rows = [
        [
            f"{point.scale:g}",
            _NOTHING if point.least is None else f"{figure(point.least)} to {figure(point.most)}",
            figure(point.plan.total_cost, 2),
            str(point.plan.served),
            str(len(point.plan.lines) - point.plan.served),
        ]
        for point in points
    ]
    names = ["ITL targets times", "ITL targets, ms", "cost/h", "served", "unserved"]
    return columns("Cost against ITL targets", names, rows)


def columns(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table with a name in the first column and figures in the others."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(names):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def signed(value: float) -> str:
    """A difference: `+3`, `-12.50`, `0`."""
    if isinstance(value, int) or value == round(value):
        return f"{round(value):+,d}" if round(value) else "0"
    return f"{value:+,.2f}"


def figure(value: float | None, digits: int = 1) -> str:
    """A figure, or a dash where there is none."""
    return _NOTHING if value is None else f"{value:,.{digits}f}"


def _totals(report: Report) -> Table:
    rows = []
    for kind, total in report.types.items():
        share = f"{total.used / total.available:.0%}" if total.available else _NOTHING
        available = "unlimited" if total.available is None else f"{total.available:,d}"
        rows.append([kind, f"{total.used:,d}", available, share, figure(total.price, 2)])
    names = ["type", "used", "available", "share", "price of one more"]
    return columns("Units by type", names, rows)


def _summary(report: Report) -> str:
    gap = "no bound computed" if report.gap is None else f"gap {report.gap:.2%}"
    within = (
        "" if report.value_within == report.total_value else f"; of those served {report.value_within:,.2f}"
    )
    bound = "" if report.lower_bound is None else f", at least {report.lower_bound:,.2f}"
    served = f"{report.served} of {len(report.lines)} served"
    lines = [
        f"Cost per hour {report.total_cost:,.2f}; {served}; {report.power / 1000:,.1f} kW",
        f"Solver {report.solver}: value {report.total_value:,.2f}{within}{bound}; {gap}",
        *(f"Note: {note}" for note in report.notes),
    ]
    for priority, count in report.unserved_by_priority.items():
        if count:
            least = report.unserved_bound.get(priority)
            proof = "" if least is None else f" (no plan has less than {least})"
            lines.append(f"Unserved at priority {priority}: {count}{proof}")
    lines += [f"  {line.server}: {line.reason}" for line in report.lines if not line.served]
    return "\n".join(lines)
