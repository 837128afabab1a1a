"""`inferscale fit`: the latency parameters of a model on an accelerator, from the rows of a benchmark."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import click
import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import inferscale_queueing as queueing
from inferscale_operator.errors import UsageError

Floats = NDArray[np.float64]

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "batch": ("batch", "batchsize", "concurrency", "maxconcurrency", "numconcurrent", "n"),
    "itl": ("itl", "meanitl", "tpot", "meantpot", "intertokenlatency", "meanintertokenlatency"),
    "in": ("in", "intokens", "inputtokens", "inputlen", "meaninputtokens", "prompttokens", "promptlen"),
    "ttft": ("ttft", "meanttft", "timetofirsttoken", "meantimetofirsttoken"),
    "wait": ("wait", "meanwait", "waittime", "queuetime", "meanqueuetime"),
}
"""Headers that are understood, without case, punctuation and a unit of ms at the end."""

_PARAMETERS = (
    ("alpha", "decode", "intercept"),
    ("beta", "decode", "slope"),
    ("gamma", "prefill", "intercept"),
    ("delta", "prefill", "slope"),
)


@click.command()
@click.argument("file", metavar="CSV", type=click.File(encoding="utf-8-sig", lazy=False))
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="Form; yaml: a row for a ModelProfile.",
)
@click.option("--column", "columns", multiple=True, metavar="NAME=HEADER", help="Where batch, itl, in … are.")
@click.option("--accelerator", default="ACCELERATOR", metavar="NAME", help="Name in the yaml row.")
@click.option("--acc-count", type=click.IntRange(1, 1024), default=1, help="accCount in the yaml row [1].")
@click.option("--max-batch-size", type=click.IntRange(1, 65_536), help="In the yaml row [largest batch].")
@click.option("--at-tokens", type=click.IntRange(1, 10_000_000), default=512, help="In the yaml row [512].")
def fit(file: TextIO, output: str, columns: tuple[str, ...], **row: Any) -> None:
    """Fit alpha, beta, gamma and delta to the rows of CSV (- is standard input).

    Columns, times in ms: batch (or concurrency) and itl (or tpot); for the prefill also in (input tokens),
    ttft and, where requests waited, wait. Headers like "Mean TTFT (ms)" are understood. An empty cell: not
    measured. The fit is least squares with no parameter below 0.
    """
    try:
        data = read_rows(file, columns)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{file.name} is not a CSV in UTF-8: {error}") from error
    prefill = None if "ttft" not in data else data["ttft"] - data.get("wait", np.zeros(data["ttft"].size))
    if prefill is not None and "in" not in data:
        raise UsageError("there is a column of TTFT and none of input tokens (in); give both or neither")
    try:
        found = queueing.fit_latency(data["batch"], data["itl"], data.get("in"), prefill)
    except ValueError as error:
        raise UsageError(f"cannot fit: {error}") from error
    if output == "json":
        click.echo(json.dumps(as_fields(found), indent=2))
    elif output == "yaml":
        row["max_batch_size"] = row["max_batch_size"] or int(data["batch"].max())
        click.echo(as_row(found, **row), nl=False)
    else:
        Console(width=None if sys.stdout.isatty() else 100).print(table(found))


def read_rows(lines: TextIO, columns: Sequence[str] = ()) -> dict[str, Floats]:
    """The columns of a CSV that the fit needs, by their names in `COLUMNS`; NaN for empty cells.

    Raises:
        UsageError: a column is missing or named twice, or a cell is no number.
    """
    reader = csv.reader(lines)
    header = next(reader, [])
    places = _places(header, _chosen(columns))
    table_rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    result = {}
    for name, place in places.items():
        values = [_cell(cells, place, line, header[place]) for line, cells in table_rows]
        result[name] = np.array(values, dtype=np.float64)
    return result


def as_fields(found: queueing.LatencyFit) -> dict[str, Any]:
    """A fit for machines: parameters, standard errors (null where held at 0), R² and rows of each line."""
    fields: dict[str, Any] = {}
    for name, of, part in _PARAMETERS:
        line = getattr(found, of)
        error = math.nan if line is None else getattr(line, f"{part}_error")
        fields[name] = None if line is None else getattr(line, part)
        fields[f"{name}StandardError"] = None if math.isnan(error) else error
    for of in ("decode", "prefill"):
        line = getattr(found, of)
        fields[of] = None if line is None else {"rSquared": line.r_squared, "rows": line.rows}
    return fields


def as_row(
    found: queueing.LatencyFit, accelerator: str, acc_count: int, max_batch_size: int, at_tokens: int
) -> str:
    """A fit as a row of `spec.profiles` of a ModelProfile."""
    prefill = found.prefill
    return yaml.safe_dump(
        [
            {
                "accelerator": accelerator,
                "accCount": acc_count,
                "alpha": _rounded(found.decode.intercept),
                "beta": _rounded(found.decode.slope),
                "gamma": _rounded(prefill.intercept if prefill else 0.0),
                "delta": _rounded(prefill.slope if prefill else 0.0),
                "maxBatchSize": max_batch_size,
                "atTokens": at_tokens,
            }
        ],
        sort_keys=False,
    )


def table(found: queueing.LatencyFit) -> Table:
    """The parameters with their errors."""
    result = Table(caption="ms; decode alpha + beta·batch, prefill gamma + delta·in·batch")
    result.add_column("Parameter")
    for column in ("Value", "Standard error", "R²", "Rows"):
        result.add_column(column, justify="right")
    for name, of, part in _PARAMETERS:
        line = getattr(found, of)
        if line is not None:
            error = getattr(line, f"{part}_error")
            shown = "held at 0" if math.isnan(error) else f"{error:.2g}"
            first = part == "intercept"
            quality = [f"{line.r_squared:.4f}", str(line.rows)] if first else ["", ""]
            result.add_row(name, f"{getattr(line, part):.5g}", shown, *quality)
    return result


def _chosen(columns: Sequence[str]) -> dict[str, str]:
    chosen = {}
    for entry in columns:
        name, _, header = entry.partition("=")
        if name not in COLUMNS or not header:
            raise UsageError(f"--column {entry}: give NAME=HEADER with NAME one of {', '.join(COLUMNS)}")
        chosen[name] = header
    return chosen


def _places(header: Sequence[str], chosen: Mapping[str, str]) -> dict[str, int]:
    plain = [re.sub(r"ms$", "", re.sub(r"[^a-z0-9]", "", title.lower())) for title in header]
    places = {}
    for name, synonyms in COLUMNS.items():
        wanted = chosen.get(name)
        found = [
            place
            for place, title in enumerate(header)
            if (title.strip() == wanted if wanted else plain[place] in synonyms)
        ]
        if len(found) > 1:
            titles = ", ".join(header[place] for place in found)
            raise UsageError(f"column {name}: {titles} could all be it; choose with --column {name}=HEADER")
        if found:
            places[name] = found[0]
        elif wanted or name in ("batch", "itl"):
            raise UsageError(
                f"column {wanted or name} is missing; the columns are {', '.join(header) or 'none'}; name it "
                f"{' or '.join(synonyms[:2])}, or say which it is with --column {name}=HEADER"
            )
    return places


def _cell(cells: Sequence[str], place: int, line: int, title: str) -> float:
    text = cells[place].strip() if place < len(cells) else ""
    try:
        return float(text) if text else math.nan
    except ValueError as error:
        raise UsageError(
            f"line {line}, column {title} is {text!r}; give a number or leave it empty"
        ) from error


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
