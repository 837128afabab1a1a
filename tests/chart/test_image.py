"""The steps of the Dockerfile, run as far as it goes without Docker."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import Cluster
from localcluster.process import free_ports

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def steps(instruction: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"(?m)^{instruction} (.+)$", joined)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix that the RUN steps of the build stage make."""
    place = tmp_path_factory.mktemp("image")
    source, builder = place / "src", place / "python"
    source.mkdir()
    for step in steps("COPY"):
        if step.startswith("--from"):
            continue
        *names, target = step.split()
        for name in names:
            origin = ROOT / name
            destination = source / target if origin.is_dir() else source / target / origin.name
            if origin.is_dir():
                shutil.copytree(origin, destination, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(origin, destination)
    subprocess.run([sys.executable, "-m", "venv", builder], check=True)
    environment = {**os.environ, "PATH": f"{builder}/bin:{os.environ['PATH']}"}
    for step in steps("RUN"):
        script = step.replace("/opt/inferscale", f"{place}/prefix").replace("/wheels", f"{place}/wheels")
        done = subprocess.run(
            ["sh", "-euc", script], check=False, cwd=source, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{step}\n{done.stdout}\n{done.stderr}"
    return place / "prefix"


@pytest.fixture
def operator(cluster: Cluster, installed: Path, tmp_path: Path) -> Iterator[str]:
    """Address of the installed operator, started by the image's command."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    cluster.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=30s")
    (port,) = free_ports(1)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [installed / "bin" / "inferscale", "run"],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env={
                "PATH": f"{installed}/bin:/usr/bin:/bin",
                "INFERSCALE_KUBECONFIG": str(cluster.kubeconfig),
                "INFERSCALE_PROMETHEUS_URL": "http://127.0.0.1:9",
                "INFERSCALE_LISTEN": f"127.0.0.1:{port}",
            },
        )
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (tmp_path / "log").read_text()


def test_what_the_image_holds_starts_and_is_healthy(operator: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"{operator}/healthz", timeout=5) as answer:  # noqa: S310
                assert answer.status == 200
                return
        except urllib.error.URLError:
            assert time.monotonic() < deadline, "no answer from /healthz"
            time.sleep(0.2)


def test_it_holds_the_project_and_neither_tests_nor_tools_to_build_with(installed: Path) -> None:
    packages = next((installed / "lib").glob("python3*/site-packages"))
    names = {path.name for path in packages.iterdir()}
    assert {"inferscale_operator", "inferscale_queueing", "inferscale_solver"} <= names
    assert (
        not {"pytest", "hypothesis", "ruff", "mypy", "pip", "setuptools", "hatchling", "matplotlib"} & names
    )


def test_the_image_runs_as_other_than_root_with_the_entry_point_of_the_package() -> None:
    assert steps("USER") == ["65532:65532"]
    assert steps("ENTRYPOINT") == ['["inferscale"]']
    assert "compile" not in steps("FROM")[-1]
