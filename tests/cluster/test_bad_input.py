"""What is wrong with an object is said on it, with the field and the fix, and the others go on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from localcluster import Cluster
from loop_objects import rate_per_replica
from loop_world import DEPLOYMENTS, IFS, World, running

EACH = rate_per_replica("l40s")
LEAST, MOST = 1, 3


@dataclass(frozen=True)
class Wrong:
    """A service with something wrong, and what is to be said about it.

    `{x}` stands for the name of the cluster-scoped object `x`.
    """

    name: str
    condition: str
    reason: str
    says: tuple[str, ...]
    spec: dict[str, Any] = field(default_factory=dict)
    accelerator: str | None = "l40s"
    """Of its Deployment; None: there is none."""


CASES = [
    Wrong(
        "model",
        "ProfileValid",
        "ModelNotFound",
        ("spec.model: 'lama' is not a ModelProfile: create it, or name one of ", "{llm}"),
        {"model": "lama"},
    ),
    Wrong(
        "class",
        "ProfileValid",
        "ClassNotFound",
        ("spec.serviceClass: 'gold' is not a ServiceClass: create it, or name one of ", "{standard}"),
        {"serviceClass": "gold"},
    ),
    Wrong(
        "outsider",
        "ProfileValid",
        "ModelNotInClass",
        (
            "spec.serviceClass: ServiceClass {standard} has no objectives for model {odd}",
            "add it to its spec.models",
        ),
        {"model": "{odd}"},
    ),
    Wrong(
        "dataless",
        "ProfileValid",
        "NoPerformanceData",
        ("ModelProfile {bare} has data for {tpu}", "add the profile, or data for one that exists"),
        {"model": "{bare}"},
    ),
    Wrong(
        "homeless",
        "Applied",
        "DeploymentNotFound",
        (
            "spec.targetRef.name: there is no Deployment 'homeless' in namespace ",
            "create it, or name another",
        ),
        accelerator=None,
    ),
    Wrong(
        "unrecognised",
        "ProfileValid",
        "AcceleratorNotRecognised",
        (
            "Deployment unrecognised asks for 1 nvidia.com/gpu",
            "{l40s} is 1 nvidia.com/gpu",
            "set both in its pod template",
        ),
        {"model": "{small}"},
        accelerator="h100",
    ),
    *(
        Wrong(
            name,
            "Applied",
            "TargetConflict",
            (
                "spec.targetRef.name: Deployment twins is the target of castor, pollux",
                "keep one InferenceService",
            ),
            {"targetRef": {"name": "twins"}},
            accelerator=None,
        )
        for name in ("castor", "pollux")
    ),
    Wrong(
        "scaled",
        "Applied",
        "AutoscalerPresent",
        ("HorizontalPodAutoscaler scaled scales Deployment scaled", "remove it", "or use mode Recommend"),
    ),
    Wrong(
        "owned",
        "Applied",
        "ControlledByOther",
        ("Deployment owned is controlled by ConfigMap/kube-root-ca.crt", "use mode Recommend"),
    ),
    Wrong("halted", "Applied", "DeploymentPaused", ("Deployment halted is paused", "kubectl rollout resume")),
]


@pytest.fixture(scope="module")
def world(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All that is wrong beside one service that is well; Prometheus does not answer."""
    most = {"well": MOST * EACH}
    with running(cluster, namespace, tmp_path_factory.mktemp("bad"), most) as made:
        made.stop_prometheus()
        made.apply(
            made.objects.model_profile("odd", "l40s"),
            made.objects.model_profile("small", "l40s"),
            made.objects.model_profile("bare", "tpu"),
            made.objects.service_class("standard", "llm", "small", "bare"),
            made.objects.service_class("loose", "llm", "ghost"),
        )
        made.apply(
            *(_deployment(made, case) for case in CASES if case.accelerator),
            made.objects.deployment("twins", "l40s", LEAST),
            _autoscaler(made, "scaled"),
            made.objects.deployment("well", "l40s", LEAST),
        )
        names = _names(made)
        for case in CASES:
            texts = {key: value.format(**names) for key, value in case.spec.items() if isinstance(value, str)}
            made.apply(made.objects.service(case.name, mode="Apply", **{**case.spec, **texts}))
        made.apply(made.objects.service("well", keepAccelerator=True, mode="Apply"))
        made.demands["well"].set((MOST - 0.5) * EACH)
        made.start_operator()
        yield made


@pytest.fixture(scope="module")
def unreachable(world: World) -> dict[str, Any]:
    """Conditions of the service that is well before Prometheus answers, which it does from then on."""
    world.eventually(lambda: world.condition("well", "MetricsAvailable"), "conditions")
    world.after_ticks(2)
    kinds = ("MetricsAvailable", "Ready", "ProfileValid")
    conditions = {kind: world.condition("well", kind) for kind in kinds}
    world.start_prometheus()
    return conditions


def _deployment(world: World, case: Wrong) -> dict[str, Any]:
    made = world.objects.deployment(case.name, case.accelerator or "l40s", LEAST)
    if case.name == "owned":
        [owner] = [
            item
            for item in (world.get("api/v1/namespaces/{namespace}/configmaps") or {})["items"]
            if item["metadata"]["name"] == "kube-root-ca.crt"
        ]
        identity = {"name": "kube-root-ca.crt", "uid": owner["metadata"]["uid"]}
        made["metadata"]["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "ConfigMap", "controller": True, **identity}
        ]
    if case.name == "halted":
        made["spec"]["paused"] = True
    return made


def _autoscaler(world: World, name: str) -> dict[str, Any]:
    metric = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": world.namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "maxReplicas": 2,
            "metrics": [{"type": "Resource", "resource": metric}],
        },
    }


def _names(world: World) -> dict[str, str]:
    return {
        name: world.named(name)
        for name in ("l40s", "llm", "standard", "odd", "small", "bare", "tpu", "loose", "ghost")
    }


def test_an_operator_without_prometheus_runs_and_says_so(world: World, unreachable: dict[str, Any]) -> None:
    metrics = unreachable["MetricsAvailable"]
    assert (metrics["status"], metrics["reason"]) == ("False", "QueryFailed")
    assert f"Prometheus {world.prometheus_url}: query of " in metrics["message"]
    assert unreachable["Ready"]["status"] == "False"
    assert unreachable["ProfileValid"]["status"] == "True"
    assert "QueryFailed" in dict(world.events("well"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_wrong_is_a_condition_and_an_event_that_name_the_field_and_the_fix(
    world: World, case: Wrong
) -> None:
    condition = world.eventually(lambda: world.condition(case.name, case.condition), "the condition")
    assert (condition["status"], condition["reason"]) == ("False", case.reason)
    for text in case.says:
        assert text.format(**_names(world)) in condition["message"]
    assert condition["observedGeneration"] == (world.get(IFS, case.name) or {})["metadata"]["generation"]
    ready = world.condition(case.name, "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == (
        "False",
        case.reason,
        condition["message"],
    )
    events = world.eventually(
        lambda: [event for event in world.events(case.name) if event[0] == case.reason], "the event"
    )
    assert events == [(case.reason, condition["message"])]


@pytest.mark.parametrize(
    ("plural", "name", "reason", "says"),
    [
        ("modelprofiles", "bare", "AcceleratorNotFound", 'spec.profiles[0].accelerator: "{tpu}" is not an'),
        ("serviceclasses", "loose", "ModelNotFound", 'spec.models[1].model: "{ghost}" is not a ModelProfile'),
    ],
)
def test_a_profile_or_class_that_names_what_is_not_there_says_so(
    world: World, plural: str, name: str, reason: str, says: str
) -> None:
    path = f"apis/inferscale.dev/v1alpha1/{plural}/{world.named(name)}"

    def ready() -> dict[str, Any]:
        conditions = ((world.api.get(path) or {}).get("status") or {}).get("conditions") or ()
        return next((c for c in conditions if c["type"] == "Ready"), {})

    condition = world.eventually(ready, "the condition")
    assert (condition["status"], condition["reason"]) == ("False", reason)
    assert says.format(**_names(world)) in condition["message"]
    assert "create it, or name one of" in condition["message"]
    events = world.eventually(lambda: world.events(world.named(name), "default"), "the event")
    assert (reason, condition["message"]) in events


@pytest.mark.usefixtures("unreachable")
def test_a_service_that_is_well_is_served_among_all_this(world: World) -> None:
    world.eventually(lambda: world.replicas("well") == MOST, "the scale-up")
    assert "ScaledUp" in dict(world.events("well"))
    assert world.condition("well", "Ready")["status"] == "True"


def test_deployments_of_services_with_something_wrong_are_left_alone(world: World) -> None:
    for name in (*(case.name for case in CASES if case.accelerator), "twins"):
        deployment = world.get(DEPLOYMENTS, name) or {}
        managers = {entry["manager"] for entry in deployment["metadata"]["managedFields"]}
        assert "inferscale" not in managers
        assert deployment["spec"]["replicas"] == LEAST


def test_what_has_been_put_right_is_decided(world: World) -> None:
    world.change("model", model=world.named("llm"))
    world.eventually(
        lambda: world.condition("model", "ProfileValid").get("status") == "True", "the condition to follow"
    )
