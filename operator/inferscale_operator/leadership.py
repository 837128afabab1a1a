"""Which replica acts: the one that holds the Lease, as long as it does."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from typing import TYPE_CHECKING

from inferscale_operator.errors import UsageError
from inferscale_operator.kube.client import ApiError
from inferscale_operator.kube.lease import Terms
from inferscale_operator.settings import Settings

if TYPE_CHECKING:
    from inferscale_operator.application import App

logger = logging.getLogger(__name__)


def terms(settings: Settings) -> Terms:
    """The Lease of these settings, and a name for this process that no other has."""
    return Terms(
        namespace=settings.namespace,
        name=settings.lease_name,
        # The host is the pod; two processes with one name would both take the Lease for their own.
        identity=f"{socket.gethostname()}_{secrets.token_hex(4)}",
        duration_s=settings.lease_duration_seconds,
        renew_s=settings.lease_renew_seconds,
        retry_s=settings.lease_retry_seconds,
    )


async def elect(app: App) -> None:
    """Take the Lease when it is free, and renew it.

    Raises:
        UsageError: the account may not have it, or its namespace does not exist.
    """
    elector = app.elector
    if elector is None:
        return
    trouble = ""
    while True:
        begin = time.monotonic()
        try:
            await asyncio.to_thread(elector.step)
        except ApiError as error:
            _explain(elector.terms, error)
            if error.message != trouble:
                trouble = error.message
                logger.warning("The Lease cannot be looked at or renewed: %s", trouble)
        else:
            trouble = ""
        if elector.leading != app.leading.is_set():
            app.lead(elector.leading)
            logger.info(
                "Leading: this replica acts" if elector.leading else "Not leading: another replica may act",
                extra={"facts": {"leader": elector.holder, "identity": elector.terms.identity}},
            )
        await asyncio.sleep(max(0.0, elector.terms.retry_s - (time.monotonic() - begin)))


async def resign(app: App) -> None:
    """Write nothing more, and give back the Lease so that another replica takes over at once."""
    if app.elector is None:
        return
    app.lead(False)
    try:
        await asyncio.to_thread(app.elector.release)
    except ApiError as error:
        logger.warning("The Lease is not given back, it ends by itself: %s", error.message)


def _explain(lease: Terms, error: ApiError) -> None:
    if error.status == 404:
        raise UsageError(
            f"--lease-namespace {lease.namespace}: {error.message}. Create the namespace, name another, or"
            " run a single replica with --no-leader-elect."
        ) from error
    if error.status in (401, 403):
        raise UsageError(
            f"The API server does not let us hold the Lease {lease.namespace}/{lease.name}: {error.message}. "
            "The role in deploy/base/role.yaml has what is needed; a single replica can run with"
            " --no-leader-elect."
        ) from error
