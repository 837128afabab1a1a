"""The programs of a local cluster: cached, found on PATH, or built from one Go module."""

from __future__ import annotations

import functools
import hashlib
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import gotoolchain, paths, process
from .errors import ToolsUnavailableError
from .progress import BuildProgress, Report, minutes, say

KUBERNETES = "1.36.3"
# What a build from cold prints, one line a package.
_PACKAGES = 3500
_LDFLAGS = " ".join(
    [
        "-s -w",
        f"-X k8s.io/component-base/version.gitVersion=v{KUBERNETES}",
        f"-X k8s.io/component-base/version.gitMajor={KUBERNETES.split('.')[0]}",
        f"-X k8s.io/component-base/version.gitMinor={KUBERNETES.split('.')[1]}",
    ]
)


@dataclass(frozen=True)
class Tool:
    """A program of the local cluster.

    Attributes:
        package: the Go package that it is built from.
        version: the arguments that make it print its version.
        accepted: what the printed version must match for a program on PATH to be used.
    """

    package: str
    version: tuple[str, ...]
    accepted: str


_KUBERNETES = rf"v{re.escape(KUBERNETES.rpartition('.')[0])}\."
TOOLS: Mapping[str, Tool] = {
    "etcd": Tool("go.etcd.io/etcd/server/v3", ("--version",), r"etcd Version: 3\.[6-9]"),
    "kube-apiserver": Tool("k8s.io/kubernetes/cmd/kube-apiserver", ("--version",), _KUBERNETES),
    "kube-controller-manager": Tool(
        "k8s.io/kubernetes/cmd/kube-controller-manager", ("--version",), _KUBERNETES
    ),
    "kube-scheduler": Tool("k8s.io/kubernetes/cmd/kube-scheduler", ("--version",), _KUBERNETES),
    "kubectl": Tool("k8s.io/kubernetes/cmd/kubectl", ("version", "--client"), _KUBERNETES),
    "kwok": Tool("sigs.k8s.io/kwok/cmd/kwok", ("--version",), r"v0\.([89]|\d\d)"),
    "prometheus": Tool(
        "github.com/prometheus/prometheus/cmd/prometheus", ("--version",), r"version (2\.(4[2-9]|5\d)|3)\."
    ),
    "promtool": Tool(
        "github.com/prometheus/prometheus/cmd/promtool", ("--version",), r"version (2\.(4[2-9]|5\d)|3)\."
    ),
    "helm": Tool("helm.sh/helm/v4/cmd/helm", ("version",), r"v(3\.1\d|4)\."),
}
_CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def needed(backend: str) -> tuple[str, ...]:
    """The names of the programs that a cluster needs; kind brings its own control plane."""
    return tuple(name for name in TOOLS if backend != "kind" or name not in _CONTROL_PLANE)


def bin_dir() -> Path:
    """The folder of the built programs; another state of the Go module is another folder."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((paths.TOOLS_MODULE / name).read_bytes())
    return paths.cache_dir() / "tools" / digest.hexdigest()[:12]


def find(names: Collection[str] = tuple(TOOLS)) -> dict[str, Path]:
    """Those of the programs that are there already: in the cache, or on PATH in a version that will do."""
    found = {}
    for name in names:
        cached = bin_dir() / name
        if path := cached if cached.exists() else _on_path(name):
            found[name] = path
    return found


def ensure(names: Collection[str] = tuple(TOOLS), report: Report = say) -> dict[str, Path]:
    """The paths of the programs by name; those that are missing are built, which can take 12 minutes.

    Raises:
        ToolsUnavailableError: there is no Go toolchain to be had, or the build failed.
    """
    found = find(names)
    if len(found) < len(names):
        waiting = functools.partial(report, "another process builds the programs; waiting for it")
        with process.file_lock(bin_dir().with_suffix(".lock"), waiting):
            if missing := [name for name in names if name not in find(names)]:
                _build(missing, report)
        found = find(names)
    return found


def build_command(go: str | Path, names: Collection[str], out: Path) -> list[str]:
    """The one `go build` that makes the programs in `out`."""
    return [
        *(str(go), "build", "-v", "-mod=readonly", "-trimpath", "-ldflags", _LDFLAGS),
        *("-tags", "remove_all_sd,enable_kubernetes_sd", "-o", f"{out}/"),
        *(TOOLS[name].package for name in names),
    ]


@functools.cache
def _on_path(name: str) -> Path | None:
    program = shutil.which(name)
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *TOOLS[name].version], check=False, capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Path(program) if re.search(TOOLS[name].accepted, done.stdout + done.stderr) else None


def _build(names: Collection[str], report: Report) -> None:
    go = gotoolchain.ensure(report)
    target = bin_dir()
    report(
        f"building {', '.join(names)} of Kubernetes {KUBERNETES} into {target}: "
        "about 12 minutes on 2 cores, once for this user"
    )
    prefix = f"build-{target.name}-"
    for killed in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(killed, ignore_errors=True)
    target.mkdir(exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as folder:
        _run_build(build_command(go, names, Path(folder)), report)
        for name in names:
            (Path(folder) / built_name(TOOLS[name].package)).replace(target / name)
    report(f"built in {minutes(time.monotonic() - started)}")


def built_name(package: str) -> str:
    """The name of the program that `go build` makes: the last part of the path that is not a version."""
    return re.sub(r"/v\d+$", "", package).rpartition("/")[2]


def _run_build(command: list[str], report: Report) -> None:
    with (
        BuildProgress(report, _PACKAGES) as progress,
        subprocess.Popen(
            command,
            cwd=paths.TOOLS_MODULE,
            env=gotoolchain.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as build,
    ):
        try:
            messages = [line for line in build.stdout or () if not progress.count(line)]
        except BaseException:
            build.kill()
            raise
    if build.returncode != 0:
        raise ToolsUnavailableError(
            f"the programs of the local cluster could not be built:\n{''.join(messages[-15:])}"
            f"in {paths.TOOLS_MODULE}: {shlex.join(command)}"
        )
