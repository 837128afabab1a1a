"""The pods of every service, and which samples are theirs."""

from __future__ import annotations

from collections.abc import Mapping

from inferscale_operator.api.metric_preset import DEFAULT_PRESET
from inferscale_operator.metrics.queries import GATEWAY_QUERIES, Answers, Query, SampleKey
from inferscale_queueing.frozen import frozen

# Pods of a ReplicaSet are named `<ReplicaSet>-<suffix>`; the API server cuts what is before the suffix.
_SUFFIX_LENGTH = 5
_LONGEST_STEM = 63 - _SUFFIX_LENGTH
_QUERIES = tuple(Query)


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


def by_workload(
    answers: Answers, workloads: Mapping[str, Workload]
) -> Mapping[str, Mapping[Query, Mapping[str, float]]]:
    """Every answer split by workload, in one pass over it."""
    pods: dict[SampleKey, str] = {}
    stems: dict[SampleKey, str] = {}
    for key, workload in workloads.items():
        names = (*(pod.name for pod in workload.ready), *workload.others)
        pods.update(((workload.namespace, name), key) for name in names)
        # A stem that was cut may belong to two ReplicaSets.
        whole = (f"{name}-" for name in workload.replica_sets if len(name) < _LONGEST_STEM)
        stems.update(((workload.namespace, stem), key) for stem in whole)
    result: dict[str, dict[Query, dict[str, float]]] = {
        key: {query: {} for query in _QUERIES} for key in workloads
    }
    answering: list[SampleKey] = []
    parts: list[dict[Query, dict[str, float]] | None] = []
    for query, answer in answers.items():
        if query in GATEWAY_QUERIES:
            continue
        # The same pods answer nearly every query.
        asked = list(answer.values)
        if asked != answering:
            answering = asked
            owners = (pods.get(pod) or stems.get((pod[0], pod[1][:-_SUFFIX_LENGTH])) for pod in answering)
            parts = [result[owner] if owner is not None else None for owner in owners]
        for (_, name), part, value in zip(answering, parts, answer.values.values(), strict=True):
            if part is not None:
                part[query][name] = value
    return result
