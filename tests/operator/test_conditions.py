from __future__ import annotations

from builders import NOW, later
from inferscale_operator.api.base import ConditionStatus
from inferscale_operator.decide.conditions import (
    MESSAGE_LIMIT,
    conditions,
    events,
    false,
    true,
    unknown,
)


def test_the_time_of_the_transition_stays_while_the_status_does() -> None:
    first = conditions((), {"Ready": false("Held", "why")}, 1, NOW)
    again = conditions(first, {"Ready": false("Stalled", "another reason")}, 2, later(30))
    assert (again[0].last_transition_time, again[0].reason, again[0].observed_generation) == (
        NOW,
        "Stalled",
        2,
    )
    turned = conditions(again, {"Ready": true("Decided")}, 2, later(60))
    assert turned[0].last_transition_time == later(60)


def test_conditions_are_in_order_of_their_names() -> None:
    found = conditions((), {"Ready": true("A"), "Applied": unknown("B")}, 1, NOW)
    assert [(c.type, c.status) for c in found] == [
        ("Applied", ConditionStatus.UNKNOWN),
        ("Ready", ConditionStatus.TRUE),
    ]


def test_a_long_message_is_cut() -> None:
    found = conditions((), {"Ready": true("A", "x" * 5000)}, 1, NOW)
    assert len(found[0].message) == MESSAGE_LIMIT
    assert found[0].message.endswith("…")


def test_an_event_is_sent_when_a_condition_becomes_alarming_and_not_again() -> None:
    good = conditions((), {"MetricsAvailable": true("Observed")}, 1, NOW)
    bad = conditions(good, {"MetricsAvailable": false("MetricsUnknown", "no answer")}, 1, NOW)
    assert events((), good) == ()
    assert [(e.type, e.reason, e.message) for e in events(good, bad)] == [
        ("Warning", "MetricsUnknown", "no answer")
    ]
    assert events(bad, conditions(bad, {"MetricsAvailable": false("MetricsUnknown", "!")}, 1, NOW)) == ()
    other = conditions(bad, {"MetricsAvailable": false("EngineStalled")}, 1, NOW)
    assert [e.reason for e in events(bad, other)] == ["EngineStalled"]
    assert events(bad, good) == ()


def test_what_is_meant_is_no_news() -> None:
    meant = conditions((), {"Applied": false("Recommend"), "Paused": true("Paused")}, 1, NOW)
    assert events((), meant) == ()


def test_a_risk_is_alarming_when_it_is_there() -> None:
    at_risk = conditions((), {"SLOAtRisk": true("Observed"), "CapacityLimited": false("Enough")}, 1, NOW)
    assert [e.reason for e in events((), at_risk)] == ["Observed"]
