"""Log lines: one for every decision that changed, in the form that was asked for, and nothing else."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from kubernetes.client.configuration import Configuration

from builders import after, load, service, world
from inferscale_operator.application import App
from inferscale_operator.decide import decide
from inferscale_operator.logs import JsonFormatter, changes, configure_logging, decided
from inferscale_operator.settings import make_settings
from inferscale_operator.snapshot import Snapshot


def app() -> App:
    settings = make_settings({"prometheus_url": "http://prometheus:9090", "listen": "0"})
    return App(settings, Configuration(), None, None)  # type: ignore[arg-type]


def told(running: App, snapshot: Snapshot, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is logged of the plan for a snapshot."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "inferscale_operator"):
        running.tell(snapshot, decide(snapshot))
    return [record.getMessage() for record in caplog.records]


def test_a_decision_is_told_when_it_changed_and_not_again(caplog: pytest.LogCaptureFixture) -> None:
    running = app()
    # Enough for what runs, so that nothing is to be done.
    first = world(service("llama", 2, load(100.0), keepAccelerator=True))
    [line] = told(running, first, caplog)
    assert line.startswith("prod/llama: 2 on h100 → 2 on h100 (20.00 → 20.00 an hour), ")
    second = after(first, decide(first))
    assert told(running, second, caplog) == []
    busier = replace(second, services=(replace(second.services[0], load=load(101.0)),))
    assert told(running, busier, caplog) == []
    busy = replace(second, services=(replace(second.services[0], load=load(170.0)),))
    [line] = told(running, busy, caplog)
    assert line.startswith("prod/llama: 2 on h100 → 3 on h100 (20.00 → 30.00 an hour), ScalingUp: ")
    assert told(running, busy, caplog) == []


def test_a_service_that_comes_back_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    running = app()
    there = world(service("llama", keepAccelerator=True))
    assert len(told(running, there, caplog)) == 1
    told(running, world(), caplog)
    assert len(told(running, there, caplog)) == 1


def test_what_holds_back_is_named() -> None:
    slow = {"scaleUp": {"stabilizationWindowSeconds": 60}, "scaleDown": {"stabilizationWindowSeconds": 60}}
    plan = decide(world(service("llama", 2, load(170.0), keepAccelerator=True, behavior=slow)))
    [change] = changes({}, plan)
    assert "[Stabilization]" in change.line
    assert change.facts["gates"] == ["Stabilization"]
    assert change.facts["to"] == {"accelerator": "h100", "replicas": 2}
    assert change.facts["target"] == {"accelerator": "h100", "replicas": 3}
    assert list(changes({"prod/llama": decided(plan.services[0])}, plan)) == []


def test_a_line_of_json_has_the_facts_by_name() -> None:
    record = logging.makeLogRecord(
        {"name": "kopf", "levelno": logging.WARNING, "levelname": "WARNING", "msg": "%s → b", "args": ("a",)}
    )
    record.facts = {"service": "team/chat", "gates": []}
    line = json.loads(JsonFormatter().format(record))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "kopf",
        "message": "a → b",
        "service": "team/chat",
        "gates": [],
    }


def test_an_exception_is_one_line_too() -> None:
    error = ZeroDivisionError("no\nway")
    record = logging.makeLogRecord({"msg": "failed", "exc_info": (type(error), error, None)})
    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert "ZeroDivisionError" in json.loads(text)["error"]


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("kopf", "aiohttp", "urllib3")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


@pytest.mark.usefixtures("_logging_as_before")
def test_the_lines_of_others_have_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    given = {"prometheus_url": "http://prometheus:9090", "log_format": "json"}
    configure_logging(make_settings(given))
    logging.getLogger("kopf.objects").warning("something is wrong")
    logging.getLogger("kopf.objects").info("a handler succeeded")
    logging.getLogger("inferscale_operator.tick").info("ours")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"], line["message"]) for line in lines] == [
        ("kopf.objects", "something is wrong"),
        ("inferscale_operator.tick", "ours"),
    ]
