"""A recorded run is decided again to the same bytes, elsewhere."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from kubernetes.client.configuration import Configuration

import kubernetes_objects as objects
from builders import UNKNOWN, after, behavior, load, pods_of, policy, service, world
from deployment_model import ModelDeployment
from inferscale_operator.application import App
from inferscale_operator.cli import main
from inferscale_operator.commands import snapshot as command
from inferscale_operator.decide import decide
from inferscale_operator.kube import kinds
from inferscale_operator.kube.client import ApiError
from inferscale_operator.plan import Plan
from inferscale_operator.recorder import Recorder, plan_of
from inferscale_operator.settings import Settings
from inferscale_operator.snapshot import PodState, Resource, ServiceState, Snapshot

TICKS = 100
TICK_S = 30
MODELLED = ("chat", "batch")


def demand(name: str, tick: int) -> float:
    """Requests per minute: days of an hour, and a service that is at rest now and then."""
    wave = 1 + math.sin(2 * math.pi * tick / 120 + (1.5 if name == "batch" else 0))
    return round({"chat": 150, "batch": 60, "asked": 40}[name] * wave, 3)


def start() -> Snapshot:
    windows = behavior(60, 120)
    return world(
        service("chat", 2, behavior=windows),
        service("batch", 2, behavior=windows, serviceClass="silver"),
        service("asked", 2, behavior=windows, mode="Approve", serviceClass="silver"),
        policies=(Resource("default", "uid-policy", 1, policy()),),
    )


def ticks() -> Iterator[tuple[Snapshot, Plan]]:
    """A run in which load comes and goes, is unknown for a while, and what is decided is carried out."""
    models = {name: ModelDeployment(replicas=2) for name in MODELLED}
    snapshot = start()
    for tick in range(TICKS):
        snapshot = replace(snapshot, services=tuple(_service(s, models, tick) for s in snapshot.services))
        pods: list[PodState] = []
        for state in snapshot.services:
            assert state.deployment is not None
            held: dict[str, int] = {}
            for pod in pods:
                if pod.node is not None:
                    held[pod.node] = held.get(pod.node, 0) + sum(pod.requests.values())
            pods += pods_of(state.deployment, snapshot.nodes, held)
        snapshot = replace(snapshot, pods=tuple(pods))
        plan = decide(snapshot)
        yield snapshot, plan
        for planned in plan.services:
            model = models.get(planned.service.name)
            if model is not None and planned.patch is not None:
                model.apply(planned.patch)
        for model in models.values():
            for _ in range(3):
                model.step(TICK_S / 3)
        saved = plan.savings.total if plan.savings is not None else None
        snapshot = replace(after(snapshot, plan, TICK_S), saved=saved)


def _service(state: ServiceState, models: dict[str, ModelDeployment], tick: int) -> ServiceState:
    name = state.resource.name
    seen = UNKNOWN if 60 <= tick < 70 and name == "batch" else load(demand(name, tick))
    model = models.get(name)
    there = state.deployment
    if model is not None:
        there = replace(model.state(), name=name, uid=f"uid-{name}")
    pending = state.allocation.pending_plan if state.allocation is not None else None
    approved = pending.digest if pending is not None and tick % 50 == 49 else state.approved
    return replace(state, load=seen, deployment=there, approved=approved)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    recorder = Recorder(folder, keep=TICKS)
    for snapshot, plan in ticks():
        recorder.save(snapshot, plan)
    return folder


def snapshots(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.snapshot.json"))


def test_the_run_that_is_recorded_has_something_to_tell(recorded: Path) -> None:
    text = "".join(plan_of(path).read_text() for path in snapshots(recorded))
    for word in (
        "ScaledUp",
        "ScaledDown",
        "MoveStarted",
        "MoveCompleted",
        "AwaitingApproval",
        "MetricsUnknown",
    ):
        assert f'"{word}"' in text, word
    assert len(snapshots(recorded)) == TICKS


def test_what_the_operator_did_itself_is_never_taken_for_somebody_else_s(recorded: Path) -> None:
    text = "".join(plan_of(path).read_text() for path in snapshots(recorded))
    assert '"written": {' in text
    assert "ChangedByOther" not in text


ELSEWHERE = """
import sys
from pathlib import Path
from typing import Any, NoReturn
from inferscale_operator.decide import decide
from inferscale_operator.plan import dump_plan
from inferscale_operator.kube import kinds
from inferscale_operator.kube.client import ApiError
from inferscale_operator.plan import Plan
from inferscale_operator.recorder import plan_of
from inferscale_operator.snapshot import load_snapshot

different = [
    path.name
    for path in sorted(Path(sys.argv[1]).glob("*.snapshot.json"))
    if dump_plan(decide(load_snapshot(path.read_bytes()))) != plan_of(path).read_bytes()
]
sys.exit(", ".join(different) or 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "zone", "locale"),
    [
        ("4242", "Pacific/Auckland", "C"),
        pytest.param("1", "America/Lima", "de_DE.UTF-8", marks=pytest.mark.full),
    ],
)
def test_every_tick_is_decided_to_the_same_bytes_elsewhere(
    recorded: Path, seed: str, zone: str, locale: str
) -> None:
    elsewhere = {"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale, "OPENBLAS_NUM_THREADS": "1"}
    environment = {**os.environ, **elsewhere}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(recorded)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_says_that_a_plan_is_the_same(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["replay", "--diff", str(snapshots(recorded)[-1])])
    assert caught.value.code == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "The same as" in told.err


def test_the_command_prints_what_differs(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / snapshots(recorded)[-1].name
    path.write_bytes(snapshots(recorded)[-1].read_bytes())
    changed = plan_of(snapshots(recorded)[-1]).read_text().replace('"mode": "Apply"', '"mode": "Other"')
    plan_of(path).write_text(changed)
    with pytest.raises(SystemExit) as caught:
        main(["replay", "--diff", str(path)])
    assert caught.value.code == 1
    told = capsys.readouterr()
    assert [line.strip() for line in told.out.splitlines() if line.startswith(("-  ", "+  "))] == [
        '-    "mode": "Other",',
        '+    "mode": "Apply",',
    ] * 2
    with pytest.raises(SystemExit) as caught:
        main(["replay", str(path)])
    assert caught.value.code == 1
    told = capsys.readouterr()
    assert "chat" in told.out
    assert '+    "mode": "Apply",' in told.err


def test_there_must_be_something_to_compare_with(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "alone.snapshot.json"
    path.write_bytes(snapshots(recorded)[0].read_bytes())
    with pytest.raises(SystemExit) as caught:
        main(["replay", "--diff", str(path)])
    assert caught.value.code == 2
    assert "alone.plan.json to compare with" in capsys.readouterr().err


class Cluster:
    """A cluster with one service that is not valid, whose Prometheus is never asked."""

    def __init__(self, error: ApiError | None = None) -> None:
        self.error = error

    def list_all(self, kind: kinds.Kind, *_: Any, **__: Any) -> objects.Object:
        if self.error is not None:
            raise self.error
        return objects.listing(*([objects.service()] if kind is kinds.INFERENCE_SERVICE else []))

    def ask(self, *_: Any) -> NoReturn:
        raise AssertionError("no pods, so there is nothing to ask")

    def close(self) -> None:
        """Nothing is open."""


def play(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> None:
    def made(settings: Settings) -> App:
        return App(settings, Configuration(), client=cluster, prometheus=cluster)  # type: ignore[arg-type]

    monkeypatch.setattr(command, "make_app", made)


def test_what_would_be_decided_now_can_be_written_and_replayed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(monkeypatch, Cluster())
    with pytest.raises(SystemExit) as caught:
        main(["snapshot", str(tmp_path / "new"), "--prometheus-url", "http://127.0.0.1:9"])
    assert caught.value.code == 0
    written = Path(capsys.readouterr().out.strip())
    assert snapshots(tmp_path / "new") == [written]
    with pytest.raises(SystemExit) as caught:
        main(["replay", str(written)])
    assert caught.value.code == 0
    assert "team/chat" in capsys.readouterr().out


def test_a_cluster_that_cannot_be_read_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(monkeypatch, Cluster(ApiError(403, "Forbidden", "not you")))
    with pytest.raises(SystemExit) as caught:
        main(["snapshot", str(tmp_path), "--prometheus-url", "http://127.0.0.1:9"])
    assert caught.value.code == 2
    assert "acceleratorprofiles cannot be listed (Forbidden): not you" in capsys.readouterr().err


def test_a_folder_for_a_snapshot_that_cannot_be_made_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["snapshot", "/proc/nowhere", "--prometheus-url", "http://127.0.0.1:9", "--kubeconfig=/none"])
    assert caught.value.code == 2
    assert capsys.readouterr().err
