"""The servers of the twin beside each other, the model and the emulated engines: a table of `docs/twin.md`.

python hack/twinagreement.py            # prints the table
python hack/twinagreement.py --write    # puts it into the page
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from fleet.pods import Engine, Pod
from fleet.server import ModelServer
from inferscale_operator.twin import cluster
from inferscale_operator.twin.engines import latency_model, memory_limit
from inferscale_operator.twin.resources import Setting, SimulatedService, make_setting, read_document
from inferscale_operator.twin.simulation import ServerMode, parse_policy, simulate
from inferscale_operator.twin.traffic import Traffic
from inferscale_queueing import (
    Arrivals,
    Lengths,
    Request,
    Server,
    Variability,
    analyze,
    draw,
    replay,
    service_cov,
    wait_quantile,
)

ROOT = Path(__file__).parents[1]
SCENARIO = ROOT / "docs" / "examples" / "scenarios" / "five-models.yaml"
PAGE = ROOT / "docs" / "twin.md"
BEGIN, END = "<!-- agreement -->", "<!-- end of the agreement -->"
HOURS = 4.0
PERCENTILE = 0.95
MS_PER_MINUTE = 60_000.0
WAYS = ("model", "mean-value", "events", "simulation", "emulated")
FIGURES = ("ITL", "wait", "TTFT", "p95 TTFT")
BIN = 0.03
"""Width of the twin's bins of times to first token."""


@dataclass(frozen=True)
class Cell:
    """One replica: a model on an accelerator, at a share of the full batch's rate.

    Attributes:
        model: Name of a model of the scenario.
        accelerator: One that it has a profile for.
        load: Share of the full batch's rate.
        cov: Coefficient of variation of the gaps between arrivals.
    """

    model: str
    accelerator: str
    load: float
    cov: float = 1.0


CELLS = (
    *(Cell("llama-7b", "h100", load) for load in (0.3, 0.6, 0.8, 0.9, 0.95)),
    *(Cell("granite-13b", "h100", load) for load in (0.6, 0.9)),
    *(Cell("llama-70b", "2xh100", load) for load in (0.6, 0.9)),
    Cell("llama-7b", "h100", 0.8, cov=3.0),
)

Figures = Mapping[str, float]
"""In ms, by name of `FIGURES`; those that a way does not know are missing."""


def rate(cell: Cell) -> float:
    """Requests per minute of a cell."""
    service = _world(cell, 1.0, 60.0).services[0]
    profile = service.performances[cell.accelerator]
    inputs, outputs, _ = _lengths(service)
    batch = memory_limit(service, cluster.Engine(cell.accelerator, 1, None), outputs)
    full = batch / float(latency_model(profile, inputs, outputs).service_time(batch)[0])
    return float(cell.load * full * MS_PER_MINUTE)


def measure(cell: Cell, hours: float = HOURS) -> dict[str, Figures]:
    """The figures of a cell, by way."""
    setting = _world(cell, rate(cell), hours * 3600)
    return {
        "model": _model(cell, setting),
        "mean-value": _twin(setting, ServerMode.MEAN_VALUE),
        "events": _twin(setting, ServerMode.EVENTS),
        "simulation": _simulation(cell, setting),
        "emulated": _emulated(cell, setting),
    }


def table(found: Sequence[tuple[Cell, Mapping[str, Figures]]]) -> str:
    """The figures in Markdown."""
    head = ("replica", "load", "ms", *WAYS)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for cell, ways in found:
        gaps = "" if cell.cov == 1 else f", gaps vary by {cell.cov:g}"
        name, load = f"{cell.model} on {cell.accelerator}{gaps}", f"{cell.load:.0%}".replace("%", " %")
        for figure in FIGURES:
            values = [ways[way].get(figure) for way in WAYS]
            row = [name, load, figure, *map(_shown, values)]
            lines.append("| " + " | ".join(row) + " |")
            name = load = ""
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _world(cell: Cell, requests_per_minute: float, duration: float) -> Setting:
    document = dict(read_document(SCENARIO))
    service = next(each for each in document["services"] if each["name"] == cell.model)
    document["services"] = [
        service
        | {
            "initial": {"accelerator": cell.accelerator, "replicas": 1},
            "load": {"rate": requests_per_minute, "cov": cell.cov},
        }
    ]
    return make_setting(SCENARIO, document | {"duration": duration})


def _lengths(service: SimulatedService) -> tuple[float, float, float]:
    """Mean input and output tokens, and the variation of both."""
    tokens = service.scenario.tokens
    if tokens is None or tokens.input is None or tokens.output is None:
        raise ValueError(f"{service.key}: the services of the scenario have constant mean lengths")
    return tokens.input, tokens.output, tokens.cov


def _model(cell: Cell, setting: Setting) -> Figures:
    """What the product would predict."""
    service = setting.services[0]
    inputs, outputs, cov = _lengths(service)
    latency = latency_model(service.performances[cell.accelerator], inputs, outputs)
    batch = memory_limit(service, cluster.Engine(cell.accelerator, 1, None), outputs)
    per_ms = rate(cell) / MS_PER_MINUTE
    varied = Variability(np.array([cell.cov]), service_cov(latency, batch, input_cov=cov, output_cov=cov))
    found = analyze(latency, batch, per_ms, variability=varied)
    tail = wait_quantile(latency, batch, per_ms, PERCENTILE, variability=varied)
    return {
        "ITL": float(found.itl[0]),
        "wait": float(found.wait[0]),
        "TTFT": float(found.ttft[0]),
        "p95 TTFT": float(tail[0] + found.prefill[0]),
    }


def _twin(setting: Setting, mode: ServerMode) -> Figures:
    ledger = simulate(setting, parse_policy("static"), mode=mode).ledger
    total = {name: float(values.sum()) for name, values in ledger.windows.items()}
    tail = ledger.ttft_quantile(0, PERCENTILE)
    return {
        "ITL": total["gap_sum"] / total["gap_count"],
        "wait": total["wait_sum"] / total["ttft_count"],
        "TTFT": total["ttft_sum"] / total["ttft_count"],
        # The middle of its bin.
        **({} if tail is None else {"p95 TTFT": tail * (1 - BIN / 2)}),
    }


def _simulation(cell: Cell, setting: Setting) -> Figures:
    """The queueing library's own simulation, with other requests of the same kind."""
    service = setting.services[0]
    profile = service.performances[cell.accelerator]
    inputs, outputs, cov = _lengths(service)
    requests = max(int(rate(cell) * setting.scenario.duration / 60), 1)
    trace = draw(
        Arrivals(rate(cell) / MS_PER_MINUTE, cell.cov),
        Lengths(inputs, "lognormal", cov),
        Lengths(outputs, "lognormal", cov),
        requests,
        setting.scenario.seed + 1,
    )
    batch = memory_limit(service, cluster.Engine(cell.accelerator, 1, None), outputs)
    found = replay(Server(profile.alpha, profile.beta, profile.gamma, profile.delta, batch), trace)
    return {
        "ITL": found.itl.mean,
        "wait": found.wait.mean,
        "TTFT": found.ttft.mean,
        "p95 TTFT": found.ttft_quantile(PERCENTILE),
    }


def _emulated(cell: Cell, setting: Setting) -> Figures:
    """What the engine of the local cluster exports, having had the twin's requests."""
    service, scenario = setting.services[0], setting.scenario
    profile = service.performances[cell.accelerator]
    outputs = _lengths(service)[1]
    engine = Engine(
        cell.accelerator,
        model_name=service.spec.model,
        alpha=profile.alpha,
        beta=profile.beta,
        gamma=profile.gamma,
        delta=profile.delta,
        max_batch_size=profile.max_batch_size,
        at_tokens=profile.at_tokens,
        max_num_seqs=None,
    )
    server = ModelServer(Pod("default", "pod"), engine, 0.0, outputs)
    traffic = Traffic(service.scenario, SCENARIO.parent, scenario.duration, scenario.seed, drawn=True)
    columns = (traffic.at_s * 1000, traffic.input_tokens, traffic.output_tokens)
    for number, (at_ms, inputs, tokens) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        server.offer(Request(at_ms, inputs, tokens, number))
    server.advance(scenario.duration * 1000)
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(server.exposition().decode())
        for sample in family.samples
    }

    def mean(name: str) -> float:
        return 1000 * samples[f"vllm:{name}_seconds_sum"] / samples[f"vllm:{name}_seconds_count"]

    return {
        "ITL": mean("inter_token_latency"),
        "wait": mean("request_queue_time"),
        "TTFT": mean("time_to_first_token"),
    }


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    given = parser.parse_args()
    found = []
    for cell in CELLS:
        found.append((cell, measure(cell)))
        sys.stderr.write(f"{cell}\n")
    text = table(found)
    sys.stdout.write(f"{text}\n")
    if given.write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
