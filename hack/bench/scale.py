"""The operator with many services on a real API server: ticks, memory, writes, queries."""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from prometheus_client.parser import text_string_to_metric_families

from bench import crowd, scrape
from bench.figures import Figures, Value
from inferscale_operator.kube import kinds
from inferscale_operator.kube.client import Client, load_configuration
from installation import LABEL, ROOT, install
from localcluster.cluster import Cluster
from localcluster.errors import ClusterError
from localcluster.process import free_ports
from localcluster.prometheus import start_prometheus

SERVICES, REPLICAS = 1000, 3
STEADY_S = 300.0
LIMIT_S = 900.0

_THREADS = 8
_LOOK_S = 15.0
"""Between two looks at the operator's metrics, which cost it as much as a scrape does."""
_IMAGE_ENV = {"MALLOC_ARENA_MAX": "2"}
"""As the image has it."""
_WRITES = ("create", "update", "patch")
_PHASES = ("observe", "decide", "act")


def run(services: int = SERVICES, steady_s: float = STEADY_S) -> list[Figures]:
    """Bring up the cluster and the services, and measure the operator from its start on."""
    with world(services) as here:
        return [measure(here, services, steady_s)]


@dataclass(frozen=True)
class Pace:
    """How fast everything goes.

    Attributes:
        tick_s: Seconds between two decisions.
        window_s: Window of rates, s.
        scrape_s: Seconds between two scrapes.
    """

    tick_s: int = 30
    window_s: int = 60
    scrape_s: float = 10.0


@dataclass(frozen=True)
class World:
    """A cluster with Deployments, their metrics, and all objects but the InferenceServices."""

    cluster: Cluster
    client: Client
    account: Path
    prometheus_url: str
    pace: Pace


@contextmanager
def world(services: int, pace: Pace | None = None, noise: float = 0.02) -> Iterator[World]:
    """Bring it up; it ends with the context, or with this process."""
    name = f"bench-{os.getpid()}"
    with TemporaryDirectory() as folder:
        nodes = Path(folder, "nodes.json")
        nodes.write_text(json.dumps(crowd.node_groups(services, REPLICAS)))
        cluster = Cluster.up(name, node_file=nodes, startup_seconds=0, owner_pid=os.getpid(), report=_say)
    try:
        yield fill(cluster, services, pace or Pace(), noise)
    finally:
        cluster.down()


def fill(cluster: Cluster, services: int, pace: Pace, noise: float) -> World:
    """Create the Deployments and what the services refer to; returns when Prometheus tells of all pods."""
    account = install(cluster, cluster.directory)
    cluster.kubectl("create", "namespace", crowd.NAMESPACE)
    cluster.kubectl("label", "namespace", crowd.NAMESPACE, LABEL)
    shared = {"apiVersion": "v1", "kind": "List", "items": crowd.shared(pace.tick_s, pace.window_s)}
    cluster.kubectl("apply", "--server-side", "--filename=-", input=json.dumps(shared))
    cluster.kubectl(
        *("wait", "serviceaccount/default", f"--namespace={crowd.NAMESPACE}", "--for=create", "--timeout=60s")
    )
    client = Client(load_configuration(cluster.kubeconfig, None))
    _say(f"creating {services} Deployments of {REPLICAS} pods")
    _create(client, kinds.DEPLOYMENT, (crowd.deployment(number, REPLICAS) for number in range(services)))
    wait(lambda: len(_ready_pods(client)) == services * REPLICAS, "all pods to be ready")
    pods = cluster.directory / "pods.txt"
    scrape.write(pods, _ready_pods(client))
    [port] = free_ports(1)
    cluster.start(
        "reports",
        *(sys.executable, "-m", "bench.scrape", pods, str(port), str(noise)),
        env={"PYTHONPATH": str(ROOT / "hack")},
    )
    url = start_prometheus(cluster, targets=[f"127.0.0.1:{port}"], scrape_interval_s=pace.scrape_s)
    _say("waiting for Prometheus to have seen a whole window")
    scrapes = 1.2 * pace.window_s / pace.scrape_s
    seen = f"count(count_over_time(vllm:num_requests_running[{2 * pace.window_s}s]) > {scrapes})"
    wait(lambda: _value(url, seen) == services * REPLICAS, "Prometheus to know all pods")
    return World(cluster, client, account, url, pace)


@contextmanager
def operator(here: World) -> Iterator[tuple[str, int]]:
    """Run the operator as a process of its own; its address and pid."""
    [port] = free_ports(1)
    with here.cluster.log_file("operator").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "inferscale_operator", f"--kubeconfig={here.account}"),
                *(f"--prometheus-url={here.prometheus_url}", f"--listen=127.0.0.1:{port}"),
            ],
            stdout=log,
            stderr=log,
            env={**os.environ, **_IMAGE_ENV},
        )
    try:
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(60)


def measure(here: World, services: int, steady_s: float) -> Figures:
    """Start the operator, let all services appear at once, and watch it until nothing changes, and after."""
    with operator(here) as (url, pid):
        wait(lambda: ticks(url) >= 1, "the first tick")
        idle_mb = memory(pid, "VmRSS")
        _say(f"creating {services} InferenceServices at once")
        started = time.monotonic()
        _create(here.client, kinds.INFERENCE_SERVICE, (crowd.service(n, REPLICAS) for n in range(services)))
        created_s = time.monotonic() - started
        slowest = [0.0]
        wait(lambda: _told(url, slowest) >= services, "all services to be decided", every_s=_LOOK_S)
        decided_s = time.monotonic() - started
        settled = ticks(url) + 3
        at_rest = "the plan to come to rest"
        wait(lambda: ticks(url) >= settled and not _moving(url), at_rest, every_s=_LOOK_S)
        begin, measured_from = exposition(url), time.monotonic()
        rows = list(follow(url, steady_s))
        end, seconds = exposition(url), time.monotonic() - measured_from
        count = total(end, "inferscale_tick_seconds_count") - total(begin, "inferscale_tick_seconds_count")
        queries = total(end, "inferscale_prometheus_queries_total") - total(
            begin, "inferscale_prometheus_queries_total"
        )

        def mean(name: str, **labels: str) -> float:
            return (total(end, f"{name}_sum", **labels) - total(begin, f"{name}_sum", **labels)) / count

        figures: list[tuple[str, Value, str]] = [
            ("services, pods", f"{services:,}, {services * REPLICAS:,}", ""),
            ("services created in s", created_s, ""),
            ("all decided after s", decided_s, ""),
            ("slowest answer of /healthz meanwhile, s", slowest[0], ""),
            ("ticks measured", int(count), ""),
            ("steady tick, median s", statistics.median(rows) if rows else None, "≤ 3"),
            ("steady tick, longest s", max(rows, default=None), ""),
            ("processor a tick, core s", _spent(begin, end) / count, ""),
            ("cores of this machine, load", f"{os.cpu_count()}, {os.getloadavg()[0]:.1f}", ""),
            *((f"{phase}, mean s", mean("inferscale_phase_seconds", phase=phase), "") for phase in _PHASES),
            ("Prometheus, mean s", mean("inferscale_prometheus_ask_seconds"), ""),
            ("queries of Prometheus a tick", queries / count, ""),
            *(
                (f"writes a minute: {kind}", 60 * number / seconds, "")
                for kind, number in sorted(writes(begin, end).items())
            ),
            ("resident before there are services, MiB", idle_mb, ""),
            ("resident, MiB", memory(pid, "VmRSS"), "≤ 300"),
            ("resident at most, MiB", memory(pid, "VmHWM"), ""),
        ]
    pace = here.pace
    note = (
        f"Ticks every {pace.tick_s} s, a window of {pace.window_s} s, scrapes every {pace.scrape_s:g} s,"
        " all on one machine."
    )
    return Figures("Operator at scale", ("measured", "value", "limit"), figures, note)


def follow(url: str, seconds: float) -> Iterator[float]:
    """The length of every tick for a while, s; of several between two looks, their mean."""
    end = time.monotonic() + seconds
    before = exposition(url)
    while time.monotonic() < end:
        time.sleep(_LOOK_S)
        now = exposition(url)
        name = "inferscale_tick_seconds"
        count = total(now, f"{name}_count") - total(before, f"{name}_count")
        if count > 0:
            yield (total(now, f"{name}_sum") - total(before, f"{name}_sum")) / count
            before = now


Samples = list[tuple[str, dict[str, str], float]]


def exposition(url: str) -> Samples:
    """The operator's own metrics."""
    text = requests.get(f"{url}/metrics", timeout=60).text
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def total(samples: Samples, name: str, **labels: str) -> float:
    """Sum of the samples of a name with these labels."""
    return sum(v for n, known, v in samples if n == name and labels.items() <= known.items())


def writes(begin: Samples, end: Samples) -> dict[str, int]:
    """Writes between two looks by kind, leases apart."""
    name = "inferscale_api_requests_total"
    found = {}
    for kind in sorted({labels["kind"] for n, labels, _ in end if n == name} - {"Lease"}):
        number = sum(
            total(end, name, verb=verb, kind=kind) - total(begin, name, verb=verb, kind=kind)
            for verb in _WRITES
        )
        if number:
            found[kind] = int(number)
    return found


def _spent(begin: Samples, end: Samples) -> float:
    return total(end, "process_cpu_seconds_total") - total(begin, "process_cpu_seconds_total")


def ticks(url: str) -> float:
    """How many ticks have ended; 0 while it does not answer."""
    with contextlib.suppress(requests.RequestException):
        return total(exposition(url), "inferscale_tick_seconds_count")
    return 0


def memory(pid: int, field: str) -> int:
    """A figure of a process' memory, MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) // 1024 if found else 0


def wait(done: Callable[[], bool], what: str, limit_s: float = LIMIT_S, every_s: float = 1.0) -> None:
    """Until it is so.

    Raises:
        ClusterError: It takes too long.
    """
    end = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > end:
            raise ClusterError(f"waited {limit_s:g} s for {what}")
        time.sleep(every_s)


def _told(url: str, slowest: list[float]) -> float:
    begin = time.monotonic()
    requests.get(f"{url}/healthz", timeout=60).raise_for_status()
    slowest[0] = max(slowest[0], time.monotonic() - begin)
    return total(exposition(url), "inferscale_services")


def _moving(url: str) -> bool:
    return total(exposition(url), "inferscale_moves") > 0


def _create(client: Client, kind: kinds.Kind, manifests: Iterable[crowd.Manifest]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda manifest: client.create(kind, crowd.NAMESPACE, manifest), manifests))


def _ready_pods(client: Client) -> list[crowd.Reporter]:
    found = []
    for pod in client.list_all(kinds.POD)["items"]:
        conditions = pod["status"].get("conditions", ())
        if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            number = int(pod["metadata"]["labels"]["service"])
            found.append(
                crowd.Reporter(pod["metadata"]["name"], crowd.model_of(number), crowd.rate_of(number))
            )
    return found


def _value(url: str, query: str) -> float:
    answer = requests.get(f"{url}/api/v1/query", {"query": query}, timeout=60).json()
    found: Sequence[dict[str, list[str]]] = answer.get("data", {}).get("result", ())
    return float(found[0]["value"][1]) if found else 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
