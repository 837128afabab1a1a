"""The metrics of one engine, with the names, labels and buckets of vLLM 0.12."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from inferscale_queueing.simulation import Completion, Request

_TTFT_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_ITL_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0),
)
_REQUEST_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_TOKENS = tuple(float(digit * 10**power) for power in range(6) for digit in (1, 2, 5))[:-2]
_BLOCK_TOKENS = 16


class Histogram:
    """A histogram that takes many equal observations at once.

    Args:
        bounds: Upper bounds of the buckets, increasing; a value on a bound belongs to its bucket.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Add `count` observations of `value`."""
        self._counts[bisect_left(self._bounds, value)] += count
        self._sum += value * count

    def buckets(self) -> list[tuple[str, float]]:
        """Bound and cumulated count of each bucket."""
        bounds = [*(str(bound) for bound in self._bounds), "+Inf"]
        return list(zip(bounds, (float(count) for count in accumulate(self._counts)), strict=True))

    @property
    def sum(self) -> float:
        """Sum of the observations."""
        return self._sum


class EngineMetrics:
    """Counters and histograms of one engine; a recorder of its tokens."""

    def __init__(self, model_name: str) -> None:
        self._labels = {"model_name": model_name, "engine": "0"}
        self._finished = {"stop": 0, "length": 0, "abort": 0}
        self._prompt_tokens = 0
        self._generation_tokens = 0
        self._histograms = {
            "vllm:request_prompt_tokens": Histogram(_TOKENS),
            "vllm:request_generation_tokens": Histogram(_TOKENS),
            "vllm:time_to_first_token_seconds": Histogram(_TTFT_S),
            "vllm:inter_token_latency_seconds": Histogram(_ITL_S),
            "vllm:request_queue_time_seconds": Histogram(_REQUEST_S),
            "vllm:e2e_request_latency_seconds": Histogram(_REQUEST_S),
        }

    def first_token(self, request: Request, at_ms: float) -> None:
        """The first token of a request was given."""
        self._prompt_tokens += request.input_tokens
        self._generation_tokens += 1
        self._observe("vllm:time_to_first_token_seconds", (at_ms - request.arrival_ms) / 1000)

    def token_gaps(self, gap_ms: float, count: int) -> None:
        """Further tokens were given, each `gap_ms` after the one before it."""
        self._generation_tokens += count
        self._observe("vllm:inter_token_latency_seconds", gap_ms / 1000, count)

    def completed(self, completion: Completion) -> None:
        """A request has all its tokens."""
        self._finished["stop"] += 1
        self._observe("vllm:request_prompt_tokens", completion.request.input_tokens)
        self._observe("vllm:request_generation_tokens", completion.request.output_tokens)
        self._observe("vllm:request_queue_time_seconds", completion.wait_ms / 1000)
        self._observe("vllm:e2e_request_latency_seconds", completion.response_ms / 1000)

    def _observe(self, name: str, value: float, count: int = 1) -> None:
        self._histograms[name].observe(value, count)

    def exposition(self, *, running: int, waiting: int, memory_limit: int, tokens: float) -> bytes:
        """The text that a scrape gets.

        Args:
            running: Requests in the batch.
            waiting: Requests in the queue.
            memory_limit: Requests that fit into the memory.
            tokens: Length of these requests, tokens.
        """
        labels = list(self._labels.values())

        def families() -> Iterator[Metric]:
            for name, help_text, value in (
                ("vllm:num_requests_running", "Requests in the batch.", running),
                ("vllm:num_requests_waiting", "Requests in the queue.", waiting),
                (
                    "vllm:kv_cache_usage_perc",
                    "Used fraction of the KV cache.",
                    min(running / memory_limit, 1),
                ),
            ):
                gauge = GaugeMetricFamily(name, help_text, labels=list(self._labels))
                gauge.add_metric(labels, value)
                yield gauge
            blocks = str(max(int(memory_limit * tokens / _BLOCK_TOKENS), 1))
            config = {"block_size": str(_BLOCK_TOKENS), "num_gpu_blocks": blocks, "engine": "0"}
            info = GaugeMetricFamily(
                "vllm:cache_config_info", "Configuration of the KV cache.", labels=list(config)
            )
            info.add_metric(list(config.values()), 1)
            yield info
            success = CounterMetricFamily(
                "vllm:request_success", "Finished requests.", labels=[*self._labels, "finished_reason"]
            )
            for reason, count in self._finished.items():
                success.add_metric([*labels, reason], count)
            yield success
            for name, help_text, value in (
                ("vllm:prompt_tokens", "Input tokens.", self._prompt_tokens),
                ("vllm:generation_tokens", "Output tokens.", self._generation_tokens),
            ):
                counter = CounterMetricFamily(name, help_text, labels=list(self._labels))
                counter.add_metric(labels, value)
                yield counter
            for name, histogram in self._histograms.items():
                family = HistogramMetricFamily(name, f"Histogram of {name}.", labels=list(self._labels))
                family.add_metric(labels, histogram.buckets(), histogram.sum)
                yield family

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(list(families())))
        return generate_latest(registry)


class _Families:
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
