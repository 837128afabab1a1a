"""The generated manifests and reference: they are up to date, and say so when they are not."""

import re
from pathlib import Path

import pytest

from inferscale_operator.api import INFERENCE_ALLOCATION, RESOURCES, Resource
from inferscale_operator.api.crds import drifted, files, main, manifest, write
from inferscale_operator.api.schema import structural_schema

ROOT = Path(__file__).parents[2]


def test_the_manifests_and_the_reference_in_the_repository_are_up_to_date() -> None:
    assert drifted(ROOT) == []


@pytest.mark.slow
def test_what_is_generated_is_up_to_date(tmp_path: Path) -> None:
    main(["--root", str(tmp_path)])
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")} == files().keys()
    main(["--root", str(tmp_path), "--check"])


def test_a_file_that_was_edited_is_named_with_the_command_to_run(tmp_path: Path) -> None:
    write(tmp_path)
    edited = tmp_path / "crds" / "inferscale.dev_serviceclasses.yaml"
    edited.write_text(edited.read_text().replace("maximum: 100", "maximum: 1000"))
    with pytest.raises(SystemExit) as failure:
        main(["--root", str(tmp_path), "--check"])
    assert "crds/inferscale.dev_serviceclasses.yaml" in str(failure.value)
    assert "python -m inferscale_operator.api.crds" in str(failure.value)
    assert "modelprofiles" not in str(failure.value)


@pytest.mark.slow
def test_a_file_that_is_missing_or_stale_is_named_and_set_right(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "docs" / "reference.md").unlink()
    (tmp_path / "crds" / "inferscale.dev_oldkinds.yaml").touch()
    assert drifted(tmp_path) == [Path("docs/reference.md"), Path("crds/inferscale.dev_oldkinds.yaml")]
    write(tmp_path)
    assert drifted(tmp_path) == []


def test_checking_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--root", str(tmp_path), "--check"])
    assert list(tmp_path.iterdir()) == []


def test_names_do_not_clash() -> None:
    names = [
        name for resource in RESOURCES for name in {resource.plural, resource.singular, *resource.short_names}
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_every_kind_has_a_status_a_category_and_an_age(resource: Resource) -> None:
    spec = manifest(resource)["spec"]
    (version,) = spec["versions"]
    assert spec["names"]["categories"] == ["inferscale"]
    assert version["subresources"] == {"status": {}}
    assert version["additionalPrinterColumns"][-1]["name"] == "Age"


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_every_column_shows_a_field_of_its_type(resource: Resource) -> None:
    for column in resource.columns:
        if column.path.startswith(".metadata"):
            continue
        _, part, *names = re.sub(r"\[[^]]*\]", "", column.path).split(".")
        field = structural_schema(resource.spec if part == "spec" else resource.status)
        for name in names:
            field = field.get("items", field)["properties"][name]
        assert column.type == {"date-time": "date"}.get(field.get("format", ""), field["type"])


def test_the_front_page_shows_what_a_service_was_given_and_why() -> None:
    shown = " ".join(column.name.upper() for column in INFERENCE_ALLOCATION.columns if not column.wide)
    assert (
        shown == "MODEL CLASS ACCELERATOR CURRENT DESIRED BATCH COST/H ITL OBS-ITL TTFT OBS-TTFT REASON AGE"
    )


def test_a_policy_needs_no_spec_and_gets_its_defaults() -> None:
    policy = manifest(next(resource for resource in RESOURCES if resource.only_name))
    schema = policy["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert "required" not in schema
    assert schema["properties"]["spec"]["default"]["tickSeconds"] == 30


def test_the_reference_names_every_field() -> None:
    text = files()[Path("docs/reference.md")]
    for line in (
        "| `spec.cost` | number | required | ≥ 0, ≤ 1000000 |",
        "| `spec.models[].percentile` | number |  | > 0, < 1 |",
        '| `spec.mode` | string | `"Recommend"` | `Recommend` `Approve` `Apply` `Paused` |',
        "| `spec.variants` | map by `accelerator` |  | 0 to 64 items |",
        "- `spec.models[]`: percentile is of ttft and ttw: give one of them, or drop it.",
        "| RUNNER-UP (`-o wide`) | `.status.runnerUp` |",
    ):
        assert line in text
