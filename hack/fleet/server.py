"""One emulated model server."""

from enum import StrEnum

from fleet.metrics import EngineMetrics
from fleet.pods import Engine, Pod
from inferscale_queueing.simulation import Request, Server


class Fault(StrEnum):
    """What is wrong with a server.

    `SILENT` serves and does not answer scrapes, `STALLED` accepts requests and makes no progress.
    """

    NONE = "none"
    SILENT = "silent"
    STALLED = "stalled"


class ModelServer:
    """The engine of one pod: it serves requests in step with the clock and keeps the metrics.

    Args:
        pod: The pod.
        engine: What it emulates.
        now_ms: The present.
        tokens: Mean output length of its requests; decides how many fit into the memory.
        bias: Factor on alpha and beta, by which the hardware differs from its profile.
    """

    def __init__(self, pod: Pod, engine: Engine, now_ms: float, tokens: float, bias: float = 1.0) -> None:
        self.pod = pod
        self.engine = engine
        self.fault = Fault.NONE
        self.completed = 0
        self._tokens = tokens
        self._metrics = EngineMetrics(engine.model_name)
        self._server = Server(
            engine.alpha * bias,
            engine.beta * bias,
            engine.gamma,
            engine.delta,
            engine.batch_limit(tokens),
            start_ms=now_ms,
            recorder=self._metrics,
        )

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return self._server.running

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._server.waiting

    @property
    def max_batch(self) -> int:
        """Largest batch at present."""
        return self._server.max_batch

    def resize(self, tokens: float) -> None:
        """Follow a new mean output length."""
        self._tokens = tokens
        self._server.max_batch = self.engine.batch_limit(tokens)

    def offer(self, request: Request) -> None:
        """Take a request at its arrival, or now if that is past."""
        at_ms = max(request.arrival_ms, self._server.now_ms)
        if self.fault is Fault.STALLED:
            self._server.stall(at_ms)
        self._server.offer(request, at_ms)

    def advance(self, now_ms: float) -> None:
        """Move on to `now_ms`."""
        if self.fault is Fault.STALLED:
            self._server.stall(now_ms)
            return
        for completion in self._server.advance(now_ms):
            self._metrics.completed(completion)
            self.completed += 1

    def drain(self) -> list[Request]:
        """Stop and give back what is not complete."""
        return self._server.drain()

    def exposition(self) -> bytes:
        """The text that a scrape gets."""
        return self._metrics.exposition(
            running=self.running,
            waiting=self.waiting,
            memory_limit=self.engine.memory_limit(self._tokens),
            tokens=self._tokens,
        )
