"""The digital twin's Deployment with pods that become ready after a while, for tests of moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from builders import NAMESPACE, pod_spec
from inferscale_operator.plan import DeploymentPatch
from inferscale_operator.snapshot import DeploymentState
from inferscale_operator.twin.deployment import STRATEGY, Deployment

START_S = 20


class ModelDeployment(Deployment):
    """A settled Deployment. `runs` tells how many pods of a template can run."""

    def __init__(
        self,
        replicas: int,
        runs: Callable[[Mapping[str, Any]], int] = lambda _: 1000,
        template: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(NAMESPACE, "llama", replicas, template or pod_spec(), STRATEGY)
        self.runs = runs
        self.now_s = 0.0
        for _ in range(3):
            self.step(START_S)

    def state(self) -> DeploymentState:
        self._start()
        return super().state()

    def apply(self, patch: DeploymentPatch) -> None:
        self.patch(patch.body)

    def step(self, seconds: int = 5) -> None:
        """Time passes, and the controllers do what they do then."""
        self.now_s += seconds
        self._start()
        self.sync(self.now_s)
        self._start()

    def ready_on(self, label: str) -> int:
        """Ready pods whose node selector has the label."""
        return sum(s.ready for s in self.sets if s.template["nodeSelector"]["gpu"] == label)

    def _start(self) -> None:
        for each in self.sets:
            for number, pod in enumerate(each.pods):
                runs = number < self.runs(each.template)
                pod.node = "node" if runs else None
                started = runs and self.now_s - pod.created_s >= START_S
                pod.ready_s = pod.created_s + START_S if started else None
