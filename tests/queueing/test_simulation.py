import math
from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_queueing.analysis import analyze
from inferscale_queueing.latency import PrefillDecode
from inferscale_queueing.simulation import (
    Arrivals,
    Completion,
    Lengths,
    Request,
    Server,
    Trace,
    batch_means,
    batch_quantile,
    draw,
    replay,
    simulate,
)


class Tokens:
    """A recorder that keeps what it hears."""

    def __init__(self):
        self.firsts = []
        self.gaps = {}

    def first_token(self, request, at_ms):
        self.firsts.append((request.id, at_ms))

    def token_gaps(self, gap_ms, count):
        self.gaps[gap_ms] = self.gaps.get(gap_ms, 0) + count


def run(server, requests, step_ms=None):
    """Offer all requests at their arrivals and run to the end; the completions and the refused ids."""
    done, refused = [], []
    for request in requests:
        if step_ms is not None:
            while server.now_ms + step_ms < request.arrival_ms:
                done += server.advance(server.now_ms + step_ms)
        if not server.offer(request):
            refused.append(request.id)
    if step_ms is not None:
        while server.running or server.waiting:
            done += server.advance(server.now_ms + step_ms)
    done += server.advance(math.inf)
    return done, refused


def times(completion):
    return completion.admitted_ms, completion.first_token_ms, completion.finished_ms


# --- schedules computed by hand -----------------------------------------------------------------------------


def test_a_lone_request_takes_its_prefill_and_one_iteration_for_every_further_token():
    # P(1) = 10 + 0.5·20·1 = 20, T(1) = 8 + 2 = 10.
    [done], _ = run(Server(8, 2, 10, 0.5, 4), [Request(5.0, 20, 4)])
    assert times(done) == (5, 25, 55)
    assert (done.wait_ms, done.ttft_ms, done.itl_ms, done.response_ms) == (0, 20, 10, 50)


def test_without_prefill_every_token_takes_one_iteration():
    [done], _ = run(Server(8, 2, 0, 0, 4, decode_only=True), [Request(5.0, 0, 4)])
    assert times(done) == (5, 15, 45)


def test_a_request_without_input_gives_its_first_token_at_once():
    [done], _ = run(Server(8, 2, 10, 0.5, 4), [Request(0.0, 0, 3)])
    assert times(done) == (0, 0, 20)


def test_a_single_token_ends_with_its_prefill_and_has_no_inter_token_latency():
    [done], _ = run(Server(8, 2, 10, 0.5, 4), [Request(0.0, 20, 1)])
    assert times(done) == (0, 20, 20)
    assert math.isnan(done.itl_ms)


def test_a_second_request_enters_at_the_next_iteration_and_slows_the_first():
    # Iterations of the first: 0-10, 10-20 alone (T = 10). The second arrives at 13, enters at 20; both take
    # T(2) = 12 until the first ends with its fourth token, then T(1) = 10 again.
    server = Server(8, 2, 0, 0, 4, decode_only=True)
    done, _ = run(server, [Request(0.0, 0, 4, 1), Request(13.0, 0, 3, 2)])
    assert [times(completion) for completion in done] == [(0, 10, 44), (20, 32, 54)]


def test_a_prefill_runs_beside_the_decoding_and_counts_in_its_batch():
    # First: P(1) = 20, decodes from 20 with T(1) = 10. The second arrives at 25 and is admitted at 30 with
    # P(2) = 10 + 0.5·20·2 = 30 until 60; meanwhile T(2) = 12: 30-42, 42-54, 54-66.
    # Half of the last is over at 60: it joins at 66.
    tokens = Tokens()
    server = Server(8, 2, 10, 0.5, 4, recorder=tokens)
    done, _ = run(server, [Request(0.0, 20, 6, 1), Request(25.0, 20, 2, 2)])
    assert times(done[0]) == (0, 20, 78)
    assert times(done[1]) == (30, 60, 78)
    assert tokens.firsts == [(1, 20), (2, 60)]
    assert tokens.gaps == {10: 1, 12: 4, 18: 1}


def test_in_the_stall_mode_the_batch_stands_still_during_a_prefill():
    # As above until 30; the first two of its tokens are out, at 20 and 30. Now nothing decodes until 60.
    # The third arrives within that prefill and is admitted at its end, with P(3) = 10 + 0.5·4·3 = 16 until
    # 76. Then T(3) = 14: 76-90; the second and the third are done, and T(1) = 10 again.
    tokens = Tokens()
    server = Server(8, 2, 10, 0.5, 4, prefill="stall", recorder=tokens)
    requests = [Request(0.0, 20, 6, 1), Request(25.0, 20, 2, 2), Request(40.0, 4, 2, 3)]
    done, _ = run(server, requests)
    by_id = {completion.request.id: times(completion) for completion in done}
    assert by_id == {1: (0, 20, 120), 2: (30, 60, 90), 3: (60, 76, 90)}
    assert tokens.firsts == [(1, 20), (2, 60), (3, 76)]
    assert tokens.gaps == {10: 4, 60: 1, 30: 1, 14: 1}


def test_in_the_stall_mode_prefills_run_side_by_side_and_the_longest_counts():
    # The first is admitted at once, P(1) = 10 + 0.5·60·1 = 40; the others at its end, P(2) = 14, P(3) = 16.
    # The first and the third decode from 56: T(2) = 12 and, when the third is done, T(1) = 10.
    server = Server(8, 2, 10, 0.5, 4, prefill="stall")
    requests = [Request(0.0, 60, 3, 1), Request(0.0, 4, 1, 2), Request(0.0, 4, 2, 3)]
    done, _ = run(server, requests)
    assert [(c.request.id, *times(c)) for c in done] == [(2, 40, 54, 54), (3, 40, 56, 68), (1, 0, 40, 78)]


def test_the_request_after_a_full_batch_waits_for_the_first_slot():
    # Two slots, three requests at once: T(2) = 12.
    requests = [Request(0.0, 0, 2, 1), Request(0.0, 0, 3, 2), Request(0.0, 0, 1, 3)]
    done, _ = run(Server(8, 2, 0, 0, 2, decode_only=True), requests)
    assert [(c.request.id, *times(c)) for c in done] == [(1, 0, 12, 24), (2, 0, 12, 36), (3, 24, 36, 36)]


def test_the_queue_limit_refuses_what_finds_batch_and_queue_full():
    server = Server(8, 2, 0, 0, 1, queue_limit=1, decode_only=True)
    accepted = [server.offer(Request(0.0, 0, 2, number)) for number in range(3)]
    assert accepted == [True, True, False]
    server.advance(25.0)
    assert (server.running, server.waiting) == (1, 0)
    assert server.offer(Request(26.0, 0, 2))


def test_without_a_queue_a_free_slot_accepts_in_the_middle_of_an_iteration():
    server = Server(8, 2, 0, 0, 2, queue_limit=0, decode_only=True)
    assert [server.offer(Request(at, 0, 9)) for at in (0.0, 3.0, 4.0)] == [True, True, False]


def test_a_slot_freed_by_a_single_token_request_is_taken_at_the_next_iteration():
    # One decodes (T(2) = 12 while the other is in prefill until 30), the third waits for a slot.
    server = Server(8, 2, 10, 0.5, 2)
    requests = [Request(0.0, 0, 9, 1), Request(0.0, 20, 1, 2), Request(1.0, 0, 2, 3)]
    done, _ = run(server, requests)
    by_id = {completion.request.id: completion for completion in done}
    assert times(by_id[2]) == (0, 30, 30)  # P(2) = 10 + 0.5·20·2 = 30
    assert by_id[3].admitted_ms == 36


def test_tokens_are_counted_as_they_are_given():
    server = Server(8, 2, 10, 0.5, 4)
    server.offer(Request(0.0, 20, 4))
    seen = []
    for at in (19.0, 20.0, 29.0, 30.0, 45.0, 50.0, 90.0):
        server.advance(at)
        seen.append((server.prompt_tokens, server.generation_tokens))
    assert seen == [(0, 0), (20, 1), (20, 1), (20, 2), (20, 3), (20, 4), (20, 4)]


def test_a_stall_delays_everything_by_its_length():
    server = Server(8, 2, 10, 0.5, 4)
    server.offer(Request(0.0, 20, 4))
    server.advance(15.0)
    server.stall(115.0)
    assert server.offer(Request(115.0, 0, 2, 2))
    server.stall(215.0)
    assert (server.running, server.waiting, server.generation_tokens) == (1, 1, 0)
    done = server.advance(math.inf)
    # The second decodes 215-227 with T(2) = 12; the first, prefilled at 220, joins that and goes on alone.
    assert [times(completion) for completion in done] == [(215, 215, 227), (0, 220, 247)]


def test_a_drained_server_returns_its_requests_in_the_order_of_arrival():
    server = Server(8, 2, 10, 0.5, 2)
    requests = [Request(0.0, 0, 50, 1), Request(1.0, 20, 50, 2), Request(2.0, 20, 50, 3)]
    for request in requests:
        server.offer(request)
    server.advance(25.0)
    assert server.drain() == requests
    assert (server.running, server.waiting, server.advance(1000.0)) == (0, 0, [])


def test_a_smaller_batch_limit_keeps_the_running_and_a_larger_one_admits_at_the_next_iteration():
    server = Server(8, 2, 0, 0, 2, decode_only=True)
    for number in range(3):
        server.offer(Request(0.0, 0, 50, number))
    server.advance(30.0)
    server.max_batch = 1
    server.advance(61.0)
    assert (server.running, server.waiting) == (2, 1)
    server.max_batch = 3
    server.advance(71.9)
    assert (server.running, server.waiting) == (2, 1)
    server.advance(72.0)
    assert (server.running, server.waiting) == (3, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": -1.0}, "alpha must be a finite number >= 0, got -1.0"),
        ({"delta": math.nan}, "delta must be a finite number >= 0, got nan"),
        ({"alpha": 0.0, "beta": 0.0}, "alpha \\+ beta must be positive"),
        ({"max_batch": 0}, "max_batch must be at least 1, got 0"),
        ({"queue_limit": -1}, "queue_limit must be >= 0 or None, got -1"),
    ],
)
def test_an_absurd_server_is_refused_with_the_value(change, message):
    with pytest.raises(ValueError, match=message):
        Server(**({"alpha": 8.0, "beta": 2.0, "gamma": 10.0, "delta": 0.5, "max_batch": 4} | change))


def test_a_request_without_output_and_a_batch_without_slots_are_refused_with_the_value():
    server = Server(8, 2, 0, 0, 1)
    with pytest.raises(ValueError, match="request 7 has 3 input and 0 output tokens"):
        server.offer(Request(0.0, 3, 0, 7))
    with pytest.raises(ValueError, match="max_batch must be at least 1, got 0"):
        server.max_batch = 0


def test_a_warm_up_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="warmup must leave some of the 10 requests, got 1"):
        simulate(
            8, 2, 0, 0, 1, Arrivals(0.01),
            input_tokens=Lengths(0), output_tokens=Lengths(1), requests=10, seed=1, warmup=1,
        )  # fmt: skip


def test_time_does_not_go_back():
    server = Server(8, 2, 0, 0, 1, start_ms=100.0)
    with pytest.raises(ValueError, match=r"offered at 99\.0 ms, the clock is at 100\.0 ms"):
        server.offer(Request(99.0, 0, 1))
    with pytest.raises(ValueError, match=r"cannot go back to 50\.0 ms"):
        server.advance(50.0)
    with pytest.raises(ValueError, match=r"cannot go back to 99\.0 ms"):
        server.stall(99.0)
    assert server.offer(Request(99.0, 0, 1), at_ms=100.0)
    [done] = server.advance(math.inf)
    assert done.wait_ms == 1


# --- properties ---------------------------------------------------------------------------------------------

servers = st.builds(
    dict,
    alpha=st.floats(0.5, 20),
    beta=st.floats(0, 2),
    gamma=st.sampled_from([0.0, 7.0]),
    delta=st.sampled_from([0.0, 0.03]),
    max_batch=st.integers(1, 6),
    queue_limit=st.none() | st.integers(0, 4),
    decode_only=st.booleans(),
    prefill=st.sampled_from(["concurrent", "stall"]),
)
requests_lists = st.lists(
    st.tuples(st.floats(0, 60), st.sampled_from([0, 5, 200]), st.integers(1, 30)), min_size=1, max_size=25
).map(
    lambda rows: [
        Request(float(at), inputs, outputs, number)
        for number, (at, (_, inputs, outputs)) in enumerate(
            zip(np.cumsum([gap for gap, _, _ in rows]), rows, strict=True)
        )
    ]
)


@settings(deadline=None)
@given(servers, requests_lists, st.floats(0.7, 50))
def test_time_in_small_steps_gives_the_same_as_in_one_go(parameters, requests, step_ms):
    whole_tokens, step_tokens = Tokens(), Tokens()
    whole = Server(**parameters, recorder=whole_tokens)
    steps = Server(**parameters, recorder=step_tokens)
    done, refused = run(whole, requests)
    assert run(steps, requests, step_ms) == (done, refused)
    assert whole_tokens.gaps == step_tokens.gaps
    assert whole_tokens.firsts == step_tokens.firsts
    assert whole.generation_tokens == steps.generation_tokens


@settings(deadline=None)
@given(servers, requests_lists, st.floats(0, 400))
def test_every_request_is_completed_running_waiting_or_refused(parameters, requests, after_ms):
    server = Server(**parameters)
    accepted = sum(server.offer(request) for request in requests)
    done = server.advance(server.now_ms + after_ms)
    assert accepted == len(done) + server.running + server.waiting
    assert server.running <= parameters["max_batch"]
    assert len(server.drain()) == accepted - len(done)


@settings(deadline=None)
@given(servers, requests_lists)
def test_times_are_in_order_admission_is_fifo_and_every_token_is_counted(parameters, requests):
    tokens = Tokens()
    server = Server(**parameters, recorder=tokens)
    done, refused = run(server, requests)
    assert len(done) + len(refused) == len(requests)
    for completion in done:
        arrival = completion.request.arrival_ms
        moments = (arrival, *times(completion))
        assert list(moments) == sorted(moments)
    admitted = [c.admitted_ms for c in sorted(done, key=lambda c: c.request.id)]
    assert admitted == sorted(admitted)
    assert server.generation_tokens == sum(c.request.output_tokens for c in done)
    assert server.prompt_tokens == sum(c.request.input_tokens for c in done)
    assert sum(tokens.gaps.values()) == sum(c.request.output_tokens - 1 for c in done)
    gap_time = sum(gap * count for gap, count in tokens.gaps.items())
    assert gap_time == pytest.approx(sum(c.finished_ms - c.first_token_ms for c in done), abs=1e-6)


# --- against the theory -------------------------------------------------------------------------------------


def erlang_wait(rate, mean_service, servers_count):
    """Mean wait of M/M/N, Erlang C."""
    load = rate * mean_service
    blocking = 1.0
    for n in range(1, servers_count + 1):
        blocking = load * blocking / (n + load * blocking)
    utilization = load / servers_count
    queued = blocking / (1 - utilization + utilization * blocking)
    return queued * mean_service / (servers_count * (1 - utilization))


def test_equal_iterations_and_exponential_lengths_are_erlangs_queue():
    rate = 0.8 * 4 / 300  # at 80 % of four slots of 300 tokens at 1 ms
    result = simulate(
        1, 0, 0, 0, 4, Arrivals(rate),
        input_tokens=Lengths(0), output_tokens=Lengths(300, "exponential"),
        requests=30_000, seed=4, decode_only=True,
    )  # fmt: skip
    expected = erlang_wait(rate, 300, 4)
    assert abs(result.wait.mean - expected) <= result.wait.half_width + 1  # waits round up to an iteration
    assert result.in_service == pytest.approx(4 * 0.8, rel=0.02)
    assert result.wait.half_width < 0.2 * expected


def test_the_decks_case_agrees_with_its_closed_form():
    # R = 51,533 ms, X = 30.04, L = 30.23, ITL 50 ms at 35.2 requests/min.
    result = simulate(
        19, 1, 0, 0, 48, Arrivals(35.20031 / 60_000),
        input_tokens=Lengths(0), output_tokens=Lengths(1024, "exponential"),
        requests=15_000, seed=2, queue_limit=152, decode_only=True,
    )  # fmt: skip
    assert result.response.mean == pytest.approx(51_533, rel=0.04)
    assert result.itl.mean == pytest.approx(50, rel=0.03)
    assert result.in_service == pytest.approx(30.04, rel=0.05)


@pytest.mark.parametrize(
    ("server", "lengths", "load"),
    [
        ((20.58, 0.41, 200, 0.02, 32, 320), (128, 1024), 0.8),
        ((20.58, 0.41, 5.2, 0.1, 64, 640), (512, 128), 0.7),
        ((10, 1, 20, 0.05, 8, 0), (100, 50), 0.7),
        ((18.22, 0.5, 0, 0, 24, 240), (0, 256), 0.8),
        ((5, 0.2, 3, 0.02, 100, 100), (300, 60), 0.85),
    ],
)
def test_prefill_and_decode_agree_with_the_birth_death_model(server, lengths, load):
    *latency, max_batch, queue_limit = server
    inputs, outputs = lengths
    model = PrefillDecode(*latency, inputs, outputs)
    full = latency[2] + latency[3] * inputs * max_batch if inputs else 0
    rate = load * max_batch / (full + (outputs - 1) * (latency[0] + latency[1] * max_batch))
    expected = analyze(model, max_batch, rate, queue_limit=queue_limit)
    result = simulate(
        *latency, max_batch, Arrivals(rate),
        input_tokens=Lengths(inputs), output_tokens=Lengths(outputs, "exponential"),
        requests=20_000, seed=1, queue_limit=queue_limit,
    )  # fmt: skip
    [itl, prefill, in_service, blocking] = (
        float(np.squeeze(figure))
        for figure in (expected.itl, expected.prefill, expected.in_service, expected.blocking)
    )
    assert result.itl.mean == pytest.approx(itl, rel=0.0025, abs=result.itl.half_width)
    assert result.ttft.mean - result.wait.mean == pytest.approx(prefill, rel=0.02)
    assert result.in_service == pytest.approx(in_service, rel=0.03)
    assert result.blocking == pytest.approx(blocking, abs=0.005)


def test_a_finite_queue_blocks_what_the_model_says():
    # Decode-only, alpha 8, beta 1, K 50, N 8, Q 6 at 600/min: blocking .0902, W 208 ms.
    result = simulate(
        8, 1, 0, 0, 8, Arrivals(0.01),
        input_tokens=Lengths(0), output_tokens=Lengths(50, "exponential"),
        requests=20_000, seed=3, queue_limit=6, decode_only=True,
    )  # fmt: skip
    assert result.blocking == pytest.approx(0.090153829, abs=0.01)
    assert result.in_system == pytest.approx(result.in_service + result.throughput * result.wait.mean)
    assert result.ttft_quantile(0.95) > result.wait_quantile(0.95)
    assert result.wait.mean == pytest.approx(208.08, abs=16)  # one iteration
    assert result.throughput == pytest.approx(0.01 * (1 - 0.0901), rel=0.02)
    assert result.wait_quantile(0.95) == pytest.approx(731.5, rel=0.05)


def test_the_same_seed_gives_the_same_result_and_another_seed_another():
    def waits(seed):
        return simulate(
            8, 1, 5, 0.1, 4, Arrivals(0.01, cov=2),
            input_tokens=Lengths(50, "lognormal", 0.7), output_tokens=Lengths(40, "exponential"),
            requests=500, seed=seed,
        ).wait_ms  # fmt: skip

    assert np.array_equal(waits(1), waits(1))
    assert not np.array_equal(waits(1), waits(2))


def test_a_recorded_trace_is_replayed_request_by_request():
    # One slot, T(1) = 10: the second waits for the first, the third finds the replica empty.
    trace = Trace([5.0, 6.0, 1000.0], [0, 20, 20], [4, 1, 3])
    result = replay(Server(8, 2, 10, 0.5, 1), trace, warmup=0)
    assert result.wait_ms.tolist() == [0, 29, 0]
    assert result.ttft_ms.tolist() == [0, 49, 20]
    assert result.response_ms.tolist() == [30, 49, 40]
    assert (result.offered, result.duration_ms) == (3, 1000)


def test_what_is_drawn_and_replayed_is_what_is_simulated():
    traffic = Arrivals(0.01), Lengths(50, "exponential"), Lengths(40, "lognormal", 0.5)
    drawn = replay(Server(8, 1, 5, 0.1, 4, 3), draw(*traffic, 300, seed=7))
    simulated = simulate(
        8, 1, 5, 0.1, 4, traffic[0], input_tokens=traffic[1], output_tokens=traffic[2],
        requests=300, seed=7, queue_limit=3,
    )  # fmt: skip
    assert np.array_equal(drawn.response_ms, simulated.response_ms)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([0, 1], [1], [1, 1]), "one value per request in each column.*'input_tokens': 1"),
        (
            ([0, 2, 1], [1] * 3, [1] * 3),
            r"arrival_ms\[2\] of the trace is 1\.0; it must be a finite time, not before",
        ),
        (([0, math.nan], [1] * 2, [1] * 2), r"arrival_ms\[1\] of the trace is nan"),
        (([0, math.inf, math.inf], [1] * 3, [1] * 3), r"arrival_ms\[1\] of the trace is inf"),
        (([math.inf], [1], [1]), r"arrival_ms\[0\] of the trace is inf"),
        (([0, 1], [1, -1], [1] * 2), r"input_tokens\[1\] of the trace is -1; it must be at least 0"),
        (([0, 1], [1, 1], [0, 1]), r"output_tokens\[0\] of the trace is 0; it must be at least 1"),
    ],
)
def test_an_absurd_trace_is_refused_with_the_place_and_the_value(columns, message):
    with pytest.raises(ValueError, match=message):
        Trace(*columns)


def test_prefills_that_stop_the_batch_make_tokens_come_slower():
    def itl(prefill):
        return simulate(
            20.58, 0.41, 200, 0.02, 32, Arrivals(0.7e-3),
            input_tokens=Lengths(128), output_tokens=Lengths(1024, "exponential"),
            requests=2_000, seed=1, prefill=prefill,
        ).itl.mean  # fmt: skip

    assert itl("stall") > 1.1 * itl("concurrent")


def test_burstier_arrivals_wait_longer():
    def wait(cov):
        return simulate(
            8, 1, 0, 0, 8, Arrivals(0.008, cov),
            input_tokens=Lengths(0), output_tokens=Lengths(50, "exponential"),
            requests=6_000, seed=1, decode_only=True,
        ).wait.mean  # fmt: skip

    assert wait(0) < wait(1) < wait(2)


# --- traffic ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cov", [0, 0.5, 1, 2])
def test_arrivals_have_the_rate_and_the_variation_asked_for(cov):
    gaps = np.diff(Arrivals(0.02, cov).times(40_000, np.random.default_rng(1)), prepend=0)
    assert gaps.mean() == pytest.approx(50, rel=0.04)
    assert gaps.std() / gaps.mean() == pytest.approx(cov, rel=0.04, abs=1e-9)


@pytest.mark.parametrize(
    ("lengths", "cov"),
    [
        (Lengths(128), 0),
        (Lengths(128, "exponential"), 1),
        (Lengths(128.4, "lognormal", 0.6), 0.6),
        (Lengths(distribution="empirical", values=[64, 192]), 0.5),
    ],
)
def test_lengths_have_the_mean_and_the_variation_asked_for(lengths, cov):
    drawn = lengths.sample(40_000, np.random.default_rng(1), minimum=1)
    assert drawn.min() >= 1
    assert drawn.mean() == pytest.approx(lengths.mean or 128, rel=0.03)
    assert drawn.std() / drawn.mean() == pytest.approx(cov, abs=0.03)


def test_a_fractional_length_keeps_its_mean():
    drawn = Lengths(2.25).sample(20_000, np.random.default_rng(1))
    assert set(drawn) == {2, 3}
    assert drawn.mean() == pytest.approx(2.25, abs=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Arrivals(0), "arrival rate must be positive, got 0"),
        (lambda: Arrivals(1, -1), "variation of the arrivals must be >= 0, got -1"),
        (lambda: Lengths(-1), "mean token length must be >= 0, got -1"),
        (lambda: Lengths(1, "lognormal", -1), "variation of token lengths must be >= 0, got -1"),
        (lambda: Lengths(distribution="empirical"), "need at least one value"),
    ],
)
def test_absurd_traffic_is_refused_with_the_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- estimates ----------------------------------------------------------------------------------------------


def test_the_interval_of_independent_values_is_the_textbook_one():
    values = np.random.default_rng(1).normal(10, 2, 20_000)
    estimate = batch_means(values)
    assert estimate.covers(10)
    assert estimate.half_width == pytest.approx(2.09 * 2 / math.sqrt(20_000), rel=0.4)


def test_the_interval_of_a_quantile_of_independent_values_is_the_textbook_one():
    values = np.random.default_rng(1).exponential(10, 20_000)
    estimate = batch_quantile(values, 0.95)
    assert estimate.covers(-10 * math.log(0.05))
    density = 0.05 / 10
    textbook = 2.09 * math.sqrt(0.95 * 0.05 / 20_000) / density
    assert estimate.half_width == pytest.approx(textbook, rel=0.4)
    assert batch_quantile(values[:10], 0.5).half_width == math.inf


def test_weights_make_it_a_ratio_of_sums():
    values, weights = np.array([10.0, 60.0]), np.array([1.0, 3.0])
    assert astuple(batch_means(values, weights)) == (17.5, math.inf)
    assert math.isnan(batch_means(values, np.zeros(2)).mean)


def test_completions_and_requests_are_values():
    request = Request(0.0, 1, 2, 3)
    assert replace(request, id=4) != request
    assert Completion(request, 0, 1, 2) == Completion(request, 0, 1, 2)
