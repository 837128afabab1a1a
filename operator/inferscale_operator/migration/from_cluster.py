"""InferenceServices for model servers that run already: a proposal in mode Recommend, nothing is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inferscale_operator.migration.engines import ModelServer, model_server
from inferscale_operator.migration.hardware import known, products
from inferscale_operator.migration.manifests import COMMAND, Manifest
from inferscale_operator.migration.names import object_name
from inferscale_queueing.frozen import frozen

Raw = Mapping[str, Any]

KEDA_PREFIX = "keda-hpa-"


@frozen
class Cluster:
    """What the API server lists, as JSON."""

    deployments: Sequence[Raw] = ()
    autoscalers: Sequence[Raw] = ()
    """HorizontalPodAutoscalers."""
    scaled_objects: Sequence[Raw] = ()
    """Of KEDA."""
    nodes: Sequence[Raw] = ()
    accelerator_profiles: Sequence[Raw] = ()
    model_profiles: Sequence[Raw] = ()
    service_classes: Sequence[Raw] = ()
    services: Sequence[Raw] = ()
    """InferenceServices."""


@frozen
class Proposal:
    """InferenceServices, with the AcceleratorProfiles that are missing, and what was passed over."""

    manifests: tuple[Manifest, ...]
    passed_over: tuple[str, ...]


def propose(cluster: Cluster, service_class: str | None) -> Proposal:
    """InferenceServices for the vLLM, SGLang and TGI Deployments of a cluster.

    Args:
        cluster: What there is.
        service_class: ServiceClass of all of them; None: the only one with objectives for the model, else
            `standard`.
    """
    profiles: dict[str, Manifest] = {}
    services, passed_over = [], []
    taken = {
        (_namespace(each), ((each.get("spec") or {}).get("targetRef") or {}).get("name")): _name(each)
        for each in cluster.services
    }
    names = {(_namespace(each), _name(each)) for each in cluster.services}
    for deployment in sorted(cluster.deployments, key=lambda each: (_namespace(each), _name(each))):
        pod_spec = deployment["spec"]["template"].get("spec") or {}
        server = model_server(pod_spec)
        if server is None:
            continue
        namespace, name = _namespace(deployment), _name(deployment)
        owner = taken.get((namespace, name))
        if owner is not None:
            passed_over.append(f"{namespace}/{name}: InferenceService {owner} has it already")
            continue
        if (namespace, name) in names:
            passed_over.append(f"{namespace}/{name}: an InferenceService of that name has another Deployment")
            continue
        found = _Found(deployment, pod_spec, server)
        accelerator = _accelerator(found, cluster, profiles)
        services.append(_service(found, accelerator, cluster, service_class))
    return Proposal((*(profiles[name] for name in sorted(profiles)), *services), tuple(passed_over))


@frozen
class _Found:
    """A Deployment of a model server."""

    deployment: Raw
    pod_spec: Raw
    server: ModelServer

    @property
    def key(self) -> tuple[str, str]:
        return _namespace(self.deployment), _name(self.deployment)

    @property
    def container(self) -> Raw:
        listed: Sequence[Raw] = self.pod_spec["containers"]
        return next(each for each in listed if each.get("name", "") == self.server.container)

    @property
    def asked(self) -> tuple[str, int] | None:
        """The extended resource that the container asks for, and how much; None: none."""
        resources = self.container.get("resources") or {}
        amounts = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
        for name, amount in sorted(amounts.items()):
            if "/" in name and not name.split("/")[0].endswith("kubernetes.io") and str(amount).isdecimal():
                return name, int(amount)
        return None

    @property
    def selector(self) -> Mapping[str, str]:
        return self.pod_spec.get("nodeSelector") or {}


def _accelerator(found: _Found, cluster: Cluster, proposed: dict[str, Manifest]) -> str:
    """A remark on what it runs on; an AcceleratorProfile that is missing is added to those proposed."""
    if found.asked is None:
        return (
            f"Container {found.server.container} asks for no accelerator (an extended resource such as"
            " nvidia.com/gpu): no AcceleratorProfile can match it."
        )
    resource, units = found.asked
    nodes = [
        labels
        for node in cluster.nodes
        if found.selector.items() <= (labels := node["metadata"].get("labels") or {}).items()
        and str(((node.get("status") or {}).get("allocatable") or {}).get(resource, "0")) != "0"
    ]
    matching = _matching(found, resource, units, nodes, cluster.accelerator_profiles)
    if matching is not None:
        name, selector = matching
        missing = {key: value for key, value in selector.items() if found.selector.get(key) != value}
        remark = f"Runs on {units} {resource}: AcceleratorProfile {name}."
        return remark + (f" Its pod template needs nodeSelector {_labels(missing)}." if missing else "")
    label = _product(found.selector, nodes)
    if label is None:
        kinds = sorted({value for labels in nodes for _, value in list(products(labels))[:1]})
        where = f"its pods may run on {', '.join(kinds)}" if kinds else "no node tells the product"
        return (
            f"Runs on {units} {resource}, and {where}: create an AcceleratorProfile, and set its labels as"
            " nodeSelector in the pod template."
        )
    key, product = label
    kind = guess.type if (guess := known(product)) is not None else product
    name = object_name(kind)
    if name not in proposed:
        proposed[name] = Manifest(
            "AcceleratorProfile",
            name,
            {"type": kind, "cost": 0, "resourceName": resource, "nodeSelector": {key: product}},
            remarks=("To be set: cost, what an hour of one costs; 0 is for hardware that is owned.",),
        )
    remark = f"Runs on {units} {resource}: AcceleratorProfile {name}, proposed here"
    if units > 1:
        remark += f", accCount {units} in the ModelProfile"
    named = found.selector.get(key) == product
    return f"{remark}." + ("" if named else f" Its pod template needs nodeSelector {key}={product}.")


def _matching(
    found: _Found, resource: str, units: int, nodes: Sequence[Mapping[str, str]], profiles: Sequence[Raw]
) -> tuple[str, Mapping[str, str]] | None:
    """The profile that the Deployment uses, with its labels: the most specific, then the largest."""
    matching = []
    for profile in profiles:
        spec = profile.get("spec") or {}
        selector: Mapping[str, str] = spec.get("nodeSelector") or {}
        multiplicity = spec.get("multiplicity", 1)
        named = selector.items() <= found.selector.items()
        everywhere = bool(nodes) and all(selector.items() <= labels.items() for labels in nodes)
        if spec.get("resourceName") == resource and units % multiplicity == 0 and (named or everywhere):
            matching.append((not named, -len(selector), -multiplicity, _name(profile), selector))
    if not matching:
        return None
    *_, name, selector = min(matching, key=lambda each: each[:4])
    return name, selector


def _product(selector: Mapping[str, str], nodes: Sequence[Mapping[str, str]]) -> tuple[str, str] | None:
    """The label that tells the accelerator; None: nothing tells it, or nodes differ."""
    own = next(products(selector), None)
    if own is not None:
        return own
    told = {next(products(labels), None) for labels in nodes}
    return told.pop() if len(told) == 1 else None


def _service(found: _Found, accelerator: str, cluster: Cluster, service_class: str | None) -> Manifest:
    namespace, name = found.key
    server = found.server
    served = server.served_name
    model, model_remark = _model(served, cluster.model_profiles)
    chosen, class_remark = _class(model, cluster.service_classes, service_class)
    scalers = list(_scalers(found.key, cluster))
    spec: dict[str, Any] = {
        "model": model,
        "serviceClass": chosen,
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "mode": "Recommend",
    }
    bounds = next((scaler for scaler in scalers if scaler.most), None)
    if bounds is not None:
        spec |= {"minReplicas": max(bounds.least, 1), "maxReplicas": bounds.most}
    if server.batch_flag is not None:
        spec["batch"] = {"mode": "Managed", "arg": server.batch_flag}
    elif server.batch_variable is not None:
        spec["batch"] = {"mode": "Managed", "env": server.batch_variable}
    if server.engine.preset != "vllm":
        spec["metrics"] = {"preset": server.engine.preset}
    what = f"{server.engine.preset} in container {server.container}, model {served or 'not known'}"
    remarks = [f"Deployment {namespace}/{name}: {what}" + (" (a guess)." if server.guessed else ".")]
    remarks.append(accelerator)
    remarks += [model_remark, class_remark]
    if server.batch_hidden:
        remarks.append(
            "Its batch limit stands in a shell command or in `command`, where only its owner can set it."
        )
    remarks += [remark for scaler in scalers for remark in scaler.remarks]
    owner = _controller(found.deployment)
    if owner is not None:
        remarks.append(f"{owner} controls this Deployment and would undo every change: mode Recommend only.")
    return Manifest("InferenceService", name, spec, namespace=namespace, remarks=tuple(filter(None, remarks)))


def _model(served: str, profiles: Sequence[Raw]) -> tuple[str, str]:
    """The ModelProfile's name, and a remark where there is none."""
    for profile in profiles:
        if served and (profile.get("spec") or {}).get("modelName") == served:
            return _name(profile), ""
    # A path's last part is what tells it from others.
    name = object_name(served.rpartition("/")[2]) or "model"
    return name, (
        f"ModelProfile {name} is to be created with modelName {served or '(the label of its series)'}:"
        " measure the model and fit it (`inferscale fit`)."
    )


def _class(model: str, classes: Sequence[Raw], asked: str | None) -> tuple[str, str]:
    promising = [
        _name(each)
        for each in classes
        if any(target.get("model") == model for target in (each.get("spec") or {}).get("models") or ())
    ]
    if asked is None and len(promising) == 1:
        return promising[0], ""
    name = asked or "standard"
    if name in promising:
        return name, ""
    return name, f"ServiceClass {name} is to have objectives for model {model}."


@frozen
class _Scaler:
    """What scales a Deployment today."""

    least: int
    most: int
    remarks: tuple[str, ...]


def _scalers(key: tuple[str, str], cluster: Cluster) -> Iterator[_Scaler]:
    namespace = key[0]
    ours = set()
    for scaled in cluster.scaled_objects:
        spec = scaled.get("spec") or {}
        target = spec.get("scaleTargetRef") or {}
        here = (_namespace(scaled), target.get("name")) == key
        if here and target.get("kind", "Deployment") == "Deployment":
            made = f"{KEDA_PREFIX}{_name(scaled)}"
            ours.add(made)
            yield _Scaler(
                spec.get("minReplicaCount", 0),
                spec.get("maxReplicaCount", 100),
                (
                    f"ScaledObject {_name(scaled)} scales it: remove it before mode Apply ({made} goes too):",
                    f"{COMMAND}kubectl delete scaledobject {_name(scaled)} -n {namespace}",
                ),
            )
    for autoscaler in cluster.autoscalers:
        spec = autoscaler.get("spec") or {}
        target = spec.get("scaleTargetRef") or {}
        aimed = (target.get("kind"), _namespace(autoscaler), target.get("name"))
        if aimed != ("Deployment", *key) or _name(autoscaler) in ours:
            continue
        yield _Scaler(
            spec.get("minReplicas", 1),
            spec.get("maxReplicas", 0),
            (
                f"HorizontalPodAutoscaler {_name(autoscaler)} scales it: remove it before mode Apply:",
                f"{COMMAND}kubectl delete hpa {_name(autoscaler)} -n {namespace}",
            ),
        )


def summary(proposal: Proposal) -> str:
    """What was found, in a line."""
    counts = Counter(manifest.kind for manifest in proposal.manifests)
    listed = [
        f"{counts[kind]} {kind}{'s' if counts[kind] != 1 else ''}"
        for kind in ("InferenceService", "AcceleratorProfile")
        if counts[kind]
    ]
    return f"Proposed: {', '.join(listed)}" if listed else "No Deployment of vLLM, SGLang or TGI was found"


def _controller(raw: Raw) -> str | None:
    owners: Sequence[Raw] = raw["metadata"].get("ownerReferences") or ()
    return next((f"{owner['kind']} {owner['name']}" for owner in owners if owner.get("controller")), None)


def _labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _name(raw: Raw) -> str:
    return str(raw["metadata"]["name"])


def _namespace(raw: Raw) -> str:
    return str(raw["metadata"].get("namespace", ""))
