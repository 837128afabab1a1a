from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import AMD, NVIDIA, pod_spec
from inferscale_operator.api.accelerator_profile import AcceleratorProfileSpec
from inferscale_operator.api.inference_service import InferenceServiceSpec, Variant
from inferscale_operator.decide.template import (
    Placement,
    deployed_batch,
    inverse,
    template_obstacle,
    template_patch,
)
from inferscale_operator.twin.deployment import merged


def profile(kind: str, resource: str = NVIDIA, **fields: Any) -> AcceleratorProfileSpec:
    spec = {"type": kind, "cost": 1.0, "resourceName": resource, "nodeSelector": {"gpu": kind}}
    return AcceleratorProfileSpec.model_validate({**spec, **fields})


def variant(**fields: Any) -> Variant:
    return Variant.model_validate({"accelerator": "any", **fields})


def service(**fields: Any) -> InferenceServiceSpec:
    values = {"model": "llama", "serviceClass": "gold", "targetRef": {"name": "llama"}}
    return InferenceServiceSpec.model_validate({**values, **fields})


H100 = Placement(profile("H100"), None, 1)
MI300X = Placement(profile("MI300X", AMD), variant(image="rocm"), 2)
MANAGED = {"mode": "Managed", "arg": "--max-num-seqs"}


def moved(
    spec: InferenceServiceSpec, before: dict[str, Any], old: Placement, new: Placement, batch: int | None
) -> dict[str, Any]:
    return merged(before, template_patch(spec, before, old, new, batch))


def engine(pods: dict[str, Any]) -> dict[str, Any]:
    return next(c for c in pods["containers"] if c["name"] == "engine")


def test_selector_resources_and_image_go_to_the_new_accelerator() -> None:
    patch = template_patch(service(), pod_spec(), H100, MI300X, None)
    assert patch == {
        "nodeSelector": {"gpu": "MI300X"},
        "containers": [
            {
                "name": "engine",
                "image": "rocm",
                "resources": {
                    "limits": {AMD: "2", NVIDIA: None},
                    "requests": {AMD: "2", NVIDIA: None},
                },
            }
        ],
    }


def test_a_template_that_is_there_needs_no_patch() -> None:
    assert template_patch(service(), pod_spec("MI300X", 2, resource=AMD), MI300X, MI300X, None) == {
        "containers": [{"name": "engine", "image": "rocm"}]
    }
    there = moved(service(), pod_spec(), H100, MI300X, None)
    assert template_patch(service(), there, H100, MI300X, None) == {}


def test_what_others_set_stays() -> None:
    before = pod_spec(
        nodeSelector={"gpu": "H100", "zone": "a"},
        tolerations=[{"key": "theirs", "operator": "Exists"}, {"key": "h100", "operator": "Exists"}],
        runtimeClassName="theirs",
        volumes=["models"],
    )
    before["containers"][0] |= {
        "env": [{"name": "THEIRS", "value": "1"}],
        "args": ["--model=llama", "--max-num-seqs=16"],
        "resources": {
            "limits": {NVIDIA: "1", "memory": "64Gi"},
            "requests": {NVIDIA: "1", "cpu": "8"},
        },
    }
    sidecar = {"name": "proxy", "image": "proxy", "args": ["--max-num-seqs=9"]}
    before["containers"].append(sidecar)
    old = Placement(profile("H100", tolerations=[{"key": "h100", "operator": "Exists"}]), None, 1)
    new = Placement(
        profile("MI300X", AMD, tolerations=[{"key": "amd", "operator": "Exists"}]),
        variant(env=[{"name": "OURS", "value": "2"}]),
        1,
    )
    after = moved(service(batch=MANAGED), before, old, new, 48)
    assert after["nodeSelector"] == {"gpu": "MI300X", "zone": "a"}
    assert after["tolerations"] == [
        {"key": "theirs", "operator": "Exists"},
        {"key": "amd", "operator": "Exists"},
    ]
    assert after["runtimeClassName"] == "theirs"
    assert after["volumes"] == ["models"]
    assert after["containers"][1] == sidecar
    assert engine(after) == {
        "name": "engine",
        "image": "engine:1",
        "env": [{"name": "THEIRS", "value": "1"}, {"name": "OURS", "value": "2"}],
        "args": ["--model=llama", "--max-num-seqs=48"],
        "resources": {"limits": {AMD: "1", "memory": "64Gi"}, "requests": {AMD: "1", "cpu": "8"}},
    }


def test_a_shared_toleration_stays_and_comes_once() -> None:
    shared = [{"key": "gpu", "operator": "Exists"}]
    old = Placement(profile("H100", tolerations=shared), None, 1)
    new = Placement(profile("A100", tolerations=shared), None, 1)
    assert "tolerations" not in template_patch(service(), pod_spec(tolerations=shared), old, new, None)


def test_what_the_old_variant_set_goes_with_it() -> None:
    old = Placement(profile("H100"), variant(env=[{"name": "CUDA", "value": "1"}], runtimeClassName="nv"), 1)
    before = moved(service(), pod_spec("MI300X", resource=AMD), MI300X, old, None)
    assert before["runtimeClassName"] == "nv"
    after = moved(service(), before, old, MI300X, None)
    assert "runtimeClassName" not in after
    assert engine(after).get("env", []) == []


def test_selector_keys_that_only_the_old_profile_has_are_removed() -> None:
    old = Placement(profile("H100", nodeSelector={"gpu": "H100", "pool": "a"}), None, 1)
    before = pod_spec(nodeSelector={"gpu": "H100", "pool": "a"})
    assert moved(service(), before, old, MI300X, None)["nodeSelector"] == {"gpu": "MI300X"}


def test_units_and_batch_are_filled_in_and_other_braces_are_not() -> None:
    new = Placement(
        profile("MI300X", AMD),
        variant(
            args=["--tp={acceleratorCount}", "--n={maxBatch}", '{"a": {0}}', "{other} %s {}"],
            env=[{"name": "JSON", "value": '{"count": {acceleratorCount}, "x": "{maxBatch}"}'}],
        ),
        4,
    )
    after = engine(moved(service(batch={"mode": "Managed", "env": "SEQS"}), pod_spec(), H100, new, 96))
    assert after["args"] == ["--tp=4", "--n=96", '{"a": {0}}', "{other} %s {}"]
    assert after["env"] == [
        {"name": "JSON", "value": '{"count": 4, "x": "96"}'},
        {"name": "SEQS", "value": "96"},
    ]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--max-num-seqs=8", "-x"], ["--max-num-seqs=64", "-x"]),
        (["--max-num-seqs", "8", "-x"], ["--max-num-seqs", "64", "-x"]),
        (["-x"], ["-x", "--max-num-seqs=64"]),
    ],
)
def test_the_batch_is_set_in_the_form_in_which_it_is_there(args: list[str], expected: list[str]) -> None:
    before = pod_spec()
    engine(before)["args"] = args
    after = engine(moved(service(batch=MANAGED), before, H100, MI300X, 64))
    assert after["args"] == expected
    assert deployed_batch(service(batch=MANAGED), after) == 64


@pytest.mark.parametrize("text", ["", "many", "-1", "0", "1e3", "٣", "99999999999"])
def test_a_batch_that_is_no_number_is_not_known(text: str) -> None:
    spec = service(batch={"mode": "Managed", "env": "SEQS"})
    assert deployed_batch(spec, {"name": "engine", "env": [{"name": "SEQS", "value": text}]}) is None


def test_a_batch_that_is_observed_is_left_alone() -> None:
    before = pod_spec()
    engine(before)["args"] = ["--max-num-seqs=8"]
    observed = service(batch={"mode": "Observed", "arg": "--max-num-seqs"})
    assert "args" not in engine(template_patch(observed, before, H100, MI300X, 64))


def test_a_template_that_cannot_be_made_is_no_way_to_go() -> None:
    two = pod_spec()
    two["containers"].append({**two["containers"][0], "name": "other"})
    assert template_obstacle(service(), two, H100, MI300X).startswith("NoContainer: ")
    named = Placement(MI300X.profile, variant(container="engine"), 2)
    assert template_obstacle(service(), two, H100, named) == ""
    absent = Placement(MI300X.profile, variant(container="absent"), 2)
    assert template_obstacle(service(), pod_spec(), H100, absent).startswith("NoContainer: ")


def test_a_batch_that_nobody_knows_is_never_filled_in() -> None:
    new = Placement(MI300X.profile, variant(args=["--n={maxBatch}"]), 2)
    assert template_obstacle(service(), pod_spec(), H100, new).startswith("NoBatch: ")
    assert template_obstacle(service(batch=MANAGED), pod_spec(), H100, new) == ""


def test_profiles_that_pods_cannot_be_told_by_are_no_way_to_go() -> None:
    assert template_obstacle(service(), pod_spec(), H100, H100).startswith("SameTemplate: ")


names = st.sampled_from(["A", "B", "C"])
values = st.sampled_from(["1", "2", "{acceleratorCount}"])
tolerations = st.lists(
    st.sampled_from([{"key": "a", "operator": "Exists"}, {"key": "b", "value": "x", "effect": "NoSchedule"}]),
    max_size=2,
    unique_by=lambda t: t["key"],
)
selectors = st.dictionaries(st.sampled_from(["gpu", "pool", "zone"]), st.sampled_from(["x", "y"]), min_size=1)
variables = st.dictionaries(names, values, max_size=3).map(
    lambda found: [{"name": k, "value": v} for k, v in found.items()]
)
arguments = st.lists(st.sampled_from(["--max-num-seqs=4", "--tp={acceleratorCount}", "-x"]), max_size=3)
placements = st.builds(
    Placement,
    st.builds(
        lambda selector, resource, tolerated: profile(
            "T", resource, nodeSelector=selector, tolerations=tolerated
        ),
        selectors,
        st.sampled_from([NVIDIA, AMD]),
        tolerations,
    ),
    st.none()
    | st.builds(
        lambda image, env, args, runtime: variant(image=image, env=env, args=args, runtimeClassName=runtime),
        st.none() | st.sampled_from(["cuda", "rocm"]),
        variables,
        st.none() | arguments,
        st.none() | st.sampled_from(["nv", "amd"]),
    ),
    st.integers(1, 8),
)


@st.composite
def pod_specs(draw: st.DrawFn) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "engine", "image": draw(st.sampled_from(["cuda", "rocm"]))}
    for key, strategy in (("args", arguments), ("env", variables)):
        if found := draw(strategy):
            container[key] = found
    amounts = st.dictionaries(st.sampled_from([NVIDIA, AMD, "memory"]), st.sampled_from(["1", "4"]))
    container["resources"] = {"limits": draw(amounts), "requests": draw(amounts)}
    containers = [container]
    if draw(st.booleans()):
        containers.append({"name": "sidecar", "image": "proxy"})
        container["resources"]["limits"][NVIDIA] = "1"
    result: dict[str, Any] = {"containers": containers, "nodeSelector": draw(selectors), "volumes": ["v"]}
    if found := draw(tolerations):
        result["tolerations"] = found
    if runtime := draw(st.none() | st.sampled_from(["nv", "theirs"])):
        result["runtimeClassName"] = runtime
    return result


def normal(pods: dict[str, Any]) -> dict[str, Any]:
    """A pod spec as the API server has it: what is empty is absent, variables in any order."""
    result = {k: v for k, v in pods.items() if v not in (None, [], {})}
    result["containers"] = []
    for container in pods["containers"]:
        kept = {k: v for k, v in container.items() if v not in (None, [], {})}
        if "env" in kept:
            kept["env"] = sorted(kept["env"], key=lambda e: e["name"])
        result["containers"].append(kept)
    return result


@settings(deadline=None)
@given(pod_specs(), placements, placements, st.none() | st.integers(1, 512), st.sampled_from(["env", "arg"]))
def test_a_patch_is_idempotent_and_its_inverse_takes_it_back(
    before: dict[str, Any], old: Placement, new: Placement, batch: int | None, where: str
) -> None:
    spec = service(batch={"mode": "Managed", where: {"env": "SEQS", "arg": "--max-num-seqs"}[where]})
    patch = template_patch(spec, before, old, new, batch)
    after = merged(before, patch)
    assert template_patch(spec, after, old, new, batch) == {}
    assert normal(merged(after, inverse(before, patch))) == normal(before)
    owned = {"nodeSelector", "tolerations", "runtimeClassName", "containers"}
    assert patch.keys() <= owned
    assert {k: v for k, v in after.items() if k not in owned} == {"volumes": ["v"]}
    for container in patch.get("containers", ()):
        assert container["name"] == "engine"
        assert container.keys() <= {"name", "image", "args", "env", "resources"}
        for amounts in container.get("resources", {}).values():
            assert amounts.keys() <= {NVIDIA, AMD}
