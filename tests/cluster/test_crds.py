"""The custom resources on a real API server: what it accepts, refuses and shows, and in which words."""

import json
from pathlib import Path
from typing import Any

import pytest

from custom_resource_examples import (
    ACCEPTED,
    CHAT,
    REFUSED,
    Object,
    Refused,
    accelerator,
    allocation,
    service,
    service_class,
)
from inferscale_operator.api import RESOURCES
from localcluster import Cluster

CRDS = Path(__file__).parents[2] / "crds"
KINDS = {resource.kind: resource for resource in RESOURCES}


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Cluster:
    """The cluster with the custom resources."""
    cluster.kubectl("apply", "--server-side", "-f", str(CRDS))
    names = [f"crd/{resource.full_name}" for resource in RESOURCES]
    cluster.kubectl("wait", "--for=condition=Established", *names, "--timeout=30s")
    return cluster


def create(api: Cluster, example: Object, *arguments: str) -> Object:
    """Create the object and give back what the server made of it."""
    done = api.kubectl("create", "-f", "-", "-o", "json", *arguments, input=json.dumps(example))
    created: Object = json.loads(done.stdout)
    return created


def filled(value: Any) -> Any:
    """The value without fields that are nothing."""
    if isinstance(value, dict):
        fields = {name: filled(child) for name, child in value.items()}
        return {name: child for name, child in fields.items() if child not in (None, "", [], {})}
    return [filled(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_the_server_finds_the_schema_structural(api: Cluster, resource: Any) -> None:
    definition = json.loads(api.kubectl("get", "crd", resource.full_name, "-o", "json").stdout)
    conditions = {entry["type"]: entry["status"] for entry in definition["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions


def test_all_kinds_are_listed_by_their_category(api: Cluster) -> None:
    listed = api.kubectl("api-resources", "--categories=inferscale", "-o", "name").stdout.split()
    assert sorted(listed) == sorted(resource.full_name for resource in RESOURCES)


@pytest.mark.parametrize("example", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_is_right_is_stored_with_the_defaults_of_the_models(api: Cluster, example: Object) -> None:
    stored = create(api, example, "--dry-run=server")["spec"]
    model = KINDS[example["kind"]].spec
    wanted = model.model_validate(example["spec"])
    assert model.model_validate(stored) == wanted
    assert filled(stored) == filled(wanted.model_dump(mode="json", by_alias=True))


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.why)
def test_what_is_wrong_is_refused_with_the_words_a_person_needs(api: Cluster, case: Refused) -> None:
    done = api.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(case.object), check=False)
    assert done.returncode != 0
    assert case.server in done.stderr


def test_a_policy_of_another_name_is_refused(api: Cluster) -> None:
    other = ACCEPTED["an empty OptimizerPolicy"] | {"metadata": {"name": "mine"}}
    done = api.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(other), check=False)
    assert done.returncode != 0
    assert (
        "metadata.name: Invalid value: the only OptimizerPolicy that is read is named default" in done.stderr
    )


def test_a_misspelt_field_is_refused(api: Cluster) -> None:
    misspelt = service_class(CHAT, allowedNamespace=["team-a"])
    done = api.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(misspelt), check=False)
    assert done.returncode != 0
    assert 'unknown field "spec.allowedNamespace"' in done.stderr


def test_a_whole_number_with_a_point_is_stored_without(api: Cluster) -> None:
    stored = create(api, service_class(CHAT, priority=5.0), "--dry-run=server")
    assert stored["spec"]["priority"] == 5
    assert isinstance(stored["spec"]["priority"], int)


def test_a_policy_without_a_spec_has_the_defaults(api: Cluster) -> None:
    bare = {name: value for name, value in ACCEPTED["an empty OptimizerPolicy"].items() if name != "spec"}
    stored = create(api, bare, "--dry-run=server")
    assert stored["spec"]["tickSeconds"] == 30
    assert stored["spec"]["metrics"]["windowSeconds"] == 120


def test_what_a_user_writes_into_the_status_is_dropped(api: Cluster) -> None:
    example = accelerator() | {"status": {"free": 100}}
    assert "status" not in create(api, example, "--dry-run=server")


def test_the_front_page_shows_what_a_service_was_given_and_why(api: Cluster, namespace: str) -> None:
    create(api, allocation(), f"--namespace={namespace}")
    write_status(
        api,
        namespace,
        "inferenceallocation",
        {
            "model": "llama",
            "serviceClass": "premium",
            "mode": "Apply",
            "reason": "ScaledUp",
            "message": "more load",
            "binding": "itl",
            "runnerUp": "l40s",
            "load": {"state": "Observed", "arrivalRate": 60.5},
            "allocations": [
                {
                    "accelerator": "h100",
                    "currentAccelerator": "a100",
                    "currentReplicas": 2,
                    "desiredReplicas": 3,
                    "readyReplicas": 1,
                    "targetReplicas": 4,
                    "maxBatch": 48,
                    "cost": 13.5,
                    "predictedItl": 24.13,
                    "observedItl": 25,
                    "predictedTtft": 180.2,
                    "observedTtft": 210.75,
                }
            ],
        },
    )
    header, row = api.kubectl("get", "ifa", f"--namespace={namespace}").stdout.splitlines()
    shown = dict(zip(header.split(), row.split(), strict=True))
    assert shown.pop("AGE")
    assert shown == {
        "NAME": "example",
        "MODEL": "llama",
        "CLASS": "premium",
        "ACCELERATOR": "h100",
        "CURRENT": "2",
        "DESIRED": "3",
        "BATCH": "48",
        "COST/H": "13.5",
        "ITL": "24.13",
        "OBS-ITL": "25",
        "TTFT": "180.2",
        "OBS-TTFT": "210.75",
        "REASON": "ScaledUp",
    }
    wide = api.kubectl("get", "ifa", f"--namespace={namespace}", "-o", "wide").stdout.splitlines()[0]
    assert set(wide.split()) - set(header.split()) == {
        "SERVING-ON",
        "READY",
        "TARGET",
        "RUNNER-UP",
        "BINDING",
        "LOAD",
        "MESSAGE",
    }


def test_a_move_keeps_what_it_must_put_back(api: Cluster, namespace: str) -> None:
    example = allocation() | {"metadata": {"name": "moving"}}
    create(api, example, f"--namespace={namespace}")
    prior = {"spec": {"nodeSelector": {"gpu": "L40S"}, "containers": [{"name": "server", "args": ["-a"]}]}}
    status = {
        "move": {
            "step": "BringUp",
            "from": {"accelerator": "h100", "replicas": 2},
            "to": {"accelerator": "l40s", "replicas": 3},
            "startedAt": "2026-01-01T00:00:00Z",
            "stepStartedAt": "2026-01-01T00:00:00Z",
            "priorStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "priorTemplate": prior,
        }
    }
    stored = write_status(api, namespace, "inferenceallocation", status, name="moving")
    assert stored["move"]["priorTemplate"] == prior
    assert stored["move"]["priorStrategy"]["rollingUpdate"] == {"maxSurge": "25%"}


def test_a_service_shows_its_condition(api: Cluster, namespace: str) -> None:
    create(api, service(), f"--namespace={namespace}")
    write_status(
        api,
        namespace,
        "inferenceservice",
        {
            "accelerator": "h100",
            "replicas": 2,
            "conditions": [
                {
                    "type": "Ready",
                    "status": "False",
                    "reason": "UnknownModel",
                    "message": "there is no ModelProfile llama",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                    "observedGeneration": 1,
                }
            ],
        },
    )
    header, row = api.kubectl("get", "ifs", f"--namespace={namespace}").stdout.splitlines()
    assert " ".join(header.split()) == "NAME MODEL CLASS MODE ACCELERATOR REPLICAS READY REASON AGE"
    assert row.split()[:-1] == [
        "example",
        "llama",
        "premium",
        "Recommend",
        "h100",
        "2",
        "False",
        "UnknownModel",
    ]


def test_kubectl_explains_a_field(api: Cluster) -> None:
    told = api.kubectl("explain", "serviceclasses.spec.models.percentile").stdout
    assert "Fraction of requests within `ttft` and `ttw`" in told


def write_status(api: Cluster, namespace: str, kind: str, status: Object, *, name: str = "example") -> Object:
    """Write the status as the operator does, and give back what was stored."""
    done = api.kubectl(
        "patch",
        kind,
        name,
        f"--namespace={namespace}",
        "--subresource=status",
        "--type=merge",
        f"--patch={json.dumps({'status': status})}",
        "-o",
        "json",
    )
    stored: Object = json.loads(done.stdout)["status"]
    return stored
