"""Replicas for which no node is found, though accelerators seem to be free: what was counted is not there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from inferscale_operator.api.inference_allocation import InferenceAllocationStatus, UnschedulablePod
from inferscale_operator.api.optimizer_policy import SafetySettings
from inferscale_operator.snapshot import PodState

UNSCHEDULABLE_LIMIT = 16
"""Unschedulable pods that a status takes."""

Owner = tuple[str, str]
"""Namespace and name of a Deployment."""


def waiting_pods(pods: Iterable[PodState]) -> dict[Owner, tuple[PodState, ...]]:
    """Pods that the scheduler has found no node for, by Deployment."""
    found: dict[Owner, tuple[PodState, ...]] = {}
    for pod in pods:
        waits = pod.unschedulable_since is not None and pod.node is None and not pod.terminating
        if waits and pod.deployment is not None:
            owner = (pod.namespace, pod.deployment)
            found[owner] = (*found.get(owner, ()), pod)
    return found


def unschedulable(
    accelerator: str,
    waiting: Sequence[PodState],
    placed: Collection[tuple[str, str]],
    namespace: str,
    before: InferenceAllocationStatus | None,
    settings: SafetySettings,
    now: datetime,
) -> tuple[UnschedulablePod, ...]:
    """The accelerators of which a service gets no more than it runs on, and the pod to blame for each.

    That is so while a pod has been unschedulable for longer than the limit, and for a while after it is gone;
    it ends as soon as the pod has a node. During a move none is added: its pods are for two accelerators, and
    it has a time limit of its own.

    Args:
        accelerator: The profile that its pods are for.
        waiting: Its pods for which no node was found.
        placed: (namespace, name) of the pods that have a node.
        namespace: Namespace of the service.
        before: What was recorded.
        settings: The limits.
        now: The time.
    """
    records = before.unschedulable if before is not None else ()
    if not waiting and not records:
        return ()
    limit = timedelta(seconds=settings.unschedulable_after_seconds)
    rest = timedelta(seconds=settings.unschedulable_retry_after_seconds)
    known: Mapping[str, UnschedulablePod] = {
        record.accelerator: record
        for record in records
        if (namespace, record.pod) not in placed and now - record.seen < rest
    }
    moving = before is not None and before.move is not None
    stuck = (
        []
        if moving
        else sorted(
            (pod.unschedulable_since, pod.name)
            for pod in waiting
            if pod.unschedulable_since is not None and now - pod.unschedulable_since >= limit
        )
    )
    if stuck:
        since, name = stuck[0]
        known = {
            **known,
            accelerator: UnschedulablePod(accelerator=accelerator, pod=name, since=since, seen=now),
        }
    return tuple(record for _, record in sorted(known.items()))[:UNSCHEDULABLE_LIMIT]
