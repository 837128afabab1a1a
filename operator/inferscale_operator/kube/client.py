"""A client of the API server that deals in JSON as it comes, since typed lists of pods cost too much.

It blocks: call it from a thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

from inferscale_operator.api.base import FIELD_MANAGER
from inferscale_operator.deadline import limit_heads
from inferscale_operator.errors import UsageError
from inferscale_operator.kube.kinds import Kind

CONNECT_S = 5.0
TIMEOUT_S = 30.0
"""For the answer to begin, and for all of it to arrive after that."""
PART_BYTES = 65536
NO_KUBECONFIG = (yaml.YAMLError, OSError, UnicodeDecodeError, AttributeError, TypeError, KeyError)
"""What the library raises of a file that is none, beside its own error."""
PAGE = 250
"""Objects of a page: memory that was once used for a long listing is not given back."""
WRITERS = 8
"""Writes that are under way at a time: what one waits for the network the others use."""
UNREACHABLE = 0
"""Status of an error when no answer came."""

Raw = Mapping[str, Any]
"""An object as JSON."""
Observer = Callable[[str, str, int, float], None]
"""Is told of every request: verb, kind, HTTP status (`UNREACHABLE` without an answer), seconds."""


METHODS = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH"}
"""HTTP method of each verb."""


class PatchType(StrEnum):
    """How a patch is to be read."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"


class ApiError(Exception):
    """The API server refused a request, or did not answer.

    Attributes:
        status: HTTP status; `UNREACHABLE` when there was no answer.
        reason: One word, such as `Conflict` or `Forbidden`.
        message: The API server's own words.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def conflict(self) -> bool:
        """Whether the object changed, or came to be, in the meantime."""
        return self.status == 409


def load_configuration(kubeconfig: Path | None, context: str | None) -> Configuration:
    """Where the API server is and who one is to it: from a kubeconfig, else from the pod one runs in.

    Raises:
        UsageError: neither can be used.
    """
    configuration = Configuration()
    try:
        if kubeconfig is not None:
            load_kube_config(  # type: ignore[no-untyped-call]
                str(kubeconfig), context=context, client_configuration=configuration
            )
        else:
            load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, *NO_KUBECONFIG) as error:
        if kubeconfig is not None:
            raise UsageError(
                f"--kubeconfig {kubeconfig}: {' '.join(str(error).split())}. Name a kubeconfig file that has"
                f" the context {context or 'current-context'!r}."
            ) from error
        raise UsageError(
            f"--kubeconfig is not set and this is no pod of a cluster ({error}). "
            "Name a kubeconfig file: --kubeconfig ~/.kube/config"
        ) from error
    # One retry of a connection that broke while idle; more would hold up the tick, and so would a wait for
    # as long as a `Retry-After` says.
    configuration.retries = urllib3.Retry(
        total=1, redirect=0, backoff_factor=0.2, raise_on_status=False, respect_retry_after_header=False
    )
    # The writers, and what reads beside them.
    configuration.connection_pool_maxsize = WRITERS + 4
    return configuration


class Client:
    """Requests to the API server as JSON, each within a time limit.

    Args:
        configuration: Where it is and who one is; a token is read again by the library when it expires.
        guard: Is called before every write, and raises an `ApiError` when it must not be sent.
        observer: Is told of every request.
        timeout_s: For an answer to begin, and for all of it to arrive after that.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        guard: Callable[[], None] | None = None,
        observer: Observer | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._api = ApiClient(configuration)
        limit_heads(self._api.rest_client.pool_manager)
        self._guard = guard
        self._observer = observer
        self._timeout_s = timeout_s

    def list_all(self, kind: Kind, namespace: str | None = None) -> dict[str, Any]:
        """All objects of a kind, from the API server's cache.

        Args:
            kind: Kind of the objects.
            namespace: Of this namespace; None: of the cluster.

        Raises:
            ApiError: it was refused or there was no answer.
        """
        return self._request("list", kind.name, kind.path(namespace), {"resourceVersion": "0"}, {})

    def page(
        self, kind: Kind, token: str = "", namespace: str | None = None, *, metadata_only: bool = False
    ) -> dict[str, Any]:
        """A page of the objects of a kind, for what need not hold all of them at a time.

        Args:
            kind: Kind of the objects.
            token: `metadata.continue` of the page before, which the last one does not have.
            namespace: Of this namespace; None: of the cluster.
            metadata_only: Only their metadata, which is a fraction of the bytes.

        Raises:
            ApiError: it was refused or there was no answer.
        """
        accept = "application/json"
        if metadata_only:
            accept = f"{accept};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        query = {"limit": str(PAGE)} | ({"continue": token} if token else {})
        return self._request("list", kind.name, kind.path(namespace), query, {"Accept": accept})

    def version(self) -> str:
        """The version of Kubernetes: the least that a reachable API server answers.

        Raises:
            ApiError: it was refused or there was no answer.
        """
        return str(self._request("get", "Version", "/version", {}, {}).get("gitVersion", ""))

    def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any]:
        """An object.

        Raises:
            ApiError: it is not there, it was refused or there was no answer.
        """
        return self._request("get", kind.name, kind.path(namespace, name), {}, {})

    def replace(self, kind: Kind, namespace: str | None, name: str, body: Raw) -> dict[str, Any]:
        """Replace an object and return it; without a resourceVersion in the body it is created.

        Raises:
            ApiError: it was refused or there was no answer.
        """
        return self._request(
            "update",
            kind.name,
            kind.path(namespace, name),
            {"fieldManager": FIELD_MANAGER},
            {"Content-Type": "application/json"},
            body,
        )

    def create(self, kind: Kind, namespace: str | None, body: Raw) -> dict[str, Any]:
        """Create an object and return it.

        Raises:
            ApiError: it was refused or there was no answer.
        """
        return self._request(
            "create",
            kind.name,
            kind.path(namespace),
            {"fieldManager": FIELD_MANAGER},
            {"Content-Type": "application/json"},
            body,
        )

    def patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        body: Raw | list[dict[str, Any]],
        patch_type: PatchType,
        subresource: str = "",
    ) -> dict[str, Any]:
        """Patch an object and return it.

        Raises:
            ApiError: it was refused or there was no answer.
        """
        return self._request(
            "patch",
            kind.name,
            kind.path(namespace, name, subresource),
            {"fieldManager": FIELD_MANAGER},
            {"Content-Type": patch_type.value},
            body,
        )

    def _request(
        self,
        verb: str,
        kind: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Raw | list[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        if self._guard is not None and METHODS[verb] != "GET":
            self._guard()
        method, url, all_headers, payload, _ = self._api.param_serialize(
            METHODS[verb],
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", **headers},
            body=body,
            auth_settings=["BearerToken"],
        )
        begin, status = time.monotonic(), UNREACHABLE
        try:
            timeout = (min(CONNECT_S, self._timeout_s), self._timeout_s)
            answer = self._api.call_api(method, url, all_headers, payload, _request_timeout=timeout)
            data = _body(answer.response, time.monotonic() + self._timeout_s)
            status = answer.status
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(UNREACHABLE, "Unreachable", f"no answer from the API server: {error}") from error
        finally:
            if self._observer is not None:
                self._observer(verb, kind, status, time.monotonic() - begin)
        if not 200 <= status < 300:
            raise _refusal(status, answer.reason, data)
        return _parsed(data)


def _body(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """The whole body. The limit of a read alone is begun anew by every byte that arrives."""
    parts = []
    while part := response.read1(PART_BYTES):
        parts.append(part)
        if time.monotonic() > deadline:
            response.close()
            raise urllib3.exceptions.HTTPError("its answer did not arrive in time")
    response.release_conn()
    return b"".join(parts)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        result = json.loads(data)
    except ValueError:
        result = None
    if not isinstance(result, dict):
        told = data[:100].decode(errors="replace")
        raise ApiError(
            UNREACHABLE, "Unreadable", f"the API server's answer is not an object of JSON: {told!r}"
        )
    return result


def _refusal(status: int, reason: str | None, data: bytes) -> ApiError:
    """The error that an answer's `metav1.Status` tells of."""
    try:
        told = json.loads(data)
    except ValueError:
        told = {}
    if not isinstance(told, dict):
        told = {}
    message = told.get("message") or data.decode(errors="replace")[:500] or f"HTTP {status}"
    return ApiError(status, told.get("reason") or reason or str(status), message)
