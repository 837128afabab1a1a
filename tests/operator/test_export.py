"""`inferscale export`: what the operator plans from, planned offline to the same allocations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import (
    IDLE,
    NOW,
    UNKNOWN,
    accelerator,
    deployment,
    load,
    model,
    node,
    of,
    performance,
    pod_spec,
    policy,
    service,
    service_class,
    world,
)
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus, LoadStatus
from inferscale_operator.cli import main
from inferscale_operator.decide import decide
from inferscale_operator.migration.export import as_text, export
from inferscale_operator.observe import NOT_ASKED
from inferscale_operator.planning.deck import Deck
from inferscale_operator.planning.formulate import options
from inferscale_operator.planning.planner import make_plan
from inferscale_operator.planning.reading import Files, read_deck
from inferscale_operator.planning.report import Report
from inferscale_operator.snapshot import LoadState, ObservedLoad, PodState, Snapshot, dump_snapshot

KINDS = ("gold", "silver", "bronze")


def deck_of(folder: Path, snapshot: Snapshot) -> Deck:
    """What `plan` reads of an exported snapshot."""
    for name, content in export(snapshot).files.items():
        (folder / name).write_text(as_text(content))
    stems = ("accelerator", "model", "serviceclass", "server", "capacity", "optimizer")
    paths = [folder / f"{stem}-data.json" for stem in stems]
    return read_deck(Files(*paths[:4], *(path if path.exists() else None for path in paths[4:])))


def planned(folder: Path, snapshot: Snapshot) -> Report:
    deck = deck_of(folder, snapshot)
    return make_plan(deck, deck, options(deck, {}))


def agrees(folder: Path, snapshot: Snapshot) -> None:
    """The plan of the files gives every service what the operator's target for it is."""
    decided = decide(snapshot)
    lines = {line.server: line for line in planned(folder, snapshot).lines}
    assert lines
    for key, line in lines.items():
        entry = next(each for each in decided.services if each.key == key).allocation.allocations[0]
        if line.accelerator is None or not line.replicas:
            continue
        assert (line.accelerator, line.replicas) == (entry.target_accelerator, entry.target_replicas)


def remembered(rate: float, tokens: float = 100.0) -> InferenceAllocationStatus:
    known = LoadStatus(
        state="Observed", arrival_rate=rate, input_tokens=0.0, output_tokens=tokens, observed_at=NOW
    )
    return InferenceAllocationStatus(load=known)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(KINDS),
            st.integers(1, 4),
            st.one_of(st.just(IDLE), st.builds(load, st.floats(1.0, 300.0).map(lambda rate: round(rate, 2)))),
            st.booleans(),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["Apply", "Recommend"]),
    st.sampled_from(["Greedy", "Auto"]),
    st.booleans(),
)
def test_a_plan_of_the_export_is_what_the_operator_wants(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[str, int, ObservedLoad, bool]],
    mode: str,
    solver: str,
    limited: bool,
) -> None:
    states = [
        service(f"s{i}", replicas, observed, serviceClass=kind, keepAccelerator=keep, mode=mode)
        for i, (kind, replicas, observed, keep) in enumerate(drawn)
    ]
    rules = policy(solver=solver, accelerators="Limited" if limited else "Unlimited", keepThreshold=0.02)
    agrees(tmp_path_factory.mktemp("export"), world(*states, policy=rules))


def test_objectives_bind_alike(tmp_path: Path) -> None:
    classes = (
        service_class("gold", 1, itl=20.0, ttft=400.0, percentile=0.9),
        service_class("silver", 2, ttw=300.0),
        service_class("bronze", 3, tps=500.0),
    )
    measured = [
        performance("h100", 60.0, alpha=8.0, beta=0.2, gamma=4.0, delta=0.02, maxBatchSize=64),
        performance("a100", 30.0, alpha=15.0, beta=0.5, gamma=9.0, delta=0.05, maxBatchSize=32),
    ]
    observed = replace(load(900.0), input_tokens=300.0)
    states = [service(kind, 2, observed, serviceClass=kind) for kind in KINDS]
    agrees(
        tmp_path,
        world(*states, service_classes=classes, model_profiles=(model("llama", *measured),)),
    )


def test_what_others_hold_and_what_is_not_allowed_is_left_out(tmp_path: Path) -> None:
    """Of 8 H100, 5 are others'; the A100 are not allowed to one service."""
    stranger = PodState("other", "job", None, "node-h", {"nvidia.com/gpu": 5}, ready=True, terminating=False)
    states = (
        service("a", 1, load(300.0), allowedAccelerators=["h100"]),
        service("b", 1, load(100.0), serviceClass="silver"),
    )
    placed = world(*states).pods
    seen = world(*states, pods=(*placed, stranger))
    agrees(tmp_path, seen)
    files = export(seen).files
    assert files["capacity-data.json"]["count"] == [
        {"type": "A100", "count": 8, "nodes": [8]},
        {"type": "H100", "count": 3, "nodes": [3]},
    ]
    allowed = {row["name"]: row.get("allowedAccelerators") for row in files["server-data.json"]["servers"]}
    assert allowed == {"prod/a": ["h100"], "prod/b": None}


def test_budget_quotas_and_weights_are_exported(tmp_path: Path) -> None:
    rules = policy(
        budget={"maxCostPerHour": 40}, quotas=[{"type": "H100", "units": 3, "serviceClass": "gold"}]
    )
    states = (service("a", 1, load(300.0), weight=2.0), service("b", 1, load(100.0), serviceClass="silver"))
    seen = world(*states, policy=rules)
    agrees(tmp_path, seen)
    files = export(seen).files
    assert files["optimizer-data.json"]["optimizer"]["maxCostPerHour"] == 40
    assert files["optimizer-data.json"]["optimizer"]["quotas"] == [
        {"type": "H100", "units": 3, "serviceClass": "gold"}
    ]
    assert files["server-data.json"]["servers"][0]["weight"] == 2.0


def test_headroom_is_not_in_the_capacity(tmp_path: Path) -> None:
    spare = accelerator("h100", capacity={"headroom": 2})
    seen = world(service(), accelerator_profiles=(spare, accelerator("a100", cost=6.0)))
    rows = {row["type"]: row for row in export(seen).files["capacity-data.json"]["count"]}
    assert rows["H100"]["count"] == 6
    assert rows["A100"] == {"type": "A100", "count": 8, "nodes": [8]}
    agrees(tmp_path, seen)


def test_a_load_that_is_not_known_is_the_last_that_was() -> None:
    seen = world(
        service("a", observed=UNKNOWN, allocation=remembered(120.0)),
        service("b", observed=NOT_ASKED, allocation=remembered(0.0)),
        service("c", observed=UNKNOWN),
    )
    exported = export(seen)
    rows = {row["name"]: row["currentAlloc"]["load"] for row in exported.files["server-data.json"]["servers"]}
    assert rows["prod/a"]["arrivalRate"] == 120.0
    assert rows["prod/b"]["arrivalRate"] == 0.0
    assert "prod/c" not in rows
    assert exported.left_out == (
        "prod/c: its load was never known: it keeps what it has, which is not in the capacity",
    )
    # Two of the eight are c's.
    assert {row["type"]: row["count"] for row in exported.files["capacity-data.json"]["count"]}["H100"] == 6


def test_a_load_that_is_doubted_is_the_last_that_was() -> None:
    seen = world(service("a", observed=load(500_000.0), allocation=remembered(10.0)))
    assert decide(seen).services[0].allocation.reason != "Served"
    [row] = export(seen).files["server-data.json"]["servers"]
    assert row["currentAlloc"]["load"]["arrivalRate"] == 10.0


def test_what_cannot_be_planned_is_told() -> None:
    exported = export(
        world(
            service("a"),
            service("lost", model="nowhere"),
            service("still", mode="Paused"),
            service("scaled", on=deployment("scaled", autoscaler="scaled")),
        )
    )
    told = "\n".join(exported.left_out)
    assert "prod/lost: ModelNotFound: spec.model: 'nowhere' is not a ModelProfile" in told
    assert "prod/still: its mode is Paused" in told
    assert "prod/scaled: AutoscalerPresent" in told
    assert [row["name"] for row in exported.files["server-data.json"]["servers"]] == ["prod/a"]


def test_a_cluster_without_services_is_exported_without_servers() -> None:
    exported = export(world())
    assert exported.files["server-data.json"] == {"servers": []}
    assert exported.left_out == ()


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "now.snapshot.json"
    path.write_bytes(dump_snapshot(world(service("chat", 2, load(100.0)), service("gone", model="nowhere"))))
    return path


def test_a_recorded_snapshot_is_exported_and_planned(
    capsys: pytest.CaptureFixture[str], recorded: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    assert run("export", "--snapshot", str(recorded), "--output-dir", str(folder)) == 0
    assert "Not exported: prod/gone: ModelNotFound" in capsys.readouterr().err
    assert run("plan", str(folder), "-o", "json") == 0
    [line] = json.loads(capsys.readouterr().out)["allocations"]
    entry = of(decide(world(service("chat", 2, load(100.0)))), "chat").allocation.allocations[0]
    assert (line["server"], line["accelerator"], line["numReplicas"]) == (
        "prod/chat",
        entry.target_accelerator,
        entry.target_replicas,
    )


def test_what_is_exported_can_be_imported_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    seen = world(
        service("chat", 2, load(100.0), minReplicas=2, maxReplicas=7, mode="Recommend"),
        nodes=(node("node-h", "H100"),),
        policy=policy(transitionPenalty=0.25, keepThreshold=0.05),
    )
    path, folder = tmp_path / "now.json", tmp_path / "files"
    path.write_bytes(dump_snapshot(seen))
    assert run("export", "--snapshot", str(path), "--output-dir", str(folder)) == 0
    assert (
        run("import", str(folder), "--node-selector", "H100=gpu=H100", "--node-selector", "A100=gpu=A100")
        == 0
    )
    found: dict[tuple[str, str], Any] = {
        (document["kind"], document["metadata"]["name"]): document
        for document in yaml.safe_load_all(capsys.readouterr().out)
    }
    chat = found["InferenceService", "chat"]
    [state] = seen.services
    assert chat["metadata"]["namespace"] == "prod"
    spec = state.resource.spec
    assert spec is not None
    again = type(spec).model_validate(chat["spec"])
    assert again == spec.model_copy(update={"behavior": again.behavior})
    for kind, resources in (
        ("ModelProfile", seen.model_profiles),
        ("ServiceClass", seen.service_classes),
    ):
        for resource in resources:
            assert resource.spec is not None
            made = type(resource.spec).model_validate(found[kind, resource.name]["spec"])
            assert made == resource.spec
    for profile in seen.accelerator_profiles:
        assert profile.spec is not None
        made_of_it = type(profile.spec).model_validate(found["AcceleratorProfile", profile.name]["spec"])
        assert made_of_it.model_copy(update={"capacity": profile.spec.capacity}) == profile.spec
    rules = found["OptimizerPolicy", "default"]["spec"]
    assert (rules["transitionPenalty"], rules["keepThreshold"]) == (0.25, 0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --output-dir FOLDER, or -o json"),
        (("-o", "json", "--output-dir", "x"), "give --output-dir FOLDER, or -o json"),
        (("-o", "json", "--snapshot", "/nowhere.json"), "'/nowhere.json' does not exist"),
        (("-o", "json", "--kubeconfig", "/nowhere"), "--kubeconfig /nowhere"),
    ],
)
def test_arguments_that_make_no_sense_are_told(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert run("export", *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_snapshot_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}")
    assert run("export", "-o", "json", "--snapshot", str(path)) == 2
    assert "is no recorded snapshot: time: Field required" in capsys.readouterr().err


def test_json_has_all_files_in_one_object(capsys: pytest.CaptureFixture[str], recorded: Path) -> None:
    assert run("export", "-o", "json", "--snapshot", str(recorded)) == 0
    files = json.loads(capsys.readouterr().out)
    assert sorted(files) == [
        f"{stem}-data.json"
        for stem in ("accelerator", "capacity", "model", "optimizer", "server", "serviceclass")
    ]


def test_partial_loads_keep_what_is_there(tmp_path: Path) -> None:
    seen = world(service("a", 3, load(60.0, LoadState.PARTIAL), on=deployment("a", 3, pod_spec=pod_spec())))
    agrees(tmp_path, seen)
