from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backtest_builders import NAN, SPAN, described, profile, row, service
from inferscale_operator.backtest.profile import Profile
from inferscale_operator.backtest.tables import report_page, sentences
from inferscale_operator.backtest.trial import Trial, held, make_trial, run
from inferscale_operator.backtest.verdict import for_plots, verdict
from inferscale_operator.twin.scenario import MetricOutage
from inferscale_operator.twin.simulation import Outcome, ServerMode, parse_policy

HOURS = SPAN.count * SPAN.step / 3600
PRICE = 10.0


def trial(folder: Path, *profiles: Profile, **fields: Any) -> Trial:
    names = [f"s{number}" for number in range(len(profiles))]
    given = described(folder, *(service(name) for name in names), **fields)
    by_key = {f"default/{name}": each for name, each in zip(names, profiles, strict=True)}
    return make_trial(given.setting, by_key, SPAN)


def outcomes(made: Trial, *policies: str) -> list[Outcome]:
    choices = [parse_policy(text) for text in policies]
    return run(made, choices, 1, ServerMode.MEAN_VALUE, lambda _: None)


def figures(made: Trial, *policies: str) -> dict[str, Any]:
    return verdict(made, outcomes(made, *policies), (), 1, ServerMode.MEAN_VALUE)


def rises(index: int) -> bool:
    return index >= 6


GAP = [NAN if 4 <= index <= 6 else 300.0 for index in range(SPAN.count)]


def test_an_unknown_value_is_taken_for_the_last_known_one_and_before_it_for_the_first() -> None:
    assert held(np.array([NAN, 2, NAN, NAN, 5, NAN])).tolist() == [2, 2, 2, 2, 5, 5]


def test_the_scenario_has_the_load_the_lengths_and_the_replicas_that_were(tmp_path: Path) -> None:
    rates = [100.0 + 50.0 * rises(index) for index in range(SPAN.count)]
    scenario = trial(tmp_path, profile(rates, replicas=3)).setting.scenario
    [given] = scenario.services
    assert [(point.at, point.rate) for point in given.load.points or ()] == [(0, 100), (360, 150)]
    assert given.load.step
    assert [(p.input, p.output) for p in given.tokens.points or ()] == [(128, 64)]  # type: ignore[union-attr]
    assert given.initial.replicas == 3
    assert (scenario.duration, scenario.window) == (720, 60)


def test_the_products_prometheus_is_dark_where_no_service_is_known(tmp_path: Path) -> None:
    dark = trial(tmp_path, profile(GAP), profile(GAP)).setting.scenario
    assert dark.disturbances == (MetricOutage(kind="metricOutage", at=240, until=420, scrapes=True),)
    assert trial(tmp_path, profile(GAP), profile()).setting.scenario.disturbances == ()


def test_history_costs_what_was_there_and_nothing_in_a_gap(tmp_path: Path) -> None:
    replicas = [2.0 + rises(index) for index in range(SPAN.count)]
    whole = figures(trial(tmp_path, profile(replicas=replicas)))["policies"][0]["total"]
    assert whole["cost"] == pytest.approx(2.5 * PRICE * HOURS, rel=0.01)
    assert whole["acceleratorHours"]["H100"] == pytest.approx(2.5 * HOURS, rel=0.01)
    broken = figures(trial(tmp_path, profile(GAP)))
    assert broken["policies"][0]["total"]["cost"] == pytest.approx(2 * PRICE * HOURS * 9 / 12, rel=0.01)
    assert broken["policies"][0]["total"]["acceleratorHours"]["H100"] == pytest.approx(1.5 * HOURS, abs=0.01)
    assert broken["policies"][0]["total"]["arrived"] == pytest.approx(300 * 9, rel=0.1)
    assert broken["history"]["known"] == 0.75
    assert broken["history"]["services"][0]["gaps"][0]["why"] == "no samples"


def test_a_service_that_was_at_zero_costs_nothing_then(tmp_path: Path) -> None:
    replicas = [0.0 if rises(index) else 2.0 for index in range(SPAN.count)]
    rates = [0.0 if rises(index) else 300.0 for index in range(SPAN.count)]
    total = figures(trial(tmp_path, profile(rates, replicas=replicas)))["policies"][0]["total"]
    # The last two go with a grace period.
    assert total["cost"] == pytest.approx(PRICE * HOURS, rel=0.1)


def test_history_has_room_for_what_was_there_whatever_nodes_there_are_now(tmp_path: Path) -> None:
    nodes = [{"type": "H100", "count": 1, "units": 1}, {"type": "A100", "count": 0}]
    found = figures(trial(tmp_path, profile(replicas=4), nodes=nodes))
    assert found["policies"][0]["total"]["acceleratorHours"]["H100"] == pytest.approx(4 * HOURS, rel=0.01)


def test_the_report_has_what_was_measured_with_its_gap_at_the_time_of_day(tmp_path: Path) -> None:
    made = trial(tmp_path, profile(GAP))
    done = outcomes(made)
    text = report_page(made, done, verdict(made, done, (), 1, ServerMode.MEAN_VALUE))
    assert text.count('data-label="measured"') == 2 * 2, "two plots, each with a gap"
    assert "history: simulated" in text
    assert f"{made.setting.start:%H:%M}</text>" in text
    assert "nan" not in text.split("<body>")[1].split("<script>")[0]


@pytest.mark.slow
def test_policies_are_compared_with_what_was(tmp_path: Path) -> None:
    found = figures(trial(tmp_path, profile(replicas=4)), "inferscale", "static")
    history, product, static = found["policies"]
    assert [each["policy"] for each in found["policies"]] == ["history", "inferscale", "static"]
    assert found["ratioTo"] == "history"
    assert history["total"]["costRatio"] == 1
    assert product["total"]["costRatio"] < 0.9
    assert static["total"]["costRatio"] == pytest.approx(1, abs=0.01)


def test_predicted_and_observed_latency_are_compared_on_what_was(tmp_path: Path) -> None:
    predicted = figures(trial(tmp_path, profile()))["history"]["services"][0]["latency"]["itl"]["predicted"]
    observed = [1.25 * predicted if rises(index) else predicted for index in range(SPAN.count)]
    [found] = figures(trial(tmp_path, profile(itl=observed, ttft=NAN)))["history"]["services"]
    itl = found["latency"]["itl"]
    assert itl["steps"] == SPAN.count
    assert itl["bias"] == pytest.approx(-predicted / 8, rel=0.1)
    assert itl["error"] == pytest.approx(predicted / 8, rel=0.1)
    assert itl["low"] == pytest.approx(1.0, rel=0.05)
    assert itl["high"] == pytest.approx(1.25, rel=0.05)
    assert found["latency"]["ttft"] is None


def test_windows_within_objectives_are_told_with_the_doubt_of_the_prediction(tmp_path: Path) -> None:
    far_off = figures(trial(tmp_path, profile(itl=100.0)))
    assert far_off["history"]["sloWindows"] == 0
    assert far_off["policies"][0]["total"]["sloWindows"] == 1
    assert far_off["policies"][0]["total"]["sloWindowsRange"] == [0, 0]
    close = figures(trial(tmp_path, profile()))
    assert close["policies"][0]["total"]["sloWindowsRange"] == [1, 1]
    *_, last = sentences(figures(trial(tmp_path, profile()), "static"))
    assert last.startswith(
        "static would have used 0.4 H100 h, cost 4.00 (100 % of it); windows within objectives"
    )


def test_means_do_not_judge_a_percentile(tmp_path: Path) -> None:
    given = described(tmp_path, service("s0", spec={"serviceClass": "premium"}))
    found = figures(make_trial(given.setting, {"default/s0": profile()}, SPAN))
    assert found["history"]["sloWindows"] is None
    assert found["policies"][0]["total"]["sloWindows"] is not None


def test_plots_have_a_gap_where_the_load_is_not_known(tmp_path: Path) -> None:
    made = trial(tmp_path, profile(GAP))
    [plain] = outcomes(made)
    shown = for_plots(plain, made.known).ledger
    assert np.flatnonzero(np.isnan(shown.windows["arrived"][0])).tolist() == [4, 5, 6]
    assert np.flatnonzero(np.isnan(shown.cost[0])).tolist() == [4, 5, 6]


@pytest.mark.slow
def test_a_service_that_idled_all_the_time_is_tested_too(tmp_path: Path) -> None:
    idle = replace(profile(0.0), input_tokens=row(NAN), output_tokens=row(NAN), itl=row(NAN), ttft=row(NAN))
    found = figures(trial(tmp_path, idle), "inferscale")
    assert found["policies"][1]["total"]["cost"] < found["policies"][0]["total"]["cost"]


@pytest.mark.slow
def test_schedules_go_by_the_wall_clock_of_the_past(tmp_path: Path) -> None:
    # The span begins on a Sunday at 16:00 UTC.
    bounds = {
        "days": ["Sun"],
        "from": "16:05",
        "to": "18:00",
        "timeZone": "UTC",
        "minReplicas": 3,
    }
    given = described(tmp_path, service("s0", spec={"schedule": [bounds]}))
    made = make_trial(given.setting, {"default/s0": profile(replicas=1)}, SPAN)
    product = outcomes(made, "inferscale")[1]
    raised = next(at for at, replicas, _ in product.replicas[0] if replicas >= 3)
    assert 300 <= raised <= 360
