from __future__ import annotations

from pathlib import Path

import pytest

from inferscale_operator.twin.cluster import Cluster
from inferscale_operator.twin.history import History
from inferscale_operator.twin.policies import Hpa, HpaSettings
from inferscale_operator.twin.samples import Samples
from inferscale_operator.twin.simulation import Outcome, ServerMode, parse_policy, simulate
from twin_builders import service, setting


class _Nobody:
    def started(self, *_: object) -> None: ...
    def leaving(self, *_: object) -> None: ...
    def stopped(self, *_: object, lost: bool) -> None: ...


def autoscaler(tmp_path: Path, replicas: int = 4) -> Hpa:
    world = setting(
        tmp_path, service(replicas=replicas, spec={"maxReplicas": 40}), capacity={"H100": 100}, nodes=[]
    )
    cluster = Cluster(world, _Nobody())
    return Hpa(world, cluster, Samples(["m"], 100), History(), HpaSettings("m", 10.0))


def replicas(hpa: Hpa) -> int:
    return hpa.cluster.deployments["default/chat"].replicas


@pytest.mark.parametrize(
    ("values", "unseen", "desired"),
    [
        ([10, 10, 10, 10], 0, 4),
        ([10.9] * 4, 0, 4),
        ([11.1] * 4, 0, 5),
        ([20] * 4, 0, 8),
        ([5] * 4, 0, 2),
        # Pods that start count as idle when it would go up: 4 · 20 / 10 = 8 of 8.
        ([20] * 4, 4, 8),
        # And as at the target when it would go down.
        ([5] * 4, 4, 6),
        # Where they turn the direction round, nothing is done.
        ([12] * 4, 4, 4),
    ],
)
def test_replicas_follow_the_average_within_the_tolerance(
    tmp_path: Path, values: list[float], unseen: int, desired: int
) -> None:
    assert autoscaler(tmp_path).desired(values, unseen, 4 + (unseen if desired != 4 else 0)) == desired


def test_an_autoscaler_doubles_at_most_or_adds_four_in_fifteen_seconds(tmp_path: Path) -> None:
    hpa = autoscaler(tmp_path, 1)
    found = []
    for tick in range(4):
        hpa.follow(hpa.setting.services[0], 40, tick * 15.0, "")
        found.append(replicas(hpa))
    assert found == [5, 10, 20, 40]


def test_an_autoscaler_goes_down_to_the_largest_of_its_window(tmp_path: Path) -> None:
    hpa = autoscaler(tmp_path, 8)
    described = hpa.setting.services[0]
    hpa.follow(described, 6, 0.0, "")
    # What it found is a recommendation as well.
    assert replicas(hpa) == 8
    hpa.follow(described, 2, 299.0, "")
    assert replicas(hpa) == 8
    hpa.follow(described, 2, 301.0, "")
    assert replicas(hpa) == 2


def run(tmp_path: Path, policy: str, mode: ServerMode = ServerMode.MEAN_VALUE, **fields: object) -> Outcome:
    world = setting(tmp_path, service(**fields), duration=1500)  # type: ignore[arg-type]
    return simulate(world, parse_policy(policy), mode=mode)


def test_a_threshold_scaler_goes_to_zero_and_comes_back(tmp_path: Path) -> None:
    load = {
        "points": [{"at": 0, "rate": 300}, {"at": 300, "rate": 0}, {"at": 1200, "rate": 300}],
        "step": True,
    }
    done = run(tmp_path, "keda", ServerMode.EVENTS, load=load, spec={"minReplicas": 0})
    counts = [count for _, count, _ in done.replicas[0]]
    assert 0 in counts
    assert counts[-1] > 0
    # What came while there was nothing has waited, and was served.
    windows = done.ledger.windows
    assert windows["lost"].sum() == 0
    assert windows["ttft_late"].sum() > 0
    assert done.ledger.unfinished.sum() < 20


def test_an_autoscaler_on_running_requests_follows_the_load(tmp_path: Path) -> None:
    load = {"points": [{"at": 0, "rate": 300}, {"at": 300, "rate": 3000}], "step": True}
    done = run(tmp_path, "hpa-running:target=8", replicas=1, load=load)
    assert max(count for _, count, _ in done.replicas[0]) >= 4
    assert {name for _, _, name in done.replicas[0]} == {"h100"}


def test_an_autoscaler_leaves_the_accelerator_alone_and_stays_within_bounds(tmp_path: Path) -> None:
    spec = {"minReplicas": 2, "maxReplicas": 3}
    done = run(tmp_path, "hpa-running:target=1", load={"rate": 2000}, spec=spec)
    assert {count for _, count, _ in done.replicas[0]} == {2, 3}
