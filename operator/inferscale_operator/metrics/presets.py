"""The metric presets: those that are always there, and those of the OptimizerPolicy."""

from __future__ import annotations

from typing import Any

from inferscale_operator.api.inference_service import InferenceServiceSpec
from inferscale_operator.api.metric_preset import GatewaySeries, MetricPreset
from inferscale_operator.api.optimizer_policy import MetricsSettings, OptimizerPolicySpec

_VLLM: dict[str, Any] = {
    "running": ("vllm:num_requests_running",),
    "waiting": ("vllm:num_requests_waiting",),
    "completions": ("vllm:request_success_total",),
    "rejections": ("vllm:admission_rejections_total",),
    "input_tokens": ("vllm:request_prompt_tokens",),
    "output_tokens": ("vllm:request_generation_tokens",),
    "prompt_tokens": ("vllm:prompt_tokens_total",),
    "generation_tokens": ("vllm:generation_tokens_total",),
    "prefix_queries": ("vllm:prefix_cache_queries_total",),
    "prefix_hits": ("vllm:prefix_cache_hits_total",),
    # The second one is from before vLLM 0.12.
    "itl": ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
    "ttft": ("vllm:time_to_first_token_seconds",),
}

VLLM = MetricPreset(name="vllm", **_VLLM)
"""vLLM. It counts requests as they finish only."""

SGLANG = MetricPreset(
    name="sglang",
    # Ranks of tensor, pipeline and expert parallelism tell of the same requests. A rank of data parallelism
    # has a scheduler and a queue of its own.
    rank_labels=("tp_rank", "pp_rank", "moe_ep_rank"),
    running=("sglang:num_running_reqs",),
    waiting=("sglang:num_queue_reqs",),
    completions=("sglang:num_requests_total",),
    entry_requests=("sglang:http_requests_total",),
    # All requests are counted, those of probes and of Prometheus too; generation is asked for by POST.
    entry_matchers={"method": "POST"},
    input_tokens=("sglang:prompt_tokens_histogram",),
    output_tokens=("sglang:generation_tokens_histogram",),
    prompt_tokens=("sglang:prompt_tokens_total",),
    generation_tokens=("sglang:generation_tokens_total",),
    prefix_queries=("sglang:prompt_tokens_total",),
    prefix_hits=("sglang:cached_tokens_total",),
    itl=("sglang:inter_token_latency_seconds",),
    ttft=("sglang:time_to_first_token_seconds",),
)
"""SGLang."""

TGI = MetricPreset(
    name="tgi",
    running=("tgi_batch_current_size",),
    waiting=("tgi_queue_size",),
    completions=("tgi_request_success",),
    rejections=("tgi_request_failure",),
    entry_requests=("tgi_request_count",),
    input_tokens=("tgi_request_input_length",),
    output_tokens=("tgi_request_generated_tokens",),
    itl=("tgi_request_mean_time_per_token_duration",),
)
"""Text Generation Inference. Its latency is a mean over requests, and it has no time to first token."""

GATEWAY = MetricPreset(
    name="gateway",
    **_VLLM,
    gateway=GatewaySeries(
        requests=("llm_d_epp_request_total", "inference_objective_request_total"),
        queue=("llm_d_epp_flow_control_queue_size", "inference_extension_flow_control_queue_size"),
    ),
)
"""vLLM behind the endpoint picker of an inference gateway."""

_BUILT_IN = (GATEWAY, SGLANG, TGI, VLLM)


def presets(settings: MetricsSettings) -> dict[str, MetricPreset]:
    """All presets by name, those of the policy beside the built-in ones."""
    return {preset.name: preset for preset in (*_BUILT_IN, *settings.presets)}


def has_gateway(preset: MetricPreset) -> bool:
    """Whether it tells how many requests wait in front of a service."""
    return preset.gateway is not None


def wakes_from_zero(policy: OptimizerPolicySpec, spec: InferenceServiceSpec) -> bool:
    """Whether a service at zero replicas, which has no pods to report, would be seen to be asked for."""
    preset = presets(policy.metrics).get(spec.metrics.preset)
    return preset is not None and has_gateway(preset)
