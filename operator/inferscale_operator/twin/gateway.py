"""The gateway in front of the services: what it exports of the requests that it let through or holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from inferscale_operator.metrics.presets import has_gateway, presets
from inferscale_operator.twin.resources import Setting
from inferscale_operator.twin.samples import SampleKey, Samples

PASSED, HELD = range(2)
COLUMNS = ("llm_d_epp_request_total", "llm_d_epp_flow_control_queue_size")
"""Series of a model in a namespace, under the names of llm-d's endpoint picker."""


class Servers(Protocol):
    """The servers behind the gateway."""

    def passed(self, service: int) -> float:
        """Requests of a service that pods were given so far."""

    def held(self, service: int) -> float:
        """Requests of a service that wait for a pod."""


class Gateway:
    """The gateway of all services whose metric preset has one. It holds requests while no pod is ready.

    Attributes:
        samples: What was scraped of it, by namespace and model.

    Args:
        setting: The scenario.
        retention_s: How long samples are kept.
    """

    def __init__(self, setting: Setting, retention_s: float) -> None:
        self.samples = Samples(COLUMNS, retention_s, setting.start.timestamp())
        self._services = _by_model(setting)
        self._slots = [self.samples.add(key) for key in self._services]

    def scrape(self, now_s: float, servers: Servers) -> None:
        """Record what it exports."""
        rows = np.zeros((len(self._slots), len(COLUMNS)))
        for row, numbers in zip(rows, self._services.values(), strict=True):
            row[PASSED] = sum(servers.passed(number) for number in numbers)
            row[HELD] = sum(servers.held(number) for number in numbers)
        self.samples.record(now_s, self._slots, rows)


def _by_model(setting: Setting) -> Mapping[SampleKey, list[int]]:
    """The services behind a gateway by namespace and the name that it knows their model by."""
    known = presets(setting.policy.metrics)
    models = {each.name: each.spec.model_name for each in setting.resources["ModelProfile"] if each.spec}
    found: dict[SampleKey, list[int]] = {}
    for number, service in enumerate(setting.services):
        preset = known.get(service.spec.metrics.preset)
        if preset is not None and has_gateway(preset):
            key = (service.resource.namespace or "", models[service.spec.model])
            found.setdefault(key, []).append(number)
    return found
