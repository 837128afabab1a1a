"""What is to be decided: services, accelerator profiles, the accelerators that exist.

Rates are requests/min, times ms, costs per hour, as in the files and custom resources.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from inferscale_queueing.frozen import frozen


class SaturationPolicy(StrEnum):
    """How accelerators that are left over go to services that cannot be served within their SLO."""

    NONE = "None"
    PRIORITY_EXHAUSTIVE = "PriorityExhaustive"
    PRIORITY_ROUND_ROBIN = "PriorityRoundRobin"
    ROUND_ROBIN = "RoundRobin"


class Solver(StrEnum):
    """How limited accelerators are shared."""

    AUTO = "Auto"
    """Greedy, then exact within its work limit; whichever plan is better."""
    GREEDY = "Greedy"
    EXACT = "Exact"
    """As Auto with ten times the work limit."""


class Tier(StrEnum):
    """How an accelerator is paid for."""

    OWNED = "Owned"
    RESERVED = "Reserved"
    BURST = "Burst"
    """Used as little as can be: only for services that the other tiers cannot serve."""


class TailRule(StrEnum):
    """How a percentile of the wait is computed; see `inferscale_queueing.wait_quantile`."""

    EXACT = "exact"
    EXPONENTIAL = "exponential"
    MEAN = "mean"


@frozen
class Power:
    """Power of one accelerator profile: piecewise linear in utilization, in W."""

    idle: float
    full: float
    mid_power: float
    mid_util: float


_MOST_COV = 100.0


@frozen
class Profile:
    """An accelerator profile: `multiplicity` units of a physical `type`, priced together."""

    name: str
    type: str
    multiplicity: int = 1
    cost: float = 0.0
    """Cost per hour of the whole profile, all its units."""
    power: Power | None = None
    tier: Tier = Tier.OWNED


@frozen
class Performance:
    """How a model runs on one accelerator profile.

    A decode iteration with n requests takes `alpha + beta * n` ms, a prefill `gamma + delta * input * n` ms.
    """

    profile: str
    alpha: float
    beta: float
    gamma: float = 0.0
    delta: float = 0.0
    acc_count: int = 1
    """Profiles in one replica."""
    max_batch_size: int = 1
    at_tokens: int = 1


@frozen
class Load:
    """Demand on a service. With `prefill=False` the output tokens are the deck's average length K."""

    arrival_rate: float
    """Requests per minute."""
    input_tokens: float = 0.0
    output_tokens: float = 1.0
    prefill: bool = True
    """Whether the prefill + decode latency model applies, or the decode-only one."""
    arrival_cov: float = 1.0
    """Coefficient of variation of the times between arrivals; counts by `TailRule.EXACT` only."""
    service_cov: float = 1.0
    """Coefficient of variation of the lengths of requests; counts by `TailRule.EXACT` only."""


@frozen
class Targets:
    """The latency objectives of a service; None: no such objective."""

    itl: float | None = None
    """Mean inter-token latency, ms."""
    ttft: float | None = None
    """Time to first token (wait + prefill), ms, held at `percentile`."""
    ttw: float | None = None
    """Wait in the queue alone, ms, held at `percentile`."""
    tps: float | None = None
    """Tokens/s of the whole service."""
    percentile: float | None = None
    """A fraction such as 0.95; None: the mean."""


@frozen
class CurrentAllocation:
    """What a service holds now."""

    profile: str
    replicas: int
    max_batch: int | None = None
    """The batch limit that is deployed; None: the engine's own, bounded by memory as the profile says."""
    acc_count: int = 1
    """Profiles in one replica, as deployed; counts only where the service has no performance data for the
    profile, which otherwise says it."""


def required_rate(load: Load, tps: float | None) -> float:
    """The rate that a load asks for, requests/min: its arrivals, or what a throughput target takes."""
    return max(load.arrival_rate, 60 * tps / load.output_tokens) if tps else load.arrival_rate


@frozen
class Service:
    """One (service class, model) pair to be given accelerators."""

    name: str
    service_class: str
    model: str
    priority: int
    """1 = first … 100 = last."""
    load: Load
    targets: Targets
    performance: tuple[Performance, ...]
    """How the model runs on the profiles this service may use; the candidates come from these."""
    min_replicas: int = 0
    max_replicas: int | None = None
    keep_accelerator: bool = False
    current: CurrentAllocation | None = None
    namespace: str = ""
    """Counts only for quotas."""
    weight: float = 1.0
    """What the service counts, above 0, among those of its priority where not all can be served. Of the plans
    that serve as many services at every priority the exact solver takes one that serves the most weight;
    greedy multiplies regret and value by it; what is left over goes to the heaviest first, or, by the round
    robins, in proportion."""
    excluded: Mapping[str, str] = field(default_factory=dict)
    """Profiles ruled out before the solver saw them, with the reason (`NoVariant`, `NotAllowed`, …)."""

    @property
    def demand(self) -> float:
        """The rate that it must be able to take, requests/min: its arrivals or its throughput target."""
        return required_rate(self.load, self.targets.tps)


@frozen
class Capacity:
    """Accelerators that may be used, in units of each type."""

    units: Mapping[str, int]
    nodes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Where known: of each type, the whole size in units of every node; a replica larger than the largest
    node of its type is no candidate. A type that is absent here is not checked."""
    free_by_node: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Where known: of each type, the units of every node that the plan may use. All replicas of the plan
    must fit on them. A type that is absent here is counted in all only."""


@frozen
class Settings:
    """How to decide."""

    transition_penalty: float = 0.1
    keep_threshold: float = 0.0
    """What a service has is kept where it is enough, unless something is better by more than this fraction of
    its cost; 0: anything better is taken. Values and costs are reported without it."""
    saturation_policy: SaturationPolicy = SaturationPolicy.PRIORITY_EXHAUSTIVE
    delayed_best_effort: bool = False
    """Left-overs are given out once at the end rather than after each priority."""
    tail_rule: TailRule = TailRule.EXACT
    solver: Solver = Solver.AUTO
    """How limited accelerators are shared."""
    max_cost: float | None = None
    """Cost per hour that the whole plan may reach; what does not fit is shed from the last priority on."""
    time_limit: float = 60.0
    """Seconds after which the exact solver stops where it is: a safety stop, since a plan that hangs on it
    is not reproducible; `Result.stopped` says that it was reached."""


@frozen
class Quota:
    """Units of a type that a group of services may take together."""

    type: str
    units: int
    namespace: str | None = None
    """Services of this namespace only; None: of any."""
    service_class: str | None = None
    """Services of this class only; None: of any."""
    service: str | None = None
    """The service of this name only; None: any."""


@frozen
class Problem:
    """A whole decision. `capacity` None: accelerators are unlimited."""

    services: tuple[Service, ...]
    profiles: tuple[Profile, ...]
    capacity: Capacity | None = None
    settings: Settings = field(default_factory=Settings)
    quotas: tuple[Quota, ...] = ()


def check(problem: Problem) -> None:
    """Refuse a problem that has no meaning.

    Raises:
        ValueError: Names the object, the field, the value and what would be right.
    """
    profiles = {profile.name for profile in problem.profiles}
    if len(profiles) < len(problem.profiles):
        raise ValueError("profiles: names must be unique")
    if len({service.name for service in problem.services}) < len(problem.services):
        raise ValueError("services: names must be unique")
    _require("settings", "transition_penalty", problem.settings.transition_penalty, least=0)
    _require("settings", "keep_threshold", problem.settings.keep_threshold, least=0)
    for profile in problem.profiles:
        where = f"profile {profile.name}"
        _require(where, "multiplicity", profile.multiplicity, least=1)
        _require(where, "cost", profile.cost, least=0)
    if problem.settings.max_cost is not None:
        _require("settings", "max_cost", problem.settings.max_cost, least=0)
    for quota in problem.quotas:
        _require(f"quota of {quota.type}", "units", quota.units, least=0)
    for service in problem.services:
        _check_service(service, profiles)


def _check_service(service: Service, profiles: set[str]) -> None:
    where = f"service {service.name}"
    _require(where, "min_replicas", service.min_replicas, least=0)
    if service.max_replicas is not None:
        _require(where, "max_replicas", service.max_replicas, least=max(service.min_replicas, 1))
    if service.current is not None:
        _require(where, "current.replicas", service.current.replicas, least=0)
        _require(where, "current.acc_count", service.current.acc_count, least=1)
        if service.current.profile not in profiles:
            raise ValueError(f"{where}: current.profile is {service.current.profile}: no such profile")
    if not 0 < service.weight < math.inf:
        raise ValueError(f"{where}: weight is {service.weight}: it must be a finite number above 0")
    _require(where, "load.arrival_rate", service.load.arrival_rate, least=0)
    _require(where, "load.input_tokens", service.load.input_tokens, least=0)
    _require(where, "load.output_tokens", service.load.output_tokens, least=1)
    for name in ("arrival_cov", "service_cov"):
        if not 0 <= (cov := getattr(service.load, name)) <= _MOST_COV:
            raise ValueError(f"{where}: load.{name} is {cov}: it must be a number from 0 to {_MOST_COV:g}")
    _check_targets(where, service.targets)
    if len({performance.profile for performance in service.performance}) < len(service.performance):
        raise ValueError(f"{where}: performance: a profile may appear once")
    for performance in service.performance:
        if performance.profile not in profiles:
            raise ValueError(f"{where}: performance.profile is {performance.profile}: no such profile")
        if not _in_order(performance):
            raise _refusal(f"{where} on {performance.profile}", performance)


def _check_targets(where: str, targets: Targets) -> None:
    for name in ("itl", "ttft", "ttw", "tps"):
        value = getattr(targets, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(
                f"{where}: targets.{name} is {value}: it must be a finite number above 0, or None"
            )
    if targets.percentile is not None and not 0 < targets.percentile < 1:
        raise ValueError(
            f"{where}: targets.percentile is {targets.percentile}: it must be a fraction like 0.95, or None"
        )


def _in_order(performance: Performance) -> bool:
    # There are as many as services times profiles, so they are compared in a row; `_refusal` finds which.
    return (
        0 <= performance.alpha < math.inf
        and 0 <= performance.beta < math.inf
        and 0 <= performance.gamma < math.inf
        and 0 <= performance.delta < math.inf
        and 1 <= performance.acc_count < math.inf
        and 1 <= performance.max_batch_size < math.inf
        and 1 <= performance.at_tokens < math.inf
        and performance.alpha + performance.beta > 0
    )


def _refusal(where: str, performance: Performance) -> ValueError:
    """The first thing that is wrong with performance data that is not in order."""
    for name in ("alpha", "beta", "gamma", "delta"):
        _require(where, name, getattr(performance, name), least=0)
    for name in ("acc_count", "max_batch_size", "at_tokens"):
        _require(where, name, getattr(performance, name), least=1)
    return ValueError(f"{where}: alpha and beta are 0: a decode iteration must take time")


def _require(where: str, name: str, value: float, *, least: float) -> None:
    if not least <= value < math.inf:
        raise ValueError(f"{where}: {name} is {value}: it must be a finite number, at least {least:g}")
