"""`inferscale settle`: end the moves that are under way, before Inferscale is removed."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from inferscale_operator import settle as settling
from inferscale_operator.errors import UsageError
from inferscale_operator.kube.client import ApiError, Client, load_configuration

NOT_SETTLED = 1


@click.command()
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="After half of it moves that wait for new replicas are taken back; after all of it the rest is ended"
    " at once.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    envvar="INFERSCALE_KUBECONFIG",
    show_envvar=True,
    metavar="FILE",
    help="Kubeconfig file; none: the account of the pod that it runs in.",
)
@click.option(
    "--context",
    envvar="INFERSCALE_CONTEXT",
    show_envvar=True,
    metavar="NAME",
    help="Context of the kubeconfig; none: its current one.",
)
def settle(timeout: float, kubeconfig: Path | None, context: str | None) -> None:
    """End the moves that are under way, and take our finalizers off: for an uninstall.

    Every Deployment gets its owner's strategy back and is resumed. Stop the operator first. Exits with 1 when
    something could not be settled.
    """
    client = Client(load_configuration(kubeconfig, context))
    start = time.monotonic()
    try:
        settled = settling.settle(
            client, timeout, lambda: time.monotonic() - start, lambda: datetime.now(UTC), time.sleep
        )
    except ApiError as error:
        if error.status in (401, 403, 404):
            raise UsageError(
                f"the API server does not list what settling needs: {error.message}. Use the operator's"
                " account (deploy/base), while the custom resources are still installed."
            ) from error
        click.echo(f"inferscale: nothing is settled: {error.message}", err=True)
        sys.exit(NOT_SETTLED)
    for key in settled.ended:
        click.echo(f"{key}: the move is over")
    for key in settled.released:
        click.echo(f"{key}: the move was ended at once, Kubernetes does the rest")
    if not settled.ended and not settled.released and not settled.failed:
        click.echo("No move is under way.")
    for key, message in sorted(settled.failed.items()):
        click.echo(f"inferscale: {key} is not settled: {message}", err=True)
    if settled.failed:
        sys.exit(NOT_SETTLED)
