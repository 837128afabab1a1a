"""The API server's JSON, and every change of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kubernetes.client import ApiClient
from kubernetes.config import new_client_from_config

Object = dict[str, Any]


class Api:
    """Reads the API server's JSON."""

    def __init__(self, kubeconfig: Path) -> None:
        self._client: ApiClient = new_client_from_config(str(kubeconfig))

    def get(self, path: str, **query: str) -> Object | None:
        """An object or a list; None: there is none."""
        answer = self._open(path, query)
        body = json.loads(answer.read())
        if answer.status == 404:
            return None
        assert answer.status == 200, body
        return body

    def lines(self, path: str, **query: str) -> Iterator[Object]:
        """The events of a watch, until the server ends it."""
        answer = self._open(path, query).response
        rest = b""
        for part in answer.stream(amt=65536):
            *lines, rest = (rest + part).split(b"\n")
            yield from map(json.loads, lines)
        answer.release_conn()

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.pool_manager.clear()

    def _open(self, path: str, query: Mapping[str, str]) -> Any:
        method, url, headers, _, _ = self._client.param_serialize(
            "GET",
            f"/{path}",
            query_params=list(query.items()),
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
        )
        return self._client.call_api(method, url, headers, _request_timeout=30)


class Tape:
    """Every change of a namespace's objects of one kind, in the order in which they happened.

    A watch misses nothing that lies between two looks.
    """

    def __init__(self, api: Api, path: str) -> None:
        self._api, self._path = api, path
        listing = api.get(path) or {}
        self.first = {item["metadata"]["uid"]: item for item in listing["items"]}
        self.events: list[Object] = []
        self._version = listing["metadata"]["resourceVersion"]
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._following = self._pool.submit(self._follow)

    def states(self) -> Iterator[dict[str, Object]]:
        """All objects by uid, at the beginning and after every change."""
        objects = dict(self.first)
        yield dict(objects)
        for event in list(self.events):
            uid = event["object"]["metadata"]["uid"]
            if event["type"] == "DELETED":
                objects.pop(uid, None)
            else:
                objects[uid] = event["object"]
            yield dict(objects)

    def versions(self, name: str) -> list[Object]:
        """One object at the beginning and after every change of it."""
        found = [item for item in self.first.values() if item["metadata"]["name"] == name]
        return found + [e["object"] for e in list(self.events) if e["object"]["metadata"]["name"] == name]

    def close(self) -> None:
        """Stop; an error in between is raised."""
        self._stop.set()
        self._following.result()
        self._pool.shutdown()

    def _follow(self) -> None:
        while not self._stop.is_set():
            watch = {"watch": "1", "resourceVersion": self._version, "timeoutSeconds": "1"}
            for event in self._api.lines(self._path, **watch):
                assert event["type"] in ("ADDED", "MODIFIED", "DELETED"), event
                self._version = event["object"]["metadata"]["resourceVersion"]
                self.events.append(event)
