"""The connection to Prometheus, against servers that behave in every way but the right one."""

import gzip
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics import prometheus
from inferscale_operator.metrics.load import loads
from inferscale_operator.metrics.presets import VLLM
from inferscale_operator.metrics.prometheus import HistoryError, Prometheus, SettingsError
from inferscale_operator.metrics.queries import Query, queries
from inferscale_operator.metrics.workload import ReadyPod, Workload
from inferscale_operator.snapshot import LoadState, UnknownCause

NOW = 1_750_000_000.25
SETTINGS = MetricsSettings()
ASKED = queries(VLLM, SETTINGS)
UNDER_WAY = prometheus._AT_A_TIME


def vector(*samples: tuple[str, str, str]) -> dict:
    """The answer with samples of namespace, pod and value."""
    result = [
        {"metric": {"namespace": namespace, "pod": pod}, "value": [NOW, value]}
        for namespace, pod, value in samples
    ]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


class Server:
    """A Prometheus that answers what it is told to."""

    def __init__(self) -> None:
        self.respond: Callable[[Server], tuple[int, bytes] | None] = lambda _: (200, b"")
        self.requests: list[BaseHTTPRequestHandler] = []
        self.headers: dict[str, str] = {}
        self.closing = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805
                self.requests.append(handler)
                response = self.respond(self)
                if response is None:
                    handler.close_connection = True
                    return
                handler.send_response(response[0])
                for name, value in ({"Content-Length": str(len(response[1]))} | self.headers).items():
                    handler.send_header(name, value)
                handler.end_headers()
                handler.wfile.write(response[1])

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def answer(self, body: object, status: int = 200) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.respond = lambda _: (status, data)

    def hang(self) -> None:
        self.respond = lambda server: server.closing.wait(30) and None

    def hang_up(self) -> None:
        self.respond = lambda _: None

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Prometheus]]:
    clients = []

    def connect(*args: object, **kwargs: object) -> Prometheus:
        clients.append(Prometheus(*args, **kwargs))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def unused_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def only_error(answers) -> str:
    """What every answer has as its error, behind the name of the query."""
    assert list(answers) == list(ASKED)
    for query, answer in answers.items():
        assert query.value in answer.error
        assert answer.values == {}
    (error,) = {answer.error.split(f"query of {query.value}: ")[1] for query, answer in answers.items()}
    return error


def test_every_query_is_asked_once_as_of_the_same_moment(server, connect):
    server.answer(vector(("n", "a", "1.5"), ("m", "b", "2")))
    answers = connect(f"{server.url}/select/0/prometheus/").ask(SETTINGS, [VLLM], NOW)["vllm"]
    assert {query: (answer.values, answer.error) for query, answer in answers.items()} == {
        query: ({("n", "a"): 1.5, ("m", "b"): 2.0}, None) for query in ASKED
    }
    asked = [urlsplit(request.path) for request in server.requests]
    assert {url.path for url in asked} == {"/select/0/prometheus/api/v1/query"}
    assert len({parse_qs(url.query)["query"][0] for url in asked}) == len(ASKED) == len(asked)
    assert {parse_qs(url.query)["time"][0] for url in asked} == {"1750000000.250"}


def test_values_that_are_not_finite_are_no_samples(server, connect):
    server.answer(vector(("n", "a", "NaN"), ("n", "b", "+Inf"), ("n", "c", "-Inf"), ("n", "d", "0")))
    answers = connect(server.url).ask(SETTINGS, [VLLM], NOW)["vllm"]
    assert answers[Query.ITL_SUM].values == {("n", "d"): 0.0}


def test_pods_are_read_from_the_labels_of_the_policy(server, connect):
    sample = {"metric": {"ns": "n", "instance": "a"}, "value": [NOW, "3"]}
    server.answer({"status": "success", "data": {"resultType": "vector", "result": [sample]}})
    answers = connect(server.url).ask(
        MetricsSettings(namespace_label="ns", pod_label="instance"), [VLLM], NOW
    )["vllm"]
    assert answers[Query.ARRIVALS].values == {("n", "a"): 3.0}


def test_a_refused_connection_fails_every_query_and_leaves_every_service_unknown(connect):
    answers = connect(unused_address()).ask(SETTINGS, [VLLM], NOW)["vllm"]
    assert "Connection refused" in only_error(answers)
    load = loads({"vllm": answers}, {"s": Workload("n", (ReadyPod("a"),))}, SETTINGS, NOW)["s"]
    assert load.state is LoadState.UNKNOWN
    assert "Connection refused" in load.message


def test_a_host_that_does_not_exist_fails_every_query(connect):
    assert only_error(connect("http://prometheus.invalid:9090").ask(SETTINGS, [VLLM], NOW)["vllm"])


def test_after_a_broken_connection_the_other_queries_are_not_tried(server, connect):
    server.hang_up()
    assert only_error(connect(server.url).ask(SETTINGS, [VLLM], NOW)["vllm"])
    assert len(server.requests) <= UNDER_WAY


def test_a_server_that_does_not_answer_is_left_when_the_time_is_up(server, connect):
    server.hang()
    answers = connect(server.url, timeout_seconds=0.1).ask(SETTINGS, [VLLM], NOW)["vllm"]
    assert only_error(answers) == "no answer within 0.1 s"
    assert len(server.requests) <= UNDER_WAY


@pytest.mark.parametrize("head", [b"Content-Length: 1000\r\n\r\n", b"X-Long:"], ids=["body", "head"])
def test_a_server_that_sends_its_answer_bit_by_bit_is_left_when_the_time_is_up(server, connect, head):
    def drip(server: Server) -> None:
        handler = server.requests[-1]
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + head)
        while not server.closing.wait(0.02):
            try:
                handler.wfile.write(b" ")
            except OSError:
                break

    server.respond = drip
    answers = connect(server.url, timeout_seconds=0.2).ask(SETTINGS, [VLLM], NOW)["vllm"]
    assert only_error(answers) == "no answer within 0.2 s"
    assert len(server.requests) <= UNDER_WAY


def test_an_answer_may_be_compressed(server, connect):
    body = gzip.compress(json.dumps(vector(*(("n", f"p{i}", "1.5") for i in range(200)))).encode())
    server.headers["Content-Encoding"] = "gzip"
    server.answer(body)
    answers = connect(server.url).ask(SETTINGS, [VLLM], NOW)["vllm"]
    assert {len(answer.values) for answer in answers.values()} == {200}


@pytest.mark.parametrize("length", ["10", "1000"])
def test_a_body_that_is_shorter_than_announced_is_an_error(server, connect, length):
    server.headers["Content-Length"] = length
    server.answer(b'{"sta')
    assert only_error(connect(server.url).ask(SETTINGS, [VLLM], NOW)["vllm"])


def test_the_time_limit_is_for_all_queries_together(server, connect, monkeypatch):
    monkeypatch.setattr(prometheus, "_AT_A_TIME", 1)
    # Once at the beginning, and for each query before it is sent and when its answer arrives.
    seconds = itertools.count(0, 2)
    monkeypatch.setattr(prometheus, "clock", SimpleNamespace(monotonic=lambda: next(seconds)))
    server.answer(vector(("n", "a", "1")))
    answers = connect(server.url, timeout_seconds=10).ask(SETTINGS, [VLLM], NOW)["vllm"]
    assert [query for query, answer in answers.items() if not answer.error] == list(ASKED)[:2]
    assert answers[Query.TTFT_COUNT].error.endswith("no answer within 10 s")
    assert [parse_qs(urlsplit(request.path).query)["timeout"] for request in server.requests] == [
        ["8s"],
        ["4s"],
    ]


def test_a_connection_that_works_again_is_used_again(server, connect):
    client = connect(server.url)
    server.hang_up()
    client.ask(SETTINGS, [VLLM], NOW)["vllm"]
    server.answer(vector(("n", "a", "1")))
    assert all(answer.error is None for answer in client.ask(SETTINGS, [VLLM], NOW)["vllm"].values())


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"warnings": ["store thanos-2 did not answer"]}, "store thanos-2 did not"),
        ({"isPartial": True}, "isPartial"),
    ],
)
def test_an_answer_that_a_federated_backend_calls_incomplete_is_an_error(server, connect, extra, said):
    server.answer(vector(("n", "a", "1")) | extra)
    answers = connect(server.url).ask(SETTINGS, [VLLM], NOW)["vllm"]
    error = only_error(answers)
    assert error.startswith("the answer is not complete: ")
    assert said in error
    assert {answer.cause for answer in answers.values()} == {UnknownCause.ANSWER_INCOMPLETE}
    load = loads({"vllm": answers}, {"s": Workload("n", (ReadyPod("a"),))}, SETTINGS, NOW)["s"]
    assert (load.state, load.cause) == (LoadState.UNKNOWN, UnknownCause.ANSWER_INCOMPLETE)


def test_notes_that_leave_nothing_out_are_no_error(server, connect):
    server.answer(
        vector(("n", "a", "1")) | {"warnings": [], "isPartial": False, "infos": ["might not be a counter"]}
    )
    assert all(
        answer.error is None for answer in connect(server.url).ask(SETTINGS, [VLLM], NOW)["vllm"].values()
    )


def test_an_answer_that_is_cut_off_is_an_error(server, connect):
    whole = json.dumps(vector(("n", "a", "1"), ("n", "b", "2"))).encode()
    server.answer(whole[: len(whole) // 2])
    answers = connect(server.url).ask(SETTINGS, [VLLM], NOW)["vllm"]
    assert only_error(answers) == "the answer is not one of Prometheus' query API"


def test_one_query_that_fails_leaves_the_others(server, connect, monkeypatch):
    monkeypatch.setattr(prometheus, "_AT_A_TIME", 1)
    good, bad = (
        json.dumps(vector(("n", "a", "1"))).encode(),
        b'{"status": "error", "error": "too many samples"}',
    )
    server.respond = lambda server: (422, bad) if len(server.requests) == 2 else (200, good)
    answers = connect(server.url).ask(SETTINGS, [VLLM], NOW)["vllm"]
    assert [query for query, answer in answers.items() if answer.error] == [Query.IN_FLIGHT]
    assert answers[Query.IN_FLIGHT].error == (
        f"Prometheus {server.url}: query of requests in flight: HTTP status 422: too many samples"
    )


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"Unauthorized", "HTTP status 401: Unauthorized"),
        (503, b"<html>\n" + b"x" * 10_000, "HTTP status 503: <html> xxx"),
        (200, b"<html>Sign in</html>", "not one of Prometheus' query API"),
        (200, b"[]", "not one of Prometheus' query API"),
        (200, b'{"status": "success"}', "not one of Prometheus' query API"),
        (200, b'{"status": "success", "data": {"result": null}}', "not an instant vector"),
        (200, b'{"status": "success", "data": {"result": [1750000000, "1"]}}', "not an instant vector"),
        (200, json.dumps(vector(("n", "a", "many"))).encode(), "not an instant vector"),
        (200, b'{"data": {"result": [{"metric": {}, "value": [1, "1"]}]}}', "not an instant vector"),
    ],
)
def test_what_is_no_answer_of_prometheus_is_an_error_in_one_short_line(server, connect, status, body, said):
    server.answer(body, status)
    error = only_error(connect(server.url).ask(SETTINGS, [VLLM], NOW)["vllm"])
    assert said in error
    assert len(error) < 400
    assert "\n" not in error


def test_a_token_is_read_anew_for_every_query(server, connect, tmp_path):
    token = tmp_path / "token"
    token.write_text("first\n")
    server.answer(vector())
    client = connect(server.url, token_file=token)
    client.ask(SETTINGS, [VLLM], NOW)["vllm"]
    token.write_text("second\n")
    client.ask(SETTINGS, [VLLM], NOW)["vllm"]
    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == ["Bearer first"] * len(ASKED) + ["Bearer second"] * len(ASKED)


def test_a_token_that_is_gone_is_an_error_and_nothing_is_sent_without_it(server, connect, tmp_path):
    token = tmp_path / "token"
    token.write_text("first")
    client = connect(server.url, token_file=token)
    token.unlink()
    assert (
        only_error(client.ask(SETTINGS, [VLLM], NOW)["vllm"])
        == f"token file {token}: No such file or directory"
    )
    assert server.requests == []


def test_a_broken_token_is_not_shown(server, connect, tmp_path):
    token = tmp_path / "token"
    token.write_text("first")
    client = connect(server.url, token_file=token)
    token.write_text("secret\nsecret")
    error = only_error(client.ask(SETTINGS, [VLLM], NOW)["vllm"])
    assert str(token) in error
    assert "secret" not in error


def test_a_netrc_does_not_replace_the_token(server, connect, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "token").write_text("mine")
    server.answer(vector())
    connect(server.url, token_file=tmp_path / "token").ask(SETTINGS, [VLLM], NOW)["vllm"]
    assert {request.headers["Authorization"] for request in server.requests} == {"Bearer mine"}


def test_headers_are_sent_with_every_query(server, connect):
    server.answer(vector())
    connect(server.url, headers={"X-Scope-OrgID": "team a"}).ask(SETTINGS, [VLLM], NOW)["vllm"]
    assert {request.headers["X-Scope-OrgID"] for request in server.requests} == {"team a"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "prometheus:9090",
        "ftp://prometheus",
        "http://",
        "http://a:b",
        "http://a:99999",
        "http://a b",
        "http://[::1",
    ],
)
def test_a_url_that_is_none_is_refused_with_an_example(url):
    with pytest.raises(SettingsError, match=r"^Prometheus URL '.*': it must be like http://prometheus"):
        Prometheus(url)


@pytest.mark.parametrize("url", ["http://a?x=1", "http://a#b"])
def test_a_url_with_more_than_a_path_is_refused(url):
    with pytest.raises(SettingsError, match="it must not have a query"):
        Prometheus(url)


def test_a_password_in_the_url_is_refused_and_not_shown():
    with pytest.raises(SettingsError, match="must not hold a user or password") as refused:
        Prometheus("https://me:secret@prometheus")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file or directory"), ("", "no certificates"), ("text", "no certificates")],
)
def test_a_ca_file_without_certificates_is_refused(tmp_path, content, said):
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=rf"^Prometheus CA file {path}: .*{said}"):
        Prometheus("https://prometheus", ca_file=path)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file or directory"), ("", "one token"), ("two words", "one token"), ("é", "one token")],
)
def test_a_token_file_without_a_token_is_refused(tmp_path, content, said):
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=rf"^Prometheus token file {path}: .*{said}"):
        Prometheus("https://prometheus", token_file=path)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"": "x"}, "header ''"),
        ({"a b": "x"}, "header 'a b'"),
        ({"X-Scope-OrgID": "secret\r\nX: y"}, "header X-Scope-OrgID: its value"),
        ({"X-Scope-OrgID": ""}, "header X-Scope-OrgID: its value"),
    ],
)
def test_headers_that_cannot_be_sent_are_refused_without_their_value(headers, said):
    with pytest.raises(SettingsError, match=f"^Prometheus {said}") as refused:
        Prometheus("https://prometheus", headers=headers)
    assert "secret" not in str(refused.value)


def test_two_authorizations_are_refused(tmp_path):
    (tmp_path / "token").write_text("t")
    with pytest.raises(
        SettingsError, match="header authorization: it cannot be given together with a token file"
    ):
        Prometheus("https://prometheus", headers={"authorization": "Basic x"}, token_file=tmp_path / "token")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_is_none_is_refused(timeout):
    with pytest.raises(SettingsError, match=r"^Prometheus timeout: .* is not a positive number of seconds"):
        Prometheus("https://prometheus", timeout_seconds=timeout)


def matrix(*series: tuple[str, str, list[tuple[float, str]]]) -> dict:
    """The answer with series of namespace, pod and values at times."""
    result = [
        {"metric": {"namespace": namespace, "pod": pod}, "values": [list(each) for each in values]}
        for namespace, pod, values in series
    ]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


def history(client: Prometheus) -> dict:
    return client.ask_history(Query.ARRIVALS, ASKED[Query.ARRIVALS], 600, 1200, 60)


def test_what_was_is_asked_as_of_many_times_at_once(server, connect):
    server.answer(matrix(("n", "a", [(600, "1.5"), (660, "NaN"), (720, "2")]), ("m", "b", [(1200, "0")])))
    client = connect(f"{server.url}/prometheus")
    assert history(client) == {("n", "a"): {600: 1.5, 720: 2.0}, ("m", "b"): {1200: 0.0}}
    [request] = server.requests
    asked = urlsplit(request.path)
    assert asked.path == "/prometheus/api/v1/query_range"
    query = {name: values[0] for name, values in parse_qs(asked.query).items()}
    assert query["query"] == ASKED[Query.ARRIVALS].expression
    assert (query["start"], query["end"], query["step"]) == ("600", "1200", "60")
    assert query["timeout"] == "10s"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"status": "error", "error": "query timed out"}, 503, "HTTP status 503: query timed out"),
        ({"status": "error", "error": "many matches"}, 422, "HTTP status 422: many matches"),
        (b"<html>", 200, "the answer is not one of Prometheus' query API"),
        (vector(("n", "a", "1")), 200, "the answer is not a range vector"),
        (matrix() | {"warnings": ["store 2 is gone"]}, 200, "the answer is not complete: store 2 is gone"),
    ],
)
def test_what_was_cannot_be_had_and_the_error_says_why(server, connect, body, status, message):
    server.answer(body, status)
    with pytest.raises(HistoryError) as error:
        history(connect(server.url))
    assert str(error.value).startswith(f"Prometheus {server.url}: history of arrivals: {message}")


def test_a_server_that_does_not_answer_for_what_was_is_left_in_time(server, connect):
    server.hang()
    with pytest.raises(HistoryError, match=r"no answer within 0\.2 s"):
        history(connect(server.url, timeout_seconds=0.2))
    with pytest.raises(HistoryError, match="Connection refused"):
        history(connect(unused_address()))
