"""Run the emulated fleet: `python -m fleet --kubeconfig FILE (--load FILE | --scenario FILE) --port PORT`."""

import argparse
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

from kubernetes.config import ConfigException

from fleet.exporter import Exporter
from fleet.gateway import Fleet
from fleet.load import LoadError, read_loads
from fleet.scenario import read_scenario_loads
from fleet.watch import Cluster, follow

_STEP_S = 0.05
_POLL_S = 0.5


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fleet", description="Emulated model servers for a cluster's pods.")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="kubeconfig of the cluster")
    load = parser.add_mutually_exclusive_group(required=True)
    load.add_argument("--load", type=Path, help="YAML file with the load of each Deployment")
    load.add_argument("--scenario", type=Path, help="scenario of `inferscale simulate` with their loads")
    parser.add_argument("--seed", type=int, help="seed of the requests instead of the scenario's")
    parser.add_argument(
        "--begin", type=float, help="Unix time at which the load begins; until then nothing answers"
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--port-file", type=Path, help="file that gets the port")
    parser.add_argument(
        "--selector", default="inferscale.dev/emulated=true", help="label selector of the pods (%(default)s)"
    )
    parser.add_argument("--speed", type=float, default=1.0, help="how fast the time of the fleet goes")
    parser.add_argument("--bias", type=float, default=1.0, help="factor on alpha and beta of the profiles")
    parser.add_argument(
        "--startup-seconds", type=float, default=0.0, help="time a pod needs from ready to serving"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 2 if the arguments are wrong."""
    arguments = _arguments(argv)
    try:
        loads = (
            read_loads(arguments.load)
            if arguments.load
            else read_scenario_loads(arguments.scenario, arguments.seed)
        )
        cluster = Cluster(arguments.kubeconfig, arguments.selector)
    except (LoadError, ConfigException) as error:
        print(error, file=sys.stderr)
        return 2
    fleet = Fleet(loads, bias=arguments.bias, startup_s=arguments.startup_seconds)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    begin = time.time() if arguments.begin is None else arguments.begin
    stop.wait(max(begin - time.time(), 0.0))
    with Exporter(fleet, arguments.port) as exporter, ThreadPoolExecutor(1) as pool:
        Thread(target=exporter.serve_forever, daemon=True).start()
        following = pool.submit(follow, cluster, fleet, stop, _POLL_S)
        if arguments.port_file:
            arguments.port_file.write_text(f"{exporter.server_port}\n", encoding="utf-8")
        print(exporter.url, flush=True)
        # One that starts late catches up: its load begins when it was said to.
        start = time.monotonic() - (time.time() - begin)
        while not stop.wait(_STEP_S):
            fleet.step((time.monotonic() - start) * 1000 * arguments.speed)
        exporter.shutdown()
        following.result()
    return 0


if __name__ == "__main__":
    sys.exit(main())
