"""The one process that owns all processes of a cluster, so that none of them outlives it.

Run as a script (`supervisor.py STATE_DIR [OWNER_PID]`): it goes to the background, returns when it holds the
lock of the state folder, and keeps the running processes equal to the files in `STATE_DIR/components`:

    NAME.json   written by a client: {"argv": [...], "env": {...}}; removing it stops the process
    NAME.pid    written here while the process runs
    NAME.exit   written here when it ended by itself: its exit status

It ends on SIGTERM, when its owner has ended, or when the state folder is gone; then it stops everything, runs
the commands in `STATE_DIR/teardown.json` if there is one, and removes the state folder. On Linux the kernel
kills the components when the supervisor itself is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PERIOD_S = 0.1
GRACE_S = 5.0
_PR_SET_PDEATHSIG = 1


class Supervisor:
    """Keeps the running processes equal to the files in `state_dir/components`."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.components = state_dir / "components"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.stopping = False

    def run(self, owner_is_alive: Callable[[float], bool]) -> None:
        """Supervise until told to stop, then stop everything and remove the state folder."""
        try:
            while not self.stopping and self.components.is_dir() and owner_is_alive(PERIOD_S):
                self.reconcile()
        finally:
            # A program may need those that were started before it to end well.
            for process in reversed(self.processes.values()):
                stop(process)
            self._teardown()
            shutil.rmtree(self.state_dir, ignore_errors=True)

    def reconcile(self) -> None:
        """Start what is new, stop what is gone, note what has ended."""
        wanted = {path.stem: path for path in self.components.glob("*.json")}
        for name in self.processes.keys() - wanted.keys():
            stop(self.processes.pop(name))
            (self.components / f"{name}.exit").unlink(missing_ok=True)
            (self.components / f"{name}.pid").unlink(missing_ok=True)
        for name in sorted(wanted.keys() - self.processes.keys()):
            with contextlib.suppress(FileNotFoundError):
                self._start(name, json.loads(wanted[name].read_text()))
        for name, process in self.processes.items():
            if process.poll() is not None and not (self.components / f"{name}.exit").exists():
                (self.components / f"{name}.exit").write_text(str(process.returncode))

    def _start(self, name: str, spec: dict[str, Any]) -> None:
        argv, env = spec["argv"], {**os.environ, **spec.get("env", {})}
        with (self.state_dir / "logs" / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                # A shell in between, so that a program that cannot be started is an exit status as any other.
                ["/bin/sh", "-c", 'exec "$@"', name, *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd=self.state_dir,
                start_new_session=True,
                preexec_fn=_die_with_parent(os.getpid()),
            )
        self.processes[name] = process
        (self.components / f"{name}.pid").write_text(str(process.pid))

    def _teardown(self) -> None:
        commands = self.state_dir / "teardown.json"
        if commands.exists():
            for argv in json.loads(commands.read_text()):
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, timeout=120)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started: SIGTERM, `GRACE_S` seconds, SIGKILL."""
    if process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signum)


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    """A hook for the child: have the kernel kill it when the supervisor dies, however that happens."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def hook() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return hook


def watch_process(pid: int | None) -> Callable[[float], bool]:
    """A function that waits for the given seconds, at most, and says whether the process still runs."""
    if pid is None:

        def forever(seconds: float) -> bool:
            time.sleep(seconds)
            return True

        return forever
    if hasattr(os, "pidfd_open"):
        # Unlike a pid, this cannot come to mean another process, and it ends with a zombie too.
        pidfd = os.pidfd_open(pid)
        return lambda seconds: not select.select([pidfd], [], [], seconds)[0]

    def poll(seconds: float) -> bool:
        time.sleep(seconds)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    return poll


def main(arguments: list[str]) -> int:
    """Go to the background; the parent returns when the supervisor is at work."""
    state_dir = Path(arguments[0])
    owner_is_alive = watch_process(int(arguments[1]) if len(arguments) > 1 else None)
    started, tell_started = os.pipe()
    if os.fork():
        os.close(tell_started)
        return 0 if os.read(started, 1) else 1
    os.close(started)
    os.setsid()
    supervisor = Supervisor(state_dir)

    def on_signal(*_: object) -> None:
        supervisor.stopping = True

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    with (state_dir / "supervisor.lock").open("w") as lock:
        # Waits at most for someone who is just looking whether the lock is held.
        fcntl.flock(lock, fcntl.LOCK_EX)
        (state_dir / "supervisor.pid").write_text(str(os.getpid()))
        os.write(tell_started, b"1")
        os.close(tell_started)
        supervisor.run(owner_is_alive)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
