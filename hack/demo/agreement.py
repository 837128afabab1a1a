"""The decisions of a live run beside those of the simulation of the same scenario, tick by tick."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.table import Table

from inferscale_operator.decide import decide
from inferscale_operator.plan import PLAN, ServicePlan
from inferscale_operator.recorder import SNAPSHOT_SUFFIX, plan_of
from inferscale_operator.snapshot import Snapshot

ENOUGH = 0.9
"""Share of ticks in which a live run and its simulation are to ask for the same."""


@dataclass(frozen=True)
class Choice:
    """What a tick asked for, for one service, and from what it saw.

    Attributes:
        accelerator: AcceleratorProfile asked for; None: nothing was decided.
        replicas: Replicas asked for.
        load: Requests/min, input and output tokens that were seen; None: unknown.
        target: Accelerator and replicas that the optimiser wanted.
        latency: Mean ITL and TTFT that were seen, ms; None: unknown.
    """

    accelerator: str | None
    replicas: int
    load: tuple[float, float, float] | None = None
    target: tuple[str | None, int] = (None, 0)
    latency: tuple[float, float] | None = None

    @property
    def asked(self) -> tuple[str | None, int]:
        """What is compared."""
        return self.accelerator, self.replicas

    def __str__(self) -> str:
        return f"{self.replicas} × {self.accelerator}" if self.accelerator is not None else "nothing"


Ticks = Mapping[int, Mapping[str, Choice]]
"""By number of the tick, then by key of the service."""


class Cause(StrEnum):
    """Why two ticks differ."""

    MISSING = "no such tick"
    PHASE = "a tick earlier or later"
    LOAD = "another load seen"
    """With the load that the simulation saw, the live run would have asked for the same."""
    FOLLOWS = "follows from the tick before"
    OTHER = "unexplained"


@dataclass(frozen=True)
class Difference:
    """One service at one tick.

    Attributes:
        tick: Number of the tick.
        service: Key of the service.
        live: What the live run asked for; None: it had no such tick.
        twin: What the simulation asked for.
        cause: Why they differ.
    """

    tick: int
    service: str
    live: Choice | None
    twin: Choice | None
    cause: Cause


@dataclass(frozen=True)
class Agreement:
    """How far two runs agree.

    Attributes:
        ticks: Ticks of the simulation.
        equal: Ticks in which all services were equal.
        by_service: Equal ticks of each service.
        differences: All differences in the order of the ticks.
    """

    ticks: int
    equal: int
    by_service: Mapping[str, int]
    differences: tuple[Difference, ...]

    @property
    def share(self) -> float:
        """Share of ticks in which all services were equal; 0 where there was none."""
        return self.equal / self.ticks if self.ticks else 0.0


def tick_files(folder: Path, begin: datetime, tick_s: float, duration_s: float) -> dict[int, Path]:
    """Recorded snapshots by the number of their tick, counted from the beginning of the load.

    Args:
        folder: Where `--record` saved them.
        begin: When the load began.
        tick_s: Time between two ticks.
        duration_s: How long the load lasted; later and earlier ones are left out.
    """
    found = {
        round((saved_at(file) - begin).total_seconds() / tick_s): file
        for file in sorted(folder.glob(f"*{SNAPSHOT_SUFFIX}"))
    }
    return {number: file for number, file in found.items() if 0 <= number * tick_s < duration_s}


def read_ticks(files: Mapping[int, Path]) -> dict[int, dict[str, Choice]]:
    """What was asked for, by the plans that were recorded beside snapshots."""
    plans = {number: PLAN.validate_json(plan_of(file).read_bytes()) for number, file in files.items()}
    return {
        number: {service.key: _choice(service) for service in plan.services} for number, plan in plans.items()
    }


def saved_at(file: Path) -> datetime:
    """The time of a recorded snapshot, by its name."""
    return datetime.strptime(file.name.removesuffix(SNAPSHOT_SUFFIX), "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)


def _choice(service: ServicePlan) -> Choice:
    seen = service.allocation.load
    load = None
    if seen is not None and None not in (seen.arrival_rate, seen.input_tokens, seen.output_tokens):
        load = (seen.arrival_rate or 0.0, seen.input_tokens or 0.0, seen.output_tokens or 0.0)
    for entry in service.allocation.allocations:
        latency = None
        if entry.observed_itl is not None and entry.observed_ttft is not None:
            latency = (entry.observed_itl, entry.observed_ttft)
        target = (entry.target_accelerator, entry.target_replicas)
        return Choice(entry.accelerator, entry.desired_replicas, load, target, latency)
    return Choice(None, 0, load)


def compare(live: Ticks, twin: Ticks, swapped: Callable[[int], Mapping[str, Choice]]) -> Agreement:
    """Compare two runs; a tick that one of them lacks is a difference.

    Args:
        live: The live run.
        twin: Its simulation.
        swapped: What the live run would have asked for at a tick with the load that the simulation saw.
    """
    numbers = sorted(live.keys() | twin.keys())
    services = sorted({key for ticks in (live, twin) for tick in ticks.values() for key in tick})
    differences: dict[tuple[int, str], Difference] = {}
    for number in numbers:
        for key in services:
            one, two = live.get(number, {}).get(key), twin.get(number, {}).get(key)
            if one is not None and two is not None and one.asked == two.asked:
                continue
            if one is None or two is None:
                cause = Cause.MISSING
            elif swapped(number)[key].asked == two.asked:
                cause = Cause.LOAD
            elif _shifted(live, twin, number, key):
                cause = Cause.PHASE
            else:
                cause = Cause.FOLLOWS if (number - 1, key) in differences else Cause.OTHER
            differences[number, key] = Difference(number, key, one, two, cause)
    unequal = {number for number, _ in differences}
    return Agreement(
        len(numbers),
        len(numbers) - len(unequal),
        {key: len(numbers) - sum(each == key for _, each in differences) for key in services},
        tuple(differences.values()),
    )


def _shifted(live: Ticks, twin: Ticks, number: int, key: str) -> bool:
    """Whether each run asked for this a tick before or after the other."""

    def near(ticks: Ticks) -> list[tuple[str | None, int]]:
        found = (ticks.get(number + step, {}).get(key) for step in (-1, 1))
        return [each.asked for each in found if each is not None]

    return live[number][key].asked in near(twin) and twin[number][key].asked in near(live)


def with_load_of(live: Snapshot, twin: Snapshot) -> dict[str, Choice]:
    """What would be asked for from one snapshot with the load of another."""
    loads = {service.key: service.load for service in twin.services}
    services = tuple(
        # Times are those of the snapshot.
        replace(each, load=replace(loads.get(each.key, each.load), doubted_since=each.load.doubted_since))
        for each in live.services
    )
    return {each.key: _choice(each) for each in decide(replace(live, services=services)).services}


def document(agreement: Agreement) -> dict[str, Any]:
    """An agreement in the types of JSON."""

    def plain(choice: Choice | None) -> dict[str, Any] | None:
        return None if choice is None else {"accelerator": choice.accelerator, "replicas": choice.replicas}

    return {
        "ticks": agreement.ticks,
        "equal": agreement.equal,
        "share": round(agreement.share, 4),
        "services": dict(agreement.by_service),
        "differences": [
            {
                "tick": each.tick,
                "service": each.service,
                "live": plain(each.live),
                "twin": plain(each.twin),
                "cause": each.cause.value,
            }
            for each in agreement.differences
        ],
    }


def table(agreement: Agreement, live: Ticks, twin: Ticks) -> Table:
    """Each service: what it began with, what both runs ended with and saw, and its equal ticks."""
    result = Table(title="Live and simulated", title_justify="left", box=None, pad_edge=False)
    for name in ("service", "at the start", "live at the end", "simulated at the end"):
        result.add_column(name, no_wrap=True)
    for name in ("ITL ms", "TTFT ms", "equal ticks"):
        result.add_column(name, justify="right", no_wrap=True)
    first, last = min(live, default=0), max(live, default=0)
    for key, equal in agreement.by_service.items():
        choices = [
            str(choice) if (choice := ticks.get(number, {}).get(key)) is not None else "-"
            for ticks, number in ((live, first), (live, last), (twin, max(twin, default=0)))
        ]
        means = [_mean_latency(ticks, key) for ticks in (live, twin)]
        pairs = [" / ".join(f"{mean[place]:.{1 - place}f}" for mean in means) for place in (0, 1)]
        result.add_row(key, *choices, *pairs, f"{equal} of {agreement.ticks}")
    result.add_row("all", *([""] * 5), f"{agreement.equal} of {agreement.ticks}", style="bold")
    return result


def _mean_latency(ticks: Ticks, key: str) -> tuple[float, float]:
    """ITL and TTFT in the mean of the ticks that know them; NaN where none does."""
    seen = [each.latency for tick in ticks.values() if (each := tick.get(key)) and each.latency]
    itl, ttft = (
        sum(latency[place] for latency in seen) / len(seen) if seen else math.nan for place in (0, 1)
    )
    return itl, ttft


def explanation(differences: Iterable[Difference], tick_s: float) -> Table:
    """The differences, those of ticks in a row together, with what each side saw and wanted."""
    result = Table(title="Differences", title_justify="left", box=None, pad_edge=False)
    for name in ("service", "from s", "ticks", "live", "simulated", "why"):
        result.add_column(name, justify="right" if name in ("from s", "ticks") else "left")
    for group in _stretches(differences):
        first = group[0]
        result.add_row(
            first.service,
            f"{first.tick * tick_s:g}",
            str(len(group)),
            _described(first.live),
            _described(first.twin),
            first.cause,
        )
    return result


def _stretches(differences: Iterable[Difference]) -> list[Sequence[Difference]]:
    """Differences of one service that follow each other with the same outcome, by their beginning."""

    def alike(numbered: tuple[int, Difference]) -> tuple[object, ...]:
        place, each = numbered
        asked = [choice.asked if choice is not None else None for choice in (each.live, each.twin)]
        return each.service, each.tick - place, *asked

    ordered = sorted(differences, key=lambda each: (each.service, each.tick))
    groups = [[each for _, each in group] for _, group in groupby(enumerate(ordered), alike)]
    return sorted(groups, key=lambda group: (group[0].tick, group[0].service))


def _described(choice: Choice | None) -> str:
    if choice is None:
        return "-"
    seen = "load unknown"
    if choice.load is not None:
        rate, inputs, outputs = choice.load
        seen = f"{rate:.0f}/min of {inputs:.0f} + {outputs:.0f}"
    return f"{choice}, wanted {choice.target[1]} × {choice.target[0]} for {seen}"
