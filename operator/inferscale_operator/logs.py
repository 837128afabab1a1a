"""Log lines: their form, and one for every decision that changed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from inferscale_operator.plan import Plan, ServicePlan
from inferscale_operator.settings import LogFormat, LogLevel, Settings
from inferscale_operator.telemetry.samples import gates
from inferscale_queueing.frozen import frozen

FACTS = "facts"
"""Attribute of a log record: what the line says, by name."""
CHATTY = ("kopf", "aiohttp", "urllib3")


class JsonFormatter(logging.Formatter):
    """One object of JSON a line: time, level, logger, message, and the facts of the line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FACTS, {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logging(settings: Settings) -> None:
    """Log to stderr as the settings say; of kopf only what went wrong, unless everything is asked for."""
    handler = logging.StreamHandler()
    if settings.log_format is LogFormat.JSON:
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.value.upper())
    for name in CHATTY:
        debug = settings.log_level is LogLevel.DEBUG
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.WARNING)


@frozen
class Decided:
    """What a decision on a service comes to."""

    reason: str
    accelerator: str
    replicas: int
    target_accelerator: str
    target_replicas: int
    step: str
    """Of the move that is under way; empty: none is."""
    gates: tuple[str, ...]


def decided(service: ServicePlan) -> Decided:
    """A decision without what changes with every tick."""
    status = service.allocation
    entry = status.allocations[0] if status.allocations else None
    return Decided(
        reason=status.reason,
        accelerator=entry.accelerator if entry is not None else "",
        replicas=entry.desired_replicas if entry is not None else 0,
        target_accelerator=(entry.target_accelerator or "") if entry is not None else "",
        target_replicas=entry.target_replicas if entry is not None else 0,
        step=status.move.step.value if status.move is not None else "",
        gates=tuple(sorted(gates(service))),
    )


@frozen
class Change:
    """A decision that differs from the one before."""

    reason: str
    line: str
    facts: Mapping[str, Any]


def changes(before: Mapping[str, Decided], plan: Plan) -> Iterator[Change]:
    """The decisions of a plan that changed.

    Args:
        before: The last decision on each service, by `namespace/name`.
        plan: The plan.
    """
    for service in plan.services:
        if before.get(service.key) != decided(service):
            yield _change(service)


def _change(service: ServicePlan) -> Change:
    status, held = service.allocation, sorted(gates(service))
    facts: dict[str, Any] = {"service": service.key, "reason": status.reason, "gates": held}
    step = ""
    if status.allocations:
        entry = status.allocations[0]
        facts |= {
            "from": {"accelerator": entry.current_accelerator, "replicas": entry.current_replicas},
            "to": {"accelerator": entry.accelerator, "replicas": entry.desired_replicas},
            "target": {"accelerator": entry.target_accelerator, "replicas": entry.target_replicas},
            "cost": {"current": entry.current_cost, "target": entry.cost},
        }
        step = (
            f"{entry.current_replicas} on {entry.current_accelerator or '?'}"
            f" → {entry.desired_replicas} on {entry.accelerator}"
            f" ({_money(entry.current_cost)} → {_money(entry.cost)} an hour), "
        )
    held_back = f" [{', '.join(held)}]" if held else ""
    line = f"{service.key}: {step}{status.reason}{held_back}: {status.message}"
    return Change(status.reason, line.rstrip(": "), facts | {"explanation": status.message})


def _money(cost: float | None) -> str:
    return "?" if cost is None else f"{cost:.2f}"
