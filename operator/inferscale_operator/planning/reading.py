"""The six JSON files, in the deck's form or wrapped, validated whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inferscale_operator.planning.deck import (
    LARGEST_RATE,
    Deck,
    ModelData,
    Objectives,
    Server,
)
from inferscale_operator.planning.findings import Findings
from inferscale_operator.planning.optimizing import read_optimizer
from inferscale_operator.planning.rows import UNREAD, Row, choice, one_of, read_json, rows
from inferscale_queueing.frozen import frozen
from inferscale_solver import (
    CurrentAllocation,
    Performance,
    Power,
    Profile,
    Targets,
    Tier,
)

LONGEST_MS = 1e7
MOST_TOKENS = 1e7
LAST_PRIORITY = 100
LEAST_WEIGHT, MOST_WEIGHT = 0.001, 1000.0


@frozen
class Files:
    """Where the files are; the last two may be absent."""

    accelerators: Path
    models: Path
    classes: Path
    servers: Path
    capacity: Path | None = None
    optimizer: Path | None = None


@dataclass
class _Names:
    """Names seen so far, so that references can be checked once all files are read."""

    findings: Findings
    first: dict[tuple[str, ...], str] = field(default_factory=dict)

    def add(self, row: Row, *key: str) -> bool:
        """Remember a name; whether it is new. A second one is an error."""
        if not all(key):
            return False
        if key in self.first:
            shown = " and ".join(key)
            row.findings.add(row.file, row.path, shown, f"is there already, at {self.first[key]}: keep one")
            return False
        self.first[key] = row.path
        return True


def read_deck(files: Files) -> Deck:
    """Read and validate all files.

    Args:
        files: Where they are.

    Returns:
        What they say.

    Raises:
        UsageError: Lists every error with file, path, value and remedy.
    """
    findings = Findings()
    accelerators = tuple(_accelerators(files.accelerators, findings))
    profiles = {profile.name for profile in accelerators}
    models = tuple(_models(files.models, profiles, findings))
    names = {data.model for data in models}
    objectives = tuple(_classes(files.classes, names, findings))
    types = {profile.type for profile in accelerators}
    servers = tuple(_servers(files.servers, profiles, objectives, names, findings))
    units, nodes = _capacity(files.capacity, types, findings)
    optimizer = read_optimizer(files.optimizer, types, {each.service_class for each in objectives}, findings)
    if not findings.found:
        for path, content in (
            (files.accelerators, accelerators),
            (files.models, models),
            (files.classes, objectives),
        ):
            if not content:
                findings.add(str(path), "", "", "is empty: give at least one")
    findings.raise_any()
    return Deck(accelerators, models, objectives, servers, units, nodes, optimizer)


def accelerator_rows(path: Path, findings: Findings) -> Iterator[Row]:
    """The accelerators of a file, as they are in it."""
    content = read_json(path, "give DIR with it, or --accelerators FILE", findings)
    if isinstance(content, Mapping) and "accelerators" in content:
        content = content["accelerators"]
    yield from _entries(path, content, findings)


def _accelerators(path: Path, findings: Findings) -> Iterator[Profile]:
    names = _Names(findings)
    for row in accelerator_rows(path, findings):
        name, kind = row.text("name"), row.text("type", default="")
        power = row.row("power") if row.has("power") else None
        profile = Profile(
            name=name,
            type=kind or name,
            multiplicity=row.integer("multiplicity", 1, least=1, most=1024),
            cost=row.number("cost", unit="cost per hour"),
            power=None if power is None else _power(power),
            tier=choice(row, "tier", Tier) or Tier.OWNED,
        )
        for size in ("memSize", "memBW"):
            row.number(size, 0.0)
        row.finish()
        if names.add(row, name):
            yield profile


def _entries(path: Path, content: Any, findings: Findings) -> Iterator[Row]:
    """Objects of a list, or of an object whose names are theirs."""
    if isinstance(content, Mapping):
        # Only to find names that are given twice.
        Row(str(path), "", content, findings)
        for name, value in content.items():
            yield Row(str(path), name, value, findings, name=name)
    elif content is not UNREAD:
        yield from rows(str(path), "", content, findings)


def _power(row: Row) -> Power:
    power = Power(
        idle=row.number("idle", unit="W"),
        full=row.number("full", unit="W"),
        mid_power=row.number("midPower", unit="W"),
        mid_util=row.number("midUtil", least=0.001, most=0.999),
    )
    row.finish()
    return power


def _models(path: Path, profiles: set[str], findings: Findings) -> Iterator[ModelData]:
    content = read_json(path, "give DIR with it, or --models FILE", findings)
    names = _Names(findings)
    for row in _listed(path, content, "models", findings):
        model, accelerator = row.text("name"), row.text("acc")
        if accelerator and profiles and accelerator not in profiles:
            row.wrong("acc", accelerator, f"is no accelerator: {one_of(profiles)}")
        decode, prefill = row, row
        if row.has("perfParms"):
            decode = prefill = row.row("perfParms")
            for other in ("decodeParms", "prefillParms", "alpha", "beta", "gamma", "delta"):
                if row.has(other):
                    row.wrong(other, row.get(other), "perfParms is given too: keep one of them")
        else:
            if row.has("decodeParms"):
                decode = row.row("decodeParms")
            if row.has("prefillParms"):
                prefill = row.row("prefillParms")
        performance = Performance(
            profile=accelerator,
            alpha=decode.number("alpha", most=LONGEST_MS, unit="ms"),
            beta=decode.number("beta", most=LONGEST_MS, unit="ms"),
            gamma=prefill.number("gamma", 0.0, most=LONGEST_MS, unit="ms"),
            delta=prefill.number("delta", 0.0, most=LONGEST_MS, unit="ms"),
            acc_count=row.integer("accCount", 1, least=1, most=1024),
            max_batch_size=row.integer("maxBatchSize", least=1, most=10**6),
            at_tokens=row.integer("atTokens", least=1, most=int(MOST_TOKENS)),
        )
        if performance.alpha + performance.beta == 0 and decode.has("alpha") and decode.has("beta"):
            decode.wrong("alpha", 0, "alpha and beta are both 0: a decode iteration must take time")
        row.finish()
        if names.add(row, model, accelerator):
            yield ModelData(model, performance)


def _classes(path: Path, models: set[str], findings: Findings) -> Iterator[Objectives]:
    content = read_json(path, "give DIR with it, or --classes FILE", findings)
    names = _Names(findings)
    priorities: dict[str, tuple[int, str]] = {}
    for row in _listed(path, content, "serviceClasses", findings):
        name = row.text("name")
        priority = row.integer("priority", least=1, most=LAST_PRIORITY)
        known, where = priorities.setdefault(name, (priority, row.path))
        if known != priority:
            row.wrong("priority", priority, f"is {known} at {where}: a class has one priority")
        listed = row.has("modelTargets")
        if listed and row.has("model"):
            row.wrong("model", row.get("model"), "modelTargets is given too: keep one of them")
        for target in row.rows("modelTargets") if listed else (row,):
            model = target.text("model")
            if model and models and model not in models:
                target.wrong("model", model, f"has no data in the models file: {one_of(models)}")
            targets = Targets(
                itl=_target(target, "slo-itl", "ms"),
                ttft=_target(target, "slo-ttft", "ms"),
                ttw=_target(target, "slo-ttw", "ms"),
                tps=_target(target, "slo-tps", "tokens/s"),
                percentile=_percentile(target),
            )
            if listed:
                target.finish()
            if names.add(target, name, model):
                yield Objectives(name, model, priority, targets)
        row.finish()


def _target(row: Row, name: str, unit: str) -> float | None:
    """An objective; absent or 0: none."""
    return row.number(name, 0.0, unit=unit) or None


def _percentile(row: Row) -> float | None:
    """What ttft and ttw hold at; None: not said here; 0: they are means."""
    return row.number("percentile", most=0.9999) if row.has("percentile") else None


def _servers(
    path: Path,
    profiles: set[str],
    objectives: Iterable[Objectives],
    models: set[str],
    findings: Findings,
) -> Iterator[Server]:
    content = read_json(path, "give DIR with it, or --servers FILE", findings)
    promised = {(each.service_class, each.model) for each in objectives}
    classes = {name for name, _ in promised}
    names = _Names(findings)
    for row in _listed(path, content, "servers", findings):
        name, service_class, model = row.text("name"), row.text("class"), row.text("model")
        if service_class and classes and service_class not in classes:
            row.wrong("class", service_class, f"is no service class: {one_of(classes)}")
        elif model and models and model not in models:
            row.wrong("model", model, f"has no data in the models file: {one_of(models)}")
        elif service_class and model and promised and (service_class, model) not in promised:
            row.wrong("model", model, f"has no targets in class {service_class}: add it to the classes file")
        least = row.integer("minReplicas" if row.has("minReplicas") else "minNumReplicas", 0)
        most = None
        if row.has("maxReplicas", "maxNumReplicas"):
            most = row.integer("maxReplicas" if row.has("maxReplicas") else "maxNumReplicas", least=1)
            if most < least:
                row.wrong("maxReplicas", most, f"is less than minReplicas, {least}")
        row.has("minNumReplicas", "desiredAlloc")
        current = row.row("currentAlloc")
        load = current.row("load") if current.has("load") else row.row("load")
        if row.has("load") and current.has("load"):
            row.wrong("load", row.get("load"), "currentAlloc.load is given too: keep one of them")
        arrival_cov, service_cov = _cov(load, "arrivalCOV"), _cov(load, "serviceCOV")
        rate, average, inputs, outputs = _load(load)
        server = Server(
            name=name,
            service_class=service_class,
            model=model,
            arrival_rate=rate,
            average_length=average,
            input_tokens=inputs,
            output_tokens=outputs,
            min_replicas=least,
            max_replicas=most,
            keep_accelerator=row.flag("keepAccelerator", default=False),
            weight=row.number("weight", 1.0, least=LEAST_WEIGHT, most=MOST_WEIGHT),
            namespace=row.text("namespace", default=""),
            allowed_accelerators=_allowed(row, profiles),
            current=_current(current, profiles),
            arrival_cov=arrival_cov,
            service_cov=service_cov,
        )
        row.finish()
        if names.add(row, name):
            yield server


def _allowed(row: Row, profiles: set[str]) -> tuple[str, ...]:
    value = row.get("allowedAccelerators")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        row.wrong("allowedAccelerators", value, "must be a list of accelerators")
        return ()
    for name in value:
        if profiles and name not in profiles:
            row.wrong("allowedAccelerators", name, f"is no accelerator: {one_of(profiles)}")
    return tuple(value)


def _cov(row: Row, name: str) -> float:
    """A coefficient of variation; absent or 0: not known, as of Poisson arrivals and exponential lengths."""
    return row.number(name, 0.0, most=100.0) or 1.0


def _load(row: Row) -> tuple[float, float | None, float | None, float | None]:
    """Arrival rate, average length, input and output tokens."""
    rate = row.number("arrivalRate", most=LARGEST_RATE, unit="requests/min")
    least = 1.0 if rate > 0 else 0.0
    average = inputs = outputs = None
    if row.has("avgInTokens", "avgOutTokens"):
        inputs = row.number("avgInTokens", 0.0, most=MOST_TOKENS, unit="tokens")
        outputs = row.number("avgOutTokens", None if rate > 0 else 1.0, least=least, most=MOST_TOKENS)
    elif row.has("avgLength") or rate > 0:
        average = row.number("avgLength", least=least, most=MOST_TOKENS, unit="tokens")
    row.has("avgLength")
    row.finish()
    return rate, average, inputs, outputs


def _current(row: Row, profiles: set[str]) -> CurrentAllocation | None:
    accelerator = row.text("accelerator", default="")
    replicas = row.integer("numReplicas", 0)
    for name in ("maxBatch", "cost", "itlAverage", "ttftAverage", "waitAverage"):
        row.has(name)
    row.finish()
    if not accelerator:
        return None
    if profiles and accelerator not in profiles:
        row.wrong("accelerator", accelerator, f"is no accelerator: {one_of(profiles)}")
    return CurrentAllocation(accelerator, replicas)


def _capacity(
    path: Path | None, types: set[str], findings: Findings
) -> tuple[Mapping[str, int] | None, Mapping[str, tuple[int, ...]]]:
    if path is None:
        return None, {}
    content = read_json(path, "give --capacity FILE", findings)
    names, units, nodes = _Names(findings), {}, {}
    for row in _listed(path, content, "count", findings):
        kind, count = row.text("type"), row.integer("count")
        if kind and types and kind not in types:
            row.wrong("type", kind, f"is the type of no accelerator: {one_of(types)}")
        if row.has("nodes"):
            nodes[kind] = _nodes(row, count)
        row.finish()
        if names.add(row, kind):
            units[kind] = count
    return units, nodes


def _nodes(row: Row, count: int) -> tuple[int, ...]:
    value = row.get("nodes")
    sizes = value if isinstance(value, list) else [None]
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in sizes):
        row.wrong("nodes", value, "must be a list of whole numbers, the units of each node")
        return ()
    if sum(sizes) != count:
        row.wrong("nodes", value, f"adds up to {sum(sizes)}, but count is {count}")
    return tuple(sizes)


def _listed(path: Path, content: Any, wrapper: str, findings: Findings) -> Iterator[Row]:
    """The rows of a file that is a list, or an object that holds the list under a name."""
    if content is UNREAD:
        return
    where = ""
    if isinstance(content, Mapping):
        Row(str(path), "", content, findings)
        named = {name.casefold(): name for name in content}
        where = named.get(wrapper.casefold(), "")
        if not where:
            shown = ", ".join(content) or "nothing"
            findings.add(str(path), "", shown, f'must be a list […] or {{"{wrapper}": […]}}')
            return
        content = content[where]
    yield from rows(str(path), where, content, findings)
