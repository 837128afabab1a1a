"""What Prometheus has said of the past, kept in files: what is there is not asked for again."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from inferscale_operator.errors import UsageError
from inferscale_operator.metrics.queries import SampleKey
from inferscale_queueing.frozen import frozen

Series = Mapping[SampleKey, Mapping[int, float]]
"""Values by key and time."""


@frozen
class Asked:
    """What was asked of whom, for which times.

    Attributes:
        url: Of Prometheus.
        tenant: Digest of the headers, which may choose what there is to see.
        expression: In PromQL.
        begin: The first time, Unix seconds.
        end: The last time.
        step: Seconds between them.
    """

    url: str
    tenant: str
    expression: str
    begin: int
    end: int
    step: int

    @property
    def about(self) -> dict[str, str | int]:
        """All of it."""
        return {
            "url": self.url,
            "tenant": self.tenant,
            "query": self.expression,
            "from": self.begin,
            "to": self.end,
            "step": self.step,
        }


@frozen
class Cache:
    """Answers in a folder, one in a file. Each file may be removed at any time."""

    folder: Path

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            UsageError: it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def get(self, asked: Asked) -> Series | None:
        """The answer; None: it is not there, or cannot be read."""
        try:
            found = json.loads(gzip.decompress(self._file(asked).read_bytes()))
            if found["about"] != asked.about:
                return None
            times = range(asked.begin, asked.end + 1, asked.step)
            return {
                (namespace, name): {
                    at: float(value) for at, value in zip(times, values, strict=True) if value is not None
                }
                for namespace, name, values in found["series"]
            }
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            return None

    def put(self, asked: Asked, series: Series) -> None:
        """Keep an answer.

        Raises:
            UsageError: it cannot be written.
        """
        times = range(asked.begin, asked.end + 1, asked.step)
        rows = [[*key, [values.get(at) for at in times]] for key, values in sorted(series.items())]
        text = json.dumps({"about": asked.about, "series": rows}, allow_nan=False)
        file = self._file(asked)
        half = file.with_suffix(f".{os.getpid()}")
        try:
            half.write_bytes(gzip.compress(text.encode(), mtime=0))
            half.replace(file)
        except OSError as error:
            half.unlink(missing_ok=True)
            raise self._unusable(error) from error

    def _file(self, asked: Asked) -> Path:
        name = hashlib.sha256(json.dumps(asked.about, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{name}.json.gz"

    def _unusable(self, error: OSError) -> UsageError:
        return UsageError(f"--cache {self.folder}: {error.strerror}: name a folder that can be written to")


def default_folder() -> Path:
    """Where answers are kept unless said."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if home else Path.home() / ".cache") / "inferscale" / "backtest"


def digest(headers: Mapping[str, str]) -> str:
    """What tells two sets of headers apart, and none of their values."""
    return hashlib.sha256(json.dumps(sorted(headers.items())).encode()).hexdigest()[:16] if headers else ""
