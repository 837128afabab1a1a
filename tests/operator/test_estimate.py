import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferscale_operator.api.model_profile import PerformanceSchema
from inferscale_operator.cli import main

Run = Callable[..., tuple[str, str, int]]


def accelerator(
    name: str, mem_size: float | None, mem_bw: float | None, multiplicity: int = 1
) -> dict[str, Any]:
    """An AcceleratorProfile as in a file."""
    memory = {} if mem_size is None else {"memSize": mem_size, "memBW": mem_bw}
    return {
        "kind": "AcceleratorProfile",
        "metadata": {"name": name},
        "spec": {
            "type": name.upper(),
            "multiplicity": multiplicity,
            "cost": 1,
            "resourceName": "nvidia.com/gpu",
            "nodeSelector": {"gpu": name},
            **memory,
        },
    }


def model(name: str, *accelerators: str, acc_count: int = 1) -> dict[str, Any]:
    """A ModelProfile with the same row for every accelerator."""
    row = {"alpha": 20.58, "beta": 0.41, "gamma": 5.2, "delta": 0.1, "maxBatchSize": 32, "atTokens": 512}
    profiles = [{"accelerator": each, "accCount": acc_count, **row} for each in accelerators]
    spec = {"modelName": name, "profiles": profiles}
    return {"kind": "ModelProfile", "metadata": {"name": name}, "spec": spec}


A100 = accelerator("a100", 80, 2000)
H100 = accelerator("h100", 80, 3350)
L40S = accelerator("l40s", 48, 864)
TWO = accelerator("2xa100", 160, 4000, 2)
BARE = accelerator("bare", None, None)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Output, messages and exit status of an estimate from objects in one file."""

    def estimate(objects: list[dict[str, Any]] | str, *options: str) -> tuple[str, str, int]:
        file = tmp_path / "objects.yaml"
        file.write_text(objects if isinstance(objects, str) else yaml.safe_dump_all(objects))
        with pytest.raises(SystemExit) as exited:
            main(["estimate", str(file), *options])
        out, err = capsys.readouterr()
        return out, err, int(exited.value.code or 0)

    return estimate


def test_every_accelerator_without_a_row_gets_one_marked_as_an_estimate(run: Run) -> None:
    out, _, status = run([model("granite", "a100"), A100, H100, L40S, TWO, BARE, {"kind": "Other"}])
    assert status == 0
    rows = [PerformanceSchema.model_validate(row) for row in yaml.safe_load(out)]
    assert [row.accelerator for row in rows] == ["2xa100", "h100", "l40s"]
    assert [row.alpha for row in rows] == pytest.approx([14.6, 12.25, 47.86], rel=0.03)
    assert [row.max_batch_size for row in rows] == [64, 32, 19]
    assert out.count("# Estimate for granite, scaled from a100: measure before you rely on it.") == 3


def test_as_many_are_taken_as_hold_the_memory_of_the_measured_replica(run: Run) -> None:
    out, _, _ = run([model("big", "a100", acc_count=3), A100, L40S, TWO])
    counts = {row["accelerator"]: row["accCount"] for row in yaml.safe_load(out)}
    assert counts == {"l40s": 5, "2xa100": 2}


def test_the_measured_accelerator_most_alike_is_scaled_unless_one_is_chosen(run: Run) -> None:
    objects = [model("granite", "l40s", "a100"), A100, L40S, H100]
    out, _, _ = run(objects, "-o", "json")
    assert [row["estimatedFrom"] for row in json.loads(out)] == ["a100"]
    out, _, _ = run(objects, "-o", "json", "--from", "l40s", "--to", "h100")
    assert [row["estimatedFrom"] for row in json.loads(out)] == ["l40s"]


def test_of_several_models_one_is_chosen(run: Run) -> None:
    objects = [model("one", "a100"), model("two", "h100"), A100, H100]
    assert yaml.safe_load(run(objects, "--model", "two")[0])[0]["accelerator"] == "a100"
    _, err, status = run(objects)
    assert status == 2
    assert "--model is missing: the ModelProfiles in the files are one, two; choose one" in err


def test_nothing_to_estimate_is_said(run: Run) -> None:
    out, err, status = run([model("one", "a100"), A100])
    assert (out, status) == ("", 0)
    assert "Nothing to estimate: one has a row for every AcceleratorProfile" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "x"), "--model x: the ModelProfiles in the files are one"),
        (("--from", "h100"), "--from h100: one was not measured there; use one of a100"),
        (("--to", "a100"), "--to a100: one has a row for it; measurements are not replaced"),
        (("--to", "bare"), "AcceleratorProfile bare: memSize and memBW are needed; state both"),
        (("--to", "tpu"), "tpu: no such AcceleratorProfile in the files; there are a100, h100"),
    ],
)
def test_wrong_choices_are_told(run: Run, options: tuple[str, ...], message: str) -> None:
    _, err, status = run([model("one", "a100"), A100, H100, BARE], *options)
    assert status == 2
    assert message in err


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([A100], "--model is missing: the ModelProfiles in the files are none"),
        (
            [model("one", "bare"), BARE, H100],
            "one was measured on bare: none of them is an AcceleratorProfile",
        ),
        ([model("one"), A100], "ModelProfile one: spec.profiles: "),
        ("a: [", "objects.yaml is not YAML"),
    ],
)
def test_files_that_are_of_no_use_are_told(run: Run, objects: Any, message: str) -> None:
    _, err, status = run(objects)
    assert status == 2
    assert message in err
