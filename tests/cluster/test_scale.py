"""Many services: nothing is written when nothing changed, and queries do not become more with services."""

import time
from collections.abc import Iterator

import pytest

from bench import crowd, scale
from inferscale_operator.kube import kinds
from localcluster import ToolsUnavailableError

pytestmark = pytest.mark.full

SERVICES = 40
FEW = 5
PACE = scale.Pace(tick_s=2, window_s=12, scrape_s=1.0)
SERVER_SIDE = (kinds.INFERENCE_SERVICE, kinds.INFERENCE_ALLOCATION, kinds.DEPLOYMENT, kinds.EVENT)


@pytest.fixture(scope="module")
def world() -> Iterator[scale.World]:
    try:
        # A load that stands still.
        with scale.world(SERVICES, PACE, noise=0.0) as here:
            yield here
    except ToolsUnavailableError as error:
        pytest.skip(f"no local cluster: {error}")


def appear(here: scale.World, numbers: range) -> None:
    for number in numbers:
        manifest = crowd.service(number, scale.REPLICAS)
        here.client.create(kinds.INFERENCE_SERVICE, crowd.NAMESPACE, manifest)


def settled(url: str, services: int) -> None:
    name = "inferscale_services"
    scale.wait(lambda: scale.total(scale.exposition(url), name) == services, "all services", 120)
    scale.wait(
        lambda: scale.total(scale.exposition(url), name, reason="Served") == services, "all served", 120
    )


def between_ticks(url: str, count: int) -> tuple[scale.Samples, scale.Samples]:
    """The metrics as they are, and so many ticks later."""
    begin = scale.exposition(url)
    until = scale.ticks(url) + count
    scale.wait(lambda: scale.ticks(url) >= until, f"{count} ticks", 120)
    return begin, scale.exposition(url)


def queries_a_tick(url: str) -> float:
    begin, end = between_ticks(url, 4)
    asked, ticks = (
        scale.total(end, name) - scale.total(begin, name)
        for name in ("inferscale_prometheus_queries_total", "inferscale_tick_seconds_count")
    )
    return asked / ticks


def versions(here: scale.World) -> dict[str, str]:
    found = {}
    for kind in SERVER_SIDE:
        for item in here.client.list_all(kind)["items"]:
            meta = item["metadata"]
            if meta.get("namespace") == crowd.NAMESPACE and "inferscale" in str(item):
                found[f"{kind.name} {meta['name']}"] = meta["resourceVersion"]
    return found


def test_what_is_written_and_asked_does_not_go_with_the_number_of_services(world: scale.World) -> None:
    with scale.operator(world) as (url, _):
        scale.wait(lambda: scale.ticks(url) >= 1, "the first tick", 120)
        appear(world, range(FEW))
        settled(url, FEW)
        of_few = queries_a_tick(url)
        appear(world, range(FEW, SERVICES))
        settled(url, SERVICES)
        assert queries_a_tick(url) == pytest.approx(of_few, rel=0.5)
        begun, before = time.monotonic(), versions(world)
        begin, end = between_ticks(url, 8)
        after = versions(world)
        # Figures may be written, at most once a minute each.
        most = int((time.monotonic() - begun) // 60) + 1
        written = scale.writes(begin, end)
        assert written.get("Deployment", 0) == written.get("Event", 0) == 0, written
        assert written.get("InferenceAllocation", 0) <= most * SERVICES, written
        assert written.get("InferenceService", 0) <= most * SERVICES, written
        assert {name for name in before if name.startswith("Deployment")} == {
            name
            for name, version in after.items()
            if name.startswith("Deployment") and before[name] == version
        }
