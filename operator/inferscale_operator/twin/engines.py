"""What a simulated model server exports, and how many requests fit into it."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

import inferscale_queueing as queueing
from inferscale_operator.api.model_profile import PerformanceSchema
from inferscale_operator.twin.cluster import Engine
from inferscale_operator.twin.resources import SimulatedService

Floats = NDArray[np.float64]

RUNNING, WAITING, FINISHED, INPUT, OUTPUT = range(5)
INPUT_SUM, INPUT_COUNT, OUTPUT_SUM, OUTPUT_COUNT = range(5, 9)
ITL_SUM, ITL_COUNT, TTFT_SUM, TTFT_COUNT, KV_USAGE = range(9, 14)
COLUMNS = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:request_success_total",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_prompt_tokens_sum",
    "vllm:request_prompt_tokens_count",
    "vllm:request_generation_tokens_sum",
    "vllm:request_generation_tokens_count",
    "vllm:inter_token_latency_seconds_sum",
    "vllm:inter_token_latency_seconds_count",
    "vllm:time_to_first_token_seconds_sum",
    "vllm:time_to_first_token_seconds_count",
    "vllm:kv_cache_usage_perc",
)
"""Series of a pod, under the names of vLLM 0.12."""


LENGTH_STEP = math.log(1.02)


def length_step(tokens: float) -> float:
    """A mean length, rounded to steps of 2 %, so that what is known of one is kept for all that are near."""
    return math.exp(round(math.log(tokens) / LENGTH_STEP) * LENGTH_STEP) if tokens > 0 else 0.0


def step_numbers(tokens: Floats) -> Floats:
    """The numbers of those steps, any shape; minus infinity where there are no tokens."""
    with np.errstate(divide="ignore"):
        numbers: Floats = np.rint(np.log(np.maximum(tokens, 0.0)) / LENGTH_STEP)
    return numbers


def latency_model(
    performance: PerformanceSchema, inputs: float, outputs: float, count: int = 1
) -> queueing.LatencyModel:
    """The curves of a replica at mean lengths, as `count` candidates; without input there is no prefill."""

    def column(value: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.full(count, value)

    if inputs <= 0:
        return queueing.DecodeOnly(column(performance.alpha), column(performance.beta), column(outputs))
    return queueing.PrefillDecode(
        column(performance.alpha),
        column(performance.beta),
        column(performance.gamma),
        column(performance.delta),
        column(inputs),
        column(outputs),
    )


def memory_limit(service: SimulatedService, engine: Engine, output_tokens: float) -> int:
    """Requests that fit into the memory of a replica at a mean output length."""
    performance = service.performances[engine.accelerator]
    return _fitting(performance.max_batch_size, performance.at_tokens, max(output_tokens, 1.0))


@lru_cache(maxsize=4096)
def _fitting(max_batch_size: int, at_tokens: int, tokens: float) -> int:
    # Asked anew for every pod and scrape.
    return int(queueing.max_batch_size(max_batch_size, at_tokens, tokens)[0])


def batch_limit(service: SimulatedService, engine: Engine, output_tokens: float) -> int:
    """Requests that a replica runs at once: what fits, and no more than its engine's own limit."""
    limit = memory_limit(service, engine, output_tokens)
    return limit if engine.max_batch is None else min(limit, engine.max_batch)
