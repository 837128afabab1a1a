"""Load profiles: how many requests of which length a Deployment gets over time."""

from __future__ import annotations

import math
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml

from inferscale_queueing.simulation import Distribution, Lengths, Request

_FIELDS = {"namespace", "deployment", "seed", "step", "lengths", "points"}
_POINT_FIELDS = {"at", "rate", "inputTokens", "outputTokens"}


class LoadError(ValueError):
    """A load file says something that cannot be."""


@dataclass(frozen=True)
class Point:
    """The load at one time.

    Attributes:
        at_s: Seconds since the start.
        rate: Requests per minute.
        input_tokens: Mean input length.
        output_tokens: Mean output length.
    """

    at_s: float
    rate: float
    input_tokens: float
    output_tokens: float


@dataclass(frozen=True)
class Load:
    """The load of one Deployment.

    Attributes:
        namespace: Namespace of the Deployment.
        deployment: Its name.
        points: Load at some times, in their order; the first and the last hold before and after.
        step: Each point holds until the next one; otherwise the load is linear between points.
        seed: Same seed, same requests.
        distribution: Distribution of input and output lengths about their means.
        cov: Coefficient of variation of `lognormal` lengths.
    """

    namespace: str
    deployment: str
    points: tuple[Point, ...]
    step: bool = False
    seed: int = 0
    distribution: Distribution = "exponential"
    cov: float = 1.0

    def at(self, at_s: float) -> Point:
        """The load at a time in seconds since the start."""
        points = self.points
        after = bisect_right(points, at_s, key=lambda point: point.at_s)
        before = points[max(after - 1, 0)]
        if self.step or after in (0, len(points)):
            return Point(at_s, before.rate, before.input_tokens, before.output_tokens)
        following = points[after]
        part = (at_s - before.at_s) / (following.at_s - before.at_s)

        def between(low: float, high: float) -> float:
            return low + part * (high - low)

        return Point(
            at_s,
            between(before.rate, following.rate),
            between(before.input_tokens, following.input_tokens),
            between(before.output_tokens, following.output_tokens),
        )

    def traffic(self) -> Traffic:
        """Its requests from the beginning."""
        return Traffic(self)


class Traffic:
    """The requests of a load, one after another: a Poisson process thinned to the load's rate.

    The requests depend on the load alone, not on the steps in which they are asked for.

    Args:
        load: The load.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        name = f"{load.namespace}/{load.deployment}"
        self._rng = np.random.default_rng([load.seed, zlib.crc32(name.encode())])
        self._peak = max(point.rate for point in load.points) / 60_000  # requests/ms
        self._count = 0
        self._next_ms = self._gap()

    def _gap(self) -> float:
        return float(self._rng.exponential(1 / self._peak)) if self._peak > 0 else math.inf

    def until(self, at_ms: float) -> list[Request]:
        """The requests that arrived since the last call, up to `at_ms` (ms since the start)."""
        requests = []
        while self._next_ms <= at_ms:
            point = self._load.at(self._next_ms / 1000)
            if self._rng.random() * self._peak < point.rate / 60_000:
                requests.append(self._request(point))
            self._next_ms += self._gap()
        return requests

    def _request(self, point: Point) -> Request:
        self._count += 1
        inputs, outputs = (
            int(Lengths(mean, self._load.distribution, self._load.cov).sample(1, self._rng, minimum=least)[0])
            for mean, least in ((point.input_tokens, 0), (point.output_tokens, 1))
        )
        return Request(self._next_ms, inputs, outputs, self._count)


def read_loads(path: Path) -> list[Load]:
    """Read a load file: a YAML list with one entry for each Deployment.

    `at` is in seconds since the start, `rate` in requests per minute. A point without token means keeps those
    of the point before it; `seed`, `step` and `lengths` may be left out:

        - namespace: demo
          deployment: llama
          seed: 1
          step: false
          lengths: {distribution: exponential}
          points:
          - {at: 0, rate: 120, inputTokens: 512, outputTokens: 128}
          - {at: 300, rate: 600}

    Raises:
        LoadError: The file cannot be read or an entry is wrong; the message names entry, field and value.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise LoadError(f"{path}: {error}") from error
    if not isinstance(document, list):
        raise LoadError(f"{path}: a list of loads is needed, one for each Deployment")
    loads = [_load(entry, f"{path}: entry {number}") for number, entry in enumerate(document)]
    names = [(load.namespace, load.deployment) for load in loads]
    for namespace, deployment in {name for name in names if names.count(name) > 1}:
        raise LoadError(f"{path}: Deployment {namespace}/{deployment} has two entries")
    return loads


def _load(entry: Any, where: str) -> Load:
    _known(entry, _FIELDS, where)
    for name in ("namespace", "deployment"):
        if not isinstance(entry.get(name), str):
            raise LoadError(f"{where}: {name} must be a name, is {entry.get(name)!r}")
    where = f"{where} ({entry['namespace']}/{entry['deployment']})"
    lengths = entry.get("lengths", {})
    _known(lengths, {"distribution", "cov"}, f"{where}: lengths")
    distribution = lengths.get("distribution", "exponential")
    choices = [choice for choice in get_args(Distribution) if choice != "empirical"]
    if distribution not in choices:
        raise LoadError(f"{where}: lengths.distribution is {distribution!r}, not one of {', '.join(choices)}")
    return Load(
        namespace=entry["namespace"],
        deployment=entry["deployment"],
        points=_points(entry.get("points"), where),
        step=bool(entry.get("step", False)),
        seed=int(_number(entry, "seed", where, 0)),
        distribution=distribution,
        cov=_number(lengths, "cov", f"{where}: lengths", 1),
    )


def _points(entries: Any, where: str) -> tuple[Point, ...]:
    if not isinstance(entries, Sequence) or not entries:
        raise LoadError(f"{where}: points must be a list of at least one point, is {entries!r}")
    points: list[Point] = []
    for number, entry in enumerate(entries):
        at = f"{where}: points[{number}]"
        _known(entry, _POINT_FIELDS, at)
        last = points[-1] if points else None
        points.append(
            Point(
                _number(entry, "at", at),
                _number(entry, "rate", at),
                _number(entry, "inputTokens", at, last.input_tokens if last else None),
                _number(entry, "outputTokens", at, last.output_tokens if last else None),
            )
        )
        if last and points[-1].at_s <= last.at_s:
            raise LoadError(f"{at}: at is {points[-1].at_s:g}, must come after {last.at_s:g}")
    return tuple(points)


def _known(entry: Any, names: set[str], where: str) -> None:
    if not isinstance(entry, Mapping):
        raise LoadError(f"{where}: a mapping is needed, is {entry!r}")
    for name in entry:
        if name not in names:
            raise LoadError(f"{where}: unknown field {name!r}, known are {', '.join(sorted(names))}")


def _number(entry: Mapping[str, Any], name: str, where: str, default: float | None = None) -> float:
    value = entry.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise LoadError(f"{where}: {name} must be a number >= 0, is {value!r}")
    return float(value)
