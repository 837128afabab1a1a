"""What tests of the Helm chart share."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

CHART = Path(__file__).parents[1] / "charts" / "inferscale"
SYSTEM = "inferscale-system"
ADDRESS = "prometheus.url=http://prometheus.monitoring:9090"

Helm = Callable[..., CompletedProcess[str]]
Render = Callable[..., list[dict[str, Any]]]


def sets(*values: str) -> list[str]:
    """Options of Helm for values: `name=text`, or `name:=json`."""
    options = []
    for value in values:
        name, separator, text = value.partition(":=")
        options += ["--set-json", f"{name}={text}"] if separator else ["--set", value]
    return options


def named(objects: list[dict[str, Any]], kind: str, suffix: str = "") -> dict[str, Any]:
    """The one object of a kind whose name ends so."""
    (found,) = (
        item for item in objects if item["kind"] == kind and item["metadata"]["name"].endswith(suffix)
    )
    return found
