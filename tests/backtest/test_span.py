from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_operator.backtest.span import CHUNK_STEPS, Span, make_span
from inferscale_operator.errors import UsageError

NOW = 1_750_000_000.5


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2025-06-01", 1_748_736_000),
        ("2025-06-01T12:00Z", 1_748_779_200),
        ("2025-06-01T14:00+02:00", 1_748_779_200),
        ("2025-06-01 12:00:00", 1_748_779_200),
        ("1748779200", 1_748_779_200),
        ("7d", 1_749_395_160),
        ("90m", 1_749_994_560),
    ],
)
def test_times_are_dates_unix_seconds_or_so_long_ago(text: str, at: int) -> None:
    assert make_span(text, "now", 120, NOW).begin == at


@pytest.mark.parametrize(
    ("begin", "end", "message"),
    [
        ("yesterday", "now", "--from yesterday: is no time: give 2026-03-01"),
        ("2025-13-01", "now", "--from 2025-13-01: is no time"),
        ("7d", "soon", "--to soon: is no time"),
        ("-1", "now", "--from -1: is no time"),
        ("1h", "2h", "--from 1h: is 2025-06-15 14:06:40Z, not before --to 2h, 2025-06-15 13:06:40Z"),
        ("now", "now", "not before --to now"),
        ("1d", "2025-06-16", "--to 2025-06-16: is 2025-06-16 00:00:00Z, which is still to come"),
        ("1749999990", "1749999995", "--to 1749999995: is shorter than a step of 120 s"),
        ("1970-01-02", "now", "--step 120: makes 14,582,"),
    ],
)
def test_times_that_make_no_span_are_told(begin: str, end: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        make_span(begin, end, 120, NOW)
    assert message in str(error.value)


@given(begin=st.integers(0, 10**6), count=st.integers(1, 3000), step=st.sampled_from([10, 60, 97, 3600]))
@settings(deadline=None)
def test_chunks_are_the_whole_span_and_cut_where_those_of_any_other_are(
    begin: int, count: int, step: int
) -> None:
    span = Span(begin * step, count, step)
    chunks = list(span.chunks())
    steps = [chunk.first + offset for chunk in chunks for offset in range(chunk.count)]
    assert steps == list(range(count))
    assert all(chunk.count <= CHUNK_STEPS for chunk in chunks)
    assert all(chunk.begin // step % CHUNK_STEPS == 0 for chunk in chunks[1:])
    assert (chunks[0].begin, chunks[-1].end) == (span.begin + step, span.end)
