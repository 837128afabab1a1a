"""The running operator: what it holds, and the tasks that keep it going."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from kubernetes.client.configuration import Configuration

from inferscale_operator import leadership, tick, watching
from inferscale_operator.act import Outcome
from inferscale_operator.api.inference_allocation import InferenceAllocationStatus
from inferscale_operator.endpoint import Answer as HttpAnswer
from inferscale_operator.endpoint import Endpoint, told
from inferscale_operator.errors import UsageError
from inferscale_operator.garbage import Collections
from inferscale_operator.health import Health, Role, alive, ready
from inferscale_operator.kube.client import ApiError, Client, load_configuration
from inferscale_operator.kube.definitions import Definitions
from inferscale_operator.kube.kinds import (
    DEPLOYMENT,
    INFERENCE_ALLOCATION,
    NAMESPACE,
    NODE,
    OPTIMIZER_POLICY,
    Kind,
)
from inferscale_operator.kube.lease import Elector
from inferscale_operator.kube.parse import CustomRecord
from inferscale_operator.kube.scope import Scope
from inferscale_operator.kube.stores import Change, Raw, Stores, World
from inferscale_operator.logs import Decided, changes, decided
from inferscale_operator.metrics.prometheus import Prometheus, SettingsError
from inferscale_operator.plan import Plan
from inferscale_operator.recorder import Recorder
from inferscale_operator.settings import OFF, Settings
from inferscale_operator.snapshot import NodeState, Snapshot
from inferscale_operator.telemetry.instruments import CONTENT_TYPE, CountedMetrics, Telemetry

logger = logging.getLogger(__name__)

OLDER = "They are older than this operator: kubectl apply --server-side -f crds/"
CONTACT_EVERY_S = 5.0
CONTACT_LIMIT_S = 5.0
"""For the API server to answer that it is there."""


@dataclass
class App:
    """What the running operator holds. It belongs to the event loop's thread."""

    settings: Settings
    configuration: Configuration
    client: Client
    prometheus: Prometheus
    recorder: Recorder | None = None
    elector: Elector | None = None
    """None: this is the only replica."""
    health: Health = field(default_factory=Health)
    telemetry: Telemetry = field(default_factory=Telemetry)
    stores: Stores = field(init=False)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """The world is not what the last tick saw."""
    specs_changed: bool = False
    """And it was a person who changed it."""
    relisted: set[Kind] = field(default_factory=set)
    """Kinds whose watch started over: deletions in the gap were not delivered."""
    held: dict[str, InferenceAllocationStatus] = field(default_factory=dict)
    """By uid: statuses of InferenceAllocations that are decided and not worth a write yet."""
    written: dict[str, datetime] = field(default_factory=dict)
    """By uid: when a status was last written."""
    definitions: Definitions = field(default_factory=Definitions)
    """What the API server keeps of a status."""
    saved: float | None = None
    """What was saved up to the last tick, all services together; None: there was none."""
    left: list[str] = field(default_factory=list)
    """What the last tick had no time for."""
    decisions: dict[str, Decided] = field(default_factory=dict)
    """By `namespace/name`: the last decision on each service."""
    leading: asyncio.Event = field(default_factory=asyncio.Event)
    """This replica acts."""
    collections: Collections = field(default_factory=Collections)

    def __post_init__(self) -> None:
        self.stores = Stores(scope(self.settings))
        self.metrics = CountedMetrics(self.prometheus, self.telemetry)
        if self.elector is None:
            self.lead(True)

    def __copy__(self) -> App:
        # Kopf copies its memo for every object.
        return self

    def notice(self, kind: Kind, event: str | None, raw: Raw) -> None:
        """Take in an event of a watch."""
        if event is None:
            self.relisted.add(kind)
        change = self.stores.by_kind[kind].apply(event, raw)
        if kind is OPTIMIZER_POLICY:
            self.stores.keep_policy()
        if not change:
            return
        if kind.custom and not _of_a_person(kind, change):
            return
        self.specs_changed |= (
            kind.custom
            or kind is NAMESPACE
            or (kind is NODE and _has_accelerators(change))
            or (kind is DEPLOYMENT and self._awaited(raw, change))
        )
        self.changed.set()

    def copy_world(self) -> World:
        """A copy of the stores."""
        return replace(self.stores.copy(self.held), saved=self.saved)

    def lead(self, leading: bool) -> None:
        """Act from now on, or leave it to another replica."""
        if not leading:
            self.leading.clear()
            # Another decides from now on: what was decided here and not written is worth nothing.
            self.held.clear()
            self.decisions.clear()
            self.saved = None
        else:
            self.leading.set()
        self.health.role = Role.LEADER if leading else Role.STANDBY
        self.telemetry.leads(leading)

    def tell(self, snapshot: Snapshot, plan: Plan) -> None:
        """Log what changed with a whole plan, and show it as metrics."""
        self.tell_changes(plan)
        keys = {service.key for service in plan.services}
        self.decisions = {key: value for key, value in self.decisions.items() if key in keys}
        self.telemetry.planned(snapshot, plan)

    def tell_changes(self, plan: Plan) -> None:
        """Log the decisions that changed, one line each."""
        for change in changes(self.decisions, plan):
            logger.info("%s", change.line, extra={"facts": change.facts})
            self.telemetry.changed(change.reason)
        self.decisions |= {service.key: decided(service) for service in plan.services}

    def absorb(self, outcome: Outcome) -> None:
        """Take in what became of a plan."""
        self.stores.absorb(outcome.answers)
        for answer in outcome.answers:
            if answer.kind is INFERENCE_ALLOCATION:
                self.held.pop(answer.raw["metadata"]["uid"], None)
        if self.leading.is_set():
            self.held.update(outcome.held)
        self._forget()
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        told = "; ".join(f"{kind} {', '.join(paths)}" for kind, paths in self.definitions.dropped.items())
        if told != self.health.dropped:
            self.health.dropped = told
            if told:
                logger.error("The custom resource definitions do not keep: %s. %s", told, OLDER)
            else:
                logger.info("The custom resource definitions keep every field again")

    def _awaited(self, raw: Raw, change: Change[Any]) -> bool:
        """Whether a Deployment that a service names came or went."""
        if change.before is not None and change.after is not None:
            return False
        meta = raw["metadata"]
        return any(
            record.resource.spec is not None and record.resource.spec.target_ref.name == meta["name"]
            for (namespace, _), record in self.stores.services.copy().items()
            if namespace == meta["namespace"]
        )

    def _forget(self) -> None:
        """Drop what is remembered of objects that are gone."""
        allocations = {record.uid for record in self.stores.allocations.copy().values()}
        self.held = {uid: status for uid, status in self.held.items() if uid in allocations}
        known = allocations | self.stores.custom_uids()
        self.written = {uid: when for uid, when in self.written.items() if uid in known}


def scope(settings: Settings) -> Scope:
    """What of the cluster these settings let the operator read."""
    return Scope(settings.namespaces, settings.namespace_label or "", settings.read_pods)


def make_app(settings: Settings) -> App:
    """All that the operator needs, from its settings.

    Raises:
        UsageError: a setting cannot be used.
    """
    try:
        prometheus = Prometheus(
            settings.prometheus_url,
            token_file=settings.prometheus_token_file,
            ca_file=settings.prometheus_ca_file,
            server_name=settings.prometheus_server_name,
            certificate_file=settings.prometheus_certificate_file,
            key_file=settings.prometheus_key_file,
            headers=settings.prometheus_headers,
            timeout_seconds=settings.prometheus_timeout_seconds,
        )
    except SettingsError as error:
        raise UsageError(str(error)) from error
    recorder = None
    if settings.record is not None:
        recorder = Recorder(settings.record, settings.record_keep)
        recorder.prepare()
    configuration = load_configuration(settings.kubeconfig, settings.context)
    telemetry = Telemetry()
    elector = None
    if settings.leader_elect:
        # Two requests fit into the time to renew.
        client = Client(
            configuration, observer=telemetry.requested, timeout_s=settings.lease_renew_seconds / 4
        )
        elector = Elector(client, leadership.terms(settings))
    client = Client(
        configuration,
        guard=elector.check if elector is not None else None,
        observer=telemetry.requested,
    )
    return App(settings, configuration, client, prometheus, recorder, elector, telemetry=telemetry)


async def serve(app: App, stop: asyncio.Event | None = None) -> None:
    """Run until SIGTERM or `stop`; a bug in any task ends it with an exception."""
    stop = stop or asyncio.Event()
    watching.end_by_signal(stop)
    try:
        with _endpoint(app):
            if not await watching.filled(app, stop):
                return
            app.collections.begin()
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(tick.run(app), name="tick"),
                        group.create_task(watching.reconcile(app), name="reconcile"),
                        group.create_task(contact(app), name="contact"),
                        group.create_task(watching.review(app), name="review"),
                        group.create_task(leadership.elect(app), name="elect"),
                    ]
                    await watching.watch(app, stop)
                    for task in tasks:
                        task.cancel()
            finally:
                await leadership.resign(app)
    finally:
        app.prometheus.close()


async def contact(app: App) -> None:
    """Keep up to date whether the API server can be reached."""
    client = Client(app.configuration, timeout_s=CONTACT_LIMIT_S)
    while True:
        try:
            await asyncio.to_thread(client.version)
        except ApiError as error:
            app.health.api_error = error.message
        else:
            app.health.api_error = ""
        await asyncio.sleep(CONTACT_EVERY_S)


def _endpoint(app: App) -> AbstractContextManager[object]:
    if app.settings.listen == OFF:
        return nullcontext()
    return Endpoint(
        app.settings.listen,
        {
            "/healthz": lambda: told(alive(app.health, time.monotonic())),
            "/readyz": lambda: told(ready(app.health)),
            "/metrics": lambda: HttpAnswer(200, CONTENT_TYPE, app.telemetry.exposition()),
        },
    )


def _has_accelerators(change: Change[NodeState]) -> bool:
    """Whether a node that came, went or changed has accelerators, or had."""
    return any(any(node.allocatable.values()) for node in (change.before, change.after) if node is not None)


def _of_a_person(kind: Kind, change: Change[Any]) -> bool:
    """Whether a custom resource changed otherwise than by its status, which we write ourselves."""
    if kind is INFERENCE_ALLOCATION:
        # Of ours nothing but an approval is a person's.
        return change.after is not None and change.after.approved != getattr(change.before, "approved", "")
    before: CustomRecord[Any] | None = change.before
    after: CustomRecord[Any] | None = change.after
    if before is None or after is None:
        return True
    return (before.resource.uid, before.resource.generation, before.deleting) != (
        after.resource.uid,
        after.resource.generation,
        after.deleting,
    )
