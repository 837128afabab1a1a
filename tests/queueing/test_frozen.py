"""Records: equal and hashed by their fields, not assigned to where types are checked."""

from dataclasses import replace

from inferscale_queueing.frozen import frozen


@frozen
class Rate:
    per_minute: float
    tokens: int = 0


@frozen(order=True)
class Rank:
    value: int


@frozen(eq=False)
class Arrays:
    values: list[float]


def test_equal_fields_make_equal_records_of_one_hash() -> None:
    assert Rate(1.0) == Rate(1.0, 0)
    assert hash(Rate(1.0)) == hash(Rate(1.0, 0))
    assert Rate(1.0) != Rate(2.0)
    assert replace(Rate(1.0), tokens=3) == Rate(1.0, 3)
    assert sorted([Rank(2), Rank(1)]) == [Rank(1), Rank(2)]


def test_without_equality_a_record_is_itself_only() -> None:
    one, other = Arrays([1.0]), Arrays([1.0])
    assert one != other
    assert len({one, other}) == 2


def test_the_type_checker_refuses_an_assignment() -> None:
    """Without the refusal the ignored error below would be unused, which `mypy` refuses in turn."""
    rate = Rate(1.0)
    rate.per_minute = 2.0  # type: ignore[misc]
    assert rate.per_minute == 2.0, "at run time nothing is looked at"
