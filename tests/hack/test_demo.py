"""The demo of a scenario: what of it can be shown live, and how the live run is compared."""

import json
import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from demo import scenario
from demo.agreement import (
    Agreement,
    Cause,
    Choice,
    compare,
    explanation,
    read_ticks,
    table,
    tick_files,
    with_load_of,
)
from demo.agreement import document as agreement_document
from demo.live import chosen
from demo.summary import Objective
from fleet.__main__ import main as fleet
from fleet.load import LoadError
from fleet.scenario import read_scenario_loads, scenario_loads
from inferscale_operator.errors import UsageError
from inferscale_operator.snapshot import load_snapshot
from inferscale_operator.twin.resources import START, read_scenario
from inferscale_operator.twin.simulation import parse_policy, simulate
from inferscale_operator.twin.traffic import Traffic
from twin_builders import document, service, setting, write

SCENARIOS = Path(__file__).parents[2] / "docs" / "examples" / "scenarios"


def choice(replicas: int = 2, rate: float = 300.0, target: int | None = None) -> Choice:
    wanted = ("h100", replicas if target is None else target)
    return Choice("h100", replicas, (rate, 128.0, 64.0), wanted, (10.0 * replicas, 100.0))


def both(a: int, b: int) -> dict[str, Choice]:
    return {"default/a": choice(a), "default/b": choice(b)}


def run(*replicas: int, rate: float = 300.0) -> dict[int, dict[str, Choice]]:
    return {number: {"default/chat": choice(each, rate)} for number, each in enumerate(replicas)}


def compared(live: dict[int, dict[str, Choice]], twin: dict[int, dict[str, Choice]]) -> Agreement:
    """Two runs for which the load makes no difference."""
    return compare(live, twin, live.__getitem__)


def test_equal_runs_agree_in_every_tick() -> None:
    found = compared(run(2, 3, 3), run(2, 3, 3))
    assert (found.share, found.differences, found.by_service) == (1.0, (), {"default/chat": 3})


def test_a_tick_counts_as_equal_only_if_all_services_are() -> None:
    live, twin = {0: both(1, 1), 1: both(1, 1)}, {0: both(1, 2), 1: both(1, 1)}
    found = compared(live, twin)
    assert (found.equal, found.ticks) == (1, 2)
    assert found.by_service == {"default/a": 2, "default/b": 1}


def test_another_accelerator_is_a_difference() -> None:
    other = {0: {"default/chat": Choice("a100", 2, (300.0, 128.0, 64.0), ("a100", 2))}}
    assert compared(run(2), other).equal == 0


@pytest.mark.parametrize(
    ("live", "twin"), [(run(2, 2, 3, 3), run(2, 3, 3, 3)), (run(2, 3, 3, 3), run(2, 2, 3, 3))]
)
def test_a_change_one_tick_later_or_earlier_is_told_as_such(
    live: dict[int, dict[str, Choice]], twin: dict[int, dict[str, Choice]]
) -> None:
    [only] = compared(live, twin).differences
    assert (only.tick, only.cause) == (1, Cause.PHASE)


def test_a_difference_that_goes_away_with_the_other_load_is_laid_to_the_load() -> None:
    live, twin = run(2, rate=300), run(3, rate=330)
    [only] = compare(live, twin, twin.__getitem__).differences
    assert only.cause is Cause.LOAD


def test_a_difference_that_stays_follows_from_the_tick_before() -> None:
    live, twin = run(2, 2, 2), run(3, 4, 5)
    assert [each.cause for each in compared(live, twin).differences] == [
        *(Cause.OTHER, Cause.FOLLOWS, Cause.FOLLOWS)
    ]


def test_what_has_no_reason_is_called_unexplained() -> None:
    [only] = compared(run(2), run(3)).differences
    assert only.cause is Cause.OTHER


@pytest.mark.parametrize(("live", "twin"), [(run(2), run(2, 2)), (run(2, 2), run(2))])
def test_a_tick_that_one_run_lacks_is_a_difference(
    live: dict[int, dict[str, Choice]], twin: dict[int, dict[str, Choice]]
) -> None:
    found = compared(live, twin)
    assert (found.equal, found.ticks) == (1, 2)
    assert {each.cause for each in found.differences} == {Cause.MISSING}


def test_nothing_is_no_agreement() -> None:
    assert compared({}, {}).share == 0.0


def test_differences_in_a_row_are_told_in_one_line() -> None:
    live, twin = run(2, 2, 2, 2, 2, 4), run(2, 3, 3, 3, 2, 5)
    shown = explanation(compared(live, twin).differences, 10.0)
    assert list(shown.columns[1].cells) == ["10", "50"]
    assert list(shown.columns[2].cells) == ["3", "1"]


def test_the_table_names_the_start_and_both_ends() -> None:
    live, twin = run(2, 3, 3), run(2, 3, 4)
    shown = table(compared(live, twin), live, twin)
    row = [next(iter(column.cells)) for column in shown.columns]
    assert row == [
        *("default/chat", "2 × h100", "3 × h100", "4 × h100"),
        *("26.7 / 30.0", "100 / 100", "2 of 3"),
    ]


def test_latencies_are_means_over_the_ticks_that_know_them() -> None:
    unknown = {0: {"default/chat": Choice("h100", 2)}}
    shown = table(compared(run(2, 4), unknown), run(2, 4), unknown)
    assert [next(iter(shown.columns[place].cells)) for place in (4, 5)] == ["30.0 / nan", "100 / nan"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    world = setting(folder, service(load={"rate": 60}), duration=120)
    simulate(world, parse_policy("inferscale"), record=folder / "plans")
    return folder / "plans"


def test_recorded_plans_are_numbered_by_their_ticks(recorded: Path) -> None:
    found = read_ticks(tick_files(recorded, START, 30.0, 120.0))
    assert sorted(found) == [0, 1, 2, 3]
    assert found[0]["default/chat"].asked == ("h100", 2)


def test_plans_before_and_after_the_load_are_left_out(recorded: Path) -> None:
    assert sorted(tick_files(recorded, START + timedelta(seconds=31), 30.0, 60.0)) == [0, 1]


def test_what_a_tick_saw_is_read_with_what_it_asked_for(recorded: Path) -> None:
    seen = read_ticks(tick_files(recorded, START, 30.0, 120.0))[3]["default/chat"].load
    assert seen is not None
    assert seen[0] == pytest.approx(60, rel=0.5)


def test_the_load_of_another_run_is_put_into_a_snapshot(recorded: Path) -> None:
    snapshot = load_snapshot(tick_files(recorded, START, 30.0, 120.0)[3].read_bytes())
    [state] = snapshot.services
    tenfold = replace(state, load=replace(state.load, arrival_rate=6000.0))
    assert with_load_of(snapshot, snapshot)["default/chat"].target[1] == 1
    assert with_load_of(snapshot, replace(snapshot, services=(tenfold,)))["default/chat"].target[1] > 3


def test_the_fleet_serves_the_requests_that_the_simulation_draws(tmp_path: Path) -> None:
    world = setting(tmp_path, duration=60)
    drawn = Traffic(world.services[0].scenario, tmp_path, 60, 7, drawn=True)
    [load] = read_scenario_loads(world.path, 7)
    replay = load.traffic()
    requests = [request for at_ms in range(0, 60_001, 50) for request in replay.until(at_ms)]
    assert [request.arrival_ms for request in requests] == pytest.approx(list(drawn.at_s * 1000))
    assert [request.output_tokens for request in requests] == list(drawn.output_tokens)
    assert [request.input_tokens for request in requests] == list(drawn.input_tokens)


def test_the_load_of_a_scenario_over_time_is_in_requests_per_minute(tmp_path: Path) -> None:
    points = {"points": [{"at": 0, "rate": 100}, {"at": 60, "rate": 400}]}
    [load] = scenario_loads(setting(tmp_path, service(load=points), duration=60), 1)
    assert (load.at(30).rate, load.at(30).output_tokens) == pytest.approx((250, 64))


def test_a_scenario_that_cannot_be_read_is_an_error_of_the_load(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="duration is missing"):
        read_scenario_loads(write(tmp_path, "{}"), None)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"duration": 3600}, "duration: 3600: a live run goes with the clock, 900 s at most"),
        (
            {"disturbances": [{"kind": "nodeLoss", "type": "H100", "at": 10}]},
            "disturbances: nodeLoss: nothing goes wrong in a live run",
        ),
        ({"routing": "RoundRobin"}, "routing: RoundRobin"),
        ({"startUp": {"seconds": 20, "byAccelerator": {"h100": 30}}}, "startUp.byAccelerator.h100: 30"),
    ],
)
def test_what_a_live_run_cannot_do_is_refused_with_the_remedy(
    tmp_path: Path, fields: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        scenario.check(setting(tmp_path, **fields))


def test_a_batch_limit_that_emulated_engines_do_not_read_is_refused(tmp_path: Path) -> None:
    batch = {"batch": {"mode": "Managed", "arg": "--max-batch"}}
    with pytest.raises(UsageError, match="default/chat: --max-batch: emulated engines read --max-num-seqs"):
        scenario.check(setting(tmp_path, service(spec=batch)))


@pytest.mark.parametrize("name", ["deck-small", "mixed-small"])
def test_the_small_scenarios_can_be_shown_live(name: str) -> None:
    scenario.check(read_scenario(SCENARIOS / f"{name}.yaml"))


def test_the_objects_of_a_scenario_make_the_same_scenario_again(tmp_path: Path) -> None:
    world = read_scenario(SCENARIOS / "deck-small.yaml")
    (tmp_path / "objects").mkdir()
    write(tmp_path / "objects", yaml.safe_dump_all(scenario.objects(world)), "all.yaml")
    inline = yaml.safe_load(world.path.read_text())
    for field in ("accelerators", "models", "classes", "policy"):
        del inline[field]
    for each in inline["services"]:
        del each["spec"]
    read = read_scenario(write(tmp_path, inline | {"manifests": "objects"}))
    assert (read.accelerators, read.policy) == (world.accelerators, world.policy)
    assert [each.spec for each in read.services] == [each.spec for each in world.services]


def test_a_deployment_starts_up_and_ends_as_the_scenario_says(tmp_path: Path) -> None:
    found = list(scenario.objects(setting(tmp_path, service(replicas=3, on="a100"), terminationGrace=7)))
    [deployment] = [each for each in found if each["kind"] == "Deployment"]
    template = deployment["spec"]["template"]
    assert deployment["spec"]["replicas"] == 3
    assert template["metadata"]["annotations"] == {
        "inferscale.dev/emulated-startup-seconds": "20",
        "inferscale.dev/emulated-shutdown-seconds": "7",
    }
    assert template["spec"]["nodeSelector"] == {"inferscale.dev/accelerator": "A100"}
    assert template["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}


def test_the_nodes_are_those_of_the_scenario(tmp_path: Path) -> None:
    groups = scenario.nodes(setting(tmp_path))
    assert [
        (g["labels"]["inferscale.dev/accelerator"], g["allocatable"]["nvidia.com/gpu"]) for g in groups
    ] == [
        ("H100", 8),
        ("A100", 8),
    ]


def test_images_of_variants_are_named_without_tag_and_digest(tmp_path: Path) -> None:
    names = ["vllm/vllm-openai:v1", "registry:5000/rocm/vllm", "quay.io/x/y:2@sha256:00"]
    variants = [{"accelerator": "h100", "image": name, "container": f"c{n}"} for n, name in enumerate(names)]
    each = [service(f"s{n}", spec={"variants": [one]}) for n, one in enumerate(variants)]
    assert scenario.images(setting(tmp_path, *each)) == [
        "quay.io/x/y",
        "registry:5000/rocm/vllm",
        "vllm/vllm-openai",
    ]


def test_an_objective_that_a_class_does_not_have_is_always_kept(tmp_path: Path) -> None:
    classes = {"standard": {"priority": 5, "models": [{"model": "llama", "itl": 40}]}}
    found = scenario.objectives(setting(tmp_path, classes=classes))
    assert found == {"chat": Objective("standard", 40, math.inf)}


def test_changes_of_load_are_told_in_their_order(tmp_path: Path) -> None:
    rise = {"points": [{"at": 0, "rate": 100}, {"at": 50, "rate": 100}, {"at": 60, "rate": 300}]}
    longer = {"points": [{"at": 0, "input": 8, "output": 16}, {"at": 20, "input": 8, "output": 32}]}
    told = scenario.story(setting(tmp_path, service(load=rise, tokens=longer | {"step": True})))
    assert [(each["at"], each["say"].partition(": ")[2]) for each in told[1:]] == [
        (20, "requests go from 8 + 16 to 8 + 32 tokens"),
        (50, "load goes from 100 to 300 requests/min"),
    ]


def test_a_run_takes_the_seed_of_its_scenario_unless_another_is_given(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    found = [chosen(path, seed, None) for seed in (None, 7)]
    assert [each.seed for each in found if each is not None] == [3, 7]
    assert chosen(None, None, None) is None


def test_an_agreement_is_written_in_the_types_of_json() -> None:
    found = json.loads(json.dumps(agreement_document(compared(run(2, 2, 3, 3), run(2, 3, 3, 3)))))
    assert (found["ticks"], found["equal"], found["share"]) == (4, 3, 0.75)
    assert found["differences"] == [
        {
            "tick": 1,
            "service": "default/chat",
            "live": {"accelerator": "h100", "replicas": 2},
            "twin": {"accelerator": "h100", "replicas": 3},
            "cause": "a tick earlier or later",
        }
    ]


def test_the_fleet_says_what_is_wrong_with_a_scenario(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--kubeconfig", str(tmp_path / "none"), "--scenario", str(write(tmp_path, "{}"))]
    assert fleet(arguments) == 2
    assert "scenario.yaml: duration is missing" in capsys.readouterr().err
