"""The bill of materials has what the lock file pins; known weaknesses fail; what cannot be asked is said."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

import audit

LOCK = audit.LOCK.read_text()


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(audit, "SBOM", tmp_path / "build" / "sbom.json")


def answering(monkeypatch: pytest.MonkeyPatch, dependencies: list[dict[str, Any]] | None) -> None:
    """Data that can be reached, and pip-audit with an answer, or none."""
    text = "" if dependencies is None else json.dumps({"dependencies": dependencies})
    monkeypatch.setattr(audit, "unreachable", lambda: "")
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, text, "went wrong\n")
    )


def test_it_has_every_distribution_of_the_lock_file_with_its_hashes() -> None:
    document = json.loads(audit.sbom(LOCK))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    pinned = dict(line.split(" ")[0].split("==") for line in LOCK.splitlines() if "==" in line.split(" ")[0])
    assert {one["name"]: one["version"] for one in document["components"]} == pinned
    assert sum(len(one["hashes"]) for one in document["components"]) == LOCK.count("--hash=sha256:")
    assert document["metadata"]["component"]["name"] == "inferscale"


def test_it_is_the_same_every_time() -> None:
    assert audit.sbom(LOCK) == audit.sbom(LOCK)


def test_a_known_weakness_fails_with_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weakness = {"id": "PYSEC-2026-1", "fix_versions": ["3.0"]}
    answering(monkeypatch, [{"name": "aiohttp", "version": "2.0", "vulns": [weakness]}])
    assert audit.main() == 1
    assert capsys.readouterr().err == "aiohttp 2.0: PYSEC-2026-1, mended in 3.0\n"


def test_none_is_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answering(monkeypatch, [{"name": "aiohttp", "version": "2.0", "vulns": []}])
    assert audit.main() == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("dependencies", "reason"),
    [
        ([{"name": "a", "skip_reason": "not found: a"}], "1 of 1 were not audited: not found: a"),
        (None, "went wrong"),
    ],
)
def test_what_was_not_looked_for_is_said(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dependencies: list[dict[str, Any]] | None,
    reason: str,
) -> None:
    answering(monkeypatch, dependencies)
    assert audit.main() == 0
    assert capsys.readouterr().out == f"known weaknesses were not looked for: {reason}\n"


def test_without_a_network_it_writes_the_bill_and_says_why_it_looked_no_further(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "get", refuse)
    assert audit.main() == 0
    assert json.loads(audit.SBOM.read_text())["components"]
    assert "ConnectionError" in capsys.readouterr().out
