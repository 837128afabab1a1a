"""Hypothesis strategies for the things that the project computes with."""

from dataclasses import dataclass

from hypothesis import strategies as st

from inferscale_queueing import UNBOUNDED, DecodeOnly, PrefillDecode


@dataclass(frozen=True)
class Replica:
    """One candidate: a latency model of size 1, its largest batch and its queue."""

    latency: DecodeOnly | PrefillDecode
    max_batch: int
    queue_limit: int

    @property
    def full_rate(self) -> float:
        """μ(N) in 1/ms."""
        return float(self.max_batch / self.latency.service_time(self.max_batch)[0])


def decode_only() -> st.SearchStrategy[DecodeOnly]:
    """Decode-only latency with both parameters positive."""
    return st.builds(DecodeOnly, st.floats(1, 60), st.floats(0.01, 3), st.floats(1, 2000))


def prefill_decode() -> st.SearchStrategy[PrefillDecode]:
    """Prefill and decode; without input tokens at times."""
    return st.builds(
        PrefillDecode,
        st.floats(1, 60),
        st.floats(0.01, 3),
        st.floats(0.1, 300),
        st.floats(0.001, 0.2),
        st.integers(1, 2000) | st.just(0),
        st.integers(2, 2000),
    )


def replicas(min_batch: int = 1) -> st.SearchStrategy[Replica]:
    """Replicas with bounded and unbounded queues."""
    return st.builds(
        Replica,
        decode_only() | prefill_decode(),
        st.integers(min_batch, 100),
        st.integers(0, 400) | st.just(UNBOUNDED),
    )
