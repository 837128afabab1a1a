"""The policies on the hard loads: the tables of `docs/comparison.md`.

python hack/hardloads.py            # prints the tables
python hack/hardloads.py --write    # puts them into the page
python hack/hardloads.py --seed 2   # prints them for other arrivals
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from inferscale_operator.twin.resources import read_scenario
from inferscale_operator.twin.simulation import ServerMode, parse_policy, simulate
from inferscale_operator.twin.summary import summary

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "examples" / "scenarios" / "hard"
PAGE = ROOT / "docs" / "comparison.md"
MARKS = {
    0: ("<!-- table -->", "<!-- end of the table -->"),
    900: ("<!-- table of 900 s -->", "<!-- end of the table of 900 s -->"),
}
"""Where the tables are in the page, by scale-down window (s); 0: everybody's default, which is 300 s."""
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
    "inferscale": ("inferscale", *(f"inferscale:loadHeadroom={room}" for room in (0.1, 0.25, 0.5, 1.0, 1.5))),
    "static": ("static",),
    "hpa-running": tuple(f"hpa-running:target={target}" for target in (18, 15, 12, 9, 6)),
    "hpa-queue": tuple(f"hpa-queue:target={target}" for target in (5, 3, 2, 1)),
    "hpa-kv": tuple(f"hpa-kv:target={target}" for target in (0.6, 0.5, 0.45, 0.4, 0.3)),
    "keda": tuple(f"keda:target={target}" for target in (18, 15, 12, 9, 6)),
    "clairvoyant": ("clairvoyant",),
}
"""Settings that each policy is tried with on each load, from the one with the least room; a next one only
where those before did not keep the objectives, as more room costs more."""
HELD = ("spikes", "waves")
"""Loads that come back within a quarter of an hour, where a longer scale-down window is tried as well."""
Settings = Mapping[str, Sequence[str]]


def settings(window: int) -> Settings:
    """The same with a scale-down window of so many seconds, for all who have one; 0: the default."""
    fields = dict.fromkeys(SETTINGS, f"downWindow={window}")
    fields["inferscale"] = f"behavior.scaleDown.stabilizationWindowSeconds={window}"
    if not window:
        return SETTINGS
    return {
        name: tried
        if name in ("static", "clairvoyant")
        else tuple(f"{each},{fields[name]}" if ":" in each else f"{each}:{fields[name]}" for each in tried)
        for name, tried in SETTINGS.items()
    }


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


def measure(load: str, policy: str, seed: int | None = None) -> Row:
    """Simulate one load under one policy; without a seed with that of the scenario."""
    setting = read_scenario(FOLDER / f"{load}.yaml")
    seed = setting.scenario.seed if seed is None else seed
    outcome = simulate(setting, parse_policy(policy), seed=seed, mode=ServerMode.EVENTS)
    found = summary(setting, [outcome], seed, ServerMode.EVENTS)["policies"][0]
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


@dataclass(frozen=True)
class Case:
    """A policy on a load."""

    load: str
    policies: Sequence[str]
    """With its settings."""
    known: Mapping[str, Row]
    """What has been measured before, by policy with settings."""
    seed: int | None = None


def search(case: Case) -> list[Row]:
    """Try the settings of a policy on a load until one keeps the objectives; some may be known."""
    rows = []
    for policy in case.policies:
        rows.append(case.known.get(policy) or measure(case.load, policy, case.seed))
        if rows[-1].kept:
            break
    return rows


def best(rows: Sequence[Row], tried: Sequence[str]) -> Row:
    """The first setting that kept the objectives; where none did, the one that kept them longest."""
    found = sorted((row for row in rows if row.policy in tried), key=lambda r: tried.index(r.policy))
    kept = [row for row in found if row.kept]
    return kept[0] if kept else max(found, key=lambda r: (r.windows, -r.cost))


def chosen(rows: Sequence[Row], load: str, window: int = 0) -> list[Row]:
    """One row of each policy on a load, those that kept the objectives first, the cheapest first."""
    here = [row for row in rows if row.load == load]
    found = [
        best(here, tried) for tried in settings(window).values() if any(row.policy in tried for row in here)
    ]
    return sorted(found, key=lambda r: (not r.kept, r.cost))


def rank(rows: Sequence[Row], load: str, window: int = 0) -> int | None:
    """Place of the product in cost among those that kept the objectives; None: it did not.

    The seer is left out: it is a bound.
    """
    kept = [r.policy for r in chosen(rows, load, window) if r.kept and r.policy != "clairvoyant"]
    ours = settings(window)["inferscale"]
    places = [place for place, policy in enumerate(kept, start=1) if policy in ours]
    return places[0] if places else None


def table(rows: Sequence[Row], loads: Sequence[str], window: int = 0) -> str:
    """The table of some loads, in Markdown."""
    lines = [
        "| load | policy | windows within objectives | requests | cost | scalings | moves |",
        "|---|---|---|---|---|---|---|",
    ]
    ours = settings(window)["inferscale"]
    for load in loads:
        for number, row in enumerate(chosen(rows, load, window)):
            name, _, fields = row.policy.partition(":")
            shown = [f for f in fields.split(",") if f and not (window and f.endswith(f"={window}"))]
            name = " ".join([name, *(f.removeprefix("target=") for f in shown)])
            name = f"**{name}**" if row.policy in ours else name
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
    parser.add_argument("--write", action="store_true", help="put the tables into the page")
    parser.add_argument("--seed", type=int, help="other arrivals than those of the scenarios")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    if given.write and given.seed is not None:
        parser.error("--write: the page has the scenarios' own seeds: leave --seed out")
    rows: dict[tuple[str, str], Row] = {}
    if given.json is not None and given.json.exists():
        rows = {(row["load"], row["policy"]): Row(**row) for row in json.loads(given.json.read_text())}
    loads = given.loads.split(",")
    tables = {window: [load for load in loads if not window or load in HELD] for window in MARKS}
    cases = [
        Case(
            load,
            settings(window)[name],
            {policy: row for (where, policy), row in rows.items() if where == load},
            given.seed,
        )
        for window, held in tables.items()
        for load in held
        for name in given.policies.split(",")
    ]
    with ProcessPoolExecutor(given.processes) as pool:
        for found in pool.map(search, cases):
            rows |= {(row.load, row.policy): row for row in found}
            sys.stderr.write(f"{found[-1]}\n")
            if given.json is not None:
                given.json.write_text(json.dumps([asdict(each) for each in rows.values()], indent=1))
    for window, held in tables.items():
        text = table(list(rows.values()), held, window)
        sys.stdout.write(f"{text}\n\n")
        if given.write:
            begin, end = MARKS[window]
            before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
            after = rest.partition(end)[2]
            PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
