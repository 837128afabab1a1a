import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_queueing import (
    UNBOUNDED,
    Arrivals,
    DecodeOnly,
    Lengths,
    PrefillDecode,
    Targets,
    Variability,
    analyze,
    service_cov,
    simulate,
    size,
    wait_quantile,
)
from strategies import Replica, replicas

MODEL = PrefillDecode(20, 0.5, 30, 0.05, 200, 100)
FULL_RATE = 32 / float(MODEL.service_time(32)[0])


@settings(deadline=None, max_examples=60)
@given(replica=replicas(), load=st.floats(0.01, 0.99))
def test_poisson_arrivals_and_exponential_lengths_change_nothing(replica: Replica, load: float) -> None:
    rate = load * replica.full_rate
    given_ = (replica.latency, replica.max_batch, rate)
    plain = analyze(*given_, queue_limit=replica.queue_limit)
    same = analyze(*given_, queue_limit=replica.queue_limit, variability=Variability(1, 1))
    # In one array with a candidate that is corrected, the other one still is not.
    beside = analyze(*given_, queue_limit=replica.queue_limit, variability=Variability([1, 2], [1, 1]))
    assert same.wait == plain.wait
    assert beside.wait[0] == pytest.approx(plain.wait[0], rel=1e-12)
    assert beside.p_wait[0] == pytest.approx(plain.p_wait[0], rel=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    replica=replicas(),
    load=st.floats(0.05, 0.98),
    arrival_cov=st.floats(0, 5),
    service_cov=st.floats(0, 5),
)
def test_the_wait_rises_with_the_variability_of_arrivals_and_figures_stay_consistent(
    replica: Replica, load: float, arrival_cov: float, service_cov: float
) -> None:
    covs = np.array([arrival_cov, arrival_cov * 1.1 + 0.01])
    rate = load * replica.full_rate
    varied = analyze(
        replica.latency,
        replica.max_batch,
        rate,
        queue_limit=replica.queue_limit,
        variability=Variability(covs, service_cov),
    )
    assert varied.wait[0] <= varied.wait[1] * (1 + 1e-12)
    assert (varied.p_wait >= 0).all()
    assert (varied.p_wait <= 1).all()
    assert varied.in_system == pytest.approx(varied.throughput * varied.response_time, rel=1e-9)
    assert varied.ttft == pytest.approx(varied.wait + varied.prefill, rel=1e-12)


def test_the_batch_and_the_blocking_are_those_without_correction() -> None:
    plain = analyze(MODEL, 32, 0.9 * FULL_RATE, queue_limit=20)
    varied = analyze(MODEL, 32, 0.9 * FULL_RATE, queue_limit=20, variability=Variability(2, 0.5))
    for name in ("itl", "prefill", "in_service", "utilization", "blocking", "throughput"):
        assert getattr(varied, name) == getattr(plain, name)


@pytest.mark.parametrize("service_cov", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("load", [0.3, 0.9])
def test_a_batch_of_one_with_poisson_arrivals_is_the_formula_of_pollaczek_and_khinchine(
    service_cov: float, load: float
) -> None:
    model = DecodeOnly(20, 0.5, 100)
    service = float(model.service_time(1)[0])
    wait = analyze(model, 1, load / service, variability=Variability(1, service_cov)).wait[0]
    assert wait == pytest.approx(load / (1 - load) * service * (1 + service_cov**2) / 2, rel=1e-12)


def test_constant_lengths_are_credited_with_less_than_half_the_wait() -> None:
    model = DecodeOnly(20, 0.5, 100)
    rate = 0.9 / float(model.service_time(1)[0])
    exact = analyze(model, 1, rate).wait[0] / 2
    assert exact < analyze(model, 1, rate, variability=Variability(1, 0)).wait[0] < 1.2 * exact


def test_a_replica_past_its_limit_stays_unstable() -> None:
    over = analyze(MODEL, 32, 1.1 * FULL_RATE, variability=Variability(2, 2))
    assert not over.stable[0]
    assert over.wait[0] == np.inf
    assert over.in_system[0] == np.inf
    assert np.isnan(over.itl[0])


@pytest.mark.parametrize("covs", [(0, 0), (0.5, 1), (100, 100), (100, 0)])
def test_the_least_and_the_largest_rates_and_covs_are_answered(covs: tuple[float, float]) -> None:
    varied = Variability(*covs)
    given_ = {"queue_limit": [50, UNBOUNDED], "variability": varied}
    for rate in (0.0, 1e-300, 1e-12, 0.999 * FULL_RATE):
        assert np.isfinite(analyze(MODEL, 32, rate, **given_).wait).all()
        assert np.isfinite(wait_quantile(MODEL, 32, rate, 0.99, **given_)).all()
    assert np.isfinite(analyze(MODEL, 32, 1e6, queue_limit=50, variability=varied).wait).all()


def test_an_overloaded_finite_queue_is_answered() -> None:
    over = analyze(MODEL, 32, 2 * FULL_RATE, queue_limit=[10, 0], variability=Variability(2, 2))
    assert np.isfinite(over.wait).all()
    assert over.wait[1] == 0


@pytest.mark.parametrize("queue_limit", [UNBOUNDED, 40])
def test_sizing_and_quantiles_agree_under_variability(queue_limit: int) -> None:
    varied = Variability([1, 2, 0.5, 4], [1, 0, 2, 1])
    targets = Targets(ttft=400, percentile=0.95)
    sizing = size(MODEL, 32, targets, queue_limit=queue_limit, variability=varied)
    given_ = (MODEL, 32, sizing.rate)
    wait = wait_quantile(*given_, 0.95, queue_limit=queue_limit, variability=varied)
    prefill = analyze(*given_, queue_limit=queue_limit).prefill
    assert wait + prefill == pytest.approx([400] * 4, rel=1e-6)
    assert sizing.rate[3] < sizing.rate[1] < sizing.rate[0]


@pytest.mark.parametrize("rule", ["exponential", "mean"])
def test_the_other_rules_ignore_variability(rule: str) -> None:
    varied = Variability(3, 2)
    targets = Targets(ttft=400, percentile=0.95, rule=rule)
    assert size(MODEL, 32, targets, variability=varied).rate == size(MODEL, 32, targets).rate
    given_ = (MODEL, 32, 0.9 * FULL_RATE, 0.95)
    assert wait_quantile(*given_, rule=rule, variability=varied) == wait_quantile(*given_, rule=rule)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 1), r"arrival_cov\[0\] is -1; give a finite number of at least 0"),
        ((1, np.nan), r"service_cov\[0\] is nan"),
        ((1, [1, 101]), r"service_cov\[1\] is 101; give a number of at most 100"),
        (([1, 2], [1, 2, 3]), r"\(arrival_cov 2, service_cov 3\)"),
    ],
)
def test_wrong_variability_is_named(arguments: tuple[object, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Variability(*arguments)


def test_a_decode_alone_varies_as_its_tokens_do() -> None:
    assert service_cov(DecodeOnly(20, 0.5, 100), [1, 64], output_cov=1.5) == pytest.approx([1.5, 1.5])
    assert service_cov(DecodeOnly(20, 0.5, 100), 8, input_cov=7, output_cov=0) == 0


def test_a_constant_prefill_makes_the_time_in_service_steadier_than_the_decode() -> None:
    n, prefill, itl = 32, 30 + 0.05 * 200 * 32, 20 + 0.5 * 32
    assert service_cov(MODEL, n) == pytest.approx(100 * itl / (prefill + 99 * itl), rel=1e-12)
    inputs = service_cov(MODEL, n, input_cov=2, output_cov=0)
    assert inputs == pytest.approx(2 * (prefill - 30) / (prefill + 99 * itl), rel=1e-12)
    both = service_cov(MODEL, n, input_cov=2, output_cov=1)
    assert both == pytest.approx(np.hypot(service_cov(MODEL, n), inputs), rel=1e-12)


def test_the_variation_of_the_time_in_service_is_the_simulation_s() -> None:
    n, input_cov, output_cov = 8, 1.5, 0.7
    measured = simulate(
        20,
        0.5,
        30,
        0.4,
        n,
        # So much arrives that the batch is always full.
        Arrivals(0.01),
        input_tokens=Lengths(200, "lognormal", input_cov),
        output_tokens=Lengths(100, "lognormal", output_cov),
        requests=40_000,
        seed=5,
        queue_limit=20,
    )
    time = measured.response_ms - measured.wait_ms
    model = PrefillDecode(20, 0.5, 30, 0.4, 200, 100)
    found = service_cov(model, n, input_cov=input_cov, output_cov=output_cov)
    assert found == pytest.approx(time.std() / time.mean(), rel=0.05)


@pytest.mark.parametrize(
    ("covs", "message"),
    [
        ({"input_cov": -1}, r"input_cov\[0\] is -1; give a finite number of at least 0"),
        ({"output_cov": [1, np.nan]}, r"output_cov\[1\] is nan"),
        ({"input_cov": [1, 1], "output_cov": [1, 1, 1]}, r"\(input_cov 2, output_cov 3\)"),
    ],
)
def test_a_wrong_variation_of_token_counts_is_named(covs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        service_cov(MODEL, 8, **covs)


@pytest.mark.parametrize(
    ("max_batch", "load", "arrival_cov", "service_cov"),
    [(8, 0.85, 2.0, 1.0), (8, 0.85, 1.0, 0.0), (16, 0.85, 4.0, 0.0), (8, 0.7, 2.0, 0.0), (8, 0.8, 0.5, 1.0)],
)
def test_simulation_agrees_with_the_corrected_wait_and_not_with_the_plain_one(
    max_batch: int, load: float, arrival_cov: float, service_cov: float
) -> None:
    model = DecodeOnly(20, 0.2, 64)
    rate = load * max_batch / float(model.service_time(max_batch)[0])
    measured = simulate(
        20,
        0.2,
        0,
        0,
        max_batch,
        Arrivals(rate, arrival_cov),
        input_tokens=Lengths(0),
        output_tokens=Lengths(64, "exponential" if service_cov else "deterministic"),
        requests=40_000,
        seed=3,
        decode_only=True,
    ).wait
    plain = analyze(model, max_batch, rate).wait[0]
    varied = analyze(model, max_batch, rate, variability=Variability(arrival_cov, service_cov)).wait[0]
    iteration = 20 + 0.2 * max_batch
    assert abs(varied - measured.mean) < max(0.25 * measured.mean + iteration, 1.5 * measured.half_width)
    assert abs(plain - measured.mean) > max(0.25 * measured.mean, 1.5 * measured.half_width)
