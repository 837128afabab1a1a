"""The bill of materials of what is shipped, and whether known weaknesses are in it.

`python hack/audit.py` writes build/sbom.json (CycloneDX 1.6) from deploy/requirements.lock, which is what the
image installs, and asks for known weaknesses of it. Where their data cannot be reached it says so.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import requests
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

import version

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "deploy" / "requirements.lock"
SBOM = ROOT / "build" / "sbom.json"
SERVICE = "https://pypi.org/pypi/pip/25.0/json"
"""A page like those that pip-audit reads."""
REACH_S = 5.0
AUDIT_S = 120.0
_PINNED = re.compile(r"^(?P<name>[a-z0-9._-]+)==(?P<version>[^ ;\\]+)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def components(lock: str) -> Iterator[Component]:
    """The distributions that a lock file pins, each with the hashes of its files."""
    found = list(_PINNED.finditer(lock))
    for pin, following in zip(found, [*found[1:], None], strict=True):
        entry = lock[pin.start() : following.start() if following else None]
        url = PackageURL("pypi", None, pin["name"], pin["version"])
        yield Component(
            name=pin["name"],
            version=pin["version"],
            purl=url,
            bom_ref=url.to_string(),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in _HASH.findall(entry)],
        )


def sbom(lock: str) -> str:
    """The bill of materials, the same bytes for the same lock file."""
    bom = Bom(components=components(lock), serial_number=uuid.uuid5(uuid.NAMESPACE_URL, lock))
    bom.metadata.component = Component(
        name="inferscale",
        version=version.current(),
        type=ComponentType.APPLICATION,
        bom_ref="inferscale",
        licenses=[DisjunctiveLicense(id="Apache-2.0")],
    )
    bom.register_dependency(bom.metadata.component, bom.components)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"]
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def unreachable() -> str:
    """Why the data of weaknesses cannot be had; empty: it can."""
    try:
        answer = requests.get(SERVICE, timeout=REACH_S)
    except requests.RequestException as error:
        return f"{SERVICE}: {type(error).__name__}"
    return "" if answer.ok else f"{SERVICE}: HTTP status {answer.status_code}"


def weaknesses() -> list[str]:
    """Known weaknesses of what the lock file pins, a line each.

    Raises:
        RuntimeError: They could not be asked for.
    """
    command = [
        *(sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner=off"),
        *("--format=json", f"--requirement={LOCK}"),
    ]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=AUDIT_S)
        found = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no answer within {AUDIT_S:.0f} s") from error
    except ValueError as error:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no answer"])[-1]) from error
    if skipped := [one["skip_reason"] for one in found if "skip_reason" in one]:
        raise RuntimeError(f"{len(skipped)} of {len(found)} were not audited: {skipped[0]}")
    return [
        f"{one['name']} {one['version']}: {weakness['id']}, mended in"
        f" {', '.join(weakness['fix_versions']) or 'no version yet'}"
        for one in found
        for weakness in one.get("vulns", ())
    ]


def main() -> int:
    """Write the bill, ask; 1 if there are known weaknesses."""
    SBOM.parent.mkdir(parents=True, exist_ok=True)
    SBOM.write_text(sbom(LOCK.read_text(encoding="utf-8")), encoding="utf-8")
    reason = unreachable()
    found = []
    if not reason:
        try:
            found = weaknesses()
        except RuntimeError as error:
            reason = str(error)
    if reason:
        print(f"known weaknesses were not looked for: {reason}")
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
