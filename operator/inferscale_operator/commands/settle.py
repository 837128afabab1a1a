"""`inferscale settle`: end the moves that are under way, before Inferscale is removed."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

import click
from kubernetes.client.configuration import Configuration

from inferscale_operator import settle as settling
from inferscale_operator.errors import UsageError
from inferscale_operator.kube.client import ApiError, Client, load_configuration
from inferscale_operator.kube.lease import Elector, Terms
from inferscale_operator.kube.scope import Scope
from inferscale_operator.settings import DEFAULT_NAMESPACE

NOT_SETTLED = 1
CLAIM_S = 0.5
"""Between two looks at a Lease that was asked for."""


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
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    envvar="INFERSCALE_NAMESPACES",
    show_envvar=True,
    metavar="NAME",
    help="Look at this namespace only; may be given several times [all].",
)
@click.option(
    "--leader-elect/--no-leader-elect",
    default=True,
    show_default=True,
    envvar="INFERSCALE_LEADER_ELECT",
    show_envvar=True,
    help="Take the Lease first: an operator that holds it gives it up, and stands by.",
)
@click.option(
    "--lease-namespace",
    default=DEFAULT_NAMESPACE,
    show_default=True,
    envvar="INFERSCALE_LEASE_NAMESPACE",
    show_envvar=True,
    metavar="NAME",
    help="Namespace of the Lease.",
)
@click.option(
    "--lease-name",
    default="inferscale",
    show_default=True,
    envvar="INFERSCALE_LEASE_NAME",
    show_envvar=True,
    metavar="NAME",
    help="Name of the Lease.",
)
@click.option(
    "--hold",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="So long no operator takes the Lease afterwards.",
)
def settle(
    timeout: float,
    kubeconfig: Path | None,
    context: str | None,
    namespaces: tuple[str, ...],
    leader_elect: bool,
    lease_namespace: str,
    lease_name: str,
    hold: int,
) -> None:
    """End the moves that are under way, and take our finalizers off: for an uninstall.

    Every Deployment gets its owner's strategy back and is resumed. It takes the Lease first, so an operator
    that runs with one writes nothing meanwhile; stop one that runs with --no-leader-elect. Exits with 1 when
    something could not be settled.
    """
    configuration = load_configuration(kubeconfig, context)
    start = time.monotonic()

    def elapsed_s() -> float:
        return time.monotonic() - start

    terms = Terms(lease_namespace, lease_name, f"settle_{secrets.token_hex(4)}") if leader_elect else None
    try:
        with leading(configuration, terms, timeout, hold) as guard:
            settled = settling.settle(
                Client(configuration, guard=guard),
                timeout,
                elapsed_s,
                lambda: datetime.now(UTC),
                time.sleep,
                Scope(namespaces),
            )
    except ApiError as error:
        if error.status in (401, 403, 404):
            raise UsageError(
                f"the API server does not allow what settling needs: {error.message}. Use the operator's"
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


@contextmanager
def leading(
    configuration: Configuration, terms: Terms | None, timeout_s: float, hold_s: int
) -> Iterator[Callable[[], None] | None]:
    """Hold the Lease meanwhile, taking it from the operator that has it; the guard of every write.

    Args:
        configuration: Where the API server is.
        terms: Which Lease; None: none is held.
        timeout_s: For it to be taken.
        hold_s: Nobody else takes it for so long afterwards.

    Raises:
        ApiError: the Lease may not be had.
        UsageError: its holder did not give it up.
    """
    if terms is None:
        yield None
        return
    elector = Elector(Client(configuration, timeout_s=terms.renew_s / 4), terms, claims=True)
    deadline = time.monotonic() + max(timeout_s, terms.duration_s)
    while not elector.leading:
        elector.step()
        if not elector.leading and time.monotonic() > deadline:
            raise UsageError(
                f"the Lease {terms.namespace}/{terms.name} is held by {elector.holder}, which does not give"
                " it up: stop that operator, or try again"
            )
        if not elector.leading:
            time.sleep(CLAIM_S)
    ended = Event()

    def renew() -> None:
        while not ended.wait(terms.retry_s):
            # What it cannot renew it does not hold: the guard stops the writes.
            with suppress(ApiError):
                elector.step()

    thread = Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield elector.check
    finally:
        ended.set()
        thread.join()
        with suppress(ApiError):
            elector.release(hold_s)
