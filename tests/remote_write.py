"""Samples into a running Prometheus at any times, with marks of where a series ended.

The text that `promtool` reads in cannot hold such marks. A remote write is a message of Protocol Buffers in a
frame of Snappy, of which literals alone are needed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping

import requests

Series = tuple[Mapping[str, str], Iterable[tuple[float, float]]]
"""Labels, and samples as times (s) and values; `ENDED` for a value ends the series."""

ENDED = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
_LARGEST_LITERAL = 65_536


def write(url: str, series: Iterable[Series]) -> None:
    """Write series: each in the order of its times, no sample an hour older than the newest."""
    body = b"".join(_field(1, _series(labels, samples)) for labels, samples in series)
    answer = requests.post(
        f"{url}/api/v1/write",
        _snappy(body),
        headers={
            "Content-Encoding": "snappy",
            "Content-Type": "application/x-protobuf",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        },
        timeout=60,
    )
    if answer.status_code // 100 != 2:
        raise ValueError(f"remote write: {answer.status_code} {answer.text}")


def _series(labels: Mapping[str, str], samples: Iterable[tuple[float, float]]) -> bytes:
    named = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, value.encode()))
        for name, value in sorted(labels.items())
    )
    return named + b"".join(
        _field(2, b"\x09" + _double(value) + b"\x10" + _varint(round(at_s * 1000))) for at_s, value in samples
    )


def _double(value: float) -> bytes:
    # A conversion may quieten the mark, so it is written as it is.
    return struct.pack("<Q", 0x7FF0000000000002) if math.isnan(value) else struct.pack("<d", value)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _snappy(content: bytes) -> bytes:
    parts = [content[at : at + _LARGEST_LITERAL] for at in range(0, len(content), _LARGEST_LITERAL)]
    return _varint(len(content)) + b"".join(
        b"\xf4" + struct.pack("<H", len(part) - 1) + part for part in parts
    )
