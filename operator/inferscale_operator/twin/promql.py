"""PromQL as far as the operator's own queries go, evaluated over simulated samples.

Every pod exports one series a metric, so an aggregation by namespace and pod is the series itself, and a
vector is an array with one figure a pod; NaN is no sample. Matchers hold for all series.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from inferscale_operator.twin.samples import Floats, Samples

Value: TypeAlias = "float | Floats"
Evaluate: TypeAlias = Callable[[Samples, float], Value]

_TOKEN = re.compile(
    r"""\s*(?:(?P<selector>\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\})
    |(?P<duration>\d+(?:ms|s|m|h))(?![\w.])
    |(?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_:]*)
    |(?P<mark>[-+*/>()\[\],:]))""",
    re.VERBOSE,
)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_AGGREGATIONS = frozenset({"sum", "min", "max"})


class PromQLError(ValueError):
    """A query that this subset does not have."""


def compile_query(text: str) -> Evaluate:
    """A function of samples and a time (Unix seconds) that answers a query.

    Raises:
        PromQLError: the query is not of the subset.
    """
    parser = _Parser(text)
    expression = parser.expression()
    parser.end()

    def evaluate(samples: Samples, at_s: float) -> Value:
        with np.errstate(invalid="ignore", divide="ignore"):
            return expression(samples, at_s)

    return evaluate


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        position = 0
        stripped = text.rstrip()
        while position < len(stripped):
            match = _TOKEN.match(stripped, position)
            if match is None:
                raise PromQLError(f"{text!r}: not understood at {stripped[position : position + 20]!r}")
            kind = match.lastgroup or ""
            self._tokens.append((kind, match[kind]))
            position = match.end()
        self._at = 0

    def expression(self) -> Evaluate:
        left = self._comparison()
        while self._take("or"):
            left = _first(left, self._comparison())
        return left

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise PromQLError(f"{self._text!r}: {self._tokens[self._at][1]!r} is too much")

    def _comparison(self) -> Evaluate:
        left = self._sum()
        if self._take(">"):
            keeps = not self._take("bool")
            return _greater(left, self._sum(), keeps=keeps)
        return left

    def _sum(self) -> Evaluate:
        left = self._product()
        while mark := self._take("+", "-"):
            left = _arithmetic(mark, left, self._product())
        return left

    def _product(self) -> Evaluate:
        left = self._operand()
        while mark := self._take("*", "/"):
            left = _arithmetic(mark, left, self._operand())
        return left

    def _operand(self) -> Evaluate:
        kind, text = self._next()
        if kind == "number":
            return _constant(float(text))
        if text == "(":
            inner = self.expression()
            self._expect(")")
            return inner
        if kind != "name":
            raise PromQLError(f"{self._text!r}: {text!r} is no operand")
        if text in _AGGREGATIONS:
            return self._aggregation()
        if self._take("("):
            return self._function(text)
        return self._instant(text)

    def _aggregation(self) -> Evaluate:
        if self._take("by", "without"):
            self._expect("(")
            while not self._take(")"):
                self._next()
        self._expect("(")
        inner = self.expression()
        self._expect(")")
        return inner

    def _function(self, name: str) -> Evaluate:
        if name == "time":
            self._expect(")")
            return lambda _, at_s: at_s
        if name == "clamp_min":
            inner = self.expression()
            self._expect(",")
            least = float(self._next()[1])
            self._expect(")")
            return lambda samples, at_s: np.maximum(inner(samples, at_s), least)
        if name == "changes":
            return self._changes()
        column = self._series()
        if name == "timestamp":
            offset = self._offset()
            self._expect(")")
            return lambda samples, at_s: samples.timestamps(column, at_s - offset)
        self._expect("[")
        window = self._duration()
        self._expect("]")
        self._expect(")")
        match name:
            case "rate":
                return lambda samples, at_s: samples.rate(column, at_s, window)
            case "delta":
                return lambda samples, at_s: samples.delta(column, at_s, window)
            case "max_over_time":
                return lambda samples, at_s: samples.greatest(column, at_s, window)
        raise PromQLError(f"{self._text!r}: function {name} is not known")

    def _changes(self) -> Evaluate:
        inner = self._operand()
        self._expect("[")
        window = self._duration()
        self._expect(":")
        step = self._duration()
        self._expect("]")
        self._expect(")")

        def evaluate(samples: Samples, at_s: float) -> Value:
            # Steps are multiples of their length since 1970, whenever the query is asked.
            number = math.floor((at_s - window) / step) + 1
            before, changes = samples.nothing(), np.zeros(samples.size)
            while number * step <= at_s:
                value = np.asarray(inner(samples, number * step))
                # What is not known is neither below nor above.
                changes += (value < before) | (value > before)
                before = np.where(np.isnan(value), before, value)
                number += 1
            return np.where(np.isnan(before), np.nan, changes)

        return evaluate

    def _instant(self, name: str) -> Evaluate:
        if self._peek()[0] == "selector":
            self._next()
        offset = self._offset()
        return lambda samples, at_s: samples.instant(name, at_s - offset)

    def _series(self) -> str:
        kind, name = self._next()
        if kind != "name":
            raise PromQLError(f"{self._text!r}: {name!r} is no series")
        if self._peek()[0] == "selector":
            self._next()
        return name

    def _offset(self) -> float:
        return self._duration() if self._take("offset") else 0.0

    def _duration(self) -> float:
        kind, text = self._next()
        unit = text.lstrip("0123456789")
        if kind != "duration":
            raise PromQLError(f"{self._text!r}: {text!r} is no duration")
        return int(text.removesuffix(unit)) * _UNITS[unit]

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        if not token[0]:
            raise PromQLError(f"{self._text!r}: ends too early")
        self._at += 1
        return token

    def _take(self, *texts: str) -> str:
        text = self._peek()[1]
        if text not in texts or not text:
            return ""
        self._at += 1
        return text

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise PromQLError(f"{self._text!r}: {text!r} is missing before {self._peek()[1]!r}")


def _constant(value: float) -> Evaluate:
    return lambda _samples, _at: value


def _first(left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(samples: Samples, at_s: float) -> Value:
        value = left(samples, at_s)
        return np.where(np.isnan(value), right(samples, at_s), value)

    return evaluate


def _greater(left: Evaluate, right: Evaluate, *, keeps: bool) -> Evaluate:
    def evaluate(samples: Samples, at_s: float) -> Value:
        low, high = right(samples, at_s), left(samples, at_s)
        missing = np.isnan(low) | np.isnan(high)
        if keeps:
            return np.where(~missing & (high > low), high, np.nan)
        return np.where(missing, np.nan, np.asarray(high > low, dtype=np.float64))

    return evaluate


def _arithmetic(mark: str, left: Evaluate, right: Evaluate) -> Evaluate:
    operation: Callable[[Value, Value], Value] = {
        "+": np.add,
        "-": np.subtract,
        "*": np.multiply,
        "/": np.divide,
    }[mark]
    return lambda samples, at_s: operation(left(samples, at_s), right(samples, at_s))
