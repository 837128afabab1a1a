from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from backtest_builders import document, service
from inferscale_operator.cli import main
from twin_builders import write

DEAD = "http://127.0.0.1:9"


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["backtest", *(str(each) for each in arguments)])
    assert exit_.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--prometheus", "prometheus"], "'prometheus': it must be like http://"),
        (["--from", "last week"], "--from last week: is no time"),
        (["--from", "1d", "--to", "2d"], "not before --to 2d"),
        (["--step", "5"], "--step"),
        (["--policy", "vpa"], "--policy vpa: there is no policy 'vpa'"),
        (["--from-cluster"], "give --services FILE or --from-cluster"),
        (["--services", "/nowhere.yaml"], "/nowhere.yaml: No such file or directory"),
        (["--prometheus-header", "secret"], "--prometheus-header: must be NAME=VALUE"),
        ([], f"Prometheus {DEAD}: history of arrivals: "),
    ],
)
def test_errors_are_one_line_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: list[str], message: str
) -> None:
    services = write(tmp_path, document(), "services.yaml")
    given = ["--prometheus", DEAD, "--from", "1d", "--services", services, "--cache", tmp_path / "cache"]
    line = told(capsys, *given, *changed)
    assert message in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be a mapping with"),
        ({"services": []}, "services"),
        (
            document(service(spec={"model": "gpt"})),
            "services[0].spec.model: gpt: is no model: use one of llama",
        ),
        (document(service(initial={})), "services[0].initial.accelerator is missing"),
        (
            document(service("a", spec={"targetRef": {"name": "b"}}), service("b")),
            "spec.targetRef.name: Deployment b in namespace default is the target of another service too",
        ),
        (
            document(service(spec={"metrics": {"preset": "mine"}})),
            "spec.metrics.preset: 'mine' is not a metric preset: name one of gateway, sglang, tgi, vllm",
        ),
    ],
)
def test_services_that_cannot_be_used_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, message: str
) -> None:
    services = write(tmp_path, content, "services.yaml")
    given = ["--prometheus", DEAD, "--from", "1d", "--services", services, "--cache", tmp_path]
    assert message in told(capsys, *given)


@pytest.mark.slow
def test_a_prometheus_that_never_answers_is_told_in_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        services = write(tmp_path, document(), "services.yaml")
        given = ["--prometheus", url, "--from", "1d", "--services", services, "--timeout", 1]
        assert "no answer within 1 s" in told(capsys, *given, "--cache", tmp_path)
