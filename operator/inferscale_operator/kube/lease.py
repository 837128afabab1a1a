"""One leader at a time, by a Lease (coordination.k8s.io/v1) that its holder renews.

A Lease alone stops nobody: a holder that was frozen does not know that another has taken over. So whoever
holds it asks itself before every write whether its own last renewal is young enough, by its own clock, and
never by the times in the Lease, which come from other machines.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from inferscale_operator.api.base import GROUP
from inferscale_operator.kube.client import UNREACHABLE, ApiError
from inferscale_operator.kube.kinds import LEASE, Kind
from inferscale_queueing.frozen import frozen

Raw = Mapping[str, Any]

WANTED_BY = f"{GROUP}/wanted-by"
"""Annotation on the Lease: who asks its holder for it."""
RESERVED_S = 15.0
"""So long it is left to whoever asked for it."""


def running_clock() -> float:
    """Seconds that never jump, those included in which the machine was suspended, where that can be known."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class NotLeaderError(ApiError):
    """A write was not sent, since another replica may hold the Lease by now."""

    def __init__(self) -> None:
        super().__init__(UNREACHABLE, "NotLeader", "not sent: this replica does not hold its Lease any more")


class LeaseClient(Protocol):
    """What reads and writes a Lease."""

    def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any]:
        """The object."""

    def replace(self, kind: Kind, namespace: str | None, name: str, body: Raw) -> dict[str, Any]:
        """Replace the object, or create it."""


@frozen
class Terms:
    """Which Lease, who we are, and how long it lasts."""

    namespace: str
    name: str
    identity: str
    """Differs between any two processes."""
    duration_s: float = 15.0
    """Others wait so long after the last renewal that they saw."""
    renew_s: float = 10.0
    """The holder writes nothing when its last renewal is older; what is left to `duration_s` is the margin
    for a write that is on its way."""
    retry_s: float = 2.0
    """Time between two looks or renewals."""


@frozen
class Seen:
    """A Lease as it was last read."""

    holder: str
    duration_s: float
    transitions: int
    version: str
    """Empty: there is none."""
    since: float
    """When this version was first seen, by our own clock."""
    wanted_by: str = ""
    """Who asks for it; empty: nobody."""


def seen(before: Seen | None, raw: Raw, now: float, duration_s: float) -> Seen:
    """A Lease as it is read now.

    Args:
        before: As it was read before.
        raw: The Lease as JSON; empty: there is none.
        now: Our own clock, seconds.
        duration_s: Where the Lease does not say how long it lasts.
    """
    spec, metadata = raw.get("spec") or {}, raw.get("metadata") or {}
    version = str(metadata.get("resourceVersion") or "")
    # Not by the time in it: a clock that stands still would hide a renewal.
    same = before is not None and before.version == version
    return Seen(
        holder=str(spec.get("holderIdentity") or ""),
        duration_s=float(spec.get("leaseDurationSeconds") or duration_s),
        transitions=int(spec.get("leaseTransitions") or 0),
        version=version,
        since=before.since if before is not None and same else now,
        wanted_by=str((metadata.get("annotations") or {}).get(WANTED_BY) or ""),
    )


def may_take(lease: Seen, identity: str, now: float) -> bool:
    """Whether nobody else can be acting on it, and nobody else has asked for it lately."""
    if lease.wanted_by not in ("", identity) and now < lease.since + RESERVED_S:
        return False
    return lease.holder in ("", identity) or now >= lease.since + lease.duration_s


class Elector:
    """Takes, renews and gives back one Lease. `step` and `release` block: call them from one thread.

    Args:
        client: The API server, with time limits that are short against `terms.renew_s`.
        terms: Which Lease.
        clock: Seconds that never jump; None: `running_clock`.
        wall: The time that is written for people.
        claims: Whether to ask the holder for it rather than to wait until it is free.
    """

    def __init__(
        self,
        client: LeaseClient,
        terms: Terms,
        clock: Callable[[], float] | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        claims: bool = False,
    ) -> None:
        self.terms = terms
        self._client = client
        self._clock = clock or running_clock
        self._wall = wall
        self._claims = claims
        self._seen: Seen | None = None
        self._renewed = -math.inf

    @property
    def holder(self) -> str:
        """Who held it when it was last read; empty: nobody, or it was not read yet."""
        return self._seen.holder if self._seen is not None else ""

    @property
    def leading(self) -> bool:
        """Whether this replica may write now."""
        return self._clock() < self._renewed + self.terms.renew_s

    def check(self) -> None:
        """Before every write.

        Raises:
            NotLeaderError: another replica may be writing.
        """
        if not self.leading:
            raise NotLeaderError

    def step(self) -> None:
        """Take the Lease if it is free, renew it if it is ours, else look at it.

        Raises:
            ApiError: it was refused or there was no answer.
        """
        now = self._clock()
        lease = self._seen
        if lease is None or not self.leading or lease.holder != self.terms.identity:
            lease = self._look(now)
            if not may_take(lease, self.terms.identity, now):
                self._renewed = -math.inf
                self._yield_or_claim(lease, now)
                return
        try:
            self._write(lease, self.terms.identity, now)
        except ApiError as error:
            if error.conflict:
                # Somebody changed it: whether it is still ours is seen at the next look.
                self._renewed = -math.inf
                return
            raise
        # From before the request: others count from when they see it, which is later.
        self._renewed = now

    def release(self, hold_s: int = 0) -> None:
        """Write nothing more, and give the Lease back so that another need not wait for its end.

        Args:
            hold_s: Nobody else takes it for so many seconds.

        Raises:
            ApiError: it was refused or there was no answer.
        """
        self._renewed = -math.inf
        if self.holder == self.terms.identity:
            now = self._clock()
            lease = self._look(now)
            if lease.holder == self.terms.identity:
                self._write(lease, self.terms.identity if hold_s else "", now, hold_s or 1)

    def _yield_or_claim(self, lease: Seen, now: float) -> None:
        """Give the Lease to whoever asked for it, or ask for it."""
        try:
            if lease.holder == self.terms.identity:
                self._write(lease, "", now, 1, lease.wanted_by)
            elif self._claims and not lease.wanted_by:
                self._write(lease, lease.holder, now, round(lease.duration_s), self.terms.identity)
        except ApiError as error:
            if not error.conflict:
                raise

    def _look(self, now: float) -> Seen:
        try:
            raw = self._client.get(LEASE, self.terms.namespace, self.terms.name)
        except ApiError as error:
            if error.status != 404:
                raise
            raw = {}
        self._seen = seen(self._seen, raw, now, self.terms.duration_s)
        return self._seen

    def _write(
        self, lease: Seen, holder: str, now: float, duration_s: int | None = None, wanted_by: str = ""
    ) -> None:
        time_now = f"{self._wall():%Y-%m-%dT%H:%M:%S.%f}Z"
        spec: dict[str, Any] = {
            "holderIdentity": holder,
            "leaseDurationSeconds": duration_s or round(self.terms.duration_s),
            "renewTime": time_now,
            "leaseTransitions": lease.transitions + (holder not in ("", lease.holder)),
        }
        if holder != lease.holder:
            spec["acquireTime"] = time_now
        metadata: dict[str, Any] = {"namespace": self.terms.namespace, "name": self.terms.name}
        if wanted_by:
            metadata["annotations"] = {WANTED_BY: wanted_by}
        if lease.version:
            metadata["resourceVersion"] = lease.version
        body = {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": metadata, "spec": spec}
        answer = self._client.replace(LEASE, self.terms.namespace, self.terms.name, body)
        self._seen = seen(lease, answer, now, self.terms.duration_s)
