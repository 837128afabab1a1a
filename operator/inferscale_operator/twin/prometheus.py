"""The simulated Prometheus: the operator's queries over the samples of pods and of the gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from inferscale_operator.api.metric_preset import MetricPreset
from inferscale_operator.api.optimizer_policy import MetricsSettings
from inferscale_operator.metrics.queries import GATEWAY_QUERIES, Answer, Answers, queries
from inferscale_operator.twin.promql import compile_query
from inferscale_operator.twin.resources import Setting
from inferscale_operator.twin.samples import Samples
from inferscale_operator.twin.scenario import MetricOutage
from inferscale_queueing.frozen import frozen


@frozen
class SimulatedPrometheus:
    """Answers the operator's queries from simulated samples, unless it is out of order."""

    setting: Setting
    pods: Samples
    gateway: Samples

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
            return {each.name: answers(each, settings, self.pods, self.gateway, time) for each in presets}
        return {
            each.name: {
                query: Answer(error=f"Prometheus: query of {query.value}: connection refused")
                for query in queries(each, settings)
            }
            for each in presets
        }


def answers(
    preset: MetricPreset, settings: MetricsSettings, pods: Samples, gateway: Samples, time: float
) -> Answers:
    """The answers to every query of a preset.

    Args:
        preset: The preset.
        settings: With which they are asked.
        pods: Samples by namespace and pod.
        gateway: Samples by namespace and model.
        time: Unix seconds.
    """
    result = {}
    for query, question in queries(preset, settings).items():
        samples = gateway if query in GATEWAY_QUERIES else pods
        value = np.asarray(compile_query(question.expression)(samples, time))
        found = np.flatnonzero(np.isfinite(value))
        keys = map(samples.keys.__getitem__, found.tolist())
        result[query] = Answer(dict(zip(keys, value[found].tolist(), strict=True)))
    return result
