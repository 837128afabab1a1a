"""How the stores come to hold what the API server has, and stay so."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import kopf

from inferscale_operator import handlers
from inferscale_operator.kube.client import ApiError, Client
from inferscale_operator.kube.kinds import Kind
from inferscale_operator.kube.permissions import missing, needed
from inferscale_operator.kube.stores import Key, Listed, Raw, key_of

if TYPE_CHECKING:
    from inferscale_operator.application import App

logger = logging.getLogger(__name__)

RECONCILE_EVERY_S = 300.0
SETTLE_S = 5.0
"""A listing that a watch started over from is given this long to arrive."""
RETRY_S = 1.0
REVIEW_EVERY_S = 60.0
REVIEW_LIMIT_S = 10.0
GRANT = "The Helm chart's roles, which are those of deploy/base too, have what is needed."


async def fill(app: App) -> None:
    """Fill the stores from one listing of each kind.

    What stands in the way is told, in the log and at `/readyz`, and waited for: definitions that are not
    installed, permissions that the account lacks, an API server that does not answer.
    """
    for kind in app.stores.scope.kinds:
        listed = False
        while not listed:
            try:
                await _list(app, kind)
                listed = True
            except ApiError as error:
                trouble = _obstacle(kind, error)
                if trouble != app.health.obstacle:
                    app.health.obstacle = trouble
                    logger.warning("%s", trouble)
                app.health.beat()
                await asyncio.sleep(RETRY_S)
    app.health.obstacle = ""
    app.health.filled = True
    world = app.copy_world()
    logger.info(
        "%d services, %d nodes with accelerators, %d pods",
        len(world.services),
        sum(any(node.allocatable.values()) for node in world.nodes.values()),
        len(world.pods),
    )


async def filled(app: App, stop: asyncio.Event) -> bool:
    """Fill the stores, unless it is told to stop before: False."""
    tasks = [asyncio.create_task(fill(app), name="fill"), asyncio.create_task(stop.wait(), name="stop")]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    if not stop.is_set():
        await tasks[0]
    return not stop.is_set()


async def _list(app: App, kind: Kind) -> None:
    async for page in _pages(app, kind):
        app.stores.by_kind[kind].seed(page)


async def _pages(app: App, kind: Kind, *, metadata_only: bool = False) -> AsyncIterator[Raw]:
    """All objects of a kind that are read, a page at a time: what one took is used again by the next."""
    for place in app.stores.scope.places(kind):
        token, more = "", True
        while more:
            page = await asyncio.to_thread(app.client.page, kind, token, place, metadata_only=metadata_only)
            token = (page.get("metadata") or {}).get("continue", "")
            more = bool(token)
            yield page


async def watch(app: App, stop: asyncio.Event) -> None:
    """Watch every kind, in the cluster or in the namespaces that were named, until SIGTERM or `stop`."""
    scope = app.stores.scope
    confined = [kind for kind in scope.kinds if scope.confines(kind)]
    everywhere = [kind for kind in scope.kinds if not scope.confines(kind)]

    async def operate(watched: Sequence[Kind], **where: Any) -> None:
        others = asyncio.all_tasks()
        try:
            tasks = await kopf.spawn_tasks(
                registry=handlers.make_registry(app, watched),
                settings=handlers.make_settings(),
                memo=app,
                standalone=True,
                **where,
            )
            end_by_signal(stop)
            await kopf.run_tasks(tasks, ignored=others)
        finally:
            stop.set()

    async with asyncio.TaskGroup() as group:
        watches = [group.create_task(operate(everywhere, clusterwide=True), name="watch")]
        if confined:
            watches.append(group.create_task(operate(confined, namespaces=scope.namespaces), name="watch"))
        await stop.wait()
        # By kopf's own flag it would wait for what watches still deliver: 5 s before the Lease is free.
        for task in watches:
            task.cancel()


def end_by_signal(stop: asyncio.Event) -> None:
    """Have signals end all; kopf, which handles them too, gives each to the operator that began last."""
    # Outside of the main thread there are none.
    with suppress(ValueError, RuntimeError):
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def reconcile(app: App) -> None:
    """Drop what no watch told the deletion of: soon after a watch started over, and every few minutes."""
    due = time.monotonic() + RECONCILE_EVERY_S
    while True:
        await asyncio.sleep(SETTLE_S)
        if time.monotonic() >= due:
            app.relisted.update(app.stores.scope.kinds)
            due = time.monotonic() + RECONCILE_EVERY_S
        for kind in sorted(app.relisted, key=lambda kind: kind.plural):
            app.relisted.discard(kind)
            try:
                listed = await _listed(app, kind)
            except ApiError as error:
                logger.warning("%s cannot be listed to be compared: %s", kind.plural, error.message)
                continue
            gone = app.stores.by_kind[kind].reconcile(listed)
            if gone:
                logger.info("%d %s went away unnoticed", len(gone), kind.plural)
                app.changed.set()


async def _listed(app: App, kind: Kind) -> Listed:
    keys: set[Key] = set()
    versions = []
    async for page in _pages(app, kind, metadata_only=True):
        keys.update(map(key_of, page.get("items") or ()))
        versions.append(int(page["metadata"]["resourceVersion"]))
    return Listed(frozenset(keys), min(versions))


async def review(app: App) -> None:
    """Tell of permissions that the account lacks, until it has them all."""
    client = Client(app.configuration, timeout_s=REVIEW_LIMIT_S)
    lease = (app.settings.namespace, app.settings.lease_name) if app.elector is not None else None
    wanted = needed(app.stores.scope, lease)
    while True:
        try:
            lacking = await asyncio.to_thread(missing, client, wanted)
        except ApiError as error:
            logger.debug("Permissions are not known: %s", error.message)
        else:
            told = "; ".join(str(permission) for permission in lacking)
            if told != app.health.lacking:
                app.health.lacking = told
                if told:
                    logger.error("The account may not: %s. %s", told, GRANT)
            if not lacking:
                return
        await asyncio.sleep(REVIEW_EVERY_S)


def _obstacle(kind: Kind, error: ApiError) -> str:
    """Why a kind cannot be listed, and what a person can do about it."""
    if error.status == 404 and kind.custom:
        return (
            f"The API server does not know {kind.plural}.{kind.group}: install the custom resources:"
            " kubectl apply --server-side -f crds/, or the Helm chart with crds.install=true"
        )
    if error.status in (401, 403):
        return f"The API server does not let us list {kind.plural}: {error.message}. {GRANT}"
    return f"{kind.plural} cannot be listed yet, tried again: {error.message}"
