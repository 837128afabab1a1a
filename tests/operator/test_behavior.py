"""Behaviour of HorizontalPodAutoscaler v2: scaling policies, selectPolicy, tolerance, bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import (
    IDLE,
    NOW,
    UNKNOWN,
    accelerator,
    condition,
    deployment,
    load,
    node,
    pod_spec,
    policy,
    service,
    world,
)
from inferscale_operator.api.behavior import ScalingPolicy, ScalingRules, SelectPolicy
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus, ScaleEvent
from inferscale_operator.decide.pacing import (
    EVENTS_LIMIT,
    Limits,
    Past,
    Rules,
    equivalent,
    least_replicas_allowed,
    limited,
    most_replicas,
    remember,
    rules,
    standing,
    tolerated,
)
from inferscale_operator.decide.stabilization import Holding, Stabilized
from inferscale_operator.snapshot import LoadState, ObservedLoad, Snapshot
from loop_play import Tick, play

MANY = (node("node-h", "H100", 64), node("node-a", "A100", 64))
RATES = {"h100": 60.0, "a100": 30.0}


def pods(value: int, period: int = 60) -> dict[str, Any]:
    return {"type": "Pods", "value": value, "periodSeconds": period}


def percent(value: int, period: int = 60) -> dict[str, Any]:
    return {"type": "Percent", "value": value, "periodSeconds": period}


def direction(*policies: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Rules of a direction without a window."""
    return {"stabilizationWindowSeconds": 0, "policies": list(policies), **fields}


def parsed(*policies: dict[str, Any], select: SelectPolicy = SelectPolicy.MAX) -> Rules:
    return Rules(tuple(ScalingPolicy.model_validate(p) for p in policies), select)


def changes(*made: tuple[float, int, int], on: str = "h100") -> tuple[ScaleEvent, ...]:
    """Changes so many seconds ago, from so many replicas to so many."""
    return tuple(
        ScaleEvent(time=NOW - timedelta(seconds=ago), accelerator=on, before=before, after=after)
        for ago, before, after in made
    )


def past(*made: tuple[float, int, int], on: str = "h100") -> Past:
    return Past(changes(*made, on=on), RATES, NOW)


def asked(ticks: Sequence[Tick]) -> list[int]:
    return [tick.asked for tick in ticks]


def one(
    replicas: int = 2, up: Mapping[str, Any] | None = None, down: Mapping[str, Any] | None = None, **spec: Any
) -> Snapshot:
    """A service that stays on h100, where a replica takes 60 requests/min, with room for 64."""
    rules = {"scaleUp": up or direction(), "scaleDown": down or direction()}
    state = service(replicas=replicas, **{"keepAccelerator": True, "behavior": rules, **spec})
    return world(state, nodes=MANY)


def run(snapshot: Snapshot, *loads: ObservedLoad, **fields: Any) -> list[Tick]:
    return play(snapshot, loads, **fields)["llama"]


# The rules of the controller, one by one.


@pytest.mark.parametrize(
    ("rules", "before", "base", "most"),
    [
        (parsed(), [], 5, None),
        (parsed(pods(2)), [], 5, 7),
        (parsed(percent(10)), [], 5, 6),
        (parsed(percent(100)), [], 5, 10),
        (parsed(percent(10)), [], 100, 110),
        (parsed(pods(4), percent(100)), [], 1, 5),
        (parsed(pods(4), percent(100), select=SelectPolicy.MIN), [], 1, 2),
        # What was added within the period counts, what was taken away gives it back.
        (parsed(pods(4)), [(30, 2, 5)], 5, 6),
        (parsed(pods(4)), [(60, 2, 5)], 5, 9),
        (parsed(pods(4)), [(40, 5, 3), (30, 3, 5)], 5, 9),
        (parsed(percent(100)), [(30, 2, 4)], 4, 4),
        # More than is allowed was added: not a step back.
        (parsed(pods(1)), [(30, 2, 8)], 8, 8),
        # Each policy looks at its own period.
        (parsed(pods(4, 15), pods(6, 60), select=SelectPolicy.MIN), [(30, 2, 7)], 7, 8),
        (parsed(select=SelectPolicy.DISABLED), [], 5, 5),
        # A share of nothing is nothing.
        (parsed(percent(50)), [], 0, 1),
    ],
)
def test_a_scale_up_reaches_what_its_policies_allow(
    rules: Rules, before: list[tuple[float, int, int]], base: int, most: int | None
) -> None:
    assert most_replicas(base, "h100", Limits(up=rules), past(*before)) == most


@pytest.mark.parametrize(
    ("rules", "before", "base", "least"),
    [
        (parsed(), [], 5, 0),
        (parsed(pods(2)), [], 5, 3),
        (parsed(pods(9)), [], 5, 0),
        (parsed(percent(10)), [], 5, 4),
        (parsed(percent(100)), [], 5, 0),
        (parsed(percent(10)), [], 100, 90),
        (parsed(pods(4), percent(10)), [], 10, 6),
        (parsed(pods(4), percent(10), select=SelectPolicy.MIN), [], 10, 9),
        (parsed(pods(4)), [(30, 8, 5)], 5, 4),
        (parsed(pods(4)), [(60, 8, 5)], 5, 1),
        (parsed(percent(50)), [(30, 8, 4)], 4, 4),
        (parsed(pods(1)), [(30, 8, 2)], 2, 2),
        (parsed(select=SelectPolicy.DISABLED), [], 5, 5),
    ],
)
def test_a_scale_down_reaches_what_its_policies_allow(
    rules: Rules, before: list[tuple[float, int, int]], base: int, least: int
) -> None:
    assert least_replicas_allowed(base, "h100", Limits(down=rules), past(*before)) == least


def test_changes_on_another_accelerator_count_by_the_rate_that_they_serve() -> None:
    # Two h100 were added, which are worth four a100.
    assert most_replicas(10, "a100", Limits(up=parsed(pods(5))), past((30, 3, 5))) == 11
    assert equivalent(Holding("h100", 3), "a100", RATES) == 6
    assert equivalent(Holding("a100", 3), "h100", RATES) == 2
    # By number where it is not known what they serve.
    assert equivalent(Holding("t4", 3), "a100", RATES) == 3


def test_a_move_counts_as_the_change_of_what_is_worth_as_much() -> None:
    limits = Limits(up=parsed(pods(2)), down=parsed(pods(2)))
    holding = Holding("h100", 3)
    # 3 on h100 are 6 on a100.
    for wanted, given_replicas in ((6, 6), (8, 8), (9, 8)):
        allowed = limited(Stabilized("a100", wanted, None, rising=True), holding, limits, past(), 3)
        assert (allowed.accelerator, allowed.replicas) == ("a100", given_replicas)
    assert limited(Stabilized("a100", 4, None), holding, limits, past(), 2).accelerator == "a100"
    # Down by more than the policies allow: it shrinks where it is first.
    small = limited(Stabilized("a100", 2, None), Holding("h100", 5), limits, past(), 1)
    assert (small.accelerator, small.replicas, small.why) == ("h100", 3, "RateLimited")
    assert small.held == "2 on a100 waits: behavior.scaleDown.policies allow 8 at least now"
    assert limited(Stabilized("a100", 2, None), Holding("h100", 5), limits, past(), 4).replicas == 4


def test_the_tolerance_is_of_the_present_replicas_and_of_the_direction() -> None:
    limits = Limits(up=Rules(tolerance=0.1), down=Rules(tolerance=0.25))
    holding = Holding("h100", 10)
    inside = [n for n in range(1, 20) if tolerated(Stabilized("h100", n, None), holding, limits)]
    assert inside == [8, 9, 11]
    assert not tolerated(Stabilized("a100", 11, None), holding, limits)
    assert not tolerated(Stabilized("h100", 11, 64), holding, limits)


def test_a_service_goes_over_the_policy_field_by_field() -> None:
    default = ScalingRules.model_validate({"policies": [pods(4)], "selectPolicy": "Min", "tolerance": 0.1})
    assert rules(ScalingRules(), default) == Rules(parsed(pods(4)).policies, SelectPolicy.MIN, 0.1)
    own = ScalingRules.model_validate({"policies": [], "selectPolicy": "Max", "tolerance": 0})
    assert rules(own, default) == Rules() == rules(ScalingRules(), ScalingRules())


# What it makes of a service.


def test_a_scale_up_goes_by_its_policies_tick_by_tick() -> None:
    up = direction(pods(2, 60))
    ticks = run(one(2, up), *[load(600)] * 9)
    # Two replicas in any 60 s: at 0 s, 60 s, …
    assert asked(ticks) == [4, 4, 6, 6, 8, 8, 10, 10, 10]
    assert ticks[1].plan.allocation.reason == "RateLimited"
    assert [g.type.value for g in ticks[1].plan.allocation.allocations[0].gates] == ["Policy"]
    assert condition(ticks[1].plan, "Applied") == (
        "True",
        "RateLimited",
        "10 on h100 waits: behavior.scaleUp.policies allow 4 at most now",
    )


def test_percent_doubles_period_by_period() -> None:
    assert asked(run(one(1, direction(percent(100, 30))), *[load(3600)] * 7)) == [2, 4, 8, 16, 32, 60, 60]


def test_a_scale_down_goes_by_its_policies_tick_by_tick() -> None:
    down = direction(percent(50, 90))
    assert asked(run(one(16, down=down), *[load(60)] * 13)) == [8] * 3 + [4] * 3 + [2] * 3 + [1] * 4


def test_min_takes_the_smaller_of_two_policies() -> None:
    rules = [pods(4, 30), percent(10, 30)]
    assert asked(run(one(10, direction(*rules)), load(3000))) == [14]
    assert asked(run(one(10, direction(*rules, selectPolicy="Min")), load(3000))) == [11]


def test_the_changes_survive_the_status_and_a_patch_that_was_refused_is_none() -> None:
    snapshot = one(2, direction(pods(2, 300)))
    [tick] = run(snapshot, load(600))
    written = tick.plan.allocation.model_dump_json(by_alias=True)
    events = InferenceAllocationStatus.model_validate_json(written).scale_events
    assert [(e.before, e.after, e.accelerator) for e in events] == [(2, 4, "h100")]
    # It is tried again at the next tick, since nothing was added.
    assert asked(run(snapshot, *[load(600)] * 3, refused=[0])) == [2, 4, 4]
    assert standing(events, Holding("h100", 4)) == events
    assert standing(events, Holding("h100", 2)) == ()
    assert standing(events, Holding("a100", 4)) == ()


def test_what_is_done_for_the_least_replicas_counts_as_a_change_too() -> None:
    up = direction(pods(2, 60))
    ticks = run(one(1, up, minReplicas=3), UNKNOWN, load(600), load(600))
    assert asked(ticks) == [3, 3, 5]


def test_without_policies_nothing_is_recorded() -> None:
    assert run(one(2), load(600))[0].plan.allocation.scale_events == ()


def test_too_many_changes_become_fewer_and_never_let_more_through() -> None:
    limits = Limits(up=parsed(pods(1, 1800)))
    made = changes(*((1000 - i, i, i + 1) for i in range(EVENTS_LIMIT + 40)))
    kept = remember(made, limits, NOW)
    assert len(kept) == EVENTS_LIMIT
    for period in (100, 850, 900, 1800):
        full, fewer = (Past(e, RATES, NOW).change("h100", timedelta(seconds=period)) for e in (made, kept))
        assert fewer >= full
    assert sum(e.after - e.before for e in kept) == EVENTS_LIMIT + 40
    assert remember(made, Limits(), NOW) == ()


def test_disabled_upwards_only_goes_down() -> None:
    up = direction(selectPolicy="Disabled")
    ticks = run(one(3, up), load(600), load(600), load(60), load(600))
    assert asked(ticks) == [3, 3, 1, 1]
    assert ticks[0].plan.allocation.reason in ("ScalingDisabled", "BestEffort")
    assert condition(ticks[0].plan, "Applied") == (
        "True",
        "ScalingDisabled",
        "10 on h100 are needed: behavior.scaleUp.selectPolicy is Disabled",
    )
    assert condition(ticks[0].plan, "SLOAtRisk")[:2] == ("True", "PredictedMiss")


def test_disabled_downwards_only_goes_up() -> None:
    down = direction(selectPolicy="Disabled")
    ticks = run(one(3, down=down), load(60), load(600), load(60), IDLE)
    assert asked(ticks) == [3, 10, 10, 10]
    assert condition(ticks[0].plan, "Applied") == (
        "True",
        "ScalingDisabled",
        "1 on h100 would do: behavior.scaleDown.selectPolicy is Disabled",
    )


@pytest.mark.parametrize("disabled", ["scaleUp", "scaleDown"])
def test_with_a_direction_disabled_the_accelerator_stays(disabled: str) -> None:
    free = {"scaleUp": direction(), "scaleDown": direction()}
    paused = free | {disabled: direction(selectPolicy="Disabled")}
    for own, chosen in ((free, "a100"), (paused, "h100")):
        state = service(replicas=1, behavior=own)
        [tick] = run(world(state, nodes=MANY), load(30))
        assert tick.plan.allocation.allocations[0].accelerator == chosen


def test_who_never_scales_down_gives_nothing_to_a_higher_priority() -> None:
    keeps = {"scaleUp": direction(), "scaleDown": direction(selectPolicy="Disabled")}
    for own, given_up in (({}, True), ({"behavior": keeps}, False)):
        gold = service("gold", 2, keepAccelerator=True)
        low = service("low", 6, serviceClass="bronze", keepAccelerator=True, **own)
        ticks = play(world(gold, low), {"gold": [load(360)] * 2, "low": [load(60)] * 2})
        assert (asked(ticks["low"])[-1] < 6) is given_up


@pytest.mark.parametrize(
    "slow",
    [
        {"stabilizationWindowSeconds": 60},
        direction(pods(2, 600)),
        direction(tolerance=0.5),
        direction(selectPolicy="Disabled"),
    ],
)
def test_what_is_held_back_keeps_what_it_uses_and_the_step_fits_beside_it(slow: dict[str, Any]) -> None:
    holds = service("holds", 6, keepAccelerator=True, behavior={"scaleDown": slow})
    grows = service("grows", 1, keepAccelerator=True)
    ticks = play(world(holds, grows), {"holds": [load(230)] * 8, "grows": [load(230)] * 8})
    for kept, grown in zip(ticks["holds"], ticks["grows"], strict=True):
        # Eight units: what is given up is not given out before it is free.
        assert kept.replicas + grown.asked <= 8
        assert kept.asked <= kept.replicas
    assert ticks["grows"][0].asked == 2
    assert ticks["grows"][-1].asked == min(4, 8 - ticks["holds"][-1].asked)


@pytest.mark.parametrize(
    "slow", [{"stabilizationWindowSeconds": 3600}, direction(pods(1, 1800)), direction(tolerance=0.5)]
)
def test_a_donor_passes_windows_policies_and_tolerance_and_never_its_least(slow: dict[str, Any]) -> None:
    low = service(
        "low", 6, serviceClass="bronze", keepAccelerator=True, minReplicas=3, behavior={"scaleDown": slow}
    )
    gold = service("gold", 2, keepAccelerator=True)
    ticks = play(world(low, gold), {"low": [load(170)] * 3, "gold": [load(350)] * 3})
    # Donor first: gold grows when the units are free.
    assert asked(ticks["low"]) == [3, 3, 3]
    assert asked(ticks["gold"]) == [2, 5, 5]
    assert ticks["low"][0].plan.patch is not None
    assert "a higher priority needs the accelerators" in ticks["low"][0].plan.allocation.message


def test_a_small_difference_is_within_the_tolerance() -> None:
    up, down = direction(tolerance=0.1), direction(tolerance=0.2)
    ticks = run(one(10, up, down), load(660), load(480), load(720), load(400))
    assert asked(ticks) == [10, 10, 12, 7]
    assert ticks[0].plan.allocation.reason == "WithinTolerance"
    assert condition(ticks[0].plan, "Applied")[2] == "11 on h100 is within the tolerance of 0.1"


@pytest.mark.parametrize(
    "slow",
    [
        {"stabilizationWindowSeconds": 600},
        direction(pods(1, 600)),
        direction(selectPolicy="Disabled"),
        direction(tolerance=0.5),
    ],
)
def test_the_bounds_hold_over_windows_policies_and_tolerance(slow: dict[str, Any]) -> None:
    assert asked(run(one(4, slow, slow, minReplicas=6), load(240))) == [6]
    assert asked(run(one(6, slow, slow, maxReplicas=4), load(360))) == [4]


def test_what_is_only_partly_seen_keeps_even_more_than_the_most() -> None:
    partial = load(60, LoadState.PARTIAL)
    assert asked(run(one(6, maxReplicas=4), partial)) == [6]


def test_the_behaviour_of_the_policy_holds_where_a_service_has_none() -> None:
    snapshot = one(2, behavior={})
    cautious = policy(behavior={"scaleUp": direction(pods(1, 60))})
    assert asked(run(replace(snapshot, policy=cautious), *[load(600)] * 4)) == [3, 3, 4, 4]


@pytest.mark.parametrize(
    ("up", "fields", "grown"),
    [(direction(), {}, 3), (direction(pods(1, 600)), {}, 2), (direction(), {"maxReplicas": 2}, 2)],
)
def test_what_grows_until_it_can_move_keeps_to_policies_and_bounds(
    up: dict[str, Any], fields: dict[str, Any], grown: int
) -> None:
    rules = {"scaleUp": up, "scaleDown": direction()}
    crowd = service("crowd", on=deployment("crowd", 7, pod_spec=pod_spec("A100")), mode="Paused")
    snapshot = world(
        service(replicas=1, behavior=rules, **fields),
        crowd,
        accelerator_profiles=(accelerator("h100"), accelerator("a100", cost=1.0)),
        policy=policy(accelerators="Unlimited"),
    )
    [tick] = play(snapshot, [load(170)])["llama"]
    assert tick.accelerator == "h100"
    assert tick.plan.patch is None or "template" not in tick.plan.patch.body["spec"]
    assert tick.asked == grown


policies = st.lists(
    st.builds(
        lambda kind, value, period: ScalingPolicy(type=kind, value=value, period_seconds=period),
        st.sampled_from(["Pods", "Percent"]),
        st.integers(1, 150),
        st.sampled_from([15, 60, 600]),
    ),
    max_size=3,
).map(tuple)
any_rules = st.builds(Rules, policies, st.sampled_from(SelectPolicy), st.sampled_from([0.0, 0.1]))
events = st.lists(
    st.builds(
        lambda ago, before, after: ScaleEvent(
            time=NOW - timedelta(seconds=ago), accelerator="h100", before=before, after=after
        ),
        st.integers(0, 700),
        st.integers(0, 12),
        st.integers(0, 12),
    ),
    max_size=4,
).map(tuple)


@settings(deadline=None)
@given(st.builds(Limits, any_rules, any_rules), events, st.integers(0, 12), st.integers(0, 12))
def test_a_limit_slows_a_change_and_never_turns_it_round(
    limits: Limits, made: tuple[ScaleEvent, ...], base: int, wanted: int
) -> None:
    known = Past(made, RATES, NOW)
    allowed = limited(Stabilized("h100", wanted, None), Holding("h100", base), limits, known, wanted)
    assert min(base, wanted) <= allowed.replicas <= max(base, wanted)
    assert (allowed.replicas == wanted) is (allowed.held == "")
