"""What waits in front of a service, from the counters and the queue of its gateway."""

from __future__ import annotations

from dataclasses import replace

from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics.queries import GATEWAY_QUERIES, Answers, Query, SampleKey
from inferscale_operator.snapshot import LoadState, ObservedLoad, UnknownCause
from inferscale_queueing.frozen import frozen

SECONDS_PER_MINUTE = 60.0


@frozen
class GatewaySignal:
    """What a gateway tells of a model.

    Attributes:
        queued: requests that wait in it now; None: not known, and `message` says why.
        peak: the most that waited at any time of the window.
        arrival_rate: requests per minute that came to it; None: not known, or those of several services.
        message: why it is not known.
        cause: the same, for machines.
    """

    queued: float | None = None
    peak: float = 0.0
    arrival_rate: float | None = None
    message: str = ""
    cause: UnknownCause | None = None


def gateway_signal(
    answers: Answers, key: SampleKey, settings: MetricsSettings, now: float, *, shared: bool
) -> GatewaySignal:
    """What the gateway tells of a model in a namespace.

    Args:
        answers: to the queries of a preset with a gateway.
        key: namespace, and name of the model.
        settings: with which Prometheus was asked.
        now: Unix seconds.
        shared: whether several services serve the model there. What waits may then be for any of them, and
            counts for each; what came is known at their pods only.
    """
    errors = [answers[query] for query in GATEWAY_QUERIES if answers[query].error]
    if errors:
        return GatewaySignal(message=errors[0].error or "", cause=errors[0].cause)
    queued = answers[Query.GATEWAY_QUEUE].values.get(key)
    sampled = answers[Query.GATEWAY_SAMPLED].values.get(key)
    if queued is None or sampled is None:
        return GatewaySignal(
            message=f"the gateway has no queue of model {key[1]!r} in namespace {key[0]}",
            cause=UnknownCause.NO_SAMPLES,
        )
    age = now - sampled
    if age > settings.max_age_seconds:
        return GatewaySignal(
            message=f"the newest sample of the gateway's queue of model {key[1]!r} is {age:.0f} s old,"
            f" more than metrics.maxAgeSeconds {settings.max_age_seconds}",
            cause=UnknownCause.SAMPLES_TOO_OLD,
        )
    peak = answers[Query.GATEWAY_PEAK_QUEUE].values.get(key, queued)
    arrivals = answers[Query.GATEWAY_ARRIVALS].values.get(key)
    if min(queued, peak, arrivals or 0.0) < 0:
        return GatewaySignal(
            message=f"the gateway's queue of model {key[1]!r} is {min(queued, peak):g}, below 0",
            cause=UnknownCause.ABSURD_VALUE,
        )
    rate = None if shared or arrivals is None else SECONDS_PER_MINUTE * arrivals
    return GatewaySignal(queued=queued, peak=max(queued, peak), arrival_rate=rate)


def parked_load(signal: GatewaySignal, settings: MetricsSettings) -> ObservedLoad:
    """The load of a service at zero replicas: the gateway alone knows of it."""
    if signal.queued is None:
        return ObservedLoad(LoadState.UNKNOWN, f"it has no replica, and {signal.message}", cause=signal.cause)
    # The first to wait has no growth yet.
    waiting = signal.queued * SECONDS_PER_MINUTE / settings.window_seconds
    rate = max(signal.arrival_rate or 0.0, waiting)
    if rate == 0 and signal.peak == 0:
        message = f"no request at the gateway in {settings.window_seconds} s"
        return ObservedLoad(LoadState.IDLE, message, arrival_rate=0.0, queued=0.0)
    message = f"{signal.queued:g} requests wait at the gateway and there is no replica"
    return ObservedLoad(LoadState.OBSERVED, message, arrival_rate=rate, queued=signal.queued)


def with_gateway(load: ObservedLoad, signal: GatewaySignal) -> ObservedLoad:
    """What the pods tell, with what the gateway tells beside it.

    Whichever saw more requests is right: the pods do not see those that wait in the gateway, the gateway not
    those that go past it. A gateway that tells nothing may hold requests back, so nothing is taken away then.
    """
    if signal.queued is None:
        if not load.state.known:
            return load
        message = "; ".join(filter(None, (load.message, signal.message)))
        return replace(load, state=LoadState.PARTIAL, message=message)
    load = replace(load, queued=signal.queued)
    if load.arrival_rate is None:
        return load
    rate = max(load.arrival_rate, signal.arrival_rate or 0.0)
    if load.state is LoadState.IDLE and (signal.peak > 0 or rate > 0):
        load = replace(load, state=LoadState.OBSERVED, message="")
    return replace(load, arrival_rate=rate)
