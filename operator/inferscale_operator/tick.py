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
from inferscale_operator.kube.client import WRITERS
from inferscale_operator.kube.stores import World
from inferscale_operator.observe import observe, policy_in_force
from inferscale_operator.plan import Plan
from inferscale_operator.snapshot import Snapshot

if TYPE_CHECKING:
    from inferscale_operator.application import App

logger = logging.getLogger(__name__)

DEBOUNCE_S = 1.5
"""People apply several objects at once: all of them are waited for."""
BETWEEN_STEPS_S = 1.0
BEAT_S = 5.0
ACT_LIMIT_S = 90.0
"""Of a tick; what it leaves is begun with at the next."""

FIGURES_S = 0.5
"""Of a tick, for writing figures alone, which are written once a minute where there are not too many."""


async def run(app: App) -> None:
    """Decide at every tick and soon after a person changed something; in between only go on with moves."""
    again = False
    while True:
        await wait_to_lead(app)
        seconds = policy_in_force(app.copy_world()).tick_seconds
        due = time.monotonic() + seconds
        app.specs_changed = False
        with app.telemetry.tick():
            outcome = await tick(app)
        app.collections.settle()
        app.health.beat(seconds)
        # Once, for somebody who changes a Deployment all the time must not make us do the same.
        again = bool(outcome.conflicts) and not again
        if again:
            due = time.monotonic() + DEBOUNCE_S
        await go_on_until(app, due)


async def wait_to_lead(app: App) -> None:
    """Return as soon as this replica leads."""
    while not app.leading.is_set():
        app.health.beat()
        with suppress(TimeoutError):
            async with asyncio.timeout(BEAT_S):
                await app.leading.wait()


async def tick(app: App) -> Outcome:
    """One full tick."""
    now = datetime.now(UTC)
    phase = app.telemetry.phase
    world = app.copy_world()
    with phase("observe"):
        snapshot = await asyncio.to_thread(observe, world, now, app.metrics)
    app.health.prometheus_error = app.metrics.error
    with phase("decide"):
        plan = await asyncio.to_thread(decide, snapshot)
    with phase("record"):
        await asyncio.to_thread(_save, app, snapshot, plan)
    app.tell(snapshot, plan)
    with phase("act"):
        outcome = await asyncio.to_thread(_act, app, plan, world)
    app.absorb(outcome)
    app.saved = plan.savings.total if plan.savings is not None else app.saved
    app.left = outcome.left
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
    if not (world.moving and app.leading.is_set()):
        return
    snapshot = await asyncio.to_thread(observe, world, datetime.now(UTC), None)
    plan = await asyncio.to_thread(advance, snapshot)
    app.tell_changes(plan)
    outcome = await asyncio.to_thread(_act, app, plan, world)
    app.absorb(outcome)
    if outcome.conflicts:
        app.changed.set()


def _act(app: App, plan: Plan, world: World) -> Outcome:
    return act(
        app.client,
        plan,
        world,
        app.written,
        definitions=app.definitions,
        first=frozenset(app.left),
        deadline=time.monotonic() + ACT_LIMIT_S,
        figures_s=FIGURES_S,
        workers=WRITERS,
    )


def _save(app: App, snapshot: Snapshot, plan: Plan) -> None:
    if app.recorder is None:
        return
    try:
        app.recorder.save(snapshot, plan)
    except OSError as error:
        logger.warning("The snapshot is not recorded in %s: %s", app.recorder.folder, error)
