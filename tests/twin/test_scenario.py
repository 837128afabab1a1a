from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from inferscale_operator.errors import UsageError
from inferscale_operator.twin.resources import read_scenario
from twin_builders import document, service, write

SCENARIOS = Path(__file__).parents[2] / "docs" / "examples" / "scenarios"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"duration": -1}, "duration: -1 is not valid"),
        ({"durations": 1}, "durations: there is no such field"),
        ({"services": []}, "services"),
        ({"services": [service(load={"rate": 1, "diurnal": {"mean": 2}})]}, "services[0].load: give one of"),
        ({"services": [service(load={})]}, "given: none"),
        ({"services": [service(tokens=None)]}, "services[0]: give tokens"),
        ({"services": [service(spec={"model": "gpt"})]}, "services[0].spec.model: gpt: is no model: use one"),
        ({"services": [service(spec={"serviceClass": "gold"})]}, "services[0].spec.serviceClass: gold"),
        ({"services": [service(on="t4")]}, "services[0].initial.accelerator: t4"),
        ({"services": [service(), service()]}, "services[1].name: default/chat: is there already"),
        ({"services": [service(spec={"minReplicas": -1})]}, "services[0].spec: spec.minReplicas: -1"),
        ({"services": [service(load={"points": [{"at": 5, "rate": 1}, {"at": 5, "rate": 2}]})]}, "must come"),
        ({"nodes": [{"type": "T4", "count": 1}]}, "nodes[0].type: T4"),
        ({"capacity": {"H100": 3}}, "give nodes or capacity, not both"),
        ({"disturbances": [{"kind": "flood", "at": 1}]}, "disturbances[0]"),
        ({"disturbances": [{"kind": "nodeLoss", "at": 1, "type": "T4"}]}, "disturbances[0].type: T4"),
        ({"startUp": {"byAccelerator": {"t4": 1}}}, "startUp.byAccelerator.t4"),
        ({"policy": {"tickSeconds": 0}}, "policy: spec.tickSeconds: 0"),
        ({"accelerators": {"h100": {"type": "H100"}}}, "accelerators.h100: spec.cost is missing"),
        ({"manifests": "nowhere"}, "manifests: nowhere"),
    ],
)
def test_an_error_names_file_field_and_remedy(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = write(tmp_path, document(**change) if "services" not in change else {**document(), **change})
    with pytest.raises(UsageError) as raised:
        read_scenario(path)
    assert str(path) in str(raised.value)
    assert said in str(raised.value)


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "a: b: c", "\0"])
def test_a_file_that_is_no_scenario_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"scenario\.yaml"):
        read_scenario(write(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_scenario(tmp_path / "none.yaml")


def test_custom_resources_may_come_from_manifests(tmp_path: Path) -> None:
    inline = document()
    objects = [
        {"kind": kind, "metadata": {"name": name}, "spec": spec}
        for kind, field in (
            ("ModelProfile", "models"),
            ("ServiceClass", "classes"),
            ("AcceleratorProfile", "accelerators"),
        )
        for name, spec in inline.pop(field).items()
    ]
    for each in objects:
        if each["kind"] == "AcceleratorProfile":
            each["spec"] = each["spec"] | {
                "resourceName": "nvidia.com/gpu",
                "nodeSelector": {"gpu": each["spec"]["type"]},
            }
        if each["kind"] == "ModelProfile":
            each["spec"]["modelName"] = "llama"
    spec = inline["services"][0].pop("spec")
    objects.append(
        {"kind": "InferenceService", "metadata": {"name": "chat", "namespace": "default"}, "spec": spec}
    )
    (tmp_path / "manifests").mkdir()
    write(tmp_path / "manifests", yaml.safe_dump_all(objects), "all.yaml")
    found = read_scenario(write(tmp_path, inline | {"manifests": "manifests"}))
    assert found.services[0].spec.model == "llama"
    assert set(found.accelerators) == {"h100", "a100"}


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_scenarios_are_valid(path: Path) -> None:
    assert read_scenario(path).services
