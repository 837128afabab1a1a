"""Cases for `inferscale analyze`: one replica each, as read from JSON, and their answers."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

import inferscale_queueing as queueing
from inferscale_operator.errors import UsageError
from inferscale_operator.planning.rows import json_object
from inferscale_queueing.frozen import frozen
from inferscale_queueing.sizing import HIGHEST_LOAD

MS_PER_MINUTE = 60_000.0
QUANTILES = (0.5, 0.95, 0.99)

Floats = NDArray[np.float64]
Coefficient = Annotated[float, Field(ge=0, le=1e6)]
Tokens = Annotated[float, Field(le=10_000_000)]
Target = Annotated[float, Field(gt=0)] | None
Cov = Annotated[float, Field(ge=0, le=100)] | None


def _whole(value: object) -> object:
    """Some writers of JSON give 48.0 for 48."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
# More digits than any number here has; Python refuses to read far longer ones.
_MOST_DIGITS = 300
_SHOWN = 40
_BOUNDS = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "of at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "of at most {le:g}",
}
BINDING = {
    queueing.Binding.NONE: None,
    queueing.Binding.ITL: "itl",
    queueing.Binding.TTFT: "ttft",
    queueing.Binding.WAIT: "ttw",
    queueing.Binding.TPS: "tps",
}


class Case(BaseModel):
    """One replica with its traffic and its targets; rates per minute, times in ms."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", allow_inf_nan=False, strict=True, frozen=True
    )

    name: str | None = None
    latency_model: Literal["decode-only", "prefill-decode"]
    alpha: Coefficient
    beta: Coefficient
    gamma: Coefficient = 0.0
    delta: Coefficient = 0.0
    max_batch: Annotated[Whole, Field(ge=1, le=65_536)]
    max_queue: Annotated[Whole, Field(ge=0, le=1_000_000)] | None = None
    in_tokens: Annotated[Tokens, Field(ge=0)] = 0.0
    out_tokens: Annotated[Tokens, Field(ge=1)]
    arrival_rate: Annotated[float, Field(ge=0)] | None = None
    itl: Target = None
    ttft: Target = None
    ttw: Target = None
    tps: Target = None
    percentile: Annotated[float, Field(gt=0, lt=1)] | None = None
    slo_rule: Literal["exact", "exponential", "mean"] = "exact"
    arrival_cov: Cov = Field(default=None, alias="arrivalCOV")
    service_cov: Cov = Field(default=None, alias="serviceCOV")


@frozen
class Sized:
    """λ* and the rates by each target alone, requests/min."""

    rate: float
    rate_itl: float
    rate_ttft: float
    rate_ttw: float
    rate_tps: float
    binding: str | None
    slack: dict[str, float]
    """Of each latency target at λ*, as a fraction of it."""


@frozen
class Answer:
    """What is known of one case."""

    label: str
    """What messages call it."""
    name: str | None
    case: Case | None = None
    """None where it could not be read."""
    figures: dict[str, float] | None = None
    """By name in the output; None where there is no rate or no stationary state, as are the quantiles."""
    wait_quantiles: dict[str, float] | None = None
    max_rate: float | None = None
    sized: Sized | None = None
    error: str | None = None


FIGURES = {
    "throughput": "throughput",
    "blocking": "blocking",
    "utilization": "utilization",
    "avgNumInSystem": "in_system",
    "avgNumInService": "in_service",
    "avgNumInQueue": "in_queue",
    "avgRespTime": "response_time",
    "avgServTime": "service_time",
    "avgWaitTime": "wait",
    "prefill": "prefill",
    "itl": "itl",
    "ttft": "ttft",
}
"""Names in the output and in `inferscale_queueing.Analysis`."""


def read_cases(text: str) -> list[Any]:
    """The list in a JSON document, its entries not looked at yet.

    Raises:
        UsageError: it is not JSON, or not a list.
    """
    try:
        content = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=json_object, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise UsageError(f"the cases are not JSON: {error}; give a JSON list of cases") from error
    except RecursionError as error:
        raise UsageError("the cases are nested too deep; give a JSON list of cases: [{…}, …]") from error
    if not isinstance(content, list):
        raise UsageError(f"the cases are no list but {_shown(content)}; give a list of cases: [{{…}}, …]")
    return content


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def answer(entries: Sequence[Any]) -> list[Answer]:
    """Analyse and size every case, those alike together; the answers are in the order of the entries."""
    answers = [_check(position, entry) for position, entry in enumerate(entries, start=1)]
    groups: dict[tuple[str, str], dict[int, Case]] = {}
    for index, known in enumerate(answers):
        if known.case is not None:
            groups.setdefault((known.case.latency_model, known.case.slo_rule), {})[index] = known.case
    for cases in groups.values():
        alike = _answer_alike([answers[index] for index in cases], list(cases.values()))
        for index, full in zip(cases, alike, strict=True):
            answers[index] = full
    return answers


def as_json(known: Answer) -> dict[str, Any]:
    """An answer as it is printed."""
    sized = known.sized
    return {
        "name": known.name,
        "maxRate": known.max_rate,
        **(known.figures or dict.fromkeys(FIGURES)),
        "waitQuantiles": known.wait_quantiles or dict.fromkeys(map(str, QUANTILES)),
        "sized": sized
        and {
            "rate": sized.rate,
            "rateItl": sized.rate_itl,
            "rateTtft": sized.rate_ttft,
            "rateTtw": sized.rate_ttw,
            "rateTps": sized.rate_tps,
            "binding": sized.binding,
        },
        "error": known.error,
    }


def latency_of(cases: Sequence[Case]) -> queueing.LatencyModel:
    """The latency of cases that have the same latency model."""
    alpha, beta, out_tokens = (_column(cases, name) for name in ("alpha", "beta", "out_tokens"))
    if cases[0].latency_model == "decode-only":
        return queueing.DecodeOnly(alpha, beta, out_tokens)
    gamma, delta, in_tokens = (_column(cases, name) for name in ("gamma", "delta", "in_tokens"))
    return queueing.PrefillDecode(alpha, beta, gamma, delta, in_tokens, out_tokens)


def variability_of(cases: Sequence[Case]) -> queueing.Variability | None:
    """The COVs of cases that have the same rule; None where the rule does not know them."""
    if cases[0].slo_rule != "exact":
        return None
    return queueing.Variability(_column(cases, "arrival_cov", 1.0), _column(cases, "service_cov", 1.0))


def targets_of(cases: Sequence[Case]) -> queueing.Targets:
    """The targets of cases that have the same rule."""
    return queueing.Targets(
        itl=_column(cases, "itl", np.inf),
        ttft=_column(cases, "ttft", np.inf),
        wait=_column(cases, "ttw", np.inf),
        tps=_column(cases, "tps", 0.0),
        percentile=_column(cases, "percentile", 0.0),
        rule=cases[0].slo_rule,
    )


def queue_limits(cases: Sequence[Case]) -> Floats:
    """Places in the queue of each case, or `UNBOUNDED`."""
    return _column(cases, "max_queue", queueing.UNBOUNDED)


def _check(position: int, entry: Any) -> Answer:
    if not isinstance(entry, Mapping):
        message = f"case {position} is {_shown(entry)}; give an object with the fields of a case"
        return Answer(f"case {position}", None, error=message)
    name = entry.get("name")
    name = _writable(name) if isinstance(name, str) else None
    label = f"case {position}" if name is None else f"case {position} ({name})"
    given = {_writable(field): value for field, value in entry.items() if value is not None}
    twice = map(_writable, getattr(entry, "duplicates", ()))
    complaints = [f"{_clipped(field)} is given twice; keep one of them" for field in twice]
    try:
        case = Case.model_validate(given if name is None else {**given, "name": name})
    except ValidationError as error:
        complaints.extend(_complaints(error))
    if complaints:
        return Answer(label, name, error=f"{label}: {'; '.join(complaints)}")
    try:
        latency_of([case])
    except ValueError:
        message = (
            f"{label}: alpha {case.alpha:g}, beta {case.beta:g}, gamma {case.gamma:g}, delta {case.delta:g}: "
            "a request takes no time; give a positive alpha, or a gamma with inTokens where outTokens is 1"
        )
        return Answer(label, name, error=message)
    return Answer(label, name, case)


def _complaints(error: ValidationError) -> Iterator[str]:
    for item in error.errors(include_url=False):
        field_name = _clipped(str(item["loc"][0]))
        bounds = item.get("ctx", {})
        if item["type"] == "missing":
            yield f"{field_name} is missing; it is required"
        elif item["type"] == "extra_forbidden":
            yield f"{field_name} is no field of a case"
        else:
            wanted = item["msg"].removeprefix("Input should be ")
            if item["type"] in _BOUNDS:
                wanted = f"a number {_BOUNDS[item['type']].format(**bounds)}"
            yield f"{field_name} is {_shown(item['input'])}; give {wanted}"


def _writable(text: str) -> str:
    """Half a character, which JSON can write and no file can hold, is shown by its number."""
    return text.encode(errors="backslashreplace").decode()


def _shown(value: object) -> str:
    # As deep and as long as people read.
    return _clipped(reprlib.repr(value))


def _clipped(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _answer_alike(known: Sequence[Answer], cases: Sequence[Case]) -> Iterator[Answer]:
    latency, targets, variability = latency_of(cases), targets_of(cases), variability_of(cases)
    batches, limits = _column(cases, "max_batch"), queue_limits(cases)
    size = queueing.size(latency, batches, targets, queue_limit=limits, variability=variability)
    alone = queueing.target_rates(latency, batches, targets, queue_limit=limits, variability=variability)
    left = queueing.slack(latency, batches, targets, size.rate, queue_limit=limits, variability=variability)
    rates = _column(cases, "arrival_rate", 0.0) / MS_PER_MINUTE
    analysis = queueing.analyze(latency, batches, rates, queue_limit=limits, variability=variability)
    waits = [
        queueing.wait_quantile(latency, batches, rates, share, queue_limit=limits, variability=variability)
        for share in QUANTILES
    ]
    for i, (before, case) in enumerate(zip(known, cases, strict=True)):
        errors = []
        if not size.attainable[i]:
            errors.append(_unattainable(case, alone, i))
        if case.arrival_rate is not None and not analysis.stable[i]:
            errors.append(
                f"arrivalRate is {case.arrival_rate:g}: unstable, the queue grows without bound; "
                f"give less than {MS_PER_MINUTE * size.max_rate[i] / HIGHEST_LOAD:.6g}, or a maxQueue"
            )
        answered = replace(
            before,
            max_rate=float(size.max_rate[i]) * MS_PER_MINUTE,
            sized=_sized(size, alone, left, i) if size.attainable[i] else None,
            error=f"{before.label}: {'; '.join(errors)}" if errors else None,
        )
        if case.arrival_rate is not None and analysis.stable[i]:
            figures = {name: float(getattr(analysis, of)[i]) for name, of in FIGURES.items()}
            figures["throughput"] *= MS_PER_MINUTE
            quantiles = {str(share): float(wait[i]) for share, wait in zip(QUANTILES, waits, strict=True)}
            answered = replace(answered, figures=figures, wait_quantiles=quantiles)
        yield answered


def _sized(size: queueing.Sizing, alone: queueing.TargetRates, left: queueing.Slack, i: int) -> Sized:
    slack = {"itl": left.itl[i], "ttft": left.ttft[i], "ttw": left.wait[i]}
    return Sized(
        rate=float(size.rate[i]) * MS_PER_MINUTE,
        rate_itl=float(alone.itl[i]) * MS_PER_MINUTE,
        rate_ttft=float(alone.ttft[i]) * MS_PER_MINUTE,
        rate_ttw=float(alone.wait[i]) * MS_PER_MINUTE,
        rate_tps=float(alone.tps[i]) * MS_PER_MINUTE,
        binding=BINDING[queueing.Binding(size.binding[i])],
        slack={name: float(value) for name, value in slack.items() if not np.isnan(value)},
    )


def _unattainable(case: Case, alone: queueing.TargetRates, i: int) -> str:
    rates = {"itl": alone.itl[i], "ttft": alone.ttft[i], "ttw": alone.wait[i]}
    missed = [f"{name} {getattr(case, name):g} ms" for name, rate in rates.items() if rate == 0]
    return f"unattainable at any rate: {', '.join(missed)}"


def _column(cases: Sequence[Case], name: str, absent: float = 0.0) -> Floats:
    values = (getattr(case, name) for case in cases)
    return np.array([absent if value is None else value for value in values], dtype=np.float64)
