"""The hard loads of docs/comparison.md."""

from __future__ import annotations

from dataclasses import replace

import pytest

import hardloads
from hardloads import (
    FOLDER,
    HELD,
    MARKS,
    ORDER,
    SETTINGS,
    Case,
    Row,
    best,
    chosen,
    rank,
    search,
    settings,
    table,
)
from inferscale_operator.twin.resources import Setting, read_scenario
from inferscale_operator.twin.simulation import parse_policy, simulate


def row(policy: str, windows: float, cost: float) -> Row:
    return Row("steps", policy, windows, windows, cost, 0, 0)


ROWS = [
    row("inferscale", 0.8, 10.0),
    row("inferscale:loadHeadroom=0.25", 0.95, 13.0),
    row("hpa-running:target=18", 0.7, 9.0),
    row("hpa-running:target=12", 0.95, 12.0),
    row("static", 0.5, 5.0),
    row("clairvoyant", 1.0, 8.0),
]


def test_the_setting_with_the_least_room_that_keeps_the_objectives_is_shown() -> None:
    assert best(ROWS, SETTINGS["inferscale"]).policy == "inferscale:loadHeadroom=0.25"
    assert best(ROWS[:1], SETTINGS["inferscale"]).policy == "inferscale"


def test_the_ranking_is_by_cost_among_those_that_keep_the_objectives_without_the_seer() -> None:
    assert [r.policy.partition(":")[0] for r in chosen(ROWS, "steps")] == [
        "clairvoyant",
        "hpa-running",
        "inferscale",
        "static",
    ]
    assert rank(ROWS, "steps") == 2
    assert rank(ROWS[:1], "steps") is None


def test_the_table_marks_who_does_not_keep_the_objectives() -> None:
    text = table(ROWS, ["steps"])
    assert "| **inferscale loadHeadroom=0.25** | 95.0 % |" in text
    assert "| static | 50.0 % ✗ |" in text


def test_every_load_is_in_the_page_and_in_the_folder() -> None:
    page = hardloads.PAGE.read_text(encoding="utf-8")
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(ORDER)
    for window, (begin, end) in MARKS.items():
        text = page.partition(begin)[2].partition(end)[0]
        for load in HELD if window else ORDER:
            assert f"\n| {load} | " in text


def test_a_longer_window_is_tried_for_everybody_who_has_one() -> None:
    for tried in settings(900).values():
        for policy in tried:
            fields = parse_policy(policy).settings
            if policy not in ("static", "clairvoyant"):
                names = {"downWindow", "behavior.scaleDown.stabilizationWindowSeconds"} & set(fields)
                assert [fields[name] for name in names] == ["900"]
    assert settings(0) == SETTINGS
    longer = Row("spikes", settings(900)["inferscale"][2], 0.95, 0.95, 30.0, 1, 0)
    assert "| spikes | **inferscale loadHeadroom=0.25** | 95.0 % |" in table([longer], ["spikes"], 900)


def shortened(load: str) -> Setting:
    setting = read_scenario(FOLDER / f"{load}.yaml")
    return replace(setting, scenario=setting.scenario.model_copy(update={"duration": 1800.0}))


@pytest.mark.slow
def test_a_step_is_followed_within_minutes_and_for_less_than_a_tuned_autoscaler() -> None:
    setting = shortened("steps")
    ours, theirs = (
        simulate(setting, parse_policy(policy)) for policy in ("inferscale", "hpa-running:target=12")
    )
    assert 1.0 - ours.ledger.all_kept(0).mean() <= 4 / 30
    assert ours.ledger.cost.sum() < theirs.ledger.cost.sum()
    assert len(ours.replicas[0]) <= 8


@pytest.mark.full
@pytest.mark.parametrize("load", ORDER)
def test_the_product_is_first_or_second_among_those_that_keep_the_objectives(load: str) -> None:
    rows = [
        row
        for name, tried in SETTINGS.items()
        if name != "hpa-queue"
        for row in search(Case(load, tried, {}))
    ]
    place = rank(rows, load)
    assert place is not None
    assert place <= 2
