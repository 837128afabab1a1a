"""What each target leaves over: the rate that it alone would allow, and its slack at a given rate."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from inferscale_queueing.analysis import align, analyze, wait_quantile
from inferscale_queueing.arrays import Array, float_candidates
from inferscale_queueing.chain import UNBOUNDED
from inferscale_queueing.frozen import frozen
from inferscale_queueing.latency import LatencyModel
from inferscale_queueing.sizing import Targets, size
from inferscale_queueing.variability import Variability


@frozen(eq=False)
class TargetRates:
    """The largest rate in requests/ms by each target alone, shape (C,); 0 where it is unattainable.

    A target that never binds, or that there is not, leaves 0.999·μ(N).

    Attributes:
        itl: by the target of ITL.
        ttft: by the target of TTFT.
        wait: by the target of the wait.
        tps: by the target of throughput, which keeps a tenth in reserve.
    """

    itl: Array
    ttft: Array
    wait: Array
    tps: Array


@frozen(eq=False)
class Slack:
    """How much of each target is left, (target − value)/target, shape (C,); NaN without a target.

    Negative where it is missed, −inf where the replica is unstable.

    Attributes:
        itl: of the mean ITL.
        ttft: of the TTFT at the targets' percentile.
        wait: of the wait at the targets' percentile.
    """

    itl: Array
    ttft: Array
    wait: Array


def target_rates(
    latency: LatencyModel,
    max_batch: npt.ArrayLike,
    targets: Targets,
    *,
    queue_limit: npt.ArrayLike = UNBOUNDED,
    variability: Variability | None = None,
) -> TargetRates:
    """Size for each target alone; `size` gives the least of the four where every one is attainable.

    Takes what `size` takes, and refuses what it refuses.
    """
    none = np.full(targets.itl.size, np.inf)
    unlimited = replace(targets, itl=none, ttft=none, wait=none, tps=np.zeros(none.size))

    def rate(alone: Targets) -> Array:
        return size(latency, max_batch, alone, queue_limit=queue_limit, variability=variability).rate

    return TargetRates(
        itl=rate(replace(unlimited, itl=targets.itl)),
        ttft=rate(replace(unlimited, ttft=targets.ttft)),
        wait=rate(replace(unlimited, wait=targets.wait)),
        tps=rate(replace(unlimited, tps=targets.tps)),
    )


def slack(
    latency: LatencyModel,
    max_batch: npt.ArrayLike,
    targets: Targets,
    rate: npt.ArrayLike,
    *,
    queue_limit: npt.ArrayLike = UNBOUNDED,
    variability: Variability | None = None,
) -> Slack:
    """What is left of every target at a rate of one replica, in requests/ms, shape (C,), ≥ 0.

    Takes what `size` takes beside it, and refuses what it refuses.
    """
    rates = float_candidates("rate", rate, at_least=0)
    latency, batches, limits = align(
        latency, max_batch, queue_limit, rate=rates.size, targets=targets.itl.size
    )
    varied = variability if targets.rule == "exact" else None
    analysis = analyze(latency, batches, rates, queue_limit=limits, variability=varied)
    wait = wait_quantile(
        latency,
        batches,
        rates,
        targets.percentile,
        queue_limit=limits,
        rule=targets.rule,
        variability=varied,
    )
    itl = np.where(analysis.stable, analysis.itl, np.inf)
    ttft = np.where(analysis.stable, wait + analysis.prefill, np.inf)
    return Slack(itl=_left(itl, targets.itl), ttft=_left(ttft, targets.ttft), wait=_left(wait, targets.wait))


def _left(value: Array, target: Array) -> Array:
    limited = np.isfinite(target)
    # A target of nearly nothing is missed by infinitely much.
    with np.errstate(over="ignore"):
        return np.where(limited, 1 - value / np.where(limited, target, 1.0), np.nan)
