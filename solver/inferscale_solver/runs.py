"""Runs: services' models on profiles, in columns: attributes of objects are read once, not at every use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import inferscale_queueing as queueing
from inferscale_queueing.arrays import Array, BoolArray, IntArray, taken
from inferscale_queueing.frozen import frozen
from inferscale_solver.problem import Performance, Service


class Columns(NamedTuple):
    """What the latencies of C runs and their objectives are made of, each of shape (C,); see `problem`.

    An objective that there is not is infinite; `tps` and `percentile` are 0 then.
    """

    alpha: Array
    beta: Array
    gamma: Array
    delta: Array
    input_tokens: Array
    output_tokens: Array
    arrival_cov: Array
    service_cov: Array
    itl: Array
    ttft: Array
    ttw: Array
    tps: Array
    percentile: Array


@frozen(eq=False)
class Runs:
    """C models of services, each on one profile; what is no table has shape (C,)."""

    table: Array
    """The rows of `Columns`, shape (13, C)."""
    prefill: BoolArray
    """Whether the prefill + decode latency model applies."""
    demand: Array
    """Requests/min that the service asks for."""
    least: IntArray
    """`min_replicas`."""
    most: Array
    """`max_replicas`, infinite without."""
    active: BoolArray
    """Whether there is a queue to analyse: any demand, and requests that take time."""
    limit: IntArray
    """The largest batch that memory holds at the present token lengths."""
    deployed: IntArray
    """The batch limit to deploy."""

    @property
    def columns(self) -> Columns:
        """The rows of the table by name."""
        return Columns(*self.table)

    @property
    def max_batch(self) -> IntArray:
        """The batch that can be reached: never more than memory holds."""
        return np.minimum(self.deployed, self.limit)

    def take(self, rows: IntArray) -> Runs:
        """The runs at the given positions."""
        return taken(self, rows)


def describe(services: Sequence[Service], owner: Sequence[int], performances: Sequence[Performance]) -> Runs:
    """Read what predictions take.

    The batch limit to deploy is the one that is deployed on the current profile, since a change restarts
    replicas. Elsewhere it is what memory holds; without load, whose token lengths mean nothing, the profile's
    own figure.

    Args:
        services: The services.
        owner: Of each of the C runs the position of its service.
        performances: Of each of them how the model runs there.
    """
    by_service = _table([_figures(service) for service in services], 13)
    by_profile = _table([_coefficients(performance) for performance in performances], 6)
    rows = np.array(owner, dtype=np.int64)
    *figures, demand, least, most, prefill = by_service.T.take(rows, axis=1)
    *coefficients, largest, at_tokens = by_profile.T
    table = np.stack([*coefficients, *figures])
    columns, with_prefill = Columns(*table), prefill > 0
    decodes = ~with_prefill | (columns.output_tokens > 1)
    prefills = with_prefill & (columns.input_tokens > 0) & (columns.gamma + columns.delta > 0)
    limit = queueing.max_batch_size(largest, at_tokens, columns.output_tokens)
    deployed = np.where(demand > 0, limit, largest.astype(np.int64))
    held = {
        (i, current.profile): current.max_batch
        for i, service in enumerate(services)
        if (current := service.current) is not None and current.max_batch is not None
    }
    if held:
        for row, (i, performance) in enumerate(zip(owner, performances, strict=True)):
            deployed[row] = held.get((i, performance.profile), deployed[row])
    return Runs(
        table=table,
        prefill=with_prefill,
        demand=demand,
        least=least.astype(np.int64),
        most=most,
        active=(demand > 0) & (decodes | prefills),
        limit=limit,
        deployed=deployed,
    )


def _table(rows: Sequence[tuple[float, ...]], width: int) -> Array:
    # Without rows there would be one dimension only.
    return np.array(rows, dtype=np.float64).reshape(-1, width)


def _figures(service: Service) -> tuple[float, ...]:
    load, targets = service.load, service.targets
    return (
        load.input_tokens,
        load.output_tokens,
        load.arrival_cov,
        load.service_cov,
        math.inf if targets.itl is None else targets.itl,
        math.inf if targets.ttft is None else targets.ttft,
        math.inf if targets.ttw is None else targets.ttw,
        targets.tps or 0.0,
        targets.percentile or 0.0,
        service.demand,
        service.min_replicas,
        math.inf if service.max_replicas is None else service.max_replicas,
        load.prefill,
    )


def _coefficients(performance: Performance) -> tuple[float, ...]:
    return (
        performance.alpha,
        performance.beta,
        performance.gamma,
        performance.delta,
        performance.max_batch_size,
        performance.at_tokens,
    )
