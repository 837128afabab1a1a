"""The control plane by kind, where Docker runs: the same interface as `controlplane`, by other means."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .errors import ClusterError


def is_available() -> bool:
    """Whether there is kind, and a Docker that answers."""
    if not (shutil.which("kind") and shutil.which("docker")):
        return False
    try:
        return (
            subprocess.run(["docker", "info"], check=False, capture_output=True, timeout=20).returncode == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def create_command(name: str, kubeconfig: Path) -> list[str]:
    """The command that makes the cluster and writes its kubeconfig; kind's API server is on 127.0.0.1."""
    return [
        *("kind", "create", "cluster", "--name", _name(name)),
        *("--kubeconfig", str(kubeconfig), "--wait", "120s"),
    ]


def delete_command(name: str) -> list[str]:
    """The command that removes the cluster. The kubeconfig goes with the state folder."""
    return ["kind", "delete", "cluster", "--name", _name(name), "--kubeconfig", "/dev/null"]


def start(name: str, kubeconfig: Path) -> None:
    """Make the cluster; one that was left over under that name is replaced.

    Raises:
        ClusterError: kind failed; with what it said.
    """
    subprocess.run(delete_command(name), check=False, capture_output=True)
    done = subprocess.run(create_command(name, kubeconfig), check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ClusterError(f"kind could not make the cluster {name}:\n{(done.stdout + done.stderr).strip()}")


def _name(name: str) -> str:
    return f"inferscale-{name}"
