"""The load of a scenario of `inferscale simulate`, request by request as the simulation draws it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fleet.load import LoadError, Point
from inferscale_operator.errors import UsageError
from inferscale_operator.twin.resources import Setting, read_scenario
from inferscale_operator.twin.traffic import Traffic
from inferscale_queueing.simulation import Request


@dataclass(frozen=True)
class ScenarioLoad:
    """The load of one service of a scenario.

    Attributes:
        namespace: Namespace of its Deployment.
        deployment: Name of the Deployment.
        arrivals: All its requests, drawn.
    """

    namespace: str
    deployment: str
    arrivals: Traffic

    def at(self, at_s: float) -> Point:
        """The load at a time in seconds since the start."""
        times = np.array([at_s])
        inputs, outputs = self.arrivals.lengths(times)
        return Point(at_s, float(self.arrivals.rate(times)[0]) * 60, float(inputs[0]), float(outputs[0]))

    def traffic(self) -> Replay:
        """Its requests from the beginning."""
        return Replay(self.arrivals)


class Replay:
    """Requests in the order of their arrival.

    Args:
        arrivals: Where they are from.
    """

    def __init__(self, arrivals: Traffic) -> None:
        self._arrivals = arrivals
        self._next = 0

    def until(self, at_ms: float) -> list[Request]:
        """The requests that arrived since the last call, up to `at_ms` (ms since the start)."""
        arrivals, begin = self._arrivals, self._next
        self._next = int(np.searchsorted(arrivals.at_s, at_ms / 1000, side="right"))
        return [
            Request(
                float(arrivals.at_s[index] * 1000),
                int(arrivals.input_tokens[index]),
                int(arrivals.output_tokens[index]),
                index,
            )
            for index in range(begin, self._next)
        ]


def scenario_loads(setting: Setting, seed: int) -> list[ScenarioLoad]:
    """The load of every service of a scenario: the requests that `inferscale simulate` draws with this seed.

    Raises:
        UsageError: a trace cannot be read.
    """
    return [
        ScenarioLoad(
            service.scenario.namespace,
            service.spec.target_ref.name,
            Traffic(service.scenario, setting.path.parent, setting.scenario.duration, seed, drawn=True),
        )
        for service in setting.services
    ]


def read_scenario_loads(path: Path, seed: int | None) -> list[ScenarioLoad]:
    """The loads of a scenario's file, with another seed than its own if one is given.

    Raises:
        LoadError: The file or a trace cannot be used; the message names file, field and value.
    """
    try:
        setting = read_scenario(path)
        return scenario_loads(setting, setting.scenario.seed if seed is None else seed)
    except UsageError as error:
        raise LoadError(str(error)) from error
