"""To zero replicas and back on a real API server and Prometheus, with a gateway that tells what waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from localcluster import Cluster
from loop_world import DEPLOYMENTS, World, running
from tape import Tape

IDLE_S = 6


class Gateway(ThreadingHTTPServer):
    """The metrics of an endpoint picker with one model."""

    daemon_threads = True

    def __init__(self, model: str, namespace: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.labels = f'{{target_model_name="{model}",namespace="{namespace}",pod="epp"}}'
        self.waiting = 0

    def __enter__(self) -> Gateway:
        threading.Thread(target=self.serve_forever, name="gateway").start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        labels = self.server.labels
        body = (
            f"llm_d_epp_flow_control_queue_size{labels} {self.server.waiting}\n"
            f"llm_d_epp_request_total{labels} 7\n"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Scrapes are not logged."""


@dataclass(frozen=True)
class Run:
    """Nobody asked for a while, and then somebody did."""

    world: World
    deployments: Tape
    told: dict[str, Any]


@pytest.fixture(scope="module")
def run(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    most = {"sleeper": 1.0, "hasty": 1.0}
    with (
        running(cluster, namespace, tmp_path_factory.mktemp("zero"), most) as world,
        Gateway(world.named("llm"), namespace) as gateway,
    ):
        world.stop_prometheus()
        world.targets = (f"127.0.0.1:{gateway.server_port}",)
        world.start_prometheus()
        sleepy = {"mode": "Apply", "minReplicas": 0, "scaleToZeroAfterSeconds": IDLE_S}
        for name, preset in (("sleeper", "gateway"), ("hasty", "vllm")):
            world.apply(
                world.objects.deployment(name, "l40s", 2),
                world.objects.service(name, **sleepy, keepAccelerator=True, metrics={"preset": preset}),
            )
        told: dict[str, Any] = {}
        with world.taping(DEPLOYMENTS) as deployments:
            world.start_operator()
            world.eventually(lambda: world.replicas("sleeper") == 0, "nobody to be served", 120)
            world.after_ticks(3)
            told["asleep"] = world.replicas("sleeper")
            told["hasty"] = world.eventually(
                lambda: world.replicas("hasty") == 1 and world.condition("hasty", "ProfileValid"),
                "the other to shrink",
            )
            gateway.waiting = 3
            world.eventually(lambda: world.replicas("sleeper"), "the service to be woken")
            yield Run(world, deployments, told)


def test_a_service_that_nobody_asks_for_goes_to_zero_and_stays_there(run: Run) -> None:
    assert run.told["asleep"] == 0


def test_requests_that_wait_at_the_gateway_wake_it(run: Run) -> None:
    assert run.world.replicas("sleeper") >= 1
    # Events are written after what they tell of.
    run.world.eventually(
        lambda: "Woken" in [reason for reason, _ in run.world.events("sleeper")], "the news that it was woken"
    )
    asked = [version["spec"]["replicas"] for version in run.deployments.versions("sleeper")]
    changes = [now for before, now in zip([None, *asked], asked, strict=False) if now != before]
    assert changes[0] == 2
    assert changes.count(0) == 1
    assert changes[-1] >= 1


def test_a_service_whose_preset_has_no_gateway_keeps_one_replica_and_is_told_why(run: Run) -> None:
    assert run.told["hasty"]["reason"] == "NoWakeUp"
    assert run.world.replicas("hasty") == 1
