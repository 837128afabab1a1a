"""`inferscale status` and `inferscale top`: how it is in a cluster, from the objects alone."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from inferscale_operator.api import RESOURCES
from inferscale_operator.api.crds import manifest
from inferscale_operator.cli import main
from inferscale_operator.commands import importing, status, top
from inferscale_operator.kube.client import UNREACHABLE, ApiError
from inferscale_operator.kube.kinds import Kind
from inferscale_operator.views.fleet import fleet
from inferscale_operator.views.health import Check, Health, Refused, Seen, health

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Object = dict[str, Any]


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat()


def conditions(**stated: tuple[str, str, str]) -> list[Object]:
    return [{"type": k, "status": s, "reason": r, "message": m} for k, (s, r, m) in stated.items()]


def service(name: str = "chat", **stated: tuple[str, str, str]) -> Object:
    good = {"Ready": ("True", "Decided", ""), "MetricsAvailable": ("True", "Observed", "")}
    return {
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {"model": "llama", "serviceClass": "gold", "targetRef": {"name": name}, "mode": "Apply"},
        "status": {"accelerator": "a100", "replicas": 2, "conditions": conditions(**{**good, **stated})},
    }


def allocation(name: str = "chat", **fields: Any) -> Object:
    entry = {
        "accelerator": "h100",
        "currentAccelerator": "a100",
        "currentReplicas": 2,
        "desiredReplicas": 3,
        "predictedItl": 20.5,
        "observedItl": 30.0,
        "predictedTtft": 400.0,
        "cost": 30.0,
        "currentCost": 12.0,
    }
    return {
        "metadata": {"name": name, "namespace": "prod"},
        "status": {
            "reason": "ScalingUp",
            "lastDecision": ago(30),
            "load": {"state": "Observed", "arrivalRate": 120.5},
            "allocations": [entry | fields],
        },
    }


def policy(**fields: Any) -> Object:
    figures = {"lastTick": ago(20), "gap": 0.0123, "unserved": 1, "savedPerHour": 4.0, "savedTotal": 99.5}
    return {"metadata": {"name": "default"}, "spec": {"tickSeconds": 30}, "status": figures | fields}


def deployment(ready: int = 1) -> Object:
    labels = {"app.kubernetes.io/name": "inferscale"}
    return {
        "metadata": {"name": "inferscale", "namespace": "inferscale-system", "labels": labels},
        "spec": {"replicas": 1, "template": {}},
        "status": {"readyReplicas": ready} if ready else {},
    }


def lease(renewed: float = 3.0) -> Object:
    spec = {"holderIdentity": "pod-1", "renewTime": ago(renewed), "leaseDurationSeconds": 15}
    return {"metadata": {"name": "inferscale", "namespace": "inferscale-system"}, "spec": spec}


DEFINITIONS: Mapping[str, Any] = {each.full_name: manifest(each) for each in RESOURCES}
WELL = Seen(
    now=NOW,
    definitions=DEFINITIONS,
    deployments=[deployment()],
    lease=lease(),
    policy=policy(),
    services=[service()],
    allocations=[allocation()],
)


def check(found: Health, name: str) -> Check:
    return next(each for each in found.checks if each.name == name)


def test_all_is_well() -> None:
    found = health(WELL)
    assert found.well
    assert all(each.well for each in found.checks)
    [row] = found.services
    assert (row.key, row.ready, row.accelerator, row.replicas, row.desired) == (
        "prod/chat",
        True,
        "a100",
        2,
        3,
    )
    assert (row.reason, row.held_back) == ("ScalingUp", "")


def test_a_kind_that_is_not_installed_is_named_with_the_remedy() -> None:
    missing = {**DEFINITIONS, "serviceclasses.inferscale.dev": None}
    found = check(health(replace(WELL, definitions=missing)), "custom resources")
    assert found.well is False
    assert "install them (kubectl apply --server-side -f crds/" in found.message
    assert "missing: serviceclasses.inferscale.dev" in found.message


def test_definitions_of_another_version_are_named_with_what_they_lack() -> None:
    older = deepcopy(dict(DEFINITIONS))
    schema = older["inferenceservices.inferscale.dev"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    del schema["properties"]["spec"]["properties"]["batch"]["properties"]["env"]
    found = check(health(replace(WELL, definitions=older)), "custom resources")
    assert found.well is False
    assert "inferenceservices.inferscale.dev lacks spec.batch.env" in found.message
    newer = deepcopy(dict(DEFINITIONS))
    schema = newer["inferenceservices.inferscale.dev"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["later"] = {"type": "string"}
    assert check(health(replace(WELL, definitions=newer)), "custom resources").well


def test_what_may_not_be_read_is_not_known_rather_than_wrong() -> None:
    refused = Refused("customresourcedefinitions may not be listed")
    seen = replace(WELL, definitions=dict.fromkeys(DEFINITIONS, refused), deployments=refused)
    found = health(seen)
    assert check(found, "custom resources").well is None
    assert check(found, "operator").well is None
    assert found.well


@pytest.mark.parametrize(
    ("change", "name", "well", "words"),
    [
        ({"deployments": [deployment(0)]}, "operator", False, "has 0 of 1 replicas ready: kubectl -n "),
        ({"deployments": []}, "operator", None, "install the chart"),
        ({"deployments": [], "policy": None, "allocations": []}, "operator", False, "install the chart"),
        ({"lease": lease(120)}, "leader", False, "renewed 120 s ago, more than 30 s"),
        ({"lease": {"metadata": {"name": "inferscale"}}}, "leader", False, "nobody holds Lease inferscale"),
        ({"policy": policy(lastTick=ago(1000))}, "last tick", False, "1000 s old, more than 330 s"),
        ({"policy": None}, "last tick", True, "the InferenceAllocations is 30 s old"),
        ({"policy": None, "allocations": []}, "last tick", False, "no decision is recorded yet"),
        ({"policy": None, "allocations": [], "services": []}, "last tick", None, "nowhere to record it"),
        ({"policy": None}, "policy", True, "the defaults hold"),
        (
            {"policy": policy(conditions=conditions(Ready=("False", "Invalid", "spec.tickSeconds: 0")))},
            "policy",
            False,
            "Invalid: spec.tickSeconds: 0",
        ),
        (
            {"services": [service(MetricsAvailable=("False", "QueryFailed", "connection refused"))]},
            "Prometheus",
            False,
            "connection refused (1 of 1 services; see --prometheus-url)",
        ),
        (
            {"services": [service(MetricsAvailable=("False", "NoReadyPods", ""))]},
            "Prometheus",
            None,
            "no service",
        ),
    ],
)
def test_what_is_not_well_is_told(
    change: Mapping[str, Any], name: str, well: bool | None, words: str
) -> None:
    found = health(replace(WELL, **change))
    told = check(found, name)
    assert told.well is well
    assert words in told.message
    assert found.well is (well is not False)


@pytest.mark.parametrize(
    ("stated", "given", "ready", "words"),
    [
        (
            {
                "Ready": ("False", "ModelNotFound", "x"),
                "ProfileValid": ("False", "ModelNotFound", "no such model"),
            },
            {},
            False,
            "ProfileValid ModelNotFound: no such model",
        ),
        (
            {"Applied": ("False", "AutoscalerPresent", "remove it")},
            {},
            True,
            "Applied AutoscalerPresent: remove it",
        ),
        ({"Applied": ("False", "Recommend", "")}, {}, True, ""),
        ({"Applied": ("False", "Paused", ""), "Ready": ("False", "Paused", "")}, {}, True, ""),
        (
            {"CapacityLimited": ("True", "CapacityLimited", "2 units short")},
            {},
            True,
            "CapacityLimited CapacityLimited: 2 units short",
        ),
        (
            {},
            {"gates": [{"type": "Stabilization", "message": "60 s left"}]},
            True,
            "Stabilization: 60 s left",
        ),
    ],
)
def test_what_holds_a_service_back_is_told(
    stated: dict[str, tuple[str, str, str]], given: Object, ready: bool, words: str
) -> None:
    seen = replace(WELL, services=[service(**stated)], allocations=[allocation(**given)])
    [row] = health(seen).services
    assert (row.ready, row.held_back) == (ready, words)
    assert health(seen).well is ready


def test_a_service_that_nobody_has_looked_at_is_not_well() -> None:
    new = {"metadata": {"name": "new", "namespace": "prod"}, "spec": {"model": "m"}}
    [row] = health(replace(WELL, services=[new], allocations=[])).services
    assert not row.ready
    assert row.held_back == "not decided yet: does the operator run?"


# The fleet.

CLASSES = [
    {
        "metadata": {"name": "gold"},
        "spec": {"priority": 1, "models": [{"model": "llama", "itl": 24, "ttft": 500}]},
    }
]
PROFILES = [
    {"metadata": {"name": name}, "spec": {"type": "H100"}, "status": counted}
    for name, counted in (
        ("2xh100", {}),
        ("h100", {"capacity": 8, "used": 6, "usedByOthers": 2, "free": 0}),
    )
]


def test_the_fleet_has_a_line_for_each_service_and_type() -> None:
    other = service("batch")
    other["spec"]["serviceClass"] = "nowhere"
    found = fleet([other, service()], [allocation()], CLASSES, PROFILES, policy())
    first, last = found.services
    assert (first.key, first.priority, last.key, last.priority) == ("prod/chat", 1, "prod/batch", None)
    assert (first.accelerator, first.wanted, first.replicas, first.desired) == ("a100", "h100", 2, 3)
    assert (first.itl.predicted, first.itl.observed, first.itl.objective) == (20.5, 30.0, 24)
    assert first.itl.missed
    assert not first.ttft.missed
    assert (last.accelerator, last.replicas, last.reason) == ("a100", 2, "NotDecided")
    [kind] = found.types
    assert (kind.type, kind.capacity, kind.used, kind.used_by_others, kind.free) == ("H100", 8, 6, 2, 0)
    assert (found.current_cost, found.cost, found.missed, found.gap) == (12.0, 30.0, 1, 0.0123)


def shown(renderable: Any) -> str:
    text = io.StringIO()
    Console(file=text, width=200, highlight=False, markup=False).print(renderable)
    return text.getvalue()


def test_the_fleet_is_shown_as_tables() -> None:
    text = shown(top.tables(fleet([service()], [allocation()], CLASSES, PROFILES, policy())))
    for words in (
        "prod/chat",
        "gold (1)",
        "120.5",
        "a100 → h100",
        "2 → 3",
        "20.5 / 30.0 / 24.0",
        "400.0 / - / 500.0",
        "12.00 → 30.00",
        "Cost per hour 12.00 now, 30.00 as decided (costs 18.00 more); 1 of 1 services miss an objective",
        "Saved since adoption 4.00/h, 99.50 in all",
        "Plan: gap 1.23%; 1 cannot be served; last tick 11:59:40 UTC",
    ):
        assert words in text


def test_an_empty_cluster_is_shown() -> None:
    text = shown(top.tables(fleet([], [], [], [], None)))
    assert "0 of 0 services miss an objective" in text
    assert "Plan" not in text


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    odd = service("[bold]")
    assert "prod/[bold]" in shown(top.tables(fleet([odd], [], [], [], None)))
    assert "prod/[bold]" in shown(status.tables(health(replace(WELL, services=[odd]))))


# The commands, against an API server that is made up.


class Api:
    """Answers as an API server does."""

    def __init__(self, **objects: list[Object]) -> None:
        self.objects = objects
        self.refused: dict[str, ApiError] = {}

    def list_all(self, kind: Kind, *, namespace: str | None = None) -> Object:
        if kind.plural in self.refused:
            raise self.refused[kind.plural]
        items = self.objects.get(kind.plural, [])
        return {"items": [o for o in items if namespace in (None, o["metadata"].get("namespace", namespace))]}

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        if kind.plural in self.refused:
            raise self.refused[kind.plural]
        for each in self.objects.get(kind.plural, []):
            if each["metadata"]["name"] == name and each["metadata"].get("namespace") == namespace:
                return each
        raise ApiError(404, "NotFound", f"{kind.plural} {name!r} not found")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    now = datetime.now(UTC).isoformat()
    made = Api(
        customresourcedefinitions=list(DEFINITIONS.values()),
        deployments=[deployment()],
        optimizerpolicies=[policy(lastTick=now)],
        inferenceservices=[service()],
        inferenceallocations=[allocation()],
        serviceclasses=CLASSES,
        acceleratorprofiles=PROFILES,
    )
    for module in (status, top, importing):
        monkeypatch.setattr(module, "connect", lambda *_: made)
    return made


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def test_status_exits_with_0_when_all_is_well(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert api.objects
    assert run("status") == 0
    told = capsys.readouterr().out
    assert "All is well." in told
    assert "prod/chat" in told


def test_status_exits_with_1_when_something_is_not(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.objects["deployments"] = [deployment(0)]
    api.objects["inferenceservices"] = [service(Ready=("False", "ModelNotFound", "no such model"))]
    assert run("status", "-o", "json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["well"] is False
    assert [each["name"] for each in told["checks"] if each["well"] is False] == ["operator"]
    assert told["services"][0]["heldBack"] == "Ready ModelNotFound: no such model"
    assert run("status") == 1
    assert "Not well: operator, 1 of 1 services." in capsys.readouterr().out


def test_status_shows_the_services_of_one_namespace(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert api.objects
    assert run("status", "-n", "other", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["services"] == []


def test_status_without_the_custom_resources_says_how_to_install_them(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    for plural in ("inferenceservices", "inferenceallocations", "optimizerpolicies"):
        api.refused[plural] = ApiError(404, "NotFound", "the server could not find the requested resource")
    api.objects["customresourcedefinitions"] = []
    assert run("status") == 1
    assert "kubectl apply --server-side -f crds/" in capsys.readouterr().out


@pytest.mark.parametrize("command", [("status",), ("top", "--once"), ("import", "--from-cluster")])
def test_an_api_server_that_does_not_answer_is_told_in_one_line(
    api: Api, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    gone = ApiError(UNREACHABLE, "Unreachable", "no answer from the API server: refused")
    for plural in ("customresourcedefinitions", "optimizerpolicies", "deployments"):
        api.refused[plural] = gone
    assert run(*command) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert "the API server does not answer" in told.err
    assert "--kubeconfig" in told.err


def test_missing_permissions_are_told_with_what_to_ask_for(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.refused["inferenceservices"] = ApiError(403, "Forbidden", "User x cannot list")
    assert run("top", "--once") == 2
    told = capsys.readouterr().err
    assert "inferenceservices.inferscale.dev may not be listed (User x cannot list)" in told
    assert "kubectl auth can-i list inferenceservices.inferscale.dev -A" in told
    assert run("status") == 0
    assert "may not be listed" in capsys.readouterr().out


def test_top_looks_once_where_the_output_is_no_terminal(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert api.objects
    assert run("top") == 0
    told = capsys.readouterr().out
    assert "a100 → h100" in told
    assert "\x1b" not in told
    assert run("top", "-o", "json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["services"][0]["arrivalRate"] == 120.5
    assert made["savedTotal"] == 99.5


def test_deployments_of_one_namespace_are_proposed(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    for name, namespace in (("a", "team"), ("b", "default")):
        pod = {"containers": [{"name": "c", "image": "vllm/vllm-openai", "args": ["--model=m"]}]}
        api.objects["deployments"].append(
            {"metadata": {"name": name, "namespace": namespace}, "spec": {"template": {"spec": pod}}}
        )
    assert run("import", "--from-cluster") == 0
    told = capsys.readouterr()
    assert "Proposed: 1 InferenceService in default." in told.err
    assert "name: b" in told.out
    assert run("import", "--from-cluster", "-A") == 0
    assert "Proposed: 2 InferenceServices in all namespaces." in capsys.readouterr().err
    assert run("import", "--from-cluster", "-n", "empty") == 0
    told = capsys.readouterr()
    assert "No Deployment of vLLM, SGLang or TGI was found in empty." in told.err
    assert told.out == ""


def test_a_kubeconfig_that_is_no_yaml_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    for content in ("{[", "just words", ""):
        path.write_text(content)
        assert run("status", "--kubeconfig", str(path)) == 2
        told = capsys.readouterr().err
        assert f"--kubeconfig {path}" in told
        assert told.count("\n") == 1
