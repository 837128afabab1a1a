"""A local cluster: bring it up, use it, take it down."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import controlplane, kind, kwok, nodes, paths, process, tools
from .errors import ClusterError
from .progress import Report, say

_ATTEMPTS = 3


@dataclass(frozen=True)
class Cluster:
    """A running local cluster.

    Attributes:
        name: unique among the user's clusters.
        directory: its state: kubeconfig, logs, data; gone when the cluster is.
        backend: `binaries` (plain processes) or `kind`.
        tools: the paths of kubectl, helm, prometheus, promtool and so on.
    """

    name: str
    directory: Path
    backend: str
    tools: Mapping[str, Path]

    @classmethod
    def up(
        cls,
        name: str = "default",
        *,
        node_file: Path = paths.DEFAULT_NODES,
        startup_seconds: float = 3.0,
        owner_pid: int | None = None,
        backend: str = "auto",
        wait: bool = True,
        report: Report = say,
    ) -> Cluster:
        """Bring the cluster up, or return it if it runs.

        Args:
            name: a DNS label of at most 40 characters.
            node_file: the emulated nodes, as `nodes` describes.
            startup_seconds: from the start of a pod to its readiness, unless its annotation
                `inferscale.dev/emulated-startup-seconds` says otherwise; in whole seconds, rounded down.
            owner_pid: the cluster ends when this process has ended.
            backend: `kind`, `binaries`, or `auto`: kind where Docker runs.
            wait: return only when the nodes are ready and pods can be created.
            report: is told what is going on.

        Raises:
            ToolsUnavailableError: the programs are not there and cannot be built.
            ClusterError: something else is wrong; nothing is left running.
        """
        directory = paths.cluster_dir(name)
        manifest = nodes.manifest(nodes.read(node_file))
        if backend == "auto":
            backend = choose_backend()
        programs = tools.ensure(tools.needed(backend), report)
        cluster = cls(name, directory, backend, programs)
        with process.file_lock(paths.clusters_dir() / ".lock"):
            running = process.is_supervised(directory)
            if not running:
                process.remove_stale(directory)
                process.start_supervisor(directory, owner_pid)
        if running:
            report(f"cluster {name} runs already")
            process.wait_until(
                cluster._settled_file.exists,
                120,
                f"another process to bring up cluster {name}",
                lambda: f"if none does: `hack/cluster down --name {name}`",
            )
            return cls.get(name)
        try:
            cluster._start(manifest, startup_seconds, report)
            if wait:
                cluster._wait()
            cluster._settled_file.write_text(json.dumps(cluster._description(owner_pid)))
        except BaseException:
            cluster.down()
            raise
        return cluster

    @classmethod
    def get(cls, name: str = "default") -> Cluster:
        """The running cluster of that name.

        Raises:
            ClusterError: there is none.
        """
        directory = paths.cluster_dir(name)
        if not process.is_supervised(directory):
            raise ClusterError(f"no cluster {name} runs: start it with `hack/cluster up --name {name}`")
        description = read_description(directory)
        if not description:
            raise ClusterError(f"cluster {name} is still coming up")
        programs = {tool: Path(path) for tool, path in description["tools"].items()}
        return cls(name, directory, description["backend"], programs)

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002 - as in subprocess.run
        check: bool = True,
        timeout_s: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as administrator; its output is text.

        Raises:
            ClusterError: it failed, and `check` is set; with what it said.
        """
        done = subprocess.run(
            [
                str(self.tools["kubectl"]),
                f"--kubeconfig={self.kubeconfig}",
                # The user's own cache is by address, and ports are used again by other clusters.
                f"--cache-dir={self.directory / 'kubectl-cache'}",
                *arguments,
            ],
            check=False,
            capture_output=True,
            text=True,
            input=input,
            timeout=timeout_s,
        )
        if check and done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    def apply_nodes(self, node_file: Path) -> None:
        """Create the nodes of a file, or change those that exist to what it says."""
        self._apply_nodes(nodes.manifest(nodes.read(node_file)))

    def service_account_kubeconfig(self, namespace: str, name: str, path: Path) -> Path:
        """Write a kubeconfig with a day's token of a service account to `path`, and return it."""
        token = self.kubectl("create", "token", name, f"--namespace={namespace}", "--duration=24h").stdout
        view = self.kubectl("config", "view", "--raw", "--minify", "--output=json").stdout
        cluster = json.loads(view)["clusters"][0]["cluster"]
        path.touch(mode=0o600)
        path.write_text(
            controlplane.kubeconfig(
                cluster["server"], cluster["certificate-authority-data"], token.strip(), namespace
            )
        )
        return path

    def start(self, name: str, *argv: str | Path, env: Mapping[str, str] | None = None) -> None:
        """Run a program that ends with the cluster; its output goes to `log_file(name)`."""
        process.start_component(self.directory, name, argv, env)

    def stop(self, name: str) -> None:
        """End a program that `start` has started; returns when it has ended."""
        process.stop_component(self.directory, name)

    def states(self) -> dict[str, str]:
        """The state of each of the cluster's programs by its name: `running`, or `exited STATUS`."""
        return process.component_states(self.directory)

    def log_file(self, name: str) -> Path:
        """The file with the output of one of the cluster's programs."""
        return self.directory / "logs" / f"{name}.log"

    def down(self) -> None:
        """Stop everything and remove the state; returns when it is done."""
        process.stop_supervisor(self.directory)

    @property
    def _settled_file(self) -> Path:
        return self.directory / "cluster.json"

    def _description(self, owner_pid: int | None) -> dict[str, object]:
        server = self.kubectl("config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}")
        return {
            "backend": self.backend,
            "server": server.stdout,
            "owner": owner_pid,
            "tools": {name: str(path) for name, path in self.tools.items()},
        }

    def _start(self, manifest: str, startup_seconds: float, report: Report) -> None:
        if self.backend == "kind":
            report(f"starting cluster {self.name} with kind")
            (self.directory / "teardown.json").write_text(json.dumps([kind.delete_command(self.name)]))
            kind.start(self.name, self.kubeconfig)
        else:
            report(f"starting cluster {self.name} with Kubernetes {tools.KUBERNETES} on 127.0.0.1")
            self._start_processes()
        config = self.directory / "kwok.yaml"
        config.write_text(kwok.stages(startup_seconds))
        self.start("kwok", *kwok.command(self.tools["kwok"], self.kubeconfig, config))
        self._apply_nodes(manifest)

    def _start_processes(self) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                controlplane.start(self.directory, self.tools)
            except ClusterError as error:
                # Another process can take a port between our choice and the server's start.
                if "address already in use" not in str(error) or attempt == _ATTEMPTS - 1:
                    raise
                for name in self.states():
                    self.stop(name)
                shutil.rmtree(self.directory / "etcd", ignore_errors=True)
            else:
                return

    def _apply_nodes(self, manifest: str) -> None:
        apply = (
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=localcluster",
            "--filename=-",
        )
        self.kubectl(*apply, input=manifest)
        self.kubectl(*apply, "--subresource=status", input=manifest)

    def _wait(self) -> None:
        selector = f"--selector={nodes.LABEL}=true"
        if self.kubectl("get", "nodes", selector, "--output=name").stdout:
            self.kubectl("wait", "nodes", selector, "--for=condition=Ready", "--timeout=60s")
        # Pods are refused until the controller manager has made the account that they run as.
        self.kubectl("wait", "serviceaccount/default", "--for=create", "--timeout=60s")


def choose_backend() -> str:
    """`kind` where Docker runs and kind is on PATH, else `binaries`."""
    return "kind" if kind.is_available() else "binaries"


def read_description(directory: Path) -> dict[str, Any]:
    """What `up` has noted of a cluster; empty while it comes up."""
    try:
        description: dict[str, Any] = json.loads((directory / "cluster.json").read_text())
    except FileNotFoundError:
        return {}
    return description


def all_running() -> list[str]:
    """The names of the user's running clusters; what killed ones have left is removed."""
    names = []
    with process.file_lock(paths.clusters_dir() / ".lock"):
        for directory in sorted(path for path in paths.clusters_dir().iterdir() if path.is_dir()):
            if process.is_supervised(directory):
                names.append(directory.name)
            else:
                process.remove_stale(directory)
    return names
