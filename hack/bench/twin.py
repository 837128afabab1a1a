"""How fast the digital twin is: a day of 30 services, and a week of 1,000."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from bench.figures import Figures, seconds
from inferscale_operator.twin import product
from inferscale_operator.twin.resources import read_scenario
from inferscale_operator.twin.simulation import ServerMode, parse_policy, simulate

DAY_S = 86_400.0
PARTS = ("simulate", "observe", "decide")
HOURS = float(os.environ.get("BENCH_TWIN_HOURS", "24"))
"""Simulated hours of the day; the week takes seven times as many, the cases beside them a 24th."""
COLUMNS = (
    "services",
    "simulated h",
    "tick s",
    "policy",
    "servers",
    "s",
    "simulate",
    "observe",
    "decide",
    "MB",
)


def run(hours: float = HOURS, large: int = 1000) -> list[Figures]:
    """Measure."""
    cases = [
        (30, hours, 30, 15, "inferscale", ServerMode.MEAN_VALUE),
        (large, 7 * hours, 600, 60, "inferscale", ServerMode.MEAN_VALUE),
        (30, hours / 24, 30, 15, "static", ServerMode.MEAN_VALUE),
        (30, hours / 24, 30, 15, "static", ServerMode.EVENTS),
        (30, hours / 24, 30, 15, "inferscale", ServerMode.EVENTS),
    ]
    with tempfile.TemporaryDirectory() as folder:
        rows = [_row(Path(folder) / "scenario.yaml", *case) for case in cases]
    return [
        Figures(
            "The digital twin, about 100 requests/min a service over a daily wave",
            COLUMNS,
            rows,
            "Core seconds without reading the scenario; what of them is simulating, observing, deciding. "
            "MB: the most that this process has held so far.",
        )
    ]


def _row(
    path: Path, services: int, hours: float, tick: int, scrape: int, policy: str, mode: ServerMode
) -> list[Any]:
    path.write_text(yaml.safe_dump(scenario(services, hours * 3600, tick, scrape)))
    setting, choice = read_scenario(path), parse_policy(policy)
    with _timed("observe") as observing, _timed("decide") as deciding:
        taken = seconds(lambda: simulate(setting, choice, mode=mode), runs=1)
    observed, decided = sum(observing), sum(deciding)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    split = (taken, taken - observed - decided, observed, decided)
    return [services, hours, tick, policy, mode.value, *split, round(held)]


@contextmanager
def _timed(name: str) -> Iterator[list[float]]:
    """Core seconds of every call of one of the product's functions in the twin."""
    called: Callable[..., Any] = getattr(product, name)
    taken: list[float] = []

    def timed(*arguments: Any) -> Any:
        begin = time.process_time()
        try:
            return called(*arguments)
        finally:
            taken.append(time.process_time() - begin)

    with mock.patch.object(product, name, timed):
        yield taken


def scenario(services: int, duration: float, tick: int, scrape: int) -> dict[str, Any]:
    """Services of three classes on two kinds of accelerators; their peaks are spread over the day."""

    def performance(name: str, factor: float) -> dict[str, Any]:
        figures = {"alpha": 8 * factor, "beta": 0.3 * factor, "gamma": 8 * factor, "delta": 0.01 * factor}
        return {"accelerator": name, **figures, "maxBatchSize": 48, "atTokens": 256}

    return {
        "duration": duration,
        "seed": 1,
        "scrapeInterval": scrape,
        "window": max(60, tick),
        "nodes": [{"type": kind, "count": services // 2 + 1} for kind in ("H100", "L40S")],
        "accelerators": {"h100": {"type": "H100", "cost": 9}, "l40s": {"type": "L40S", "cost": 2.5}},
        "models": {"llm": {"profiles": [performance("h100", 1), performance("l40s", 2.5)]}},
        "classes": {
            name: {"priority": priority, "models": [{"model": "llm", "itl": itl, "ttft": 2000}]}
            for priority, (name, itl) in enumerate((("gold", 20), ("silver", 40), ("bronze", 80)), start=1)
        },
        "policy": {"tickSeconds": tick},
        "services": [
            {
                "name": f"s{number}",
                "spec": {"model": "llm", "serviceClass": ("gold", "silver", "bronze")[number % 3]},
                "initial": {"accelerator": "l40s", "replicas": 2},
                "load": {"diurnal": {"mean": 100, "amplitude": 0.8, "peakAt": number * DAY_S / services}},
                "tokens": {"input": 512, "output": 128},
            }
            for number in range(services)
        ],
    }
