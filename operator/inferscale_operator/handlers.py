"""What kopf is told: which events go into the stores, and who we are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

import kopf
from kubernetes.client.configuration import Configuration

from inferscale_operator.kube.client import PAGE
from inferscale_operator.kube.kinds import Kind

if TYPE_CHECKING:
    from inferscale_operator.application import App

REQUEST_TIMEOUT_S = 30.0
INACTIVITY_TIMEOUT_S = 70.0
"""Bookmarks come every minute: a watch that is silent for longer is frozen."""
CONNECT_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 0.2
"""Kopf keeps the last event of every object in memory for so long: after a listing that is all of it."""


def make_registry(app: App, watched: Iterable[Kind]) -> kopf.OperatorRegistry:
    """The handlers of some kinds: plain events, since anything else writes to the objects of people."""
    registry = kopf.OperatorRegistry()
    for kind in watched:
        kopf.on.event(
            group=kind.group, version=kind.version, plural=kind.plural, id=kind.plural, registry=registry
        )(_watcher(app, kind))

    @kopf.on.login(registry=registry, id="login", errors=kopf.ErrorsMode.PERMANENT)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await asyncio.to_thread(connection, app.configuration)

    return registry


def make_settings() -> kopf.OperatorSettings:
    """Settings of kopf: no events of its own, no look at namespaces and definitions, watches that heal."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.request_timeout = REQUEST_TIMEOUT_S
    settings.networking.connect_timeout = CONNECT_TIMEOUT_S
    settings.watching.connect_timeout = CONNECT_TIMEOUT_S
    settings.watching.chunk_size = PAGE
    settings.watching.inactivity_timeout = INACTIVITY_TIMEOUT_S
    settings.queueing.idle_timeout = IDLE_TIMEOUT_S
    settings.persistence.diffbase_storage = _NoDiffs()
    return settings


class _NoDiffs(kopf.DiffBaseStorage):
    """Nothing to compare an object with: kopf copies the whole of it for that at every event."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        del body, extra_fields
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        del body
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is kept on an object."""


def connection(configuration: Configuration) -> kopf.ConnectionInfo:
    """The connection of the client library as kopf takes it, with a token that is still good."""
    authorization = configuration.auth_settings().get("BearerToken", {}).get("value")
    scheme, _, token = (authorization or "").strip().partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert if configuration.verify_ssl else None,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )


def _watcher(app: App, kind: Kind) -> Callable[..., Coroutine[None, None, None]]:
    async def watcher(event: kopf.RawEvent, **_: Any) -> None:
        app.notice(kind, event["type"], event["object"])

    return watcher
