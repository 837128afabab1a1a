"""A whole world for tests: emulated model servers, Prometheus, and the operator under its own account."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import requests

import installation
from fleet import watch as fleet_watch
from fleet.exporter import Exporter
from fleet.gateway import Fleet
from fleet.load import Load, Point
from fleet.server import Fault
from localcluster import Cluster, start_prometheus
from localcluster.process import log_tail
from loop_objects import GROUP, HARDWARE, INPUT_TOKENS, METRICS_WINDOW_S, OUTPUT_TOKENS, Object, Objects
from tape import Api, Tape

ROOT = Path(__file__).parents[1]
IFS, IFA = (
    f"apis/{GROUP}/namespaces/{{namespace}}/{plural}"
    for plural in ("inferenceservices", "inferenceallocations")
)
DEPLOYMENTS, PODS = "apis/apps/v1/namespaces/{namespace}/deployments", "api/v1/namespaces/{namespace}/pods"
EVENTS = "api/v1/namespaces/{namespace}/events"

SCRAPE_S = 1.0
IMAGES = ("vllm/vllm-openai", "rocm/vllm")
"""Those that variants set."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Demand(Load):
    """A load that a test sets, up to the rate of its only point."""

    now: list[float] = field(default_factory=lambda: [0.0])

    def at(self, at_s: float) -> Point:
        [most] = self.points
        return Point(at_s, self.now[0], most.input_tokens, most.output_tokens)

    def set(self, rate: float) -> None:
        """From now on so many requests per minute."""
        assert rate <= self.points[0].rate
        self.now[0] = rate


@dataclass
class World:
    """What runs, and how to look at it and to change it. Everything of it ends with the cluster."""

    cluster: Cluster
    namespace: str
    directory: Path
    api: Api
    account: Path = Path()
    fleet_address: str = ""
    prometheus_url: str = ""
    asked_through: str = ""
    """Where the operator asks Prometheus; empty: directly."""
    options: tuple[str, ...] = ("--listen=0",)
    """Options of the operator."""
    targets: tuple[str, ...] = ()
    """`host:port` of what Prometheus scrapes beside the fleet."""
    fleet: Fleet = field(default_factory=lambda: Fleet(()))
    demands: Mapping[str, Demand] = field(default_factory=dict)
    created: list[tuple[str, str]] = field(default_factory=list)
    """Cluster-scoped objects."""

    @property
    def tag(self) -> str:
        """Tells its cluster-scoped objects from those of other tests."""
        return self.namespace[-6:]

    @property
    def objects(self) -> Objects:
        """Makes its objects."""
        return Objects(self.namespace, self.tag)

    def named(self, name: str) -> str:
        """The name of a cluster-scoped object of its own."""
        return self.objects.named(name)

    # What it is made of.

    def apply(self, *manifests: Object) -> None:
        """Create or change objects; cluster-scoped ones are deleted at the end."""
        for manifest in manifests:
            metadata = manifest["metadata"]
            if "namespace" not in metadata:
                self.created.append((manifest["kind"], metadata["name"]))
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        self.cluster.kubectl("apply", "--filename=-", input=text)

    def change(self, name: str, **spec: Any) -> None:
        """Change the spec of an InferenceService, as a person does."""
        patch = json.dumps({"spec": spec})
        self.cluster.kubectl("patch", "ifs", name, f"-n={self.namespace}", "--type=merge", f"--patch={patch}")

    def patch(self, kind: str, name: str, body: Object, *, field_manager: str) -> None:
        """Change an object, as somebody of that name does."""
        self.cluster.kubectl(
            *("patch", kind, name, f"-n={self.namespace}", "--type=strategic"),
            *(f"--field-manager={field_manager}", f"--patch={json.dumps(body)}"),
        )

    # How it is.

    def get(self, path: str, name: str = "") -> Object | None:
        """An object of the namespace, or the list of them."""
        return self.api.get(f"{path.format(namespace=self.namespace)}/{name}".rstrip("/"))

    def status(self, name: str) -> Object:
        """Status of an InferenceAllocation; empty: there is none yet."""
        return (self.get(IFA, name) or {}).get("status") or {}

    def entry(self, name: str) -> Object:
        """The allocation in it; empty: there is none yet."""
        return next(iter(self.status(name).get("allocations") or ()), {})

    def move(self, name: str) -> Object:
        """The move in it; empty: none is under way."""
        return self.status(name).get("move") or {}

    def condition(self, name: str, kind: str) -> Object:
        """A condition of an InferenceService; empty: it is not stated yet."""
        status = (self.get(IFS, name) or {}).get("status") or {}
        return next((c for c in status.get("conditions") or () if c["type"] == kind), {})

    def replicas(self, name: str) -> int:
        """Replicas that a Deployment asks for."""
        return int((self.get(DEPLOYMENTS, name) or {})["spec"]["replicas"])

    def spec(self, name: str) -> Object:
        """Spec of a Deployment."""
        return (self.get(DEPLOYMENTS, name) or {})["spec"]

    def pods(self, name: str) -> list[Object]:
        """Pods of a Deployment."""
        path = PODS.format(namespace=self.namespace)
        return (self.api.get(path, labelSelector=f"app={name}") or {})["items"]

    def events(self, name: str, namespace: str | None = None) -> list[tuple[str, str]]:
        """Reasons and messages of the events about an object."""
        path = EVENTS.format(namespace=namespace or self.namespace)
        items = (self.api.get(path, fieldSelector=f"involvedObject.name={name}") or {})["items"]
        return [(e["reason"], e["message"]) for e in items if e["source"].get("component") == "inferscale"]

    def ticks(self) -> str:
        """The time of the last tick that was recorded."""
        return max((path.name for path in self._records.glob("*.plan.json")), default="")

    def after_ticks(self, count: int) -> None:
        """Return when the operator has ticked so many times from now."""
        for _ in range(count):
            before = self.ticks()
            self.eventually(lambda before=before: self.ticks() > before, "another tick")

    def plans(self) -> list[Object]:
        """All plans so far, oldest first."""
        return [json.loads(path.read_text()) for path in sorted(self._records.glob("*.plan.json"))]

    def last_plan(self) -> Object:
        """The newest plan."""
        return json.loads((self._records / self.ticks()).read_text())

    def measured(self, query: str) -> float | None:
        """A single figure from Prometheus; None: no sample."""
        answer = requests.get(f"{self.prometheus_url}/api/v1/query", {"query": query}, timeout=10)
        result = answer.json()["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    def itl_ms(self, name: str) -> float | None:
        """Observed mean inter-token latency of a Deployment's pods over the metrics window."""
        metric = "vllm:inter_token_latency_seconds"
        total, count = (
            f'sum(rate({metric}_{part}{{namespace="{self.namespace}",pod=~"{name}-.*"}}[{METRICS_WINDOW_S}s]))'
            for part in ("sum", "count")
        )
        return self.measured(f"1000 * {total} / ({count} > 0)")

    def eventually(self, look: Callable[[], Value], what: str, seconds: float = 90) -> Value:
        """What `look` returns as soon as it is true; a dead operator is not waited for."""
        deadline = time.monotonic() + seconds
        while not (seen := look()):
            state = self.cluster.states().get(self._operator, "running")
            if time.monotonic() > deadline or state != "running":
                log = log_tail(self.cluster.directory, self._operator, 30)
                raise AssertionError(f"waiting for {what}; the operator: {state}\n{log}")
            time.sleep(0.2)
        return seen

    # What is done to it.

    @contextmanager
    def taping(self, path: str) -> Iterator[Tape]:
        """A tape of the namespace's objects."""
        tape = Tape(self.api, path.format(namespace=self.namespace))
        try:
            yield tape
        finally:
            tape.close()

    def start_operator(self) -> None:
        """Start it, under the chart's account."""
        self.cluster.start(
            self._operator,
            sys.executable,
            *("-m", "inferscale_operator", f"--kubeconfig={self.account}"),
            *(f"--prometheus-url={self.asked_through or self.prometheus_url}", "--no-leader-elect"),
            *self.options,
            *(f"--record={self._records}", "--record-keep=100000"),
        )

    def stop_operator(self) -> None:
        """SIGTERM, as the kubelet sends it, and wait for its end."""
        self.cluster.stop(self._operator)

    def kill_operator(self) -> None:
        """SIGKILL: it has no time to tidy up."""
        pid = self.cluster.directory / "components" / f"{self._operator}.pid"
        os.kill(int(pid.read_text()), signal.SIGKILL)
        self.cluster.stop(self._operator)

    def start_prometheus(self) -> None:
        """Start it, at the address that it had."""
        self.prometheus_url = start_prometheus(
            self.cluster,
            fleet_address=self.fleet_address,
            targets=self.targets,
            scrape_interval_s=SCRAPE_S,
            name=self._prometheus,
        )

    def stop_prometheus(self) -> None:
        """Stop it; its address stays."""
        self.cluster.stop(self._prometheus)

    def forget_metrics(self) -> None:
        """Restart Prometheus without the data that it had."""
        self.stop_prometheus()
        shutil.rmtree(self.cluster.directory / self._prometheus / "data")
        self.start_prometheus()

    def break_server(self, pod: Object, fault: Fault) -> None:
        """Give a pod's server a fault, or take it away."""
        assert self.fleet.set_fault(self.namespace, pod["metadata"]["name"], fault)

    @property
    def _operator(self) -> str:
        return f"operator-{self.tag}"

    @property
    def _prometheus(self) -> str:
        return f"prometheus-{self.tag}"

    @property
    def _records(self) -> Path:
        return self.directory / "records"


@contextmanager
def running(
    cluster: Cluster,
    namespace: str,
    directory: Path,
    most: Mapping[str, float],
    **policy_spec: Any,
) -> Iterator[World]:
    """A world with its profiles, policy and Prometheus; services and the operator are the test's to start.

    Args:
        cluster: where it runs.
        namespace: namespace of its services.
        directory: for files.
        most: largest rate (requests/min) of every Deployment that gets load.
        policy_spec: what differs from `Objects.policy`.
    """
    api = Api(cluster.kubeconfig)
    world = World(cluster, namespace, directory, api)
    world.demands = {
        name: Demand(namespace, name, (Point(0, rate, INPUT_TOKENS, OUTPUT_TOKENS),), seed=number)
        for number, (name, rate) in enumerate(sorted(most.items()))
    }
    world.fleet = Fleet(world.demands.values())
    world.account = install(cluster, directory)
    try:
        with serving(cluster, world.fleet) as address:
            world.fleet_address = address
            everything = [world.objects.accelerator_profile(name) for name in HARDWARE]
            world.apply(
                *everything,
                world.objects.model_profile("llm", *HARDWARE),
                world.objects.service_class("standard", "llm"),
                world.objects.policy(**policy_spec),
            )
            world.start_prometheus()
            try:
                yield world
            finally:
                _remove(world)
    finally:
        api.close()


def install(cluster: Cluster, directory: Path) -> Path:
    """Install what the chart does, without its pods; returns a kubeconfig of the operator's account."""
    return installation.install(cluster, directory, images=IMAGES)


@contextmanager
def serving(cluster: Cluster, fleet: Fleet) -> Iterator[str]:
    """Run the fleet in threads; the address at which its pods are scraped."""
    stop = threading.Event()

    def move_on() -> None:
        start = time.monotonic()
        while not stop.wait(0.05):
            fleet.step((time.monotonic() - start) * 1000)

    pods = fleet_watch.Cluster(cluster.kubeconfig, "inferscale.dev/emulated=true")
    with Exporter(fleet) as exporter, ThreadPoolExecutor(3) as pool:
        tasks = [
            pool.submit(exporter.serve_forever),
            pool.submit(fleet_watch.follow, pods, fleet, stop, 0.5),
            pool.submit(move_on),
        ]
        try:
            yield exporter.url.removeprefix("http://")
        finally:
            stop.set()
            exporter.shutdown()
            for task in tasks:
                task.result()


def _remove(world: World) -> None:
    """Stop what runs and delete what is not in the namespace, or would keep it from going."""
    kubectl, here = world.cluster.kubectl, f"-n={world.namespace}"
    world.cluster.stop(world._operator)
    world.stop_prometheus()
    kubectl("delete", "ifs", "--all", here, "--wait=false")
    unmark = '--patch={"metadata":{"finalizers":null}}'
    for allocation in (world.get(IFA) or {"items": ()})["items"]:
        name = allocation["metadata"]["name"]
        kubectl("patch", "ifa", name, here, "--type=merge", unmark, check=False)
    for kind, name in dict.fromkeys(world.created):
        kubectl("delete", kind, name, "--ignore-not-found", "--wait=false")
