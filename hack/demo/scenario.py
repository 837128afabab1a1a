"""A scenario of `inferscale simulate` as objects of a cluster, and whether a live run can show it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from demo.summary import Objective
from inferscale_operator.api.base import Schema
from inferscale_operator.api.inference_service import BatchMode
from inferscale_operator.api.optimizer_policy import POLICY_NAME
from inferscale_operator.errors import UsageError
from inferscale_operator.twin.cluster import pod_template
from inferscale_operator.twin.nodes import scenario_nodes
from inferscale_operator.twin.resources import Setting, SimulatedService
from installation import LABEL

Object = dict[str, Any]

LONGEST_S = 900.0
BATCH = ("--max-num-seqs", "MAX_NUM_SEQS")
"""Where an emulated engine reads its batch limit."""
PODS = "10000"
"""Of a node, so that accelerators alone decide."""
GROUP = "inferscale.dev/v1alpha1"


def check(setting: Setting) -> None:
    """Refuse what cannot be shown live.

    Raises:
        UsageError: names the field, its value and what would be right.
    """
    scenario = setting.scenario
    slow = {
        name: seconds
        for name, seconds in scenario.start_up.by_accelerator.items()
        if seconds != scenario.start_up.seconds
    }
    if scenario.duration > LONGEST_S:
        raise _refused(
            setting,
            "duration",
            f"{scenario.duration:g}",
            f"a live run goes with the clock, {LONGEST_S:g} s at most: shorten it, windows too",
        )
    if scenario.disturbances:
        kinds = ", ".join(sorted({each.kind for each in scenario.disturbances}))
        raise _refused(setting, "disturbances", kinds, "nothing goes wrong in a live run: drop them")
    if scenario.routing != "LeastLoaded":
        raise _refused(setting, "routing", scenario.routing, "the emulated gateway knows LeastLoaded only")
    if slow:
        name, seconds = next(iter(slow.items()))
        raise _refused(
            setting,
            f"startUp.byAccelerator.{name}",
            f"{seconds:g}",
            f"the pods of a live run have one start-up, {scenario.start_up.seconds:g} s: drop it",
        )
    for service in setting.services:
        batch = service.spec.batch
        where = batch.arg or batch.env
        if batch.mode is BatchMode.MANAGED and where not in BATCH:
            raise _refused(
                setting, f"batch of {service.key}", str(where), f"emulated engines read {' or '.join(BATCH)}"
            )


def nodes(setting: Setting) -> list[Object]:
    """The nodes of a scenario as groups of one, for `Cluster.up`."""
    return [
        {"name": node.name, "labels": dict(node.labels), "allocatable": {"pods": PODS, **node.allocatable}}
        for node in scenario_nodes(setting)
    ]


def images(setting: Setting) -> list[str]:
    """Images that variants may set."""
    found = {v.image for service in setting.services for v in service.spec.variants if v.image}
    return sorted({re.sub(r"(:[^:/@]*)?(@.*)?$", "", image) for image in found})


def objects(setting: Setting) -> Iterator[Object]:
    """All objects in the order in which they are applied: namespaces, resources, Deployments and services."""
    key, _, value = LABEL.partition("=")
    for namespace in sorted({service.scenario.namespace for service in setting.services}):
        yield {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {key: value}},
        }
    for kind, resources in setting.resources.items():
        for each in resources:
            yield _custom(kind, {"name": each.name}, each.spec)
    yield _custom("OptimizerPolicy", {"name": POLICY_NAME}, setting.policy)
    for service in setting.services:
        yield _deployment(setting, service)
        metadata = {"name": service.resource.name, "namespace": service.scenario.namespace}
        yield _custom("InferenceService", metadata, service.spec)


def objectives(setting: Setting) -> dict[str, Objective]:
    """What the services were promised, by Deployment; a promise that is not made is kept."""
    return {
        service.spec.target_ref.name: Objective(
            service.spec.service_class,
            math.inf if service.targets.itl is None else service.targets.itl,
            math.inf if service.targets.ttft is None else service.targets.ttft,
        )
        for service in setting.services
    }


def story(setting: Setting) -> list[dict[str, Any]]:
    """What the loads do, and when (s), in the form of story.yaml."""
    found = [{"at": 0.0, "say": f"{setting.scenario.name or setting.path.stem}. Inferscale takes over."}]
    for service in setting.services:
        name, load, tokens = service.scenario.name, service.scenario.load, service.scenario.tokens
        for one, two in pairwise(load.points or ()):
            if one.rate != two.rate:
                text = f"{name}: load goes from {one.rate:g} to {two.rate:g} requests/min"
                found.append({"at": two.at if load.step else one.at, "say": text})
        for before, after in pairwise((tokens.points if tokens is not None else None) or ()):
            if (before.input, before.output) != (after.input, after.output):
                text = (
                    f"{name}: requests go from {before.input:g} + {before.output:g} "
                    f"to {after.input:g} + {after.output:g} tokens"
                )
                found.append({"at": after.at if tokens and tokens.step else before.at, "say": text})
        found += [
            {"at": spike.at, "say": f"{name}: {spike.factor:g} times the load for {spike.seconds:g} s"}
            for spike in load.spikes
        ]
    return sorted(found, key=lambda each: float(each["at"]))


def _custom(kind: str, metadata: Mapping[str, str], spec: Schema) -> Object:
    body = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
    return {"apiVersion": GROUP, "kind": kind, "metadata": dict(metadata), "spec": body}


def _deployment(setting: Setting, service: SimulatedService) -> Object:
    initial, scenario = service.scenario.initial, setting.scenario
    name = service.spec.target_ref.name
    labels = {"app": name, "inferscale.dev/emulated": "true", "inferscale.dev/model": service.spec.model}
    annotations = {
        "inferscale.dev/emulated-startup-seconds": f"{scenario.start_up.seconds:g}",
        "inferscale.dev/emulated-shutdown-seconds": f"{scenario.termination_grace:g}",
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": service.scenario.namespace},
        "spec": {
            "replicas": initial.replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": pod_template(setting, service, initial.accelerator, initial.max_batch),
            },
        },
    }


def _refused(setting: Setting, field: str, value: str, remedy: str) -> UsageError:
    return UsageError(f"{setting.path}: {field}: {value}: {remedy}")
