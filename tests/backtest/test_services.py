from __future__ import annotations

from pathlib import Path

import pytest

from backtest_builders import SPAN, described, profile, service
from builders import deployment, node, pod_spec, policy, world
from builders import service as in_cluster
from inferscale_operator.api.inference_service import Mode
from inferscale_operator.backtest.services import services_of
from inferscale_operator.backtest.trial import make_trial, run
from inferscale_operator.errors import UsageError
from inferscale_operator.snapshot import PodState
from inferscale_operator.twin.scenario import NodePool
from inferscale_operator.twin.simulation import ServerMode, parse_policy


def pools(*services: object, **fields: object) -> list[tuple[str, int, int]]:
    """Type, nodes and units of each."""
    snapshot = world(*(services or (in_cluster(),)), **fields)  # type: ignore[arg-type]
    nodes: tuple[NodePool, ...] = services_of(snapshot).setting.scenario.nodes
    return [(pool.type, pool.count, pool.units) for pool in nodes]


def test_the_product_may_act_in_a_backtest_whatever_its_mode_is_now(tmp_path: Path) -> None:
    given = described(tmp_path, service(spec={"mode": "Paused", "metrics": {"preset": "sglang"}}))
    [found] = given.setting.services
    assert (found.spec.mode, found.resource.spec) == (Mode.APPLY, found.spec)
    assert given.preset == {"default/chat": "sglang"}
    assert [preset.name for preset in given.presets] == ["sglang"]


def test_simulated_servers_are_read_as_such_whatever_the_real_ones_are(tmp_path: Path) -> None:
    metrics = {"podLabel": "instance", "matchers": {"cluster": "east"}, "windowSeconds": 60}
    given = described(tmp_path, service(spec={"metrics": {"preset": "tgi"}}), policy={"metrics": metrics})
    assert given.metrics.pod_label == "instance"
    assert given.setting.policy.metrics.pod_label == "pod"
    assert given.setting.policy.metrics.window_seconds == 60
    assert given.setting.services[0].spec.metrics.preset == "vllm"


def test_a_scenario_is_taken_as_it_is_and_its_load_is_not_used(tmp_path: Path) -> None:
    scenario = service(
        load={"rate": 5000, "cov": 3}, tokens={"input": 1, "output": 9, "distribution": "deterministic"}
    )
    given = described(tmp_path, scenario, duration=60)
    made = make_trial(given.setting, {"default/chat": profile(300.0)}, SPAN)
    [found] = made.setting.scenario.services
    assert [point.rate for point in found.load.points or ()] == [300]
    assert found.load.cov == 3
    assert found.tokens is not None
    assert found.tokens.distribution == "deterministic"


def test_services_of_a_cluster_are_those_that_the_operator_could_decide() -> None:
    found = services_of(world(in_cluster("llama"), in_cluster("other", model="gpt")))
    assert list(found.preset) == ["prod/llama"]
    assert found.model == {"prod/llama": "llama"}
    assert found.setting.services[0].scenario.initial.accelerator == "h100"
    assert found.left_out == (
        "prod/other: ModelNotFound: spec.model: 'gpt' is not a ModelProfile: create it, or name one of llama",
    )


def test_a_cluster_without_a_service_to_test_is_told() -> None:
    with pytest.raises(UsageError, match="no InferenceService to test: create one, or give --services FILE"):
        services_of(world())
    with pytest.raises(UsageError, match="no InferenceService to test: prod/llama: ModelNotFound"):
        services_of(world(in_cluster(model="gpt")))


def test_the_nodes_are_those_of_the_cluster() -> None:
    nodes = (node("a", "H100"), node("b", "H100"), node("c", "H100", 4), node("d", "A100", usable=False))
    assert pools(nodes=nodes) == [("A100", 0, 1), ("H100", 1, 4), ("H100", 2, 8)]


def test_what_others_hold_is_not_there_for_services() -> None:
    others = PodState("x", "x-1", None, "node-h", {"nvidia.com/gpu": 3}, ready=True, terminating=False)
    mine = PodState(
        "prod", "llama-1-0", "llama", "node-h", {"nvidia.com/gpu": 1}, ready=True, terminating=False
    )
    assert pools(pods=(mine, others)) == [("A100", 1, 8), ("H100", 1, 5)]


def test_without_limits_there_are_no_nodes() -> None:
    assert pools(policy=policy(accelerators="Unlimited")) == []


@pytest.mark.slow
def test_services_of_a_cluster_run_in_the_twin() -> None:
    on = deployment("llama", 4, pod_spec=pod_spec("A100"))
    found = services_of(world(in_cluster(mode="Recommend", on=on)))
    made = make_trial(found.setting, {"prod/llama": profile(60.0, replicas=4)}, SPAN)
    history, product = run(made, [parse_policy("inferscale")], 1, ServerMode.MEAN_VALUE, lambda _: None)
    assert history.replicas[0] == ((0.0, 4, "a100"),)
    assert product.ledger.cost.sum() < history.ledger.cost.sum()
