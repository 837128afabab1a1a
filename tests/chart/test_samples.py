"""deploy/samples, on a real API server and decided."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import yaml

import installation
from inferscale_operator.api.inference_service import Mode
from inferscale_operator.decide import decide
from inferscale_operator.kube.stores import Stores
from inferscale_operator.observe import observe
from localcluster import Cluster

SAMPLES = installation.DEPLOY / "samples"
FILES = sorted(SAMPLES.rglob("*.yaml"))


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[str]:
    """A namespace, with the custom resources installed."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={installation.ROOT / 'crds'}")
    cluster.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=30s")
    name = f"samples-{uuid.uuid4().hex[:6]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(SAMPLES)))
def test_a_sample_is_taken_by_the_api_server(cluster: Cluster, place: str, file: object) -> None:
    told = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", f"-n={place}", f"-f={file}")
    assert "(server dry run)" in told.stdout


def test_the_first_service_is_decided_and_nothing_is_patched() -> None:
    stores = Stores()
    for number, file in enumerate(FILES):
        for item in yaml.safe_load_all(file.read_text()):
            kind = next(kind for kind in stores.by_kind if kind.name == item["kind"])
            if kind.namespaced:
                item["metadata"]["namespace"] = "chat"
            item["metadata"] |= {"uid": f"{item['kind']}-{number}", "resourceVersion": "1", "generation": 1}
            stores.by_kind[kind].apply("ADDED", json.loads(json.dumps(item)))
    snapshot = observe(stores.copy({}), datetime.now(UTC), None)
    (plan,) = decide(snapshot).services
    assert plan.patch is None
    assert plan.allocation.mode == Mode.RECOMMEND
    ready = [c for status in decide(snapshot).statuses for c in status.status.conditions]
    assert {c.reason for c in ready if c.type == "Ready"} <= {"Valid", "InForce", "ModelNotFound"}
    (service,) = snapshot.services
    assert service.deployment is not None
    assert plan.allocation.allocations[0].current_accelerator == "nvidia-h100-sxm"
