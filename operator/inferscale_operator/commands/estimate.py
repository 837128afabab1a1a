"""`inferscale estimate`: first latency profiles for accelerators on which a model was never measured."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import ValidationError

import inferscale_queueing as queueing
from inferscale_operator.api.accelerator_profile import ACCELERATOR_PROFILE, AcceleratorProfileSpec
from inferscale_operator.api.model_profile import MODEL_PROFILE, ModelProfileSpec, PerformanceSchema
from inferscale_operator.errors import UsageError
from inferscale_queueing.frozen import frozen

_KINDS = {resource.kind: resource.spec for resource in (ACCELERATOR_PROFILE, MODEL_PROFILE)}


@frozen
class Row:
    """A guessed row of a ModelProfile."""

    accelerator: str
    source: str
    """The accelerator that it was scaled from."""
    acc_count: int
    profile: queueing.LatencyProfile
    at_tokens: int


@frozen
class Known:
    """What the files say, by the objects' names."""

    models: Mapping[str, ModelProfileSpec]
    specs: Mapping[str, queueing.Specs]
    without_specs: frozenset[str]
    """Accelerators whose memory is not described."""


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--model", metavar="NAME", help="The ModelProfile; needed where there are several.")
@click.option("--from", "source", metavar="NAME", help="The measured accelerator [the one most alike].")
@click.option("--to", "wanted", multiple=True, metavar="NAME", help="Accelerators; several [all unmeasured].")
@click.option(
    "-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True, help="Form."
)
def estimate(
    files: tuple[Path, ...], model: str | None, source: str | None, wanted: tuple[str, ...], output: str
) -> None:
    """Estimate how a model runs where it was not measured, from where it was.

    FILES are YAML with a ModelProfile and AcceleratorProfiles that state memSize and memBW. Decoding goes
    with the memory bandwidth, the batch with the memory. Prints rows for spec.profiles, marked as estimates:
    good enough to try, to be replaced by `inferscale fit` once there are measurements.
    """
    known = read(files)
    name = _one_model(known, model)
    rows = estimates(known, name, source, wanted)
    if not rows:
        click.echo(
            f"Nothing to estimate: {name} has a row for every AcceleratorProfile in the files", err=True
        )
    if output == "json":
        click.echo(json.dumps([{**_fields(row), "estimatedFrom": row.source} for row in rows], indent=2))
        return
    for row in rows:
        click.echo(f"# Estimate for {name}, scaled from {row.source}: measure before you rely on it.")
        click.echo(yaml.safe_dump([_fields(row)], sort_keys=False), nl=False)


def read(files: Sequence[Path]) -> Known:
    """Read the ModelProfiles and AcceleratorProfiles of YAML files; other kinds are passed over.

    Raises:
        UsageError: a file is not YAML, or an object is not valid.
    """
    models: dict[str, ModelProfileSpec] = {}
    specs: dict[str, queueing.Specs] = {}
    without = set()
    for path in files:
        for content in _documents(path):
            name = str((content.get("metadata") or {}).get("name"))
            try:
                spec = _KINDS[content["kind"]].model_validate(content.get("spec"))
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                where = ".".join(["spec", *map(str, first["loc"])])
                raise UsageError(f"{path}: {content['kind']} {name}: {where}: {first['msg']}") from error
            if isinstance(spec, ModelProfileSpec):
                models[name] = spec
            elif isinstance(spec, AcceleratorProfileSpec):
                if spec.mem_bw is None or spec.mem_size is None:
                    without.add(name)
                else:
                    specs[name] = queueing.Specs(spec.mem_bw, spec.mem_size, spec.multiplicity)
    return Known(models, specs, frozenset(without))


def estimates(known: Known, model: str, source: str | None = None, wanted: Sequence[str] = ()) -> list[Row]:
    """Guess rows for a model, by the names of the accelerators.

    Args:
        known: the accelerators and the models.
        model: the model.
        source: the measured accelerator to scale from; None takes for each the one most alike.
        wanted: the accelerators to guess for; none for all that have no row and state their memory.

    Raises:
        UsageError: an accelerator is unknown, does not state its memory, or is measured already.
    """
    measured = {row.accelerator: row for row in known.models[model].profiles}
    sources = [source] if source is not None else sorted(measured.keys() & known.specs.keys())
    if source is not None and source not in measured:
        raise UsageError(
            f"--from {source}: {model} was not measured there; use one of {', '.join(sorted(measured))}"
        )
    for name in (*sources, *wanted):
        _require_specs(known, name)
    for name in wanted:
        if name in measured:
            raise UsageError(f"--to {name}: {model} has a row for it; measurements are not replaced")
    if not sources:
        raise UsageError(
            f"{model} was measured on {', '.join(sorted(measured))}: none of them is an AcceleratorProfile "
            "in the files that states memSize and memBW; give one"
        )
    targets = sorted(set(wanted) or known.specs.keys() - measured.keys())
    return [_estimate(known, measured, sources, target) for target in targets]


def _estimate(
    known: Known, measured: Mapping[str, PerformanceSchema], sources: Sequence[str], target: str
) -> Row:
    specs = known.specs[target]

    def distance(name: str) -> tuple[float, str]:
        return abs(math.log(specs.iteration / known.specs[name].iteration)), name

    source = min(sources, key=distance)
    row, on = measured[source], known.specs[source]
    # As many as hold the memory that the measured replica had, so that the model fits.
    acc_count = max(math.ceil(row.acc_count * on.memory_size / specs.memory_size * (1 - 1e-9)), 1)
    profile = queueing.LatencyProfile(row.alpha, row.beta, row.gamma, row.delta, row.max_batch_size)
    return Row(
        target, source, acc_count, queueing.estimate_profile(profile, on, specs), at_tokens=row.at_tokens
    )


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    try:
        contents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} is not YAML: {error}") from error
    for content in contents:
        if isinstance(content, dict) and content.get("kind") in _KINDS:
            yield content


def _one_model(known: Known, model: str | None) -> str:
    names = ", ".join(sorted(known.models)) or "none"
    if model is None and len(known.models) == 1:
        return next(iter(known.models))
    if model is None:
        raise UsageError(f"--model is missing: the ModelProfiles in the files are {names}; choose one")
    if model not in known.models:
        raise UsageError(f"--model {model}: the ModelProfiles in the files are {names}")
    return model


def _require_specs(known: Known, name: str) -> None:
    if name in known.without_specs:
        raise UsageError(f"AcceleratorProfile {name}: memSize and memBW are needed; state both")
    if name not in known.specs:
        found = ", ".join(sorted(known.specs)) or "none"
        raise UsageError(f"{name}: no such AcceleratorProfile in the files; there are {found}")


def _fields(row: Row) -> dict[str, Any]:
    profile = row.profile
    return {
        "accelerator": row.accelerator,
        "accCount": row.acc_count,
        "alpha": _rounded(profile.alpha),
        "beta": _rounded(profile.beta),
        "gamma": _rounded(profile.gamma),
        "delta": _rounded(profile.delta),
        "maxBatchSize": profile.max_batch_size,
        "atTokens": row.at_tokens,
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
