"""The figures of simulations, by policy and service, and side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table

from inferscale_operator.twin.changes import as_fields, changes, difference, differing
from inferscale_operator.twin.resources import Setting
from inferscale_operator.twin.simulation import Outcome, ServerMode

JOULES_PER_KWH = 3.6e6


def summary(setting: Setting, outcomes: Sequence[Outcome], seed: int, mode: ServerMode) -> dict[str, Any]:
    """All figures, for JSON.

    Ratios are to the policy `static` where it is among them, otherwise to the first.
    """
    policies = [_policy(setting, outcome) for outcome in outcomes]
    base = next((p for p in policies if p["policy"] == "static"), policies[0])
    for each in policies:
        cost, of = each["total"]["cost"], base["total"]["cost"]
        each["total"]["costRatio"] = round(cost / of, 4) if of else None
    return {
        "scenario": setting.scenario.name or setting.path.stem,
        "duration": setting.scenario.duration,
        "seed": seed,
        "servers": mode.value,
        "ratioTo": base["policy"],
        "policies": policies,
    }


def _policy(setting: Setting, outcome: Outcome) -> dict[str, Any]:
    services = [_service(setting, outcome, number) for number in range(len(setting.services))]
    kept = np.concatenate([outcome.ledger.all_kept(number) for number in range(len(setting.services))])
    good = sum(w.sum() for w in outcome.ledger.windows["good"])
    done = sum((outcome.ledger.windows[name]).sum() for name in ("finished", "lost"))
    done += outcome.ledger.overdue.sum()
    types = sorted({kind for each in services for kind in each["acceleratorHours"]})
    energies = [each["energy"] for each in services]
    total = {
        "sloWindows": _mean(kept),
        "sloRequests": round(float(good / done), 4) if done else None,
        **{
            name: round(sum(each[name] for each in services), 2)
            for name in ("arrived", "finished", "late", "lost", "unfinished", "cost", "costDiff")
        },
        "acceleratorHours": {
            kind: round(sum(each["acceleratorHours"].get(kind, 0.0) for each in services), 2)
            for kind in types
        },
        "energy": round(sum(energies), 3) if all(energy is not None for energy in energies) else None,
        **{
            name: sum(each[name] for each in services)
            for name in ("replicaChanges", "acceleratorChanges", "belowNeed")
        },
    }
    return {"policy": outcome.policy, "total": total, "services": services}


def _service(setting: Setting, outcome: Outcome, number: int) -> dict[str, Any]:
    service, ledger = setting.services[number], outcome.ledger
    windows = {name: float(values[number].sum()) for name, values in ledger.windows.items()}
    overdue = float(ledger.overdue[number])
    done = windows["finished"] + windows["lost"] + overdue
    found = changes(setting, outcome, number)
    moved = sum(change.moved for change in found)
    first, last = outcome.allocated[number][0], outcome.allocated[number][-1]
    powered = all(setting.accelerators[name].power is not None for name in service.performances)
    quantile = ledger.ttft_quantile(number, service.targets.percentile or 0.95)
    return {
        "service": service.key,
        "sloWindows": _mean(ledger.all_kept(number)),
        "sloRequests": round(windows["good"] / done, 4) if done else None,
        "windowsKept": {name: _mean(kept) for name, kept in ledger.kept(number).items()},
        "requestsKept": {name: round(share, 4) for name, share in ledger.requests_kept(number).items()},
        "itl": _ratio(windows["gap_sum"], windows["gap_count"]),
        "ttft": _ratio(windows["ttft_sum"], windows["ttft_count"]),
        "ttftPercentile": None if quantile is None else round(quantile, 1),
        "arrived": round(windows["arrived"], 2),
        "finished": round(windows["finished"], 2),
        "late": round(windows["finished"] - windows["good"] + overdue, 2),
        "lost": round(windows["lost"], 2),
        "unfinished": round(float(ledger.unfinished[number]), 2),
        "acceleratorHours": {
            kind: round(float(held) / 3600, 4)
            for kind, held in zip(ledger.types, ledger.units_s[number], strict=True)
            if held
        },
        "cost": round(float(ledger.cost[number].sum()), 4),
        "energy": round(float(ledger.energy_j[number]) / JOULES_PER_KWH, 4) if powered else None,
        "replicaChanges": len(found) - moved,
        "acceleratorChanges": moved,
        "belowNeed": round(outcome.below_need_s[number], 1),
        "initial": {"accelerator": first.accelerator, "replicas": first.replicas},
        "final": {"accelerator": last.accelerator, "replicas": last.replicas},
        **differing(difference(setting, number, first, last)),
        "changes": [as_fields(change) for change in found],
    }


def tables(figures: dict[str, Any]) -> Group:
    """The figures for people: the policies side by side, then every service."""
    types = sorted({kind for each in figures["policies"] for kind in each["total"]["acceleratorHours"]})
    overview = Table(
        title=f"{figures['scenario']}: {figures['duration'] / 3600:g} h, seed {figures['seed']}, "
        f"servers {figures['servers']}",
        title_justify="left",
        caption=f"Ratios of cost are to {figures['ratioTo']}.",
        caption_justify="left",
    )
    overview.add_column("Policy", no_wrap=True)
    columns = ["SLO windows", "SLO requests", "Late", "Lost", *(f"{kind} h" for kind in types)]
    for column in (*columns, "Cost", "Ratio", "kWh", "Scalings", "Moves", "Below need"):
        overview.add_column(column, justify="right")
    for each in figures["policies"]:
        total = each["total"]
        overview.add_row(
            each["policy"],
            *_shares(total),
            *(_number(total["acceleratorHours"].get(kind, 0.0), 1) for kind in types),
            _number(total["cost"], 2),
            _number(total["costRatio"], 2),
            _number(total["energy"], 1),
            str(total["replicaChanges"]),
            str(total["acceleratorChanges"]),
            _duration(total["belowNeed"]),
        )
    details = Table(title="By service", title_justify="left")
    details.add_column("Service", no_wrap=True)
    details.add_column("Policy", no_wrap=True)
    columns = ["SLO windows", "SLO requests", "Late", "Lost", "ITL ms", "TTFT ms", "TTFT tail", "Cost"]
    for column in (*columns, "Scalings", "Moves", "Below need"):
        details.add_column(column, justify="right")
    details.add_column("At the end", no_wrap=True)
    for number, service in enumerate(figures["policies"][0]["services"]):
        for each in figures["policies"]:
            row = each["services"][number]
            details.add_row(
                service["service"],
                each["policy"],
                *_shares(row),
                _number(row["itl"], 1),
                _number(row["ttft"], 0),
                _number(row["ttftPercentile"], 0),
                _number(row["cost"], 2),
                str(row["replicaChanges"]),
                str(row["acceleratorChanges"]),
                _duration(row["belowNeed"]),
                f"{row['final']['replicas']} × {row['final']['accelerator']}",
            )
        details.add_section()
    return Group(overview, details)


def _shares(row: dict[str, Any]) -> list[str]:
    shares = [row["sloWindows"], row["sloRequests"]]
    return [
        *("-" if s is None else f"{100 * s:.1f} %" for s in shares),
        f"{row['late']:.0f}",
        f"{row['lost']:.0f}",
    ]


def _mean(values: Any) -> float | None:
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return round(float(known.mean()), 4) if known.size else None


def _ratio(total: float, count: float) -> float | None:
    return round(total / count, 2) if count else None


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
