import math

import pytest

from inferscale_queueing import LatencyProfile, Specs, estimate_profile

A100 = Specs(memory_bandwidth=2000, memory_size=80)
MEASURED = LatencyProfile(alpha=20.58, beta=0.41, gamma=5.2, delta=0.1, max_batch_size=32)


@pytest.mark.parametrize(
    ("target", "alpha", "max_batch_size"),
    [
        # A published profile of a 13 B model on other accelerators than the A100 it is scaled from.
        (Specs(864, 48), 47.86, 19),
        (Specs(3350, 80), 12.25, 32),
        (Specs(3200, 128), 12.86, 51),
        (Specs(204, 128), 205.8, 51),
        (Specs(4000, 160, 2), 14.6, 64),
        (Specs(6700, 160, 2), 8.65, 64),
        (Specs(8000, 320, 4), 10.29, 128),
    ],
)
def test_published_profiles_are_found_from_another_accelerator_within_three_per_cent(
    target: Specs, alpha: float, max_batch_size: int
) -> None:
    found = estimate_profile(MEASURED, A100, target)
    assert found.alpha == pytest.approx(alpha, rel=0.03)
    assert found.beta / found.alpha == pytest.approx(0.41 / 20.58)
    assert found.gamma / found.alpha == pytest.approx(5.2 / 20.58)
    assert found.delta / found.alpha == pytest.approx(0.1 / 20.58)
    assert found.max_batch_size == max_batch_size
    assert found.estimated


def test_there_and_back_gives_the_profile_that_was_measured() -> None:
    other = Specs(864, 160, 2)
    back = estimate_profile(estimate_profile(MEASURED, A100, other), other, A100)
    assert back.alpha == pytest.approx(MEASURED.alpha)
    assert back.max_batch_size == MEASURED.max_batch_size


def test_the_smallest_accelerator_takes_one_request() -> None:
    assert estimate_profile(MEASURED, A100, Specs(100, 1)).max_batch_size == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 80), "memory_bandwidth is 0; give a finite number above 0"),
        ((2000, math.nan), "memory_size is nan"),
        ((2000, 80, 0), "multiplicity is 0; give a whole number of at least 1"),
    ],
)
def test_wrong_specs_are_named(arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Specs(*arguments)
