"""The policies on the hard loads: the table of `docs/comparison.md`.

python hack/tools/hardloads.py            # prints the table
python hack/tools/hardloads.py --write    # puts it into the page
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from inferscale_operator.twin.resources import read_scenario
from inferscale_operator.twin.simulation import ServerMode, parse_policy, simulate
from inferscale_operator.twin.summary import summary

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "examples" / "scenarios" / "hard"
PAGE = ROOT / "docs" / "comparison.md"
BEGIN, END = "<!-- table -->", "<!-- end of the table -->"
KEPT = 0.9
"""Share of one-minute windows within the objectives from which a service counts as kept."""
JUDGED = {"starvation": ("default/chat",)}
"""Services that the capacity suffices for, where it does not for all."""
ORDER = (
    "steps",
    "spikes",
    "bursts",
    "waves",
    "lengths",
    "starvation",
    "capacity-lost",
    "cold-start",
    "outage",
    "failing-start",
)
SETTINGS = {
    "inferscale": ("inferscale", *(f"inferscale:loadHeadroom={room}" for room in (0.25, 0.5, 1.0, 1.5))),
    "static": ("static",),
    "hpa-running": tuple(f"hpa-running:target={target}" for target in (18, 12, 9, 6)),
    "hpa-queue": tuple(f"hpa-queue:target={target}" for target in (5, 3, 1)),
    "hpa-kv": tuple(f"hpa-kv:target={target}" for target in (0.6, 0.45, 0.3)),
    "keda": tuple(f"keda:target={target}" for target in (18, 12, 9, 6)),
    "clairvoyant": ("clairvoyant",),
}
"""Settings that each policy is tried with on each load, from the one with the least room; a next one only
where those before did not keep the objectives, as more room costs more."""


@dataclass(frozen=True)
class Row:
    """What came of one policy on one load."""

    load: str
    policy: str
    windows: float
    """The least share of windows within the objectives among the services that are judged."""
    requests: float
    """The same of requests."""
    cost: float
    changes: int
    moves: int

    @property
    def kept(self) -> bool:
        """Whether the objectives were kept."""
        return self.windows >= KEPT


def measure(load: str, policy: str) -> Row:
    """Simulate one load under one policy."""
    setting = read_scenario(FOLDER / f"{load}.yaml")
    outcome = simulate(setting, parse_policy(policy), mode=ServerMode.EVENTS)
    found = summary(setting, [outcome], setting.scenario.seed, ServerMode.EVENTS)["policies"][0]
    judged = [s for s in found["services"] if s["service"] in JUDGED.get(load, (s["service"],))]
    return Row(
        load,
        policy,
        min(s["sloWindows"] for s in judged),
        min(s["sloRequests"] for s in judged),
        found["total"]["cost"],
        found["total"]["replicaChanges"],
        found["total"]["acceleratorChanges"],
    )


def search(case: tuple[str, str, dict[str, Row]]) -> list[Row]:
    """Try the settings of a policy on a load until one keeps the objectives; some may be known."""
    load, name, known = case
    rows = []
    for policy in SETTINGS[name]:
        rows.append(known.get(policy) or measure(load, policy))
        if rows[-1].kept:
            break
    return rows


def best(rows: Sequence[Row], name: str) -> Row:
    """The first setting that kept the objectives; where none did, the one that kept them longest."""
    tried = sorted(
        (row for row in rows if row.policy in SETTINGS[name]), key=lambda r: SETTINGS[name].index(r.policy)
    )
    kept = [row for row in tried if row.kept]
    return kept[0] if kept else max(tried, key=lambda r: (r.windows, -r.cost))


def chosen(rows: Sequence[Row], load: str) -> list[Row]:
    """One row of each policy on a load, those that kept the objectives first, the cheapest first."""
    here = [row for row in rows if row.load == load]
    names = [name for name, tried in SETTINGS.items() if any(row.policy in tried for row in here)]
    return sorted((best(here, name) for name in names), key=lambda r: (not r.kept, r.cost))


def rank(rows: Sequence[Row], load: str) -> int | None:
    """Place of the product in cost among those that kept the objectives; None: it did not.

    The seer is left out: it is a bound.
    """
    kept = [r.policy for r in chosen(rows, load) if r.kept and r.policy != "clairvoyant"]
    places = [place for place, policy in enumerate(kept, start=1) if policy in SETTINGS["inferscale"]]
    return places[0] if places else None


def table(rows: Sequence[Row]) -> str:
    """The table, in Markdown."""
    lines = [
        "| load | policy | windows within objectives | requests | cost | scalings | moves |",
        "|---|---|---|---|---|---|---|",
    ]
    for load in dict.fromkeys(row.load for row in rows):
        for number, row in enumerate(chosen(rows, load)):
            name = row.policy.replace(":target=", " ").replace(":", " ")
            name = f"**{name}**" if row.policy in SETTINGS["inferscale"] else name
            mark = "" if row.kept else " ✗"
            lines.append(
                f"| {load if number == 0 else ''} | {name} | {100 * row.windows:.1f} %{mark} |"
                f" {100 * row.requests:.1f} % | {row.cost:.2f} | {row.changes} | {row.moves} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", default=",".join(ORDER))
    parser.add_argument("--policies", default=",".join(SETTINGS))
    parser.add_argument("--json", type=Path, help="figures are kept there, and not measured again")
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    rows: dict[tuple[str, str], Row] = {}
    if given.json is not None and given.json.exists():
        rows = {(row["load"], row["policy"]): Row(**row) for row in json.loads(given.json.read_text())}
    cases = [
        (load, name, {policy: row for (where, policy), row in rows.items() if where == load})
        for load in given.loads.split(",")
        for name in given.policies.split(",")
    ]
    with ProcessPoolExecutor(given.processes) as pool:
        for found in pool.map(search, cases):
            rows |= {(row.load, row.policy): row for row in found}
            sys.stderr.write(f"{found[-1]}\n")
            if given.json is not None:
                given.json.write_text(json.dumps([asdict(each) for each in rows.values()], indent=1))
    known = [row for load in given.loads.split(",") for row in rows.values() if row.load == load]
    text = table(known)
    sys.stdout.write(f"{text}\n")
    if given.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
