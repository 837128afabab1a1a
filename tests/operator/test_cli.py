"""The command line: what is wrong is told in one line, and a recorded decision can be made again."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from inferscale_operator.cli import main
from inferscale_operator.decide import decide
from inferscale_operator.errors import UsageError
from inferscale_operator.plan import dump_plan
from inferscale_operator.recorder import Recorder, plan_of
from inferscale_operator.snapshot import LoadState, ObservedLoad, Resource, ServiceState, Snapshot

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
URL = ("--prometheus-url", "http://127.0.0.1:9")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INFERSCALE_PROMETHEUS_URL", "INFERSCALE_KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


def snapshot(time: datetime = NOW) -> Snapshot:
    service = Resource(
        name="chat",
        namespace="team",
        uid="uid-chat",
        generation=1,
        spec=None,
        error="spec.model is missing: it is required",
    )
    return Snapshot(time=time, services=(ServiceState(service, ObservedLoad(LoadState.UNKNOWN)),))


def record(folder: Path, time: datetime = NOW, keep: int = 10) -> Path:
    recorder = Recorder(folder, keep)
    recorder.prepare()
    taken = snapshot(time)
    recorder.save(taken, decide(taken))
    return max(folder.glob("*.snapshot.json"))


def fails(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert caught.value.code == code
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run",), "--prometheus-url (or INFERSCALE_PROMETHEUS_URL) is missing"),
        (("run", "--prometheus-url", "prometheus"), "'prometheus': it must be like http://"),
        (("run", *URL), "--kubeconfig is not set and this is no pod of a cluster"),
        (("run", *URL, "--kubeconfig", "/nowhere"), "--kubeconfig /nowhere"),
        (("run", *URL, "--log-level", "loud"), "--log-level"),
        (("run", *URL, "--record", "/proc/nowhere"), "--record /proc/nowhere"),
    ],
)
def test_settings_that_cannot_be_used_end_with_a_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    told = fails(capsys, *arguments)
    assert message in told
    assert "Traceback" not in told


def test_the_environment_stands_in_for_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERSCALE_PROMETHEUS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("INFERSCALE_KUBECONFIG", "/from/the/environment")
    assert "--kubeconfig /from/the/environment" in fails(capsys, "run")


def test_a_kubeconfig_without_the_context_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "a",
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                "clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:9"}}],
                "users": [{"name": "a", "user": {}}],
            }
        )
    )
    told = fails(capsys, "run", *URL, "--kubeconfig", str(kubeconfig), "--context", "b")
    assert str(kubeconfig) in told
    assert "'b'" in told


def test_a_recorded_decision_is_made_again_to_the_same_bytes(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    path = record(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["replay", str(path), "-o", "json"])
    assert caught.value.code == 0
    told = capfdbinary.readouterr()
    assert told.out == dump_plan(decide(snapshot())) == plan_of(path).read_bytes()
    assert b"The same as" in told.err


def test_a_decision_that_differs_from_the_recorded_one_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = record(tmp_path)
    plan_of(path).write_text("{}")
    assert "Not the same as" in fails(capsys, "replay", str(path), code=1)


def test_the_table_of_a_replay_names_each_service(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = record(tmp_path)
    plan_of(path).unlink()
    with pytest.raises(SystemExit) as caught:
        main(["replay", str(path)])
    assert caught.value.code == 0
    told = capsys.readouterr()
    assert "team/chat" in told.out
    assert "Cost per hour" in told.out
    assert told.err == ""


def test_a_file_that_is_no_snapshot_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"services": 3}')
    told = fails(capsys, "replay", str(path))
    assert f"{path} is no recorded snapshot" in told
    assert "--record" in told


def test_only_the_newest_snapshots_are_kept(tmp_path: Path) -> None:
    for minute in range(4):
        record(tmp_path, NOW + timedelta(minutes=minute), keep=2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name[:15] for name in names] == ["20260301T120200"] * 2 + ["20260301T120300"] * 2


def test_a_folder_that_cannot_be_made_is_told() -> None:
    with pytest.raises(UsageError, match=r"--record /proc/nowhere: .*Give a folder that can be made"):
        Recorder(Path("/proc/nowhere"), 1).prepare()
