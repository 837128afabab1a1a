"""Latency of a replica that batches continuously, as a function of the number of requests in the batch.

One decode iteration of a batch of n takes T(n) = α + β·n ms and gives every request in it one token.

Shapes: a latency model holds C candidates in parameters of shape (C,). Its curves take a batch size `n`
that is a number (the same for all), an array of shape (C,) (one per candidate), or an array of shape
(1, K) or (C, K) (K batch sizes per candidate). The answer has shape (C,) in the first two cases and (C, K)
in the last. Batch sizes may be fractions: the effective concurrency is one.
"""

from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from inferscale_queueing.arrays import Array, IntArray, candidate_count, float_candidates, spread, taken
from inferscale_queueing.frozen import frozen


class LatencyModel(Protocol):
    """The curves of C candidates; what the analysis and the sizing need to know of a latency model."""

    def service_time(self, n: npt.ArrayLike) -> Array:
        """Time in ms that a request spends in a batch that holds n requests all the while, S(n)."""
        ...

    def itl(self, n: npt.ArrayLike) -> Array:
        """Mean inter-token latency in ms in a batch of n."""
        ...

    def prefill(self, n: npt.ArrayLike) -> Array:
        """Time in ms from entering a batch of n to the first token."""
        ...

    def take(self, index: IntArray) -> Self:
        """The candidates at the given positions, in that order; positions may repeat."""
        ...

    def concurrency(self, service_time: Array) -> Array:
        """The n at which `service_time` (C,), in ms, is the service time S(n): its inverse.

        Not clamped to a batch that exists; NaN where S(n) does not depend on n.
        """
        ...

    def deviation(self, n: npt.ArrayLike, input_cov: Array, output_cov: Array) -> Array:
        """Standard deviation in ms of the time that requests spend in a batch that holds n all the while.

        `input_cov` and `output_cov`, shape (C,), are the coefficients of variation of their token counts,
        which are independent of each other.
        """
        ...


@frozen(eq=False)
class DecodeOnly:
    """Decode iterations only: S(n) = K·(α + β·n).

    Attributes:
        alpha: α, ms of an iteration whatever its batch, ≥ 0.
        beta: β, ms of an iteration per request in the batch, ≥ 0.
        tokens: K, mean number of tokens of a request, > 0.

    Raises:
        ValueError: a value out of range, or α and β both 0.
    """

    alpha: Array
    beta: Array
    tokens: Array

    def __post_init__(self) -> None:
        _set(self, "alpha", float_candidates("alpha", self.alpha, at_least=0))
        _set(self, "beta", float_candidates("beta", self.beta, at_least=0))
        _set(self, "tokens", float_candidates("tokens", self.tokens, above=0))
        _broadcast(self, "alpha", "beta", "tokens")
        _require_service(self.service_time(1.0), "alpha and beta are both 0; one of them must be positive")

    def service_time(self, n: npt.ArrayLike) -> Array:
        """S(n) = K·(α + β·n) ms."""
        sizes = _sizes(n)
        return _per(self.tokens, sizes) * self.itl(sizes)

    def itl(self, n: npt.ArrayLike) -> Array:
        """ITL(n) = α + β·n ms."""
        sizes = _sizes(n)
        return _per(self.alpha, sizes) + _per(self.beta, sizes) * sizes

    def prefill(self, n: npt.ArrayLike) -> Array:
        """No prefill in this model: 0 ms."""
        return np.zeros_like(self.itl(n))

    def take(self, index: IntArray) -> Self:
        """The candidates at the given positions."""
        return taken(self, index)

    def concurrency(self, service_time: Array) -> Array:
        """The n with S(n) = `service_time`; NaN where β = 0."""
        return _inverse(service_time, self.tokens * self.alpha, self.tokens * self.beta)

    def deviation(
        self,
        n: npt.ArrayLike,
        input_cov: Array,  # noqa: ARG002 (this model has no input)
        output_cov: Array,
    ) -> Array:
        """Standard deviation of the time in service, cout·S(n) ms."""
        return _per(output_cov, _sizes(n)) * self.service_time(n)


@frozen(eq=False)
class PrefillDecode:
    """A prefill, then decode iterations: S(n) = P(n) + (out − 1)·(α + β·n), P(n) = γ + δ·in·n.

    The prefill gives the first token, so out − 1 iterations remain. Without input tokens there is no
    prefill: P = 0, γ included.

    Attributes:
        alpha: α, ms of an iteration whatever its batch, ≥ 0.
        beta: β, ms of an iteration per request in the batch, ≥ 0.
        gamma: γ, ms of a prefill whatever its length, ≥ 0.
        delta: δ, ms of a prefill per input token and request in the batch, ≥ 0.
        input_tokens: in, mean number of input tokens of a request, ≥ 0.
        output_tokens: out, mean number of output tokens of a request, ≥ 1.

    Raises:
        ValueError: a value out of range, or a request that takes no time at all.
    """

    alpha: Array
    beta: Array
    gamma: Array
    delta: Array
    input_tokens: Array
    output_tokens: Array

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma", "delta", "input_tokens"):
            _set(self, name, float_candidates(name, getattr(self, name), at_least=0))
        _set(self, "output_tokens", float_candidates("output_tokens", self.output_tokens, at_least=1))
        _broadcast(self, "alpha", "beta", "gamma", "delta", "input_tokens", "output_tokens")
        _require_service(
            self.service_time(1.0),
            "takes no time: give a positive alpha or beta with output_tokens above 1, "
            "or a positive gamma or delta with input_tokens above 0",
        )

    def service_time(self, n: npt.ArrayLike) -> Array:
        """S(n) = P(n) + (out − 1)·(α + β·n) ms."""
        sizes = _sizes(n)
        return self.prefill(sizes) + (_per(self.output_tokens, sizes) - 1) * self.itl(sizes)

    def itl(self, n: npt.ArrayLike) -> Array:
        """ITL(n) = α + β·n ms."""
        sizes = _sizes(n)
        return _per(self.alpha, sizes) + _per(self.beta, sizes) * sizes

    def prefill(self, n: npt.ArrayLike) -> Array:
        """P(n) = γ + δ·in·n ms, 0 without input tokens."""
        sizes = _sizes(n)
        fixed, slope = self._prefill_line()
        return _per(fixed, sizes) + _per(slope, sizes) * sizes

    def take(self, index: IntArray) -> Self:
        """The candidates at the given positions."""
        return taken(self, index)

    def concurrency(self, service_time: Array) -> Array:
        """The n with S(n) = `service_time`; NaN where neither prefill nor decode depends on n."""
        fixed, slope = self._prefill_line()
        steps = self.output_tokens - 1
        return _inverse(service_time, fixed + steps * self.alpha, slope + steps * self.beta)

    def deviation(self, n: npt.ArrayLike, input_cov: Array, output_cov: Array) -> Array:
        """Standard deviation of the time in service, √((cin·in·δ·n)² + (cout·out·ITL(n))²) ms."""
        sizes = _sizes(n)
        _, slope = self._prefill_line()
        prefill = _per(input_cov * slope, sizes) * sizes
        return np.hypot(prefill, _per(output_cov * self.output_tokens, sizes) * self.itl(sizes))

    def _prefill_line(self) -> tuple[Array, Array]:
        return np.where(self.input_tokens > 0, self.gamma, 0.0), self.delta * self.input_tokens


def max_batch_size(
    max_batch_size: npt.ArrayLike, at_tokens: npt.ArrayLike, tokens: npt.ArrayLike
) -> IntArray:
    """Most requests in a batch at another length: N = max(⌊maxBatchSize·atTokens/tokens⌋, 1).

    Args:
        max_batch_size: (C,), most requests in a batch at the length of the benchmark, ≥ 1.
        at_tokens: (C,), tokens of a request in the benchmark, > 0.
        tokens: (C,), tokens of a request now: the mean length (decode-only) or the output tokens, > 0.

    Returns:
        N, shape (C,).

    Raises:
        ValueError: a value out of range.
    """
    memory = float_candidates("max_batch_size", max_batch_size, at_least=1) * float_candidates(
        "at_tokens", at_tokens, above=0
    )
    fit = np.floor(memory / float_candidates("tokens", tokens, above=0))
    return np.maximum(fit, 1.0).astype(np.int64)


def _sizes(n: npt.ArrayLike) -> Array:
    return np.asarray(n, dtype=np.float64)


def _per(parameter: Array, n: Array) -> Array:
    return parameter[:, np.newaxis] if n.ndim == 2 else parameter


def _inverse(service_time: Array, fixed: Array, slope: Array) -> Array:
    sloped = slope > 0
    return np.where(sloped, (service_time - fixed) / np.where(sloped, slope, 1.0), np.nan)


def _require_service(alone: Array, why_not: str) -> None:
    if not (alone > 0).all():
        raise ValueError(f"candidate {int(np.argmin(alone > 0))}: {why_not}")


def _broadcast(model: object, *names: str) -> None:
    count = candidate_count(**{name: getattr(model, name).size for name in names})
    for name in names:
        _set(model, name, spread(getattr(model, name), count))


def _set(model: object, name: str, value: Array) -> None:
    # A frozen record is set up once, here, so that scalars may be given for arrays.
    object.__setattr__(model, name, value)
