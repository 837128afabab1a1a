"""What the JSON files say: accelerators, models, classes, servers, capacity, how to optimise.

Rates are requests/min, times ms, costs per hour, power W.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from inferscale_queueing.frozen import frozen
from inferscale_solver import (
    CurrentAllocation,
    Performance,
    Profile,
    Quota,
    SaturationPolicy,
    Solver,
    TailRule,
    Targets,
)

LARGEST_RATE = 1e9
"""Requests/min of a server beyond which a rate is a slip."""
BOUNDS = {
    "transition_penalty": (0.0, 1000.0),
    "keep_threshold": (0.0, 1.0),
    "percentile": (0.0001, 0.9999),
    "max_cost": (0.0, 1e12),
}
"""Least and most of the numbers that say how to optimise, in the file and as flags."""


class LatencyModelName(StrEnum):
    """Which latency model applies."""

    AUTO = "auto"
    """prefill-decode for servers with input and output tokens, decode-only for those with avgLength."""
    DECODE_ONLY = "decode-only"
    PREFILL_DECODE = "prefill-decode"


@frozen
class ModelData:
    """How a model runs on one accelerator profile."""

    model: str
    performance: Performance


@frozen
class Objectives:
    """What a service class promises for a model.

    The percentile of its targets is None where the options say it, and 0 where they are means.
    """

    service_class: str
    model: str
    priority: int
    targets: Targets


@frozen
class Server:
    """One (service class, model) pair with its load and what it has now."""

    name: str
    service_class: str
    model: str
    arrival_rate: float
    average_length: float | None = None
    """Tokens of a request as the deck counts them, output only; None where input and output are known."""
    input_tokens: float | None = None
    output_tokens: float | None = None
    min_replicas: int = 0
    max_replicas: int | None = None
    keep_accelerator: bool = False
    weight: float = 1.0
    """How much it counts among the servers of its priority where not all can be served."""
    namespace: str = ""
    """Counts only for quotas."""
    allowed_accelerators: tuple[str, ...] = ()
    """Empty: all that the model has data for."""
    current: CurrentAllocation | None = None
    arrival_cov: float = 1.0
    service_cov: float = 1.0


@frozen
class OptimizerData:
    """How to optimise, as far as the file says; None: not said."""

    unlimited: bool | None = None
    solver: Solver | None = None
    saturation_policy: SaturationPolicy | None = None
    delayed_best_effort: bool | None = None
    transition_penalty: float | None = None
    keep_threshold: float | None = None
    quotas: tuple[Quota, ...] | None = None
    latency_model: LatencyModelName | None = None
    slo_rule: TailRule | None = None
    percentile: float | None = None
    max_cost: float | None = None


@frozen
class Deck:
    """All that the files say."""

    accelerators: tuple[Profile, ...]
    models: tuple[ModelData, ...]
    objectives: tuple[Objectives, ...]
    servers: tuple[Server, ...]
    units: Mapping[str, int] | None = None
    """Units of each type; None: there is no such file."""
    nodes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Where known: of each type, the units of every node."""
    optimizer: OptimizerData = field(default_factory=OptimizerData)
