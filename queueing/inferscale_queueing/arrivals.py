"""Traffic: when requests arrive and how many tokens they carry, drawn or as recorded."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inferscale_queueing.frozen import frozen

Distribution = Literal["deterministic", "exponential", "lognormal", "empirical"]


@frozen
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


@frozen
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


@frozen(eq=False)
class Trace:
    """Requests as they were recorded, or drawn by `draw`; arrays of shape (R,).

    Attributes:
        arrival_ms: When each arrives, ms, not decreasing.
        input_tokens: Its input tokens, >= 0.
        output_tokens: Its output tokens, >= 1.

    Raises:
        ValueError: arrays of different lengths, times that go back, or counts out of range.
    """

    arrival_ms: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]

    def __post_init__(self) -> None:
        sizes = {name: np.size(getattr(self, name)) for name in self.__dataclass_fields__}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"a trace needs one value per request in each column, got {sizes}")
        for name, kind in (("arrival_ms", float), ("input_tokens", int), ("output_tokens", int)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=kind))
        with np.errstate(invalid="ignore"):
            gaps = np.diff(self.arrival_ms, prepend=self.arrival_ms[:1])
        back = np.flatnonzero(~((gaps >= 0) & (gaps < np.inf)))
        for name, wrong, wanted in (
            ("arrival_ms", back, "a finite time, not before the one in front of it"),
            ("input_tokens", np.flatnonzero(self.input_tokens < 0), "at least 0"),
            ("output_tokens", np.flatnonzero(self.output_tokens < 1), "at least 1"),
        ):
            if wrong.size:
                value = getattr(self, name)[wrong[0]]
                raise ValueError(f"{name}[{wrong[0]}] of the trace is {value}; it must be {wanted}")


def draw(
    arrivals: Arrivals, input_tokens: Lengths, output_tokens: Lengths, requests: int, seed: int
) -> Trace:
    """Draw `requests` requests; the same seed draws the same."""
    rng = np.random.default_rng(seed)
    return Trace(
        arrivals.times(requests, rng),
        input_tokens.sample(requests, rng),
        output_tokens.sample(requests, rng, minimum=1),
    )
