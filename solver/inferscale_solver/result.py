"""What was decided, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from inferscale_queueing.frozen import frozen


class Outcome(StrEnum):
    """How a service came out."""

    SERVED = "Served"
    """Within its objectives."""
    IDLE = "Idle"
    """No load: minReplicas."""
    BEST_EFFORT = "BestEffort"
    """Not within its objectives: what it has, or what was left over."""
    UNSERVED = "Unserved"
    """Nothing, and nothing was taken from it that it could have kept."""


class Rejection(StrEnum):
    """Why a candidate was not chosen."""

    CHOSEN = "Chosen"
    DEARER = "Dearer"
    CAPACITY = "CapacityShort"
    QUOTA = "QuotaExceeded"
    BUDGET = "OverBudget"
    NODE_TOO_SMALL = "NodeTooSmall"
    UNATTAINABLE = "SLOUnattainable"
    OVER_MAX_REPLICAS = "OverMaxReplicas"
    KEEP_ACCELERATOR = "KeepAccelerator"
    EXCLUDED = "Excluded"


@frozen
class Allocation:
    """Replicas of a service on one profile and what they are predicted to do.

    Latencies in ms (means, and the wait at the percentile of the targets), rates in requests/min, cost per
    hour, power in W. Predictions are None where there is no load to predict for. Where the replicas are
    overloaded their batches are always full: `itl` is the one of the full batch, `utilization` 1, and
    `ttft`, `wait` and `wait_percentile` are None, since the waits grow without bound.
    """

    profile: str
    replicas: int
    max_batch: int
    """The batch limit to deploy. On the current profile it is the one that is deployed, even above what
    memory holds, unless the objectives need a larger one; one that differs restarts the replicas."""
    cost: float
    value: float
    """Transition value from the current allocation (cost included), the quantity that is minimised."""
    units: int
    """Units of the profile's type that are taken."""
    rate_per_replica: float
    """The largest rate one replica serves within the objectives, requests/min; 0 if none."""
    itl: float | None = None
    ttft: float | None = None
    wait: float | None = None
    wait_percentile: float | None = None
    utilization: float | None = None
    power: float | None = None


@frozen
class CandidateOutcome:
    """One profile that was considered for a service, and what became of it."""

    profile: str
    rejection: Rejection
    message: str
    """For people: `dearer by 12.00/h`, `H100 short of 3 units`, `needs 12 replicas, maxReplicas is 8`."""
    allocation: Allocation | None = None
    """What it would take, all replicas that the load needs; None where nothing would do."""
    binding: str | None = None
    """The objective that limits the rate of a replica, or is unattainable: itl, ttft, ttw, tps or None."""


@frozen
class Decision:
    """What a service gets. `allocation` None: it gets nothing."""

    service: str
    outcome: Outcome
    allocation: Allocation | None
    candidates: tuple[CandidateOutcome, ...]
    reason: str
    """One sentence."""
    binding: str | None = None
    """What bound the choice: an objective, `capacity:<type>`, `maxReplicas`, `minReplicas` or None."""
    runner_up: str | None = None
    limits: tuple[str, ...] = ()
    """What the candidates that it would prefer were short of, the best candidate's first:
    `capacity:<type>`, `placement:<type>`, `quota:<type> for …` or `budget`."""


@frozen
class Result:
    """The whole decision, by service name."""

    decisions: Mapping[str, Decision]
    total_cost: float
    total_value: float
    used: Mapping[str, int]
    """Units taken, by type."""
    solver: str
    """Which plan it is: unlimited, greedy or exact."""
    unserved_by_priority: Mapping[int, int] = field(default_factory=dict)
    unserved_bound: Mapping[int, int] = field(default_factory=dict)
    """By priority, the number of services that no plan can serve, given that the earlier priorities are
    served as they are here; empty where only the greedy solver was asked."""
    lower_bound: float | None = None
    """No plan that leaves no more unserved at any priority has a lower value (of the services that are
    served or idle: best efforts do not count); None where only the greedy solver was asked."""
    gap: float | None = None
    """How far the value is from `lower_bound`, as a fraction of the total cost; None with it."""
    prices: Mapping[str, float] = field(default_factory=dict)
    """What one more unit of a type would save, in cost per hour, by the linear relaxation and with as many
    services served; 0 for a type that is not scarce. Empty where only the greedy solver was asked."""
    power: float = 0.0
    """What all allocations draw, W."""
    burst_cost: float = 0.0
    """Cost per hour on profiles of the Burst tier, part of `total_cost`."""
    placement_cost: float | None = None
    """What fitting on nodes costs in value, against the units of each type taken together; None where nodes
    are not known or other services could be served without them."""
    stopped: str | None = None
    """The safety stop that was reached, in words: the plan may differ from machine to machine; else None."""
