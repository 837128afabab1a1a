"""The queries against a real Prometheus that holds what model servers of every kind have exported."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics.load import ReadyPod, Workload, loads
from inferscale_operator.metrics.prometheus import Prometheus
from inferscale_operator.snapshot import LoadState, ObservedLoad
from localcluster import ToolsUnavailableError, process, tools

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


def server(
    pod: str,
    *,
    finished: Curve,
    running: Curve,
    waiting: Curve | None = None,
    refused: Curve | None = None,
    generated: Curve | None = None,
    histograms: bool = True,
    times: range = THROUGHOUT,
    label: str = "",
) -> str:
    """What one vLLM has exported, in the OpenMetrics format with times."""

    def product(factor: float, curve: Curve) -> Curve:
        return lambda at: factor * curve(at)

    curves = {
        'vllm:request_success_total{finished_reason="stop",': product(0.75, finished),
        'vllm:request_success_total{finished_reason="length",': product(0.25, finished),
        "vllm:num_requests_running{": running,
        "vllm:num_requests_waiting{": waiting or still(0),
        "vllm:prompt_tokens_total{": product(INPUT_TOKENS, finished),
        "vllm:generation_tokens_total{": generated or product(OUTPUT_TOKENS, finished),
    }
    if refused:
        curves["vllm:admission_rejections_total{"] = refused
    if histograms:
        for name, mean in (
            ("vllm:request_prompt_tokens", INPUT_TOKENS),
            ("vllm:request_generation_tokens", OUTPUT_TOKENS),
            ("vllm:inter_token_latency_seconds", ITL),
            ("vllm:time_to_first_token_seconds", TTFT),
        ):
            curves[f"{name}_count{{"] = finished
            curves[f"{name}_sum{{"] = product(mean, finished)
    labels = f'model_name="m",engine="0",namespace="n",pod="{pod}"{label}}}'
    return "".join(
        f"{name}{labels} {curve(at)!r} {NOW + at}\n" for name, curve in curves.items() for at in times
    )


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
    "# EOF\n",
)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    try:
        programs = tools.ensure(("prometheus", "promtool"))
    except ToolsUnavailableError as error:
        if os.environ.get("INFERSCALE_REQUIRE_CLUSTER"):
            raise
        pytest.skip(f"no Prometheus: {error}")
    folder = tmp_path_factory.mktemp("prometheus")
    exported = folder / "exported.om"
    exported.write_text("".join(EXPORTED))
    backfill = ["tsdb", "create-blocks-from", "openmetrics", exported, folder / "data"]
    subprocess.run([programs["promtool"], *backfill], check=True, capture_output=True)
    (folder / "prometheus.yml").write_text("")
    address = f"127.0.0.1:{process.free_ports(1)[0]}"
    client = Prometheus(f"http://{address}")
    supervised = folder / "supervised"
    process.start_supervisor(supervised, owner_pid=os.getpid())
    try:
        _start(supervised, programs["prometheus"], folder, address)
        yield client
    finally:
        client.close()
        process.stop_supervisor(supervised)


def _start(supervised: Path, program: Path, folder: Path, address: str) -> None:
    process.start_component(
        supervised,
        "prometheus",
        [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address={address}",
            "--log.level=warn",
        ],
    )
    ready = f"http://{address}/-/ready"
    process.wait_for_component(supervised, "prometheus", lambda: process.answers(ready), 30)


def load_of(
    prometheus: Prometheus,
    *pods: str,
    replica_sets: tuple[str, ...] = (),
    ready_for: float = HISTORY,
    settings: MetricsSettings = SETTINGS,
) -> ObservedLoad:
    ready = tuple(ReadyPod(pod, NOW - ready_for) for pod in pods)
    workload = Workload("n", ready, replica_sets=replica_sets)
    return loads(prometheus.ask(settings, NOW), {"service": workload}, settings, NOW)["service"]


def test_every_query_is_answered(prometheus):
    answers = prometheus.ask(SETTINGS, NOW)
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
    answers = prometheus.ask(settings, NOW)
    workload = Workload("m", (ReadyPod("0"),))
    load = loads(answers, {"service": workload}, settings, NOW)["service"]
    assert load.arrival_rate == pytest.approx(540)


def test_an_expression_that_prometheus_refuses_is_an_error_with_its_words(prometheus):
    answers = prometheus.ask(MetricsSettings(matchers={"__name__": "x"}), NOW)
    assert all("metric name must not be set twice" in (answer.error or "") for answer in answers.values())
