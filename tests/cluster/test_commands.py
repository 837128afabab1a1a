"""The commands on a real cluster: what runs is imported, decided, looked at, exported and planned again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from localcluster import Cluster
from loop_objects import Object, rate_per_replica
from loop_world import World, running

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "plan"
PROGRAMS = Path(sys.executable).parent
RATE = 1.5 * rate_per_replica("l40s")


def inferscale(
    world: World, *arguments: str, kubeconfig: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody who calls it."""
    asked = {**os.environ, "KUBECONFIG": str(kubeconfig or world.cluster.kubeconfig)}
    return subprocess.run(
        [sys.executable, "-c", "from inferscale_operator.cli import main; main()", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=asked,
    )


def read(done: subprocess.CompletedProcess[str], code: int = 0) -> Object:
    """The JSON that a command printed."""
    assert done.returncode == code, done.stderr
    printed: Object = json.loads(done.stdout)
    return printed


@pytest.fixture(scope="module")
def world(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A Deployment under an autoscaler, for which nothing is there yet but the profiles and a class."""
    with running(cluster, namespace, tmp_path_factory.mktemp("commands"), {"chat": RATE}) as made:
        autoscaler = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "chat", "namespace": namespace},
            "spec": {
                "minReplicas": 1,
                "maxReplicas": 9,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"},
                "metrics": [
                    {
                        "type": "Resource",
                        "resource": {
                            "name": "cpu",
                            "target": {"type": "Utilization", "averageUtilization": 50},
                        },
                    }
                ],
            },
        }
        made.apply(
            made.objects.deployment("chat", "l40s", 1, container={"args": ["--max-num-seqs=128"]}),
            autoscaler,
        )
        made.demands["chat"].set(RATE)
        yield made


@pytest.fixture(scope="module")
def proposed(world: World) -> str:
    """What is proposed for it."""
    done = inferscale(
        world, "import", "--from-cluster", "-n", world.namespace, "--service-class", world.named("standard")
    )
    assert done.returncode == 0, done.stderr
    assert f"Proposed: 1 InferenceService in {world.namespace}." in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def decided(world: World, proposed: str) -> World:
    """The world with the proposal applied, and decided upon."""
    world.cluster.kubectl("apply", "--filename=-", input=proposed)
    world.start_operator()
    world.eventually(
        lambda: (
            world.condition("chat", "Ready").get("status") == "True"
            and world.entry("chat").get("observedItl") is not None
        ),
        "a decision for what was proposed",
    )
    return world


def test_files_are_imported_as_what_the_server_takes(world: World) -> None:
    done = inferscale(world, "import", str(EXAMPLE), "-n", world.namespace)
    assert done.returncode == 0, done.stderr
    answer = world.cluster.kubectl("create", "--dry-run=server", "-f", "-", "-o", "name", input=done.stdout)
    assert len(answer.stdout.split()) == 6 + 3 + 2 + 6


def test_a_deployment_is_proposed_with_what_is_there_and_what_scales_it(world: World, proposed: str) -> None:
    [service] = yaml.safe_load_all(proposed)
    assert service["metadata"] == {"name": "chat", "namespace": world.namespace}
    assert service["spec"] == {
        "model": world.named("llm"),
        "serviceClass": world.named("standard"),
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"},
        "mode": "Recommend",
        "minReplicas": 1,
        "maxReplicas": 9,
        "batch": {"mode": "Managed", "arg": "--max-num-seqs"},
    }
    assert f"AcceleratorProfile {world.named('l40s')}." in proposed
    assert f"kubectl delete hpa chat -n {world.namespace}" in proposed


def test_what_is_proposed_is_decided_and_nothing_patched(decided: World) -> None:
    assert decided.entry("chat")["currentAccelerator"] == decided.named("l40s")
    assert decided.replicas("chat") == 1
    again = inferscale(decided, "import", "--from-cluster", "-n", decided.namespace)
    assert "Passed over" in again.stderr
    assert "InferenceService chat has it already" in again.stderr


def test_status_says_that_all_is_well(decided: World) -> None:
    told = read(inferscale(decided, "status", "-n", decided.namespace, "-o", "json"))
    checks = {check["name"]: check for check in told["checks"]}
    assert told["well"], told
    assert checks["custom resources"]["well"], checks
    assert checks["last tick"]["well"], checks
    assert checks["Prometheus"]["well"], checks
    [row] = told["services"]
    assert (row["key"], row["mode"], row["ready"]) == (f"{decided.namespace}/chat", "Recommend", True)


def test_top_shows_the_service_and_the_accelerators(decided: World) -> None:
    seen = read(inferscale(decided, "top", "-n", decided.namespace, "-o", "json"))
    [line] = seen["services"]
    assert line["accelerator"] == decided.named("l40s")
    assert line["arrivalRate"] > 0
    assert line["itl"]["observed"] > 0
    used = {each["type"]: each["used"] for each in seen["types"]}
    assert used[decided.named("l40s").upper()] == 1
    table = inferscale(decided, "top", "--once")
    assert f"{decided.namespace}/chat" in table.stdout
    assert "\x1b" not in table.stdout


def test_an_export_is_planned_as_the_operator_recommends(decided: World, tmp_path: Path) -> None:
    exported = inferscale(decided, "export", "--output-dir", str(tmp_path / "now"))
    assert exported.returncode == 0, exported.stderr
    plan = read(inferscale(decided, "plan", str(tmp_path / "now"), "-o", "json"))
    [line] = [a for a in plan["allocations"] if a["server"] == f"{decided.namespace}/chat"]
    entry = decided.entry("chat")
    assert line["accelerator"] == entry["targetAccelerator"]
    # The load that is recorded may be a minute old.
    assert abs(line["numReplicas"] - entry["targetReplicas"]) <= 1


def test_a_backtest_reads_the_services_of_the_cluster_and_what_prometheus_remembers(
    decided: World, tmp_path: Path
) -> None:
    key, found = f"{decided.namespace}/chat", []

    def known() -> bool:
        done = inferscale(
            decided,
            *("backtest", "--from-cluster", "--prometheus", decided.prometheus_url, "--from", "2m"),
            *("--step", "10", "--policy", "static", "--cache", str(tmp_path), "-o", "json"),
        )
        figures = json.loads(done.stdout) if done.returncode == 0 else {"history": {"services": []}}
        found[:] = [each for each in figures["history"]["services"] if each["service"] == key]
        return bool(found) and found[0]["rate"]["mean"] > 0.5 * RATE

    decided.eventually(known, "a backtest of what has been")
    assert found[0]["accelerator"] == decided.named("l40s")
    assert found[0]["replicas"]["most"] == 1
    assert found[0]["latency"]["itl"]["observed"] > 0


def test_kubectl_finds_the_commands(decided: World) -> None:
    plugin = PROGRAMS / "kubectl-inferscale"
    if not plugin.exists():
        pytest.skip("the package is not installed with its programs")
    done = subprocess.run(
        [str(decided.cluster.tools["kubectl"]), "inferscale", "status", "-n", decided.namespace],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **os.environ,
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
            "KUBECONFIG": str(decided.cluster.kubeconfig),
        },
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "All is well." in done.stdout


def test_somebody_who_may_list_nothing_is_told_what_to_ask_for(world: World, tmp_path: Path) -> None:
    nobody = world.cluster.service_account_kubeconfig(world.namespace, "default", tmp_path / "nobody")
    done = inferscale(world, "top", "--once", kubeconfig=nobody)
    assert done.returncode == 2
    assert "may not be listed" in done.stderr
    assert "kubectl auth can-i list optimizerpolicies.inferscale.dev" in done.stderr
    assert done.stderr.count("\n") == 1
    told = read(inferscale(world, "status", "-o", "json", kubeconfig=nobody), code=0)
    assert {check["well"] for check in told["checks"]} <= {True, None}


def test_an_api_server_that_is_not_there_is_told(world: World, tmp_path: Path) -> None:
    away = tmp_path / "away"
    server = json.loads(world.cluster.kubectl("config", "view", "--raw", "--output=json").stdout)
    server["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    away.write_text(json.dumps(server))
    done = inferscale(world, "status", kubeconfig=away)
    assert done.returncode == 2
    assert "the API server does not answer" in done.stderr
    assert "Traceback" not in done.stderr
