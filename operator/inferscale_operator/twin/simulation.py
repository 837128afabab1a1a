"""One simulation: a scenario under one policy, from event to event."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from inferscale_operator.api.accelerator_profile import PowerSchema
from inferscale_operator.api.optimizer_policy import OptimizerPolicySpec
from inferscale_operator.errors import UsageError
from inferscale_operator.garbage import seldom
from inferscale_operator.kube.parse import explain
from inferscale_operator.recorder import Recorder
from inferscale_operator.twin.cluster import Cluster, Engine
from inferscale_operator.twin.deployment import Pod
from inferscale_operator.twin.engines import COLUMNS, batch_limit
from inferscale_operator.twin.events import EventServers
from inferscale_operator.twin.gateway import Gateway
from inferscale_operator.twin.history import Allocated, History
from inferscale_operator.twin.ledger import Held, Ledger, cost_per_hour
from inferscale_operator.twin.meanvalue import MeanValueServers
from inferscale_operator.twin.need import Need
from inferscale_operator.twin.policies import Clairvoyant, Hpa, HpaSettings, Policy, Static, Threshold
from inferscale_operator.twin.product import Product
from inferscale_operator.twin.resources import Setting, SimulatedService
from inferscale_operator.twin.samples import LOOKBACK_S, Samples
from inferscale_operator.twin.scenario import MetricOutage
from inferscale_operator.twin.traffic import Traffic
from inferscale_queueing.frozen import frozen

POLICIES = ("inferscale", "static", "hpa-running", "hpa-queue", "hpa-kv", "keda", "clairvoyant")
HPA_METRICS = {
    "hpa-running": ("vllm:num_requests_running", 16.0),
    "hpa-queue": ("vllm:num_requests_waiting", 5.0),
    "hpa-kv": ("vllm:kv_cache_usage_perc", 0.7),
}
KEDA_TARGET = 16.0
KEEP_RECORDS = 1_000_000


class ServerMode(StrEnum):
    """How servers are simulated."""

    EVENTS = "events"
    MEAN_VALUE = "mean-value"


@frozen
class PolicyChoice:
    """A policy under test.

    Attributes:
        text: As it was asked for.
        name: One of `POLICIES`.
        settings: Fields of the OptimizerPolicy for `inferscale` and `clairvoyant`, `target` and others for
            the scalers.
    """

    text: str
    name: str
    settings: dict[str, str]


@frozen
class Outcome:
    """What came of one simulation."""

    policy: str
    ledger: Ledger
    history: History
    allocated: tuple[tuple[Allocated, ...], ...]
    """By service, what was asked for at the start and at every change."""
    below_need_s: tuple[float, ...]
    """By service, seconds in which fewer replicas were ready than the load needed."""
    needed: NDArray[np.float64]
    """Replicas that the load needed, shape (services, windows)."""

    @cached_property
    def replicas(self) -> tuple[tuple[tuple[float, int, str], ...], ...]:
        """By service, the same without the batch: time, replicas, accelerator."""
        return tuple(tuple((each.at_s, *each.what) for each in service) for service in self.allocated)


def parse_policy(text: str) -> PolicyChoice:
    """A policy as it is written: `name`, or `name:field=value,field=value`.

    Raises:
        UsageError: there is no such policy.
    """
    name, _, rest = text.partition(":")
    if name not in POLICIES:
        raise UsageError(f"--policy {text}: there is no policy {name!r}: use one of {', '.join(POLICIES)}")
    settings = {}
    for part in filter(None, rest.split(",")):
        field, equals, value = part.partition("=")
        if not equals or not field or not value:
            raise UsageError(f"--policy {text}: {part!r} must be FIELD=VALUE")
        settings[field] = value
    return PolicyChoice(text, name, settings)


def simulate(
    setting: Setting,
    choice: PolicyChoice,
    *,
    seed: int | None = None,
    mode: ServerMode = ServerMode.EVENTS,
    record: Path | None = None,
    counted: NDArray[np.bool_] | None = None,
    make_policy: Callable[[Cluster], Policy] | None = None,
) -> Outcome:
    """Run a scenario under one policy.

    Args:
        setting: The scenario.
        choice: The policy.
        seed: Instead of the scenario's.
        mode: How servers are simulated.
        record: Folder for the product's snapshots and plans.
        counted: Which windows count where the ledger keeps no windows, see `Ledger.counted`.
        make_policy: Makes another policy than the named ones, which then only names it.

    Raises:
        UsageError: a setting of the policy or a trace cannot be used, or the folder not be written to.
    """
    seed = setting.scenario.seed if seed is None else seed
    with seldom():
        return _Simulation(setting, choice, seed, mode, record, counted, make_policy).run()


class _Simulation:
    def __init__(
        self,
        setting: Setting,
        choice: PolicyChoice,
        seed: int,
        mode: ServerMode,
        record: Path | None,
        counted: NDArray[np.bool_] | None,
        make_policy: Callable[[Cluster], Policy] | None,
    ) -> None:
        scenario = setting.scenario
        self._setting, self._choice = setting, choice
        self._traffics = [
            Traffic(
                service.scenario,
                setting.path.parent,
                scenario.duration,
                seed,
                drawn=mode is ServerMode.EVENTS,
            )
            for service in setting.services
        ]
        optimizer = _optimizer(setting, choice)
        retention = optimizer.metrics.window_seconds + LOOKBACK_S + 2 * scenario.scrape_interval
        self._samples = Samples(COLUMNS, retention, setting.start.timestamp())
        self._gateway = Gateway(setting, retention)
        self._ledger = Ledger(setting, counted)
        self._history = History()
        self._servers: EventServers | MeanValueServers
        if mode is ServerMode.EVENTS:
            self._servers = EventServers(setting, self._traffics, self._samples, self._ledger)
        else:
            self._servers = MeanValueServers(setting, self._traffics, self._samples, self._ledger, seed)
        self._cluster = Cluster(setting, self._servers)
        self._need = Need(setting, self._traffics)
        recorder = (
            Recorder(record, KEEP_RECORDS) if record is not None and choice.name == "inferscale" else None
        )
        if recorder is not None:
            recorder.prepare()
        if make_policy is not None:
            self._policy = make_policy(self._cluster)
        else:
            self._policy = self._made(choice, optimizer, recorder)
        count = len(setting.services)
        self._allocated: list[list[Allocated]] = [[] for _ in range(count)]
        self._below_s = np.zeros(count)
        self._needed = np.zeros((count, self._ledger.count))
        self._engines = [
            self._cluster.engine(service, self._cluster.deployments[service.key].template)
            for service in setting.services
        ]
        """By service, what a pod of its present template is."""
        self._seen: list[int] = [-1] * count
        self._noted = -1
        self._powered: dict[int, list[tuple[Pod, int, PowerSchema]]] = {}
        self._held = Held(
            np.zeros(count), np.zeros(count), np.zeros(count), np.zeros((count, len(self._ledger.types)))
        )

    def _made(
        self, choice: PolicyChoice, optimizer: OptimizerPolicySpec, recorder: Recorder | None
    ) -> Policy:
        setting, cluster, samples, history = self._setting, self._cluster, self._samples, self._history
        match choice.name:
            case "inferscale":
                return Product(setting, optimizer, cluster, samples, self._gateway.samples, history, recorder)
            case "clairvoyant":
                return Clairvoyant(setting, optimizer, cluster, history, self._traffics, self._servers)
            case "keda":
                hpa = _hpa(choice, "requests", KEDA_TARGET)
                return Threshold(setting, cluster, samples, history, hpa, servers=self._servers)
            case "static":
                _hpa(choice, "", 1.0)
                return Static()
        metric, target = HPA_METRICS[choice.name]
        return Hpa(setting, cluster, samples, history, _hpa(choice, metric, target))

    def run(self) -> Outcome:
        scenario, cluster, servers = self._setting.scenario, self._cluster, self._servers
        now_s, scrape_s, window = 0.0, 0.0, 1
        self._note(0.0)
        while True:
            window_s = min(window * scenario.window, scenario.duration)
            next_s = min(scrape_s, window_s, self._policy.next_s, max(cluster.next_s(), now_s))
            servers.advance(next_s)
            self._hold(now_s, next_s)
            now_s = next_s
            cluster.advance(now_s)
            if now_s >= scrape_s:
                if not self._dark(now_s):
                    servers.scrape(now_s)
                    self._gateway.scrape(now_s, servers)
                scrape_s = now_s + scenario.scrape_interval
            if now_s >= window_s:
                servers.account(now_s)
                self._need_in(window - 1)
                window += 1
                if now_s >= scenario.duration:
                    break
            self._policy.wake(now_s)
            if now_s >= self._policy.next_s:
                self._policy.act(now_s)
            self._note(now_s)
        servers.close()
        return Outcome(
            policy=self._choice.text,
            ledger=self._ledger,
            history=self._history,
            allocated=tuple(map(tuple, self._allocated)),
            below_need_s=tuple(self._below_s.tolist()),
            needed=self._needed,
        )

    def _dark(self, now_s: float) -> bool:
        return any(
            isinstance(each, MetricOutage) and each.scrapes and each.at <= now_s < each.until
            for each in self._setting.scenario.disturbances
        )

    def _hold(self, from_s: float, to_s: float) -> None:
        """Account for what is held from one event to the next."""
        if to_s > from_s:
            watts = np.zeros(len(self._setting.services))
            for number, pods in self._powered.items():
                for pod, count, power in pods:
                    used = self._servers.utilization(pod)
                    points = (0.0, power.mid_util, 1.0), (power.idle, power.mid_power, power.full)
                    watts[number] += count * float(np.interp(used, *points))
            self._ledger.hold(from_s, to_s, self._held, watts)

    def _note(self, now_s: float) -> None:
        """Remember what is held and asked for, when it changed."""
        cluster = self._cluster
        if cluster.version == self._noted:
            return
        self._noted = cluster.version
        for number, service in enumerate(self._setting.services):
            if self._seen[number] != cluster.marks[service.key]:
                self._seen[number] = cluster.marks[service.key]
                self._note_service(number, service, now_s)

    def _note_service(self, number: int, service: SimulatedService, now_s: float) -> None:
        cluster, setting, held = self._cluster, self._setting, self._held
        held.cost[number], held.units[number] = 0.0, 0.0
        powered = []
        for _, pod, engine, _ in cluster.pods_of(service):
            if pod.node is None:
                continue
            profile = setting.accelerators[engine.accelerator]
            held.cost[number] += cost_per_hour(setting, service, engine.accelerator)
            held.units[number, self._ledger.types.index(profile.type)] += engine.units
            if profile.power is not None:
                count = service.performances[engine.accelerator].acc_count
                powered.append((pod, count, profile.power))
        if powered:
            self._powered[number] = powered
        else:
            self._powered.pop(number, None)
        deployment = cluster.deployments[service.key]
        held.ready[number] = sum(each.ready for each in deployment.sets)
        held.asked[number] = deployment.replicas
        self._engines[number] = cluster.engine(service, deployment.template)
        self._note_allocated(now_s, number, self._engines[number])

    def _note_allocated(self, now_s: float, number: int, engine: Engine) -> None:
        """Remember what a service asks for, when it changed."""
        service, found = self._setting.services[number], self._allocated[number]
        replicas = self._cluster.deployments[service.key].replicas
        if found and found[-1].what == (replicas, engine.accelerator):
            return
        _, outputs = self._traffics[number].lengths(np.array([now_s]))
        fits = batch_limit(service, engine, float(outputs[0]))
        found.append(Allocated(now_s, replicas, engine.accelerator, fits))

    def _need_in(self, window: int) -> None:
        length = self._setting.scenario.window
        begin, end = window * length, min((window + 1) * length, self._setting.scenario.duration)
        needed = self._needed[:, window] = self._need.replicas(window, self._engines)
        # What was ready by its mean: a replica that came half-way counts half.
        ready = self._ledger.ready_s[:, window] / max(end - begin, 1e-9)
        self._below_s[needed > ready + 1e-9] += end - begin


def _optimizer(setting: Setting, choice: PolicyChoice) -> OptimizerPolicySpec:
    if choice.name not in ("inferscale", "clairvoyant"):
        return setting.policy
    changed = setting.policy.model_dump(mode="json", by_alias=True, exclude_none=True)
    for name, value in choice.settings.items():
        *parents, last = name.split(".")
        part = changed
        for parent in parents:
            part = part.setdefault(parent, {})
            if not isinstance(part, dict):
                raise UsageError(f"--policy {choice.text}: {name}: {parent} has no fields: set it itself")
        if last not in part and not parents and last not in _fields(OptimizerPolicySpec):
            known = ", ".join(sorted(_fields(OptimizerPolicySpec)))
            raise UsageError(f"--policy {choice.text}: there is no field {last!r}: use one of {known}")
        part[last] = _scalar(value)
    try:
        return OptimizerPolicySpec.model_validate(changed)
    except ValidationError as error:
        raise UsageError(f"--policy {choice.text}: {explain(error)}") from error


def _fields(model: type[OptimizerPolicySpec]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def _scalar(text: str) -> float | int | bool | str:
    if text in ("true", "false"):
        return text == "true"
    kinds: Sequence[Callable[[str], float | int]] = (int, float)
    for kind in kinds:
        try:
            return kind(text)
        except ValueError:
            continue
    return text


_HPA_FIELDS = {
    "target": "target",
    "tolerance": "tolerance",
    "upWindow": "up_window_s",
    "downWindow": "down_window_s",
    "sync": "sync_s",
    "upPercent": "up_percent",
    "downPercent": "down_percent",
}


def _hpa(choice: PolicyChoice, metric: str, target: float) -> HpaSettings:
    values: dict[str, float] = {"target": target}
    for name, text in choice.settings.items():
        field = _HPA_FIELDS.get(name)
        value = _scalar(text)
        if field is None or choice.name == "static":
            known = "none" if choice.name == "static" else ", ".join(_HPA_FIELDS)
            raise UsageError(f"--policy {choice.text}: there is no setting {name!r}: known are {known}")
        number = value if isinstance(value, int | float) else math.nan
        if not math.isfinite(number) or number < 0 or (number == 0 and field in ("target", "sync_s")):
            raise UsageError(
                f"--policy {choice.text}: {name} {text}: must be a number, and above 0 for target"
            )
        values[field] = float(number)
    return HpaSettings(metric=metric, **values)  # type: ignore[arg-type]
