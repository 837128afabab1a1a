"""The pods of every service, and which samples are theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

from inferscale_operator.api.metric_preset import DEFAULT_PRESET
from inferscale_operator.metrics.queries import Answers, Query, SampleKey
from inferscale_queueing.frozen import frozen

# Pods of a ReplicaSet are named `<ReplicaSet>-<suffix>`; the API server cuts what is before the suffix.
_SUFFIX_LENGTH = 5
_LONGEST_STEM = 63 - _SUFFIX_LENGTH

T = TypeVar("T")


class ByQuery(NamedTuple, Generic[T]):
    """Something for each query that pods answer, under the query's name.

    Without those up to `coverage` nothing can be said of a load.
    """

    arrivals: T
    in_flight: T
    peak_in_flight: T
    progress: T
    sampled: T
    coverage: T
    cached_share: T
    input_tokens_sum: T
    input_tokens_count: T
    output_tokens_sum: T
    output_tokens_count: T
    itl_sum: T
    itl_count: T
    ttft_sum: T
    ttft_count: T


Figures = ByQuery[float | None]
"""What a pod reports; None: no sample."""

POD_QUERIES: ByQuery[Query] = ByQuery._make(Query[name.upper()] for name in ByQuery._fields)


@frozen
class ReadyPod:
    """A pod that is ready and should report.

    Attributes:
        name: name of the pod.
        ready_since: when it became ready, Unix seconds; None when that is not known.
    """

    name: str
    ready_since: float | None = None


@frozen
class Workload:
    """The pods that serve a service, all in one namespace.

    The rate of arrivals is what came in the window at all pods, with those that have gone since: after a
    scale-down or a move the pods that are left have not yet served a whole window at their new share. Pods
    that have gone are known by the names of their ReplicaSets.

    Attributes:
        namespace: namespace of the pods.
        ready: pods that are ready and not terminating.
        others: names of the other pods there are: starting, not ready, terminating.
        replica_sets: names of the Deployment's ReplicaSets.
        replicas: replicas that the Deployment asks for.
        preset: name of the metric preset.
        model: name by which a gateway knows the model.
    """

    namespace: str
    ready: tuple[ReadyPod, ...] = ()
    others: tuple[str, ...] = ()
    replica_sets: tuple[str, ...] = ()
    replicas: int = 1
    preset: str = DEFAULT_PRESET
    model: str = ""


def by_workload(answers: Answers, workloads: Mapping[str, Workload]) -> dict[str, dict[str, Figures]]:
    """What the pods of each workload report, by name of the pod."""
    pods: dict[SampleKey, str] = {}
    stems: dict[SampleKey, str] = {}
    for key, workload in workloads.items():
        for pod in workload.ready:
            pods[workload.namespace, pod.name] = key
        for name in workload.others:
            pods[workload.namespace, name] = key
        for name in workload.replica_sets:
            # A stem that was cut may belong to two ReplicaSets.
            if len(name) < _LONGEST_STEM:
                stems[workload.namespace, f"{name}-"] = key
    answered = [answers[query].values if query in answers else {} for query in POD_QUERIES]
    reporting = [*dict.fromkeys(chain.from_iterable(answered))]
    # Nearly every query is answered by all of them, in one order.
    columns = (
        values.values() if [*values] == reporting else map(values.get, reporting) for values in answered
    )
    figures: Iterable[Figures] = map(ByQuery._make, zip(*columns, strict=True))
    result: dict[str, dict[str, Figures]] = {key: {} for key in workloads}
    for (namespace, name), reported in zip(reporting, figures, strict=True):
        owner = pods.get((namespace, name)) or stems.get((namespace, name[:-_SUFFIX_LENGTH]))
        if owner is not None:
            result[owner][name] = reported
    return result
