"""The client's side of the supervisor: start and stop the processes of a cluster, and see how they are."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from .errors import ClusterError
from .supervisor import watch_process

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
# Below the range from which kernels give ports to outgoing connections, so that none of these takes one
# between our choice and the server's start.
_PORTS = range(20000, 32000)


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports of 127.0.0.1 that nothing listens on."""
    ports: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise ClusterError(f"no {count} free ports on 127.0.0.1 between {_PORTS.start} and {_PORTS.stop}")


@contextlib.contextmanager
def file_lock(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock on `path`; `on_wait` is called once if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start_supervisor(state_dir: Path, owner_pid: int | None = None) -> None:
    """Make the state folder and its supervisor; with an owner, both go when the owner has ended."""
    for folder in ("components", "logs"):
        (state_dir / folder).mkdir(parents=True)
    state_dir.chmod(0o700)
    owner = [] if owner_pid is None else [str(owner_pid)]
    with (state_dir / "logs" / "supervisor.log").open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-I", str(_SUPERVISOR), str(state_dir), *owner],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=state_dir,
        )
    if done.returncode != 0:
        output = log_tail(state_dir, "supervisor")
        shutil.rmtree(state_dir, ignore_errors=True)
        raise ClusterError(f"the supervisor of {state_dir} did not start:\n{output}")


def is_supervised(state_dir: Path) -> bool:
    """Whether a supervisor is at work on the state folder."""
    try:
        with (state_dir / "supervisor.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def stop_supervisor(state_dir: Path, timeout_s: float = 180.0) -> None:
    """Stop everything on the state folder and remove it; returns when it is done."""
    if not is_supervised(state_dir):
        remove_stale(state_dir)
        return
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid = int((state_dir / "supervisor.pid").read_text())
        is_alive = watch_process(pid)
        os.kill(pid, signal.SIGTERM)
        # The lock is a file of the folder that it removes: gone before the process itself is.
        wait_until(lambda: not is_alive(0.1), timeout_s, f"the supervisor of {state_dir} to end")
    wait_until(lambda: not is_supervised(state_dir), timeout_s, f"the processes of {state_dir} to end")
    # Its lock is a file of the folder, and may go before others do; a killed supervisor leaves them.
    with contextlib.suppress(ClusterError):
        wait_until(lambda: not state_dir.exists(), 10.0, f"{state_dir} to be removed")
    remove_stale(state_dir)


def remove_stale(state_dir: Path) -> None:
    """Remove what a killed supervisor left: its folder, and where the kernel did not do it, its processes."""
    for pid_file in state_dir.glob("components/*.pid"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int(pid_file.read_text())
            argv = json.loads(pid_file.with_suffix(".json").read_text())["argv"]
            command = subprocess.run(
                ["ps", "-ww", "-o", "command=", "-p", str(pid)], check=False, capture_output=True, text=True
            ).stdout
            # The pid may belong to another program by now.
            if command.startswith(argv[0]):
                os.killpg(pid, signal.SIGKILL)
    shutil.rmtree(state_dir, ignore_errors=True)


def start_component(
    state_dir: Path, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None
) -> None:
    """Have the supervisor run a program; its output goes to `logs/NAME.log`."""
    if component_states(state_dir).get(name) == "running":
        raise ClusterError(f"{name} runs already on {state_dir}")
    stop_component(state_dir, name)
    spec = {"argv": [str(argument) for argument in argv], "env": dict(env or {})}
    temporary = state_dir / "components" / f"{name}.new"
    temporary.write_text(json.dumps(spec))
    temporary.replace(state_dir / "components" / f"{name}.json")
    wait_until((state_dir / "components" / f"{name}.pid").exists, 10.0, f"the supervisor to start {name}")


def stop_component(state_dir: Path, name: str) -> None:
    """End a program of the cluster, if it is there; returns when it has ended."""
    (state_dir / "components" / f"{name}.json").unlink(missing_ok=True)
    pid_file = state_dir / "components" / f"{name}.pid"
    wait_until(lambda: not pid_file.exists(), 30.0, f"the supervisor to stop {name}")


def component_states(state_dir: Path) -> dict[str, str]:
    """The state of each program by its name: `running`, or `exited STATUS`."""
    states = {path.stem: "running" for path in sorted(state_dir.glob("components/*.json"))}
    for path in state_dir.glob("components/*.exit"):
        with contextlib.suppress(FileNotFoundError):
            states[path.stem] = f"exited {path.read_text()}"
    return states


def log_tail(state_dir: Path, name: str, lines: int = 15) -> str:
    """The last lines that a program of the cluster wrote."""
    try:
        text = (state_dir / "logs" / f"{name}.log").read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def wait_for_component(state_dir: Path, name: str, ready: Callable[[], bool], timeout_s: float) -> None:
    """Wait until `ready`.

    Raises:
        ClusterError: the program ended, or the time is up; with the end of its log.
    """

    def ready_or_dead() -> bool:
        state = component_states(state_dir).get(name, "stopped")
        if state != "running":
            raise ClusterError(f"{name}: {state}\n{log_tail(state_dir, name)}")
        return ready()

    wait_until(ready_or_dead, timeout_s, f"{name} to be ready", lambda: log_tail(state_dir, name))


def wait_until(
    condition: Callable[[], bool], timeout_s: float, what: str, details: Callable[[], str] = str
) -> None:
    """Wait until the condition holds, looking twenty times a second.

    Raises:
        ClusterError: it does not hold after `timeout_s` seconds; `details` are appended.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {timeout_s:g} s for {what}\n{details()}".rstrip())
        time.sleep(0.05)


def answers(url: str, certificate: Path | None = None, token: str = "") -> bool:
    """Whether a server of ours answers a GET with success, asked with a bearer token if one is given."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # S310: the address is one that we chose.
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    try:
        context = ssl.create_default_context(cafile=certificate) if certificate else None
        with urllib.request.urlopen(request, timeout=5, context=context):  # noqa: S310
            return True
    except OSError:
        return False
