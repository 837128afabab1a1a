"""Whether the process is alive and ready, from a few facts that it keeps up to date."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from inferscale_queueing.frozen import frozen

LEAST_LIMIT_S = 300.0
LIMIT_TICKS = 5
NOT_ASKED = "not asked yet"


class Role(StrEnum):
    """What a replica is for."""

    LEADER = "leader"
    STANDBY = "standby"


@frozen
class Verdict:
    """An answer to a probe."""

    good: bool
    facts: Mapping[str, str | float]


@dataclass
class Health:
    """What is known of the process. Any thread may read it."""

    beat_at: float = field(default_factory=time.monotonic)
    """When a tick last ended, or the process last waited for its turn, by the monotonic clock."""
    limit_s: float = LEAST_LIMIT_S
    """Time within which that must happen again."""
    filled: bool = False
    """Whether the first listing of every kind is in."""
    obstacle: str = ""
    """Why a kind cannot be listed, and what to do about it; empty: nothing stands in the way."""
    lacking: str = ""
    """What the account should be allowed and is not; empty: nothing, or it is not known yet."""
    dropped: str = ""
    """Fields of statuses that the custom resource definitions do not keep; empty: none, as far as seen."""
    role: Role = Role.STANDBY
    api_error: str = NOT_ASKED
    """Empty: the API server answered when it was last asked."""
    prometheus_error: str = NOT_ASKED
    """Empty: every query of the last tick was answered."""

    def beat(self, tick_seconds: float | None = None) -> None:
        """A tick has ended, well or not, or there is nothing to do but to wait.

        Args:
            tick_seconds: Time between ticks from now on; None: as it was.
        """
        self.beat_at = time.monotonic()
        if tick_seconds is not None:
            self.limit_s = max(LEAST_LIMIT_S, LIMIT_TICKS * tick_seconds)


def alive(health: Health, now: float) -> Verdict:
    """Whether ticks come to their end; a restart is what helps when they do not.

    Args:
        health: What is known.
        now: Time by the monotonic clock.
    """
    age = now - health.beat_at
    return Verdict(
        age <= health.limit_s,
        {"role": health.role.value, "lastTickSecondsAgo": round(age, 1), "limitSeconds": health.limit_s},
    )


def ready(health: Health) -> Verdict:
    """Whether it can do its work, or take over at once. Prometheus is told of, and no reason not to be."""
    return Verdict(
        health.filled and not health.api_error,
        {
            "role": health.role.value,
            "stores": "filled" if health.filled else health.obstacle or "being filled",
            "permissions": f"missing: {health.lacking}" if health.lacking else "none missing",
            "definitions": f"do not keep: {health.dropped}" if health.dropped else "keep every field",
            "apiServer": health.api_error or "reachable",
            "prometheus": health.prometheus_error or "reachable",
        },
    )
