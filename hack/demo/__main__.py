"""Run the demo: `python -m demo [--keep] [--seconds N] [--picture FILE] [--scenario FILE]`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from demo import live, picture, scenario, summary, watch
from demo.follow import clock, follow
from demo.world import HERE, World, build, build_scenario
from inferscale_operator.errors import UsageError
from localcluster.errors import ClusterError

LENGTH_S = 300.0


def main() -> int:
    """Build, watch, sum up; 0 if everything that is promised was seen."""
    arguments = _arguments()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    begun = time.time()

    def say(text: str) -> None:
        console.print(f"[dim]{time.time() - begun:6.1f}s[/] {text}")

    # Ends like a Ctrl-C, so that the cluster is taken down on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    world, owner = None, None if arguments.keep else os.getpid()
    try:
        chosen = live.chosen(arguments.scenario, arguments.seed, arguments.record)
        if chosen is not None:
            world = build_scenario(
                arguments.name, owner, say, chosen.setting, seed=chosen.seed, record=chosen.live
            )
            story, seconds = scenario.story(chosen.setting), chosen.setting.scenario.duration
        else:
            world = build(arguments.name, owner, say)
            story = yaml.safe_load((HERE / "story.yaml").read_text())
            seconds = LENGTH_S if arguments.seconds is None else arguments.seconds
        say(f"everything runs; Prometheus is at {world.prometheus_url}")
        seen = follow(console, world, seconds, story)
        if arguments.picture is not None:
            picture.draw(world.prometheus_url, world.started_at, time.time(), arguments.picture)
            say(f"wrote {arguments.picture}")
        if chosen is not None:
            return live.sum_up(console, say, chosen, world)
        return _sum_up(console, world, seen)
    except UsageError as error:
        console.print(f"[red]{error}[/]", soft_wrap=True)
        return 2
    except ClusterError as error:
        console.print(f"[red]{error}[/]", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    finally:
        if world is not None and arguments.keep:
            _leave(console, world)
        elif world is not None:
            world.cluster.down()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description="Inferscale at work on a local cluster.")
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument("--name", default="demo", help="name of the cluster (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, help=f"how long to watch ({LENGTH_S:g}); not with --scenario"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the dashboard's panels at the end")
    parser.add_argument(
        "--scenario", type=Path, metavar="FILE", help="show a scenario of `inferscale simulate` instead"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the scenario's")
    parser.add_argument(
        "--record",
        type=Path,
        metavar="FOLDER",
        help="for the decisions of the live run and of its simulation [build/demo/NAME]",
    )
    arguments = parser.parse_args()
    if arguments.scenario is None and (arguments.seed is not None or arguments.record is not None):
        parser.error("--seed and --record go with --scenario")
    if arguments.seed is not None and arguments.seed < 0:
        parser.error(f"--seed {arguments.seed}: must be 0 or more")
    if arguments.scenario is not None and arguments.seconds is not None:
        parser.error("--seconds does not go with --scenario, which has a duration")
    return arguments


def _sum_up(console: Console, world: World, seen: Iterable[watch.Seen]) -> int:
    measured = summary.Measured(world.prometheus_url, world.started_at, time.time())
    documents = [
        d for f in sorted((HERE / "resources").glob("*.yaml")) for d in yaml.safe_load_all(f.read_text())
    ]
    console.print()
    console.print(
        summary.cost_table(
            measured.accelerators(), _static(documents), {n: c for n, c, _ in _nodes(documents)}
        )
    )
    console.print()
    console.print(summary.attainment_table(measured.attainment(_objectives(documents))))
    console.print()
    promised = {
        "a scale-up, after its debounce": lambda e: e.reason == "ScaledUp",
        "a change of accelerator": lambda e: e.reason == "MoveCompleted",
        "priority at work when accelerators run out": lambda e: (
            e.service == "drafts" and "a higher priority needs" in e.message
        ),
        "a scale-down": lambda e: e.reason == "ScaledDown",
    }
    events = list(seen)
    missing = 0
    for what, is_it in promised.items():
        found = next((e for e in events if is_it(e)), None)
        missing += found is None
        when = f"{clock(found.at.timestamp() - world.started_at)} {found.service}" if found else "NOT SEEN"
        console.print(f"  {'[green]✓[/]' if found else '[red]✗[/]'} {what}: {when}")
    return 1 if missing else 0


def _nodes(documents: list[dict[str, Any]]) -> list[tuple[str, float, dict[str, str]]]:
    """Name, cost of an accelerator and labels of every node; a group of one node has the suffix -0."""
    groups = json.loads((HERE / "nodes.json").read_text())
    profiles = [d["spec"] for d in documents if d["kind"] == "AcceleratorProfile"]
    return [
        (f"{g['name']}-0", p["cost"], g["labels"])
        for g in groups
        for p in profiles
        if p["nodeSelector"].items() <= g["labels"].items()
    ]


def _static(documents: list[dict[str, Any]]) -> dict[str, int]:
    held: dict[str, int] = {}
    for deployment in (d for d in documents if d["kind"] == "Deployment"):
        selector = deployment["spec"]["template"]["spec"]["nodeSelector"]
        node = next(name for name, _, labels in _nodes(documents) if selector.items() <= labels.items())
        held[node] = held.get(node, 0) + deployment["spec"]["replicas"]
    return held


def _objectives(documents: list[dict[str, Any]]) -> dict[str, summary.Objective]:
    classes = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "ServiceClass"}
    found = {}
    for service in (d for d in documents if d["kind"] == "InferenceService"):
        spec = service["spec"]
        targets = next(m for m in classes[spec["serviceClass"]]["models"] if m["model"] == spec["model"])
        found[service["metadata"]["name"]] = summary.Objective(
            spec["serviceClass"], targets["itl"], targets["ttft"]
        )
    return found


def _leave(console: Console, world: World) -> None:
    kubectl = f"{world.cluster.tools['kubectl']} --kubeconfig={world.cluster.kubeconfig}"
    console.print("\nEverything goes on running. To look around:")
    for command in (
        f"{kubectl} get inferenceallocations -A -w",
        f"{kubectl} describe ifs -A",
        f"{kubectl} get deployments,pods -A -o wide",
        f"{kubectl} get accprof",
        f"tail -f {world.cluster.log_file('operator')}",
    ):
        console.print(f"  {command}", soft_wrap=True)
    console.print(f"  Prometheus: {world.prometheus_url}")
    console.print(f"  metrics of the operator: http://{world.operator_address}/metrics")
    console.print(f"To end it:\n  hack/cluster down --name {world.cluster.name}")


if __name__ == "__main__":
    sys.exit(main())
