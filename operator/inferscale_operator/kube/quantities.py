"""Extended resources: what nodes offer and what pods hold of them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

Raw = Mapping[str, Any]

BINARY = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}
DECIMAL = {"k": 1000, "M": 1000**2, "G": 1000**3}


def pod_requests(spec: Raw) -> dict[str, int]:
    """Extended resources that a pod holds, as the scheduler counts them.

    The sum over containers and sidecars (init containers that restart), or what an init container needs
    beside the sidecars that started before it, whichever is more.
    """
    total: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers", ()):
        wanted = _requests(container)
        if container.get("restartPolicy") == "Always":
            _add(total, wanted)
        else:
            for name, amount in wanted.items():
                peak[name] = max(peak.get(name, 0), amount + total.get(name, 0))
    for container in spec.get("containers", ()):
        _add(total, _requests(container))
    return {
        name: amount
        for name in sorted({*total, *peak})
        if (amount := max(total.get(name, 0), peak.get(name, 0))) > 0
    }


def _requests(container: Raw) -> dict[str, int]:
    resources = container.get("resources") or {}
    return extended({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def extended(amounts: Mapping[str, Any]) -> dict[str, int]:
    """Extended resources only: a domain that is not Kubernetes' own."""
    return {
        name: _quantity(amount)
        for name, amount in sorted(amounts.items())
        if "/" in name and not name.split("/")[0].endswith("kubernetes.io")
    }


def _quantity(amount: Any) -> int:
    """An extended resource's amount: always whole, seldom with a suffix."""
    text = str(amount)
    for suffix, factor in (*BINARY.items(), *DECIMAL.items()):
        if text.endswith(suffix):
            return int(Decimal(text.removesuffix(suffix)) * factor)
    return int(Decimal(text))


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount
