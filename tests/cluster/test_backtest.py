"""The backtest against a real Prometheus that holds a history of its own."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import yaml
from click.testing import CliRunner

from backtest_builders import ITL_S, TTFT_S, document, exported, service
from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.backtest.cache import Cache
from inferscale_operator.backtest.profile import fit
from inferscale_operator.backtest.pull import History, Puller
from inferscale_operator.backtest.services import Described, read_services
from inferscale_operator.backtest.span import make_span
from inferscale_operator.cli import commands
from inferscale_operator.metrics.presets import VLLM
from inferscale_operator.metrics.prometheus import HistoryError, Prometheus
from inferscale_operator.metrics.queries import Query, queries

BEGIN = 1_750_003_200
STEP = 60
HOURS = 4
END = BEGIN + HOURS * 3600
SCRAPE = 15
OUTAGE = (BEGIN + 7200, BEGIN + 7920)
RATES = (300.0, 300.0, 120.0, 600.0)
"""Requests per minute of all replicas, by hour."""
POLICY = {"tickSeconds": 120, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}}}


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
def url(backfilled: Callable[[tuple[str, ...]], str]) -> str:
    return backfilled(HISTORY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def figures(url: str, folder: Path) -> dict[str, Any]:
    """What the command says of all services, with its report in the folder."""
    content = document(service("chat"), service("idle"), service("bare"), policy=POLICY)
    (folder / "services.yaml").write_text(yaml.safe_dump(content))
    arguments = ["--prometheus", url, "--from", BEGIN, "--to", END, "--services", folder / "services.yaml"]
    arguments += [
        "--step",
        STEP,
        "--cache",
        folder / "cache",
        "--report",
        folder / "report.html",
        "-o",
        "json",
    ]
    found = CliRunner().invoke(commands, ["backtest", *(str(each) for each in arguments)])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def service_in(figures: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in figures["history"]["services"] if each["service"] == f"default/{name}")


def pull(url: str, folder: Path, begin: int, end: int, step: int, tell: Callable[[str], None]) -> History:
    settings = MetricsSettings(window_seconds=step)
    prometheus = Prometheus(url)
    puller = Puller(prometheus, Cache(folder), "", {"default"}, END + 86_400, tell)
    try:
        return puller.pull(settings, [VLLM], make_span(str(begin), str(end), step, END))
    finally:
        prometheus.close()


def range_queries(url: str) -> float:
    """How many Prometheus has answered, as it counts them itself."""
    name = "prometheus_http_requests_total{"
    lines = requests.get(f"{url}/metrics", timeout=30).text.splitlines()
    return sum(float(each.split()[-1]) for each in lines if each.startswith(name) and "query_range" in each)


def chat(folder: Path) -> Described:
    path = folder / "chat.yaml"
    path.write_text(yaml.safe_dump(document(service("chat"))))
    return read_services(path)


def test_the_fitted_profile_is_the_load_that_was(url, folder):
    given = chat(folder)
    found = fit(given, pull(url, folder / "profile", BEGIN, END, STEP, lambda _: None)).profiles[
        "default/chat"
    ]
    hours = np.arange(HOURS * 3600 // STEP) * STEP // 3600
    # Beside a change of the rate or the pods a step has something of both.
    first = np.flatnonzero(np.diff(hours)) + 1
    changing = np.isin(np.arange(hours.size), [*first, *(first - 1)])
    settled = found.known & ~changing
    assert settled.sum() >= hours.size - 20
    assert found.rate[settled] == pytest.approx(np.array(RATES)[hours][settled], rel=0.01)
    assert found.input_tokens[settled] == pytest.approx(128)
    assert found.output_tokens[settled] == pytest.approx(64)
    assert found.itl[settled] == pytest.approx(1000 * ITL_S)
    assert found.ttft[settled] == pytest.approx(1000 * TTFT_S)
    assert found.replicas[settled] == pytest.approx(np.where(hours == 3, 3, 2)[settled])


def test_an_outage_of_prometheus_is_a_gap_and_never_a_load_of_zero(figures):
    for name in ("chat", "idle"):
        found = service_in(figures, name)
        [gap] = found["gaps"]
        begin, end = (datetime.fromisoformat(gap[side]).timestamp() for side in ("from", "to"))
        assert OUTAGE[0] - STEP <= begin <= OUTAGE[0] + STEP
        assert OUTAGE[1] - STEP <= end <= OUTAGE[1] + 2 * STEP
        assert "vllm:num_requests_running" in gap["why"]
        assert found["known"] == pytest.approx(1 - (end - begin) / (END - BEGIN), abs=1e-3)
    assert service_in(figures, "chat")["rate"]["mean"] == pytest.approx(340, rel=0.02)


def test_what_was_costs_what_its_pods_cost_where_it_is_known(figures):
    history = figures["policies"][0]
    by_service = {each["service"]: each for each in history["services"]}
    assert by_service["default/chat"]["cost"] == pytest.approx(10 * (2 * 3 + 3 - 2 * 0.217), rel=0.02)
    assert by_service["default/idle"]["cost"] == pytest.approx(10 * (4 - 0.217), rel=0.02)


def test_the_product_is_compared_with_what_was(figures):
    history, product = figures["policies"]
    assert (history["policy"], product["policy"]) == ("history", "inferscale")
    assert 0 < product["total"]["costRatio"] < 0.9
    assert product["total"]["arrived"] == pytest.approx(history["total"]["arrived"], rel=0.02)
    itl = service_in(figures, "chat")["latency"]["itl"]
    assert itl["observed"] == pytest.approx(1000 * ITL_S)
    assert itl["bias"] == pytest.approx(itl["predicted"] - itl["observed"], abs=0.02)


def test_a_service_whose_series_are_missing_is_left_out_by_name(figures):
    [line] = figures["history"]["leftOut"]
    missing = "vllm:request_success_total, vllm:request_prompt_tokens_count"
    assert line.startswith(f"default/bare: Prometheus has no samples of {missing} of pods default/bare-*")


def test_the_report_shows_what_was_measured_beside_what_was_predicted(figures, folder):
    text = (folder / "report.html").read_text()
    assert text.count("</i>measured</span>") == 2 * len(figures["history"]["services"])
    assert "default/chat: 2025-06-15 18:00:00 to" in text
    assert "nan" not in text.split("<body>")[1].split("<script>")[0]


def test_a_pull_that_was_interrupted_asks_for_what_is_missing_alone(url, tmp_path):
    class StopError(Exception):
        pass

    def interrupt(line: str) -> None:
        if line.startswith("Chunk 2"):
            raise StopError

    asked = range_queries(url)
    with pytest.raises(StopError):
        pull(url, tmp_path, BEGIN, END, 15, interrupt)
    of_two_chunks = range_queries(url) - asked
    said: list[str] = []
    pull(url, tmp_path, BEGIN, END, 15, said.append)
    queries_of_all = range_queries(url) - asked
    assert [each.split(": ")[1] for each in said[:2]] == ["15 queries, 15 from the cache"] * 2
    assert of_two_chunks == 2 * 15
    assert queries_of_all == 15 * len(said)


def test_more_points_than_prometheus_gives_at_once_are_no_obstacle(url, tmp_path):
    prometheus = Prometheus(url)
    question = queries(VLLM, MetricsSettings())[Query.IN_FLIGHT]
    with pytest.raises(HistoryError, match="exceeded maximum resolution of 11,000 points"):
        prometheus.ask_history(Query.IN_FLIGHT, question, END - 12_000, END, 1)
    prometheus.close()
    history = pull(url, tmp_path, END - 48_000, END, 4, lambda _: None)
    assert history.span.count == 12_000
    row = history.values["vllm"][Query.IN_FLIGHT]["default", "idle-77c9-aaaaa"]
    assert np.nanmax(row) == 0
