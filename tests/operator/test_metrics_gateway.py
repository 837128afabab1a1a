"""What is known of a service's load when a gateway tells what waits in front of it."""

from dataclasses import replace

import pytest

from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics.load import loads
from inferscale_operator.metrics.queries import Answer, Query
from inferscale_operator.metrics.workload import ReadyPod, Workload
from inferscale_operator.snapshot import LoadState, ObservedLoad, UnknownCause

NOW = 1_750_000_000.0
SETTINGS = MetricsSettings()
EMPTY = {
    Query.GATEWAY_ARRIVALS: 0.0,
    Query.GATEWAY_QUEUE: 0.0,
    Query.GATEWAY_PEAK_QUEUE: 0.0,
    Query.GATEWAY_SAMPLED: NOW - 5,
}
WAITING = EMPTY | {Query.GATEWAY_QUEUE: 4.0, Query.GATEWAY_PEAK_QUEUE: 4.0, Query.GATEWAY_ARRIVALS: 0.1}
IDLE = {
    Query.ARRIVALS: 0.0,
    Query.IN_FLIGHT: 0.0,
    Query.PEAK_IN_FLIGHT: 0.0,
    Query.PROGRESS: 0.0,
    Query.SAMPLED: NOW - 10,
    Query.COVERAGE: 4.0,
}
BUSY = IDLE | {Query.ARRIVALS: 2.0, Query.IN_FLIGHT: 5.0, Query.PEAK_IN_FLIGHT: 7.0, Query.PROGRESS: 9.0}
STALLED = IDLE | {Query.IN_FLIGHT: 5.0, Query.PEAK_IN_FLIGHT: 7.0}
PARKED = Workload("n", replicas=0, preset="gateway", model="m")
SERVING = replace(PARKED, ready=(ReadyPod("a", NOW - 3600),), replicas=1)


def answers(
    gateway: dict[Query, float], pod: dict[Query, float] | None = None, model: str = "m"
) -> dict[Query, Answer]:
    found = {query: Answer() for query in Query}
    found |= {query: Answer({("n", model): value}) for query, value in gateway.items()}
    return found | {query: Answer({("n", "a"): value}) for query, value in (pod or {}).items()}


def load_of(workload: Workload, *told: dict[Query, float]) -> ObservedLoad:
    return loads({"gateway": answers(*told)}, {"s": workload}, SETTINGS, NOW)["s"]


# At zero replicas the gateway alone knows.


def test_nothing_at_the_gateway_of_a_service_at_zero_is_idle():
    load = load_of(PARKED, EMPTY)
    assert (load.state, load.arrival_rate, load.queued) == (LoadState.IDLE, 0, 0)


def test_requests_that_wait_for_a_service_at_zero_are_its_load():
    load = load_of(PARKED, WAITING)
    assert (load.state, load.arrival_rate, load.queued) == (LoadState.OBSERVED, 6, 4)


def test_the_first_request_that_waits_is_a_load_before_there_is_a_rate():
    load = load_of(PARKED, WAITING | {Query.GATEWAY_QUEUE: 1.0, Query.GATEWAY_ARRIVALS: 0.0})
    assert load.state is LoadState.OBSERVED
    assert load.arrival_rate == pytest.approx(0.5)


def test_a_request_that_came_and_went_in_the_window_keeps_a_service_at_zero_from_being_idle():
    assert load_of(PARKED, EMPTY | {Query.GATEWAY_PEAK_QUEUE: 1.0}).state is LoadState.OBSERVED


@pytest.mark.parametrize(
    ("told", "cause", "said"),
    [
        ({}, UnknownCause.NO_SAMPLES, "the gateway has no queue of model 'm' in namespace n"),
        (EMPTY | {Query.GATEWAY_SAMPLED: NOW - 91}, UnknownCause.SAMPLES_TOO_OLD, "91 s old, more than"),
        (EMPTY | {Query.GATEWAY_QUEUE: -1.0}, UnknownCause.ABSURD_VALUE, "-1, below 0"),
    ],
)
def test_a_gateway_that_tells_nothing_of_a_service_at_zero_leaves_it_unknown(told, cause, said):
    load = load_of(PARKED, told)
    assert (load.state, load.cause, load.queued) == (LoadState.UNKNOWN, cause, None)
    assert said in load.message


def test_a_query_of_the_gateway_that_failed_is_named():
    failed = answers(EMPTY, BUSY) | {Query.GATEWAY_QUEUE: Answer(error="query of queue: no")}
    found = loads({"gateway": failed}, {"parked": PARKED, "serving": SERVING}, SETTINGS, NOW)
    assert (found["parked"].state, found["parked"].cause) == (LoadState.UNKNOWN, UnknownCause.QUERY_FAILED)
    assert found["serving"].state is LoadState.PARTIAL
    assert all("query of queue: no" in load.message for load in found.values())


def test_a_service_at_zero_without_a_gateway_is_unknown_and_says_what_is_missing():
    alone = replace(PARKED, preset="vllm")
    load = loads({"vllm": answers({})}, {"s": alone}, SETTINGS, NOW)["s"]
    assert (load.state, load.cause) == (LoadState.UNKNOWN, UnknownCause.NO_READY_PODS)
    assert load.message == "it has no replica, and metric preset vllm reads no gateway that would tell"


def test_a_service_whose_pods_are_yet_to_come_is_unknown_and_what_waits_is_known():
    load = load_of(replace(PARKED, replicas=2), WAITING)
    assert (load.state, load.message, load.queued) == (LoadState.UNKNOWN, "no pod is ready", 4)


# With pods, both tell.


@pytest.mark.parametrize(("at_gateway", "rate"), [(0.0, 120), (1.0, 120), (3.0, 180)])
def test_whichever_saw_more_requests_is_right(at_gateway, rate):
    load = load_of(SERVING, WAITING | {Query.GATEWAY_ARRIVALS: at_gateway}, BUSY)
    assert (load.state, load.arrival_rate, load.queued) == (LoadState.OBSERVED, rate, 4)


def test_idle_pods_behind_an_empty_gateway_are_idle():
    load = load_of(SERVING, EMPTY, IDLE)
    assert (load.state, load.queued) == (LoadState.IDLE, 0)


@pytest.mark.parametrize("told", [WAITING, EMPTY | {Query.GATEWAY_PEAK_QUEUE: 1.0}])
def test_idle_pods_are_not_idle_while_requests_wait_at_the_gateway(told):
    assert load_of(SERVING, told, IDLE).state is LoadState.OBSERVED


@pytest.mark.parametrize(
    ("pod", "state"),
    [
        (IDLE, LoadState.PARTIAL),
        (BUSY, LoadState.PARTIAL),
        (STALLED, LoadState.STALLED),
        ({}, LoadState.UNKNOWN),
    ],
)
def test_a_gateway_that_tells_nothing_takes_nothing_away_and_adds_nothing(pod, state):
    load = load_of(SERVING, {}, pod)
    assert (load.state, load.queued) == (state, None)


# Several services of one model.


def test_what_waits_for_a_model_of_two_services_counts_for_both_and_what_came_for_neither():
    told = {"gateway": answers(WAITING | {Query.GATEWAY_ARRIVALS: 9.0}, BUSY)}
    found = loads(told, {"parked": PARKED, "serving": SERVING}, SETTINGS, NOW)
    assert {key: load.queued for key, load in found.items()} == {"parked": 4, "serving": 4}
    assert found["serving"].arrival_rate == pytest.approx(120)
    assert found["parked"].state is LoadState.OBSERVED
    assert found["parked"].arrival_rate == pytest.approx(4 * 60 / 120)


def test_the_same_model_in_another_namespace_or_another_model_is_another_queue():
    elsewhere, other = replace(PARKED, namespace="m"), replace(PARKED, model="x")
    found = loads({"gateway": answers(WAITING)}, {"a": elsewhere, "b": other}, SETTINGS, NOW)
    assert {load.cause for load in found.values()} == {UnknownCause.NO_SAMPLES}
