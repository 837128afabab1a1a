"""How fast the simulation of one replica is."""

from __future__ import annotations

from bench.figures import Figures, seconds
from inferscale_queueing import Arrivals, Lengths, PrefillDecode, simulate
from inferscale_queueing.server import PrefillMode

REQUESTS = 100_000
LOAD = 0.9
PROFILE = (20.58, 0.41, 5.2, 0.02)
CASES: tuple[tuple[int, int, int, PrefillMode], ...] = (
    (32, 128, 1024, "concurrent"),
    (32, 128, 1024, "stall"),
    (64, 512, 128, "concurrent"),
    (256, 512, 128, "concurrent"),
    (128, 0, 256, "concurrent"),
)


def run(requests: int = REQUESTS) -> list[Figures]:
    """Measure."""
    rows = []
    for max_batch, inputs, outputs, prefill in CASES:
        model = PrefillDecode(*PROFILE, inputs, outputs)
        rate = LOAD * max_batch / float(model.service_time(max_batch)[0])

        def work(
            max_batch: int = max_batch,
            inputs: int = inputs,
            outputs: int = outputs,
            prefill: PrefillMode = prefill,
            rate: float = rate,
        ) -> None:
            simulate(
                *PROFILE,
                max_batch,
                Arrivals(rate),
                input_tokens=Lengths(inputs),
                output_tokens=Lengths(outputs, "exponential"),
                requests=requests,
                seed=1,
                prefill=prefill,
            )

        taken = seconds(work, runs=1)
        rows.append([max_batch, inputs, outputs, prefill, requests, taken, taken * 1e6 / requests])
    return [
        Figures(
            f"Simulation of one replica at ρ = {LOAD}, Poisson arrivals, exponential lengths",
            ["N", "in", "out", "prefill", "requests", "s", "s per 1,000,000 requests"],
            rows,
            "Core seconds; drawing the traffic and collecting the figures are included.",
        )
    ]
