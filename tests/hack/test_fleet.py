import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from fleet.exporter import Exporter
from fleet.gateway import Fleet
from fleet.load import Load, LoadError, Point, Traffic, read_loads
from fleet.metrics import Histogram
from fleet.pods import Engine, Pod, match, read_pod
from fleet.server import Fault

HACK = Path(__file__).parents[2] / "hack"
H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}


def accelerator(name, selector=H100, multiplicity=1, resource="nvidia.com/gpu"):
    spec = {"type": name, "multiplicity": multiplicity, "resourceName": resource, "nodeSelector": selector}
    return {"kind": "AcceleratorProfile", "metadata": {"name": name}, "spec": spec}


def performance(name, acc_count=1, alpha=10.0, batch=8):
    return {
        "accelerator": name,
        "accCount": acc_count,
        "alpha": alpha,
        "beta": 0.5,
        "gamma": 5.0,
        "delta": 0.01,
        "maxBatchSize": batch,
        "atTokens": 100,
    }


def model(*profiles, name="llama", model_name="meta-llama/Llama-3.1-8B"):
    spec = {"modelName": model_name, "profiles": list(profiles)}
    return {"kind": "ModelProfile", "metadata": {"name": name}, "spec": spec}


ACCELERATORS = [accelerator("h100")]
MODELS = [model(performance("h100"))]


def pod(name="a", deployment="llama", **changes):
    fields = {
        "namespace": "demo",
        "name": name,
        "uid": name,
        "deployment": deployment,
        "model": "llama",
        "node_selector": H100,
        "limits": {"nvidia.com/gpu": 1},
    }
    return Pod(**(fields | changes))


def load(*points, **changes):
    fields = {"namespace": "demo", "deployment": "llama", "seed": 1, "distribution": "exponential"}
    return Load(points=tuple(Point(*point) for point in points), **(fields | changes))


def run(fleet, until_s, from_s=0.0, step_s=0.1):
    for number in range(1, round((until_s - from_s) / step_s) + 1):
        fleet.step((from_s + number * step_s) * 1000)


def samples(fleet, name="a"):
    """Every sample of a pod's exposition, by name and the labels that tell it from others."""
    text = fleet.exposition("demo", name).decode()
    return {
        (sample.name, sample.labels.get("le") or sample.labels.get("finished_reason") or ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# --- load ---------------------------------------------------------------------------------------------------


def test_a_load_is_linear_between_its_points_and_constant_outside():
    ramp = load((10, 60, 100, 50), (20, 180, 300, 150))
    assert [ramp.at(at).rate for at in (0, 10, 15, 20, 99)] == [60, 60, 120, 180, 180]
    assert ramp.at(12.5) == Point(12.5, 90, 150, 75)


def test_a_stepped_load_holds_each_point_until_the_next():
    steps = load((0, 60, 100, 50), (20, 180, 300, 150), step=True)
    assert [steps.at(at).rate for at in (0, 19.9, 20, 99)] == [60, 60, 180, 180]


def test_as_many_requests_come_as_the_rate_integrates_to():
    # 0 to 600/min over 600 s, then 600/min for 300 s: 3,000 + 3,000, each within 4 standard deviations.
    traffic = Traffic(load((0, 0, 100, 50), (600, 600, 100, 50)))
    ramp, plateau = traffic.until(600_000), traffic.until(900_000)
    assert len(ramp) == pytest.approx(3000, abs=4 * 3000**0.5)
    assert len(plateau) == pytest.approx(3000, abs=4 * 3000**0.5)
    first_half = sum(request.arrival_ms < 300_000 for request in ramp)
    assert first_half == pytest.approx(750, abs=4 * 750**0.5)


def test_token_means_follow_the_load():
    arrivals = Traffic(load((0, 600, 100, 50), (900, 600, 300, 50))).until(900_000)
    late = [request.input_tokens for request in arrivals if request.arrival_ms > 600_000]
    assert sum(late) / len(late) == pytest.approx(100 + 200 * 750 / 900, rel=0.1)
    assert sum(request.output_tokens for request in arrivals) / len(arrivals) == pytest.approx(50, rel=0.1)


def test_the_requests_depend_on_the_seed_and_not_on_the_steps():
    def requests(seed, step_ms):
        traffic = Traffic(load((0, 60, 100, 50), (60, 300, 100, 50), seed=seed))
        return [r for at in range(step_ms, 60_001, step_ms) for r in traffic.until(at)]

    assert requests(1, 60_000) == requests(1, 50)
    assert requests(1, 60_000) != requests(2, 60_000)


def test_no_load_gives_no_requests():
    assert Traffic(load((0, 0, 100, 50))).until(1e9) == []


def test_a_load_file_gives_every_deployment_its_load(tmp_path):
    file = tmp_path / "load.yaml"
    file.write_text("""
- namespace: demo
  deployment: llama
  seed: 7
  step: true
  lengths: {distribution: lognormal, cov: 0.5}
  points:
  - {at: 0, rate: 60, inputTokens: 100, outputTokens: 50}
  - {at: 30, rate: 120}
""")
    assert read_loads(file) == [
        load((0, 60, 100, 50), (30, 120, 100, 50), seed=7, step=True, distribution="lognormal", cov=0.5)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "a list of loads is needed"),
        ("- deployment: a", "entry 0: namespace must be a name, is None"),
        ("- {namespace: n, deployment: a, colour: red}", "entry 0: unknown field 'colour'"),
        ("- {namespace: n, deployment: a}", "n/a\\): points must be a list of at least one point, is None"),
        (
            "- {namespace: n, deployment: a, points: [{at: 0, rate: -1}]}",
            r"points\[0\]: rate must be a number >= 0, is -1",
        ),
        (
            "- {namespace: n, deployment: a, points: [{at: 0, rate: 1}]}",
            r"points\[0\]: inputTokens must be a number >= 0, is None",
        ),
        (
            """- namespace: n
  deployment: a
  points: [{at: 5, rate: 1, inputTokens: 1, outputTokens: 1}, {at: 5, rate: 1}]""",
            r"points\[1\]: at is 5, must come after 5",
        ),
        (
            "- {namespace: n, deployment: a, lengths: {distribution: cauchy}}",
            "lengths.distribution is 'cauchy', not one of deterministic, exponential, lognormal",
        ),
        (
            """- &a
  namespace: n
  deployment: a
  points: [{at: 0, rate: 1, inputTokens: 1, outputTokens: 1}]
- *a""",
            "Deployment n/a has two entries",
        ),
        ("[", "while parsing"),
    ],
)
def test_a_wrong_load_file_is_refused_with_the_entry_and_the_value(tmp_path, text, message):
    file = tmp_path / "load.yaml"
    file.write_text(text)
    with pytest.raises(LoadError, match=message):
        read_loads(file)


# --- what a pod is ------------------------------------------------------------------------------------------


def pod_document(**changes):
    container = {
        "name": "vllm",
        "args": ["--model", "x", "--max-num-seqs=32", "--served-model-name", "llama"],
        "resources": {"limits": {"nvidia.com/gpu": "2", "memory": "8Gi"}},
    }
    metadata = {
        "namespace": "demo",
        "name": "llama-5d9f-abcde",
        "uid": "u",
        "labels": {"pod-template-hash": "5d9f"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "llama-5d9f"}],
    }
    return {
        "metadata": metadata | changes.get("metadata", {}),
        "spec": {"nodeSelector": H100, "containers": [container | changes.get("container", {})]},
        "status": {"conditions": [{"type": "Ready", "status": changes.get("ready", "True")}]},
    }


def test_a_pod_says_its_deployment_accelerator_model_and_batch():
    assert read_pod(pod_document()) == Pod(
        namespace="demo",
        name="llama-5d9f-abcde",
        uid="u",
        deployment="llama",
        ready=True,
        node_selector=H100,
        limits={"nvidia.com/gpu": 2},
        model="llama",
        max_num_seqs=32,
    )


@pytest.mark.parametrize(
    ("container", "batch"),
    [
        ({"args": ["--max-num-seqs", "16"]}, 16),
        ({"args": [], "command": ["sh", "-c", "vllm serve x --max-num-seqs=8"]}, 8),
        ({"args": [], "env": [{"name": "MAX_NUM_SEQS", "value": "4"}]}, 4),
        ({"args": ["--max-num-seqs=2"], "env": [{"name": "MAX_NUM_SEQS", "value": "4"}]}, 2),
        ({"args": ["--max-num-seqs"]}, None),
        ({"args": ["--max-num-seqs=many"]}, None),
        ({"args": []}, None),
    ],
)
def test_the_batch_comes_from_an_argument_or_a_variable(container, batch):
    assert read_pod(pod_document(container=container)).max_num_seqs == batch


def test_the_model_comes_from_a_label_where_no_argument_names_it():
    labels = {"labels": {"inferscale.dev/model": "mistral"}}
    assert read_pod(pod_document(container={"args": []}, metadata=labels)).model == "mistral"


def test_a_pod_that_is_not_ready_or_is_being_deleted_does_not_serve():
    assert not read_pod(pod_document(ready="False")).ready
    assert not read_pod(pod_document(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})).ready


def test_a_pod_without_a_replica_set_belongs_to_no_deployment():
    assert read_pod(pod_document(metadata={"ownerReferences": []})).deployment == ""


def test_the_accelerator_is_the_profile_with_the_nodes_and_the_units_of_the_pod():
    accelerators = [
        accelerator("h100"),
        accelerator("2xh100", multiplicity=2),
        accelerator("mi300x", {"amd.com/gpu.product-name": "Instinct_MI300X"}, resource="amd.com/gpu"),
    ]
    models = [model(performance("h100", 1), performance("2xh100", 2), performance("mi300x", 1))]

    def name(units, selector=H100, resource="nvidia.com/gpu"):
        return match(pod(limits={resource: units}, node_selector=selector), accelerators, models).accelerator

    assert name(1) == "h100"
    assert name(4, H100 | {"zone": "a"}) == "2xh100"
    assert name(1, {"amd.com/gpu.product-name": "Instinct_MI300X"}, "amd.com/gpu") == "mi300x"


def test_the_profile_with_the_most_node_labels_wins():
    accelerators = [accelerator("any", {}), accelerator("h100")]
    models = [model(performance("any"), performance("h100"), performance("gone"))]
    assert match(pod(), accelerators, models).accelerator == "h100"


def test_a_pod_that_fits_nothing_says_why():
    assert match(pod(model="gpt"), ACCELERATORS, MODELS) == "no ModelProfile for the model 'gpt'"
    reason = match(pod(limits={"nvidia.com/gpu": 3}), ACCELERATORS, MODELS)
    assert "limits {'nvidia.com/gpu': 3}" in reason


def test_a_profile_without_an_iteration_time_is_not_emulated():
    profile = performance("h100", alpha=0) | {"beta": 0}
    assert "alpha = beta = 0" in match(pod(), ACCELERATORS, [model(profile)])


def test_the_model_is_found_by_its_name_in_the_metrics_too():
    assert match(pod(model="meta-llama/Llama-3.1-8B"), ACCELERATORS, MODELS).alpha == 10


@pytest.mark.parametrize(
    ("max_num_seqs", "tokens", "limit"),
    [(None, 100, 8), (None, 50, 16), (None, 1e6, 1), (4, 50, 4), (32, 50, 16)],
)
def test_the_batch_is_limited_by_the_memory_and_by_the_engine(max_num_seqs, tokens, limit):
    engine = Engine("h100", "m", 10, 1, 0, 0, 8, 100, max_num_seqs)
    assert engine.batch_limit(tokens) == limit


# --- metrics ------------------------------------------------------------------------------------------------


def test_a_histogram_takes_many_equal_observations_at_once():
    histogram = Histogram((1.0, 2.5))
    histogram.observe(1.0, 3)
    histogram.observe(2.0)
    histogram.observe(9.0, 2)
    assert histogram.buckets() == [("1.0", 3), ("2.5", 4), ("+Inf", 6)]
    assert histogram.sum == 23


@pytest.fixture
def fleet():
    fleet = Fleet([load((0, 120, 100, 50))])
    fleet.set_pods([pod("a")], ACCELERATORS, MODELS)
    return fleet


def test_the_names_labels_and_buckets_are_those_of_vllm(fleet):
    run(fleet, 30)
    families = {
        family.name: family
        for family in text_string_to_metric_families(fleet.exposition("demo", "a").decode())
    }
    types = {name: family.type for name, family in families.items()}
    assert types == {
        "vllm:num_requests_running": "gauge",
        "vllm:num_requests_waiting": "gauge",
        "vllm:kv_cache_usage_perc": "gauge",
        "vllm:cache_config_info": "gauge",
        "vllm:request_success": "counter",
        "vllm:prompt_tokens": "counter",
        "vllm:generation_tokens": "counter",
        "vllm:request_prompt_tokens": "histogram",
        "vllm:request_generation_tokens": "histogram",
        "vllm:time_to_first_token_seconds": "histogram",
        "vllm:inter_token_latency_seconds": "histogram",
        "vllm:request_queue_time_seconds": "histogram",
        "vllm:e2e_request_latency_seconds": "histogram",
    }
    for name, family in families.items():
        for sample in family.samples:
            assert sample.labels["engine"] == "0"
            if name != "vllm:cache_config_info":
                assert sample.labels["model_name"] == "meta-llama/Llama-3.1-8B"
    assert {sample.name for sample in families["vllm:prompt_tokens"].samples} == {"vllm:prompt_tokens_total"}

    def bounds(name):
        return [float(s.labels["le"]) for s in families[name].samples if s.name.endswith("_bucket")]

    assert bounds("vllm:time_to_first_token_seconds") == [
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80),
        *(160, 640, 2560, float("inf")),
    ]
    assert bounds("vllm:inter_token_latency_seconds") == [
        *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80),
        float("inf"),
    ]


def test_a_fresh_engine_counts_every_finish_from_zero(fleet):
    fresh = samples(fleet)
    for reason in ("stop", "length", "abort"):
        assert fresh["vllm:request_success_total", reason] == 0
    assert fresh["vllm:num_requests_running", ""] == fresh["vllm:num_requests_waiting", ""] == 0


def test_the_figures_of_a_light_load_are_those_of_the_profile(fleet):
    run(fleet, 300)
    seen = samples(fleet)
    finished = seen["vllm:request_success_total", "stop"]
    assert finished == pytest.approx(600, abs=100)
    assert seen["vllm:request_generation_tokens_count", ""] == finished
    mean_itl = (
        seen["vllm:inter_token_latency_seconds_sum", ""] / seen["vllm:inter_token_latency_seconds_count", ""]
    )
    assert 0.0105 <= mean_itl <= 0.0135
    outputs = seen["vllm:request_generation_tokens_sum", ""] / finished
    assert outputs == pytest.approx(50, rel=0.15)
    tokens = seen["vllm:inter_token_latency_seconds_count", ""]
    tokens += seen["vllm:time_to_first_token_seconds_count", ""]
    assert seen["vllm:generation_tokens_total", ""] == tokens


def test_counters_and_buckets_never_go_down(fleet):
    last = samples(fleet)
    for second in range(1, 30):
        run(fleet, second, second - 1)
        seen = samples(fleet)
        for (name, label), value in last.items():
            if name.endswith(("_total", "_bucket", "_count", "_sum")):
                assert seen[name, label] >= value
        last = seen


# --- the fleet ----------------------------------------------------------------------------------------------


def deployment(fleet):
    [only] = fleet.state()["deployments"]
    return only


def test_a_saturated_server_completes_less_than_arrives_and_its_queue_grows():
    fleet = Fleet([load((0, 1800, 100, 50))])
    fleet.set_pods([pod("a", max_num_seqs=2)], ACCELERATORS, MODELS)
    waiting = []
    for second in range(0, 60, 20):
        run(fleet, second + 20, second)
        waiting.append(samples(fleet)["vllm:num_requests_waiting", ""])
    assert waiting[0] < waiting[1] < waiting[2]
    assert samples(fleet)["vllm:num_requests_running", ""] == 2
    assert deployment(fleet)["completed"] < 0.5 * deployment(fleet)["arrived"]


def test_every_request_is_completed_in_a_pod_or_in_the_gateway():
    fleet = Fleet([load((0, 1200, 100, 50))])
    pods = [pod("a"), pod("b"), pod("c")]
    for second, present in enumerate([[], pods[:1], pods, pods[1:], pods[2:], [], pods]):
        fleet.set_pods(present, ACCELERATORS, MODELS)
        run(fleet, 5 * second + 5, 5 * second)
        state = fleet.state()
        inside = sum(served["running"] + served["waiting"] for served in state["pods"])
        total = deployment(fleet)
        assert total["arrived"] == total["completed"] + total["inGateway"] + inside
    assert total["completed"] > 0


def test_requests_wait_for_the_first_ready_pod_and_their_ttft_counts_it():
    fleet = Fleet([load((0, 60, 100, 50), (10, 0, 100, 50), step=True)])
    run(fleet, 20)
    waiting = deployment(fleet)["inGateway"]
    assert waiting > 0
    fleet.set_pods([pod("a")], ACCELERATORS, MODELS)
    run(fleet, 60, 20)
    seen = samples(fleet)
    assert deployment(fleet)["inGateway"] == 0
    assert seen["vllm:request_success_total", "stop"] == waiting
    assert seen["vllm:time_to_first_token_seconds_sum", ""] / waiting > 10


def test_the_pod_with_the_fewest_requests_gets_the_next_one():
    fleet = Fleet([load((0, 1200, 100, 50))])
    fleet.set_pods([pod(name) for name in "abc"], ACCELERATORS, MODELS)
    run(fleet, 30)
    completed = [served["completed"] for served in fleet.state()["pods"]]
    assert min(completed) > 0.6 * max(completed)


def test_a_pod_of_another_deployment_gets_nothing():
    fleet = Fleet([load((0, 600, 100, 50))])
    fleet.set_pods([pod("a", deployment="other")], ACCELERATORS, MODELS)
    run(fleet, 5)
    assert samples(fleet)["vllm:num_requests_running", ""] == 0
    assert deployment(fleet)["inGateway"] == deployment(fleet)["arrived"] > 0


def test_a_recreated_pod_starts_its_counters_again(fleet):
    run(fleet, 10)
    fleet.set_pods([pod("a", uid="later")], ACCELERATORS, MODELS)
    assert samples(fleet)["vllm:prompt_tokens_total", ""] == 0


def test_a_pod_keeps_its_engine_when_profiles_change(fleet):
    run(fleet, 10)
    before = samples(fleet)
    fleet.set_pods([pod("a")], [], [])
    assert samples(fleet) == before


def test_an_unserved_pod_says_why_and_does_not_answer(fleet):
    fleet.set_pods([pod("a", uid="other", model="gpt")], ACCELERATORS, MODELS)
    assert fleet.exposition("demo", "a") is None
    assert fleet.state()["unserved"] == [
        {"namespace": "demo", "name": "a", "reason": "no ModelProfile for the model 'gpt'"}
    ]


def test_a_pod_serves_after_its_startup_time():
    fleet = Fleet([load((0, 60, 100, 50))], startup_s=10)
    answers = []
    for second in (0, 5, 10):
        fleet.set_pods([pod("a")], ACCELERATORS, MODELS)
        answers.append(fleet.exposition("demo", "a") is not None)
        run(fleet, second + 5, second)
    assert answers == [False, False, True]


def test_bias_makes_the_hardware_slower_than_its_profile():
    def mean_itl(bias):
        fleet = Fleet([load((0, 60, 100, 50))], bias=bias)
        fleet.set_pods([pod("a")], ACCELERATORS, MODELS)
        run(fleet, 60)
        seen = samples(fleet)
        name = "vllm:inter_token_latency_seconds"
        return seen[f"{name}_sum", ""] / seen[f"{name}_count", ""]

    assert mean_itl(2.0) == pytest.approx(2 * mean_itl(1.0), rel=0.1)


def test_the_batch_follows_the_token_lengths():
    fleet = Fleet([load((0, 60, 100, 50), (10, 60, 100, 200), step=True)])
    fleet.set_pods([pod("a")], ACCELERATORS, MODELS)
    run(fleet, 5)
    assert fleet.state()["pods"][0]["maxBatch"] == 16
    run(fleet, 11, 5)
    assert fleet.state()["pods"][0]["maxBatch"] == 4


def test_a_stalled_pod_takes_requests_and_makes_no_progress_until_it_is_mended(fleet):
    run(fleet, 10)
    before = samples(fleet)
    assert fleet.set_fault("demo", "a", Fault.STALLED)
    run(fleet, 40, 10)
    stalled = samples(fleet)
    assert stalled["vllm:num_requests_waiting", ""] > before["vllm:num_requests_waiting", ""]
    assert stalled["vllm:generation_tokens_total", ""] == before["vllm:generation_tokens_total", ""]
    assert stalled["vllm:request_success_total", "stop"] == before["vllm:request_success_total", "stop"]
    fleet.set_fault("demo", "a", Fault.NONE)
    run(fleet, 100, 40)
    mended = samples(fleet)
    assert mended["vllm:num_requests_waiting", ""] == 0
    assert mended["vllm:request_success_total", "stop"] > stalled["vllm:request_success_total", "stop"]


def test_a_silent_pod_serves_and_does_not_answer(fleet):
    fleet.set_fault("demo", "a", Fault.SILENT)
    run(fleet, 30)
    assert fleet.exposition("demo", "a") is None
    assert deployment(fleet)["completed"] > 0


# --- HTTP and the command -----------------------------------------------------------------------------------


def get(url, method="GET"):
    answer = requests.request(method, url, timeout=10)
    return answer.status_code, answer.text


def test_scrapes_state_and_faults_over_http(fleet):
    with Exporter(fleet) as exporter:
        Thread(target=exporter.serve_forever, daemon=True).start()
        run(fleet, 5)
        assert exporter.url.startswith("http://127.0.0.1:")
        assert get(f"{exporter.url}/healthz") == (200, "ok\n")
        metrics = f"{exporter.url}/pods/demo/a/metrics"
        assert "vllm:num_requests_running{" in get(metrics)[1]
        assert get(f"{exporter.url}/pods/demo/b/metrics")[0] == 404
        assert json.loads(get(f"{exporter.url}/fleet")[1]) == fleet.state()
        faults = f"{exporter.url}/faults/demo"
        assert get(f"{faults}/a?mode=silent", "POST")[0] == 200
        assert get(metrics)[0] == 404
        assert get(f"{faults}/a?mode=none", "POST")[0] == 200
        assert get(metrics)[0] == 200
        assert get(f"{faults}/b?mode=silent", "POST")[0] == 404
        code, body = get(f"{faults}/a?mode=tired", "POST")
        assert (code, body) == (400, "mode is 'tired', not one of none, silent, stalled\n")
        assert get(f"{exporter.url}/nothing")[0] == get(f"{exporter.url}/nothing", "POST")[0] == 404
        exporter.shutdown()


@pytest.fixture
def api_server():
    """Answers the three lists that the fleet asks for."""
    document = pod_document(container={"resources": {"limits": {"nvidia.com/gpu": "1"}}})
    lists = {"pods": [document], "acceleratorprofiles": ACCELERATORS, "modelprofiles": MODELS}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path, _, query = self.path.partition("?")
            plural = path.rpartition("/")[2]
            selected = parse_qs(query).get("labelSelector") == ["inferscale.dev/emulated=true"]
            known = plural in lists and (plural != "pods" or selected)
            body = json.dumps({"items": lists[plural]} if known else {"message": "not found"}).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield lists, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def start(tmp_path, url, *arguments, text=None):
    kubeconfig = {
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    points = "[{at: 0, rate: 600, inputTokens: 100, outputTokens: 50}]"
    (tmp_path / "load").write_text(text or f"- {{namespace: demo, deployment: llama, points: {points}}}")
    command = [sys.executable, "-m", "fleet", "--kubeconfig", str(tmp_path / "kubeconfig")]
    return subprocess.Popen(
        [*command, "--load", str(tmp_path / "load"), *arguments],
        cwd=HACK,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def eventually(condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("did not come true within 30 s")


@pytest.mark.slow
def test_the_command_serves_the_pods_of_a_cluster_until_it_is_stopped(tmp_path, api_server):
    lists, url = api_server
    with start(tmp_path, url, "--port-file", str(tmp_path / "port"), "--speed", "10") as process:
        try:
            fleet_url = process.stdout.readline().strip()
            assert fleet_url == f"http://127.0.0.1:{(tmp_path / 'port').read_text().strip()}"

            def state():
                return json.loads(get(f"{fleet_url}/fleet")[1])

            eventually(lambda: any(served["completed"] for served in state()["pods"]))
            assert get(f"{fleet_url}/pods/demo/llama-5d9f-abcde/metrics")[0] == 200
            lists["pods"] = []
            eventually(lambda: not state()["pods"])
            del lists["modelprofiles"]
            assert "cannot list modelprofiles: Not Found" in process.stderr.readline()
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.slow
def test_the_command_refuses_a_wrong_load_file_without_a_traceback(tmp_path, api_server):
    with start(tmp_path, api_server[1], text="- deployment: llama") as process:
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "entry 0: namespace must be a name, is None" in stderr
    assert "Traceback" not in stderr
