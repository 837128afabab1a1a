"""A first latency profile for an accelerator that was never measured, from one that was.

Decoding reads the model's weights and the requests' caches once an iteration, so α and β go with the time
that takes: with the inverse of the memory bandwidth between accelerators, and with 1/√m only where m units
share a model, whose exchanges eat the rest. In profiles published for nine types of accelerators and ten
models the rule gives α within 3 %. Prefill is bound by arithmetic rather than by bandwidth: γ and δ are
scaled alike for want of a better rule, and are the least certain. The batch goes with the memory.
"""

import math

from inferscale_queueing.frozen import frozen


@frozen
class Specs:
    """An accelerator profile as its maker describes it.

    Attributes:
        memory_bandwidth: GB/s of all units together, > 0.
        memory_size: GB of all units together, > 0.
        multiplicity: m, units that work together, ≥ 1.

    Raises:
        ValueError: a value out of range.
    """

    memory_bandwidth: float
    memory_size: float
    multiplicity: int = 1

    def __post_init__(self) -> None:
        for name in ("memory_bandwidth", "memory_size"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value:g}; give a finite number above 0")
        if self.multiplicity < 1:
            raise ValueError(f"multiplicity is {self.multiplicity}; give a whole number of at least 1")

    @property
    def iteration(self) -> float:
        """Time of a decode iteration but for a factor of the model: √m/(memory bandwidth of all units)."""
        return math.sqrt(self.multiplicity) / self.memory_bandwidth


@frozen
class LatencyProfile:
    """How a model runs on an accelerator.

    Attributes:
        alpha: α, ms of an iteration whatever its batch.
        beta: β, ms of an iteration per request.
        gamma: γ, ms of a prefill whatever its length.
        delta: δ, ms of a prefill per input token and request.
        max_batch_size: requests that fit in memory.
        estimated: whether it was scaled from another accelerator rather than measured.
    """

    alpha: float
    beta: float
    gamma: float
    delta: float
    max_batch_size: int
    estimated: bool = False


def estimate_profile(measured: LatencyProfile, on: Specs, target: Specs) -> LatencyProfile:
    """Scale a measured profile to another accelerator.

    Args:
        measured: the profile that was measured.
        on: the accelerator it was measured on.
        target: the accelerator to guess for.

    Returns:
        A profile marked as an estimate, with at least one request in the batch.
    """
    slower = target.iteration / on.iteration
    return LatencyProfile(
        alpha=measured.alpha * slower,
        beta=measured.beta * slower,
        gamma=measured.gamma * slower,
        delta=measured.delta * slower,
        # Rounding must not cost a request where the sizes are in a whole ratio.
        max_batch_size=max(
            math.floor(measured.max_batch_size * target.memory_size / on.memory_size * (1 + 1e-9)), 1
        ),
        estimated=True,
    )
