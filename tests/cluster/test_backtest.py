"""The backtest against a real Prometheus that holds a history of its own."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from backtest_builders import document, exported, service
from click.testing import CliRunner

from inferscale_operator.cli import main
from inferscale_operator.commands.backtest import backtest
from localcluster import ToolsUnavailableError, process, tools

BEGIN = 1_750_003_200
STEP = 60
HOURS = 4
END = BEGIN + HOURS * 3600
QUERIES = 15
SCRAPE = 15
OUTAGE = (BEGIN + 7200, BEGIN + 7920)
RATES = (300.0, 300.0, 120.0, 600.0)
"""Requests per minute of all replicas, by hour."""


def finished(replicas: Callable[[float], int]) -> Callable[[float], float]:
    """A counter of what one replica has finished."""
    counts, total = [], 0.0
    for number in range(HOURS * 240 + 241):
        counts.append(total)
        at = BEGIN - 3600 + number * SCRAPE
        hour = min(max((at - BEGIN) // 3600, 0), HOURS - 1)
        total += RATES[hour] / 60 * SCRAPE / max(replicas(at), 1)
    return lambda at: counts[round((at - BEGIN + 3600) / SCRAPE)]


def replicas(at: float) -> int:
    """Two, and three in the last hour."""
    return 3 if at >= BEGIN + 3 * 3600 else 2


def scrapes(begin: int, end: int) -> list[int]:
    return [at for at in range(begin, end + 1, SCRAPE) if not OUTAGE[0] < at <= OUTAGE[1]]


HISTORY = (
    exported("chat-6d4f-aaaaa", scrapes(BEGIN - 600, END), finished(replicas)),
    exported("chat-6d4f-bbbbb", scrapes(BEGIN - 600, END), finished(replicas)),
    exported("chat-6d4f-ccccc", scrapes(BEGIN + 3 * 3600, END), finished(replicas)),
    exported("idle-77c9-aaaaa", scrapes(BEGIN - 600, END), lambda _: 40.0, running=lambda _: 0.0),
    exported(
        "bare-5f6b-aaaaa",
        scrapes(BEGIN - 600, END),
        finished(replicas),
        without=("vllm:request_success_total", "vllm:request_prompt_tokens"),
    ),
    "# EOF\n",
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        programs = tools.ensure(("prometheus", "promtool"))
    except ToolsUnavailableError as error:
        if os.environ.get("INFERSCALE_REQUIRE_CLUSTER"):
            raise
        pytest.skip(f"no Prometheus: {error}")
    folder = tmp_path_factory.mktemp("prometheus")
    text = folder / "exported.om"
    text.write_text("".join(HISTORY))
    backfill = ["tsdb", "create-blocks-from", "openmetrics", text, folder / "data"]
    subprocess.run([programs["promtool"], *backfill], check=True, capture_output=True)
    (folder / "prometheus.yml").write_text("")
    address = f"127.0.0.1:{process.free_ports(1)[0]}"
    supervised = folder / "supervised"
    process.start_supervisor(supervised, owner_pid=os.getpid())
    try:
        process.start_component(
            supervised,
            "prometheus",
            [
                programs["prometheus"],
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address={address}",
                "--log.level=warn",
            ],
        )
        ready = f"http://{address}/-/ready"
        process.wait_for_component(supervised, "prometheus", lambda: process.answers(ready), 60)
        yield f"http://{address}"
    finally:
        process.stop_supervisor(supervised)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(url: str, folder: Path, cache: Path, *more: object, services: Any = None, code: int = 0) -> Any:
    path = folder / "services.yaml"
    path.write_text(yaml.safe_dump(services or document(service("chat"), service("idle"))))
    arguments = ["--prometheus", url, "--from", BEGIN, "--to", END, "--services", path, "--step", STEP]
    found = CliRunner().invoke(backtest, [str(each) for each in (*arguments, "--cache", cache, *more)])
    assert found.exit_code == code, found.output
    return found


@pytest.fixture(scope="module")
def figures(url: str, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return json.loads(run(url, tmp_path_factory.mktemp("run"), cache, "-o", "json").stdout)


def history_of(figures: dict[str, Any], name: str) -> dict[str, Any]:
    return next(s for s in figures["history"]["services"] if s["service"] == f"default/{name}")


def test_show(figures):
    print(json.dumps(figures, indent=1))
