"""One replica of continuous batching as a discrete-event engine that runs in step with any clock.

The engine schedules between decode iterations. A request that is admitted into a batch of n (itself
included) holds a slot for P(n) = gamma + delta·in·n ms of prefill while the others go on decoding. It gives
its first token at the end of that and joins the iteration whose start is nearest, so that on average it
neither gains nor loses time. An iteration that starts with n slots held takes T(n) = alpha + beta·n ms and
gives every decoding request one token. Iterations between which nobody enters or leaves are one event.

In the mode `stall` no iteration runs while a prefill does: the requests admitted at the end of an iteration
go through their prefills side by side, and the next iteration starts when the last of them is done.
"""

import math
from collections import deque
from heapq import heappop, heappush
from typing import Literal

from inferscale_queueing.request import Completion, Recorder, Request

PrefillMode = Literal["concurrent", "stall"]
"""What the decoding requests do while others are in prefill: go on, or stand still until the last is done."""


class _Slot:
    """A request in the batch."""

    __slots__ = ("admitted_ms", "first_token_ms", "request")

    def __init__(self, request: Request, admitted_ms: float) -> None:
        self.request = request
        self.admitted_ms = admitted_ms
        self.first_token_ms = math.nan

    def complete(self, finished_ms: float) -> Completion:
        return Completion(self.request, self.admitted_ms, self.first_token_ms, finished_ms)


class Server:
    """One replica: a batch, a first-come first-served queue in front of it, and a clock.

    Time moves only by `offer`, `advance` and `stall`; moving it in one go or in many steps gives the same
    completions.

    Attributes:
        prompt_tokens: Input tokens of all requests that gave their first token.
        generation_tokens: Tokens given.

    Args:
        alpha: Duration of a decode iteration without its requests, ms.
        beta: Added duration for every slot held, ms.
        gamma: Duration of a prefill without its tokens, ms.
        delta: Added duration for every input token and slot held, ms.
        max_batch: Largest number of slots held.
        queue_limit: Largest number of requests that wait while the batch is full; None is unbounded.
        start_ms: The clock at the start.
        decode_only: No prefill: every token, the first too, takes one iteration.
        prefill: Whether the others go on decoding during a prefill.
        recorder: Is told of every token.
    """

    def __init__(
        self,
        alpha: float,
        beta: float,
        gamma: float,
        delta: float,
        max_batch: int,
        queue_limit: int | None = None,
        start_ms: float = 0.0,
        *,
        decode_only: bool = False,
        prefill: PrefillMode = "concurrent",
        recorder: Recorder | None = None,
    ) -> None:
        for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma), ("delta", delta)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number >= 0, got {value}")
        if alpha + beta <= 0:
            raise ValueError("alpha + beta must be positive: an iteration takes time")
        if max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, got {max_batch}")
        if queue_limit is not None and queue_limit < 0:
            raise ValueError(f"queue_limit must be >= 0 or None, got {queue_limit}")
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self._alpha, self._beta, self._gamma, self._delta = alpha, beta, gamma, delta
        self._max_batch = max_batch
        self._queue_limit = math.inf if queue_limit is None else queue_limit
        self._decode_only = decode_only
        self._stalls = prefill == "stall"
        self._recorder = recorder

        self._now = start_ms
        self._event_ms = start_ms  # the last event: what it made possible happens at the next boundary
        self._held = 0
        self._sequence = 0  # breaks ties in the heaps
        self._queue: deque[Request] = deque()
        self._prefilling: list[tuple[float, int, _Slot]] = []  # heap by the end of the prefill
        self._decoding: list[tuple[int, int, _Slot]] = []  # heap by the last iteration
        self._left = False  # a slot was freed within an iteration
        # The run of equal iterations in progress: its start, the iterations before it and the duration of
        # each. The token counters hold the tokens of the first `_counted` iterations of all runs.
        self._run_ms = start_ms
        self._run_iteration = 0
        self._iteration_ms = 0.0
        self._counted = 0
        self._pause_ms = 0.0  # the batch stood still for this long since its last iteration
        self._fresh: list[tuple[int, _Slot]] = []  # with the iteration of their first token here
        self._completed: list[Completion] = []

    @property
    def now_ms(self) -> float:
        """The present."""
        return self._now

    @property
    def running(self) -> int:
        """Slots held, those in prefill included."""
        return self._held

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def max_batch(self) -> int:
        """Largest number of slots held; when it is lowered, the requests in the batch stay."""
        return self._max_batch

    @max_batch.setter
    def max_batch(self, value: int) -> None:
        if value < 1:
            raise ValueError(f"max_batch must be at least 1, got {value}")
        if value != self._max_batch:
            self._max_batch = value
            self._event_ms = self._now

    def offer(self, request: Request, at_ms: float | None = None) -> bool:
        """Put a request into the queue at `at_ms` (its arrival unless said) and move the clock there.

        Returns:
            False if the queue is full: the request is refused.

        Raises:
            ValueError: The time lies in the past, or the request has no output.
        """
        at_ms = request.arrival_ms if at_ms is None else at_ms
        if at_ms < self._now:
            raise ValueError(f"request {request.id} offered at {at_ms} ms, the clock is at {self._now} ms")
        if request.output_tokens < 1 or request.input_tokens < 0:
            raise ValueError(
                f"request {request.id} has {request.input_tokens} input and {request.output_tokens} output "
                "tokens; at least 0 and 1 are needed"
            )
        self._run(at_ms)
        self._now = at_ms
        if self._held + len(self._queue) >= self._max_batch + self._queue_limit:
            return False
        self._queue.append(request)
        self._event_ms = at_ms
        return True

    def advance(self, until_ms: float) -> list[Completion]:
        """Move the clock to `until_ms`; infinity is the end of the last request.

        Returns:
            The requests completed since the last call, in the order of completion.
        """
        if until_ms < self._now:
            raise ValueError(f"the clock is at {self._now} ms and cannot go back to {until_ms} ms")
        self._run(until_ms)
        self._now = until_ms if until_ms < math.inf else self._event_ms
        if self._decoding and not self._stopped:
            self._count_tokens(self._iterations_by(self._now))
        completed, self._completed = self._completed, []
        return completed

    def stall(self, until_ms: float) -> None:
        """Move the clock to `until_ms` without any progress of any request."""
        shift = until_ms - self._now
        if shift < 0:
            raise ValueError(f"the clock is at {self._now} ms and cannot go back to {until_ms} ms")
        self._now = until_ms
        self._event_ms += shift
        self._run_ms += shift
        self._prefilling = [(end + shift, order, slot) for end, order, slot in self._prefilling]

    def drain(self) -> list[Request]:
        """Stop: take all requests out, in the order of their arrival, with nothing of them done."""
        slots = [slot for _, _, slot in (*self._prefilling, *self._decoding)]
        requests = [slot.request for slot in slots] + list(self._queue)
        for held in (self._prefilling, self._decoding, self._queue, self._fresh):
            held.clear()
        self._held = 0
        self._left = False
        return sorted(requests, key=lambda request: (request.arrival_ms, request.id))

    @property
    def _stopped(self) -> bool:
        return self._stalls and bool(self._prefilling)

    def _run(self, until_ms: float) -> None:
        while True:
            boundary_ms, iterations = self._next_boundary()
            if self._prefilling and self._prefilling[0][0] <= boundary_ms:
                if self._prefilling[0][0] > until_ms:
                    return
                self._end_prefill()
            elif boundary_ms > until_ms or boundary_ms == math.inf:
                return
            else:
                self._cross_boundary(boundary_ms, iterations)

    def _next_boundary(self) -> tuple[float, int]:
        """The next boundary at which the batch changes, and the iterations of this run until then."""
        if self._stopped:
            return math.inf, 0
        changes = self._left or (bool(self._queue) and self._held < self._max_batch)
        if not self._decoding:
            return (self._event_ms if changes else math.inf), 0
        iterations = self._decoding[0][0] - self._run_iteration
        if changes:
            elapsed = math.ceil((self._event_ms - self._run_ms) / self._iteration_ms)
            if self._run_ms + elapsed * self._iteration_ms < self._event_ms:
                elapsed += 1
            iterations = min(iterations, elapsed)
        return self._run_ms + iterations * self._iteration_ms, iterations

    def _iterations_by(self, at_ms: float) -> int:
        """Whole iterations of this run by `at_ms`."""
        done = int((at_ms - self._run_ms) / self._iteration_ms)
        return done - 1 if self._run_ms + done * self._iteration_ms > at_ms else done

    def _end_prefill(self) -> None:
        end_ms, _, slot = heappop(self._prefilling)
        self._give_first_token(slot, end_ms)
        if self._stalls and not self._prefilling:
            self._pause_ms += end_ms - self._run_ms
            self._start_run(end_ms, self._run_iteration)
            self._event_ms = end_ms
            self._left = True
        if slot.request.output_tokens == 1:
            self._held -= 1
            self._completed.append(slot.complete(end_ms))
            self._event_ms = end_ms
            self._left = True
            return
        if self._stalls:
            self._decode(slot, self._run_iteration, slot.request.output_tokens - 1)
            return
        if not self._decoding:
            self._start_run(end_ms, self._run_iteration)
        iterations = self._iterations_by(end_ms)
        self._count_tokens(iterations)
        within = end_ms - (self._run_ms + iterations * self._iteration_ms)
        joined = self._run_iteration + iterations + (within >= self._iteration_ms / 2)
        self._decode(slot, joined, slot.request.output_tokens - 1)

    def _cross_boundary(self, at_ms: float, iterations: int) -> None:
        self._count_tokens(iterations)
        iteration = self._run_iteration + iterations
        decoding = self._decoding
        while decoding and decoding[0][0] == iteration:
            self._held -= 1
            self._completed.append(heappop(decoding)[2].complete(at_ms))
        while self._queue and self._held < self._max_batch:
            self._admit(self._queue.popleft(), at_ms, iteration)
        self._event_ms = at_ms
        self._left = False
        self._start_run(at_ms, iteration)

    def _start_run(self, at_ms: float, iteration: int) -> None:
        self._run_ms = at_ms
        self._run_iteration = iteration
        self._iteration_ms = self._alpha + self._beta * self._held

    def _admit(self, request: Request, at_ms: float, iteration: int) -> None:
        slot = _Slot(request, at_ms)
        self._held += 1
        if self._decode_only:
            self._decode(slot, iteration, request.output_tokens)
            return
        tokens = request.input_tokens
        prefill_ms = self._gamma + self._delta * tokens * self._held if tokens else 0.0
        if prefill_ms > 0:
            self._sequence += 1
            heappush(self._prefilling, (at_ms + prefill_ms, self._sequence, slot))
            return
        self._give_first_token(slot, at_ms)
        if request.output_tokens == 1:
            self._held -= 1
            self._completed.append(slot.complete(at_ms))
        else:
            self._decode(slot, iteration, request.output_tokens - 1)

    def _decode(self, slot: _Slot, iteration: int, tokens: int) -> None:
        """Let a slot decode `tokens` tokens after the first `iteration` iterations of all runs."""
        self._sequence += 1
        heappush(self._decoding, (iteration + tokens, self._sequence, slot))
        self._fresh.append((iteration + 1, slot))

    def _give_first_token(self, slot: _Slot, at_ms: float) -> None:
        slot.first_token_ms = at_ms
        self.prompt_tokens += slot.request.input_tokens
        self.generation_tokens += 1
        if self._recorder is not None:
            self._recorder.first_token(slot.request, at_ms)

    def _count_tokens(self, iterations: int) -> None:
        """Count the tokens of this run's first `iterations` iterations that are not counted yet."""
        counted, upto = self._counted, self._run_iteration + iterations
        if upto <= counted:
            return
        self._counted = upto
        tokens = (upto - counted) * len(self._decoding)
        paused = len(self._decoding) - len(self._fresh)
        if self._fresh:
            coming = []
            for first, slot in self._fresh:
                # It gives nothing before its first iteration, and the gap before that one is its own.
                tokens -= min(first, upto) - counted
                if first > upto:
                    coming.append((first, slot))
                    continue
                token_ms = self._run_ms + (first - self._run_iteration) * self._iteration_ms
                if math.isnan(slot.first_token_ms):
                    self._give_first_token(slot, token_ms)
                else:
                    self._give_gaps(token_ms - slot.first_token_ms, 1)
            self._fresh = coming
        if self._pause_ms and paused:
            tokens -= paused
            self._give_gaps(self._iteration_ms + self._pause_ms, paused)
        self._pause_ms = 0.0
        if tokens:
            self._give_gaps(self._iteration_ms, tokens)

    def _give_gaps(self, gap_ms: float, count: int) -> None:
        self.generation_tokens += count
        if self._recorder is not None:
            self._recorder.token_gaps(gap_ms, count)
