"""The command line: run the operator, and the commands for people."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from inferscale_operator.application import make_app, serve
from inferscale_operator.commands.analyze import analyze
from inferscale_operator.commands.approve import approve
from inferscale_operator.commands.backtest import backtest
from inferscale_operator.commands.completion import COMPLETE_VARIABLE, completion, completions
from inferscale_operator.commands.estimate import estimate
from inferscale_operator.commands.examples import epilog
from inferscale_operator.commands.explain import explain
from inferscale_operator.commands.export import export_command
from inferscale_operator.commands.fit import fit
from inferscale_operator.commands.importing import import_
from inferscale_operator.commands.plan import plan as plan_command
from inferscale_operator.commands.replay import replay
from inferscale_operator.commands.settle import settle
from inferscale_operator.commands.simulate import simulate_command
from inferscale_operator.commands.snapshot import snapshot
from inferscale_operator.commands.status import status_command
from inferscale_operator.commands.top import top
from inferscale_operator.errors import UsageError
from inferscale_operator.logs import configure_logging
from inferscale_operator.settings import ENV_PREFIX, make_settings

Command = TypeVar("Command", bound=Callable[..., Any])

USAGE = 2
PLUGIN = "kubectl-inferscale"
"""Name under which kubectl calls us as `kubectl inferscale`."""


@click.group(context_settings={"auto_envvar_prefix": ENV_PREFIX, "help_option_names": ["-h", "--help"]})
@click.version_option(package_name="inferscale", prog_name="inferscale")
def commands() -> None:
    """Serve many LLMs to many classes of users at the lowest cost that keeps every latency objective."""


def _option(name: str, help_text: str, metavar: str) -> Callable[[Command], Command]:
    variable = f"{ENV_PREFIX}_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, envvar=variable, show_envvar=True, help=help_text, metavar=metavar)


@commands.command()
@_option("--prometheus-url", "Base address of Prometheus, with a path where it has one.", metavar="URL")
@_option("--prometheus-token-file", "File with a bearer token, read again for every query.", metavar="FILE")
@_option("--prometheus-ca-file", "PEM file with the authorities of its certificate.", metavar="FILE")
@_option("--prometheus-server-name", "Name in its certificate [the host of its address].", metavar="NAME")
@_option(
    "--prometheus-certificate-file", "PEM file with a client certificate, which may rotate.", metavar="FILE"
)
@_option("--prometheus-key-file", "PEM file with its key.", metavar="FILE")
@click.option(
    "--prometheus-header",
    "prometheus_headers",
    multiple=True,
    envvar=f"{ENV_PREFIX}_PROMETHEUS_HEADERS",
    show_envvar=True,
    metavar="NAME=VALUE",
    help="Header sent with every query; may be given several times.",
)
@_option("--prometheus-timeout-seconds", "Time for all queries of one tick together [10].", metavar="SECONDS")
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    envvar=f"{ENV_PREFIX}_NAMESPACES",
    show_envvar=True,
    metavar="NAME",
    help="Serve this namespace only; may be given several times [all].",
)
@_option("--namespace-label", "Label that a namespace must carry to be touched [none].", metavar="KEY=VALUE")
@click.option(
    "--read-pods/--no-read-pods",
    default=None,
    envvar=f"{ENV_PREFIX}_READ_PODS",
    show_envvar=True,
    help="Read the pods of the whole cluster, to count what others hold of the accelerators [yes].",
)
@_option("--kubeconfig", "Kubeconfig file; none: the account of the pod that it runs in.", metavar="FILE")
@_option("--context", "Context of the kubeconfig; none: its current one.", metavar="NAME")
@_option(
    "--listen", "Address of /healthz, /readyz and /metrics [0.0.0.0:8080]; 0: none.", metavar="ADDRESS:PORT"
)
@click.option(
    "--leader-elect/--no-leader-elect",
    default=None,
    envvar=f"{ENV_PREFIX}_LEADER_ELECT",
    show_envvar=True,
    help="Act only while holding a Lease, so that one of several replicas acts [yes].",
)
@_option("--lease-namespace", "Namespace of the Lease [the pod's].", metavar="NAME")
@_option("--lease-name", "Name of the Lease [inferscale].", metavar="NAME")
@_option("--lease-duration-seconds", "Others take over after so long [15].", metavar="SECONDS")
@_option(
    "--lease-renew-seconds", "The leader stops writing so long after it renewed [10].", metavar="SECONDS"
)
@_option("--lease-retry-seconds", "Time between two looks at the Lease [2].", metavar="SECONDS")
@_option("--record", "Folder in which every snapshot and its plan are saved.", metavar="FOLDER")
@_option("--record-keep", "Snapshots that are kept there [100].", metavar="NUMBER")
@_option("--log-format", "How log lines look: text or json [text].", metavar="FORMAT")
@_option("--log-level", "The least that is logged: debug, info or warning [info].", metavar="LEVEL")
def run(**options: Any) -> None:
    """Run the operator until SIGTERM.

    Every option can be given as an environment variable as well. How the cluster is optimised is in the
    OptimizerPolicy.
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    settings = make_settings(given)
    configure_logging(settings)
    asyncio.run(serve(make_app(settings)))


commands.add_command(analyze)
commands.add_command(estimate)
commands.add_command(fit)
commands.add_command(import_)
commands.add_command(export_command)
commands.add_command(status_command)
commands.add_command(top)
commands.add_command(completion)
commands.add_command(plan_command)
commands.add_command(simulate_command)
commands.add_command(backtest)
commands.add_command(approve)
commands.add_command(explain)
commands.add_command(replay)
commands.add_command(snapshot)
commands.add_command(settle)
for _name, _command in commands.commands.items():
    _command.epilog = epilog(_name)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; an error that the caller can put right is told in one line, with exit code 2."""
    name = "kubectl inferscale" if Path(sys.argv[0]).stem == PLUGIN else "inferscale"
    try:
        commands(arguments, prog_name=name, complete_var=COMPLETE_VARIABLE)
    except UsageError as error:
        click.echo(f"inferscale: {error}", err=True)
        sys.exit(USAGE)


def complete_for_kubectl(arguments: list[str] | None = None) -> None:
    """Print what may come next, as kubectl asks its plugins: for `kubectl_complete-inferscale`."""
    *before, incomplete = (sys.argv[1:] if arguments is None else arguments) or [""]
    click.echo(completions(commands, before, incomplete), nl=False)
