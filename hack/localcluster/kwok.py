"""kwok: it plays the kubelets of the emulated nodes."""

from __future__ import annotations

from pathlib import Path

from . import paths

SELECTOR = "kwok.x-k8s.io/node=fake"


def stages(startup_seconds: float) -> str:
    """The life of nodes and pods as kwok's configuration; a pod is ready after `startup_seconds`."""
    files = sorted(paths.STAGES.glob("*.yaml"))
    return "\n---\n".join(file.read_text() for file in files).replace(
        "STARTUP_SECONDS", f"{startup_seconds:g}"
    )


def command(kwok: Path, kubeconfig: Path, config: Path) -> list[str]:
    """The command line of kwok for a cluster."""
    return [
        str(kwok),
        f"--kubeconfig={kubeconfig}",
        f"--config={config}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={SELECTOR}",
        # Without the lease the controller manager takes the nodes for dead after 50 s.
        "--node-lease-duration-seconds=40",
        "--node-ip=127.0.0.1",
        "--v=WARN",
    ]
