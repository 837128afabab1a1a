from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backtest_builders import SPAN, described, history, pod, row, service
from inferscale_operator.backtest.profile import Profile, fit
from inferscale_operator.metrics.presets import GATEWAY
from inferscale_operator.metrics.queries import Query

A, B, C = (f"chat-6d4f-{letter * 5}" for letter in "abc")
ALL = range(SPAN.count)


def profile(folder: Path, pods: dict[str, dict[Query, object]]) -> Profile:
    fitted = fit(described(folder), history(pods))
    assert fitted.left_out == ()
    return fitted.profiles["default/chat"]


def left_out(folder: Path, pods: dict[str, dict[Query, object]]) -> str:
    fitted = fit(described(folder), history(pods))
    assert fitted.profiles == {}
    [line] = fitted.left_out
    return line


def test_the_profile_is_the_load_that_was(tmp_path: Path) -> None:
    rates = np.arange(1, SPAN.count + 1) * 10.0
    found = profile(tmp_path, {A: pod(rates), B: pod(2 * rates, itl=0.024)})
    assert found.rate == pytest.approx(3 * rates)
    assert found.input_tokens == pytest.approx(np.full(SPAN.count, 128))
    assert found.output_tokens == pytest.approx(np.full(SPAN.count, 64))
    assert found.itl == pytest.approx(np.full(SPAN.count, 20))
    assert found.ttft == pytest.approx(np.full(SPAN.count, 200))
    assert found.replicas.tolist() == [2] * SPAN.count
    assert (found.gaps, found.partial) == ((), 0)


def test_pods_of_other_deployments_do_not_count(tmp_path: Path) -> None:
    others = {"chat-api-6d4f-aaaaa": pod(1000), "other-6d4f-aaaaa": pod(1000), "chat": pod(1000)}
    assert profile(tmp_path, {A: pod(60), **others}).rate == pytest.approx(np.full(SPAN.count, 60))


def test_a_name_that_was_cut_is_that_of_the_deployment_it_begins_with(tmp_path: Path) -> None:
    name = "chat-" + "x" * 50
    given = described(tmp_path, service(spec={"targetRef": {"name": name}}))
    stem = f"{name}-6d4f8c7b9-"[:58]
    fitted = fit(given, history({f"{stem}aaaaa": pod(60)}))
    assert fitted.profiles["default/chat"].rate == pytest.approx(np.full(SPAN.count, 60))


def test_a_while_without_samples_is_a_gap_and_not_a_rate_of_zero(tmp_path: Path) -> None:
    seen = [not 4 <= index <= 6 for index in ALL]
    found = profile(tmp_path, {A: pod(60, seen), B: pod(60, seen)})
    assert np.flatnonzero(~found.known).tolist() == [4, 5, 6]
    assert not (found.rate == 0).any()
    [gap] = found.gaps
    assert (gap.begin, gap.end) == (SPAN.begin + 4 * 60, SPAN.begin + 7 * 60)
    assert "no samples of vllm:num_requests_running" in gap.why
    assert found.replicas.tolist() == [2] * SPAN.count


def test_a_step_that_was_seen_in_part_is_a_gap_too(tmp_path: Path) -> None:
    covered = [index != 5 for index in ALL]
    rates = [60 if each else 20 for each in covered]
    found = profile(tmp_path, {A: pod(rates, covered=covered)})
    assert np.flatnonzero(~found.known).tolist() == [5]


def test_a_pod_that_is_not_seen_for_a_while_is_taken_to_get_what_the_others_do(tmp_path: Path) -> None:
    seen = [not 4 <= index <= 6 for index in ALL]
    found = profile(tmp_path, {A: pod(60), B: pod(60), C: pod(60, seen)})
    assert found.rate == pytest.approx(np.full(SPAN.count, 180))
    assert (found.partial, found.gaps) == (3, ())


def test_pods_that_come_and_go_are_counted_while_they_are_there(tmp_path: Path) -> None:
    early, late = [index < 8 for index in ALL], [index >= 6 for index in ALL]
    found = profile(tmp_path, {A: pod(60, early), B: pod(60, late)})
    assert found.replicas.tolist() == [1] * 6 + [2] * 2 + [1] * 4
    assert found.rate == pytest.approx(np.array([60] * 6 + [120] * 2 + [60] * 4))


def test_a_pod_that_goes_within_a_step_makes_no_gap(tmp_path: Path) -> None:
    seen, covered = [index < 8 for index in ALL], [index < 7 for index in ALL]
    found = profile(tmp_path, {A: pod(60), B: pod([60] * 7 + [20] * 5, seen, covered)})
    assert found.gaps == ()
    assert found.rate == pytest.approx(np.array([120] * 7 + [80] + [60] * 4))


def test_what_a_pod_received_before_it_went_within_a_step_counts(tmp_path: Path) -> None:
    gone = pod(60, [index < 8 for index in ALL])
    gone[Query.ARRIVALS][8] = 0.5
    found = profile(tmp_path, {A: pod(60), B: gone})
    assert found.rate == pytest.approx(np.array([120] * 8 + [90] + [60] * 3))


def test_a_service_at_zero_replicas_is_known_by_its_gateway(tmp_path: Path) -> None:
    given = described(tmp_path, service(spec={"metrics": {"preset": "gateway"}}))
    awake = np.array([index >= 5 for index in ALL])
    waiting = {
        Query.GATEWAY_QUEUE: row(0),
        Query.GATEWAY_PEAK_QUEUE: row(0),
        Query.GATEWAY_ARRIVALS: np.where(awake, 1.0, 0.0),
        Query.GATEWAY_SAMPLED: np.array([SPAN.time(index) - 5.0 for index in ALL]),
    }
    found = fit(given, history({A: pod(60, awake)}, GATEWAY, waiting)).profiles["default/chat"]
    assert found.rate == pytest.approx(np.where(awake, 60, 0))
    assert found.replicas.tolist() == np.where(awake, 1, 0).tolist()


def test_pods_that_are_all_gone_after_a_step_seen_in_part_leave_a_gap(tmp_path: Path) -> None:
    seen, covered = [index < 6 for index in ALL], [index < 5 for index in ALL]
    rates = [60 if each else 20 for each in covered]
    found = profile(tmp_path, {A: pod(rates, seen, covered), B: pod(rates, seen, covered)})
    assert np.flatnonzero(found.known).tolist() == [0, 1, 2, 3, 4]


def test_no_request_at_all_is_a_load_of_zero(tmp_path: Path) -> None:
    found = profile(tmp_path, {A: pod(0)})
    assert found.rate.tolist() == [0] * SPAN.count
    assert np.isnan(found.output_tokens).all()


def test_a_pod_that_stands_still_with_requests_in_it_is_a_gap(tmp_path: Path) -> None:
    stuck = pod(0)
    stuck[Query.IN_FLIGHT] = stuck[Query.PEAK_IN_FLIGHT] = np.full(SPAN.count, 3.0)
    assert "not known at any step" in left_out(tmp_path, {A: stuck})


@pytest.mark.parametrize(
    ("queries", "missing"),
    [
        ((Query.SAMPLED, Query.IN_FLIGHT), "vllm:num_requests_running, vllm:num_requests_waiting"),
        ((Query.IN_FLIGHT,), "vllm:num_requests_waiting"),
        ((Query.ARRIVALS,), "vllm:request_success_total"),
        ((Query.INPUT_TOKENS_COUNT,), "vllm:request_prompt_tokens_count"),
        (
            (Query.ARRIVALS, Query.OUTPUT_TOKENS_COUNT),
            "vllm:request_success_total, vllm:request_generation_tokens_count",
        ),
    ],
)
def test_series_that_are_missing_are_named_with_the_service(
    tmp_path: Path, queries: tuple[Query, ...], missing: str
) -> None:
    without = {query: row for query, row in pod(60).items() if query not in queries}
    assert left_out(tmp_path, {A: without}).startswith(
        f"default/chat: Prometheus has no samples of {missing} of pods default/chat-* between"
    )


def test_a_deployment_of_another_name_is_hinted_at(tmp_path: Path) -> None:
    line = left_out(tmp_path, {"llama-6d4f-aaaaa": pod(60)})
    assert "(metric preset vllm; it has them of llama-6d4f-aaaaa)" in line
    assert "no pod in namespace default has vllm:num_requests_running" in left_out(tmp_path, {})


def test_one_service_without_its_series_does_not_stop_the_others(tmp_path: Path) -> None:
    fitted = fit(described(tmp_path, service("chat"), service("code")), history({A: pod(60)}))
    assert list(fitted.profiles) == ["default/chat"]
    assert fitted.left_out[0].startswith("default/code: Prometheus has no samples of")


def test_a_latency_without_series_is_noted(tmp_path: Path) -> None:
    without = {query: row for query, row in pod(60).items() if not query.value.endswith("first token")}
    found = profile(tmp_path, {A: without})
    [note] = found.notes
    series = "vllm:time_to_first_token_seconds_count"
    assert note == f"its time to first token is not known: Prometheus has no {series} of its pods"
    assert np.isnan(found.ttft).all()
