"""Helm against the local cluster."""

import os
import subprocess
from functools import cache

import pytest
import yaml

from chart_builders import ADDRESS, CHART, SYSTEM, Helm, Render, sets
from localcluster import Cluster


@pytest.fixture(scope="session")
def helm(cluster: Cluster) -> Helm:
    """Runs Helm on the cluster; `check=False` for what must be refused.

    `HELM=FILE` takes another Helm than the local cluster's, such as an older one.
    """
    program = os.environ.get("HELM") or cluster.tools["helm"]

    def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program, *arguments, "--kubeconfig", cluster.kubeconfig],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """The objects that the chart renders with some values, of some templates only where files are named."""

    @cache
    def rendered(values: tuple[str, ...], files: tuple[str, ...], options: tuple[str, ...]) -> str:
        shown = [part for file in files for part in ("--show-only", f"templates/{file}")]
        given = sets(ADDRESS, *values)
        return helm("template", "inferscale", str(CHART), "-n", SYSTEM, *given, *shown, *options).stdout

    def objects(*values: str, files: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> list[dict]:
        return [item for item in yaml.safe_load_all(rendered(values, files, options)) if item]

    return objects
