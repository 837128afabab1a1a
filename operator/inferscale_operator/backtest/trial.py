"""The policies on the load of the past: a scenario made of the profiles; what was there is one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from inferscale_operator.backtest.profile import Profile
from inferscale_operator.backtest.span import Span
from inferscale_operator.twin.cluster import Cluster
from inferscale_operator.twin.resources import Setting, SimulatedService
from inferscale_operator.twin.scenario import (
    Initial,
    LoadSpec,
    MetricOutage,
    RatePoint,
    ServiceSpec,
    TokenPoint,
    TokenSpec,
)
from inferscale_operator.twin.simulation import Outcome, PolicyChoice, ServerMode, simulate
from inferscale_queueing.frozen import frozen

Floats = NDArray[np.float64]

HISTORY = "history"
"""Name of the policy that has the replicas which were there."""


@frozen(eq=False)
class Trial:
    """What is run.

    Attributes:
        setting: The services with the load that they had.
        profiles: Theirs, in the same order.
        span: The steps, each a window of the scenario.
        known: Whether the load of a step is known, shape (services, steps).
    """

    setting: Setting
    profiles: tuple[Profile, ...]
    span: Span
    known: NDArray[np.bool_]


def make_trial(setting: Setting, profiles: Mapping[str, Profile], span: Span) -> Trial:
    """A scenario of the past.

    In a gap the load is what it was before, lest the simulated servers stand idle, and nothing is counted.
    Where no service is known the simulated Prometheus is dark as well: the product would not have seen more.

    Args:
        setting: The services without a load.
        profiles: By key of the service; services without one are left out.
        span: The steps of the profiles.
    """
    chosen = [service for service in setting.services if service.key in profiles]
    services = [_with_load(service, profiles[service.key], span) for service in chosen]
    known = np.array([profiles[service.key].known for service in chosen])
    scenario = setting.scenario.model_copy(
        update={
            "duration": float(span.count * span.step),
            "window": float(span.step),
            "services": tuple(service.scenario for service in services),
            "disturbances": tuple(_outages(known, span.step)),
        }
    )
    return Trial(
        setting=replace(
            setting,
            scenario=scenario,
            services=tuple(services),
            # Schedules go by the wall clock.
            start=datetime.fromtimestamp(span.begin, UTC),
        ),
        profiles=tuple(profiles[service.key] for service in chosen),
        span=span,
        known=known,
    )


def run(
    trial: Trial, choices: Sequence[PolicyChoice], seed: int, mode: ServerMode, tell: Callable[[str], None]
) -> list[Outcome]:
    """What was there, in the twin, then every policy.

    Raises:
        UsageError: a setting of a policy cannot be used.
    """
    tell(f"Policy {HISTORY}")
    scenario = trial.setting.scenario
    # What was there had room, whatever the nodes are now.
    roomy = replace(trial.setting, scenario=scenario.model_copy(update={"nodes": (), "capacity": {}}))
    replicas = np.array([held(profile.replicas) for profile in trial.profiles])

    def recorded(cluster: Cluster) -> Recorded:
        return Recorded(cluster, roomy.services, replicas, trial.span.step)

    choice = PolicyChoice(HISTORY, HISTORY, {})
    outcomes = [simulate(roomy, choice, seed=seed, mode=mode, counted=trial.known, make_policy=recorded)]
    for choice in choices:
        tell(f"Policy {choice.text}")
        outcomes.append(simulate(trial.setting, choice, seed=seed, mode=mode, counted=trial.known))
    return outcomes


@dataclass
class Recorded:
    """The replicas that were there at every step, at once: they had started already."""

    cluster: Cluster
    services: Sequence[SimulatedService]
    replicas: Floats
    step_s: float
    next_s: float = 0.0
    _index: int = field(default=0, init=False)

    def act(self, now_s: float) -> None:  # noqa: ARG002 (it knows which step comes next)
        """Put the replicas of the next step in place."""
        if self._index < self.replicas.shape[1]:
            for service, count in zip(self.services, self.replicas[:, self._index].tolist(), strict=True):
                if self.cluster.deployments[service.key].replicas != int(count):
                    initial = service.scenario.initial
                    self.cluster.replace(service.key, initial.accelerator, int(count), initial.max_batch)
        self._index += 1
        self.next_s = self._index * self.step_s

    def wake(self, now_s: float) -> None:
        """It looks at its own times only."""


def held(values: Floats) -> Floats:
    """Each unknown value as the last that was known, or else the first."""
    found = np.flatnonzero(~np.isnan(values))
    if not found.size:
        return np.ones_like(values)
    before = np.searchsorted(found, np.arange(values.size), side="right") - 1
    return values[found[np.maximum(before, 0)]]


def _with_load(service: SimulatedService, profile: Profile, span: Span) -> SimulatedService:
    given = service.scenario
    rates = held(profile.rate)
    inputs, outputs = held(profile.input_tokens), np.maximum(held(profile.output_tokens), 1.0)
    replicas = int(held(profile.replicas)[0])
    tokens = given.tokens
    changed = given.model_copy(
        update={
            "initial": Initial(
                accelerator=given.initial.accelerator, replicas=replicas, max_batch=given.initial.max_batch
            ),
            "load": LoadSpec(
                points=tuple(RatePoint(at=at, rate=rate) for at, (rate,) in _changes(span, rates)),
                step=True,
                cov=given.load.cov,
            ),
            "tokens": TokenSpec(
                points=tuple(
                    TokenPoint(at=at, input=mean, output=output)
                    for at, (mean, output) in _changes(span, inputs, outputs)
                ),
                step=True,
                **({} if tokens is None else {"distribution": tokens.distribution, "cov": tokens.cov}),
            ),
        }
    )
    assert isinstance(changed, ServiceSpec)  # noqa: S101 (for the type checker)
    return replace(service, scenario=changed)


def _changes(span: Span, *columns: Floats) -> list[tuple[float, tuple[float, ...]]]:
    """The steps at which a value changes, with the seconds since the start."""
    points: list[tuple[float, tuple[float, ...]]] = []
    for index, values in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        if not points or points[-1][1] != values:
            points.append((float(index * span.step), values))
    return points


def _outages(known: NDArray[np.bool_], step: int) -> list[MetricOutage]:
    dark = known.sum(axis=0) == 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], dark, [False]]).astype(int)))
    return [
        MetricOutage(kind="metricOutage", at=float(begin * step), until=float(end * step), scrapes=True)
        for begin, end in edges.reshape(-1, 2).tolist()
    ]
