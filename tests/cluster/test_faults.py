"""Faults of Prometheus and of the API server: nothing wrong is done, and it goes on afterwards."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from fault_proxy import WELL, Fault, Proxy, Request, always, before_api_server, on_writes, refusal
from localcluster import Cluster
from localcluster.process import answers, free_ports, wait_for_component
from loop_objects import rate_per_replica
from loop_world import DEPLOYMENTS, World, running
from tape import Tape

EACH = rate_per_replica("l40s")
LOW, HIGH = 0.4 * EACH, 2.5 * EACH
LEAST, MOST = 1, 3
PROMETHEUS_LIMIT_S = 2

# Fault of Prometheus, and what is said of it.
OF_PROMETHEUS = {
    "down": (Fault(refused=True), "query of"),
    "slow": (Fault(delay_s=PROMETHEUS_LIMIT_S + 1), f"no answer within {PROMETHEUS_LIMIT_S} s"),
    "500": (Fault(status=500, body=b"the disk is full"), "HTTP status 500: the disk is full"),
    "truncated": (Fault(truncated=True), "query of"),
}
GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
OF_WRITES = {
    "409": refusal(409, "Conflict"),
    "429": refusal(429, "TooManyRequests", ("Retry-After", "60")),
}


@dataclass
class Run:
    """A world whose operator sees Prometheus and the API server through proxies."""

    world: World
    api: Proxy
    prometheus: Proxy
    port: int
    deployments: Tape
    probes: list[tuple[str, int]] = field(default_factory=list)
    """What /healthz answered under which fault."""

    def probe(self, fault: str) -> None:
        answer = requests.get(f"http://127.0.0.1:{self.port}/healthz", timeout=30)
        self.probes.append((fault, answer.status_code))

    def ready(self) -> int:
        return requests.get(f"http://127.0.0.1:{self.port}/readyz", timeout=30).status_code

    def metrics(self) -> str:
        return requests.get(f"http://127.0.0.1:{self.port}/metrics", timeout=30).text

    def said(self) -> str:
        """What the last tick says of the metrics: in the cluster it follows within a minute."""
        services = self.world.last_plan()["services"]
        [chat] = [service for service in services if service["service"]["name"] == "chat"]
        conditions = {c["type"]: c["message"] for c in chat["status"]["status"]["conditions"]}
        return str(conditions["MetricsAvailable"])

    def reason(self) -> str:
        return str(self.world.condition("chat", "MetricsAvailable").get("reason"))

    def eventually_has(self, replicas: int, what: str) -> None:
        self.world.eventually(lambda: self.world.replicas("chat") == replicas, what)

    @property
    def asked(self) -> list[int]:
        """Replicas that were asked for so far, one after the other."""
        versions = [version["spec"]["replicas"] for version in self.deployments.versions("chat")]
        return [now for before, now in zip([None, *versions], versions, strict=False) if now != before]


@pytest.fixture(scope="module")
def run(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A service under a load that needs all that it has, decided once."""
    directory = tmp_path_factory.mktemp("faults")
    [port] = free_ports(1)
    with running(cluster, namespace, directory, {"chat": HIGH}) as world:
        through = directory / "through.kubeconfig"
        with before_api_server(world.account, through) as api, Proxy(world.prometheus_url) as prometheus:
            world.account, world.asked_through = through, prometheus.url
            world.options = (
                f"--listen=127.0.0.1:{port}",
                f"--prometheus-timeout-seconds={PROMETHEUS_LIMIT_S}",
            )
            for name in ("chat", "goes"):
                world.apply(
                    world.objects.deployment(name, "l40s", MOST if name == "chat" else 0),
                    world.objects.service(name, keepAccelerator=True, maxReplicas=MOST, mode="Apply"),
                )
            world.demands["chat"].set(HIGH)
            world.eventually(lambda: world.itl_ms("chat"), "latency in Prometheus")
            world.start_operator()
            with world.taping(DEPLOYMENTS) as tape:
                made = Run(world, api, prometheus, port, tape)
                world.eventually(lambda: made.reason() == "Observed", "a decision")
                yield made
                world.cluster.stop(world._operator)


@dataclass(frozen=True)
class Held:
    """What was to be seen while Prometheus had a fault and the load was low."""

    said: str
    replicas: int
    metrics: str


@pytest.fixture(scope="module")
def forgotten(run: Run) -> list[int]:
    """Replicas asked for while Prometheus had lost its data, and the load was high."""
    before = len(run.asked)
    run.world.forget_metrics()
    run.world.eventually(lambda: run.reason() != "Observed", "the loss to be noticed")
    run.world.eventually(lambda: run.reason() == "Observed", "data enough")
    return run.asked[before - 1 :]


@pytest.fixture(scope="module")
def blind(run: Run, forgotten: list[int]) -> dict[str, Held]:  # noqa: ARG001 - comes before
    """The load falls, and Prometheus has one fault after the other."""
    held = {}
    for name, (fault, said) in OF_PROMETHEUS.items():
        run.prometheus.rule = always(fault)
        run.world.demands["chat"].set(LOW)
        # What is said of the fault before is not to be taken for this one.
        run.world.after_ticks(2)
        run.world.eventually(lambda said=said: said in run.said(), f"{name} to be told")
        run.probe(name)
        held[name] = Held(run.said(), run.world.replicas("chat"), run.metrics())
    run.prometheus.rule = always(WELL)
    run.eventually_has(LEAST, "the scale-down that was due")
    return held


def test_a_prometheus_that_lost_its_data_takes_nothing_from_a_busy_service(forgotten: list[int]) -> None:
    assert forgotten == [MOST]


@pytest.mark.parametrize("name", OF_PROMETHEUS)
def test_while_prometheus_has_a_fault_the_last_decision_is_held_and_the_fault_is_told(
    blind: dict[str, Held], run: Run, name: str
) -> None:
    assert blind[name].replicas == MOST
    assert OF_PROMETHEUS[name][1] in blind[name].said
    assert f"Prometheus {run.prometheus.url}: query of" in blind[name].said
    assert 'inferscale_services_unknown{cause="QueryFailed"}' in blind[name].metrics
    assert [status for fault, status in run.probes if fault == name] == [200]


@dataclass(frozen=True)
class Troubled:
    """What was to be seen while the API server had a fault."""

    replicas: dict[str, int]
    refused: dict[str, int]
    """Writes that the operator tried under each fault."""
    plans: int
    """Plans that were made while the API server was slow."""


@pytest.fixture(scope="module")
def troubled(run: Run, blind: dict[str, Held]) -> Troubled:  # noqa: ARG001 - comes before
    """One fault of the API server after the other, with something to be done in each."""
    world, replicas, refused = run.world, {}, {}
    run.api.rule = always(Fault(delay_s=0.5))
    before = len(world.plans())
    world.demands["chat"].set(HIGH)
    run.eventually_has(MOST, "the scale-up on a slow API server")
    run.probe("slow API server")
    plans = len(world.plans()) - before
    run.api.rule = always(WELL)
    world.after_ticks(2)
    world.demands["chat"].set(LOW)
    for name, fault in OF_WRITES.items():
        # Begun when the scale-down is due, not before: it is what shall be refused.
        run.api.rule = on_writes(fault)
        first = len(run.api.refused)
        world.eventually(
            lambda first=first: (
                sum("/deployments/" in r.path for r in run.api.refused[first:]) >= 1
                or len(run.api.refused) - first >= 3
            ),
            f"writes answered with {name}",
        )
        world.after_ticks(2)
        run.probe(name)
        replicas[name], refused[name] = world.replicas("chat"), len(run.api.refused) - first
    run.api.rule = always(WELL)
    run.eventually_has(LEAST, "the scale-down that was due")
    return Troubled(replicas, refused, plans)


def test_it_goes_on_while_the_api_server_is_slow(troubled: Troubled) -> None:
    assert troubled.plans >= 2


@pytest.mark.parametrize("name", OF_WRITES)
def test_writes_that_are_refused_for_a_while_are_made_afterwards(troubled: Troubled, name: str) -> None:
    assert troubled.refused[name] > 0
    assert troubled.replicas[name] == MOST


def test_a_tick_stops_writing_when_it_is_asked_to(troubled: Troubled, run: Run) -> None:
    ticks = len(run.world.plans())
    assert troubled.refused["429"] <= ticks
    assert 'code="429"' in run.metrics()


@pytest.fixture(scope="module")
def deaf(run: Run, troubled: Troubled) -> dict[str, Any]:  # noqa: ARG001 - comes before
    """Every watch ends with 410, and something is deleted before they begin anew."""
    world = run.world

    def gone(request: Request) -> Fault:
        return Fault(status=200, body=json.dumps(GONE).encode() + b"\n") if request.watches else WELL

    def blocked(request: Request) -> Fault:
        return refusal(503, "ServiceUnavailable") if request.watches else WELL

    run.api.rule = blocked
    run.api.cut()
    world.cluster.kubectl("delete", "ifs", "goes", f"-n={world.namespace}")
    first = len(run.api.refused)
    run.api.rule = gone
    world.eventually(lambda: len(run.api.refused) >= first + 5, "watches answered with 410")
    run.api.rule = always(WELL)
    world.eventually(
        lambda: [s["service"]["name"] for s in world.last_plan()["services"]] == ["chat"],
        "the deletion to be noticed",
    )
    world.demands["chat"].set(HIGH)
    run.eventually_has(MOST, "the scale-up thereafter")
    return {"metrics": run.metrics()}


def test_a_deletion_in_the_gap_of_watches_that_are_too_old_is_noticed(deaf: dict[str, Any]) -> None:
    assert 'service="chat"' in deaf["metrics"]
    assert 'service="goes"' not in deaf["metrics"]


@pytest.fixture(scope="module")
def restarted(run: Run, deaf: dict[str, Any]) -> None:  # noqa: ARG001 - comes before
    """The API server ends and starts again; readiness in between."""
    world = run.world
    if world.cluster.backend != "binaries":
        pytest.skip("the API server of this kind of cluster is not a process of its own")
    directory = world.cluster.directory
    pid = int((directory / "components" / "kube-apiserver.pid").read_text())
    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    run.deployments.close()
    world.cluster.stop("kube-apiserver")
    world.eventually(lambda: run.ready() == 503, "readiness to fail")
    run.probe("no API server")
    world.cluster.start("kube-apiserver", *command)
    port = next(part.partition("=")[2] for part in command if part.startswith("--secure-port"))
    wait_for_component(directory, "kube-apiserver", lambda: serves(world, port), 90)
    world.eventually(lambda: run.ready() == 200, "readiness")
    world.demands["chat"].set(LOW)
    run.eventually_has(LEAST, "the scale-down thereafter")


def serves(world: World, port: str) -> bool:
    """Whether the API server says that it is ready."""
    certificate = world.cluster.directory / "certs" / "apiserver.crt"
    token = (world.cluster.directory / "tokens.csv").read_text().partition(",")[0]
    return answers(f"https://127.0.0.1:{port}/readyz", certificate, token)


@pytest.mark.usefixtures("restarted")
def test_an_api_server_that_was_restarted_is_followed_again(run: Run) -> None:
    assert run.world.replicas("chat") == LEAST


@pytest.mark.usefixtures("restarted")
def test_the_process_is_alive_whatever_the_others_do(run: Run) -> None:
    assert {status for _, status in run.probes} == {200}
    assert len(run.probes) >= len(OF_PROMETHEUS) + len(OF_WRITES) + 1


@pytest.mark.usefixtures("restarted")
def test_in_all_this_nothing_was_paused_and_replicas_changed_only_with_the_load(run: Run) -> None:
    assert run.asked in (
        [MOST, LEAST, MOST, LEAST, MOST],
        [MOST, LEAST, 2, MOST, LEAST, MOST],
        [MOST, LEAST, MOST, LEAST, 2, MOST],
        [MOST, LEAST, 2, MOST, LEAST, 2, MOST],
    )
    for version in run.deployments.versions("chat"):
        assert not version["spec"].get("paused")
