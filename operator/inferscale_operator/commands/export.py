"""`inferscale export`: a cluster, or a recorded snapshot of one, as the files of `inferscale plan`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from inferscale_operator.commands.access import connect
from inferscale_operator.commands.listing import told
from inferscale_operator.commands.plan import FILE
from inferscale_operator.commands.replay import read_snapshot
from inferscale_operator.commands.writing import write_new
from inferscale_operator.errors import UsageError
from inferscale_operator.kube.client import ApiError, Client
from inferscale_operator.kube.kinds import WATCHED
from inferscale_operator.kube.stores import Stores
from inferscale_operator.migration.export import as_text, export
from inferscale_operator.observe import observe
from inferscale_operator.planning.output import as_json
from inferscale_operator.settings import ENV_PREFIX
from inferscale_operator.snapshot import Snapshot


@click.command("export")
@click.option("--output-dir", type=FILE, metavar="FOLDER", help="Folder for the files.")
@click.option(
    "--snapshot",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A recorded snapshot instead of the cluster.",
)
@click.option("-o", "--output", type=click.Choice(["files", "json"]), default="files", help="Form [files].")
@click.option(
    "--kubeconfig", envvar=f"{ENV_PREFIX}_KUBECONFIG", type=FILE, metavar="FILE", help="Kubeconfig file."
)
@click.option("--context", envvar=f"{ENV_PREFIX}_CONTEXT", metavar="NAME", help="Its context.")
def export_command(
    output_dir: Path | None, snapshot: Path | None, output: str, kubeconfig: Path | None, context: str | None
) -> None:
    """Write what the operator plans from as the files of `inferscale plan`.

    Loads are those that the InferenceAllocations last recorded. Nothing in the cluster is changed. With -o
    json all files are printed in one object. What is not in the files is told on stderr.
    """
    if (output_dir is None) == (output == "files"):
        raise UsageError("give --output-dir FOLDER, or -o json")
    seen = read_snapshot(snapshot) if snapshot is not None else observed(connect(kubeconfig, context))
    exported = export(seen)
    for line in exported.left_out:
        click.echo(f"Not exported: {line}.", err=True)
    if output_dir is None:
        click.echo(as_json(exported.files))
        return
    write_new(output_dir, {name: as_text(content) for name, content in exported.files.items()})


def observed(client: Client) -> Snapshot:
    """The cluster now; Prometheus is not asked.

    Raises:
        UsageError: its objects cannot be listed.
    """
    stores = Stores()
    for kind in WATCHED:
        try:
            stores.by_kind[kind].seed(client.list_all(kind))
        except ApiError as error:
            raise told(error, kind) from error
    return observe(stores.copy({}), datetime.now(UTC), None)
