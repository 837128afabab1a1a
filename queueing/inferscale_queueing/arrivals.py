"""Random traffic: when requests arrive and how many tokens they carry."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Distribution = Literal["deterministic", "exponential", "lognormal", "empirical"]


@dataclass(frozen=True)
class Arrivals:
    """A renewal process with gamma distributed gaps.

    Attributes:
        rate: Mean arrival rate, requests/ms.
        cov: Coefficient of variation of the gaps: 1 is Poisson, 0 is evenly spaced.
    """

    rate: float
    cov: float = 1.0

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(f"arrival rate must be positive, got {self.rate} requests/ms")
        if not self.cov >= 0:
            raise ValueError(f"coefficient of variation of the arrivals must be >= 0, got {self.cov}")

    def times(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """The first `count` arrival times, shape (count,), ms, not decreasing."""
        mean = 1.0 / self.rate
        if self.cov == 0:
            gaps = np.full(count, mean)
        elif self.cov == 1:
            gaps = rng.exponential(mean, count)
        else:
            shape = self.cov**-2
            gaps = rng.gamma(shape, mean / shape, count)
        return np.cumsum(gaps)


@dataclass(frozen=True)
class Lengths:
    """A distribution of token counts.

    Fractions are rounded up or down at random in the proportion that keeps the mean.

    Attributes:
        mean: Mean number of tokens (not used by `empirical`).
        distribution: `exponential` is its discrete twin, the geometric distribution on 1, 2, ...;
            `empirical` draws from `values`.
        cov: Coefficient of variation of `lognormal`.
        values: Observed token counts for `empirical`.
    """

    mean: float = 0.0
    distribution: Distribution = "deterministic"
    cov: float = 1.0
    values: Sequence[float] = ()

    def __post_init__(self) -> None:
        if self.distribution == "empirical" and not len(self.values):
            raise ValueError("empirical token lengths need at least one value")
        if not self.mean >= 0:
            raise ValueError(f"mean token length must be >= 0, got {self.mean}")
        if not self.cov >= 0:
            raise ValueError(f"coefficient of variation of token lengths must be >= 0, got {self.cov}")

    def sample(self, count: int, rng: np.random.Generator, *, minimum: int = 0) -> NDArray[np.int64]:
        """Draw `count` token counts of at least `minimum`, shape (count,)."""
        if self.distribution == "empirical":
            drawn = rng.choice(np.asarray(self.values, dtype=np.float64), count)
        elif self.distribution == "exponential" and self.mean > 1:
            return np.maximum(rng.geometric(1.0 / self.mean, count), minimum)
        elif self.distribution == "lognormal" and self.mean > 0:
            variance = np.log1p(self.cov**2)
            drawn = rng.lognormal(np.log(self.mean) - variance / 2, np.sqrt(variance), count)
        else:
            drawn = np.full(count, self.mean)
        whole = np.floor(drawn + rng.random(count)).astype(np.int64)
        return np.maximum(whole, minimum)
