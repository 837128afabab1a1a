from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_operator.kube.definitions import Definitions

KIND = "InferenceAllocation"
SENT = {"load": {"state": "Idle", "queued": 3}, "candidates": [{"name": "a"}, {"name": "b", "cost": 2}]}
statuses = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.integers(0, 3),
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        ),
        max_leaves=6,
    ),
    max_size=3,
)


def pruned(value: Any, unknown: str) -> Any:
    """What an API server keeps that does not know fields of a name."""
    if isinstance(value, dict):
        return {key: pruned(each, unknown) for key, each in value.items() if key != unknown}
    return [pruned(each, unknown) for each in value] if isinstance(value, list) else value


def test_what_is_kept_whole_is_compared_whole() -> None:
    definitions = Definitions()
    definitions.learn(KIND, SENT, SENT | {"defaulted": 1})
    assert definitions.dropped == {}
    assert definitions.kept(KIND, SENT) is SENT


def test_fields_that_are_dropped_are_named_down_to_the_items_of_lists() -> None:
    definitions = Definitions()
    kept = {"load": {"state": "Idle"}, "candidates": [{"name": "a"}, {"name": "b"}]}
    definitions.learn(KIND, SENT, kept)
    assert definitions.dropped == {KIND: ("status.candidates[].cost", "status.load.queued")}
    assert definitions.kept(KIND, SENT) == kept
    assert definitions.kept("ServiceClass", SENT) == SENT


def test_a_field_that_is_kept_at_last_is_forgotten_and_one_that_was_not_sent_is_not() -> None:
    definitions = Definitions()
    definitions.learn(KIND, SENT, {})
    without = {"candidates": SENT["candidates"]}
    definitions.learn(KIND, without, without)
    assert definitions.dropped == {KIND: ("status.load",)}
    definitions.learn(KIND, SENT, SENT)
    assert definitions.dropped == {}


@settings(deadline=None)
@given(statuses, st.sampled_from("abc"))
def test_a_status_is_expected_as_the_api_server_would_have_it(status: dict[str, Any], unknown: str) -> None:
    definitions = Definitions()
    definitions.learn(KIND, status, pruned(status, unknown))
    assert definitions.kept(KIND, status) == pruned(status, unknown)
