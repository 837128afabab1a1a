from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.backtest.cache import Asked, Cache, digest
from inferscale_operator.backtest.pull import SETTLED_SECONDS, History, Puller
from inferscale_operator.backtest.span import Span
from inferscale_operator.errors import UsageError
from inferscale_operator.metrics.presets import TGI, VLLM
from inferscale_operator.metrics.prometheus import HistoryError
from inferscale_operator.metrics.queries import Query, queries

STEP = 60
SPAN = Span(0, 800, STEP)
SETTINGS = MetricsSettings(window_seconds=STEP)
QUERIES = len(queries(VLLM, SETTINGS))
ASKED = Asked("http://a", "", "up", 60, 240, 60)


class Server:
    """Answers with the time itself, and fails when it is told to."""

    url = "http://prometheus"

    def __init__(self) -> None:
        self.asked: list[tuple[Query, int, int]] = []
        self.fails_after = 10**9

    def ask_history(self, query: Query, _: object, begin: int, end: int, step: int) -> Any:
        if len(self.asked) >= self.fails_after:
            raise HistoryError(f"Prometheus {self.url}: history of {query.value}: gone")
        self.asked.append((query, begin, end))
        times = range(begin, end + 1, step)
        return {("n", "a"): {at: float(at) for at in times if at != 600}, ("other", "b"): {begin: 1.0}}


@pytest.fixture
def server() -> Server:
    return Server()


def pull(
    server: Server, folder: Path, span: Span = SPAN, tenant: str = "", now: float = 1e9, **of: Any
) -> tuple[History, list[str]]:
    said: list[str] = []
    puller = Puller(server, Cache(folder), tenant, {"n"}, now, said.append)  # type: ignore[arg-type]
    settings = of.get("settings", SETTINGS)
    return puller.pull(settings, [of.get("preset", VLLM)], span), said


def test_every_query_is_asked_once_for_every_chunk(server: Server, tmp_path: Path) -> None:
    history, said = pull(server, tmp_path)
    assert len(server.asked) == len(set(server.asked)) == 3 * QUERIES
    row = history.values["vllm"][Query.ARRIVALS]["n", "a"]
    assert np.flatnonzero(np.isnan(row)).tolist() == [9]
    assert row[10:].tolist() == [float(SPAN.time(index)) for index in range(10, SPAN.count)]
    assert said[1] == f"Chunk 2 of 3, up to 1970-01-01 11:59:00Z: {QUERIES} queries, 0 from the cache"


def test_samples_of_other_namespaces_are_not_taken(server: Server, tmp_path: Path) -> None:
    history, _ = pull(server, tmp_path)
    assert list(history.values["vllm"][Query.SAMPLED]) == [("n", "a")]


def test_what_was_pulled_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    first, _ = pull(server, tmp_path)
    asked = len(server.asked)
    again, said = pull(server, tmp_path)
    assert len(server.asked) == asked
    assert said[0].endswith(f"{QUERIES} queries, {QUERIES} from the cache")
    for query, series in first.values["vllm"].items():
        for key, row in series.items():
            np.testing.assert_array_equal(row, again.values["vllm"][query][key])


def test_a_pull_that_was_interrupted_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.fails_after = QUERIES + 4
    with pytest.raises(HistoryError):
        pull(server, tmp_path)
    server.fails_after = 10**9
    pull(server, tmp_path)
    assert len(server.asked) == len(set(server.asked)) == 3 * QUERIES


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": digest({"X-Scope-OrgID": "b"})},
        {"settings": MetricsSettings(window_seconds=STEP, matchers={"cluster": "b"})},
        {"preset": TGI},
        {"span": Span(0, 800, 30)},
    ],
)
def test_another_tenant_query_or_step_is_asked_for_anew(
    server: Server, tmp_path: Path, other: dict[str, Any]
) -> None:
    pull(server, tmp_path)
    asked = len(server.asked)
    pull(server, tmp_path, **other)
    assert len(server.asked) > asked


def test_what_may_still_come_in_is_not_kept(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        pull(server, tmp_path, now=SPAN.end + SETTLED_SECONDS - 1)
    assert len(server.asked) == 4 * QUERIES


def test_a_longer_span_asks_for_what_is_new_alone(server: Server, tmp_path: Path) -> None:
    pull(server, tmp_path, Span(0, 719, STEP))
    asked = len(server.asked)
    pull(server, tmp_path, SPAN)
    assert {begin for _, begin, _ in server.asked[asked:]} == {720 * STEP}


def test_a_file_that_is_damaged_is_no_answer(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(ASKED, {("n", "a"): {60: 1.5, 240: 2.5}})
    assert cache.get(ASKED) == {("n", "a"): {60: 1.5, 240: 2.5}}
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    assert cache.get(ASKED) is None


def test_a_cache_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--cache .*file/cache: Not a directory: name a folder"):
        Cache(tmp_path / "file" / "cache").prepare()


def test_the_key_of_a_cache_shows_no_secret() -> None:
    assert "secret" not in digest({"Authorization": "secret"})
    assert digest({"a": "1"}) != digest({"a": "2"})
