"""Snapshots and their plans as files, so that a decision can be looked into and made again."""

from __future__ import annotations

import os
from pathlib import Path

from inferscale_operator.errors import UsageError
from inferscale_operator.plan import Plan, dump_plan
from inferscale_operator.snapshot import Snapshot, dump_snapshot
from inferscale_queueing.frozen import frozen

SNAPSHOT_SUFFIX = ".snapshot.json"
PLAN_SUFFIX = ".plan.json"


@frozen
class Recorder:
    """A folder with the newest snapshots, each with the plan that was made from it."""

    folder: Path
    keep: int | None
    """How many are kept; None: all."""

    def prepare(self, option: str = "--record") -> None:
        """Make the folder.

        Args:
            option: What the folder was given as.

        Raises:
            UsageError: it cannot be made or written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{option} {self.folder}: {error.strerror}. Give a folder that can be made."
            ) from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise UsageError(f"{option} {self.folder}: it cannot be written to. Give a folder that can.")

    def save(self, snapshot: Snapshot, plan: Plan) -> Path:
        """Save both under the time of the snapshot, and remove what is too many.

        Returns:
            The file of the snapshot.

        Raises:
            OSError: the disk is full, or the folder went away.
        """
        stem = snapshot.time.strftime("%Y%m%dT%H%M%S.%fZ")
        saved = self.folder / (stem + SNAPSHOT_SUFFIX)
        saved.write_bytes(dump_snapshot(snapshot))
        (self.folder / (stem + PLAN_SUFFIX)).write_bytes(dump_plan(plan))
        if self.keep is not None:
            for path in sorted(self.folder.glob(f"*{SNAPSHOT_SUFFIX}"))[: -self.keep]:
                path.unlink(missing_ok=True)
                plan_of(path).unlink(missing_ok=True)
        return saved


def plan_of(snapshot: Path) -> Path:
    """Where the plan of a recorded snapshot lies."""
    return snapshot.with_name(snapshot.name.removesuffix(SNAPSHOT_SUFFIX).removesuffix(".json") + PLAN_SUFFIX)
