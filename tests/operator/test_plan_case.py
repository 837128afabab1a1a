"""A case of 9 models × 3 classes × 17 accelerators with known answers: `docs/examples/fleet`.

The answers are computed here once more by other means: one rate of one replica at a time from the equations
in docs/model.md, and integer programs of their own.
"""

from __future__ import annotations

import functools
import heapq
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highspy
import numpy as np
import pytest

from inferscale_operator.cli import main

FLEET = Path(__file__).parents[2] / "docs" / "examples" / "fleet"


def read(name: str) -> Any:
    return json.loads((FLEET / f"{name}.json").read_text())


@dataclass(frozen=True)
class Option:
    """A server on an accelerator."""

    accelerator: str
    type: str
    replicas: int
    units: int
    cost: float


@dataclass(frozen=True)
class Rule:
    """How latencies are predicted."""

    prefill: bool = True
    exponential: bool = False


def latencies(rate: float, row: dict[str, Any], load: dict[str, float], rule: Rule) -> tuple[float, float]:
    """ITL and TTFT at P95, ms, of one replica with an unbounded queue at a rate in requests/ms."""
    batch, constant, slope, gamma, delta = replica(row, load, rule)
    n = np.arange(1, batch + 1)
    service = n / (constant + slope * n)
    log_weights = np.concatenate([[0.0], np.cumsum(math.log(rate) - np.log(service))])
    weights = np.exp(log_weights - log_weights.max())
    r = rate / service[-1]
    total = weights.sum() + weights[-1] * r / (1 - r)
    waiting = weights[-1] * r / (1 - r) ** 2 / total
    busy = (np.arange(batch + 1) * weights).sum() / total + batch * weights[-1] * r / (1 - r) / total
    # As many in the batch as explain the mean time in service.
    effective = min(max((busy / rate - constant) / slope, 0.0), batch)
    wait = waiting / rate
    if rule.exponential:
        late = wait * -math.log(0.05)
    else:
        waits = weights[-1] / (1 - r) / total
        late = math.log(max(waits / 0.05, 1.0)) / (service[-1] - rate)
    return row["alpha"] + row["beta"] * effective, late + gamma + delta * effective


def replica(
    row: dict[str, Any], load: dict[str, float], rule: Rule
) -> tuple[int, float, float, float, float]:
    """The largest batch N; a and b of the time a + b·n that a request takes; c and d of its prefill."""
    batch = max(math.floor(row["maxBatchSize"] * row["atTokens"] / load["avgOutTokens"]), 1)
    steps = load["avgOutTokens"] - (1 if rule.prefill else 0)
    gamma, delta = (row["gamma"], row["delta"] * load["avgInTokens"]) if rule.prefill else (0.0, 0.0)
    return batch, gamma + steps * row["alpha"], delta + steps * row["beta"], gamma, delta


def replicas(row: dict[str, Any], load: dict[str, float], target: dict[str, float], rule: Rule) -> int | None:
    """Replicas that keep the targets; None where none do."""
    batch, constant, slope, *_ = replica(row, load, rule)

    def kept(rate: float) -> bool:
        itl, ttft = latencies(rate, row, load, rule)
        return itl <= target["slo-itl"] and ttft <= target["slo-ttft"]

    low, high = 0.001 / (constant + slope), 0.999 * batch / (constant + slope * batch)
    if not kept(low):
        return None
    if kept(high):
        low = high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) else (low, middle)
    return math.ceil(load["arrivalRate"] / 60_000 / low * (1 - 1e-9))


@functools.cache
def sized(servers: str, rule: Rule) -> dict[tuple[str, str], tuple[int, int]]:
    """Replicas, and accelerators in one, of every server on every accelerator that keeps its targets."""
    targets = {
        (group["name"], target["model"]): target
        for group in read("serviceclass-data")["serviceClasses"]
        for target in group["modelTargets"]
    }
    rows = read("model-data")["models"]
    found = {}
    for server in read(servers)["servers"]:
        load, target = server["currentAlloc"]["load"], targets[server["class"], server["model"]]
        for row in (row for row in rows if row["name"] == server["model"]):
            needed = replicas(row, load, target, rule)
            if needed is not None:
                found[server["name"], row["acc"]] = (needed, row["accCount"])
    return found


def options_of(
    servers: str = "server-data", costs: str = "accelerator-data", rule: Rule | None = None
) -> dict[str, list[Option]]:
    """What each server may have."""
    accelerators = read(costs)
    options: dict[str, list[Option]] = {server["name"]: [] for server in read(servers)["servers"]}
    for (server, name), (needed, count) in sized(servers, rule or Rule()).items():
        data = accelerators[name]
        units, cost = needed * count * data["multiplicity"], needed * count * data["cost"]
        options[server].append(Option(name, data["type"], needed, units, cost))
    return options


def priority(server: str) -> int:
    return {"Premium": 1, "Standard": 2, "Batch": 3}[server.split("-")[0]]


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str | Path) -> dict[str, Any]:
        with pytest.raises(SystemExit) as caught:
            main(["plan", *map(str, (FLEET, *arguments)), "-o", "json"])
        assert caught.value.code == 0
        return json.loads(capsys.readouterr().out)

    return run


def chosen(made: dict[str, Any]) -> dict[str, tuple[str, int, float]]:
    return {
        line["server"]: (line["accelerator"], line["numReplicas"], line["cost"])
        for line in made["allocations"]
    }


@pytest.mark.parametrize(
    ("total", "costs", "rule", "arguments"),
    [
        (681.4, "accelerator-data", Rule(), []),
        (554.66, "accelerator-data-committed", Rule(), []),
        (
            643.4,
            "accelerator-data",
            Rule(prefill=False, exponential=True),
            ["--latency-model", "decode-only", "--slo-rule", "exponential"],
        ),
    ],
    ids=["as listed", "other prices", "decode only"],
)
def test_unlimited_every_server_has_what_is_cheapest_for_it(
    plan: Any, total: float, costs: str, rule: Rule, arguments: list[str]
) -> None:
    made = plan("--unlimited", "--accelerators", FLEET / f"{costs}.json", *arguments)
    assert (made["solver"], made["served"]) == ("unlimited", 27)
    assert made["totalCost"] == pytest.approx(total)
    got = chosen(made)
    for server, options in options_of(costs=costs, rule=rule).items():
        accelerator, needed, cost = got[server]
        assert cost == pytest.approx(min(option.cost for option in options))
        taken = next(option for option in options if option.accelerator == accelerator)
        assert needed == taken.replicas
        assert (made["capacity"][taken.type]["price"], made["gap"]) == (0, 0)


def test_with_other_loads_servers_change_and_scale_where_that_is_worth_its_transition(plan: Any) -> None:
    later = FLEET / "server-data-later.json"
    made = plan("--unlimited", "--servers", later, "--transition-penalty", "0.05")
    now = {server["name"]: server["currentAlloc"] for server in read("server-data-later")["servers"]}
    assert {name: (held["accelerator"], held["numReplicas"]) for name, held in now.items()} == {
        name: choice[:2] for name, choice in chosen(plan("--unlimited")).items()
    }
    prices = read("accelerator-data")
    counts = {(row["name"], row["acc"]): row["accCount"] for row in read("model-data")["models"]}
    lines = {line["server"]: line for line in made["allocations"]}
    for server, options in options_of("server-data-later").items():
        held, model = now[server]["accelerator"], server.partition("-")[2]
        before = now[server]["numReplicas"] * counts[model, held] * prices[held]["cost"]
        value = {
            option.accelerator: option.cost
            - before
            + (0.05 * (option.cost + before) if option.accelerator != held else 0.0)
            for option in options
        }
        line = lines[server]
        assert line["value"] == pytest.approx(min(value.values()), abs=1e-6)
        assert line["value"] == pytest.approx(value[line["accelerator"]], abs=1e-6)
        assert line["costDiff"] == pytest.approx(line["cost"] - before, abs=1e-6)
        stays = line["accelerator"] == held
        assert line["change"] == (None if stays else f"{held}->{line['accelerator']}")
        assert line["scale"] == (line["numReplicas"] - now[server]["numReplicas"] if stays else None)
    assert made["totalCost"] == pytest.approx(523.4)
    changes = {name: line["change"] for name, line in lines.items() if line["change"]}
    scales = {name: line["scale"] for name, line in lines.items() if line["scale"]}
    assert changes == {
        "Premium-deepseek-33b": "H200->2xMI300X",
        "Premium-gemma-9b": "2xH200->H100",
        "Premium-mistral-24b": "2xMI300X->2xH200",
        "Premium-qwen-14b": "MI300X->H200",
        "Premium-qwen-72b": "2xA100->2xH200",
        "Standard-deepseek-33b": "2xMI300X->2xH200",
        "Standard-gemma-27b": "2xH200->H200",
        "Standard-gemma-9b": "H100->H200",
        "Standard-mistral-24b": "4xA100->2xH200",
        "Standard-qwen-14b": "2xH200->H100",
        "Standard-qwen-32b": "4xA100->MI300X",
        "Batch-gemma-27b": "4xA100->2xA100",
        "Batch-mistral-24b": "2xA10G->2xL40S",
    }
    assert scales == {
        "Premium-command-104b": 2,
        "Premium-llama-70b": -2,
        "Premium-qwen-32b": 1,
        "Batch-command-104b": -5,
        "Batch-deepseek-33b": -6,
        "Batch-llama-70b": -2,
        "Batch-qwen-14b": -2,
    }


def greedy(options: dict[str, list[Option]], free: dict[str, int]) -> dict[str, Option]:
    """The next server is of the first priority, and of it who loses most by not having its first choice."""
    ranked = {name: sorted(each, key=lambda o: (o.cost, o.accelerator)) for name, each in options.items()}

    def entry(server: str, index: int) -> tuple[int, float, float, str, int]:
        here = ranked[server][index:]
        regret = here[1].cost - here[0].cost if len(here) > 1 else math.inf
        return priority(server), -round(regret, 6), -round(here[0].cost, 6), server, index

    waiting = [entry(server, 0) for server in ranked]
    heapq.heapify(waiting)
    taken: dict[str, Option] = {}
    while waiting:
        *_, server, index = heapq.heappop(waiting)
        option = ranked[server][index]
        if option.units <= free[option.type]:
            free[option.type] -= option.units
            taken[server] = option
        elif index + 1 < len(ranked[server]):
            heapq.heappush(waiting, entry(server, index + 1))
    return taken


def capacity() -> dict[str, int]:
    return {row["type"]: row["count"] for row in read("capacity-data")["count"]}


def test_limited_the_greedy_solver_leaves_one_server_out(plan: Any) -> None:
    made = plan("--solver", "greedy")
    assert (made["solver"], made["served"], len(made["unserved"])) == ("greedy", 26, 1)
    assert made["totalCost"] == pytest.approx(667.0)
    taken = greedy(options_of(), capacity())
    assert {name: choice[:2] for name, choice in chosen(made).items()} == {
        name: (option.accelerator, option.replicas) for name, option in taken.items()
    }
    assert made["lowerBound"] is made["gap"] is None


def least_cost(options: dict[str, list[Option]], available: dict[str, int], *, whole: bool) -> float:
    """The least cost at which all are served on what there is, by an integer program or its relaxation."""
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("mip_rel_gap", 0.0)
    columns = [(server, option) for server, each in options.items() for option in each]
    x = [highs.addVariable(0, 1, option.cost) for _, option in columns]
    if whole:
        highs.changeColsIntegrality(
            len(x), np.arange(len(x), dtype=np.int32), np.full(len(x), highspy.HighsVarType.kInteger)
        )
    for server in options:
        highs.addConstr(sum(v for v, (name, _) in zip(x, columns, strict=True) if name == server) == 1)
    for kind, units in available.items():
        terms = [v * o.units for v, (_, o) in zip(x, columns, strict=True) if o.type == kind]
        highs.addConstr(sum(terms) <= units)
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return highs.getObjectiveValue()


@pytest.mark.parametrize("solver", ["auto", "exact"])
def test_limited_the_exact_solver_serves_all_at_the_least_cost(plan: Any, solver: str) -> None:
    made = plan("--solver", solver, "--transition-penalty", "0")
    least, relaxed = (least_cost(options_of(), capacity(), whole=whole) for whole in (True, False))
    assert (made["solver"], made["served"], made["unserved"]) == ("exact", 27, [])
    assert made["totalCost"] == pytest.approx(least)
    assert made["totalCost"] == pytest.approx(841.5)
    assert relaxed - 1e-6 <= made["lowerBound"] <= least + 1e-6
    assert made["unservedBound"] == made["unservedByPriority"] == {"1": 0, "2": 0, "3": 0}
    units = capacity()
    assert all(total["used"] <= units[kind] for kind, total in made["capacity"].items())


@pytest.mark.slow
def test_one_more_unit_of_a_type_saves_its_price(plan: Any) -> None:
    made = plan("--solver", "exact", "--transition-penalty", "0")
    options = options_of()
    base = least_cost(options, capacity(), whole=False)
    for kind, total in made["capacity"].items():
        more = {**capacity(), kind: capacity()[kind] + 1}
        assert total["price"] == pytest.approx(base - least_cost(options, more, whole=False), abs=1e-4)
    assert max(total["price"] for total in made["capacity"].values()) > 5
