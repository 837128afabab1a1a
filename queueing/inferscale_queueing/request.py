"""A request to a replica, and what becomes of it."""

import math
from typing import Protocol

from inferscale_queueing.frozen import frozen


@frozen(slots=True)
class Request:
    """One request: its arrival in ms and its token counts; `id` is the caller's."""

    arrival_ms: float
    input_tokens: int
    output_tokens: int
    id: int = 0


@frozen(slots=True)
class Completion:
    """What became of a request: when it was admitted, gave its first token, gave its last.

    All times in ms on the clock of its arrival.
    """

    request: Request
    admitted_ms: float
    first_token_ms: float
    finished_ms: float

    @property
    def wait_ms(self) -> float:
        """Time from arrival to admission into the batch."""
        return self.admitted_ms - self.request.arrival_ms

    @property
    def ttft_ms(self) -> float:
        """Time from arrival to the first token."""
        return self.first_token_ms - self.request.arrival_ms

    @property
    def response_ms(self) -> float:
        """Time from arrival to the last token."""
        return self.finished_ms - self.request.arrival_ms

    @property
    def itl_ms(self) -> float:
        """Mean time between its tokens; nan for a single token."""
        gaps = self.request.output_tokens - 1
        return (self.finished_ms - self.first_token_ms) / gaps if gaps else math.nan


class Recorder(Protocol):
    """Learns of tokens at the time they are given, not only when their request is complete."""

    def first_token(self, request: Request, at_ms: float) -> None:
        """The first token of a request was given at `at_ms`."""

    def token_gaps(self, gap_ms: float, count: int) -> None:
        """`count` further tokens were given, each `gap_ms` after the one before it in its request."""
