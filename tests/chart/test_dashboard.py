"""The queries of the dashboard and of the alerts against the Prometheus of a closed loop."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from chart_builders import CHART, Render, named
from dashboard import grafana
from dashboard.panels import PANELS, Panel
from dashboard.queries import filled
from demo import picture
from inferscale_operator.telemetry.families import FAMILIES, OF_PLAN
from localcluster import Cluster, process
from loop_objects import rate_per_replica
from loop_world import World, running

RANGE_S, STEP_S = 30, 1
LOW, HIGH = (times * rate_per_replica("l40s") for times in (0.5, 2.5))
ALERTS = {
    rule["alert"]: rule["expr"]
    for group in yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
}
NOT_EMPTY = [panel for panel in PANELS if not panel.quiet]


@pytest.fixture(scope="module")
def world(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A service that has what it needs, one that is advised only, one without a pod."""
    most = {"chat": HIGH, "advised": HIGH}
    with running(cluster, namespace, tmp_path_factory.mktemp("loop"), most) as made:
        address = f"127.0.0.1:{process.free_ports(1)[0]}"
        made.options, made.targets = (f"--listen={address}",), (address,)
        made.stop_prometheus()
        made.start_prometheus()
        made.apply(
            *(made.objects.deployment(name, "l40s", 1) for name in most),
            made.objects.deployment("blind", "l40s", 0),
            made.objects.service("chat", mode="Apply", keepAccelerator=True),
            made.objects.service("advised", keepAccelerator=True),
            made.objects.service("blind", keepAccelerator=True),
        )
        made.demands["chat"].set(LOW)
        made.demands["advised"].set(HIGH)
        made.start_operator()
        yield made


def asked(world: World, expression: str) -> list[dict[str, Any]]:
    """What Prometheus answers; an error is one of the test."""
    answer = requests.get(f"{world.prometheus_url}/api/v1/query", {"query": expression}, timeout=10).json()
    assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
    assert not answer.get("warnings"), f"{expression}: {answer['warnings']}"
    return answer["data"]["result"]


def values(world: World, title: str) -> dict[tuple[str, ...], float]:
    """Finite values of the queries of a panel, by the values of their labels."""
    [panel] = [panel for panel in PANELS if panel.title == title]
    found = {}
    for query in panel.queries:
        for series in asked(world, filled(query.expression, RANGE_S, STEP_S)):
            labels = tuple(value for _, value in sorted(series["metric"].items()))
            found[query.legend, *labels] = float(series["value"][1])
    return {labels: value for labels, value in found.items() if value == value}


@pytest.mark.parametrize("panel", NOT_EMPTY, ids=[panel.title for panel in NOT_EMPTY])
def test_a_panel_shows_the_loop(world: World, panel: Panel) -> None:
    world.eventually(
        lambda: {legend for legend, *_ in values(world, panel.title)} == {q.legend for q in panel.queries},
        f"data of the panel {panel.title!r}",
    )


def test_panels_of_what_seldom_happens_can_be_asked(world: World) -> None:
    assert values(world, "Load unknown by cause")["{{cause}}", "NoReadyPods"] == 1
    for panel in PANELS:
        if panel.quiet:
            values(world, panel.title)


def test_attainment_is_of_the_requests_of_those_that_hold_their_objectives(world: World) -> None:
    named_so = ("{{class}}", world.named("standard"))
    # One of two services holds them, with a fifth of the (rounded) requests.
    world.eventually(
        lambda: values(world, "SLO attainment by class").get(named_so) == pytest.approx(0.5 / 3, abs=0.08),
        "the share of the requests",
    )
    assert 0 < values(world, "SLO attainment by class over the range")[named_so] < 1


def test_a_service_in_want_is_at_risk_and_the_other_is_not(world: World) -> None:
    at_risk = world.eventually(
        lambda: [series["metric"] for series in asked(world, ALERTS["InferscaleSLOAtRisk"])],
        "the service in want",
    )
    assert [(labels["service"], labels["priority"]) for labels in at_risk] == [("advised", "10")]
    [unknown] = asked(world, ALERTS["InferscaleMetricsUnknown"])
    assert unknown["metric"] == {"namespace": world.namespace, "service": "blind"}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_can_be_asked_and_those_of_the_operator_are_silent(world: World, name: str) -> None:
    found = asked(world, ALERTS[name])
    if name in ("InferscaleNoTick", "InferscaleDown", "InferscaleMoveStuck", "InferscaleCapacityExhausted"):
        assert not found


def test_the_panels_can_be_drawn(world: World, tmp_path: Path) -> None:
    file = tmp_path / "new" / "dashboard.png"
    now = time.time()
    picture.draw(world.prometheus_url, now - RANGE_S, now, file)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_every_metric_of_the_last_plan_has_its_panel_or_alert() -> None:
    used = grafana.text() + "".join(ALERTS.values())
    unused = {family.name for family in FAMILIES if family.name not in used}
    assert not unused & {family.name for family in OF_PLAN}


def test_the_chart_renders_the_dashboard_as_grafana_reads_it(render: Render) -> None:
    rendered = named(render("metrics.dashboard.labels.team=platform"), "ConfigMap", "-dashboard")
    assert rendered["metadata"]["labels"]["team"] == "platform"
    assert rendered["metadata"]["labels"]["grafana_dashboard"] == "1"
    board = json.loads(rendered["data"]["inferscale.json"])
    assert board == json.loads((CHART / "files" / "dashboard.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= grafana.WIDTH
        assert panel["title"]
        assert panel["description"]
    places = [panel["gridPos"] for panel in board["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
