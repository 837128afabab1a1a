"""`inferscale backtest`: what policies would have done with the load that was."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from inferscale_operator.backtest.cache import Cache, default_folder, digest
from inferscale_operator.backtest.profile import fit
from inferscale_operator.backtest.pull import Puller
from inferscale_operator.backtest.services import read_services, services_of, target
from inferscale_operator.backtest.span import make_span
from inferscale_operator.backtest.tables import report_page, tables
from inferscale_operator.backtest.trial import HISTORY, make_trial, run
from inferscale_operator.backtest.verdict import verdict
from inferscale_operator.commands.access import connect
from inferscale_operator.commands.export import observed
from inferscale_operator.commands.plan import FILE
from inferscale_operator.commands.simulate import PIPED_WIDTH, write_report
from inferscale_operator.errors import UsageError
from inferscale_operator.metrics.prometheus import Prometheus
from inferscale_operator.settings import ENV_PREFIX
from inferscale_operator.twin.simulation import POLICIES, ServerMode, parse_policy

DEFAULT_POLICIES = ("inferscale",)
LEAST_STEP, MOST_STEP = 10, 3600


@click.command("backtest")
@click.option(
    "--prometheus",
    "url",
    required=True,
    envvar=f"{ENV_PREFIX}_PROMETHEUS_URL",
    metavar="URL",
    help="Base address of Prometheus, with a path where it has one.",
)
@click.option("--from", "begin", required=True, metavar="TIME", help="2026-03-01, 2026-03-01T12:00Z, or 7d.")
@click.option("--to", "end", default="now", show_default=True, metavar="TIME", help="Likewise.")
@click.option("--services", type=FILE, metavar="FILE", help="The services, in the form of a scenario.")
@click.option("--from-cluster", is_flag=True, help="The services of a cluster instead.")
@click.option(
    "--step",
    type=click.IntRange(LEAST_STEP, MOST_STEP),
    metavar="SECONDS",
    help="Steps of the load, of four scrapes at least [metrics.windowSeconds of the policy].",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="P[:FIELD=VALUE,…]",
    help=f"What decides: {', '.join(POLICIES)}; repeatable [{' and '.join(DEFAULT_POLICIES)}].",
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Instead of the file's.")
@click.option(
    "--servers",
    type=click.Choice([mode.value for mode in ServerMode]),
    default=ServerMode.MEAN_VALUE.value,
    show_default=True,
    help="Every request, or the queueing model in the mean.",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Form.")
@click.option("--report", type=FILE, metavar="FILE", help="Write a page of HTML.")
@click.option(
    "--cache",
    type=FILE,
    metavar="FOLDER",
    help="Where answers of Prometheus are kept [~/.cache/inferscale/backtest].",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1, max=3600),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="Time for one query.",
)
@click.option(
    "--prometheus-token-file",
    "token_file",
    type=FILE,
    envvar=f"{ENV_PREFIX}_PROMETHEUS_TOKEN_FILE",
    metavar="FILE",
    help="File with a bearer token.",
)
@click.option(
    "--prometheus-ca-file",
    "ca_file",
    type=FILE,
    envvar=f"{ENV_PREFIX}_PROMETHEUS_CA_FILE",
    metavar="FILE",
    help="PEM file with the authorities of its certificate.",
)
@click.option(
    "--prometheus-header",
    "headers",
    multiple=True,
    envvar=f"{ENV_PREFIX}_PROMETHEUS_HEADERS",
    metavar="NAME=VALUE",
    help="Header sent with every query; repeatable.",
)
@click.option(
    "--kubeconfig", envvar=f"{ENV_PREFIX}_KUBECONFIG", type=FILE, metavar="FILE", help="Kubeconfig file."
)
@click.option("--context", envvar=f"{ENV_PREFIX}_CONTEXT", metavar="NAME", help="Its context.")
def backtest(
    url: str,
    begin: str,
    end: str,
    services: Path | None,
    from_cluster: bool,
    step: int | None,
    policies: Sequence[str],
    seed: int | None,
    servers: str,
    output: str,
    report: Path | None,
    cache: Path | None,
    timeout: float,
    token_file: Path | None,
    ca_file: Path | None,
    headers: Sequence[str],
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    """Run policies on the load of the past, and compare them with what was.

    Load, token lengths and latencies are read from Prometheus by the operator's own queries, in chunks that
    are kept: called again, the command asks for what is missing only. What is not known is told, and counts
    for nothing.
    """
    if (services is None) == (not from_cluster):
        raise UsageError("give --services FILE or --from-cluster")
    choices = [parse_policy(text) for text in policies or DEFAULT_POLICIES if text != HISTORY]
    sent = _headers(headers)
    prometheus = Prometheus(
        url, token_file=token_file, ca_file=ca_file, headers=sent, timeout_seconds=timeout
    )
    if services is not None:
        described = read_services(services)
    else:
        described = services_of(observed(connect(kubeconfig, context)))
    now = time.time()
    settings = described.metrics
    if step is not None:
        settings = settings.model_copy(update={"window_seconds": step})
    span = make_span(begin, end, settings.window_seconds, now)
    namespaces = {target(service)[0] for service in described.setting.services}
    puller = Puller(prometheus, Cache(cache or default_folder()), digest(sent), namespaces, now, tell=_tell)
    try:
        history = puller.pull(settings, described.presets, span)
    finally:
        prometheus.close()
    fitted = fit(described, history)
    left_out = (*described.left_out, *fitted.left_out)
    for line in left_out:
        _tell(f"Left out: {line}")
    if not fitted.profiles:
        raise UsageError(f"Prometheus {prometheus.url}: there is no service to test: {fitted.left_out[0]}")
    trial = make_trial(described.setting, fitted.profiles, span)
    seed = described.setting.scenario.seed if seed is None else seed
    mode = ServerMode(servers)
    outcomes = run(trial, choices, seed, mode, _tell)
    figures = verdict(trial, outcomes, left_out, seed, mode)
    if report is not None:
        write_report(report, report_page(trial, outcomes, figures))
    if output == "json":
        click.echo(json.dumps(figures, indent=1, allow_nan=False))
    else:
        width = None if sys.stdout.isatty() else PIPED_WIDTH
        Console(width=width, highlight=False, markup=False, emoji=False).print(tables(figures))


def _headers(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not name or not separator:
            raise UsageError("--prometheus-header: must be NAME=VALUE, such as X-Scope-OrgID=team")
        found[name.strip()] = value.strip()
    return found


def _tell(line: str) -> None:
    click.echo(line, err=True)
