"""A Prometheus that holds what was written into it beforehand, for the tests that ask one about a past."""

import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

import pytest

from localcluster import ToolsUnavailableError, process, tools

READY_WITHIN_S = 60

Backfilled = Callable[[Iterable[str]], str]
"""Starts a Prometheus with such lines in the OpenMetrics format, or empty; gives its URL."""


@pytest.fixture(scope="module")
def backfilled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backfilled]:
    """Starts Prometheuses, each with samples of its own; they end with the module."""
    try:
        programs = tools.ensure(("prometheus", "promtool"))
    except ToolsUnavailableError as error:
        if os.environ.get("INFERSCALE_REQUIRE_CLUSTER"):
            raise
        pytest.skip(f"no Prometheus: {error}")
    with ExitStack() as ends:

        def start(exported: Iterable[str]) -> str:
            folder = tmp_path_factory.mktemp("prometheus")
            if lines := "".join(exported):
                text = folder / "exported.om"
                text.write_text(lines)
                backfill = ["tsdb", "create-blocks-from", "openmetrics", text, folder / "data"]
                subprocess.run([programs["promtool"], *backfill], check=True, capture_output=True)
            (folder / "prometheus.yml").write_text("")
            address = f"127.0.0.1:{process.free_ports(1)[0]}"
            supervised = folder / "supervised"
            process.start_supervisor(supervised, owner_pid=os.getpid())
            ends.callback(process.stop_supervisor, supervised)
            process.start_component(
                supervised,
                "prometheus",
                [
                    programs["prometheus"],
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    "--storage.tsdb.retention.time=100y",
                    f"--web.listen-address={address}",
                    "--web.enable-remote-write-receiver",
                    "--log.level=warn",
                ],
            )
            ready = f"http://{address}/-/ready"
            process.wait_for_component(
                supervised, "prometheus", lambda: process.answers(ready), READY_WITHIN_S
            )
            return f"http://{address}"

        yield start
