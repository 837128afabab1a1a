"""A local cluster for the tests that need one: one for the session, with a namespace for each module."""

import os
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import installation
from localcluster import Cluster, ToolsUnavailableError

ON_A_CLUSTER = tuple(Path(__file__).parent / folder for folder in ("chart", "cluster"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent in ON_A_CLUSTER:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster with the default nodes and Kubernetes' own objects only; pods are ready at once."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled():
            local = Cluster.up(
                f"test-{os.getpid()}", startup_seconds=0, owner_pid=os.getpid(), report=_report
            )
    except ToolsUnavailableError as error:
        if os.environ.get("INFERSCALE_REQUIRE_CLUSTER"):
            raise
        pytest.skip(f"no local cluster: {error}")
    yield local
    local.down()


@pytest.fixture(scope="module")
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace for the module."""
    module = re.sub(r"[^a-z0-9]+", "-", request.module.__name__.rpartition(".")[2].lower()).strip("-")
    name = f"{module[:40]}-{uuid.uuid4().hex[:6]}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, installation.LABEL)
    # Pods are refused until the controller manager has made the account that they run as.
    cluster.kubectl("wait", "serviceaccount/default", f"--namespace={name}", "--for=create", "--timeout=30s")
    yield name
    # What holds accelerators goes before the next module starts; the rest of a namespace takes seconds.
    cluster.kubectl("delete", "deployments,pods", "--all", f"--namespace={name}", "--now")
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def _report(text: str) -> None:
    sys.stderr.write(f"{text}\n")
