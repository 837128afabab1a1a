"""`inferscale import`: planning files, and Deployments that run already, as custom resources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_operator.api import RESOURCES
from inferscale_operator.cli import main
from inferscale_operator.errors import UsageError
from inferscale_operator.migration.engines import model_server
from inferscale_operator.migration.from_cluster import Cluster, propose
from inferscale_operator.migration.hardware import known
from inferscale_operator.migration.manifests import Manifest, as_yaml
from inferscale_operator.migration.names import object_name, object_names

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "plan"
SPECS = {resource.kind: resource.spec for resource in RESOURCES}
NVIDIA = "nvidia.com/gpu"
PRODUCT = "nvidia.com/gpu.product"
H100 = "NVIDIA-H100-80GB-HBM3"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def objects(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The objects of YAML documents, each of them valid and without a field that its kind does not have."""
    found = {}
    for document in yaml.safe_load_all(text):
        kind, name = document["kind"], document["metadata"]["name"]
        spec = SPECS[kind].model_validate(document["spec"])
        assert spec.model_dump(mode="json", by_alias=True, exclude_unset=True) == document["spec"]
        assert (kind, name) not in found
        found[kind, name] = document
    return found


def write(folder: Path, **contents: Any) -> Path:
    """The example's files, some of them with other contents."""
    for path in EXAMPLE.glob("*.json"):
        stem = path.stem.removesuffix("-data")
        content = contents.get(stem, json.loads(path.read_text()))
        if content is not None:
            (folder / path.name).write_text(json.dumps(content))
    for stem in contents.keys() & {"optimizer"}:
        (folder / f"{stem}-data.json").write_text(json.dumps(contents[stem]))
    return folder


def example(stem: str) -> list[dict[str, Any]]:
    [rows] = json.loads((EXAMPLE / f"{stem}-data.json").read_text()).values()
    return rows


def test_the_files_become_custom_resources(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", str(EXAMPLE), "-n", "prod") == 0
    told = capsys.readouterr()
    found = objects(told.out)
    assert {name for kind, name in found if kind == "AcceleratorProfile"} == {
        "l40s",
        "a100",
        "2xa100",
        "h100",
        "2xh100",
        "mi300x",
    }
    h100 = found["AcceleratorProfile", "2xh100"]["spec"]
    assert (h100["type"], h100["multiplicity"], h100["memSize"], h100["capacity"]) == (
        "H100",
        2,
        160,
        {"fixed": 12},
    )
    assert (h100["resourceName"], h100["nodeSelector"]) == (NVIDIA, {PRODUCT: H100})
    model = found["ModelProfile", "llama-8b"]["spec"]
    assert model["modelName"] == "llama_8b"
    assert [data["accelerator"] for data in model["profiles"]] == ["l40s", "a100", "h100", "mi300x"]
    assert model["profiles"][0]["delta"] == 0.0775
    premium = found["ServiceClass", "premium"]["spec"]
    assert premium["priority"] == 1
    assert premium["models"][0] == {"model": "llama-8b", "itl": 24, "ttft": 500, "percentile": 0.95}
    service = found["InferenceService", "premium-llama-8b"]
    assert service["metadata"]["namespace"] == "prod"
    assert service["spec"] == {
        "model": "llama-8b",
        "serviceClass": "premium",
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "premium-llama-8b"},
        "mode": "Recommend",
    }
    assert "# To be checked: resourceName and nodeSelector, guessed from type H100." in told.out
    assert "Not carried over: loads and current allocations" in told.err
    assert "Not carried over: minReplicas 0 (Premium-llama_8b" in told.err


def test_what_hints_say_is_not_guessed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [
        {"name": "G2", "cost": 1.5, "tier": "Burst"},
        {"name": "2xG2", "type": "G2", "multiplicity": 2, "cost": 3},
    ]
    models = [
        {"name": "m", "acc": name, "alpha": 5, "beta": 0.1, "maxBatchSize": 8, "atTokens": 64}
        for name in ("G2", "2xG2")
    ]
    folder = write(
        tmp_path,
        accelerator=rows,
        model=models,
        serviceclass=[
            {"name": "c", "priority": 3, "model": "m", "slo-itl": 50, "slo-ttw": 100, "percentile": 0.9}
        ],
        server=[
            {
                "name": "s",
                "class": "c",
                "model": "m",
                "minReplicas": 1,
                "maxReplicas": 4,
                "keepAccelerator": True,
                "allowedAccelerators": ["2xG2"],
                "currentAlloc": {"load": {"arrivalRate": 10, "avgLength": 64}},
            }
        ],
        capacity=None,
        optimizer={
            "unlimited": False,
            "solver": "exact",
            "saturationPolicy": "RoundRobin",
            "maxCost": 5,
            "keepThreshold": 0.1,
            "quotas": [{"type": "G2", "units": 4, "namespace": "team", "serviceClass": "c"}],
        },
    )
    assert run("import", str(folder)) == 2
    told = capsys.readouterr().err
    assert "type G2 is not known: give --resource G2=nvidia.com/gpu and --node-selector G2=" in told
    hints = (
        "--resource",
        "G2=example.com/g",
        "--node-selector",
        "G2=pool=g2",
        "--node-selector",
        "G2=zone=a",
    )
    assert run("import", str(folder), *hints) == 0
    told_all = capsys.readouterr()
    found = objects(told_all.out)
    profile = found["AcceleratorProfile", "2xg2"]["spec"]
    assert profile["resourceName"] == "example.com/g"
    assert profile["nodeSelector"] == {"pool": "g2", "zone": "a"}
    assert "capacity" not in profile
    assert found["AcceleratorProfile", "g2"]["spec"]["tier"] == "Burst"
    assert "guessed" not in told_all.out
    assert found["ServiceClass", "c"]["spec"]["models"][0]["percentile"] == 0.9
    spec = found["InferenceService", "s"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"], spec["keepAccelerator"]) == (1, 4, True)
    assert spec["allowedAccelerators"] == ["2xg2"]
    assert found["OptimizerPolicy", "default"]["spec"] == {
        "accelerators": "Limited",
        "solver": "Exact",
        "saturationPolicy": "RoundRobin",
        "keepThreshold": 0.1,
        "budget": {"maxCostPerHour": 5},
        "quotas": [{"type": "G2", "units": 4, "namespace": "team", "serviceClass": "c"}],
    }
    assert "Not carried over: avgLength (s)" in told_all.err


def test_means_are_carried_over_as_means(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    classes = [
        {"name": "Premium", "priority": 1, "model": m, "slo-ttft": 500, **p}
        for m, p in (("llama_8b", {"percentile": 0}), ("mixtral_8x7b", {}))
    ]
    servers = [row for row in example("server") if row["class"] == "Premium" and row["model"] != "llama_70b"]
    assert run("import", str(write(tmp_path, serviceclass=classes, server=servers))) == 0
    targets = objects(capsys.readouterr().out)["ServiceClass", "premium"]["spec"]["models"]
    assert [target.get("percentile") for target in targets] == [None, 0.95]


@pytest.mark.parametrize(
    ("stem", "change", "message"),
    [
        (
            "accelerator",
            {"name": "l40s"},
            "accelerator 'L40S' and accelerator 'l40s' would both be named 'l40s'",
        ),
        (
            "model",
            {"name": "Llama_8B"},
            "model 'llama_8b' and model 'Llama_8B' would both be named 'llama-8b'",
        ),
        (
            "server",
            {"name": "premium llama 8b"},
            "would both be named 'premium-llama-8b' in namespace default",
        ),
        ("server", {"name": "日本"}, "server '日本' has no letter or digit"),
    ],
)
def test_names_that_collide_are_told_with_both(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, stem: str, change: dict[str, str], message: str
) -> None:
    rows = example(stem)
    assert run("import", str(write(tmp_path, **{stem: [*rows, rows[0] | change]}))) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.out == ""


def test_values_that_the_custom_resources_do_not_take_are_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = example("model")
    folder = write(tmp_path, model=[rows[0] | {"maxBatchSize": 100_000}, *rows[1:]])
    assert run("import", str(folder)) == 2
    told = capsys.readouterr().err
    assert (
        "ModelProfile llama-8b (model llama_8b): spec.profiles[0].maxBatchSize: 100000 is not valid" in told
    )


def test_errors_in_the_files_are_those_of_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = example("model")
    folder = write(tmp_path, model=[rows[0] | {"acc": "V100"}, *rows[1:]])
    assert run("import", str(folder)) == 2
    assert "model-data.json: [0].acc: V100: is no accelerator" in capsys.readouterr().err


def test_json_is_a_list_and_remarks_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", str(EXAMPLE), "-o", "json") == 0
    told = capsys.readouterr()
    listed = json.loads(told.out)
    assert listed["kind"] == "List"
    assert len(listed["items"]) == 6 + 3 + 2 + 6
    assert "AcceleratorProfile h100: To be checked" in told.err


def test_a_folder_gets_a_file_for_each_kind_and_nothing_is_overwritten(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "made" / "here"
    assert run("import", str(EXAMPLE), "--output-dir", str(folder)) == 0
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in folder.iterdir()) == [
        "acceleratorprofile.yaml",
        "inferenceservice.yaml",
        "modelprofile.yaml",
        "serviceclass.yaml",
    ]
    assert len(objects((folder / "modelprofile.yaml").read_text())) == 3
    assert run("import", str(EXAMPLE), "--output-dir", str(folder)) == 2
    assert "acceleratorprofile.yaml is there already: remove it" in capsys.readouterr().err
    assert run("import", str(EXAMPLE), "--output-dir", "/proc/nowhere") == 2
    assert "name a folder that can be written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give the folder of the files, or --from-cluster"),
        ((str(EXAMPLE), "--from-cluster"), "give the folder of the files, or --from-cluster"),
        ((str(EXAMPLE), "-A"), "--all-namespaces goes with --from-cluster"),
        ((str(EXAMPLE), "--service-class", "x"), "--service-class goes with --from-cluster"),
        (("--from-cluster", "--resource", "a=b/c"), "--resource and --node-selector go with DIR"),
        (("--from-cluster", "-A", "-n", "x"), "--namespace and --all-namespaces: give one of them"),
        ((str(EXAMPLE), "--resource", "H100"), "--resource H100: must be TYPE=NAME"),
        ((str(EXAMPLE), "--node-selector", "H100=x"), "--node-selector H100=x: must be TYPE=KEY=VALUE"),
        ((str(EXAMPLE), "--resource", "V100=a/b"), "there is no accelerator of type V100: use one of A100"),
        (("/nowhere",), "/nowhere: is no folder: give the folder"),
    ],
)
def test_arguments_that_make_no_sense_are_told(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert run("import", *arguments) == 2
    assert message in capsys.readouterr().err


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=300))
def test_every_name_is_one_that_kubernetes_takes(text: str) -> None:
    name = object_name(text)
    if name:
        spec = SPECS["InferenceService"]
        spec.model_validate({"model": name, "serviceClass": name, "targetRef": {"name": name}})
        assert ".." not in name
        assert ".-" not in name
        assert "-." not in name
        assert object_name(name) == name


def test_names_that_are_right_stay() -> None:
    assert object_names("model", ["a-1.b", "c"]) == {"a-1.b": "a-1.b", "c": "c"}
    with pytest.raises(UsageError, match="rename one"):
        object_names("model", ["a_b", "a-b"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("H100", "H100"),
        ("2xH100", "H100"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("nvidia-a100-40gb", "A100-40GB"),
        ("A100", "A100"),
        ("NVIDIA-A10G", "A10G"),
        ("L4", "L4"),
        ("NVIDIA-L40S", "L40S"),
        ("L40", None),
        ("Tesla-T4", "T4"),
        ("Instinct_MI300X", "MI300X"),
        ("Gaudi2", "Gaudi2"),
        ("intel-gaudi3", "Gaudi3"),
        ("TPU", "TPU-v5e"),
        ("tpu-v5-lite-podslice", "TPU-v5e"),
        ("tpu-v6e-slice", "TPU-v6e"),
        ("tpu-v4", None),
        ("GH200", None),
        ("G2", None),
    ],
)
def test_common_accelerators_are_known_by_name(name: str, kind: str | None) -> None:
    found = known(name)
    assert (found.type if found else None) == kind


def test_long_remarks_are_wrapped_as_comments() -> None:
    manifest = Manifest("ModelProfile", "m", {"modelName": "m"}, remarks=("word " * 60,))
    text = as_yaml([manifest])
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert len(comments) > 2
    assert all(len(line) <= 110 for line in comments)
    assert yaml.safe_load(text)["spec"] == {"modelName": "m"}


# What runs in a cluster.


def container(image: str = "vllm/vllm-openai:v0.12.0", *args: str, **fields: Any) -> dict[str, Any]:
    limits = {"resources": {"limits": {NVIDIA: "1", "cpu": "8"}}}
    return {"name": "server", "image": image, "args": list(args), **limits, **fields}


def deployment(name: str = "chat", *containers: dict[str, Any], **pod: Any) -> dict[str, Any]:
    spec = {"containers": list(containers) or [container()], **pod}
    return {
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {"template": {"spec": spec}},
    }


def node(product: str = H100, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": product.lower(), "labels": {PRODUCT: product, **labels}},
        "status": {"allocatable": {NVIDIA: "8"}},
    }


@pytest.mark.parametrize(
    ("served", "preset", "model", "batch"),
    [
        (
            container("vllm/vllm-openai:v0.12", "--model=a/b", "--max-num-seqs=64"),
            "vllm",
            "a/b",
            "--max-num-seqs",
        ),
        (
            container("vllm/vllm-openai", "--model", "a/b", "--served-model-name", "chat"),
            "vllm",
            "chat",
            None,
        ),
        (container("vllm/vllm-openai", "a/b", "--dtype", "auto"), "vllm", "a/b", None),
        (container("me/own:1", "serve", "a/b", command=["vllm"]), "vllm", "a/b", None),
        (
            container(
                "me/own:1", "--model", "a/b", command=["python3", "-m", "vllm.entrypoints.openai.api_server"]
            ),
            "vllm",
            "a/b",
            None,
        ),
        (
            container("me/own:1", "exec vllm serve a/b \\\n  --max-num-seqs 8", command=["/bin/sh", "-c"]),
            "vllm",
            "a/b",
            None,
        ),
        (
            container(
                "lmsysorg/sglang:v0.5",
                "--model-path",
                "a/b",
                "--max-running-requests",
                "9",
                command=["python3", "-m", "sglang.launch_server"],
            ),
            "sglang",
            "a/b",
            "--max-running-requests",
        ),
        (container("ghcr.io/huggingface/text-generation-inference:3", "--model-id=a/b"), "tgi", "a/b", None),
        (
            container(
                "ghcr.io/huggingface/text-generation-inference:3",
                env=[{"name": "MODEL_ID", "value": "a/b"}, {"name": "MAX_BATCH_SIZE", "value": "4"}],
            ),
            "tgi",
            "a/b",
            "MAX_BATCH_SIZE",
        ),
        (
            container("vllm/vllm-openai", "--model=$(MODEL)", env=[{"name": "MODEL", "value": "a/b"}]),
            "vllm",
            "a/b",
            None,
        ),
        (
            container("me/own:1", "--model", "a/b", "--max-num-seqs", "8", ports=[{"containerPort": 8000}]),
            "vllm",
            "a/b",
            "--max-num-seqs",
        ),
    ],
)
def test_model_servers_are_recognised(
    served: dict[str, Any], preset: str, model: str, batch: str | None
) -> None:
    found = model_server({"containers": [{"name": "proxy", "image": "envoy"}, served]})
    assert found is not None
    assert (found.engine.preset, found.served_name, found.container) == (preset, model, "server")
    assert (found.batch_flag or found.batch_variable) == batch


@pytest.mark.parametrize(
    "other",
    [
        container("nginx:1", "--port=80"),
        container("vllm.example.com/billing:1"),
        container("me/own:1", "--model=x", ports=[{"containerPort": 8000}]),
        {"name": "bare"},
    ],
)
def test_other_containers_are_no_model_servers(other: dict[str, Any]) -> None:
    assert model_server({"containers": [other]}) is None


def test_a_limit_in_a_shell_command_is_left_to_its_owner() -> None:
    shell = container("me/own:1", "vllm serve a/b --max-num-seqs 8", command=["sh", "-c"])
    found = propose(Cluster(deployments=[deployment("chat", shell)]), None)
    [service] = found.manifests
    assert "batch" not in service.spec
    assert any("only its owner can set it" in remark for remark in service.remarks)


def test_a_deployment_is_proposed_with_what_scales_it_today() -> None:
    cluster = Cluster(
        deployments=[
            deployment(
                "chat",
                container("vllm/vllm-openai", "--model=meta/Llama-3.1-8B", "--max-num-seqs=64"),
                nodeSelector={PRODUCT: H100},
            ),
            deployment("web", container("nginx")),
        ],
        autoscalers=[
            {
                "metadata": {"name": "chat", "namespace": "prod"},
                "spec": {
                    "minReplicas": 2,
                    "maxReplicas": 9,
                    "scaleTargetRef": {"kind": "Deployment", "name": "chat"},
                },
            },
            {
                "metadata": {"name": "chat", "namespace": "other"},
                "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "chat"}},
            },
        ],
        nodes=[node()],
    )
    found = propose(cluster, None)
    profile, service = found.manifests
    parsed = objects(as_yaml(found.manifests))
    assert parsed["AcceleratorProfile", "h100"]["spec"] == {
        "type": "H100",
        "cost": 0,
        "resourceName": NVIDIA,
        "nodeSelector": {PRODUCT: H100},
    }
    assert "To be set: cost" in profile.remarks[0]
    assert service.namespace == "prod"
    assert service.spec == {
        "model": "llama-3.1-8b",
        "serviceClass": "standard",
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"},
        "mode": "Recommend",
        "minReplicas": 2,
        "maxReplicas": 9,
        "batch": {"mode": "Managed", "arg": "--max-num-seqs"},
    }
    told = "\n".join(service.remarks)
    assert "kubectl delete hpa chat -n prod" in told
    assert "ModelProfile llama-3.1-8b is to be created with modelName meta/Llama-3.1-8B" in told
    assert "ServiceClass standard is to have objectives" in told


def test_keda_is_named_with_its_scaled_object_and_not_its_autoscaler() -> None:
    reference = {"kind": "Deployment", "name": "chat"}
    cluster = Cluster(
        deployments=[deployment()],
        autoscalers=[
            {
                "metadata": {"name": "keda-hpa-queue", "namespace": "prod"},
                "spec": {"maxReplicas": 7, "scaleTargetRef": reference},
            }
        ],
        scaled_objects=[
            {
                "metadata": {"name": "queue", "namespace": "prod"},
                "spec": {"scaleTargetRef": {"name": "chat"}, "minReplicaCount": 0, "maxReplicaCount": 7},
            }
        ],
    )
    [service] = propose(cluster, None).manifests
    told = "\n".join(service.remarks)
    assert "kubectl delete scaledobject queue -n prod" in told
    assert "keda-hpa-queue goes too" in told
    assert "delete hpa" not in told
    assert (service.spec["minReplicas"], service.spec["maxReplicas"]) == (1, 7)


def test_what_is_there_is_used() -> None:
    def custom(name: str, **spec: Any) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": spec}

    profiles = [
        custom("any", resourceName=NVIDIA, nodeSelector={"gpu": "yes"}, multiplicity=1),
        custom("pair", resourceName=NVIDIA, nodeSelector={PRODUCT: H100}, multiplicity=2),
        custom("one", resourceName=NVIDIA, nodeSelector={PRODUCT: H100}, multiplicity=1),
        custom("four", resourceName=NVIDIA, nodeSelector={PRODUCT: H100}, multiplicity=4),
    ]
    two = container("lmsysorg/sglang", "--model-path=m", resources={"limits": {NVIDIA: "2"}})
    cluster = Cluster(
        deployments=[deployment("chat", two)],
        nodes=[node(gpu="yes")],
        accelerator_profiles=profiles,
        model_profiles=[custom("mine", modelName="m")],
        service_classes=[
            custom("gold", models=[{"model": "mine"}]),
            custom("other", models=[{"model": "x"}]),
        ],
    )
    [service] = propose(cluster, None).manifests
    assert (service.spec["model"], service.spec["serviceClass"]) == ("mine", "gold")
    assert service.spec["metrics"] == {"preset": "sglang"}
    told = "\n".join(service.remarks)
    assert "AcceleratorProfile pair." in told
    assert f"Its pod template needs nodeSelector {PRODUCT}={H100}." in told
    assert "is to be created" not in told
    [asked] = propose(cluster, "other").manifests
    assert asked.spec["serviceClass"] == "other"
    assert "ServiceClass other is to have objectives for model mine." in asked.remarks


def test_an_accelerator_that_cannot_be_told_is_not_made_up() -> None:
    cluster = Cluster(deployments=[deployment()], nodes=[node(), node("NVIDIA-L4")])
    [service] = propose(cluster, None).manifests
    assert any("its pods may run on NVIDIA-H100-80GB-HBM3, NVIDIA-L4" in each for each in service.remarks)
    bare = container(resources={})
    [service] = propose(Cluster(deployments=[deployment("chat", bare)]), None).manifests
    assert any("asks for no accelerator" in each for each in service.remarks)


def test_services_that_are_there_and_owners_are_told() -> None:
    owned = deployment("owned")
    owned["metadata"]["ownerReferences"] = [
        {"kind": "InferenceService", "name": "kserve", "controller": True}
    ]
    there = {"metadata": {"name": "mine", "namespace": "prod"}, "spec": {"targetRef": {"name": "chat"}}}
    found = propose(Cluster(deployments=[deployment(), owned], services=[there]), None)
    assert [manifest.name for manifest in found.manifests] == ["owned"]
    assert found.passed_over == ("prod/chat: InferenceService mine has it already",)
    assert any("InferenceService kserve controls this Deployment" in r for r in found.manifests[0].remarks)


def test_the_example_in_the_docs_is_what_is_proposed() -> None:
    args = ("--model=meta-llama/Llama-3.1-8B-Instruct", "--max-num-seqs=128")
    served = container("vllm/vllm-openai:v0.12.0", *args, name="vllm")
    scaled = {"scaleTargetRef": {"name": "chat"}, "minReplicaCount": 1, "maxReplicaCount": 8}
    cluster = Cluster(
        deployments=[deployment("chat", served, nodeSelector={PRODUCT: H100})],
        scaled_objects=[{"metadata": {"name": "chat-queue", "namespace": "prod"}, "spec": scaled}],
    )
    page = (EXAMPLE.parents[1] / "migration.md").read_text()
    assert f"```yaml\n{as_yaml(propose(cluster, None).manifests)}```" in page
