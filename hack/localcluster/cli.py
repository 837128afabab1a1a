"""The command line `hack/cluster`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import paths, process, prometheus, tools
from .cluster import Cluster, all_running, choose_backend, read_description
from .errors import ClusterError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except ClusterError as error:
        print(f"hack/cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has seen enough; without this Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hack/cluster",
        description="A real Kubernetes on this machine, on 127.0.0.1 only, with emulated accelerator nodes.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default="default", help="which cluster; several can run at once")

    up = commands.add_parser("up", parents=[named], help="start a cluster, unless it runs")
    up.add_argument(
        "--nodes", type=Path, default=paths.DEFAULT_NODES, metavar="FILE", help="the emulated nodes, in JSON"
    )
    up.add_argument(
        "--startup-seconds",
        type=_seconds,
        default=3.0,
        metavar="S",
        help="from the start of a pod to its readiness; a pod's annotation "
        "inferscale.dev/emulated-startup-seconds goes before it",
    )
    up.add_argument("--wait", action="store_true", help="until the nodes are ready and pods can be created")
    up.add_argument(
        "--owner-pid", type=int, metavar="PID", help="end the cluster when this process has ended"
    )
    up.add_argument("--backend", choices=["auto", "kind", "binaries"], default="auto")
    up.set_defaults(run=_up)

    down = commands.add_parser("down", parents=[named], help="stop a cluster and remove all of it")
    down.add_argument("--all", action="store_true", help="every cluster of this user")
    down.set_defaults(run=_down)

    commands.add_parser("status", help="the clusters that run").set_defaults(run=_status)
    commands.add_parser(
        "kubeconfig", parents=[named], help="print the path of the administrator's kubeconfig"
    ).set_defaults(run=_kubeconfig)
    commands.add_parser(
        "env",
        parents=[named],
        help='shell settings for a cluster and its kubectl: eval "$(hack/cluster env)"',
    ).set_defaults(run=_env)

    scrape = commands.add_parser("prometheus", parents=[named], help="start Prometheus beside a cluster")
    scrape.add_argument("--fleet", metavar="HOST:PORT", help="the emulated fleet, for the pods' metrics")
    scrape.add_argument("--target", action="append", default=[], metavar="HOST:PORT", help="another exporter")
    scrape.add_argument("--scrape-interval", type=_seconds, default=2.0, metavar="S")
    scrape.set_defaults(run=_prometheus)

    commands.add_parser(
        "tools", help="make sure that all programs are there; builds what is missing"
    ).set_defaults(run=_tools)
    return parser


def _up(options: argparse.Namespace) -> None:
    started = time.monotonic()
    cluster = Cluster.up(
        options.name,
        node_file=options.nodes,
        startup_seconds=options.startup_seconds,
        owner_pid=options.owner_pid,
        backend=options.backend,
        wait=options.wait,
    )
    print(f"cluster {cluster.name} is up after {time.monotonic() - started:.0f} s: {cluster.kubeconfig}")


def _down(options: argparse.Namespace) -> None:
    running = all_running()
    for name in running if options.all else [options.name]:
        if name in running:
            process.stop_supervisor(paths.cluster_dir(name))
        print(f"cluster {name} is down")


def _status(_: argparse.Namespace) -> None:
    names = all_running()
    if not names:
        print("no cluster runs")
    for name in names:
        directory = paths.cluster_dir(name)
        description = read_description(directory) or {"backend": "coming up", "server": "", "owner": None}
        owner = f", ends with process {description['owner']}" if description["owner"] else ""
        print(f"{name}: {description['backend']} {description['server']}{owner}")
        print(f"  logs: {directory / 'logs'}")
        for component, state in process.component_states(directory).items():
            print(f"  {component}: {state}")


def _kubeconfig(options: argparse.Namespace) -> None:
    print(Cluster.get(options.name).kubeconfig)


def _env(options: argparse.Namespace) -> None:
    cluster = Cluster.get(options.name)
    print(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}")
    print(f'export PATH={shlex.quote(str(cluster.tools["kubectl"].parent))}:"$PATH"')


def _prometheus(options: argparse.Namespace) -> None:
    if not (options.fleet or options.target):
        raise ClusterError("prometheus: nothing to scrape: give --fleet HOST:PORT or --target HOST:PORT")
    print(
        prometheus.start_prometheus(
            Cluster.get(options.name),
            fleet_address=options.fleet,
            targets=options.target,
            scrape_interval_s=options.scrape_interval,
        )
    )


def _tools(_: argparse.Namespace) -> None:
    for name, path in tools.ensure(tools.needed(choose_backend())).items():
        print(f"{name}: {path}")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 0, is {text}")
    return seconds
