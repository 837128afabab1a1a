"""The simulated Prometheus: the operator's queries over the samples of pods and of the gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

import numpy as np

from inferscale_operator.api.metric_preset import MetricPreset
from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics.queries import GATEWAY_QUERIES, Answer, Answers, Query, queries
from inferscale_operator.twin.promql import Evaluate, compile_query
from inferscale_operator.twin.resources import Setting
from inferscale_operator.twin.samples import Samples
from inferscale_operator.twin.scenario import MetricOutage
from inferscale_queueing.frozen import frozen


@frozen(eq=False)
class SimulatedPrometheus:
    """Answers the operator's queries from simulated samples, unless it is out of order."""

    setting: Setting
    pods: Samples
    gateway: Samples
    _asked: dict[str, tuple[object, Mapping[Query, Evaluate]]] = field(default_factory=dict)
    """By name of the preset, preset and settings that were asked with last, and what that asks."""

    def ask(
        self, settings: MetricsSettings, presets: Sequence[MetricPreset], time: float
    ) -> Mapping[str, Answers]:
        """Ask every query of some presets as of `time` (Unix seconds)."""
        at_s = time - self.setting.start.timestamp()
        failing = any(
            isinstance(each, MetricOutage) and not each.scrapes and each.at <= at_s < each.until
            for each in self.setting.scenario.disturbances
        )
        if not failing:
            return {
                each.name: answers(self._compiled(each, settings), self.pods, self.gateway, time)
                for each in presets
            }
        return {
            each.name: {
                query: Answer(error=f"Prometheus: query of {query.value}: connection refused")
                for query in self._compiled(each, settings)
            }
            for each in presets
        }

    def _compiled(self, preset: MetricPreset, settings: MetricsSettings) -> Mapping[Query, Evaluate]:
        asked, found = self._asked.get(preset.name, (None, {}))
        if asked != (preset, settings):
            found = compiled(preset, settings)
            self._asked[preset.name] = (preset, settings), found
        return found


def compiled(preset: MetricPreset, settings: MetricsSettings) -> dict[Query, Evaluate]:
    """Every query of a preset."""
    asked = queries(preset, settings).items()
    return {query: compile_query(question.expression) for query, question in asked}


def answers(asked: Mapping[Query, Evaluate], pods: Samples, gateway: Samples, time: float) -> Answers:
    """The answers to queries.

    Args:
        asked: The queries.
        pods: Samples by namespace and pod.
        gateway: Samples by namespace and model.
        time: Unix seconds.
    """
    result = {}
    for query, evaluate in asked.items():
        samples = gateway if query in GATEWAY_QUERIES else pods
        value = np.asarray(evaluate(samples, time))
        found = np.flatnonzero(np.isfinite(value))
        keys = map(samples.keys.__getitem__, found.tolist())
        result[query] = Answer(dict(zip(keys, value[found].tolist(), strict=True)))
    return result
