"""What is known of a service's load, by what its pods report."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics.load import loads
from inferscale_operator.metrics.queries import GATEWAY_QUERIES, Answer, Query
from inferscale_operator.metrics.workload import POD_QUERIES, ReadyPod, Workload
from inferscale_operator.snapshot import LoadState, ObservedLoad, UnknownCause

NOW = 1_750_000_000.0
SETTINGS = MetricsSettings(window_seconds=120, max_age_seconds=90)

IDLE = {
    Query.ARRIVALS: 0.0,
    Query.IN_FLIGHT: 0.0,
    Query.PEAK_IN_FLIGHT: 0.0,
    Query.PROGRESS: 0.0,
    Query.SAMPLED: NOW - 10,
    Query.COVERAGE: 4.0,
}
STALLED = IDLE | {Query.IN_FLIGHT: 3.0, Query.PEAK_IN_FLIGHT: 3.0}
BUSY = IDLE | {
    Query.ARRIVALS: 2.0,
    Query.IN_FLIGHT: 5.0,
    Query.PEAK_IN_FLIGHT: 7.0,
    Query.PROGRESS: 102.0,
    Query.INPUT_TOKENS_SUM: 400.0,
    Query.INPUT_TOKENS_COUNT: 2.0,
    Query.OUTPUT_TOKENS_SUM: 100.0,
    Query.OUTPUT_TOKENS_COUNT: 2.0,
    Query.ITL_SUM: 2.0,
    Query.ITL_COUNT: 100.0,
    Query.TTFT_SUM: 0.6,
    Query.TTFT_COUNT: 2.0,
}
YOUNG = BUSY | {Query.COVERAGE: 0.0}
"""Has a rate, and was not there at the beginning of the window."""
NEWBORN = {Query.IN_FLIGHT: 1.0, Query.PEAK_IN_FLIGHT: 1.0, Query.SAMPLED: NOW - 1, Query.COVERAGE: 0.0}
LATENCY_AND_TOKENS = (
    *(Query.INPUT_TOKENS_SUM, Query.INPUT_TOKENS_COUNT, Query.OUTPUT_TOKENS_SUM, Query.OUTPUT_TOKENS_COUNT),
    *(Query.ITL_SUM, Query.ITL_COUNT, Query.TTFT_SUM, Query.TTFT_COUNT),
)


def without(pod: dict[Query, float], *queries: Query) -> dict[Query, float]:
    return {query: value for query, value in pod.items() if query not in queries}


def answers_of(pods: dict[str, dict[Query, float]], namespace: str = "n") -> dict[Query, Answer]:
    return {
        query: Answer({(namespace, name): pod[query] for name, pod in pods.items() if query in pod})
        for query in Query
    }


def ready(*names: str, seconds: float | None = 3600) -> tuple[ReadyPod, ...]:
    return tuple(ReadyPod(name, None if seconds is None else NOW - seconds) for name in names)


def load_of(pods: dict[str, dict[Query, float]], workload: Workload | None = None) -> ObservedLoad:
    workload = workload or Workload("n", ready(*pods))
    return loads({"vllm": answers_of(pods)}, {"service": workload}, SETTINGS, NOW)["service"]


def test_a_busy_service_is_observed_in_the_units_of_the_snapshot():
    assert load_of({"a": BUSY}) == ObservedLoad(
        LoadState.OBSERVED,
        arrival_rate=120,
        input_tokens=200,
        output_tokens=50,
        itl=20,
        ttft=300,
        in_flight=BUSY[Query.IN_FLIGHT],
    )


def test_rates_add_up_over_pods_and_means_are_weighted_by_their_counts():
    other = BUSY | {Query.ARRIVALS: 1.0, Query.OUTPUT_TOKENS_SUM: 600.0, Query.OUTPUT_TOKENS_COUNT: 3.0}
    load = load_of({"a": BUSY, "b": other})
    assert load.arrival_rate == pytest.approx(180)
    assert load.output_tokens == pytest.approx(700 / 5)


def test_services_get_their_own_pods_only():
    answers = answers_of({"a": BUSY, "b": IDLE, "foreign": BUSY})
    workloads = {
        "x": Workload("n", ready("a")),
        "y": Workload("n", ready("b")),
        "z": Workload("m", ready("a")),
    }
    observed = loads({"vllm": answers}, workloads, SETTINGS, NOW)
    assert {key: load.state for key, load in observed.items()} == {
        "x": LoadState.OBSERVED,
        "y": LoadState.IDLE,
        "z": LoadState.UNKNOWN,
    }
    assert observed["x"].arrival_rate == 120


def test_what_is_not_asked_of_a_gateway_is_read_of_pods():
    assert set(POD_QUERIES) == set(Query) - set(GATEWAY_QUERIES)


@pytest.mark.parametrize(
    ("share", "tokens"),
    [(0.0, 200), (0.75, 50), (1.0, 1), (1.5, 200), (-0.5, 200), (math.nan, 200), (math.inf, 200)],
)
def test_tokens_from_the_prefix_cache_do_not_count_and_one_of_a_prompt_is_always_computed(share, tokens):
    assert load_of({"a": BUSY | {Query.CACHED_SHARE: share}}).input_tokens == pytest.approx(tokens)


def test_the_share_from_the_prefix_cache_is_that_of_each_pod():
    short = BUSY | {Query.INPUT_TOKENS_SUM: 100.0, Query.CACHED_SHARE: 0.5}
    assert load_of({"a": BUSY, "b": short}).input_tokens == pytest.approx((400 + 50) / 4)


# Idle and stalled.


def test_no_request_in_a_window_that_was_seen_throughout_is_idle():
    load = load_of({"a": IDLE, "b": IDLE})
    assert load == ObservedLoad(LoadState.IDLE, "no request in 120 s", arrival_rate=0.0, in_flight=0.0)


@pytest.mark.parametrize(
    "doubt",
    [
        IDLE | {Query.PROGRESS: 0.1},
        IDLE | {Query.PEAK_IN_FLIGHT: 1.0},
        IDLE | {Query.COVERAGE: 2.0},
        without(IDLE, Query.COVERAGE),
        without(IDLE, Query.PROGRESS),
        without(IDLE, Query.PEAK_IN_FLIGHT),
        without(IDLE, Query.ARRIVALS),
        without(IDLE, Query.IN_FLIGHT),
        without(IDLE, Query.SAMPLED),
        IDLE | {Query.SAMPLED: NOW - 91},
    ],
)
def test_any_doubt_at_one_pod_keeps_the_service_from_being_idle(doubt):
    assert load_of({"a": IDLE, "b": doubt}).state is not LoadState.IDLE


def test_a_pod_that_is_ready_and_not_scraped_yet_keeps_the_service_from_being_idle():
    workload = Workload("n", (*ready("a"), *ready("b", seconds=1)))
    assert load_of({"a": IDLE}, workload).state is LoadState.OBSERVED


@pytest.mark.parametrize(
    "workload",
    [Workload("n", ready("a"), others=("s-1-bbbbb",)), Workload("n", ready("a"), replica_sets=("s-1",))],
)
def test_requests_at_a_terminating_or_departed_pod_keep_the_service_from_being_idle(workload):
    assert load_of({"a": IDLE, "s-1-bbbbb": BUSY}, workload).state is LoadState.OBSERVED


def test_requests_that_make_no_progress_are_a_stall():
    load = load_of({"a": STALLED, "b": IDLE})
    assert load.state is LoadState.STALLED
    assert load.message == "3 requests are running or waiting and none made progress in 120 s"


def test_requests_at_a_pod_that_was_seen_for_a_part_of_the_window_are_no_stall():
    assert load_of({"a": STALLED | {Query.COVERAGE: 1.0}}).state is LoadState.PARTIAL


def test_a_window_that_was_seen_in_part_is_partial_as_its_rate_may_be_too_low():
    load = load_of({"a": BUSY, "b": BUSY | {Query.COVERAGE: 0.0}})
    assert load.state is LoadState.PARTIAL
    assert load.message == "1 of 2 ready pods were sampled in a part of the last 120 s only, such as b"
    assert load.arrival_rate == pytest.approx(240)


@pytest.mark.parametrize(
    ("others", "workload"),
    [
        ({"old": BUSY}, Workload("n", (*ready("old"), *ready("a", seconds=119)))),
        ({"s-1-bbbbb": BUSY}, Workload("n", ready("a", seconds=119), replica_sets=("s-1",))),
    ],
)
def test_a_pod_that_is_younger_than_the_window_need_not_be_seen_in_all_of_it(others, workload):
    assert load_of({"a": YOUNG, **others}, workload).state is LoadState.OBSERVED


@pytest.mark.parametrize("seconds", [119, None])
def test_what_came_before_the_first_pod_is_not_known(seconds):
    load = load_of({"a": YOUNG}, Workload("n", ready("a", seconds=seconds)))
    assert load.state is LoadState.PARTIAL
    assert load.message == "no pod was sampled as long as 120 s ago: what came then is not known"
    assert load.arrival_rate == pytest.approx(120)


def test_a_new_pod_without_requests_is_not_idle_before_a_window_is_over():
    young = Workload("n", ready("a", seconds=100))
    assert load_of({"a": IDLE | {Query.COVERAGE: 0.0}}, young).state is LoadState.PARTIAL


def test_requests_without_a_finished_one_are_observed_without_token_lengths():
    load = load_of({"a": without(BUSY, *LATENCY_AND_TOKENS)})
    assert load.state is LoadState.OBSERVED
    assert (load.arrival_rate, load.input_tokens, load.output_tokens, load.itl, load.ttft) == (
        120,
        None,
        None,
        None,
        None,
    )
    assert load.message == "no request has finished in 120 s: token lengths are not known"


def test_no_observation_in_the_window_is_no_mean():
    load = load_of({"a": BUSY | {Query.ITL_SUM: 0.0, Query.ITL_COUNT: 0.0}})
    assert load.itl is None
    assert load.ttft == pytest.approx(300)


# Pods that do not report.


@pytest.mark.parametrize(
    "silence",
    [
        {},
        without(BUSY, Query.SAMPLED),
        BUSY | {Query.SAMPLED: NOW - 91},
        without(BUSY, Query.IN_FLIGHT),
        without(BUSY, Query.ARRIVALS),
    ],
)
def test_a_silent_pod_makes_the_service_partial_and_is_taken_to_get_what_the_others_get(silence):
    load = load_of({"a": BUSY, "b": BUSY, "c": silence})
    assert load.state is LoadState.PARTIAL
    assert load.message == "1 of 3 ready pods do not report, such as c"
    assert load.arrival_rate == pytest.approx(3 * 120)


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(1, LoadState.OBSERVED), (59, LoadState.OBSERVED), (61, LoadState.PARTIAL), (119, LoadState.PARTIAL)],
)
def test_a_burst_of_new_pods_that_are_not_scraped_yet_never_multiplies_the_load(seconds, state):
    new = [f"new{i}" for i in range(9)]
    load = load_of({"a": BUSY}, Workload("n", (*ready("a"), *ready(*new, seconds=seconds))))
    assert load.state is state
    assert load.arrival_rate == pytest.approx(120)


def test_new_pods_without_a_rate_yet_count_as_reporting_nothing():
    workload = Workload("n", (*ready("a"), *ready("b", "c", seconds=20)))
    load = load_of({"a": BUSY, "b": NEWBORN, "c": NEWBORN}, workload)
    assert load.state is LoadState.OBSERVED
    assert load.arrival_rate == pytest.approx(120)


def test_the_share_of_a_new_pod_is_not_taken_for_that_of_a_silent_one():
    workload = Workload("n", (*ready("a", "silent"), *ready("new", seconds=30)))
    load = load_of({"a": BUSY, "new": BUSY | {Query.ARRIVALS: 0.1}}, workload)
    assert load.arrival_rate == pytest.approx(60 * (2.0 + 0.1 + 2.0))


def test_pods_of_unknown_readiness_are_missed_and_not_multiplied():
    workload = Workload("n", ready("a", "b", "c", seconds=None))
    load = load_of({"a": BUSY}, workload)
    assert load.state is LoadState.PARTIAL
    assert load.arrival_rate == pytest.approx(120)


def test_a_service_without_ready_pods_is_unknown_whatever_the_others_report():
    load = load_of({"a": BUSY}, Workload("n", others=("a",)))
    assert load == ObservedLoad(LoadState.UNKNOWN, "no pod is ready", cause=UnknownCause.NO_READY_PODS)


def test_a_service_that_nobody_scrapes_is_unknown_and_says_what_is_missing():
    load = load_of({}, Workload("n", ready("a", "b")))
    assert load.state is LoadState.UNKNOWN
    assert load.message == (
        "Prometheus has no samples of vllm:num_requests_running and vllm:num_requests_waiting of "
        "2 ready pods, such as n/a, under the labels namespace and pod"
    )


def test_a_service_whose_samples_are_old_is_unknown_and_says_how_old():
    load = load_of({"a": BUSY | {Query.SAMPLED: NOW - 400}, "b": BUSY | {Query.SAMPLED: NOW - 300}})
    assert load.state is LoadState.UNKNOWN
    assert load.message == (
        "the newest sample of 2 ready pods, such as n/a, is 300 s old, more than metrics.maxAgeSeconds 90"
    )


@pytest.mark.parametrize(
    ("seconds", "state"), [(59, LoadState.STARTING), (61, LoadState.UNKNOWN), (None, LoadState.UNKNOWN)]
)
def test_pods_may_stay_silent_for_half_a_window_before_it_is_an_alarm(seconds, state):
    assert load_of({}, Workload("n", ready("a", seconds=seconds))).state is state


def test_a_service_whose_only_pod_has_no_rate_yet_is_starting():
    load = load_of({"a": NEWBORN}, Workload("n", ready("a", seconds=5)))
    assert load.state is LoadState.STARTING
    assert "rate of vllm:request_success_total over 120 s yet" in load.message


def test_a_prometheus_that_lost_its_data_leaves_everything_unknown():
    names = ("a", "b", "c")
    workloads = {name: Workload("n", ready(name), replicas=1) for name in names}
    empty = dict.fromkeys(Query, Answer())
    observed = loads({"vllm": empty}, workloads, SETTINGS, NOW)
    assert {(load.state, load.cause) for load in observed.values()} == {
        (LoadState.UNKNOWN, UnknownCause.NO_SAMPLES)
    }


def test_a_pod_whose_counters_have_no_rate_is_unknown_and_they_are_named():
    load = load_of({"a": NEWBORN})
    assert (load.state, load.cause) == (LoadState.UNKNOWN, UnknownCause.NO_SAMPLES)
    assert "Prometheus has no samples of vllm:request_success_total of 1 ready pods" in load.message


def test_a_preset_that_fails_leaves_the_services_of_others():
    failed = answers_of({"b": BUSY}) | {Query.ARRIVALS: Answer(error="query of arrivals: no")}
    workloads = {"a": Workload("n", ready("a")), "b": Workload("n", ready("b"), preset="tgi")}
    observed = loads({"vllm": answers_of({"a": BUSY}), "tgi": failed}, workloads, SETTINGS, NOW)
    assert observed["a"].state is LoadState.OBSERVED
    assert (observed["b"].state, observed["b"].message) == (LoadState.UNKNOWN, "query of arrivals: no")


# Pods that come and go.


def test_what_came_to_terminating_and_departed_pods_in_the_window_counts():
    workload = Workload("n", ready("s-2-aaaaa"), others=("s-1-bbbbb",), replica_sets=("s-1", "s-2"))
    load = load_of(dict.fromkeys(("s-2-aaaaa", "s-1-bbbbb", "s-1-ccccc"), BUSY), workload)
    assert load.arrival_rate == pytest.approx(3 * 120)


def test_a_pod_whose_name_only_begins_like_a_replica_set_is_none_of_its_pods():
    workload = Workload("n", ready("s-1-aaaaa"), replica_sets=("s-1", "long" * 16))
    pods = dict.fromkeys(
        ("s-1-aaaaa", "s-1-extra-bbbbb", "s-12-ccccc", f"{'long' * 16}"[:58] + "ddddd"), BUSY
    )
    assert load_of(pods, workload).arrival_rate == pytest.approx(120)


# Errors and nonsense.


def test_a_query_of_the_load_that_failed_makes_every_service_unknown():
    answers = answers_of({"a": BUSY}) | {
        Query.PROGRESS: Answer(error="query of progress: no"),
        Query.COVERAGE: Answer(error="x"),
    }
    assert loads({"vllm": answers}, {"s": Workload("n", ready("a"))}, SETTINGS, NOW) == {
        "s": ObservedLoad(
            LoadState.UNKNOWN, "query of progress: no (and 1 more queries)", cause=UnknownCause.QUERY_FAILED
        )
    }


def test_a_query_of_a_mean_that_failed_leaves_that_figure_out_and_says_so():
    answers = answers_of({"a": BUSY}) | {Query.ITL_SUM: Answer(error="query of ITL: no")}
    workloads = {"s": Workload("n", ready("a")), "unready": Workload("n")}
    observed = loads({"vllm": answers}, workloads, SETTINGS, NOW)
    assert observed["s"] == replace(load_of({"a": BUSY}), itl=None, message="query of ITL: no")
    assert observed["unready"].message == "no pod is ready"


@pytest.mark.parametrize(
    ("nonsense", "said"),
    [
        ({Query.ARRIVALS: -1.0}, "pod a: arrivals is -1; it cannot be negative"),
        ({Query.IN_FLIGHT: -2.0}, "pod a: requests in flight is -2; it cannot be negative"),
        ({Query.ARRIVALS: 2e5}, "arrival rate per minute is 1.2e+07; it must be between 0 and 1e+07"),
        ({Query.ARRIVALS: math.nan}, "arrival rate per minute is nan"),
        ({Query.INPUT_TOKENS_SUM: 3e7}, "mean of input tokens is 1.5e+07; it must be between 0 and 1e+07"),
        ({Query.OUTPUT_TOKENS_SUM: 0.0}, "the mean of input or output tokens is 0"),
        ({Query.OUTPUT_TOKENS_SUM: -1.0}, "mean of output tokens is -0.5"),
        ({Query.ITL_SUM: -1.0}, "mean inter-token latency in ms is -10"),
        ({Query.TTFT_SUM: math.inf}, "mean time to first token in ms is inf"),
    ],
)
def test_figures_that_cannot_be_true_make_the_service_unknown(nonsense, said):
    load = load_of({"a": BUSY | nonsense})
    assert load.state is LoadState.UNKNOWN
    assert said in load.message
    assert load.arrival_rate is None


# Properties.

figures = st.one_of(st.just(0.0), st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 1e4))
reports = st.dictionaries(
    st.sampled_from(["a", "b", "s-1-ccccc", "foreign"]),
    st.dictionaries(st.sampled_from(list(Query)), figures),
)
workloads = st.builds(
    Workload,
    st.just("n"),
    st.sets(st.sampled_from(["a", "b"])).map(lambda names: ready(*sorted(names))),
    st.just(()),
    st.sampled_from([(), ("s-1",)]),
)


@given(reports, workloads)
@settings(deadline=None)
def test_whatever_is_reported_the_load_is_sound_or_unknown(pods, workload):
    load = load_of(pods, workload)
    for figure in (load.arrival_rate, load.input_tokens, load.output_tokens, load.itl, load.ttft):
        assert figure is None or (math.isfinite(figure) and figure >= 0)
    assert (load.state is LoadState.UNKNOWN) == (load.arrival_rate is None) == (load.cause is not None)
    assert load.message or load.state is LoadState.OBSERVED


@given(st.data())
@settings(deadline=None)
def test_losing_samples_never_turns_a_busy_service_idle(data):
    pods = {"a": BUSY, "b": STALLED}
    kept = {
        name: {query: pod[query] for query in pod if data.draw(st.booleans(), label=f"{name} {query.value}")}
        for name, pod in pods.items()
    }
    assert load_of(kept, Workload("n", ready("a", "b"))).state is not LoadState.IDLE


@given(st.integers(1, 6), st.integers(0, 6), st.floats(0, 100))
@settings(deadline=None)
def test_the_load_of_equal_pods_does_not_depend_on_how_many_of_them_report(reporting, silent, rate):
    names = [f"p{i}" for i in range(reporting + silent)]
    load = load_of(
        {name: BUSY | {Query.ARRIVALS: rate} for name in names[:reporting]}, Workload("n", ready(*names))
    )
    assert load.arrival_rate == pytest.approx(60 * rate * len(names))


@given(st.permutations(range(7)))
@settings(deadline=None)
def test_the_order_of_pods_changes_no_digit(order):
    pods = {
        f"p{i}": {query: value * (1 + i / 7) for query, value in BUSY.items()} | {Query.SAMPLED: NOW}
        for i in range(7)
    }
    shuffled = {f"p{i}": pods[f"p{i}"] for i in order}
    workload = Workload("n", ready(*pods))
    assert load_of(pods, workload) == load_of(shuffled, workload)
