"""The report of a plan, a purchase or a frontier as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from inferscale_operator.planning.frontier import Point
from inferscale_operator.planning.purchase import Purchase
from inferscale_operator.planning.report import Line, Report
from inferscale_solver import CandidateOutcome, Decision

_DECIMALS = 6


def as_json(fields: Mapping[str, Any]) -> str:
    """Fields as JSON."""
    return json.dumps(fields, indent=2, ensure_ascii=False)


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Records with equal names as CSV; none without records."""
    text = io.StringIO()
    if records:
        writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    return text.getvalue()


def purchase_records(bought: Purchase) -> list[dict[str, Any]]:
    """A record for every type."""
    return [
        {
            "type": kind,
            "owned": item.owned,
            "buy": item.buy,
            "price": _rounded(item.price),
            "cost": _rounded(item.cost),
        }
        for kind, item in bought.items.items()
    ]


def purchase_fields(bought: Purchase) -> dict[str, Any]:
    """What to buy, with the plan on it."""
    return {
        "purchase": purchase_records(bought),
        "purchaseCost": _rounded(bought.cost),
        "purchaseBound": _rounded(bought.lower_bound),
        "budget": _rounded(bought.budget),
        "plan": as_fields(bought.plan),
    }


def frontier_records(points: Sequence[Point]) -> list[dict[str, Any]]:
    """A record for every point."""
    return [
        {
            "scale": point.scale,
            "itlLeast": _rounded(point.least),
            "itlMost": _rounded(point.most),
            "totalCost": _rounded(point.plan.total_cost),
            "served": point.plan.served,
            "unserved": len(point.plan.lines) - point.plan.served,
            "gap": _rounded(point.plan.gap),
        }
        for point in points
    ]


def as_fields(report: Report, explained: str | None = None) -> dict[str, Any]:
    """The report in the fields of its JSON form.

    Args:
        report: The report.
        explained: A server whose explanation is added.
    """
    content: dict[str, Any] = {
        "solver": report.solver,
        "totalCost": _rounded(report.total_cost),
        "totalValue": _rounded(report.total_value),
        "lowerBound": _rounded(report.lower_bound),
        "gap": _rounded(report.gap),
        "served": report.served,
        "unserved": [
            {"server": line.server, "reason": line.reason} for line in report.lines if not line.served
        ],
        "unservedByPriority": {str(key): value for key, value in report.unserved_by_priority.items()},
        "unservedBound": {str(key): value for key, value in report.unserved_bound.items()},
        "capacity": {
            kind: {"available": total.available, "used": total.used, "price": _rounded(total.price)}
            for kind, total in report.types.items()
        },
        "power": _rounded(report.power),
        "allocations": [_allocation(line) for line in report.lines if line.accelerator is not None],
        "wallTime": {"sizing": _rounded(report.wall_time.sizing), "solve": _rounded(report.wall_time.solve)},
    }
    if explained is not None:
        content["explanation"] = _explanation(report.decisions[explained])
    return content


def as_records(report: Report) -> list[dict[str, Any]]:
    """A flat record for every server: the fields of an allocation, outcome and reason."""
    return [
        {**_allocation(line), "outcome": line.outcome.value, "reason": line.reason} for line in report.lines
    ]


def explanation_records(decision: Decision) -> list[dict[str, Any]]:
    """A record for every candidate of a server."""
    return [_candidate(candidate) for candidate in decision.candidates]


def _allocation(line: Line) -> dict[str, Any]:
    return {
        "server": line.server,
        "class": line.service_class,
        "model": line.model,
        "accelerator": line.accelerator,
        "numReplicas": line.replicas,
        "maxBatch": line.max_batch,
        "cost": _rounded(line.cost),
        "value": _rounded(line.value),
        "itlAverage": _rounded(line.itl),
        "ttftAverage": _rounded(line.ttft),
        "waitAverage": _rounded(line.wait),
        "utilization": _rounded(line.utilization),
        "change": line.change,
        "scale": line.scale,
        "costDiff": _rounded(line.cost_diff),
        "binding": line.binding,
        "runnerUp": line.runner_up,
    }


def _explanation(decision: Decision) -> dict[str, Any]:
    return {
        "server": decision.service,
        "outcome": decision.outcome.value,
        "reason": decision.reason,
        "binding": decision.binding,
        "runnerUp": decision.runner_up,
        "candidates": explanation_records(decision),
    }


def _candidate(candidate: CandidateOutcome) -> dict[str, Any]:
    sized = candidate.allocation
    return {
        "accelerator": candidate.profile,
        "numReplicas": None if sized is None else sized.replicas,
        "maxBatch": None if sized is None else sized.max_batch,
        "cost": None if sized is None else _rounded(sized.cost),
        "value": None if sized is None else _rounded(sized.value),
        "itlAverage": None if sized is None else _rounded(sized.itl),
        "ttftAverage": None if sized is None else _rounded(sized.ttft),
        "waitAverage": None if sized is None else _rounded(sized.wait),
        "binding": candidate.binding,
        "verdict": candidate.rejection.value,
        "message": candidate.message,
    }


def _rounded(value: float | None) -> float | None:
    """Beyond these digits figures differ from machine to machine."""
    return None if value is None else round(value, _DECIMALS) + 0.0
