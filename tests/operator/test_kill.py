"""An operator that is killed at any of its writes leaves nothing that the next one does not put right."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

import kubernetes_objects as objects
from builders import NOW, behavior, load, merged
from inferscale_operator.act import act
from inferscale_operator.decide import decide
from inferscale_operator.kube import kinds
from inferscale_operator.kube.client import ApiError, PatchType
from inferscale_operator.kube.kinds import Kind
from inferscale_operator.kube.stores import Stores
from inferscale_operator.kube.writer import FINALIZER
from inferscale_operator.kube.writer import merged as json_merged
from inferscale_operator.observe import observe
from loop_objects import HARDWARE, Objects, rate_per_replica

MANIFESTS = Objects("team", "test")
Key = tuple[str, str]


class KilledError(BaseException):
    """SIGKILL: nothing is tidied up."""


@dataclass
class Server:
    """An API server in memory: resourceVersions, preconditions, and a moment at which the operator dies."""

    stored: dict[Kind, dict[Key, objects.Object]] = field(default_factory=dict)
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(100))
    writes: int = 0
    dies_at: int | None = None
    """The write at which it dies; the first is 1."""
    written: bool = False
    """Whether that write still arrives."""

    def add(self, kind: Kind, raw: objects.Object) -> None:
        namespace = raw["metadata"].get("namespace", "")
        meta = objects.meta(raw["metadata"]["name"], namespace=namespace or None, version=next(self.versions))
        there = {**raw, "metadata": {**meta, **raw["metadata"]}}
        self.stored.setdefault(kind, {})[namespace, meta["name"]] = there

    def create(self, kind: Kind, namespace: str | None, body: objects.Object) -> objects.Object:
        return self._write(lambda: self._created(kind, namespace, body))

    def patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        body: Any,
        patch_type: PatchType,
        _subresource: str = "",
    ) -> objects.Object:
        return self._write(lambda: self._patched(kind, (namespace or "", name), body, patch_type))

    def _write(self, change: Any) -> objects.Object:
        self.writes += 1
        if self.writes == self.dies_at:
            if self.written:
                change()
            raise KilledError
        return change()

    def _created(self, kind: Kind, namespace: str | None, body: objects.Object) -> objects.Object:
        if (namespace or "", body["metadata"]["name"]) in self.stored.get(kind, {}):
            raise ApiError(409, "AlreadyExists", "it is there")
        self.add(kind, body)
        return self.stored[kind][namespace or "", body["metadata"]["name"]]

    def _patched(self, kind: Kind, key: Key, body: Any, patch_type: PatchType) -> objects.Object:
        old = self.stored[kind][key]
        if patch_type is PatchType.JSON:
            assert body[0] == {"op": "test", "path": "/metadata/uid", "value": old["metadata"]["uid"]}
            status, version = body[1]["value"], body[2]["value"]
            new = {**old, "status": status}
        else:
            version = body["metadata"]["resourceVersion"]
            merge = merged if patch_type is PatchType.STRATEGIC else json_merged
            new = dict(merge(old, body))
        # Every change of what exists names the version that it was made from.
        if version != old["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "it has changed")
        new["metadata"] = {**new["metadata"], "resourceVersion": str(next(self.versions))}
        if kind is kinds.DEPLOYMENT:
            # Its controller does not see it in these few ticks.
            new["metadata"]["generation"] += new["spec"] != old["spec"]
        self.stored[kind][key] = new
        self._check()
        return new

    def _check(self) -> None:
        """A template that is not the owner's is on record before it is there, guarded by the finalizer."""
        [deployment] = self.stored[kinds.DEPLOYMENT].values()
        if deployment["spec"]["template"] != self.template:
            [allocation] = self.stored[kinds.INFERENCE_ALLOCATION].values()
            assert allocation["status"]["move"]["priorTemplate"]
            assert FINALIZER in allocation["metadata"]["finalizers"]

    @property
    def template(self) -> Mapping[str, Any]:
        return self._template

    def begin(self) -> None:
        [deployment] = self.stored[kinds.DEPLOYMENT].values()
        self._template = deployment["spec"]["template"]


def world(target: str) -> Server:
    """Four replicas on an L40S; `target` is the only profile besides, or the same."""
    server = Server()
    names = dict.fromkeys(("l40s", target))
    for name in names:
        server.add(kinds.ACCELERATOR_PROFILE, MANIFESTS.accelerator_profile(name))
        node = objects.node(name, **{HARDWARE[name].resource: "8"})
        node["metadata"]["labels"] = dict(HARDWARE[name].selector)
        server.add(kinds.NODE, node)
    server.add(kinds.MODEL_PROFILE, MANIFESTS.model_profile("llm", *names))
    server.add(kinds.SERVICE_CLASS, MANIFESTS.service_class("standard", "llm"))
    server.add(
        kinds.INFERENCE_SERVICE,
        MANIFESTS.service(
            "chat",
            mode="Apply",
            behavior=behavior(0, 0),
            variants=[{"accelerator": MANIFESTS.named(target)}],
        ),
    )
    deployment = MANIFESTS.deployment("chat", "l40s", 4)
    deployment["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "1"}
    deployment["spec"]["strategy"] = {"type": "RollingUpdate"}
    deployment["status"] = {"observedGeneration": 1, "readyReplicas": 4, "replicas": 4}
    server.add(kinds.DEPLOYMENT, deployment)
    replica_set = objects.replica_set("chat-abc", revision=1, replicas=4)
    server.add(kinds.REPLICA_SET, replica_set)
    server.begin()
    return server


def tick(server: Server, now: datetime, replicas_of_load: float) -> None:
    """A tick of an operator that knows nothing but what is on the API server."""
    stores = Stores()
    for kind, there in server.stored.items():
        if kind in stores.by_kind:
            stores.by_kind[kind].seed({"items": list(there.values())})
    read = stores.copy({})
    snapshot = observe(read, now, None)
    rate = replicas_of_load * rate_per_replica("l40s")
    observed = replace(load(rate, tokens=32.0), input_tokens=128.0)
    snapshot = replace(snapshot, services=tuple(replace(s, load=observed) for s in snapshot.services))
    act(server, decide(snapshot), read, {})  # type: ignore[arg-type]


def outcome(server: Server) -> dict[str, Any]:
    """All that matters of what is on the API server."""
    [deployment] = server.stored[kinds.DEPLOYMENT].values()
    [allocation] = server.stored[kinds.INFERENCE_ALLOCATION].values()
    [service] = server.stored[kinds.INFERENCE_SERVICE].values()
    status = allocation["status"]
    move = {k: v for k, v in status.get("move", {}).items() if k not in ("startedAt", "stepStartedAt")}
    return {
        "deployment": deployment["spec"],
        "marks": {k: allocation["metadata"].get(k) for k in ("finalizers", "annotations")},
        "move": move,
        "allocations": status["allocations"],
        "conditions": [(c["type"], c["status"], c["reason"]) for c in service["status"]["conditions"]],
    }


SCENARIOS = {"scale up": ("l40s", 5.5), "scale down": ("l40s", 1.5), "move": ("mi300x", 3.5)}
TICKS = 4


def undisturbed(name: str) -> tuple[Server, int]:
    """The end, and the writes of the first tick."""
    target, rate = SCENARIOS[name]
    server = world(target)
    tick(server, NOW, rate)
    first = server.writes
    for number in range(1, TICKS):
        tick(server, NOW + timedelta(seconds=30 * number), rate)
    return server, first


def test_the_scenarios_do_what_they_are_called() -> None:
    ends = {name: outcome(undisturbed(name)[0]) for name in SCENARIOS}
    assert ends["scale up"]["deployment"]["replicas"] == 6
    assert ends["scale down"]["deployment"]["replicas"] == 2
    assert ends["move"]["move"]["step"] == "BringUp"
    assert all(undisturbed(name)[1] >= 6 for name in SCENARIOS)


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_any_write_the_next_one_ends_in_the_same_state(name: str, written: bool) -> None:
    target, rate = SCENARIOS[name]
    whole, first = undisturbed(name)
    for number in range(1, first + 1):
        server = world(target)
        server.dies_at, server.written = number, written
        with pytest.raises(KilledError):
            tick(server, NOW, rate)
        for later in range(1, TICKS + 1):
            tick(server, NOW + timedelta(seconds=30 * later), rate)
        assert outcome(server) == outcome(whole), f"write {number} of {first}"
