"""What the chart renders for each of its switches, and that the API server takes it."""

import json

import pytest
import yaml

from chart_builders import ADDRESS, CHART, SYSTEM, Helm, Render, named, sets
from localcluster import Cluster

MONITORING = ("--api-versions", "monitoring.coreos.com/v1")
COMBINATIONS = {
    "the defaults": (),
    "namespaces": ('scope.namespaces:=["default","kube-public"]', "scope.namespaceLabel="),
    "more replicas": ("replicas=3", "priorityClassName=system-cluster-critical"),
    "all of prometheus": (
        "prometheus.ca.configMap=ca",
        "prometheus.token.secret=token",
        "prometheus.clientCertificate.secret=client",
        "prometheus.serverName=thanos",
        'prometheus.headers:={"X-Scope-OrgID":"team"}',
    ),
    "openshift": (
        "podSecurityContext.runAsUser:=null",
        "podSecurityContext.runAsGroup:=null",
        "podSecurityContext.fsGroup:=null",
        "prometheus.token.serviceAccount=true",
    ),
    "network policy": (
        "networkPolicy.enabled=true",
        "networkPolicy.prometheus.admit=true",
        "networkPolicy.prometheus.namespace=default",
    ),
    "without pods of others, policy, hook, service and dashboard": (
        "scope.readPods=false",
        'scope.namespaces:=["default"]',
        "admissionPolicy.enabled=false",
        "settle.enabled=false",
        "metrics.service.enabled=false",
        "metrics.dashboard.enabled=false",
    ),
    "a place for it": (
        'nodeSelector:={"pool":"system"}',
        'tolerations:=[{"key":"system","operator":"Exists"}]',
        (
            'affinity:={"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":'
            '{"nodeSelectorTerms":[{"matchExpressions":[{"key":"pool","operator":"Exists"}]}]}}}'
        ),
        'podAnnotations:={"a":"b"}',
        'podLabels:={"c":"d"}',
        'extraEnv:=[{"name":"A","value":"b"}]',
        'extraArgs:=["--log-level=debug"]',
        'imagePullSecrets:=["pull"]',
        f"image.digest=sha256:{'0' * 64}",
    ),
    "another name": ("fullnameOverride=scaler", "serviceAccount.name=robot"),
}


def container(render: Render, *values: str) -> dict:
    return named(render(*values), "Deployment")["spec"]["template"]["spec"]["containers"][0]


def environment(render: Render, *values: str) -> dict[str, str]:
    return {item["name"]: item["value"] for item in container(render, *values)["env"]}


def kinds(objects: list[dict]) -> list[str]:
    return sorted(item["kind"] for item in objects)


@pytest.fixture(scope="module", autouse=True)
def system(cluster: Cluster) -> None:
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(manifest))


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_the_api_server_takes_what_is_rendered(cluster: Cluster, render: Render, combination: str) -> None:
    text = yaml.safe_dump_all(render(*COMBINATIONS[combination]))
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", input=text)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_pods_hold_the_restricted_standard_and_nothing_is_null(render: Render, combination: str) -> None:
    objects = render(*COMBINATIONS[combination])
    assert "null" not in json.dumps([item for item in objects if item["kind"] != "CustomResourceDefinition"])
    for item in objects:
        if item["kind"] not in ("Deployment", "Job"):
            continue
        pod = item["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for one in pod["containers"]:
            assert one["securityContext"]["readOnlyRootFilesystem"] is True
            assert one["securityContext"]["allowPrivilegeEscalation"] is False
            assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_it_lints(helm: Helm) -> None:
    helm("lint", str(CHART), "--strict", *sets(ADDRESS))


def test_it_renders_none_of_its_own_kinds(render: Render) -> None:
    assert not [item for item in render() if item["apiVersion"].startswith("inferscale.dev")]


def test_without_the_address_of_prometheus_it_says_what_is_missing(helm: Helm) -> None:
    done = helm("template", "inferscale", str(CHART), check=False)
    assert "prometheus.url is missing: say where Prometheus is" in done.stderr


@pytest.mark.parametrize(
    ("value", "named_field"),
    [
        ("replicaCount=2", "replicaCount"),
        ("replicas=-1", "/replicas"),
        ("prometheus.url=prometheus:9090", "/prometheus/url"),
        ("prometheus.url=http://user:pass@prometheus", "/prometheus/url"),
        ("metrics.serviceMonitor.enabled=perhaps", "/metrics/serviceMonitor/enabled"),
        ("scope.namespaceLabel=managed", "/scope/namespaceLabel"),
        ('scope.namespaces:=["A_b"]', "/scope/namespaces/0"),
        ("image.digest=sha256:12", "/image/digest"),
        ("log.level=trace", "/log/level"),
        ("podSecurityContext.runAsUser=nobody", "/podSecurityContext/runAsUser"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(helm: Helm, value: str, named_field: str) -> None:
    done = helm("template", "inferscale", str(CHART), *sets(ADDRESS, value), check=False)
    assert done.returncode != 0
    assert named_field in done.stderr


def test_the_user_can_be_left_to_the_cluster(render: Render) -> None:
    pod = named(render(*COMBINATIONS["openshift"]), "Deployment")["spec"]["template"]["spec"]
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(pod["securityContext"])


def test_a_list_of_namespaces_gives_roles_there_and_a_cluster_role_that_writes_nothing_there(
    render: Render,
) -> None:
    objects = render(*COMBINATIONS["namespaces"])
    roles = {item["metadata"]["namespace"]: item for item in objects if item["kind"] == "Role"}
    assert set(roles) == {SYSTEM, "default", "kube-public"}
    assert {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"]} in roles["default"][
        "rules"
    ]
    everywhere = named(objects, "ClusterRole")["rules"]
    written = {resource for rule in everywhere if "patch" in rule["verbs"] for resource in rule["resources"]}
    assert written == {
        "acceleratorprofiles/status",
        "modelprofiles/status",
        "serviceclasses/status",
        "optimizerpolicies/status",
    }
    assert environment(render, *COMBINATIONS["namespaces"])["INFERSCALE_NAMESPACES"] == "default kube-public"


def test_without_pods_of_others_they_are_read_where_the_services_are(render: Render) -> None:
    values = ("scope.readPods=false", 'scope.namespaces:=["default"]')
    objects = render(*values)
    rules = named(objects, "ClusterRole")["rules"]
    assert not [rule for rule in rules if "pods" in rule["resources"]]
    role = next(
        item for item in objects if item["kind"] == "Role" and item["metadata"]["namespace"] == "default"
    )
    assert [rule for rule in role["rules"] if "pods" in rule["resources"]]
    assert environment(render, *values)["INFERSCALE_READ_PODS"] == "false"


def test_files_of_prometheus_are_mounted_and_named(render: Render) -> None:
    values = COMBINATIONS["all of prometheus"]
    env = environment(render, *values)
    mounts = {item["mountPath"] for item in container(render, *values)["volumeMounts"]}
    assert mounts == {"/etc/inferscale/ca", "/etc/inferscale/token", "/etc/inferscale/client"}
    assert env["INFERSCALE_PROMETHEUS_CA_FILE"] == "/etc/inferscale/ca/ca.crt"
    assert env["INFERSCALE_PROMETHEUS_TOKEN_FILE"] == "/etc/inferscale/token/token"  # noqa: S105
    assert env["INFERSCALE_PROMETHEUS_CERTIFICATE_FILE"] == "/etc/inferscale/client/tls.crt"
    assert env["INFERSCALE_PROMETHEUS_KEY_FILE"] == "/etc/inferscale/client/tls.key"
    assert env["INFERSCALE_PROMETHEUS_SERVER_NAME"] == "thanos"
    assert env["INFERSCALE_PROMETHEUS_HEADERS"] == "X-Scope-OrgID=team"


def test_every_variable_is_a_setting_of_the_operator(render: Render) -> None:
    from inferscale_operator.settings import Settings

    known = {f"INFERSCALE_{name.upper()}" for name in Settings.model_fields}
    for values in COMBINATIONS.values():
        assert {name for name in environment(render, *values) if name.startswith("INFERSCALE_")} <= known


@pytest.mark.parametrize(
    ("values", "options", "rendered"),
    [
        ((), (), False),
        ((), MONITORING, True),
        (("metrics.serviceMonitor.enabled=true", "metrics.prometheusRule.enabled=true"), (), True),
        (("metrics.serviceMonitor.enabled=false", "metrics.prometheusRule.enabled=false"), MONITORING, False),
    ],
)
def test_kinds_of_the_prometheus_operator_are_rendered_where_they_are_known_or_asked_for(
    render: Render, values: tuple[str, ...], options: tuple[str, ...], rendered: bool
) -> None:
    found = kinds(render(*values, options=options))
    assert ("ServiceMonitor" in found) is rendered
    assert ("PrometheusRule" in found) is rendered


@pytest.mark.parametrize(
    ("kind", "without", "with_it"),
    [
        ("PodDisruptionBudget", "replicas=1", "replicas=2"),
        ("NetworkPolicy", "networkPolicy.enabled=false", "networkPolicy.enabled=true"),
        ("ValidatingAdmissionPolicy", "admissionPolicy.enabled=false", "admissionPolicy.enabled=true"),
        ("CustomResourceDefinition", "crds.install=false", "crds.install=true"),
        ("ConfigMap", "metrics.dashboard.enabled=false", "metrics.dashboard.enabled=true"),
    ],
)
def test_a_switch_adds_and_removes_its_kind(render: Render, kind: str, without: str, with_it: str) -> None:
    assert kind not in kinds(render(without))
    assert kind in kinds(render(with_it))


def test_the_hook_that_settles_moves_can_be_left_out(render: Render) -> None:
    assert "Job" not in kinds(render("settle.enabled=false", "metrics.service.enabled=false"))
    job = named(render("settle.timeoutSeconds=42"), "Job", "-settle")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    assert job["spec"]["template"]["spec"]["containers"][0]["command"][-1] == "42"


def test_a_digest_goes_before_the_tag(render: Render) -> None:
    digest = f"sha256:{'0' * 64}"
    assert container(render, "image.tag=v9")["image"] == "inferscale:v9"
    assert container(render, "image.tag=v9", f"image.digest={digest}")["image"] == f"inferscale@{digest}"


def test_the_policy_of_prometheus_namespace_admits_the_operator_alone(render: Render) -> None:
    policy = named(render(*COMBINATIONS["network policy"]), "NetworkPolicy", "-to-prometheus")
    assert policy["metadata"]["namespace"] == "default"
    (source,) = policy["spec"]["ingress"][0]["from"]
    assert source["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": SYSTEM}
    assert source["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "inferscale"


POD = ("spec", "template", "spec")
OPERATOR = (*POD, "containers", 0)


@pytest.mark.parametrize(
    ("value", "kind", "path", "expected"),
    [
        ("replicas=3", "Deployment", ("spec", "replicas"), 3),
        ("resources.limits.memory=2Gi", "Deployment", (*OPERATOR, "resources", "limits", "memory"), "2Gi"),
        ("image.pullPolicy=Always", "Deployment", (*OPERATOR, "imagePullPolicy"), "Always"),
        ('imagePullSecrets:=["pull"]', "Deployment", (*POD, "imagePullSecrets"), [{"name": "pull"}]),
        ("priorityClassName=urgent", "Deployment", (*POD, "priorityClassName"), "urgent"),
        ('nodeSelector:={"pool":"a"}', "Deployment", (*POD, "nodeSelector"), {"pool": "a"}),
        (
            'tolerations:=[{"operator":"Exists"}]',
            "Deployment",
            (*POD, "tolerations"),
            [{"operator": "Exists"}],
        ),
        ('affinity:={"nodeAffinity":{}}', "Deployment", (*POD, "affinity"), {"nodeAffinity": {}}),
        ("terminationGracePeriodSeconds=9", "Deployment", (*POD, "terminationGracePeriodSeconds"), 9),
        (
            'podAnnotations:={"a":"b"}',
            "Deployment",
            ("spec", "template", "metadata", "annotations"),
            {"a": "b"},
        ),
        ('podLabels:={"c":"d"}', "Deployment", ("spec", "template", "metadata", "labels", "c"), "d"),
        ('extraArgs:=["--record=/tmp/x"]', "Deployment", (*OPERATOR, "args"), ["--record=/tmp/x"]),
        ("serviceAccount.name=robot", "ServiceAccount", ("metadata", "name"), "robot"),
        (
            'serviceAccount.annotations:={"a":"b"}',
            "ServiceAccount",
            ("metadata", "annotations"),
            {"a": "b"},
        ),
        ("metrics.service.port=9999", "Service", ("spec", "ports", 0, "port"), 9999),
        ("metrics.serviceMonitor.interval=7s", "ServiceMonitor", ("spec", "endpoints", 0, "interval"), "7s"),
        ('metrics.serviceMonitor.labels:={"r":"p"}', "ServiceMonitor", ("metadata", "labels", "r"), "p"),
        ('metrics.dashboard.labels:={"g":"1"}', "ConfigMap", ("metadata", "labels", "g"), "1"),
    ],
)
def test_a_value_is_where_it_belongs(
    render: Render, value: str, kind: str, path: tuple[str | int, ...], expected: object
) -> None:
    found = named(render(value, options=MONITORING), kind)
    for key in path:
        found = found[key]
    assert found == expected


@pytest.mark.parametrize(
    ("value", "variable", "expected"),
    [
        ("log.level=debug", "INFERSCALE_LOG_LEVEL", "debug"),
        ("log.format=text", "INFERSCALE_LOG_FORMAT", "text"),
        ("prometheus.timeoutSeconds=33", "INFERSCALE_PROMETHEUS_TIMEOUT_SECONDS", "33"),
        ("scope.namespaceLabel=team=a", "INFERSCALE_NAMESPACE_LABEL", "team=a"),
        ('extraEnv:=[{"name":"A","value":"b"}]', "A", "b"),
    ],
)
def test_a_value_is_a_variable_of_the_operator(
    render: Render, value: str, variable: str, expected: str
) -> None:
    assert environment(render, value)[variable] == expected


def test_notes_lead_to_the_first_service(helm: Helm) -> None:
    done = helm(
        *("install", "inferscale", str(CHART), "-n", SYSTEM, "--dry-run=client", *sets(ADDRESS)),
        *sets("scope.namespaceLabel=team=a"),
    )
    notes = done.stdout.partition("NOTES:")[2]
    assert "helm test inferscale" in notes
    assert "kubectl label namespace <namespace> team=a" in notes
    assert "kind: InferenceService" in notes
