"""The queries against a real Prometheus that holds what model servers of every kind have exported."""

from collections.abc import Callable, Iterator

import pytest

from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics.load import loads
from inferscale_operator.metrics.presets import VLLM, presets
from inferscale_operator.metrics.prometheus import Prometheus
from inferscale_operator.metrics.queries import GATEWAY_QUERIES
from inferscale_operator.metrics.workload import ReadyPod, Workload
from inferscale_operator.snapshot import LoadState, ObservedLoad, UnknownCause

NOW = 1_750_000_000
INTERVAL = 15
HISTORY = 600
THROUGHOUT = range(-HISTORY, 1, INTERVAL)
SETTINGS = MetricsSettings()
INPUT_TOKENS, OUTPUT_TOKENS, ITL, TTFT = 200, 50, 0.02, 0.3

Curve = Callable[[float], float]
"""A figure at a time in seconds from now."""


def still(value: float) -> Curve:
    return lambda _: value


def growing(per_second: float, since: float = -HISTORY) -> Curve:
    return lambda at: per_second * max(0.0, at - since)


def product(factor: float, curve: Curve) -> Curve:
    return lambda at: factor * curve(at)


def lines(curves: dict[str, Curve], labels: str, times: range = THROUGHOUT) -> str:
    """Series in the OpenMetrics format with times; a key is a name with the labels of its own."""
    exported = []
    for series, curve in curves.items():
        name, _, own = series.partition("{")
        exported += [f"{name}{{{own}{labels}}} {curve(at)!r} {NOW + at}\n" for at in times]
    return "".join(exported)


def means(*histograms: tuple[str, float], count: Curve) -> dict[str, Curve]:
    """Sums and counts of histograms, by name and mean."""
    counts = {f"{name}_count": count for name, _ in histograms}
    return counts | {f"{name}_sum": product(mean, count) for name, mean in histograms}


def server(
    pod: str,
    *,
    finished: Curve,
    running: Curve,
    waiting: Curve | None = None,
    refused: Curve | None = None,
    generated: Curve | None = None,
    histograms: bool = True,
    cached: float | None = None,
    itl: str = "vllm:inter_token_latency_seconds",
    times: range = THROUGHOUT,
    label: str = "",
) -> str:
    """What one vLLM has exported, in the OpenMetrics format with times."""
    curves = {
        'vllm:request_success_total{finished_reason="stop",': product(0.75, finished),
        'vllm:request_success_total{finished_reason="length",': product(0.25, finished),
        "vllm:num_requests_running": running,
        "vllm:num_requests_waiting": waiting or still(0),
        "vllm:prompt_tokens_total": product(INPUT_TOKENS, finished),
        "vllm:generation_tokens_total": generated or product(OUTPUT_TOKENS, finished),
    }
    if refused:
        curves["vllm:admission_rejections_total"] = refused
    if cached is not None:
        curves["vllm:prefix_cache_queries_total"] = product(INPUT_TOKENS, finished)
        curves["vllm:prefix_cache_hits_total"] = product(INPUT_TOKENS * cached, finished)
    if histograms:
        curves |= means(
            ("vllm:request_prompt_tokens", INPUT_TOKENS),
            ("vllm:request_generation_tokens", OUTPUT_TOKENS),
            (itl, ITL),
            ("vllm:time_to_first_token_seconds", TTFT),
            count=finished,
        )
    return lines(curves, f'model_name="m",engine="0",namespace="n",pod="{pod}"{label}', times)


TENSOR = tuple(f'tp_rank="{rank}",pp_rank="0",' for rank in (0, 1))
EXPERT = tuple(f'tp_rank="{rank}",pp_rank="0",moe_ep_rank="{rank}",' for rank in (0, 1))
DATA = tuple(f'tp_rank="{rank}",pp_rank="0",dp_rank="{rank // 2}",' for rank in range(4))


def sglang(
    pod: str,
    *,
    finished: Curve,
    running: Curve,
    waiting: Curve,
    entered: Curve | None = None,
    ranks: tuple[str, ...] = TENSOR,
) -> str:
    """What one SGLang with several ranks has exported; its probes are requests as well."""
    at_rank = {
        f"sglang:{name}{{{rank}": gauge
        for name, gauge in (("num_running_reqs", running), ("num_queue_reqs", waiting))
        for rank in ranks
    }
    curves = at_rank | {
        "sglang:num_requests_total": finished,
        "sglang:prompt_tokens_total": product(INPUT_TOKENS, finished),
        'sglang:cached_tokens_total{cache_source="device",': product(0.25 * INPUT_TOKENS, finished),
        'sglang:cached_tokens_total{cache_source="host",': product(0.25 * INPUT_TOKENS, finished),
        "sglang:generation_tokens_total": product(OUTPUT_TOKENS, finished),
    }
    if entered:
        curves['sglang:http_requests_total{endpoint="/generate",method="POST",'] = entered
        curves['sglang:http_requests_total{endpoint="/health",method="GET",'] = growing(5)
    curves |= means(
        ("sglang:prompt_tokens_histogram", INPUT_TOKENS),
        ("sglang:generation_tokens_histogram", OUTPUT_TOKENS),
        ("sglang:inter_token_latency_seconds", ITL),
        ("sglang:time_to_first_token_seconds", TTFT),
        count=finished,
    )
    return lines(curves, f'model_name="m",namespace="n",pod="{pod}"')


def tgi(pod: str, *, finished: Curve, entered: Curve, waiting: Curve) -> str:
    """What one TGI has exported."""
    curves = {
        "tgi_batch_current_size": still(8),
        "tgi_queue_size": waiting,
        "tgi_request_success": finished,
        "tgi_request_count": entered,
    }
    curves |= means(
        ("tgi_request_input_length", INPUT_TOKENS),
        ("tgi_request_generated_tokens", OUTPUT_TOKENS),
        ("tgi_request_mean_time_per_token_duration", ITL),
        count=finished,
    )
    return lines(curves, f'namespace="n",pod="{pod}"')


def gateway(model: str, queued: Curve, admitted: Curve | None = None, times: range = THROUGHOUT) -> str:
    """What the endpoint picker of a gateway has exported, under the new names and the old ones."""
    curves: dict[str, Curve] = {}
    for queue, requests in (
        ("llm_d_epp_flow_control_queue_size", "llm_d_epp_request_total"),
        ("inference_extension_flow_control_queue_size", "inference_objective_request_total"),
    ):
        for fairness, share in (("a", 0.25), ("b", 0.75)):
            curves[f'{queue}{{fairness_id="{fairness}",'] = product(share, queued)
        if admitted:
            curves[f'{requests}{{priority="1",'] = admitted
    return lines(curves, f'target_model_name="{model}",namespace="n",pod="epp-1"', times)


EXPORTED = (
    server("normal-aaaaa", finished=growing(2), running=still(4)),
    server("normal-bbbbb", finished=growing(1), running=still(2)),
    server("saturated", finished=growing(1), running=still(8), waiting=growing(1, since=-300)),
    server("refusing", finished=growing(1), running=still(8), refused=growing(0.5)),
    server("idle", finished=still(40), running=still(0)),
    server("idle-after-a-gap", finished=still(40), running=still(0), times=range(-HISTORY, -179, INTERVAL)),
    server("idle-after-a-gap", finished=still(40), running=still(0), times=range(-45, 1, INTERVAL)),
    server("half-seen", finished=growing(2), running=still(4), times=range(-HISTORY, -179, INTERVAL)),
    server("half-seen", finished=growing(2), running=still(4), times=range(-75, 1, INTERVAL)),
    server("briefly-busy", finished=still(40), running=lambda at: float(at == -60)),
    server("stalled", finished=still(40), running=still(3), waiting=still(2)),
    server("generating", finished=still(40), running=still(3), generated=growing(30)),
    server("restarted", finished=lambda at: 2.0 * (at + (HISTORY if at < -60 else 60)), running=still(4)),
    server("stale", finished=growing(2), running=still(4), times=range(-HISTORY, -199, INTERVAL)),
    server("moved-1-aaaaa", finished=growing(2), running=still(4), times=range(-HISTORY, -59, INTERVAL)),
    server("moved-2-bbbbb", finished=growing(2, since=-60), running=still(4), times=range(-60, 1, INTERVAL)),
    server("young", finished=still(0), running=lambda at: 12.0 * (at == 0), times=range(-15, 1, INTERVAL)),
    server("newborn", finished=still(0), running=still(0), times=range(1)),
    server("bare", finished=growing(2), running=still(4), histograms=False),
    server("labelled", finished=growing(3), running=still(4), label=r',cluster="a\"b\\c\nd{}"'),
    server("labelled", finished=growing(9), running=still(4), label=',cluster="east"'),
    server("old", finished=growing(2), running=still(4), itl="vllm:time_per_output_token_seconds"),
    server("prefixed", finished=growing(2), running=still(4), cached=0.75),
    server("first-quarter", finished=growing(2), running=still(4), times=range(-105, 1, INTERVAL)),
    server("back", finished=growing(2), running=still(4), times=range(-30, 1, INTERVAL)),
    server("just-back", finished=growing(2), running=still(4), times=range(1)),
    sglang(
        "sglang", finished=growing(1), entered=growing(3), running=still(8), waiting=growing(2, since=-300)
    ),
    sglang("sglang-quiet", finished=growing(1), running=still(8), waiting=growing(2, since=-300)),
    sglang(
        "sglang-experts", finished=growing(1), running=still(8), waiting=growing(2, since=-300), ranks=EXPERT
    ),
    sglang("sglang-data", finished=growing(1), running=still(8), waiting=growing(1, since=-300), ranks=DATA),
    tgi("tgi", finished=growing(1), entered=growing(3), waiting=growing(2, since=-300)),
    lines(
        {
            "my_active": still(2),
            "my_pending": still(0),
            "my_done_total": growing(1),
            "my_came_total": growing(1.5),
        },
        'kubernetes_ns="n",instance="custom",cluster="east"',
    ),
    gateway("served", still(0), growing(2)),
    gateway("held-back", growing(1, since=-300), growing(2)),
    gateway("quiet", still(0)),
    gateway("woken", growing(0.1, since=-60), times=range(-60, 1, INTERVAL)),
    gateway("vanished", still(0), times=range(-HISTORY, -199, INTERVAL)),
    "# EOF\n",
)
CUSTOM = {
    "name": "mine",
    "running": ["my_old_active", "my_active"],
    "waiting": ["my_pending"],
    "completions": ["my_done_total"],
    "entryRequests": ["my_came_total"],
    "namespaceLabel": "kubernetes_ns",
    "podLabel": "instance",
    "matchers": {"cluster": "east"},
}


@pytest.fixture(scope="module")
def prometheus(backfilled: Callable[[tuple[str, ...]], str]) -> Iterator[Prometheus]:
    client = Prometheus(backfilled(EXPORTED))
    yield client
    client.close()


def load_of(
    prometheus: Prometheus,
    *pods: str,
    replica_sets: tuple[str, ...] = (),
    ready_for: float = HISTORY,
    settings: MetricsSettings = SETTINGS,
    preset: str = "vllm",
    model: str = "",
) -> ObservedLoad:
    ready = tuple(ReadyPod(pod, NOW - ready_for) for pod in pods)
    workload = Workload("n", ready, replica_sets=replica_sets, replicas=len(pods), preset=preset, model=model)
    answers = prometheus.ask(settings, [presets(settings)[preset]], NOW)
    return loads(answers, {"service": workload}, settings, NOW)["service"]


def test_every_query_is_answered(prometheus):
    settings = MetricsSettings.model_validate({"presets": [CUSTOM]})
    every = list(presets(settings).values())
    for answers in prometheus.ask(settings, every, NOW).values():
        assert {query: answer.error for query, answer in answers.items() if answer.error} == {}
        assert [query for query, answer in answers.items() if not answer.values] == []


def test_a_service_under_load_is_observed_with_its_rate_tokens_and_latency(prometheus):
    load = load_of(prometheus, "normal-aaaaa", "normal-bbbbb")
    assert (load.state, load.message) == (LoadState.OBSERVED, "")
    assert load.arrival_rate == pytest.approx(180)
    assert load.input_tokens == pytest.approx(INPUT_TOKENS)
    assert load.output_tokens == pytest.approx(OUTPUT_TOKENS)
    assert load.itl == pytest.approx(20)
    assert load.ttft == pytest.approx(300)


def test_a_saturated_server_shows_what_arrives_and_not_what_it_completes(prometheus):
    assert load_of(prometheus, "saturated").arrival_rate == pytest.approx(120)


def test_refused_requests_are_demand(prometheus):
    assert load_of(prometheus, "refusing").arrival_rate == pytest.approx(90)


def test_a_server_without_requests_in_the_whole_window_is_idle(prometheus):
    load = load_of(prometheus, "idle")
    assert load.state is LoadState.IDLE
    assert load.arrival_rate == 0


@pytest.mark.parametrize("pod", ["idle-after-a-gap", "briefly-busy"])
def test_a_server_is_not_idle_when_it_was_busy_or_unseen_in_a_part_of_the_window(prometheus, pod):
    assert load_of(prometheus, pod).state in (LoadState.OBSERVED, LoadState.PARTIAL)


def test_a_rate_over_a_window_whose_beginning_was_not_seen_is_partial(prometheus):
    load = load_of(prometheus, "half-seen")
    assert load.state is LoadState.PARTIAL
    assert load.arrival_rate < 0.8 * 120


def test_requests_without_progress_are_a_stall(prometheus):
    load = load_of(prometheus, "stalled")
    assert load.state is LoadState.STALLED
    assert "5 requests" in load.message


def test_generation_that_outlasts_the_window_is_progress(prometheus):
    load = load_of(prometheus, "generating")
    assert load.state is LoadState.OBSERVED
    assert load.output_tokens is None


def test_a_counter_that_starts_anew_makes_no_dip_and_no_peak(prometheus):
    # One interval with its 30 requests is lost with the restart: it finished them unseen.
    assert load_of(prometheus, "restarted").arrival_rate == pytest.approx(120, rel=0.2)


def test_samples_that_are_too_old_are_unknown(prometheus):
    load = load_of(prometheus, "stale")
    assert load.state is LoadState.UNKNOWN
    assert "210 s old" in load.message
    assert "metrics.maxAgeSeconds 90" in load.message


def test_a_pod_that_is_not_scraped_makes_the_service_partial_and_is_taken_to_get_its_share(prometheus):
    load = load_of(prometheus, "normal-aaaaa", "normal-bbbbb", "normal-ccccc")
    assert load.state is LoadState.PARTIAL
    assert "1 of 3 ready pods do not report, such as normal-ccccc" in load.message
    assert load.arrival_rate == pytest.approx(270)


def test_a_service_that_is_not_scraped_is_unknown(prometheus):
    load = load_of(prometheus, "absent")
    assert load.state is LoadState.UNKNOWN
    assert "no samples of vllm:num_requests_running" in load.message
    assert "n/absent" in load.message


def test_the_rate_goes_on_while_a_move_replaces_every_pod(prometheus):
    load = load_of(prometheus, "moved-2-bbbbb", replica_sets=("moved-1", "moved-2"), ready_for=60)
    assert load.state is LoadState.OBSERVED
    assert load.arrival_rate == pytest.approx(120, rel=0.1)


def test_a_first_burst_at_a_young_pod_counts_as_the_requests_that_it_is(prometheus):
    # 12 requests in 120 s, seen over one interval; Prometheus extrapolates it to one and a half.
    assert load_of(prometheus, "young", ready_for=15).arrival_rate == pytest.approx(1.5 * 6)


def test_a_single_sample_is_no_rate(prometheus):
    load = load_of(prometheus, "newborn", ready_for=1)
    assert load.state is LoadState.STARTING
    assert "has a rate" in load.message


def test_a_server_without_histograms_has_a_rate_and_no_means(prometheus):
    load = load_of(prometheus, "bare")
    assert load.arrival_rate == pytest.approx(120)
    assert (load.input_tokens, load.output_tokens, load.itl, load.ttft) == (None, None, None, None)


def test_a_matcher_selects_the_series_with_exactly_its_value(prometheus):
    settings = MetricsSettings(matchers={"cluster": 'a"b\\c\nd{}'})
    assert load_of(prometheus, "labelled", settings=settings).arrival_rate == pytest.approx(180)
    assert load_of(prometheus, "normal-aaaaa", settings=settings).state is LoadState.UNKNOWN


def test_the_labels_of_pods_can_have_other_names(prometheus):
    settings = MetricsSettings(namespace_label="model_name", pod_label="engine", matchers={"cluster": "east"})
    answers = prometheus.ask(settings, [VLLM], NOW)
    workload = Workload("m", (ReadyPod("0"),))
    load = loads(answers, {"service": workload}, settings, NOW)["service"]
    assert load.arrival_rate == pytest.approx(540)


def test_an_expression_that_prometheus_refuses_is_an_error_with_its_words(prometheus):
    answers = prometheus.ask(MetricsSettings(matchers={"__name__": "x"}), [VLLM], NOW)["vllm"]
    assert all("metric name must not be set twice" in (answer.error or "") for answer in answers.values())


# Presets.


def test_servers_from_before_a_metric_was_renamed_are_read_beside_the_new_ones(prometheus):
    assert load_of(prometheus, "old").itl == pytest.approx(20)
    assert load_of(prometheus, "old", "normal-aaaaa").itl == pytest.approx(20)


def test_the_prefill_of_tokens_from_the_prefix_cache_is_no_load(prometheus):
    assert load_of(prometheus, "prefixed").input_tokens == pytest.approx(INPUT_TOKENS / 4)
    assert load_of(prometheus, "prefixed", "normal-aaaaa").input_tokens == pytest.approx(INPUT_TOKENS * 5 / 8)


def test_arrivals_at_sglang_are_counted_as_they_come_and_probes_are_none(prometheus):
    load = load_of(prometheus, "sglang", preset="sglang")
    assert load.state is LoadState.OBSERVED
    assert load.arrival_rate == pytest.approx(180)
    assert load.input_tokens == pytest.approx(INPUT_TOKENS / 2)
    assert load.output_tokens == pytest.approx(OUTPUT_TOKENS)
    assert (load.itl, load.ttft) == (pytest.approx(20), pytest.approx(300))


@pytest.mark.parametrize("pod", ["sglang-quiet", "sglang-experts"])
def test_without_a_counter_of_entry_the_ranks_of_sglang_are_counted_once(prometheus, pod):
    assert load_of(prometheus, pod, preset="sglang").arrival_rate == pytest.approx(180)


def test_ranks_of_data_parallelism_have_queues_of_their_own_and_are_added(prometheus):
    # Each of the two queues grows by one a second; the ranks of tensor parallelism within them count once.
    assert load_of(prometheus, "sglang-data", preset="sglang").arrival_rate == pytest.approx(180)


def test_arrivals_at_tgi_are_counted_as_they_come(prometheus):
    load = load_of(prometheus, "tgi", preset="tgi")
    assert load.state is LoadState.OBSERVED
    assert load.arrival_rate == pytest.approx(180)
    assert (load.input_tokens, load.output_tokens) == (INPUT_TOKENS, OUTPUT_TOKENS)
    assert (load.itl, load.ttft) == (pytest.approx(20), None)


def test_a_preset_of_the_policy_has_names_labels_and_matchers_of_its_own(prometheus):
    settings = MetricsSettings.model_validate({"presets": [CUSTOM]})
    load = load_of(prometheus, "custom", settings=settings, preset="mine")
    assert (load.state, load.arrival_rate) == (LoadState.OBSERVED, pytest.approx(90))
    elsewhere = MetricsSettings.model_validate({"presets": [CUSTOM | {"matchers": {"cluster": "west"}}]})
    assert load_of(prometheus, "custom", settings=elsewhere, preset="mine").state is LoadState.UNKNOWN


def test_pods_of_another_engine_than_the_preset_says_are_unknown(prometheus):
    load = load_of(prometheus, "sglang")
    assert (load.state, load.cause) == (LoadState.UNKNOWN, UnknownCause.NO_SAMPLES)


def test_a_preset_whose_queries_fail_leaves_the_others(prometheus):
    broken = CUSTOM | {"matchers": {"__name__": "x"}}
    settings = MetricsSettings.model_validate({"presets": [broken]})
    answers = prometheus.ask(settings, [presets(settings)[name] for name in ("mine", "vllm")], NOW)
    workloads = {
        "broken": Workload("n", (ReadyPod("custom"),), preset="mine"),
        "well": Workload("n", (ReadyPod("normal-aaaaa", NOW - HISTORY),)),
    }
    found = loads(answers, workloads, settings, NOW)
    assert (found["broken"].state, found["broken"].cause) == (LoadState.UNKNOWN, UnknownCause.QUERY_FAILED)
    assert found["well"].state is LoadState.OBSERVED


# What a Prometheus knows that was away, or lost its data.


def test_a_window_that_begins_unseen_is_partial_however_little_is_missing(prometheus):
    load = load_of(prometheus, "first-quarter")
    assert load.state is LoadState.PARTIAL
    assert load.arrival_rate < 120


def test_pods_that_have_just_been_found_again_are_unknown_and_then_partial(prometheus):
    load = load_of(prometheus, "just-back")
    assert (load.state, load.cause) == (LoadState.UNKNOWN, UnknownCause.NO_SAMPLES)
    assert "no samples of vllm:request_success_total" in load.message
    assert load_of(prometheus, "back").state is LoadState.PARTIAL


# A gateway.


def test_what_waits_in_the_gateway_is_demand_that_the_pods_do_not_see(prometheus):
    load = load_of(prometheus, "normal-aaaaa", preset="gateway", model="held-back")
    assert load.state is LoadState.OBSERVED
    assert (load.arrival_rate, load.queued) == (pytest.approx(180), 300)


def test_a_gateway_without_a_queue_adds_nothing_to_what_the_pods_tell(prometheus):
    load = load_of(prometheus, "normal-aaaaa", preset="gateway", model="served")
    assert (load.state, load.arrival_rate, load.queued) == (LoadState.OBSERVED, pytest.approx(120), 0)


def test_a_service_at_zero_is_idle_while_nothing_waits_and_has_a_load_when_something_does(prometheus):
    assert load_of(prometheus, preset="gateway", model="quiet").state is LoadState.IDLE
    woken = load_of(prometheus, preset="gateway", model="woken")
    assert (woken.state, woken.queued) == (LoadState.OBSERVED, 6)
    # Six requests in a window of two minutes.
    assert woken.arrival_rate == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize(
    ("model", "cause"),
    [("absent", UnknownCause.NO_SAMPLES), ("vanished", UnknownCause.SAMPLES_TOO_OLD)],
)
def test_a_service_at_zero_whose_gateway_tells_nothing_is_unknown(prometheus, model, cause):
    load = load_of(prometheus, preset="gateway", model=model)
    assert (load.state, load.cause) == (LoadState.UNKNOWN, cause)


def test_the_gateway_is_asked_four_queries_whatever_the_number_of_models(prometheus):
    preset = presets(SETTINGS)["gateway"]
    answers = prometheus.ask(SETTINGS, [preset], NOW)["gateway"]
    assert [query for query in answers if query in GATEWAY_QUERIES] == list(GATEWAY_QUERIES)
    assert ("n", "served") in answers[GATEWAY_QUERIES[0]].values
