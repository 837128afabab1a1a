"""A service on an API server in memory, for operators that know nothing but what is there."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import kubernetes_objects as objects
from builders import behavior, load
from inferscale_operator.act import act
from inferscale_operator.decide import advance, decide
from inferscale_operator.kube import kinds
from inferscale_operator.kube.stores import Stores
from inferscale_operator.observe import observe
from loop_objects import HARDWARE, Objects, rate_per_replica
from memory_server import Server

MANIFESTS = Objects("team", "test")


def world(source: str, replicas: int, target: str, **policy: Any) -> Server:
    """Replicas on a profile; `target` is the only one besides, or the same."""
    server = Server()
    names = dict.fromkeys((source, target))
    for name in names:
        server.add(kinds.ACCELERATOR_PROFILE, MANIFESTS.accelerator_profile(name))
        node = objects.node(name, **{HARDWARE[name].resource: "8"})
        node["metadata"]["labels"] = dict(HARDWARE[name].selector)
        server.add(kinds.NODE, node)
    server.add(kinds.MODEL_PROFILE, MANIFESTS.model_profile("llm", *names))
    server.add(kinds.SERVICE_CLASS, MANIFESTS.service_class("standard", "llm"))
    if policy:
        manifest = MANIFESTS.policy()
        server.add(kinds.OPTIMIZER_POLICY, {**manifest, "spec": policy})
    server.add(
        kinds.INFERENCE_SERVICE,
        MANIFESTS.service(
            "chat",
            mode="Apply",
            behavior=behavior(0, 0),
            variants=[{"accelerator": MANIFESTS.named(target)}],
        ),
    )
    amounts = {HARDWARE[source].resource: "1"}
    # The API server asks for as much of an extended resource as its limit is.
    container = {"resources": {"limits": amounts, "requests": amounts}}
    deployment = MANIFESTS.deployment("chat", source, replicas, container=container)
    deployment["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "1"}
    deployment["spec"]["strategy"] = {"type": "RollingUpdate"}
    deployment["status"] = {"observedGeneration": 1, "readyReplicas": replicas, "replicas": replicas}
    server.add(kinds.DEPLOYMENT, deployment)
    server.add(kinds.REPLICA_SET, objects.replica_set("chat-abc", revision=1, replicas=replicas))
    server.begin()
    return server


def tick(server: Server, now: datetime, rate: float, *, full: bool = True) -> None:
    """A tick, or a step of moves alone; the load is `rate` times what an L40S takes."""
    stores = Stores()
    for kind, there in server.stored.items():
        if kind in stores.by_kind:
            stores.by_kind[kind].seed({"items": list(there.values())})
    read = stores.copy({})
    snapshot = observe(read, now, None)
    if full:
        observed = replace(load(rate * rate_per_replica("l40s"), tokens=32.0), input_tokens=128.0)
        states = tuple(replace(s, load=observed) for s in snapshot.services)
        plan = decide(replace(snapshot, services=states))
    else:
        plan = advance(snapshot)
    act(server, plan, read, {})  # type: ignore[arg-type]


def outcome(server: Server) -> dict[str, Any]:
    """All that matters of what is on the API server."""
    [deployment] = server.stored[kinds.DEPLOYMENT].values()
    told: dict[str, Any] = {"deployment": {"paused": False, **deployment["spec"]}}
    for service in server.stored[kinds.INFERENCE_SERVICE].values():
        told["conditions"] = [(c["type"], c["status"], c["reason"]) for c in service["status"]["conditions"]]
    for allocation in server.stored.get(kinds.INFERENCE_ALLOCATION, {}).values():
        status = allocation.get("status", {})
        move = {k: v for k, v in status.get("move", {}).items() if k not in ("startedAt", "stepStartedAt")}
        told |= {
            "marks": {k: allocation["metadata"].get(k) for k in ("finalizers", "annotations")},
            "move": move,
            "allocations": status.get("allocations"),
        }
    return told
