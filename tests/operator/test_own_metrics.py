"""The operator's own metrics: what they say of a plan, and that what is gone is gone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from builders import (
    NOW,
    UNKNOWN,
    condition,
    later,
    load,
    node,
    of,
    policy,
    service,
    service_class,
    world,
)
from inferscale_operator.api.moves import FailedMove, MoveSide, MoveStatus, MoveStep
from inferscale_operator.api.optimizer_policy import OptimizerPolicySpec
from inferscale_operator.decide import decide
from inferscale_operator.metrics.queries import Answer, Answers, Query
from inferscale_operator.plan import Plan
from inferscale_operator.snapshot import Snapshot
from inferscale_operator.telemetry import reference
from inferscale_operator.telemetry.families import FAMILIES, OF_PLAN
from inferscale_operator.telemetry.instruments import CountedMetrics, Telemetry

ROOT = Path(__file__).parents[2]
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def exposed(telemetry: Telemetry) -> Series:
    """Every sample by its name and labels."""
    families = text_string_to_metric_families(telemetry.exposition().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def shown(snapshot: Snapshot) -> Series:
    telemetry = Telemetry()
    telemetry.planned(snapshot, decide(snapshot))
    return exposed(telemetry)


def at(series: Series, name: str, **labels: str) -> float:
    return series[f"inferscale_{name}", tuple(sorted(labels.items()))]


def test_a_plan_is_told_by_service_type_and_reason() -> None:
    busy = service("llama", 2, load(100.0))
    series = shown(world(busy, service("blind", 1, UNKNOWN)))
    here = {"namespace": "prod", "service": "llama"}
    [plan] = [
        p for p in decide(world(busy, service("blind", 1, UNKNOWN))).services if p.service.name == "llama"
    ]
    [entry] = plan.allocation.allocations
    assert at(series, "service_replicas", **here, accelerator="h100", of="current") == 2
    assert at(series, "service_replicas", **here, accelerator=entry.accelerator, of="desired") == (
        entry.desired_replicas
    )
    assert entry.predicted_itl is not None
    assert at(series, "service_predicted_itl_seconds", **here) == pytest.approx(entry.predicted_itl / 1000)
    assert at(series, "service_arrivals_per_second", **here) == pytest.approx(100 / 60, abs=0.01)
    assert at(series, "services_unknown", cause="MetricsUnknown") == 1
    assert at(series, "services", reason="MetricsUnknown") == 1
    assert at(series, "accelerator_units", type="H100", state="total") == 8
    assert at(series, "accelerator_units", type="H100", state="used") == 3
    assert at(series, "cost_per_hour", of="current") == 30
    # Nothing was saved before the first tick after the adoption.
    assert at(series, "saved_cost") == 0


def test_what_is_not_known_has_no_series() -> None:
    series = shown(world(service("blind", 1, UNKNOWN)))
    assert not [name for name, _ in series if name.startswith("inferscale_service_observed")]
    assert not [name for name, _ in series if name.startswith("inferscale_service_arrivals")]


def test_a_service_is_told_with_what_it_is_and_what_it_was_promised() -> None:
    promised = service_class("silver", 7, itl=250.0, ttft=2000.0)
    slow = replace(load(100.0), itl=300.0, ttft=500.0)
    snapshot = world(
        service("llama", 2, slow, serviceClass="silver"),
        service("fast", 2, replace(slow, itl=200.0), serviceClass="silver"),
        service("blind", 1, UNKNOWN, serviceClass="silver"),
        service_classes=(promised,),
    )
    series = shown(snapshot)
    here = {"namespace": "prod", "service": "llama"}
    is_a = {"model": "llama", "class": "silver", "priority": "7", "mode": "Apply"}
    assert at(series, "service_info", **here, **is_a) == 1
    assert at(series, "service_objective_itl_seconds", **here) == pytest.approx(0.25)
    assert at(series, "service_objective_ttft_seconds", **here) == pytest.approx(2.0)
    held = {key: value for key, value in series.items() if key[0] == "inferscale_service_slo_held"}
    assert sorted(held.values()) == [0, 1]
    assert at(series, "service_slo_held", **here) == 0
    assert at(series, "service_slo_at_risk", **here) == 1
    assert at(series, "service_load_known", **here) == 1
    assert at(series, "service_load_known", namespace="prod", service="blind") == 0
    assert at(series, "tick_interval_seconds") == 30


def test_a_service_of_an_unknown_class_has_neither_priority_nor_objectives() -> None:
    series = shown(world(service("llama", serviceClass="nowhere")))
    [labels] = [dict(labels) for name, labels in series if name == "inferscale_service_info"]
    assert (labels["class"], labels["priority"]) == ("nowhere", "")
    assert not [name for name, _ in series if "objective" in name or name == "inferscale_service_load_known"]


def test_only_a_service_that_lacks_what_it_needs_is_limited_by_capacity() -> None:
    here = {"namespace": "prod", "service": "llama"}
    short = world(service("llama", 2, load(600.0)), nodes=(node("node-h", "H100", 2),))
    assert at(shown(short), "service_capacity_limited", **here) == 1
    assert at(shown(world(service("llama", 2, load(60.0)))), "service_capacity_limited", **here) == 0
    # A replica on a100 would do, and there is none.
    dearer = world(service("llama", 1, load(20.0)), nodes=(node("node-h", "H100"),))
    assert condition(of(decide(dearer), "llama"), "CapacityLimited")[:2] == ("True", "CheaperIsExhausted")
    assert at(shown(dearer), "service_capacity_limited", **here) == 0


def test_moves_are_told_with_their_time_and_those_that_failed_lately_are_counted() -> None:
    here = {"namespace": "prod", "service": "llama"}
    failed = FailedMove(accelerator="a100", time=later(-60), message="no room")
    side = MoveSide(accelerator="h100", replicas=2)
    move = MoveStatus(
        step=MoveStep.BRING_UP,
        source=side,
        to=side.model_copy(update={"accelerator": "a100"}),
        started_at=later(-90),
        step_started_at=later(-30),
    )
    [planned] = decide(world(service())).services
    allocation = planned.allocation.model_copy(update={"move": move, "failed_moves": (failed,)})
    telemetry = Telemetry()
    plan = Plan(NOW, (replace(planned, allocation=allocation),))
    telemetry.planned(world(service()), plan)
    assert at(exposed(telemetry), "service_move_seconds", **here) == 90
    assert at(exposed(telemetry), "service_moves_failed", **here) == 1
    still = shown(world(service()))
    assert at(still, "service_moves_failed", **here) == 0
    assert not [name for name, _ in still if name == "inferscale_service_move_seconds"]


def test_what_holds_back_is_counted_by_kind() -> None:
    slow = {"scaleUp": {"stabilizationWindowSeconds": 60}, "scaleDown": {"stabilizationWindowSeconds": 60}}
    waits = service("llama", 2, load(300.0), behavior=slow)
    series = shown(world(waits))
    assert at(series, "services_held_back", gate="Stabilization") == 1


def test_series_of_a_deleted_service_go_away_with_the_next_plan() -> None:
    telemetry = Telemetry()
    both = world(service("llama"), service("other"))
    telemetry.planned(both, decide(both))
    assert any(("service", "other") in labels for _, labels in exposed(telemetry))
    one = world(service("llama"))
    telemetry.planned(one, decide(one))
    assert not any(("service", "other") in labels for _, labels in exposed(telemetry))
    assert any(("service", "llama") in labels for _, labels in exposed(telemetry))


def test_a_replica_that_does_not_lead_any_more_tells_of_no_plan() -> None:
    telemetry = Telemetry()
    telemetry.leads(True)
    telemetry.planned(world(service()), decide(world(service())))
    assert at(exposed(telemetry), "leader") == 1
    telemetry.leads(False)
    series = exposed(telemetry)
    assert at(series, "leader") == 0
    names = {family.name for family in OF_PLAN}
    assert not [name for name, _ in series if name in names]


def test_requests_are_counted_by_verb_kind_and_code() -> None:
    telemetry = Telemetry()
    telemetry.requested("patch", "Deployment", 409, 0.1)
    telemetry.requested("patch", "Deployment", 409, 0.1)
    series = exposed(telemetry)
    assert at(series, "api_requests_total", verb="patch", kind="Deployment", code="409") == 2
    assert at(series, "api_request_seconds_count", verb="patch") == 2


class Answering:
    """A Prometheus that answers as it is told."""

    def __init__(self, *errors: str) -> None:
        self.errors = errors

    def ask(self, *_: Any) -> dict[str, Answers]:
        answers = {query: Answer(error=error) for query, error in zip(Query, self.errors, strict=False)}
        return {"vllm": answers}


def test_queries_are_counted_and_the_first_error_is_kept() -> None:
    telemetry = Telemetry()
    counted = CountedMetrics(Answering("", "too slow", "too slow too"), telemetry)
    assert len(counted.ask(OptimizerPolicySpec().metrics, (), 0.0)["vllm"]) == 3
    series = exposed(telemetry)
    assert at(series, "prometheus_queries_total", result="ok") == 1
    assert at(series, "prometheus_queries_total", result="error") == 2
    assert counted.error == "too slow"


def test_a_tick_and_its_phases_are_timed_when_they_end() -> None:
    telemetry = Telemetry()
    with telemetry.tick(), telemetry.phase("observe"):
        pass
    with pytest.raises(ZeroDivisionError), telemetry.tick():
        raise ZeroDivisionError
    series = exposed(telemetry)
    assert at(series, "tick_seconds_count") == 1
    assert at(series, "phase_seconds_count", phase="observe") == 1
    assert at(series, "last_tick_timestamp_seconds") > 0


def test_every_metric_is_in_the_reference_and_exposed_with_its_help() -> None:
    telemetry = Telemetry()
    text = telemetry.exposition().decode()
    page = reference.page()
    for family in FAMILIES:
        assert f"| `{family.name}` | {family.type} |" in page
        assert f"# TYPE {family.name} {family.type}" in text
        assert f"# HELP {family.name} {family.help}" in text
    named = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE inferscale_")}
    created = {name for name in named if name.endswith("_created")}
    assert named - created == {family.name for family in FAMILIES}


def test_the_reference_is_up_to_date(tmp_path: Path) -> None:
    reference.main(["--check", f"--root={ROOT}"])
    (tmp_path / "docs").mkdir()
    with pytest.raises(SystemExit, match="not up to date with the metrics"):
        reference.main(["--check", f"--root={tmp_path}"])
    reference.main([f"--root={tmp_path}"])
    reference.main(["--check", f"--root={tmp_path}"])


@pytest.mark.parametrize("fields", [{}, {"policy": policy(accelerators="Unlimited")}, {"nodes": ()}])
def test_any_plan_can_be_told(fields: dict[str, Any]) -> None:
    assert shown(replace(world(service(), service("blind", 1, UNKNOWN)), **fields))
