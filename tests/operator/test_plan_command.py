"""`inferscale plan`: from JSON files to tables, JSON, CSV, plots; what-if, purchase and frontier."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from inferscale_operator.cli import main

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "plan"
SEED = Path(__file__).parents[3] / "shared" / "cases" / "seed"

seed = pytest.mark.skipif(not SEED.is_dir(), reason=f"the seed case is not at {SEED}")

JSON_NAMES = [
    "solver",
    "totalCost",
    "totalValue",
    "lowerBound",
    "gap",
    "served",
    "unserved",
    "unservedByPriority",
    "unservedBound",
    "capacity",
    "power",
    "allocations",
    "wallTime",
]
ALLOCATION_NAMES = [
    "server",
    "class",
    "model",
    "accelerator",
    "numReplicas",
    "maxBatch",
    "cost",
    "value",
    "itlAverage",
    "ttftAverage",
    "waitAverage",
    "utilization",
    "change",
    "scale",
    "costDiff",
    "binding",
    "runnerUp",
]


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


class Plan:
    """Runs the command and reads what it says."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def text(self, *arguments: str | Path) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["plan", *map(str, arguments)])
        told = self._capsys.readouterr()
        assert caught.value.code == 0, told.err
        return told.out

    def json(self, *arguments: str | Path) -> dict[str, Any]:
        return json.loads(self.text(*arguments, "-o", "json"), parse_constant=_refuse)

    def csv(self, *arguments: str | Path) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.text(*arguments, "-o", "csv"))))

    def error(self, *arguments: str | Path) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["plan", *map(str, arguments)])
        assert caught.value.code == 2
        told = self._capsys.readouterr()
        assert told.out == ""
        assert "Traceback" not in told.err
        return told.err


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str]) -> Plan:
    return Plan(capsys)


def expected(name: str) -> Any:
    return json.loads((SEED / f"{name}.json").read_text())


def differences(made: dict[str, Any], answers: list[dict[str, Any]]) -> list[str]:
    """What differs from the expected allocations; a list of accelerators is a tie."""
    lines = {line["server"]: line for line in made["allocations"]}
    found = []
    for row in answers:
        line, row = lines[row["server"]], dict(row)
        if isinstance(row["accelerator"], list):
            same = line["accelerator"] in row.pop("accelerator") and line["cost"] == row["cost"]
        else:
            same = all(line[name] == pytest.approx(value, abs=1e-4) for name, value in row.items())
        if not same:
            found.append(f"{line} is not {row}")
    return found


@seed
@pytest.mark.parametrize(
    ("costs", "answer", "total"),
    [
        ("accelerator-data-as-charged.json", "expected-unlimited-as-charged", 25_053),
        ("accelerator-data.json", "expected-unlimited", 16_762),
    ],
)
def test_unlimited_the_seed_costs_what_the_deck_says(plan: Plan, costs: str, answer: str, total: int) -> None:
    made = plan.json(SEED, "--accelerators", SEED / costs, "--slo-rule", "exponential")
    assert (made["solver"], made["totalCost"], made["served"]) == ("unlimited", total, 27)
    assert differences(made, expected(answer)["allocations"]) == []


@seed
def test_with_new_loads_the_seed_changes_accelerators_and_scales_as_the_deck_says(plan: Plan) -> None:
    made = plan.json(
        SEED,
        *("--accelerators", SEED / "accelerator-data-as-charged.json"),
        *("--servers", SEED / "server-data-dynamic.json"),
        *("--transition-penalty", "0.05", "--slo-rule", "exponential"),
    )
    assert made["totalCost"] == 11_427
    assert differences(made, expected("expected-dynamic-as-charged")["allocations"]) == []


@seed
def test_limited_and_greedy_the_seed_leaves_one_server_out(plan: Plan) -> None:
    made = plan.json(SEED, "--limited", "--solver", "greedy", "--slo-rule", "exponential")
    assert (made["served"], made["totalCost"]) == (26, 15_711)
    assert [line["server"] for line in made["unserved"]] == ["Free-mixtral_8_7b"]


@seed
def test_limited_and_exact_all_of_the_seed_is_served(plan: Plan) -> None:
    made = plan.json(SEED, "--limited", "--solver", "exact", "--slo-rule", "exponential")
    assert (made["served"], made["totalCost"], made["unserved"]) == (27, 20_296, [])
    # The bound is one of the value, which counts a change from nothing as 1.1 times the cost.
    assert made["lowerBound"] / 1.1 >= 20_049


def test_json_has_the_documented_names(plan: Plan) -> None:
    made = plan.json(EXAMPLE)
    assert list(made) == JSON_NAMES
    assert all(list(line) == ALLOCATION_NAMES for line in made["allocations"])
    assert all(list(total) == ["available", "used", "price"] for total in made["capacity"].values())
    assert list(made["wallTime"]) == ["sizing", "solve"]


def test_totals_are_the_sums_of_the_allocations(plan: Plan) -> None:
    made = plan.json(EXAMPLE)
    assert made["totalCost"] == pytest.approx(sum(line["cost"] for line in made["allocations"]))
    assert made["totalValue"] == pytest.approx(sum(line["value"] for line in made["allocations"]))
    assert all(total["used"] <= total["available"] for total in made["capacity"].values())
    assert made["served"] + len(made["unserved"]) == 6


def test_a_change_of_accelerator_has_no_scale(plan: Plan) -> None:
    lines = {line["server"]: line for line in plan.json(EXAMPLE, "--unlimited")["allocations"]}
    moved = lines["Free-mixtral_8x7b"]
    assert (moved["change"], moved["scale"], moved["costDiff"]) == ("2xA100->MI300X", None, 390 - 640)
    stayed = lines["Premium-mixtral_8x7b"]
    assert (stayed["change"], stayed["scale"], stayed["costDiff"]) == (None, 1, 65)
    new = lines["Free-llama_70b"]
    assert (new["change"], new["scale"], new["costDiff"]) == (None, 4, 260)


def test_unlimited_plans_are_their_own_bound(plan: Plan) -> None:
    made = plan.json(EXAMPLE, "--unlimited")
    assert made["lowerBound"] == made["totalValue"]
    assert made["gap"] == 0
    assert made["unservedBound"] == made["unservedByPriority"] == {"1": 0, "2": 0}


def test_power_is_what_the_accelerators_draw(plan: Plan) -> None:
    # 24 MI300X, each between idle and full.
    assert 24 * 220 < plan.json(EXAMPLE, "--unlimited")["power"] < 24 * 750


def test_accelerators_are_limited_where_there_is_a_capacity_file(plan: Plan, tmp_path: Path) -> None:
    for file in EXAMPLE.glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text())
    assert plan.json(tmp_path)["solver"] != "unlimited"
    (tmp_path / "capacity-data.json").unlink()
    assert plan.json(tmp_path)["solver"] == "unlimited"
    assert "give --capacity FILE" in plan.error(tmp_path, "--limited")


def test_a_flag_overrides_the_optimizer_file(plan: Plan, tmp_path: Path) -> None:
    optimizer = tmp_path / "optimizer.json"
    optimizer.write_text('{"optimizer": {"unlimited": true}}')
    assert plan.json(EXAMPLE, "--optimizer", optimizer)["solver"] == "unlimited"
    assert plan.json(EXAMPLE, "--optimizer", optimizer, "--limited")["solver"] != "unlimited"


def test_the_order_of_the_files_changes_nothing(plan: Plan, tmp_path: Path) -> None:
    for file in EXAMPLE.glob("*.json"):
        content = json.loads(file.read_text())
        turned = {name: list(reversed(rows)) for name, rows in content.items()}
        (tmp_path / file.name).write_text(json.dumps(turned))
    here, there = plan.json(EXAMPLE), plan.json(tmp_path)
    assert here.pop("wallTime").keys() == there.pop("wallTime").keys()
    assert here == there


def test_left_overs_go_out_by_the_saturation_policy(plan: Plan) -> None:
    none = plan.json(EXAMPLE, "--solver", "greedy", "--scale-load", "1.5")
    given = plan.json(
        *(EXAMPLE, "--solver", "greedy", "--scale-load", "1.5"),
        *("--saturation-policy", "priorityexhaustive"),
    )
    assert none["served"] == given["served"]
    assert none["totalCost"] < given["totalCost"]


def test_the_latency_model_and_the_rule_can_be_chosen(plan: Plan) -> None:
    automatic = plan.json(EXAMPLE, "--unlimited")
    decode = plan.json(EXAMPLE, "--unlimited", "--latency-model", "decode-only")
    mean = plan.json(EXAMPLE, "--unlimited", "--slo-rule", "mean")
    late = plan.json(EXAMPLE, "--unlimited", "--percentile", "0.999")
    assert all(line["ttftAverage"] == line["waitAverage"] for line in decode["allocations"])
    assert all(line["ttftAverage"] > line["waitAverage"] for line in automatic["allocations"])
    assert mean["totalCost"] <= automatic["totalCost"] <= late["totalCost"]


def test_the_variation_of_the_traffic_counts_by_the_exact_rule_only(plan: Plan, tmp_path: Path) -> None:
    servers = json.loads((EXAMPLE / "server-data.json").read_text())
    for server in servers["servers"]:
        server["currentAlloc"]["load"]["arrivalCOV"] = 4
    bursty = tmp_path / "servers.json"
    bursty.write_text(json.dumps(servers))
    cost = {
        rule: [
            plan.json(EXAMPLE, "--unlimited", "--slo-rule", rule, *options)["totalCost"]
            for options in ([], ["--servers", bursty])
        ]
        for rule in ("exact", "exponential", "mean")
    }
    assert cost["exact"][0] < cost["exact"][1]
    assert cost["exponential"][0] == cost["exponential"][1]
    assert cost["mean"][0] == cost["mean"][1]


def test_names_that_look_like_markup_are_shown_as_they_are(plan: Plan, tmp_path: Path) -> None:
    for file in EXAMPLE.glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text().replace("llama_8b", "[/llama_8b]"))
    assert "│ [/llama_8b]" in plan.text(tmp_path)


def test_tables_show_what_the_deck_shows(plan: Plan) -> None:
    told = plan.text(EXAMPLE, "--unlimited")
    titles = ["Accelerator", "Replicas", "Accelerator change", "Scale", "Cost differential", "Units by type"]
    places = [told.index(f"\n{title}") if position else 0 for position, title in enumerate(titles)]
    assert places == sorted(places)
    assert "2xA100->MI300X" in told
    assert "Cost per hour 1,560.00; 6 of 6 served" in told


def test_changes_are_not_shown_where_nothing_is_allocated_now(plan: Plan, tmp_path: Path) -> None:
    servers = json.loads((EXAMPLE / "server-data.json").read_text())
    for server in servers["servers"]:
        server["currentAlloc"] = {"load": server["currentAlloc"]["load"]}
    (tmp_path / "servers.json").write_text(json.dumps(servers))
    told = plan.text(EXAMPLE, "--unlimited", "--servers", tmp_path / "servers.json")
    assert "Accelerator change" not in told
    assert "Scale" not in told


def test_servers_of_one_class_and_model_have_a_row_each(plan: Plan, tmp_path: Path) -> None:
    servers = json.loads((EXAMPLE / "server-data.json").read_text())["servers"]
    twin = {**servers[0], "name": "Premium-llama_8b-east"}
    (tmp_path / "servers.json").write_text(json.dumps([*servers, twin]))
    told = plan.text(EXAMPLE, "--unlimited", "--servers", tmp_path / "servers.json")
    assert "│ Premium-llama_8b-east │" in told
    assert "7 of 7 served" in told


def test_csv_has_a_line_for_every_server(plan: Plan) -> None:
    lines = plan.csv(EXAMPLE, "--solver", "greedy", "--saturation-policy", "None")
    assert list(lines[0]) == [*ALLOCATION_NAMES, "outcome", "reason"]
    assert len(lines) == 6
    assert {line["server"]: line["outcome"] for line in lines}["Free-llama_70b"] == "Unserved"


def test_an_explanation_names_every_candidate_and_why_it_lost(plan: Plan) -> None:
    told = plan.text(EXAMPLE, "--unlimited", "--explain", "Premium-llama_8b")
    assert all(f" {name} " in told for name in ("L40S", "A100", "H100", "MI300X"))
    assert "ITL unattainable" in told
    explained = plan.json(EXAMPLE, "--unlimited", "--explain", "Premium-llama_8b")["explanation"]
    assert explained["candidates"][0]["verdict"] == "Chosen"
    assert {each["accelerator"] for each in explained["candidates"]} == {"L40S", "A100", "H100", "MI300X"}
    lines = plan.csv(EXAMPLE, "--unlimited", "--explain", "Premium-llama_8b")
    assert [line["accelerator"] for line in lines] == [
        each["accelerator"] for each in explained["candidates"]
    ]
    assert list(lines[0]) == list(explained["candidates"][0])


def test_a_server_without_any_candidate_is_unserved_with_its_reason(plan: Plan) -> None:
    made = plan.json(EXAMPLE, "--set", "Premium-llama_70b.slo-itl=1", "--set", "llama_8b.slo-ttft=1")
    reasons = {line["server"]: line["reason"] for line in made["unserved"]}
    assert "ITL unattainable" in reasons["Premium-llama_70b"]
    assert "Free-llama_8b" in reasons


def test_a_million_requests_a_minute_are_planned(plan: Plan) -> None:
    made = plan.json(EXAMPLE, "--unlimited", "--set", "Premium-llama_8b.arrivalRate=1000000")
    assert made["served"] == 6
    assert max(line["numReplicas"] for line in made["allocations"]) > 500


def test_without_load_the_least_replicas_stay(plan: Plan) -> None:
    made = plan.json(EXAMPLE, "--scale-load", "0", "--set", "Premium.minReplicas=2")
    assert made["served"] == 6
    assert {line["server"]: line["numReplicas"] for line in made["allocations"]}["Premium-llama_8b"] == 2


def test_more_load_costs_more(plan: Plan) -> None:
    costs = [plan.json(EXAMPLE, "--unlimited", "--scale-load", x)["totalCost"] for x in ("1", "1.5", "3")]
    assert costs == sorted(set(costs))


def test_a_set_value_counts_for_all_that_the_name_stands_for(plan: Plan) -> None:
    dear = plan.json(EXAMPLE, "--unlimited", "--set", "MI300X.cost=1000")
    assert "MI300X" not in {line["accelerator"] for line in dear["allocations"]}
    halved = plan.json(EXAMPLE, "--unlimited", "--set", "A100.cost=1")
    assert {line["accelerator"] for line in halved["allocations"]} <= {"A100", "2xA100"}
    tight = plan.json(EXAMPLE, "--unlimited", "--set", "llama_70b.slo-itl=34")
    assert {line["accelerator"] for line in tight["allocations"] if line["model"] == "llama_70b"} == {
        "MI300X"
    }
    assert plan.json(EXAMPLE, "--set", "MI300X.count=99")["totalCost"] == 1560


def test_a_removed_type_is_not_used_and_what_was_on_it_moves(plan: Plan) -> None:
    made = plan.json(EXAMPLE, "--unlimited", "--remove", "MI300X")
    assert "MI300X" not in made["capacity"]
    lines = {line["server"]: line for line in made["allocations"]}
    moved = lines["Premium-mixtral_8x7b"]
    assert moved["change"] == f"MI300X->{moved['accelerator']}"
    assert moved["costDiff"] == moved["cost"] - 3 * 65
    assert plan.json(EXAMPLE, "--remove", "Free")["served"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "a=b"), "must be NAME.FIELD=NUMBER"),
        (("--set", "llama_70b.slo=3"), "slo is no field: use one of slo-itl"),
        (("--set", "gpt.slo-itl=3"), "nothing with a slo-itl is named gpt"),
        (("--set", "MI300X.count=-3"), "MI300X.count: -3.0: must be a number from 0"),
        (("--set", "Premium.minReplicas=1.5"), "must be a whole number"),
        (("--remove", "TPU"), "--remove TPU: no type, accelerator, server, model or class"),
        (("--scale-load", "nan"), "--scale-load nan: must be a finite number, at least 0"),
        (("--scale-load", "-1"), "--scale-load -1.0: must be a finite number, at least 0"),
        (("--scale-load", "1e308"), "requests/min: it must be at most 1,000,000,000"),
        (
            ("--percentile", "95"),
            "--percentile 95.0: must be a finite number, at least 0.0001 and at most 0.9999",
        ),
        (("--transition-penalty", "1e305"), "at least 0 and at most 1,000"),
        (
            ("--keep-threshold", "2"),
            "--keep-threshold 2.0: must be a finite number, at least 0 and at",
        ),
        (("--set", "Premium.weight=0"), "Premium.weight: 0.0: must be a number from 0.001 to 1,000"),
        (("--limited", "--unlimited"), "--limited and --unlimited: give one of them"),
        (("--frontier", "--explain", "Free-llama_8b"), "--frontier and --explain: give one of them"),
        (("--servers", EXAMPLE), "cannot be read (Is a directory)"),
        (("--set", "Premium.priority=101"), "Premium.priority: 101.0: must be a number from 1 to 100"),
        (("--set", "Premium.avgInTokens=1e8"), "must be a number from 0 to 10,000,000"),
        (("-o", "json", "--servers", "/nowhere.json"), "/nowhere.json: is missing"),
        (("--transition-penalty", "-1"), "--transition-penalty -1.0"),
        (("--max-cost", "inf"), "--max-cost inf"),
        (("--explain", "nobody"), "--explain nobody: no such server: use one of Free-llama_70b"),
        (("--buy", "--frontier"), "give one of them"),
        (("--solver", "best"), "'best' is not one of 'auto', 'greedy', 'exact'"),
        (("--plot", "/proc/nowhere"), "--plot /proc/nowhere"),
        (("--servers", "/nowhere.json"), "/nowhere.json: is missing"),
    ],
)
def test_what_cannot_be_done_is_told_with_exit_code_2(
    plan: Plan, arguments: tuple[str, ...], message: str
) -> None:
    assert message in plan.error(EXAMPLE, *arguments)


@pytest.mark.parametrize("folder", ["/nowhere", EXAMPLE / "server-data.json"])
def test_a_folder_that_is_none_is_told_once(plan: Plan, folder: str | Path) -> None:
    assert (
        plan.error(folder) == f"inferscale: {folder}: is no folder: give the folder that the files are in\n"
    )


def test_without_a_folder_all_files_may_be_named(plan: Plan) -> None:
    named = {"accelerators": "accelerator", "models": "model", "classes": "serviceclass", "servers": "server"}
    flags = [(f"--{flag}", EXAMPLE / f"{file}-data.json") for flag, file in named.items()]
    assert plan.json("/nowhere", *(each for flag in flags for each in flag))["served"] == 6


def test_nothing_is_planned_where_a_file_is_wrong(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "capacity.json").write_text('{"count": [{"type": "A100", "count": -1}, {"type": "B"}]}')
    told = plan.error(EXAMPLE, "--capacity", tmp_path / "capacity.json")
    assert "3 errors in the input; nothing was planned" in told
    assert "capacity.json: count[0].count: -1: must be a number from 0 to 1,000,000,000" in told


def test_the_cheapest_purchase_serves_everything(plan: Plan) -> None:
    made = plan.json(EXAMPLE, "--buy", "--unlimited")
    assert made["purchaseCost"] == made["plan"]["totalCost"] == 1560
    assert {item["type"]: item["buy"] for item in made["purchase"]}["MI300X"] == 24
    assert made["plan"]["served"] == 6


def test_only_what_is_missing_is_bought_where_accelerators_are_limited(plan: Plan) -> None:
    assert plan.json(EXAMPLE)["served"] < 6
    made = plan.json(EXAMPLE, "--buy")
    assert made["plan"]["served"] == 6
    assert 0 < made["purchaseCost"] <= 80
    owned = {item["type"]: item["owned"] for item in made["purchase"]}
    assert owned == {"L40S": 8, "A100": 28, "H100": 12, "MI300X": 10}


def test_a_budget_serves_higher_priorities_first(plan: Plan) -> None:
    made = plan.json(EXAMPLE, "--buy", "--unlimited", "--max-cost", "800")
    assert made["purchaseCost"] <= made["budget"] == 800
    assert made["plan"]["unservedByPriority"]["1"] == 0
    assert {line["reason"] for line in made["plan"]["unserved"]} == {"nothing: not within the budget"}
    more = plan.json(EXAMPLE, "--buy", "--unlimited", "--max-cost", "1200")
    assert more["plan"]["served"] > made["plan"]["served"]


def test_a_purchase_is_shown_as_a_table(plan: Plan) -> None:
    told = plan.text(EXAMPLE, "--buy")
    assert "To buy" in told
    assert "Buying costs" in told
    assert plan.csv(EXAMPLE, "--buy")[0].keys() == {"type", "owned", "buy", "price", "cost"}


def test_tighter_targets_never_cost_less(plan: Plan) -> None:
    points = plan.json(EXAMPLE, "--unlimited", "--frontier")["frontier"]
    served = [point for point in points if point["unserved"] == 0]
    costs = [point["totalCost"] for point in served]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) > 1
    assert [point["scale"] for point in points] == sorted(point["scale"] for point in points)


def test_the_frontier_is_shown_as_a_table(plan: Plan) -> None:
    assert "ITL targets times" in plan.text(EXAMPLE, "--unlimited", "--frontier")
    assert len(plan.csv(EXAMPLE, "--unlimited", "--frontier")) > 5


def test_no_servers_are_a_plan_of_nothing(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text('{"servers": []}')
    arguments = (EXAMPLE, "--servers", tmp_path / "servers.json")
    assert plan.json(*arguments)["totalCost"] == 0
    assert plan.json(*arguments, "--buy")["purchaseCost"] == 0
    assert {point["served"] for point in plan.json(*arguments, "--frontier")["frontier"]} == {0}
    assert plan.csv(*arguments) == []
    told = plan.text(*arguments)
    assert "0 of 0 served" in told
    assert told.startswith("Units by type")


def test_a_limit_on_the_cost_is_kept_and_the_last_priority_shed(plan: Plan) -> None:
    made = plan.json(EXAMPLE, "--unlimited", "--max-cost", "1000")
    assert made["totalCost"] <= 1000
    assert made["unservedByPriority"]["1"] == 0
    assert all(line["server"].startswith("Free") for line in made["unserved"])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_plots_are_written_into_the_folder(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "servers.json").write_text('{"servers": []}')
    plan.text(EXAMPLE, "--servers", tmp_path / "servers.json", "--plot", tmp_path / "plots")
    plan.text(EXAMPLE, "--plot", tmp_path / "plots")
    plan.text(EXAMPLE, "--unlimited", "--frontier", "--plot", tmp_path / "plots")
    files = {file.name: file.read_bytes()[:4] for file in (tmp_path / "plots").iterdir()}
    assert files == dict.fromkeys(("cost.png", "capacity.png", "frontier.png"), b"\x89PNG")


def test_plots_without_matplotlib_say_how_to_get_it(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install inferscale[plot]" in plan.error(EXAMPLE, "--plot", "plots")


def test_every_command_of_the_documentation_works(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLE.parents[2])
    text = (EXAMPLE.parents[1] / "planning.md").read_text()
    commands = [line.split()[3:] for line in text.splitlines() if line.startswith("$ inferscale plan ")]
    assert len(commands) > 5
    for arguments in commands:
        if "nowhere.json" in arguments:
            plan.error(*arguments)
        elif "--plot" not in arguments:
            plan.text(*arguments)


def optimizer(folder: Path, **data: Any) -> Path:
    file = folder / "optimizer.json"
    file.write_text(json.dumps(data))
    return file


def test_a_quota_of_a_class_leaves_its_servers_what_it_says(plan: Plan, tmp_path: Path) -> None:
    quotas = [{"type": "MI300X", "units": 4, "serviceClass": "Premium"}]
    made = plan.json(EXAMPLE, "--unlimited", "--optimizer", optimizer(tmp_path, quotas=quotas))
    used = sum(
        line["numReplicas"]
        for line in made["allocations"]
        if (line["class"], line["accelerator"]) == ("Premium", "MI300X")
    )
    assert used <= 4
    assert made["served"] == 6
    bound = {line["binding"] for line in made["allocations"]}
    assert "quota:MI300X for class Premium" in bound


def test_what_a_quota_leaves_out_says_which_and_by_how_much(plan: Plan, tmp_path: Path) -> None:
    kinds = ("A100", "H100", "L40S", "MI300X")
    quotas = [{"type": kind, "units": 1, "serviceClass": "Free"} for kind in kinds]
    made = plan.json(EXAMPLE, "--unlimited", "--optimizer", optimizer(tmp_path, quotas=quotas))
    reasons = {line["server"]: line["reason"] for line in made["unserved"]}
    assert "quota of MI300X for class Free short of 3 units" in reasons["Free-llama_70b"]


def test_what_is_bought_stays_within_the_quotas(plan: Plan, tmp_path: Path) -> None:
    quotas = [{"type": "MI300X", "units": 4, "serviceClass": "Premium"}]
    file = optimizer(tmp_path, quotas=quotas)
    free = plan.json(EXAMPLE, "--unlimited", "--buy")
    made = plan.json(EXAMPLE, "--unlimited", "--buy", "--optimizer", file)
    assert made["plan"]["served"] == 6
    assert made["purchaseCost"] > free["purchaseCost"]
    assert made["purchaseCost"] == plan.json(EXAMPLE, "--unlimited", "--optimizer", file)["totalCost"]


def test_replicas_must_fit_on_the_nodes_where_the_nodes_are_known(plan: Plan, tmp_path: Path) -> None:
    counts = json.loads((EXAMPLE / "capacity-data.json").read_text())["count"]
    h100 = next(row for row in counts if row["type"] == "H100")

    def planned(nodes: list[int]) -> dict[str, Any]:
        h100["nodes"] = nodes
        (tmp_path / "capacity.json").write_text(json.dumps({"count": counts}))
        arguments = (EXAMPLE, "--capacity", tmp_path / "capacity.json", "--explain", "Premium-llama_70b")
        return plan.json(*arguments)

    def of_pairs(made: dict[str, Any]) -> dict[str, Any]:
        return next(c for c in made["explanation"]["candidates"] if c["accelerator"] == "2xH100")

    whole, odd, single = planned([4, 4, 4]), planned([3, 3, 3, 3]), planned([1] * 12)
    assert (of_pairs(whole)["verdict"], of_pairs(whole)["numReplicas"]) == ("Chosen", 6)
    # Of the twelve units one is left over on every node beside a replica of two.
    assert of_pairs(odd)["verdict"] != "Chosen"
    pairs = [line for line in odd["allocations"] if line["accelerator"] == "2xH100"]
    assert sum(line["numReplicas"] for line in pairs) <= 4
    assert (of_pairs(single)["verdict"], of_pairs(single)["message"]) == (
        "NodeTooSmall",
        "a replica needs 2 units of H100, its largest node has 1",
    )


def test_names_in_any_script_are_kept(plan: Plan, tmp_path: Path) -> None:
    servers = json.loads((EXAMPLE / "server-data.json").read_text())["servers"]
    servers[0]["name"] = "сервер-一号 🚀"
    (tmp_path / "servers.json").write_text(json.dumps(servers))
    arguments = (EXAMPLE, "--servers", tmp_path / "servers.json", "--explain", servers[0]["name"])
    assert plan.json(*arguments)["explanation"]["server"] == servers[0]["name"]
    assert servers[0]["name"] in plan.text(*arguments)
    assert servers[0]["name"] in {line["server"] for line in plan.csv(*arguments[:-2])}


def test_a_transition_that_costs_enough_is_not_made(plan: Plan) -> None:
    cheap = plan.json(EXAMPLE, "--unlimited", "--transition-penalty", "0")
    dear = plan.json(EXAMPLE, "--unlimited", "--transition-penalty", "1000")
    assert [line["change"] for line in dear["allocations"]] == [None] * 6
    assert any(line["change"] for line in cheap["allocations"])
