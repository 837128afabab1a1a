"""The tick: observe, decide, act."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from inferscale_operator.act import Outcome, act
from inferscale_operator.decide import advance, decide
from inferscale_operator.observe import observe, policy_in_force
from inferscale_operator.plan import Plan
from inferscale_operator.snapshot import Snapshot

if TYPE_CHECKING:
    from inferscale_operator.application import App

logger = logging.getLogger(__name__)

DEBOUNCE_S = 1.5
"""People apply several objects at once: all of them are waited for."""
BETWEEN_STEPS_S = 1.0


async def run(app: App) -> None:
    """Decide at every tick and soon after a person changed something; in between only go on with moves."""
    again = False
    while True:
        due = time.monotonic() + policy_in_force(app.copy_world()).tick_seconds
        app.specs_changed = False
        outcome = await tick(app)
        # Once, for somebody who changes a Deployment all the time must not make us do the same.
        again = bool(outcome.conflicts) and not again
        if again:
            due = time.monotonic() + DEBOUNCE_S
        await go_on_until(app, due)


async def tick(app: App) -> Outcome:
    """One full tick."""
    now = datetime.now(UTC)
    world = app.copy_world()
    snapshot = await asyncio.to_thread(observe, world, now, app.prometheus)
    plan = await asyncio.to_thread(decide, snapshot)
    await asyncio.to_thread(_save, app, snapshot, plan)
    outcome = await asyncio.to_thread(act, app.client, plan, world, app.written)
    app.absorb(outcome)
    app.saved = plan.savings.total if plan.savings is not None else app.saved
    app.last_tick = time.monotonic()
    return outcome


async def go_on_until(app: App, due: float) -> None:
    """Wait for the next tick; go on with the moves whenever the world changed, at most once a second.

    Returns early when a person changed something.
    """
    while (left := due - time.monotonic()) > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await app.changed.wait()
        app.changed.clear()
        if app.specs_changed:
            await asyncio.sleep(DEBOUNCE_S)
            return
        await go_on(app)
        await asyncio.sleep(min(BETWEEN_STEPS_S, max(0.0, due - time.monotonic())))


async def go_on(app: App) -> None:
    """Take the moves that are under way a step further: no metrics, no optimiser."""
    world = app.copy_world()
    if not world.moving:
        return
    snapshot = await asyncio.to_thread(observe, world, datetime.now(UTC), None)
    plan = await asyncio.to_thread(advance, snapshot)
    outcome = await asyncio.to_thread(act, app.client, plan, world, app.written)
    app.absorb(outcome)
    if outcome.conflicts:
        app.changed.set()


def _save(app: App, snapshot: Snapshot, plan: Plan) -> None:
    if app.recorder is None:
        return
    try:
        app.recorder.save(snapshot, plan)
    except OSError as error:
        logger.warning("The snapshot is not recorded in %s: %s", app.recorder.folder, error)
