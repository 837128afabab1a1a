"""The seed case of the design, 9 models × 3 classes × 21 profiles; its files are not part of the project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inferscale_solver import (
    Capacity,
    CurrentAllocation,
    Load,
    Performance,
    Power,
    Problem,
    Profile,
    Result,
    SaturationPolicy,
    Service,
    Settings,
    Solver,
    TailRule,
    Targets,
    solve,
)

SEED = Path(__file__).parents[3] / "shared" / "cases" / "seed"

pytestmark = pytest.mark.skipif(not SEED.is_dir(), reason=f"the seed case is not at {SEED}")


def read(name: str) -> Any:
    return json.loads((SEED / name).read_text())


def seed_problem(
    *,
    costs: str,
    servers: str = "server-data.json",
    limited: bool = False,
    penalty: float = 0.1,
    policy: SaturationPolicy = SaturationPolicy.NONE,
    solver: Solver = Solver.GREEDY,
) -> Problem:
    """Read the seed's files: decode-only, P95 waits by the exponential rule."""
    profiles = tuple(
        Profile(
            name=name,
            type=spec["type"],
            multiplicity=spec["multiplicity"],
            cost=spec["cost"],
            power=Power(
                idle=spec["power"]["idle"],
                full=spec["power"]["full"],
                mid_power=spec["power"]["midPower"],
                mid_util=spec["power"]["midUtil"],
            ),
        )
        for name, spec in read(costs).items()
    )
    classes = {(row["name"], row["model"]): row for row in read("serviceclass-data.json")}
    performance: dict[str, list[Performance]] = {}
    for row in read("model-data.json"):
        performance.setdefault(row["name"], []).append(
            Performance(
                profile=row["acc"],
                alpha=row["alpha"],
                beta=row["beta"],
                acc_count=row["accCount"],
                max_batch_size=row["maxBatchSize"],
                at_tokens=row["atTokens"],
            )
        )
    services = []
    for row in read(servers):
        objectives, current = classes[row["class"], row["model"]], row["currentAlloc"]
        services.append(
            Service(
                name=row["name"],
                service_class=row["class"],
                model=row["model"],
                priority=objectives["priority"],
                load=Load(
                    arrival_rate=current["load"]["arrivalRate"],
                    output_tokens=current["load"]["avgLength"],
                    prefill=False,
                ),
                targets=Targets(itl=objectives["slo-itl"], ttw=objectives["slo-ttw"], percentile=0.95),
                performance=tuple(performance[row["model"]]),
                current=CurrentAllocation(current["accelerator"], current["numReplicas"])
                if "accelerator" in current
                else None,
            )
        )
    units = {row["type"]: row["count"] for row in read("capacity-data.json")["count"]}
    return Problem(
        services=tuple(services),
        profiles=profiles,
        capacity=Capacity(units) if limited else None,
        settings=Settings(
            transition_penalty=penalty,
            saturation_policy=policy,
            tail_rule=TailRule.EXPONENTIAL,
            solver=solver,
        ),
    )


def differences(result: Result, expected: list[dict[str, Any]]) -> list[str]:
    """What differs from the expected allocations; a list of accelerators is a tie."""
    found = []
    for row in expected:
        allocation = result.decisions[row["server"]].allocation
        assert allocation is not None
        tie = isinstance(row["accelerator"], list)
        same = allocation.cost == pytest.approx(row["cost"])
        if tie:
            same &= allocation.profile in row["accelerator"]
        else:
            same &= (allocation.profile, allocation.replicas) == (row["accelerator"], row["numReplicas"])
        if not tie and "itlAverage" in row:
            same &= allocation.max_batch == row["maxBatch"]
            same &= allocation.itl == pytest.approx(row["itlAverage"], abs=1e-6)
            same &= allocation.wait == pytest.approx(row["waitAverage"], abs=1e-4)
        if not same:
            found.append(f"{row['server']}: {allocation}")
    return found


@pytest.mark.parametrize(
    ("costs", "answer", "total"),
    [
        ("accelerator-data-as-charged.json", "expected-unlimited-as-charged.json", 25_053),
        ("accelerator-data.json", "expected-unlimited.json", 16_762),
    ],
)
def test_unlimited_accelerators_cost_what_the_deck_says(costs: str, answer: str, total: float) -> None:
    result = solve(seed_problem(costs=costs))
    assert result.total_cost == pytest.approx(total)
    assert differences(result, read(answer)["allocations"]) == []


def test_new_loads_change_accelerators_and_replicas_as_the_deck_says() -> None:
    expected = read("expected-dynamic-as-charged.json")
    result = solve(
        seed_problem(
            costs="accelerator-data-as-charged.json",
            servers="server-data-dynamic.json",
            penalty=expected["transitionPenalty"],
        )
    )
    assert result.total_cost == pytest.approx(11_427)
    assert differences(result, expected["allocations"]) == []


def test_limited_accelerators_leave_one_service_out() -> None:
    expected = read("expected-limited.json")["greedy"]
    result = solve(seed_problem(costs="accelerator-data.json", limited=True))
    unserved = [name for name, decision in result.decisions.items() if decision.outcome != "Served"]
    assert unserved == expected["unserved"]
    assert len(result.decisions) - len(unserved) == expected["served"]
    assert result.total_cost == pytest.approx(15_711)


def test_left_overs_go_to_the_service_left_out() -> None:
    policy = SaturationPolicy.PRIORITY_EXHAUSTIVE
    result = solve(seed_problem(costs="accelerator-data.json", limited=True, policy=policy))
    decision = result.decisions["Free-mixtral_8_7b"]
    assert decision.outcome == "BestEffort"
    assert decision.reason == (
        "best effort: 1 of 22 replicas on 2xMI300X; too few units are left of MI300X and 8 more"
    )
    assert result.unserved_by_priority == {1: 0, 2: 0, 3: 1}


@pytest.mark.parametrize("solver", [Solver.AUTO, Solver.EXACT])
def test_the_exact_solver_serves_all_on_limited_accelerators(solver: Solver) -> None:
    result = solve(seed_problem(costs="accelerator-data.json", limited=True, penalty=0.0, solver=solver))
    assert result.solver == "exact"
    assert {decision.outcome for decision in result.decisions.values()} == {"Served"}
    assert result.total_cost == pytest.approx(20_296)
    assert result.lower_bound is not None
    assert 20_049 - 1 <= result.lower_bound <= 20_296
    assert result.unserved_bound == result.unserved_by_priority == {1: 0, 2: 0, 3: 0}
