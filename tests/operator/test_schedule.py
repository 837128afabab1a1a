from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from builders import load, service, world
from inferscale_operator.api.inference_service import InferenceServiceSpec
from inferscale_operator.decide.bounds import Bounds, bounds_at, zero_bound
from inferscale_operator.kube.parse import explain
from loop_play import play

MONDAY = datetime(2026, 6, 1, tzinfo=UTC)


def spec(*entries: dict[str, Any], **fields: Any) -> InferenceServiceSpec:
    known = {"model": "llama", "serviceClass": "gold", "targetRef": {"name": "llama"}}
    return InferenceServiceSpec.model_validate({**known, "schedule": list(entries), **fields})


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """A time of the week that begins with Monday, 0."""
    return MONDAY + timedelta(days=day, hours=hour, minutes=minute)


def least(entry: dict[str, Any], time: datetime) -> int:
    return bounds_at(spec({"minReplicas": 5, **entry}), time).least


def test_without_a_schedule_the_bounds_of_the_spec_hold() -> None:
    assert bounds_at(spec(minReplicas=2, maxReplicas=7), MONDAY) == Bounds(2, 7)


def test_an_entry_begins_at_its_minute_and_is_over_at_its_end() -> None:
    entry = {"from": "08:00", "to": "18:30"}
    seen = [least(entry, at(0, *time)) for time in ((7, 59), (8, 0), (18, 29), (18, 30))]
    assert seen == [1, 5, 5, 1]


def test_an_entry_may_pass_midnight_and_belongs_to_the_day_it_begins_on() -> None:
    entry = {"from": "22:00", "to": "06:00", "days": ["Mon"]}
    times = ((0, 5), (0, 21), (0, 22), (1, 5), (1, 6), (1, 23))
    assert [least(entry, at(*time)) for time in times] == [1, 1, 5, 5, 1, 1]


def test_an_entry_without_times_lasts_the_whole_of_its_days() -> None:
    entry = {"days": ["Sat", "Sun"]}
    assert [least(entry, at(day, hour)) for day, hour in ((4, 23), (5, 0), (6, 23), (7, 0))] == [1, 5, 5, 1]


def test_the_first_entry_that_applies_wins_and_what_it_leaves_out_is_as_in_the_spec() -> None:
    both = spec(
        {"from": "08:00", "to": "12:00", "minReplicas": 4},
        {"from": "10:00", "to": "20:00", "minReplicas": 2, "maxReplicas": 6},
        maxReplicas=9,
    )
    assert bounds_at(both, at(0, 11)) == Bounds(4, 9)
    assert bounds_at(both, at(0, 12)) == Bounds(2, 6)
    assert bounds_at(both, at(0, 20)) == Bounds(1, 9)


def test_times_are_those_of_the_zone_summer_and_winter() -> None:
    entry = {"from": "08:00", "to": "18:00", "timeZone": "Europe/Berlin"}
    summer, winter = datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    assert [least(entry, summer + timedelta(hours=h)) for h in (5, 6, 15, 16)] == [1, 5, 5, 1]
    assert [least(entry, winter + timedelta(hours=h)) for h in (6, 7, 16, 17)] == [1, 5, 5, 1]


def test_the_day_is_that_of_the_zone() -> None:
    entry = {"days": ["Tue"], "timeZone": "Asia/Tokyo"}
    assert [least(entry, at(0, hour)) for hour in (14, 15)] == [1, 5]


def test_an_hour_that_clocks_skip_begins_with_the_next_and_one_that_comes_twice_counts_twice() -> None:
    entry = {"from": "02:30", "to": "03:30", "timeZone": "Europe/Berlin"}
    forward, back = datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)
    # 02:00 becomes 03:00 at 01:00 UTC, and 03:00 becomes 02:00 at 01:00 UTC.
    minutes = (59, 60, 89, 90)
    assert [least(entry, forward + timedelta(minutes=m)) for m in minutes] == [1, 5, 5, 1]
    minutes = (29, 30, 59, 60, 90, 149, 150)
    assert [least(entry, back + timedelta(minutes=m)) for m in minutes] == [1, 5, 5, 1, 5, 5, 1]


@settings(deadline=None)
@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),
    st.times(),
    st.times(),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
)
def test_every_moment_is_in_an_entry_or_in_the_one_of_the_other_times(
    time: datetime, start: Any, end: Any, zone: str
) -> None:
    one = {"from": f"{start:%H:%M}", "to": f"{end:%H:%M}", "timeZone": zone}
    other = {"from": one["to"], "to": one["from"], "timeZone": zone}
    inside = least(one, time) == 5
    if one["from"] == one["to"]:
        assert inside
    else:
        assert inside != (least(other, time) == 5)
        local = time.astimezone(ZoneInfo(zone))
        if one["from"] < one["to"]:
            assert inside == (one["from"] <= f"{local:%H:%M}" < one["to"])


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"timeZone": "Europe/Berlln"}, "spec.schedule[0].timeZone: 'Europe/Berlln' is not valid"),
        ({"timeZone": "../../etc/passwd"}, "spec.schedule[0].timeZone"),
        ({"timeZone": "Europe"}, "there is no time zone 'Europe'"),
        ({"from": "24:00"}, "spec.schedule[0].from"),
        ({"to": "7:00"}, "spec.schedule[0].to"),
        ({"days": ["Monday"]}, "spec.schedule[0].days[0]"),
        ({"minReplicas": 4, "maxReplicas": 3}, "minReplicas is above its maxReplicas"),
        ({"minReplicas": 10}, "minReplicas is above its maxReplicas"),
    ],
)
def test_a_schedule_that_cannot_be_says_what_is_wrong(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        spec(entry, maxReplicas=9)
    assert said in explain(refused.value)


def test_the_field_that_allows_zero_is_named() -> None:
    assert zero_bound(spec()) is None
    assert zero_bound(spec(minReplicas=0)) == "spec.minReplicas"
    assert zero_bound(spec({}, {"minReplicas": 0})) == "spec.schedule[1].minReplicas"


def test_a_service_follows_its_schedule_up_at_once_and_down_through_its_window() -> None:
    # The world begins at 00:00 UTC.
    day = [{"from": "00:05", "to": "00:15", "minReplicas": 4}]
    slow = {"scaleDown": {"stabilizationWindowSeconds": 120}}
    state = service(replicas=1, schedule=day, keepAccelerator=True, behavior=slow)
    ticks = play(world(state), [load(30)] * 45)["llama"]
    changes = [((t.time.minute, t.time.second), t.asked) for t in ticks if t.changed]
    assert changes == [((5, 0), 4), ((16, 30), 1)]
