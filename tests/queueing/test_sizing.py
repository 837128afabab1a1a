import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_queueing import (
    UNBOUNDED,
    Binding,
    DecodeOnly,
    PrefillDecode,
    Targets,
    analyze,
    replica_count,
    replicas,
    required_rate,
    size,
    wait_quantile,
)
from strategies import Replica
from strategies import replicas as some_replicas

MODEL = PrefillDecode(20, 0.5, 30, 0.05, 200, 100)


def measured(replica: Replica, rate: float, percentile: float, rule: str) -> np.ndarray:
    """ITL, TTFT and wait of one replica, as the targets see them."""
    analysis = analyze(replica.latency, replica.max_batch, rate, queue_limit=replica.queue_limit)
    wait = wait_quantile(
        replica.latency, replica.max_batch, rate, percentile, queue_limit=replica.queue_limit, rule=rule
    )
    return np.concatenate([analysis.itl, wait + analysis.prefill, wait])


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(
    replica=some_replicas(),
    itl_share=st.floats(0.05, 1.5),
    ttft=st.floats(1, 20_000) | st.just(np.inf),
    wait=st.floats(1, 20_000) | st.just(np.inf),
    percentile=st.sampled_from([0.0, 0.5, 0.95, 0.99, np.nan]),
    rule=st.sampled_from(["exact", "exponential", "mean"]),
)
def test_at_the_rate_found_every_target_is_met_and_just_above_the_binding_one_is_missed(
    replica: Replica, itl_share: float, ttft: float, wait: float, percentile: float, rule: str
) -> None:
    itl = float(replica.latency.itl(1 + itl_share * replica.max_batch)[0])
    targets = Targets(itl=itl, ttft=ttft, wait=wait, percentile=percentile, rule=rule)
    limits = np.array([itl, ttft, wait])
    sizing = size(replica.latency, replica.max_batch, targets, queue_limit=replica.queue_limit)
    rate, binding = sizing.rate[0], Binding(sizing.binding[0])
    assert sizing.max_rate[0] == pytest.approx(0.999 * replica.full_rate, rel=1e-12)
    if not sizing.attainable[0]:
        lowest = 0.001 / replica.latency.service_time(1)[0]
        assert rate == 0
        assert (measured(replica, lowest, percentile, rule) > limits * (1 - 1e-9))[binding - 1]
        return
    assert (measured(replica, rate, percentile, rule) <= limits * (1 + 1e-9)).all()
    if binding == Binding.NONE:
        assert rate == sizing.max_rate[0]
    else:
        above = measured(replica, rate * (1 + 1e-6), percentile, rule)
        assert above[binding - 1] > limits[binding - 1]


def test_a_target_that_never_binds_gives_the_largest_rate() -> None:
    sizing = size(MODEL, 16, Targets(itl=1e6, ttft=1e9))
    assert sizing.rate == sizing.max_rate
    assert sizing.binding[0] == Binding.NONE


def test_no_candidates_have_no_rates() -> None:
    none = np.zeros(0)
    assert size(DecodeOnly(none, none, none), none, Targets()).rate.size == 0


def test_no_target_at_all_gives_the_largest_rate() -> None:
    sizing = size(MODEL, [1, 16], Targets())
    assert sizing.rate == pytest.approx(0.999 * np.array([1, 16]) / MODEL.service_time([1, 16]))
    assert sizing.attainable.all()


@pytest.mark.parametrize(
    ("targets", "binding"),
    [
        (Targets(itl=20.4), Binding.ITL),
        (Targets(ttft=39.9), Binding.TTFT),
        (Targets(ttft=39.9, percentile=0.95), Binding.TTFT),
        (Targets(wait=1e-12, itl=1e6), Binding.WAIT),
    ],
)
def test_a_target_missed_by_a_request_alone_is_unattainable(targets: Targets, binding: Binding) -> None:
    sizing = size(MODEL, 2, targets)
    assert not sizing.attainable[0]
    assert sizing.rate[0] == 0
    assert sizing.binding[0] == binding
    assert sizing.max_rate[0] > 0


def test_the_flat_itl_of_a_batch_of_one_meets_a_target_it_equals() -> None:
    sizing = size(MODEL, 1, Targets(itl=[20.5, 20.49]))
    assert sizing.attainable.tolist() == [True, False]
    assert sizing.rate.tolist() == [sizing.max_rate[0], 0.0]


def test_the_flat_itl_of_a_constant_iteration_meets_a_target_it_equals() -> None:
    sizing = size(DecodeOnly(20, 0, 10), 8, Targets(itl=[20, 19.9]))
    assert sizing.attainable.tolist() == [True, False]


def test_the_tighter_target_binds() -> None:
    itl_only = size(MODEL, 32, Targets(itl=25)).rate[0]
    ttft_only = size(MODEL, 32, Targets(ttft=200)).rate[0]
    both = size(MODEL, 32, Targets(itl=25, ttft=200))
    assert both.rate[0] == pytest.approx(min(itl_only, ttft_only), rel=1e-11)
    assert both.binding[0] == (Binding.ITL if itl_only < ttft_only else Binding.TTFT)


def test_a_percentile_that_nobody_waits_for_leaves_the_prefill_to_bind() -> None:
    sizing = size(MODEL, 64, Targets(ttft=100, percentile=0.95))
    analysis = analyze(MODEL, 64, sizing.rate)
    assert analysis.p_wait[0] < 0.05
    assert analysis.prefill == pytest.approx([100], rel=1e-9)


def test_a_throughput_target_keeps_a_tenth_in_reserve() -> None:
    sizing = size(MODEL, 16, Targets(tps=[0, 1000]))
    assert sizing.rate == pytest.approx(sizing.max_rate * [1, 0.9])
    assert sizing.binding.tolist() == [Binding.NONE, Binding.TPS]


def test_a_throughput_target_does_not_raise_a_lower_rate() -> None:
    sizing = size(MODEL, 16, Targets(itl=21, tps=1000))
    assert sizing.rate == pytest.approx(size(MODEL, 16, Targets(itl=21)).rate)
    assert sizing.binding[0] == Binding.ITL


def test_an_unattainable_target_stays_so_with_a_throughput_target() -> None:
    sizing = size(MODEL, 16, Targets(itl=1, tps=1000))
    assert sizing.rate[0] == 0
    assert sizing.binding[0] == Binding.ITL


def test_thousands_of_candidates_give_what_each_gives_alone_in_any_order() -> None:
    random = np.random.default_rng(11)
    count = 2500
    model = PrefillDecode(random.uniform(5, 40, count), random.uniform(0.1, 1, count), 30, 0.05, 200, 100)
    batches = random.integers(1, 200, count)
    limits = random.integers(-1, 50, count)
    itl = model.itl(batches * random.uniform(0, 1.2, count))
    ttft = random.uniform(50, 2000, count)
    percentile = random.choice([0, 0.95], count)
    together = size(model, batches, Targets(itl, ttft, percentile=percentile), queue_limit=limits)
    turned = np.arange(count)[::-1]
    backwards = size(
        model.take(turned),
        batches[turned],
        Targets(itl[turned], ttft[turned], percentile=percentile[turned]),
        queue_limit=limits[turned],
    )
    assert backwards.rate[turned] == pytest.approx(together.rate, rel=1e-11)
    assert (backwards.binding[turned] == together.binding).all()
    assert set(together.binding.tolist()) == {Binding.NONE, Binding.ITL, Binding.TTFT}
    for i in random.integers(0, count, 10):
        alone = size(
            model.take(np.array([i])),
            batches[i],
            Targets(itl[i], ttft[i], percentile=percentile[i]),
            queue_limit=limits[i],
        )
        assert alone.rate[0] == pytest.approx(together.rate[i], rel=1e-11)


@pytest.mark.parametrize("max_batch", [1, 409, 4096])
@pytest.mark.parametrize("tokens", [1, 1e6])
def test_sizes_at_the_ends_of_the_range_are_found(max_batch: int, tokens: float) -> None:
    model = DecodeOnly(20, 0.4, tokens)
    targets = Targets(itl=float(model.itl(0.8 * max_batch + 1)[0]), wait=1e9)
    sizing = size(model, max_batch, targets, queue_limit=UNBOUNDED)
    analysis = analyze(model, max_batch, sizing.rate)
    assert sizing.attainable[0]
    assert analysis.itl[0] <= targets.itl[0] * (1 + 1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"itl": 0}, r"target itl\[0\] is 0; give a number above 0"),
        ({"ttft": [100, np.nan]}, r"target ttft\[1\] is nan"),
        ({"wait": -1}, r"target wait\[0\] is -1"),
        ({"tps": np.inf}, r"target tps\[0\] is inf; give a finite number of at least 0"),
        ({"percentile": 95}, r"target percentile\[0\] is 95; give a fraction below 1"),
        ({"itl": [1, 2], "ttft": [1, 2, 3]}, r"\(itl 2, ttft 3\)"),
    ],
)
def test_wrong_targets_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Targets(**arguments)


def test_the_required_rate_is_the_larger_of_load_and_promised_throughput() -> None:
    assert required_rate([0.001, 0.01, 0.0], [600, 600, 0], 100) == pytest.approx([0.006, 0.01, 0])


def test_replicas_take_the_required_rate() -> None:
    assert replicas([0.1, 0.25, 0.3], 0.1).tolist() == [1, 3, 3]


def test_rounding_does_not_cost_a_replica_but_a_real_excess_does() -> None:
    assert replicas([0.3 * (1 + 1e-10), 0.3 * (1 + 1e-8)], 0.1).tolist() == [3, 4]


def test_replicas_are_never_below_their_minimum() -> None:
    assert replicas([0.0, 0.1, 0.5], 0.1, [2, 2, 2]).tolist() == [2, 2, 5]


def test_without_load_an_unattainable_candidate_needs_its_minimum_only() -> None:
    assert replicas(0.0, 0.0, 1).tolist() == [1]


def test_no_number_of_replicas_takes_a_load_that_is_unattainable() -> None:
    with pytest.raises(ValueError, match=r"rate_per_replica\[1\] is 0 where 0.1 is required"):
        replicas([0.0, 0.1], [0.0, 0.0])


def test_replicas_of_different_numbers_of_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="required 2, rate_per_replica 3"):
        replicas([0.1, 0.2], [0.1, 0.2, 0.3])


@settings(deadline=None)
@given(required=st.floats(1e-9, 100), rate=st.floats(1e-6, 1), fewest=st.integers(0, 10))
def test_replicas_are_enough_and_not_one_too_many(required: float, rate: float, fewest: int) -> None:
    count = int(replicas(required, rate, fewest)[0])
    assert count * rate >= required * (1 - 2e-9)
    assert count == max(fewest, 1) or (count - 1) * rate < required


@settings(deadline=None)
@given(required=st.floats(0, 1e6), rate=st.floats(1e-12, 1e9), fewest=st.integers(0, 10))
def test_the_count_of_a_single_candidate_is_that_of_many(required: float, rate: float, fewest: int) -> None:
    assert replica_count(required, rate, fewest) == replicas(required, rate, fewest)[0]


def test_a_single_candidate_is_refused_as_many_are() -> None:
    with pytest.raises(ValueError, match=r"rate_per_replica\[0\] is 0 where 0.1 is required"):
        replica_count(0.1, 0.0)
    with pytest.raises(ValueError, match="required"):
        replica_count(-1.0, 1.0)
