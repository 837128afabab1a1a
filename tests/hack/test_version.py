"""The version is in pyproject.toml; whatever else names it agrees."""

import shutil
from pathlib import Path

import pytest

import version

FILES = (*version._NAMED, "pyproject.toml", "CHANGELOG.md")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(version.ROOT / name, tmp_path / name)
    return tmp_path


def test_all_agree() -> None:
    assert list(version.disagreements()) == []


@pytest.mark.parametrize("name", FILES)
def test_another_version_anywhere_is_found(project: Path, name: str) -> None:
    here = project / name
    here.write_text(here.read_text().replace(version.current(), "7.8.9"))
    found = "\n".join(version.disagreements(project))
    assert "7.8.9" in found
    assert name in found


def test_a_place_that_names_none_is_found(project: Path) -> None:
    (project / "docs" / "install.md").write_text("# Install\n")
    assert list(version.disagreements(project)) == [
        f"docs/install.md: names no version; pyproject.toml has {version.current()}"
    ]
