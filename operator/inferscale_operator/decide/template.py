"""The pod template of a service on an accelerator profile, as strategic merge patches.

Only what Inferscale owns is touched: the keys of the node selector and the tolerations that a profile names,
the accelerator in limits and requests, and the container settings that a variant or the batch setting names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from inferscale_operator.api.accelerator_profile import AcceleratorProfileSpec
from inferscale_operator.api.inference_service import BatchMode, InferenceServiceSpec, Variant
from inferscale_operator.decide.accelerators import serving_container
from inferscale_queueing.frozen import frozen


@frozen
class Placement:
    """A profile and how a replica uses it."""

    profile: AcceleratorProfileSpec
    variant: Variant | None
    units: int
    """Units of the type in one replica: accCount times multiplicity."""


def variant_of(spec: InferenceServiceSpec, accelerator: str) -> Variant | None:
    """The variant of a service for a profile."""
    return next((v for v in spec.variants if v.accelerator == accelerator), None)


def deployed_batch(spec: InferenceServiceSpec, container: Mapping[str, Any]) -> int | None:
    """The batch limit in the container's variable or argument; None: not set or not a number."""
    if spec.batch.env is not None:
        text = next(
            (e.get("value") for e in container.get("env") or () if e.get("name") == spec.batch.env), None
        )
    elif spec.batch.arg is not None:
        text = _argument(container.get("args") or (), spec.batch.arg)
    else:
        text = None
    return int(text) if text is not None and re.fullmatch(r"[1-9]\d{0,8}", text) else None


def template_obstacle(
    spec: InferenceServiceSpec, pod_spec: Mapping[str, Any], old: Placement, new: Placement
) -> str:
    """Why a service cannot go from `old` to `new`: a reason and a sentence; empty: it can."""
    if _container(pod_spec, old, new) is None:
        return "NoContainer: no container is clearly the serving one: name it in spec.variants[].container"
    if spec.batch.mode is BatchMode.OBSERVED and _asks_for_batch(new.variant):
        return "NoBatch: its variant has {maxBatch}, which is known with spec.batch.mode Managed only"
    if (old.profile.node_selector, old.profile.resource_name, old.units) == (
        new.profile.node_selector,
        new.profile.resource_name,
        new.units,
    ):
        return "SameTemplate: its pods cannot be told from those of the present profile"
    return ""


def template_patch(
    spec: InferenceServiceSpec,
    pod_spec: Mapping[str, Any],
    old: Placement,
    new: Placement,
    max_batch: int | None,
) -> dict[str, Any]:
    """The strategic merge patch of the pod spec that moves a service from `old` to `new`; empty: it is there.

    Args:
        spec: The service.
        pod_spec: The pod spec of the template as it is.
        old: Where it is by its record; keys of its selector that `new` lacks are removed.
        new: Where it goes.
        max_batch: Batch limit to set where it is managed; None: left alone.
    """
    patch: dict[str, Any] = {}
    selector = pod_spec.get("nodeSelector") or {}
    changed = {k: v for k, v in new.profile.node_selector.items() if selector.get(k) != v}
    gone = {
        k: None for k in old.profile.node_selector if k in selector and k not in new.profile.node_selector
    }
    if changed or gone:
        patch["nodeSelector"] = changed | gone
    tolerations = _tolerations(pod_spec, old, new)
    if tolerations != list(pod_spec.get("tolerations") or ()):
        patch["tolerations"] = tolerations
    runtime, ours = (v.runtime_class_name if v else None for v in (new.variant, old.variant))
    present = pod_spec.get("runtimeClassName")
    # One that the old variant set goes with it; one that somebody else set stays.
    if present != runtime and (runtime is not None or present == ours):
        patch["runtimeClassName"] = runtime
    container = _container(pod_spec, old, new)
    if container is not None:
        settings = _container_patch(spec, container, old, new, max_batch)
        if settings:
            patch["containers"] = [{"name": container["name"], **settings}]
    return patch


def inverse(pod_spec: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The strategic merge patch that takes `patch` back, given the pod spec before it."""
    back: dict[str, Any] = {}
    if "nodeSelector" in patch:
        selector = pod_spec.get("nodeSelector") or {}
        back["nodeSelector"] = {k: selector.get(k) for k in patch["nodeSelector"]}
    for key in ("tolerations", "runtimeClassName"):
        if key in patch:
            back[key] = pod_spec.get(key)
    for settings in patch.get("containers") or ():
        before = next(c for c in pod_spec["containers"] if c["name"] == settings["name"])
        back["containers"] = [_container_inverse(before, settings)]
    return back


def _container(pod_spec: Mapping[str, Any], old: Placement, new: Placement) -> Mapping[str, Any] | None:
    """The container that a move changes; None when nothing singles one out."""
    name = next((v.container for v in (new.variant, old.variant) if v and v.container), None)
    return serving_container(pod_spec, name, (old.profile.resource_name, new.profile.resource_name))


def _asks_for_batch(variant: Variant | None) -> bool:
    texts = () if variant is None else (*(variant.args or ()), *(e.value for e in variant.env))
    return any("{maxBatch}" in text for text in texts)


def _container_inverse(before: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    back: dict[str, Any] = {"name": before["name"]}
    for key in ("image", "args"):
        if key in settings:
            back[key] = before.get(key)
    if "env" in settings:
        variables = {e["name"]: e for e in before.get("env") or ()}
        back["env"] = [
            dict(variables[e["name"]]) if e["name"] in variables else {"name": e["name"], "$patch": "delete"}
            for e in settings["env"]
        ]
    if "resources" in settings:
        resources = before.get("resources") or {}
        back["resources"] = {
            part: {name: (resources.get(part) or {}).get(name) for name in amounts}
            for part, amounts in settings["resources"].items()
        }
    return back


def _tolerations(pod_spec: Mapping[str, Any], old: Placement, new: Placement) -> list[dict[str, Any]]:
    """The list is replaced whole by a patch, so others' tolerations are carried along."""
    ours = [t.model_dump(by_alias=True, exclude_none=True) for t in old.profile.tolerations]
    wanted = [t.model_dump(by_alias=True, exclude_none=True) for t in new.profile.tolerations]
    present = [dict(t) for t in pod_spec.get("tolerations") or ()]
    kept = [t for t in present if t not in ours or t in wanted]
    return kept + [t for t in wanted if t not in kept]


def _container_patch(
    spec: InferenceServiceSpec,
    container: Mapping[str, Any],
    old: Placement,
    new: Placement,
    max_batch: int | None,
) -> dict[str, Any]:
    patch: dict[str, Any] = {}
    resources = _resources_patch(container, old, new)
    if resources:
        patch["resources"] = resources
    if new.variant is not None and new.variant.image not in (None, container.get("image")):
        patch["image"] = new.variant.image
    args = _arguments(spec, container, new, max_batch)
    if args != list(container.get("args") or ()):
        patch["args"] = args
    env = _environment(spec, container, old, new, max_batch)
    if env:
        patch["env"] = env
    return patch


def _resources_patch(container: Mapping[str, Any], old: Placement, new: Placement) -> dict[str, Any]:
    """Requests equal limits for extended resources, so both are set; the old accelerator goes from both."""
    patch: dict[str, Any] = {}
    count = str(new.units)
    for part in ("limits", "requests"):
        amounts = (container.get("resources") or {}).get(part) or {}
        changes: dict[str, str | None] = {}
        if str(amounts.get(new.profile.resource_name)) != count:
            changes[new.profile.resource_name] = count
        if old.profile.resource_name != new.profile.resource_name and old.profile.resource_name in amounts:
            changes[old.profile.resource_name] = None
        if changes:
            patch[part] = changes
    return patch


def _arguments(
    spec: InferenceServiceSpec, container: Mapping[str, Any], new: Placement, max_batch: int | None
) -> list[str]:
    if new.variant is not None and new.variant.args is not None:
        args = [_fill(argument, new, max_batch) for argument in new.variant.args]
    else:
        args = list(container.get("args") or ())
    if spec.batch.mode is BatchMode.MANAGED and spec.batch.arg is not None and max_batch is not None:
        return _with_argument(args, spec.batch.arg, str(max_batch))
    return args


def _environment(
    spec: InferenceServiceSpec,
    container: Mapping[str, Any],
    old: Placement,
    new: Placement,
    max_batch: int | None,
) -> list[dict[str, Any]]:
    wanted = {e.name: _fill(e.value, new, max_batch) for e in (new.variant.env if new.variant else ())}
    if spec.batch.mode is BatchMode.MANAGED and spec.batch.env is not None and max_batch is not None:
        wanted[spec.batch.env] = str(max_batch)
    present = {e["name"]: e.get("value") for e in container.get("env") or ()}
    patch: list[dict[str, Any]] = [{"name": k, "value": v} for k, v in wanted.items() if present.get(k) != v]
    if old.variant is not None and old.variant is not new.variant:
        gone = [e.name for e in old.variant.env if e.name in present and e.name not in wanted]
        patch += [{"name": name, "$patch": "delete"} for name in gone]
    return patch


def _fill(text: str, new: Placement, max_batch: int | None) -> str:
    # Plain replacement: a user's string is never a format string.
    filled = text.replace("{acceleratorCount}", str(new.units))
    return filled if max_batch is None else filled.replace("{maxBatch}", str(max_batch))


def _argument(args: Sequence[str], flag: str) -> str | None:
    for position, argument in enumerate(args):
        if argument.startswith(f"{flag}="):
            return argument.removeprefix(f"{flag}=")
        if argument == flag and position + 1 < len(args):
            return args[position + 1]
    return None


def _with_argument(args: Iterable[str], flag: str, value: str) -> list[str]:
    """The arguments with the flag's value set, in the form in which it is there, or added as `flag=value`."""
    result = list(args)
    for position, argument in enumerate(result):
        if argument.startswith(f"{flag}="):
            result[position] = f"{flag}={value}"
            return result
        if argument == flag and position + 1 < len(result):
            result[position + 1] = value
            return result
    return [*result, f"{flag}={value}"]
