"""The requests of a service over time: drawn from its load, or read from a trace.

What has arrived by a time depends on the load up to then alone: the gaps are those of a renewal process in a
time that runs with the rate, and gaps and lengths come from streams of their own, in blocks.
"""

from __future__ import annotations

import csv
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inferscale_operator.errors import UsageError
from inferscale_operator.twin.scenario import LoadSpec, ServiceSpec, TokenSpec

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK = 4096
GRID_S = 1.0
TRACE_WINDOW_S = 60.0


class Traffic:
    """The requests of one service.

    Attributes:
        at_s: When each arrives, seconds since the start, shape (R,); empty unless drawn.
        input_tokens: Of each.
        output_tokens: Of each.

    Args:
        service: The service.
        folder: Of the scenario, for a trace.
        duration_s: How long the scenario lasts.
        seed: Same seed, same requests.
        drawn: Whether the single requests are wanted, and not their rate alone.
    """

    def __init__(
        self, service: ServiceSpec, folder: Path, duration_s: float, seed: int, *, drawn: bool
    ) -> None:
        self.at_s: Floats = np.empty(0)
        self.input_tokens: Ints = np.empty(0, dtype=np.int64)
        self.output_tokens: Ints = self.input_tokens
        self.cov = service.load.cov
        name = zlib.crc32(f"{service.namespace}/{service.name}".encode())
        self._seed = (seed, name)
        if service.load.trace is not None:
            where = f"{service.namespace}/{service.name}"
            at_s, inputs, outputs = _read_trace(folder / service.load.trace, where)
            kept = at_s < duration_s
            self._rate = _trace_rate(at_s, duration_s)
            self._lengths = _trace_lengths(at_s, inputs, outputs, duration_s)
            if drawn:
                self.at_s, self.input_tokens, self.output_tokens = at_s[kept], inputs[kept], outputs[kept]
            return
        if service.tokens is None:
            raise ValueError("a service without a trace has token lengths")
        self._rate = _rate(service.load)
        self._lengths = _lengths(service.tokens)
        if drawn:
            self._draw(service.tokens, duration_s)

    def rate(self, at_s: Floats) -> Floats:
        """Mean arrival rate at times, requests per second."""
        return self._rate(at_s)

    def lengths(self, at_s: Floats) -> tuple[Floats, Floats]:
        """Mean input and output tokens at times."""
        return self._lengths(at_s)

    def _stream(self, number: int) -> np.random.Generator:
        return np.random.default_rng([*self._seed, number])

    def _draw(self, tokens: TokenSpec, duration_s: float) -> None:
        edges = np.arange(0.0, duration_s + GRID_S, GRID_S)
        # What holds within a step is what holds in its middle.
        expected = np.concatenate([[0.0], np.cumsum(self._rate(edges[:-1] + GRID_S / 2)) * GRID_S])
        ages: list[Floats] = []
        total, stream = 0.0, self._stream(0)
        while total < expected[-1]:
            block = total + np.cumsum(_gaps(self.cov, stream))
            ages.append(block)
            total = float(block[-1])
        age = np.concatenate(ages) if ages else np.empty(0)
        age = age[age < expected[-1]]
        step = np.searchsorted(expected, age, side="right") - 1
        at_s = edges[step] + GRID_S * (age - expected[step]) / (expected[step + 1] - expected[step])
        at_s = at_s[at_s < duration_s]
        inputs, outputs = self._lengths(at_s)
        self.at_s = at_s
        self.input_tokens = _sample(inputs, tokens, self._stream(1), least=0)
        self.output_tokens = _sample(outputs, tokens, self._stream(2), least=1)


def _rate(load: LoadSpec) -> Callable[[Floats], Floats]:
    def base(at_s: Floats) -> Floats:
        if load.rate is not None:
            return np.full(np.shape(at_s), load.rate)
        if load.points is not None:
            times = np.array([p.at for p in load.points])
            return _at(times, np.array([p.rate for p in load.points]), at_s, step=load.step)
        wave = load.diurnal
        if wave is None:
            raise ValueError("a load without a rate")
        phase = 2 * math.pi * (at_s - wave.peak_at) / wave.period
        result: Floats = wave.mean * (1 + wave.amplitude * np.cos(phase))
        return result

    def rate(at_s: Floats) -> Floats:
        value = base(at_s) / 60.0
        for spike in load.spikes:
            within = (at_s >= spike.at) & (at_s < spike.at + spike.seconds)
            value = np.where(within, value * spike.factor, value)
        return value

    return rate


def _lengths(tokens: TokenSpec) -> Callable[[Floats], tuple[Floats, Floats]]:
    if tokens.points is None:
        inputs, outputs = tokens.input or 0.0, tokens.output or 1.0
        return lambda at_s: (np.full(np.shape(at_s), inputs), np.full(np.shape(at_s), outputs))
    times = np.array([p.at for p in tokens.points])
    mean_inputs = np.array([p.input for p in tokens.points])
    mean_outputs = np.array([p.output for p in tokens.points])
    return lambda at_s: (
        _at(times, mean_inputs, at_s, step=tokens.step),
        _at(times, mean_outputs, at_s, step=tokens.step),
    )


def _at(times: Floats, values: Floats, at_s: Floats, *, step: bool) -> Floats:
    if not step:
        return np.interp(at_s, times, values)
    return values[np.clip(np.searchsorted(times, at_s, side="right") - 1, 0, None)]


def _gaps(cov: float, stream: np.random.Generator) -> Floats:
    if cov == 0:
        return np.ones(BLOCK)
    if cov == 1:
        return stream.exponential(1.0, BLOCK)
    return stream.gamma(cov**-2, cov**2, BLOCK)


def _sample(means: Floats, tokens: TokenSpec, stream: np.random.Generator, *, least: int) -> Ints:
    """Whole token counts about their means, the same for the same beginning."""
    count = means.size
    blocks = -(-count // BLOCK) * BLOCK
    if tokens.distribution == "exponential":
        drawn = stream.exponential(1.0, blocks)[:count]
        with np.errstate(divide="ignore"):
            # The geometric distribution on 1, 2, …, its discrete twin.
            counts = np.ceil(drawn / -np.log1p(-1.0 / np.maximum(means, 1.0 + 1e-9)))
        counts = np.where(means <= 1.0, means >= 0.5, np.maximum(counts, 1.0))
    else:
        factor = np.ones(count)
        if tokens.distribution == "lognormal":
            variance = math.log1p(tokens.cov**2)
            normal = np.concatenate(
                [stream.standard_normal(BLOCK) for _ in range(blocks // BLOCK)] or [factor]
            )
            factor = np.exp(math.sqrt(variance) * normal[:count] - variance / 2)
        counts = np.rint(means * factor)
    return np.maximum(counts, least).astype(np.int64)


def _read_trace(path: Path, where: str) -> tuple[Floats, Ints, Ints]:
    rows: list[tuple[float, int, int]] = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                try:
                    at_s, inputs, outputs = float(row["at"]), int(row["input"]), int(row["output"])
                except (KeyError, TypeError, ValueError) as error:
                    raise UsageError(
                        f"{path}: line {number}: needs at (seconds), input and output (whole numbers)"
                    ) from error
                before = rows[-1][0] if rows else 0.0
                if not (before <= at_s < math.inf and inputs >= 0 and outputs >= 1):
                    raise UsageError(
                        f"{path}: line {number}: at {at_s:g}, input {inputs}, output {outputs}: times must "
                        "not go back, input be at least 0 and output at least 1"
                    )
                rows.append((at_s, inputs, outputs))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}. It is the trace of {where}: name a file.") from error
    if not rows:
        raise UsageError(f"{path}: the trace of {where} has no request")
    times, inputs_column, outputs_column = zip(*rows, strict=True)
    return np.array(times), np.array(inputs_column), np.array(outputs_column)


def _trace_rate(at_s: Floats, duration_s: float) -> Callable[[Floats], Floats]:
    edges = np.arange(0.0, duration_s + TRACE_WINDOW_S, TRACE_WINDOW_S)
    rates = np.histogram(at_s, edges)[0] / TRACE_WINDOW_S
    return lambda asked: rates[np.clip((asked / TRACE_WINDOW_S).astype(int), 0, len(rates) - 1)]


def _trace_lengths(
    at_s: Floats, inputs: Ints, outputs: Ints, duration_s: float
) -> Callable[[Floats], tuple[Floats, Floats]]:
    edges = np.arange(0.0, duration_s + TRACE_WINDOW_S, TRACE_WINDOW_S)
    count = np.histogram(at_s, edges)[0]
    means = []
    for tokens in (inputs, outputs):
        total = np.histogram(at_s, edges, weights=tokens.astype(np.float64))[0]
        means.append(np.where(count > 0, total / np.maximum(count, 1), tokens.mean()))

    def lengths(asked: Floats) -> tuple[Floats, Floats]:
        window = np.clip((asked / TRACE_WINDOW_S).astype(int), 0, len(count) - 1)
        return means[0][window], np.maximum(means[1][window], 1.0)

    return lengths
