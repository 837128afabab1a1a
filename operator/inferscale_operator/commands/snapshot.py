"""`inferscale snapshot`: what the operator would see and decide now, as files to be replayed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from inferscale_operator.application import App, make_app
from inferscale_operator.commands.access import found_kubeconfig
from inferscale_operator.decide import decide
from inferscale_operator.errors import UsageError
from inferscale_operator.kube.client import ApiError
from inferscale_operator.kube.kinds import Kind
from inferscale_operator.observe import observe
from inferscale_operator.recorder import Recorder
from inferscale_operator.settings import ENV_PREFIX, OFF, make_settings


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--prometheus-url",
    envvar=f"{ENV_PREFIX}_PROMETHEUS_URL",
    metavar="URL",
    help="Base address of Prometheus, with a path where it has one.",
)
@click.option(
    "--kubeconfig",
    envvar=f"{ENV_PREFIX}_KUBECONFIG",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Kubeconfig file; none: $KUBECONFIG, ~/.kube/config, or the account of the pod.",
)
@click.option("--context", envvar=f"{ENV_PREFIX}_CONTEXT", metavar="NAME", help="Its context.")
def snapshot(folder: Path, prometheus_url: str | None, kubeconfig: Path | None, context: str | None) -> None:
    """Write what the operator would see now, and what it would decide, into FOLDER.

    Nothing in the cluster is changed. The files are for `inferscale replay`.
    """
    given: dict[str, Any] = {
        "prometheus_url": prometheus_url,
        "kubeconfig": kubeconfig or found_kubeconfig(),
        "context": context,
        "listen": OFF,
        "leader_elect": False,
    }
    app = make_app(make_settings(given))
    recorder = Recorder(folder, keep=None)
    recorder.prepare("FOLDER")
    try:
        for kind in app.stores.scope.kinds:
            app.stores.by_kind[kind].seed(_listing(app, kind))
        seen = observe(app.copy_world(), datetime.now(UTC), app.prometheus)
    finally:
        app.prometheus.close()
    click.echo(recorder.save(seen, decide(seen)))


def _listing(app: App, kind: Kind) -> Mapping[str, Any]:
    try:
        return app.stores.scope.list_all(app.client, kind)
    except ApiError as error:
        raise UsageError(f"{kind.plural} cannot be listed ({error.reason}): {error.message}") from error
