"""An API server in memory at which the operator can die, and the controllers of its Deployments."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import kubernetes_objects as objects
from builders import merged
from deployment_model import ModelDeployment
from inferscale_operator.kube import kinds
from inferscale_operator.kube.client import ApiError, PatchType
from inferscale_operator.kube.kinds import Kind
from inferscale_operator.kube.writer import FINALIZER
from loop_objects import Hardware

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
        old, template = self.stored[kind][key], self.deployment["spec"]["template"]
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
            # Its controllers see it when they run.
            new["metadata"]["generation"] += new["spec"] != old["spec"]
        self.stored[kind][key] = new
        self._check(template)
        self._collect(kind, key)
        return new

    def _check(self, template: Any) -> None:
        """What is not the owner's own is on record while it is there, and the template before it is there.

        Args:
            template: That of the Deployment before the write.
        """
        spec = self.deployment["spec"]
        if spec["template"] != template or spec["strategy"] != self._strategy or spec.get("paused"):
            [allocation] = self.stored[kinds.INFERENCE_ALLOCATION].values()
            assert allocation["status"]["move"]["priorTemplate"]
            assert FINALIZER in allocation["metadata"]["finalizers"]

    @property
    def deployment(self) -> objects.Object:
        """The only Deployment."""
        [deployment] = self.stored[kinds.DEPLOYMENT].values()
        return deployment

    def begin(self) -> None:
        """From now on nothing that is not the owner's own may be there without a record."""
        self._strategy = self.deployment["spec"]["strategy"]

    def release(self, kind: Kind, key: Key) -> None:
        """Delete an object; one with a finalizer goes when that has been taken off."""
        there = self.stored[kind][key]
        there["metadata"]["deletionTimestamp"] = objects.TIME
        self._collect(kind, key)

    def _collect(self, kind: Kind, key: Key) -> None:
        metadata = self.stored[kind][key]["metadata"]
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            del self.stored[kind][key]


def json_merged(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """What a JSON merge patch (RFC 7396) makes of an object."""
    result = dict(old)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            before = result.get(key)
            result[key] = json_merged(before if isinstance(before, Mapping) else {}, value)
        else:
            result[key] = value
    return result


class Controllers:
    """The controllers of the only Deployment, in the digital twin's model of them.

    Args:
        server: Where it is.
        runs: How many pods of a pod template find a node and become ready.
    """

    def __init__(self, server: Server, runs: Callable[[Mapping[str, Any]], int] = lambda _: 1000) -> None:
        self._server = server
        spec = server.deployment["spec"]
        self.model = ModelDeployment(spec["replicas"], runs, template=spec["template"]["spec"])
        self._tell()

    def run(self, seconds: int) -> None:
        """Time passes, and they do what they do then."""
        stored, model = self._server.deployment, self.model
        spec = stored["spec"]
        model.replicas, model.strategy = spec["replicas"], spec["strategy"]
        model.paused, model.template = spec.get("paused", False), spec["template"]["spec"]
        model.generation = stored["metadata"]["generation"]
        model.step(seconds)
        self._tell()

    def ready(self, hardware: Hardware) -> int:
        """Ready pods on an accelerator."""
        selector = hardware.selector.items()
        return sum(s.ready for s in self.model.sets if selector <= s.template["nodeSelector"].items())

    def _tell(self) -> None:
        stored, model = self._server.deployment, self.model
        status = {
            "observedGeneration": model.observed,
            "replicas": sum(len(s.pods) for s in model.sets),
            "readyReplicas": sum(s.ready for s in model.sets),
        }
        revision = str(max(s.revision for s in model.sets))
        annotations = {**stored["metadata"]["annotations"], "deployment.kubernetes.io/revision": revision}
        if (status, annotations) != (stored["status"], stored["metadata"]["annotations"]):
            stored["metadata"] = {
                **stored["metadata"],
                "annotations": annotations,
                "resourceVersion": str(next(self._server.versions)),
            }
            stored["status"] = status
        self._server.stored[kinds.REPLICA_SET] = {}
        for each in model.sets:
            name = f"chat-{each.name.rpartition('-')[2]}"
            raw = objects.replica_set(name, revision=each.revision, replicas=each.desired)
            raw["status"] = {"replicas": len(each.pods), "readyReplicas": each.ready}
            self._server.add(kinds.REPLICA_SET, raw)
