"""Prometheus as a client sees it: all queries at one moment, within one time limit, never a guess."""

from __future__ import annotations

import io
import math
import re
import ssl
import threading
import time as clock
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as ReadTimeoutError
from urllib3.util import Retry

from inferscale_operator.api.metric_preset import MetricPreset
from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.deadline import limit_heads
from inferscale_operator.errors import UsageError
from inferscale_operator.metrics.queries import Answer, Answers, Query, Question, SampleKey, queries
from inferscale_operator.snapshot import UnknownCause

_LONGEST_TEXT = 300
_CHUNK_BYTES = 65536
_AT_A_TIME = 2
"""Queries: while the answer to one is read, the server computes the next."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[!-~]([\t -~]*[!-~])?")


class SettingsError(UsageError):
    """A setting of the connection cannot be used; the message names it."""


class HistoryError(UsageError):
    """What has been cannot be had; the message names server, query and reason."""


class Prometheus:
    """A connection to one Prometheus, or to what speaks its query API. It blocks: use it from one thread.

    Args:
        url: base address, `http://` or `https://`, with a path if the API has one before `/api/v1`.
        token_file: file with a bearer token. It is read for every query, as service account tokens rotate.
        ca_file: PEM file with the authorities that the server's certificate is checked against; None: those
            that come with the client.
        server_name: name in the server's certificate, and that it is asked for; None: the host of `url`.
        certificate_file: PEM file with a client certificate, read again for every `ask`, as it rotates.
        key_file: PEM file with its key; None: it is in `certificate_file`.
        headers: sent with every query, such as `X-Scope-OrgID`.
        timeout_seconds: for all queries of one `ask` together.

    Raises:
        SettingsError: a setting cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        token_file: str | Path | None = None,
        ca_file: str | Path | None = None,
        server_name: str | None = None,
        certificate_file: str | Path | None = None,
        key_file: str | Path | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        if not (math.isfinite(timeout_seconds) and timeout_seconds > 0):
            raise SettingsError(f"Prometheus timeout: {timeout_seconds} is not a positive number of seconds")
        self.url = _checked_url(url)
        self._timeout_seconds = timeout_seconds
        self._session = requests.Session()
        # Otherwise a .netrc would replace the token, and proxies for the outside be used inside the cluster.
        self._session.trust_env = False
        if ca_file is not None:
            self._session.verify = _checked_ca_file(ca_file)
        if certificate_file is not None:
            self._session.cert = _checked_certificate(certificate_file, key_file)
        # The client drops all of the response but its result, and waits for each piece of it anew.
        self._session.hooks["response"].append(self._read_response)
        self._last = threading.local()
        self._deadline = 0.0
        self._client = PrometheusConnect(
            self.url,
            headers=_checked_headers(headers or {}, token_file is not None),
            auth=None if token_file is None else _TokenFile(Path(token_file)),
            session=self._session,
            # `read=False`: a read that times out is to be told from a connection that fails.
            retry=Retry(0, read=False),
        )
        if server_name is not None:
            self._session.mount(self.url, _NamedServer(server_name))
        for adapter in self._session.adapters.values():
            if isinstance(adapter, HTTPAdapter):
                limit_heads(adapter.poolmanager)

    def ask(
        self, settings: MetricsSettings, presets: Sequence[MetricPreset], time: float
    ) -> dict[str, Answers]:
        """Ask every query of some presets as of `time` (Unix seconds); the answers, by name of the preset.

        Never raises for what the server or the network does: the answers then carry the error. When the
        connection fails or the time is up, the queries that are left are not tried.
        """
        questions = [
            (preset.name, query, question)
            for preset in presets
            for query, question in queries(preset, settings).items()
        ]
        self._deadline = clock.monotonic() + self._timeout_seconds
        broken: list[str] = []

        def answer(asked: tuple[str, Query, Question]) -> Answer:
            _, query, question = asked
            try:
                if not broken:
                    return Answer(self._values(question, time))
            except requests.Timeout:
                broken.append(f"no answer within {self._timeout_seconds:g} s")
            except (requests.ConnectionError, _TokenError) as error:
                broken.append(_reason(error))
            except _IncompleteError as error:
                return self._failure(query, str(error), UnknownCause.ANSWER_INCOMPLETE)
            except (requests.RequestException, ValueError) as error:
                return self._failure(query, _reason(error))
            return self._failure(query, broken[0])

        answers: dict[str, dict[Query, Answer]] = {preset.name: {} for preset in presets}
        with ThreadPoolExecutor(_AT_A_TIME, "prometheus") as pool:
            for (preset, query, _), found in zip(questions, pool.map(answer, questions), strict=True):
                answers[preset][query] = found
        # What lies between may forget an idle connection before the next time.
        self._session.close()
        return dict(answers)

    def ask_history(
        self, query: Query, question: Question, begin: int, end: int, step: int
    ) -> dict[SampleKey, dict[int, float]]:
        """Ask a query as of many times.

        Args:
            query: The query, for messages.
            question: What is asked.
            begin: The first time, Unix seconds.
            end: The last time at most, Unix seconds.
            step: Seconds from one time to the next.

        Returns:
            By key and time the finite values.

        Raises:
            HistoryError: the server does not answer, refuses, or leaves something out.
        """
        self._deadline = clock.monotonic() + self._timeout_seconds
        ends = [datetime.fromtimestamp(at, UTC) for at in (begin, end)]
        try:
            result = self._result(
                lambda params, left: self._client.custom_query_range(
                    question.expression, *ends, str(step), params=params, timeout=left
                )
            )
            return _matrix(result, question.labels)
        except requests.Timeout as error:
            raise self._no_history(query, f"no answer within {self._timeout_seconds:g} s") from error
        except (requests.RequestException, OSError, ValueError) as error:
            raise self._no_history(query, _reason(error)) from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _failure(self, query: Query, reason: str, cause: UnknownCause = UnknownCause.QUERY_FAILED) -> Answer:
        return Answer(error=f"Prometheus {self.url}: query of {query.value}: {reason}", cause=cause)

    def _read_response(self, response: requests.Response, **_: object) -> None:
        response.raw = io.BytesIO(_body(response, self._deadline))
        self._last.response = response

    def _no_history(self, query: Query, reason: str) -> HistoryError:
        return HistoryError(f"Prometheus {self.url}: history of {query.value}: {reason}")

    def _values(self, question: Question, time: float) -> dict[SampleKey, float]:
        result = self._result(
            lambda params, left: self._client.custom_query(
                question.expression, params={"time": f"{time:.3f}", **params}, timeout=left
            )
        )
        return _vector(result, question.labels)

    def _result(self, ask: Callable[[dict[str, str], float], Any]) -> Any:
        """What the server says to a query that is given its parameters and the time that is left."""
        left = self._deadline - clock.monotonic()
        if left <= 0:
            raise requests.Timeout
        # The server is told to give up as well, lest slow queries pile up on it.
        params = {"timeout": f"{max(1, math.ceil(left))}s"}
        try:
            result = ask(params, left)
        except PrometheusApiClientException as error:
            raise ValueError(_refusal(self._last.response)) from error
        except (requests.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError("the answer is not one of Prometheus' query API") from error
        if warning := _warning(self._last.response):
            raise _IncompleteError(f"the answer is not complete: {warning}")
        return result


class _NamedServer(HTTPAdapter):
    """Connections to a server whose certificate is for another name than its address."""

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__(max_retries=Retry(0, read=False))

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Ask for the name, and check the certificate against it."""
        super().init_poolmanager(*args, **options, server_hostname=self._name, assert_hostname=self._name)


class _IncompleteError(ValueError):
    """A backend that asks others left something out."""


class _TokenError(OSError):
    """There is no token to send."""


class _TokenFile(AuthBase):
    """Authorization with the bearer token that is in a file now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._token()
        except _TokenError as error:
            raise SettingsError(f"Prometheus {error}") from error

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token()}"
        return request

    def _token(self) -> str:
        try:
            token = self._path.read_text(encoding="ascii").strip()
        except OSError as error:
            raise _TokenError(f"token file {self._path}: {error.strerror}") from error
        except UnicodeDecodeError:
            token = ""
        # Checked here, as the client's own message would show the token.
        if not re.fullmatch(r"[!-~]+", token):
            raise _TokenError(f"token file {self._path}: it must hold one token, without blanks in it")
        return token


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or re.search(r"[\s\x00-\x1f]", url):
        raise SettingsError(f"Prometheus URL {url!r}: it must be like http://prometheus.monitoring:9090")
    if parts.username is not None:
        raise SettingsError(
            "Prometheus URL: it must not hold a user or password; use a token file or headers"
        )
    if parts.query or parts.fragment:
        raise SettingsError(f"Prometheus URL {url!r}: it must not have a query ('?') or a fragment ('#')")
    return url.rstrip("/")


def _checked_ca_file(path: str | Path) -> str:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise SettingsError(f"Prometheus CA file {path}: it holds no certificates in PEM form") from error
    except OSError as error:
        raise SettingsError(f"Prometheus CA file {path}: {error.strerror}") from error
    return str(path)


def _checked_certificate(path: str | Path, key: str | Path | None) -> str | tuple[str, str]:
    try:
        ssl.create_default_context().load_cert_chain(path, key)
    except ssl.SSLError as error:
        raise SettingsError(
            f"Prometheus client certificate {path}: it holds no certificate in PEM form that goes with"
            f" its key in {key or path}"
        ) from error
    except OSError as error:
        raise SettingsError(
            f"Prometheus client certificate {path}, key {key or path}: {error.strerror}"
        ) from error
    return str(path) if key is None else (str(path), str(key))


def _checked_headers(headers: Mapping[str, str], token: bool) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise SettingsError(f"Prometheus header {name!r}: this cannot be the name of a header")
        # The value may be a secret.
        if not _HEADER_VALUE.fullmatch(value):
            raise SettingsError(f"Prometheus header {name}: its value must be one line of ASCII text")
        if token and name.lower() == "authorization":
            raise SettingsError(f"Prometheus header {name}: it cannot be given together with a token file")
    return dict(headers)


def _body(response: requests.Response, deadline: float) -> bytes:
    """The whole body; a server that sends it bit by bit is left when the time is up."""
    body = bytearray()
    try:
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            body += chunk
            if clock.monotonic() > deadline:
                raise requests.Timeout
    except ReadTimeoutError as error:
        raise requests.Timeout from error
    except HTTPError as error:
        raise requests.ConnectionError(error) from error
    finally:
        response.close()
    return bytes(body)


def _vector(result: Any, labels: tuple[str, str]) -> dict[SampleKey, float]:
    """The finite values of an instant vector: a division by zero is no sample."""
    namespace, name = labels
    values: dict[SampleKey, float] = {}
    try:
        for sample in result:
            value = float(sample["value"][1])
            if math.isfinite(value):
                values[sample["metric"][namespace], sample["metric"][name]] = value
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError("the answer is not an instant vector with the labels that were asked for") from error
    return values


def _matrix(result: Any, labels: tuple[str, str]) -> dict[SampleKey, dict[int, float]]:
    """The finite values of a range vector, by time."""
    namespace, name = labels
    series: dict[SampleKey, dict[int, float]] = {}
    try:
        for found in result:
            values = ((round(at), float(value)) for at, value in found["values"])
            known = {at: value for at, value in values if math.isfinite(value)}
            series[found["metric"][namespace], found["metric"][name]] = known
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("the answer is not a range vector with the labels that were asked for") from error
    return series


def _warning(response: requests.Response) -> str:
    """What tells that a federated backend left something out: warnings, or the flag of VictoriaMetrics."""
    if b'"warnings"' not in response.content and b'"isPartial"' not in response.content:
        # The client has parsed it already, and it is long.
        return ""
    body = response.json()
    if warnings := body.get("warnings"):
        return _short("; ".join(map(str, warnings)))
    return "isPartial" if body.get("isPartial") else ""


def _refusal(response: requests.Response) -> str:
    try:
        text = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        text = response.text
    return _short(f"HTTP status {response.status_code}: {text}")


def _reason(error: Exception) -> str:
    """The innermost cause in one line: the outer ones repeat the whole URL."""
    while isinstance(error, requests.RequestException):
        inner = getattr(error.args[0], "reason", error.args[0]) if error.args else None
        if not isinstance(inner, Exception):
            break
        error = inner
    return _short(str(error) or type(error).__name__)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}…"
