"""One leader at a time, whatever freezes, fails or jumps."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_operator.kube.client import ApiError
from inferscale_operator.kube.kinds import Kind
from inferscale_operator.kube.lease import Elector, NotLeaderError, Seen, Terms, may_take, running_clock, seen

CONFLICT = ApiError(409, "Conflict", "the object has been modified")
UNREACHABLE = ApiError(0, "Unreachable", "no answer")
WALL = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Server:
    """An API server with one Lease, whose replacements are guarded by its resourceVersion."""

    lease: dict[str, Any] | None = None
    error: ApiError | None = None
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    asked: list[str] = field(default_factory=list)

    def get(self, _kind: Kind, _namespace: str | None, _name: str) -> dict[str, Any]:
        self.asked.append("get")
        if self.error is not None:
            raise self.error
        if self.lease is None:
            raise ApiError(404, "NotFound", "there is none")
        return self.lease

    def replace(self, _kind: Kind, _namespace: str | None, _name: str, body: Any) -> dict[str, Any]:
        self.asked.append("replace")
        if self.error is not None:
            raise self.error
        there = self.lease["metadata"]["resourceVersion"] if self.lease is not None else None
        if body["metadata"].get("resourceVersion") != there:
            raise CONFLICT
        version = str(next(self.versions))
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": version}}
        return self.lease

    @property
    def holder(self) -> str:
        return str(self.lease["spec"]["holderIdentity"]) if self.lease is not None else ""


@dataclass
class Replica:
    """A replica with a clock of its own."""

    server: Server
    name: str
    now: float = 0.0

    def __post_init__(self) -> None:
        terms = Terms("system", "inferscale", self.name, duration_s=15, renew_s=10, retry_s=2)
        self.elector = Elector(self.server, terms, lambda: self.now, lambda: WALL)

    def step(self, at: float) -> bool:
        self.now = at
        with contextlib.suppress(ApiError):
            self.elector.step()
        return self.elector.leading


def test_the_first_to_ask_gets_it_and_the_other_waits() -> None:
    server = Server()
    a, b = Replica(server, "a"), Replica(server, "b")
    assert a.step(0)
    assert not b.step(1)
    assert server.holder == "a"
    a.elector.check()
    with pytest.raises(NotLeaderError):
        b.elector.check()
    assert server.lease is not None
    assert server.lease["spec"] == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "renewTime": "2026-03-01T12:00:00.000000Z",
        "acquireTime": "2026-03-01T12:00:00.000000Z",
        "leaseTransitions": 1,
    }


def test_a_renewal_takes_one_request() -> None:
    server = Server()
    a = Replica(server, "a")
    a.step(0)
    server.asked.clear()
    assert a.step(2)
    assert server.asked == ["replace"]


def test_a_holder_that_is_silent_is_followed_after_the_duration_by_the_clock_of_the_other() -> None:
    server = Server()
    a, b = Replica(server, "a"), Replica(server, "b")
    a.step(0)
    # Its clock is elsewhere, and the times in the Lease stand still.
    assert not b.step(10_000)
    assert not b.step(10_014.9)
    assert b.step(10_015)
    assert server.holder == "b"
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 2


def test_the_wait_begins_anew_with_every_renewal_that_is_seen_even_if_the_clock_of_the_holder_stands() -> (
    None
):
    lease = {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": "a", "renewTime": "1"}}
    first = seen(None, lease, 0.0, 15)
    again = seen(first, lease, 9.0, 15)
    renewed = seen(again, {**lease, "metadata": {"resourceVersion": "2"}}, 10.0, 15)
    assert (first.since, again.since, renewed.since) == (0.0, 0.0, 10.0)


def test_a_leader_that_was_frozen_sends_nothing_when_it_is_thawed() -> None:
    server = Server()
    a, b = Replica(server, "a"), Replica(server, "b")
    a.step(0)
    b.step(0)
    a.now = 9.9
    a.elector.check()
    a.now = 10
    with pytest.raises(NotLeaderError):
        a.elector.check()
    assert b.step(15)
    assert not a.step(16)
    assert server.holder == "b"
    with pytest.raises(NotLeaderError):
        a.elector.check()


def test_a_renewal_that_took_long_counts_from_when_it_was_asked_for() -> None:
    server = Server()
    a = Replica(server, "a")
    a.step(0)
    answered = server.replace

    def slowly(*arguments: Any) -> dict[str, Any]:
        a.now += 9
        return answered(*arguments)

    server.replace = slowly  # type: ignore[method-assign]
    assert a.step(2)
    a.now = 12
    assert not a.elector.leading


def test_whoever_cannot_renew_stops_and_goes_on_when_it_can_again() -> None:
    server = Server()
    a = Replica(server, "a")
    a.step(0)
    server.error = UNREACHABLE
    assert a.step(8)
    assert not a.step(10)
    server.error = None
    assert a.step(30)


def test_a_lease_that_somebody_changed_is_looked_at_before_anything_more_is_written() -> None:
    server = Server()
    a = Replica(server, "a")
    a.step(0)
    assert server.lease is not None
    server.lease = {
        "metadata": {"resourceVersion": "90"},
        "spec": {"holderIdentity": "b", "renewTime": "x", "leaseDurationSeconds": 15},
    }
    assert not a.step(2)
    assert not a.step(4)
    assert server.holder == "b"


def test_a_lease_that_is_given_back_is_taken_at_once() -> None:
    server = Server()
    a, b = Replica(server, "a"), Replica(server, "b")
    a.step(0)
    b.step(0)
    a.elector.release()
    assert not a.elector.leading
    assert b.step(1)


def test_a_lease_of_another_is_not_given_back() -> None:
    server = Server()
    a, b = Replica(server, "a"), Replica(server, "b")
    a.step(0)
    b.step(0)
    b.step(15)
    a.elector.release()
    assert server.holder == "b"


@pytest.mark.parametrize("spec", [{}, {"holderIdentity": None}, {"holderIdentity": ""}])
def test_a_lease_without_a_holder_is_free(spec: dict[str, Any]) -> None:
    lease = seen(None, {"metadata": {"resourceVersion": "1"}, "spec": spec}, 0.0, 15)
    assert may_take(lease, "a", 0.0)


def test_our_clock_goes_on() -> None:
    assert running_clock() <= running_clock()


def test_another_process_of_our_name_is_another() -> None:
    lease = Seen("pod_1", 15, 1, "1", since=0.0)
    assert not may_take(lease, "pod_2", 14.0)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.floats(0, 12),
            st.sampled_from([None, CONFLICT, UNREACHABLE]),
        ),
        max_size=60,
    ),
    st.tuples(*[st.floats(-1e6, 1e6)] * 3),
)
def test_two_never_lead_at_once_whatever_fails_and_however_their_clocks_differ(
    happenings: list[tuple[str, float, ApiError | None]], offsets: tuple[float, float, float]
) -> None:
    server = Server()
    replicas = {name: Replica(server, name) for name in "abc"}
    offset = dict(zip("abc", offsets, strict=True))
    now = 0.0
    for name, passed, error in happenings:
        now += passed
        server.error = error
        replicas[name].step(now + offset[name])
        for other, replica in replicas.items():
            replica.now = now + offset[other]
        assert sum(replica.elector.leading for replica in replicas.values()) <= 1


def test_whoever_asks_for_it_gets_it_and_it_is_not_kept_for_who_is_gone() -> None:
    server = Server()
    a, b = Replica(server, "a"), Replica(server, "b")
    terms = Terms("system", "inferscale", "claimant", duration_s=15, renew_s=10, retry_s=2)
    claimant = Elector(server, terms, lambda: 3.0, lambda: WALL, claims=True)
    assert a.step(0)
    assert not b.step(1)
    claimant.step()
    assert server.holder == "a"
    a.step(2)
    assert not a.step(4)
    assert server.holder == ""
    assert not b.step(4)
    assert not a.step(6)
    # It never takes it.
    assert not b.step(18)
    assert b.step(20)
    assert server.holder == "b"
    assert server.lease is not None
    assert "annotations" not in server.lease["metadata"]
