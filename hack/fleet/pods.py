"""What a pod emulates, as its specification and the profiles of the cluster say."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

_BATCH_ARGUMENT = "--max-num-seqs"
_BATCH_VARIABLE = "MAX_NUM_SEQS"
_MODEL_ARGUMENT = "--served-model-name"
_MODEL_LABEL = "inferscale.dev/model"


@dataclass(frozen=True)
class Pod:
    """The parts of a pod that matter here.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        uid: Tells it from a later one with the same name.
        deployment: Name of the Deployment that owns it, empty if none does.
        ready: Its Ready condition is true and it is not being deleted.
        terminating: It is being deleted: it finishes what it has and gets nothing new.
        node_selector: Its node selector.
        limits: Sum of the containers' limits of extended resources.
        model: Name of the model it serves, empty if it does not say.
        max_num_seqs: Batch limit it asks its engine for, if it does.
    """

    namespace: str
    name: str
    uid: str = ""
    deployment: str = ""
    ready: bool = True
    terminating: bool = False
    node_selector: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    model: str = ""
    max_num_seqs: int | None = None


@dataclass(frozen=True)
class Engine:
    """The hardware and the model that a pod emulates.

    Attributes:
        accelerator: Name of the AcceleratorProfile.
        model_name: Name of the model in the metrics.
        alpha: Duration of a decode iteration without its requests, ms.
        beta: Added duration for every request in the batch, ms.
        gamma: Duration of a prefill without its tokens, ms.
        delta: Added duration for every input token and request in the batch, ms.
        max_batch_size: Requests that fit into the memory when each has `at_tokens` tokens.
        at_tokens: See `max_batch_size`.
        max_num_seqs: Batch limit of the engine itself, if it has one.
    """

    accelerator: str
    model_name: str
    alpha: float
    beta: float
    gamma: float
    delta: float
    max_batch_size: int
    at_tokens: int
    max_num_seqs: int | None

    def memory_limit(self, tokens: float) -> int:
        """Requests of `tokens` tokens each that fit into the memory, at least one."""
        return max(int(self.max_batch_size * self.at_tokens / tokens), 1)

    def batch_limit(self, tokens: float) -> int:
        """Largest batch of requests with `tokens` tokens each: what fits and what the engine allows."""
        limit = self.memory_limit(tokens)
        return limit if self.max_num_seqs is None else min(limit, self.max_num_seqs)


def read_pod(document: Mapping[str, Any]) -> Pod:
    """Read a pod as the API server gives it."""
    metadata, spec = document["metadata"], document.get("spec", {})
    labels = metadata.get("labels", {})
    containers = spec.get("containers", [])
    conditions = document.get("status", {}).get("conditions", [])
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        deployment=_deployment(metadata),
        ready=ready and "deletionTimestamp" not in metadata,
        terminating="deletionTimestamp" in metadata,
        node_selector=spec.get("nodeSelector", {}),
        limits=_limits(containers),
        model=_argument(containers, _MODEL_ARGUMENT) or labels.get(_MODEL_LABEL, ""),
        max_num_seqs=_max_num_seqs(containers),
    )


def _deployment(metadata: Mapping[str, Any]) -> str:
    template = metadata.get("labels", {}).get("pod-template-hash", "")
    for owner in metadata.get("ownerReferences", []):
        if owner["kind"] == "ReplicaSet":
            return str(owner["name"]).removesuffix(f"-{template}")
    return ""


def _limits(containers: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    limits: dict[str, int] = {}
    for container in containers:
        for resource, quantity in container.get("resources", {}).get("limits", {}).items():
            if "/" in resource:  # extended resources come in whole units
                limits[resource] = limits.get(resource, 0) + int(quantity)
    return limits


def _argument(containers: Iterable[Mapping[str, Any]], name: str) -> str | None:
    for container in containers:
        lines = [*container.get("command", []), *container.get("args", [])]
        words: list[str | None] = [
            word for line in lines for word in str(line).split()
        ]  # also those of `sh -c`
        for word, following in pairwise([*words, None]):
            if word == name:
                return following
            if word and word.startswith(f"{name}="):
                return word.partition("=")[2]
    return None


def _max_num_seqs(containers: Iterable[Mapping[str, Any]]) -> int | None:
    variables = (
        variable.get("value")
        for container in containers
        for variable in container.get("env", [])
        if variable["name"] == _BATCH_VARIABLE
    )
    value = _argument(containers, _BATCH_ARGUMENT) or next(variables, None)
    return int(value) if value and re.fullmatch(r"[1-9]\d*", value) else None


def match(
    pod: Pod, accelerators: Iterable[Mapping[str, Any]], models: Iterable[Mapping[str, Any]]
) -> Engine | str:
    """Find the engine that a pod emulates among AcceleratorProfiles and ModelProfiles.

    A profile fits if the pod selects its nodes and has limits of just the units of one replica. Where several
    fit, the one with the most node labels is taken, then the first by name.

    Returns:
        The engine, or the reason why there is none.
    """
    by_name = {accelerator["metadata"]["name"]: accelerator["spec"] for accelerator in accelerators}
    model = next(
        (
            model
            for model in models
            if pod.model and pod.model in (model["metadata"]["name"], model["spec"]["modelName"])
        ),
        None,
    )
    if model is None:
        return f"no ModelProfile for the model {pod.model!r}"
    fitting = []
    for profile in model["spec"]["profiles"]:
        accelerator = by_name.get(profile["accelerator"])
        if accelerator is None:
            continue
        units = profile.get("accCount", 1) * accelerator.get("multiplicity", 1)
        selector = accelerator.get("nodeSelector", {})
        selected = selector.items() <= pod.node_selector.items()
        if selected and pod.limits.get(accelerator["resourceName"]) == units:
            fitting.append((-len(selector), profile["accelerator"], profile))
    if not fitting:
        return (
            f"no profile of model {pod.model!r} has the node selector {dict(pod.node_selector)} "
            f"and the limits {dict(pod.limits)}"
        )
    _, name, profile = min(fitting, key=lambda fit: fit[:2])
    if profile["alpha"] + profile["beta"] <= 0:
        return f"the profile of model {pod.model!r} on {name!r} has alpha = beta = 0: an iteration takes time"
    return Engine(
        accelerator=name,
        model_name=model["spec"]["modelName"],
        alpha=profile["alpha"],
        beta=profile["beta"],
        gamma=profile.get("gamma", 0.0),
        delta=profile.get("delta", 0.0),
        max_batch_size=profile["maxBatchSize"],
        at_tokens=profile["atTokens"],
        max_num_seqs=pod.max_num_seqs,
    )
