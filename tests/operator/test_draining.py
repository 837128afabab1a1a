"""A pod that is taken away must have the time that a long request needs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kubernetes_objects as objects
from builders import after, condition, deployment, load, of, service, service_class, world
from inferscale_operator.decide import decide
from inferscale_operator.decide.draining import CONDITION, LONG_TO_MEAN, MARGIN
from inferscale_operator.kube.parse import parse_deployment
from inferscale_operator.plan import ServicePlan
from inferscale_operator.snapshot import ServiceState, Snapshot

TTFT_MS, ITL_MS, TOKENS = 6_000.0, 1_000.0, 100.0
NEEDED_S = (TTFT_MS + LONG_TO_MEAN * TOKENS * ITL_MS) / 1000
"""About 467 s."""


def serving(grace: int | None, *, tokens: float | None = TOKENS) -> ServiceState:
    observed = replace(load(), output_tokens=tokens)
    return service(observed=observed, on=deployment(grace_seconds=grace))


def seen(state: ServiceState, **objectives: float) -> Snapshot:
    promised = objectives or {"ttft": TTFT_MS, "itl": ITL_MS}
    return world(state, service_classes=(service_class(**promised),))


def decided(state: ServiceState, **objectives: float) -> ServicePlan:
    return of(decide(seen(state, **objectives)), "llama")


def warnings(plan: ServicePlan) -> list[str]:
    return [event.reason for event in plan.status.events if event.reason == "GracePeriodTooShort"]


def test_a_time_below_that_of_a_long_request_is_warned_about_with_what_would_be_right() -> None:
    plan = decided(serving(30))
    status, reason, message = condition(plan, CONDITION)
    assert (status, reason) == ("False", "GracePeriodTooShort")
    assert "Deployment llama: terminationGracePeriodSeconds is 30" in message
    assert message.endswith(f"set at least {math.ceil(NEEDED_S * MARGIN)}")
    assert warnings(plan) == ["GracePeriodTooShort"]


def test_enough_time_is_well_and_no_news() -> None:
    plan = decided(serving(int(NEEDED_S) + 1))
    assert condition(plan, CONDITION)[:2] == ("True", "Sufficient")
    assert warnings(plan) == []


def test_the_decision_is_the_same() -> None:
    assert decided(serving(30)).patch == decided(serving(3600)).patch


@pytest.mark.parametrize(
    ("state", "objectives"),
    [
        (serving(None), {}),
        (serving(30, tokens=None), {}),
        (serving(30), {"ttft": TTFT_MS}),
    ],
    ids=["the time is not recorded", "lengths are not known", "there is no objective for tokens"],
)
def test_what_is_not_known_is_not_said(state: ServiceState, objectives: dict[str, float]) -> None:
    plan = decided(state, **objectives)
    assert CONDITION not in [found.type for found in plan.status.status.conditions]


@settings(deadline=None, max_examples=20)
@given(st.floats(0.85, 1.15))
def test_lengths_that_go_up_and_down_a_little_say_it_once(factor: float) -> None:
    first = seen(serving(int(NEEDED_S) - 1))
    second = after(first, decide(first))
    (state,) = second.services
    changed = replace(state, load=replace(state.load, output_tokens=TOKENS * factor))
    again = of(decide(replace(second, services=(changed,))), "llama")
    assert condition(again, CONDITION)[:2] == ("False", "GracePeriodTooShort")
    assert warnings(again) == []


def test_a_deployment_tells_the_time_of_its_pods_and_the_default_where_it_says_nothing() -> None:
    raw = objects.deployment()
    assert parse_deployment(raw).grace_seconds == 30
    raw["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0
    assert parse_deployment(raw).grace_seconds == 0
