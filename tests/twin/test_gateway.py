from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics.presets import GATEWAY
from inferscale_operator.metrics.queries import Query
from inferscale_operator.twin.gateway import Gateway
from inferscale_operator.twin.prometheus import answers, compiled
from inferscale_operator.twin.resources import Setting, read_scenario
from inferscale_operator.twin.simulation import Outcome, ServerMode, parse_policy, simulate
from inferscale_operator.twin.summary import summary
from twin_builders import service, setting

SCENARIO = Path(__file__).parents[2] / "docs" / "examples" / "scenarios" / "scale-to-zero.yaml"
BOTH = pytest.mark.parametrize("mode", list(ServerMode))
BEHIND = {"metrics": {"preset": "gateway"}, "minReplicas": 0, "scaleToZeroAfterSeconds": 60}
A_MINUTE = {"points": [{"at": 0, "rate": 120}, {"at": 60, "rate": 0}], "step": True}


class Held:
    """Two services, of which one waits and one is served."""

    def passed(self, service: int) -> float:
        return (0.0, 30.0, 7.0)[service]

    def held(self, service: int) -> float:
        return (5.0, 0.0, 9.0)[service]


def row(world: Setting, outcome: Outcome, mode: ServerMode) -> dict[str, Any]:
    found: dict[str, Any] = summary(world, [outcome], 0, mode)["policies"][0]["services"][0]
    return found


def test_services_of_one_model_share_what_the_gateway_tells_and_others_tell_nothing(tmp_path: Path) -> None:
    world = setting(
        tmp_path, service("a", spec=BEHIND), service("b", spec=BEHIND), service("c", spec={"minReplicas": 1})
    )
    gateway = Gateway(world, 600)
    for at in range(0, 130, 10):
        gateway.scrape(at, Held())
    asked = compiled(GATEWAY, MetricsSettings())
    told = answers(asked, gateway.samples, gateway.samples, world.start.timestamp() + 120)
    assert told[Query.GATEWAY_QUEUE].values == {("default", "llama"): 5.0}
    assert told[Query.GATEWAY_ARRIVALS].values == {("default", "llama"): 0.0}


@pytest.mark.slow
@BOTH
def test_what_waits_at_the_gateway_wakes_a_service_and_is_late(mode: ServerMode) -> None:
    world = read_scenario(SCENARIO)
    done = simulate(world, parse_policy("inferscale"), mode=mode)
    replicas = [replicas for _, replicas, _ in done.replicas[0]]
    assert replicas == [1, 0, 1, 0]
    down, woken = (at for at, _, _ in done.replicas[0][1:3])
    # Idle from 1200 s on as soon as a whole window was, then ten minutes; the rate is back at 3600 s.
    assert 1800 <= down <= 2000
    assert 3600 < woken <= 3660
    reasons = [decision.reason for decision in done.history.decisions["default/reports"]]
    assert "Woken" in reasons
    figures = row(world, done, mode)
    assert figures["lost"] == figures["unfinished"] == 0
    assert figures["finished"] == pytest.approx(figures["arrived"])
    # Who came within the 90 s until a pod was ready, and before it had worked off what waited: 4 a second.
    assert 360 <= figures["late"] <= 560
    ready = done.ledger.ready_s[0] > 0
    kept = done.ledger.all_kept(0)
    assert (kept[~ready & (done.ledger.windows["arrived"][0] > 0)] == 0).all()
    assert np.nanmean(kept) > 0.9


@pytest.mark.slow
def test_both_kinds_of_servers_tell_the_same_of_requests_that_wait_for_a_pod() -> None:
    world = read_scenario(SCENARIO)
    rows = [row(world, simulate(world, parse_policy("inferscale"), mode=m), m) for m in ServerMode]
    assert rows[1]["late"] == pytest.approx(rows[0]["late"], rel=0.1)
    assert rows[1]["ttft"] == pytest.approx(rows[0]["ttft"], rel=0.1)
    assert rows[1]["ttftPercentile"] == pytest.approx(rows[0]["ttftPercentile"], rel=0.15)
    assert rows[1]["sloWindows"] == rows[0]["sloWindows"]
    assert rows[1]["cost"] == pytest.approx(rows[0]["cost"], rel=0.02)


@pytest.mark.slow
@BOTH
def test_what_still_waits_for_a_pod_at_the_end_is_late_and_its_windows_are_not_kept(
    tmp_path: Path, mode: ServerMode
) -> None:
    world = setting(tmp_path, service(replicas=0, load=A_MINUTE, spec=BEHIND), duration=300)
    done = simulate(world, parse_policy("static"), mode=mode)
    figures = row(world, done, mode)
    assert figures["finished"] == 0
    assert figures["unfinished"] == figures["late"] == pytest.approx(figures["arrived"])
    assert figures["sloRequests"] == 0
    assert done.ledger.all_kept(0).tolist() == [0, 0, 0, 0, 0]


@pytest.mark.slow
@BOTH
def test_what_has_just_come_to_the_gateway_at_the_end_is_not_late_yet(
    tmp_path: Path, mode: ServerMode
) -> None:
    load = {"points": [{"at": 0, "rate": 0}, {"at": 250, "rate": 600}], "step": True}
    patient = {"standard": {"priority": 5, "models": [{"model": "llama", "ttft": 60_000}]}}
    world = setting(tmp_path, service(replicas=0, load=load, spec=BEHIND), duration=300, classes=patient)
    figures = row(world, simulate(world, parse_policy("static"), mode=mode), mode)
    assert figures["unfinished"] > 300
    assert figures["late"] == 0
