from typing import Literal

import numpy as np
import pytest

from inferscale_queueing import PrefillDecode, Targets, Variability, analyze, prepare, size

MODEL = PrefillDecode([20, 10, 30, 5], [0.5, 0.1, 1, 0], 30, 0.05, [200, 0, 100, 50], 100)
BATCHES = [16, 400, 1, 64]
LIMITS = [-1, 30, -1, 0]


@pytest.mark.parametrize("variability", [None, Variability([1, 2, 0.5, 1], 1.5)])
def test_prepared_candidates_are_analysed_as_unprepared_ones_at_every_rate(
    variability: Variability | None,
) -> None:
    kept = prepare(MODEL, BATCHES, queue_limit=LIMITS, variability=variability)
    for rate in (0.0, 0.0005, [0.001, 0.1, 10.0, 0.01]):
        found = kept.analyze(rate)
        fresh = analyze(MODEL, BATCHES, rate, queue_limit=LIMITS, variability=variability)
        for name in vars(fresh):
            np.testing.assert_array_equal(getattr(found, name), getattr(fresh, name))


@pytest.mark.parametrize("rule", ["exact", "exponential"])
@pytest.mark.parametrize("variability", [None, Variability([1, 2, 0.5, 1], 1.5)])
def test_prepared_candidates_are_sized_as_unprepared_ones(
    variability: Variability | None, rule: Literal["exact", "exponential"]
) -> None:
    targets = Targets(itl=60, ttft=[500, 900, np.inf, 100], tps=[0, 0, 5, 0], percentile=0.95, rule=rule)
    kept = prepare(MODEL, BATCHES, queue_limit=LIMITS, variability=variability)
    for asked in (targets, Targets(wait=400)):
        found = kept.size(asked)
        fresh = size(MODEL, BATCHES, asked, queue_limit=LIMITS, variability=variability)
        for name in vars(fresh):
            np.testing.assert_array_equal(getattr(found, name), getattr(fresh, name))


def test_rates_and_targets_for_other_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="targets has 3 values for 4 candidates"):
        prepare(MODEL, BATCHES).size(Targets(itl=[60, 70, 80]))
    with pytest.raises(ValueError, match="arrival_rate has 3 values for 4 candidates"):
        prepare(MODEL, BATCHES).analyze([1, 2, 3])
    with pytest.raises(ValueError, match=r"arrival_rate\[0\] is -1"):
        prepare(MODEL, BATCHES).analyze(-1)
