"""Generated files of the Helm chart: its custom resource definitions, version, README and the dashboard.

`python hack/chartfiles.py` writes them, with `--check` it fails if a file is not up to date.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import version
from dashboard import grafana

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "inferscale"
COMMAND = "python hack/chartfiles.py"
KEEP = "helm.sh/resource-policy"
_README = """\
<!-- Generated from Chart.yaml and values.yaml by `{command}`; do not edit. -->
# Helm chart of Inferscale

{description}

<!-- syntax only: docs/install.md runs it -->
```console
helm install inferscale charts/inferscale -n inferscale-system --create-namespace \\
  --set prometheus.url=http://prometheus-operated.monitoring:9090
```

Kubernetes {kubernetes}; Helm 3 or 4. The chart renders no object of Inferscale's own kinds: without an
OptimizerPolicy the defaults hold. Custom resource definitions are upgraded with the release; they stay when
it is uninstalled.

A value that the chart does not know is refused, with its name.

| value | default | |
|---|---|---|
{rows}
"""


def files() -> dict[Path, str]:
    """Content of every generated file, by its path."""
    return dict(
        (
            *_definitions(),
            (CHART / "Chart.yaml", _chart()),
            (CHART / "README.md", _readme()),
            (CHART / "files" / "dashboard.json", grafana.text()),
        )
    )


def _definitions() -> Iterator[tuple[Path, str]]:
    for source in sorted((ROOT / "crds").glob("*.yaml")):
        text = source.read_text(encoding="utf-8")
        if "{{" in text:
            raise SystemExit(f"{source.name} has {{{{ in it, which Helm would read as a template")
        annotated = re.sub(
            r"(?m)^metadata:\n", f"metadata:\n  annotations:\n    {KEEP}: keep\n", text, count=1
        )
        content = f"{{{{- if .Values.crds.install }}}}\n{annotated}{{{{- end }}}}\n"
        yield CHART / "templates" / "crds" / source.name, content


def _chart() -> str:
    text = (CHART / "Chart.yaml").read_text(encoding="utf-8")
    return re.sub(r"(?m)^(version|appVersion): .*$", rf"\1: {version.current()}", text)


def _readme() -> str:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    rows = [f"| `{path}` | {_shown(default)} | {about} |" for path, default, about in _values(text)]
    return _README.format(
        command=COMMAND,
        description=chart["description"],
        kubernetes=chart["kubeVersion"].removesuffix("-0").replace(">=", "") + " or newer",
        rows="\n".join(rows),
    )


def _values(text: str) -> Iterator[tuple[str, Any, str]]:
    """Path, default and description of every value with a comment that begins with `# --`.

    Raises:
        SystemExit: A value has no such comment, neither itself nor above.
    """
    defaults = yaml.safe_load(text)
    path: list[tuple[int, str]] = []
    about: list[str] = []
    documented: set[str] = set()
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# --"):
            about = [stripped.removeprefix("# --").strip()]
        elif stripped.startswith("#"):
            about += [stripped.removeprefix("#").strip()] if about else []
        elif match := re.match(r"^( *)([A-Za-z][\w.-]*):", line):
            indent = len(match[1])
            path = [(depth, key) for depth, key in path if depth < indent] + [(indent, match[2])]
            name = ".".join(key for _, key in path)
            if about:
                documented.add(name)
                yield name, _lookup(defaults, name), " ".join(about)
            about = []
    missing = [name for name in _leaves(defaults) if not any(_within(name, known) for known in documented)]
    if missing:
        raise SystemExit(f"values without a comment that begins with `# --`: {', '.join(missing)}")


def _lookup(values: Any, name: str) -> Any:
    for key in name.split("."):
        values = values[key]
    return values


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _within(name: str, known: str) -> bool:
    return name == known or name.startswith(f"{known}.")


def _shown(default: Any) -> str:
    return f"`{json.dumps(default)}`" if default not in ("", None) else ""


def main() -> None:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a file differs")
    options = parser.parse_args()
    expected = files()
    stale = [path for path in (CHART / "templates" / "crds").glob("*.yaml") if path not in expected]
    differing = [
        path for path, content in expected.items() if not path.exists() or path.read_text("utf-8") != content
    ]
    if not options.check:
        for path in stale:
            path.unlink()
        for path in differing:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(expected[path], encoding="utf-8")
    elif differing or stale:
        names = "\n".join(f"  {path.relative_to(ROOT)}" for path in (*differing, *stale))
        raise SystemExit(f"not up to date, run `{COMMAND}`:\n{names}")
    if wrong := list(version.disagreements()):
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
