"""How fast the digital twin is: a day of 30 services, and a week of 1,000."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from bench.figures import Figures, seconds
from inferscale_operator.twin.resources import read_scenario
from inferscale_operator.twin.simulation import ServerMode, parse_policy, simulate

DAY_S = 86_400.0
HOURS = float(os.environ.get("BENCH_TWIN_HOURS", "24"))
"""Simulated hours of the cases with 30 services; those with 1,000 take a 24th of them."""


def run(hours: float = HOURS, large: int = 1000) -> list[Figures]:
    """Measure."""
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        cases = [
            (30, hours, 30, 15, "static", ServerMode.EVENTS),
            (30, hours, 30, 15, "static", ServerMode.MEAN_VALUE),
            (30, hours, 30, 15, "inferscale", ServerMode.MEAN_VALUE),
            (30, hours, 30, 15, "inferscale", ServerMode.EVENTS),
            (large, hours / 24, 300, 60, "static", ServerMode.MEAN_VALUE),
            (large, hours / 24, 300, 60, "inferscale", ServerMode.MEAN_VALUE),
        ]
        for services, length, tick, scrape, policy, mode in cases:
            path = Path(folder) / "scenario.yaml"
            path.write_text(yaml.safe_dump(scenario(services, length * 3600, tick, scrape)))
            setting = read_scenario(path)
            taken = seconds(lambda: simulate(setting, parse_policy(policy), mode=mode), runs=1)  # noqa: B023
            rows.append([services, length, tick, policy, mode.value, taken, taken * 24 / length])
    return [
        Figures(
            "The digital twin, about 100 requests/min a service over a daily wave",
            ["services", "simulated h", "tick s", "policy", "servers", "s", "s per day"],
            rows,
            "Core seconds; reading the scenario is left out.",
        )
    ]


def scenario(services: int, duration: float, tick: int, scrape: int) -> dict[str, Any]:
    """Services of three classes on two kinds of accelerators; their peaks are spread over the day."""

    def performance(name: str, factor: float) -> dict[str, Any]:
        figures = {"alpha": 8 * factor, "beta": 0.3 * factor, "gamma": 8 * factor, "delta": 0.01 * factor}
        return {"accelerator": name, **figures, "maxBatchSize": 48, "atTokens": 256}

    return {
        "duration": duration,
        "seed": 1,
        "scrapeInterval": scrape,
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
