"""Custom resources that must be accepted and that must be refused, with what a person is told."""

from dataclasses import dataclass
from typing import Any

from inferscale_operator.api.base import API_VERSION

Object = dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """An object that is refused, for one reason."""

    why: str
    object: Object
    server: str
    """Part of what the API server says."""
    model: str
    """Part of what the pydantic model says."""


def accelerator(**spec: Any) -> Object:
    return _object(
        "AcceleratorProfile",
        {
            "type": "H100",
            "cost": 4.5,
            "resourceName": "nvidia.com/gpu",
            "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
        }
        | spec,
    )


def model(*profiles: Object, **spec: Any) -> Object:
    return _object("ModelProfile", {"modelName": "llama-8b", "profiles": list(profiles)} | spec)


def performance(**fields: Any) -> Object:
    return {"accelerator": "h100", "alpha": 20, "beta": 0.4, "maxBatchSize": 64, "atTokens": 1024} | fields


def service_class(*models: Object, **spec: Any) -> Object:
    return _object("ServiceClass", {"priority": 1, "models": list(models)} | spec)


def policy(name: str = "default", **spec: Any) -> Object:
    return _object("OptimizerPolicy", spec, name)


def preset(**fields: Any) -> Object:
    return {"name": "mine", "running": ["r"], "waiting": ["w"], "completions": ["c"]} | fields


def service(**spec: Any) -> Object:
    return _object(
        "InferenceService",
        {"model": "llama", "serviceClass": "premium", "targetRef": {"name": "chat"}} | spec,
    )


def allocation(**spec: Any) -> Object:
    return _object("InferenceAllocation", {"service": "chat"} | spec)


def without(field: str, parent: Object) -> Object:
    """The object without a field of its spec."""
    return parent | {"spec": {name: value for name, value in parent["spec"].items() if name != field}}


def _object(kind: str, spec: Object, name: str = "example") -> Object:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


CHAT = {"model": "llama", "itl": 30}

ACCEPTED: dict[str, Object] = {
    "a minimal AcceleratorProfile": accelerator(),
    "owned hardware that costs nothing": accelerator(cost=0, tier="Owned"),
    "an AcceleratorProfile with everything": accelerator(
        type="A100",
        multiplicity=2,
        memSize=160,
        memBW=4000,
        power={"idle": 100, "full": 800, "midPower": 600.5, "midUtil": 0.6},
        currency="EUR",
        tolerations=[
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "spot", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60},
            {"operator": "Exists"},
        ],
        capacity={"max": 32, "headroom": 2},
        tier="Burst",
        allowedNamespaces=["team-a", "team-b"],
    ),
    "a minimal ModelProfile": model(performance()),
    "a ModelProfile of two accelerators": model(
        performance(gamma=5, delta=0.02),
        performance(accelerator="mi300x", accCount=2, alpha=18.5, beta=0, maxBatchSize=128),
    ),
    "a minimal ServiceClass": service_class(CHAT),
    "a ServiceClass with every objective": service_class(
        {"model": "llama", "itl": 30, "ttft": 500.5, "ttw": 200, "tps": 1000, "percentile": 0.95},
        {"model": "granite", "ttw": 200, "percentile": 0.99},
        {"model": "mistral", "tps": 10},
        priority=100,
        allowedNamespaces=["team-a"],
    ),
    "an empty OptimizerPolicy": policy(),
    "an OptimizerPolicy with everything": policy(
        tickSeconds=10,
        accelerators="Unlimited",
        saturationPolicy="RoundRobin",
        delayedBestEffort=True,
        transitionPenalty=0,
        keepThreshold=0.05,
        budget={"maxCostPerHour": 1200},
        quotas=[
            {"type": "H100", "units": 16, "namespace": "prod"},
            {"type": "H100", "units": 0, "serviceClass": "free", "namespace": "team-a"},
        ],
        tailRule="mean",
        behavior={
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 600},
        },
        metrics={
            "windowSeconds": 60,
            "maxAgeSeconds": 30,
            "namespaceLabel": "kubernetes_namespace",
            "podLabel": "kubernetes_pod",
            "matchers": {"cluster": "west"},
            "presets": [
                preset(),
                preset(
                    name="everything",
                    matchers={"job": "llm"},
                    namespaceLabel="ns",
                    podLabel="instance",
                    rankLabels=["tp_rank"],
                    rejections=["refused_total"],
                    entryRequests=["came_total", "llm:came_total"],
                    entryMatchers={"method": "POST"},
                    inputTokens=["in"],
                    outputTokens=["out"],
                    promptTokens=["in_total"],
                    generationTokens=["out_total"],
                    prefixQueries=["looked_up_total"],
                    prefixHits=["found_total"],
                    itl=["itl_seconds"],
                    ttft=["ttft_seconds"],
                    gateway={
                        "requests": ["gateway_requests_total"],
                        "queue": ["gateway_queue"],
                        "modelLabel": "model_name",
                        "namespaceLabel": "exported_namespace",
                        "matchers": {"job": "gateway"},
                    },
                ),
            ],
        },
        moves={"bringUpTimeoutSeconds": 60, "retryAfterSeconds": 0},
        safety={"unschedulableAfterSeconds": 60, "unschedulableRetryAfterSeconds": 0},
    ),
    "a minimal InferenceService": service(),
    "an InferenceService with everything": service(
        targetRef={"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"},
        variants=[
            {
                "accelerator": "mi300x",
                "container": "server",
                "image": "vllm/vllm-openai-rocm:v0.11",
                "env": [
                    {"name": "MAX_NUM_SEQS", "value": "{maxBatch}"},
                    {"name": "TP", "value": "{acceleratorCount}"},
                ],
                "args": ["--tensor-parallel-size={acceleratorCount}"],
                "runtimeClassName": "rocm",
            },
            {"accelerator": "h100"},
        ],
        minReplicas=0,
        maxReplicas=12,
        allowedAccelerators=["h100", "mi300x"],
        weight=2.5,
        keepAccelerator=True,
        batch={"mode": "Managed", "arg": "--max-num-seqs"},
        metrics={"preset": "everything"},
        behavior={
            "scaleUp": {
                "stabilizationWindowSeconds": 60,
                "policies": [
                    {"type": "Pods", "value": 4, "periodSeconds": 15},
                    {"type": "Percent", "value": 100, "periodSeconds": 1800},
                ],
                "selectPolicy": "Min",
                "tolerance": 0.1,
            },
            "scaleDown": {"policies": [], "selectPolicy": "Disabled", "tolerance": 0},
        },
        schedule=[
            {
                "days": ["Mon", "Fri"],
                "from": "08:00",
                "to": "18:00",
                "timeZone": "Europe/Berlin",
                "minReplicas": 3,
            },
            {"from": "22:00", "to": "06:00", "minReplicas": 0, "maxReplicas": 2},
            {},
        ],
        scaleToZeroAfterSeconds=0,
        mode="Apply",
    ),
    "an InferenceAllocation": allocation(),
}

REFUSED = (
    Refused(
        "a negative cost",
        accelerator(cost=-1),
        "spec.cost in body should be greater than or equal to 0",
        "greater than or equal to 0",
    ),
    Refused(
        "a cost in text", accelerator(cost="4.5"), "spec.cost in body must be of type number", "valid number"
    ),
    Refused(
        "a cost that is not a number",
        accelerator(cost=float("nan")),
        "spec.cost in body must be of type number",
        "finite number",
    ),
    Refused(
        "an infinite memory",
        accelerator(memSize=float("inf")),
        "spec.memSize in body must be of type number",
        "finite number",
    ),
    Refused(
        "no accelerator type", without("type", accelerator()), "spec.type: Required value", "Field required"
    ),
    Refused("no cost", without("cost", accelerator()), "spec.cost: Required value", "Field required"),
    Refused(
        "half an accelerator",
        accelerator(multiplicity=0.5),
        "spec.multiplicity in body must be of type integer",
        "valid integer",
    ),
    Refused(
        "a selector of all nodes",
        accelerator(nodeSelector={}),
        "spec.nodeSelector in body should have at least 1 properties",
        "at least 1 item",
    ),
    Refused(
        "a label value that no node can have",
        accelerator(nodeSelector={"gpu": "H100 80GB"}),
        "spec.nodeSelector.gpu in body should match",
        "should match pattern",
    ),
    Refused(
        "an unknown tier",
        accelerator(tier="Spot"),
        'spec.tier: Unsupported value: "Spot": supported values: "Owned", "Reserved", "Burst"',
        "'Owned', 'Reserved' or 'Burst'",
    ),
    Refused(
        "a resource without its vendor",
        accelerator(resourceName="gpu"),
        "spec.resourceName in body should match",
        "should match pattern",
    ),
    Refused(
        "capacity stated twice",
        accelerator(capacity={"fixed": 8, "max": 16}),
        "spec.capacity: Invalid value: give fixed (units that exist) or max (units a pool may grow to)",
        "not both",
    ),
    Refused(
        "power that falls with utilization",
        accelerator(power={"idle": 700, "full": 100, "midPower": 400, "midUtil": 0.5}),
        "spec.power.midPower: Invalid value: power rises with utilization",
        "power rises with utilization",
    ),
    Refused(
        "utilization in percent",
        accelerator(power={"idle": 100, "full": 700, "midPower": 400, "midUtil": 50}),
        "spec.power.midUtil in body should be less than 1",
        "less than 1",
    ),
    Refused(
        "a toleration of nothing",
        accelerator(tolerations=[{"effect": "NoSchedule"}]),
        "spec.tolerations[0].operator: Invalid value: a toleration without a key needs operator Exists",
        "needs operator Exists",
    ),
    Refused(
        "a toleration of any value and of one",
        accelerator(tolerations=[{"key": "gpu", "operator": "Exists", "value": "yes"}]),
        "spec.tolerations[0].value: Invalid value: a toleration with operator Exists takes no value",
        "takes no value",
    ),
    Refused(
        "seconds of a taint that does not evict",
        accelerator(tolerations=[{"key": "gpu", "effect": "NoSchedule", "tolerationSeconds": 60}]),
        "spec.tolerations[0].tolerationSeconds: Invalid value: tolerationSeconds needs effect NoExecute",
        "needs effect NoExecute",
    ),
    Refused(
        "a namespace twice",
        accelerator(allowedNamespaces=["team-a", "team-a"]),
        'spec.allowedNamespaces[1]: Duplicate value: "team-a"',
        "'team-a' is listed twice",
    ),
    Refused(
        "a model without profiles",
        model(),
        "spec.profiles in body should have at least 1 items",
        "at least 1",
    ),
    Refused(
        "a model with a profile twice",
        model(performance(), performance(alpha=25)),
        'spec.profiles[1]: Duplicate value: {"accelerator":"h100"}',
        "accelerator 'h100' is listed twice",
    ),
    Refused(
        "decoding that takes no time",
        model(performance(alpha=0, beta=0)),
        "spec.profiles[0].alpha: Invalid value: alpha and beta are both 0: a decode iteration takes time",
        "alpha and beta are both 0",
    ),
    Refused(
        "a negative parameter",
        model(performance(gamma=-1)),
        "spec.profiles[0].gamma in body should be greater than or equal to 0",
        "greater than or equal to 0",
    ),
    Refused(
        "a parameter that is infinite, in text",
        model(performance(alpha="inf")),
        "spec.profiles[0].alpha in body must be of type number",
        "valid number",
    ),
    Refused(
        "room for no request",
        model(performance(maxBatchSize=0)),
        "spec.profiles[0].maxBatchSize in body should be greater than or equal to 1",
        "greater than or equal to 1",
    ),
    Refused(
        "a model name that is too long",
        model(performance(), modelName="m" * 254),
        "spec.modelName: Too long: may not be more than 253",
        "at most 253 characters",
    ),
    Refused(
        "priority 0",
        service_class(CHAT, priority=0),
        "spec.priority in body should be greater than or equal to 1",
        "greater than or equal to 1",
    ),
    Refused(
        "priority 101",
        service_class(CHAT, priority=101),
        "spec.priority in body should be less than or equal to 100",
        "less than or equal to 100",
    ),
    Refused(
        "a priority in text",
        service_class(CHAT, priority="1"),
        "spec.priority in body must be of type integer",
        "valid integer",
    ),
    Refused(
        "a priority that is true",
        service_class(CHAT, priority=True),
        "spec.priority in body must be of type integer",
        "valid integer",
    ),
    Refused(
        "no priority",
        without("priority", service_class(CHAT)),
        "spec.priority: Required value",
        "Field required",
    ),
    Refused(
        "a class without models",
        service_class(),
        "spec.models in body should have at least 1 items",
        "at least 1",
    ),
    Refused(
        "a model without an objective",
        service_class(CHAT, {"model": "granite"}),
        "spec.models[1]: Invalid value: a model needs an objective: give at least one of itl, ttft, ttw (ms)"
        " and tps (tokens/s)",
        "a model needs an objective",
    ),
    Refused(
        "a model twice",
        service_class(CHAT, CHAT | {"itl": 40}),
        'spec.models[1]: Duplicate value: {"model":"llama"}',
        "model 'llama' is listed twice",
    ),
    Refused(
        "an objective of 0",
        service_class(CHAT | {"itl": 0}),
        "spec.models[0].itl in body should be greater than 0",
        "greater than 0",
    ),
    Refused(
        "a percentile in percent",
        service_class(CHAT | {"ttft": 500, "percentile": 95}),
        "spec.models[0].percentile in body should be less than 1",
        "less than 1",
    ),
    Refused(
        "a percentile of nothing",
        service_class(CHAT | {"percentile": 0.95}),
        "spec.models[0].percentile: Invalid value: percentile is of ttft and ttw: give one of them",
        "percentile is of ttft and ttw",
    ),
    Refused(
        "a window of fewer than four scrapes",
        policy(metrics={"windowSeconds": 3}),
        "spec.metrics.windowSeconds in body should be greater than or equal to 4",
        "greater than or equal to 4",
    ),
    Refused(
        "a negative penalty",
        policy(transitionPenalty=-0.1),
        "spec.transitionPenalty in body should be greater than or equal to 0",
        "greater than or equal to 0",
    ),
    Refused(
        "a negative budget",
        policy(budget={"maxCostPerHour": -1}),
        "spec.budget.maxCostPerHour in body should be greater than or equal to 0",
        "greater than or equal to 0",
    ),
    Refused(
        "a quota for nobody",
        policy(quotas=[{"type": "H100", "units": 8}]),
        "spec.quotas[0]: Invalid value: a quota is for somebody: give namespace, serviceClass, or both",
        "a quota is for somebody",
    ),
    Refused(
        "a service that does not count",
        service(weight=0),
        "spec.weight in body should be greater than 0",
        "greater than 0",
    ),
    Refused(
        "unknown limits",
        policy(accelerators="Some"),
        'spec.accelerators: Unsupported value: "Some": supported values: "Limited", "Unlimited"',
        "'Limited' or 'Unlimited'",
    ),
    Refused(
        "an unknown saturation policy",
        policy(saturationPolicy="Fair"),
        'spec.saturationPolicy: Unsupported value: "Fair"',
        "'PriorityExhaustive'",
    ),
    Refused(
        "a label that Prometheus cannot have",
        policy(metrics={"podLabel": "kubernetes.io/pod"}),
        "spec.metrics.podLabel in body should match",
        "should match pattern",
    ),
    Refused(
        "a matcher that Prometheus cannot have",
        policy(metrics={"matchers": {"west-cluster": "yes"}}),
        "spec.metrics.matchers: Invalid value: a key of matchers is no Prometheus label name",
        "no Prometheus label name",
    ),
    Refused(
        "one label for two things",
        policy(metrics={"podLabel": "namespace"}),
        "spec.metrics.podLabel: Invalid value: namespaceLabel and podLabel are the same label: name two",
        "the same label",
    ),
    Refused(
        "a metric preset that is a query",
        policy(metrics={"presets": [preset(running=['sum(up{job="a"})'])]}),
        "spec.metrics.presets[0].running[0] in body should match",
        "should match pattern",
    ),
    Refused(
        "a metric preset of a built-in name",
        policy(metrics={"presets": [preset(name="vllm")]}),
        "spec.metrics.presets: Invalid value: a preset has the name of a built-in one",
        "a preset has the name of a built-in one (gateway, sglang, tgi, vllm): rename it",
    ),
    Refused(
        "a metric preset twice",
        policy(metrics={"presets": [preset(), preset()]}),
        'spec.metrics.presets[1]: Duplicate value: {"name":"mine"}',
        "name 'mine' is listed twice",
    ),
    Refused(
        "a metric preset without what runs",
        policy(metrics={"presets": [preset(running=[])]}),
        "spec.metrics.presets[0].running in body should have at least 1 items",
        "at least 1 item",
    ),
    Refused(
        "a metric preset with one label for two things",
        policy(metrics={"presets": [preset(podLabel="namespace")]}),
        "namespaceLabel and podLabel of a preset are the same label",
        "namespaceLabel and podLabel of a preset are the same label",
    ),
    Refused(
        "a matcher of a gateway that Prometheus cannot have",
        policy(
            metrics={
                "presets": [preset(gateway={"requests": ["r"], "queue": ["q"], "matchers": {"a-b": "c"}})]
            }
        ),
        "a key of matchers is no Prometheus label name",
        "a key of matchers is no Prometheus label name",
    ),
    Refused(
        "a window of more than an hour",
        policy(behavior={"scaleDown": {"stabilizationWindowSeconds": 3601}}),
        "spec.behavior.scaleDown.stabilizationWindowSeconds in body should be less than or equal to 3600",
        "less than or equal to 3600",
    ),
    Refused(
        "more replicas at least than at most",
        service(minReplicas=5, maxReplicas=3),
        "spec.minReplicas: Invalid value: minReplicas is above maxReplicas: lower it, or raise maxReplicas",
        "minReplicas is above maxReplicas",
    ),
    Refused(
        "more replicas at least than at most at some time",
        service(maxReplicas=3, schedule=[{}, {"minReplicas": 4}]),
        "spec.schedule: Invalid value: an entry's minReplicas is above its maxReplicas",
        "an entry's minReplicas is above its maxReplicas",
    ),
    Refused(
        "a day that does not exist",
        service(schedule=[{"days": ["Monday"]}]),
        'spec.schedule[0].days[0]: Unsupported value: "Monday"',
        "Input should be 'Mon'",
    ),
    Refused(
        "a time of day that does not exist",
        service(schedule=[{"from": "24:00"}]),
        "spec.schedule[0].from in body should match",
        "should match pattern",
    ),
    Refused(
        "a period longer than half an hour",
        service(behavior={"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 1801}]}}),
        "spec.behavior.scaleUp.policies[0].periodSeconds in body should be less than or equal to 1800",
        "less than or equal to 1800",
    ),
    Refused(
        "a scaling policy that allows nothing",
        service(behavior={"scaleDown": {"policies": [{"type": "Percent", "value": 0, "periodSeconds": 60}]}}),
        "spec.behavior.scaleDown.policies[0].value in body should be greater than or equal to 1",
        "greater than or equal to 1",
    ),
    Refused(
        "fewer replicas at most than there are unless said",
        service(maxReplicas=0),
        "spec.maxReplicas in body should be greater than or equal to 1",
        "greater than or equal to 1",
    ),
    Refused(
        "an unknown mode",
        service(mode="Auto"),
        'spec.mode: Unsupported value: "Auto": supported values: "Recommend", "Approve", "Apply", "Paused"',
        "'Recommend', 'Approve', 'Apply' or 'Paused'",
    ),
    Refused(
        "a managed batch limit that is written nowhere",
        service(batch={"mode": "Managed"}),
        "spec.batch.mode: Invalid value: mode Managed needs to know where the engine reads its batch limit",
        "give env (such as MAX_NUM_SEQS) or arg (such as --max-num-seqs)",
    ),
    Refused(
        "a batch limit that is written twice",
        service(batch={"mode": "Managed", "env": "MAX_NUM_SEQS", "arg": "--max-num-seqs"}),
        "spec.batch: Invalid value: give env or arg, not both",
        "give env or arg, not both",
    ),
    Refused(
        "an argument without dashes",
        service(batch={"mode": "Managed", "arg": "max-num-seqs"}),
        "spec.batch.arg in body should match",
        "should match pattern",
    ),
    Refused(
        "a target that is no Deployment",
        service(targetRef={"kind": "StatefulSet", "name": "chat"}),
        'spec.targetRef.kind: Unsupported value: "StatefulSet": supported values: "Deployment"',
        "'Deployment'",
    ),
    Refused(
        "no target",
        without("targetRef", service()),
        "spec.targetRef: Required value",
        "Field required",
    ),
    Refused(
        "a model that no object can be named",
        service(model="Llama 3"),
        "spec.model in body should match",
        "should match pattern",
    ),
    Refused(
        "a variant twice",
        service(variants=[{"accelerator": "h100"}, {"accelerator": "h100", "image": "other"}]),
        'spec.variants[1]: Duplicate value: {"accelerator":"h100"}',
        "accelerator 'h100' is listed twice",
    ),
    Refused(
        "a variable twice",
        service(variants=[{"accelerator": "h100", "env": [{"name": "TP"}, {"name": "TP", "value": "2"}]}]),
        'spec.variants[0].env[1]: Duplicate value: {"name":"TP"}',
        "name 'TP' is listed twice",
    ),
    Refused(
        "an allowed accelerator twice",
        service(allowedAccelerators=["h100", "h100"]),
        'spec.allowedAccelerators[1]: Duplicate value: "h100"',
        "'h100' is listed twice",
    ),
    Refused(
        "yes and no in text",
        service(keepAccelerator="yes"),
        "spec.keepAccelerator in body must be of type boolean",
        "valid boolean",
    ),
    Refused(
        "an allocation of no service",
        without("service", allocation()),
        "spec.service: Required value",
        "Field required",
    ),
)
