"""The files of `inferscale plan`: both forms read the same, and everything that is wrong is told at once."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferscale_operator.errors import UsageError
from inferscale_operator.planning.deck import Deck
from inferscale_operator.planning.formulate import Options, options, problem_of
from inferscale_operator.planning.planner import make_plan
from inferscale_operator.planning.reading import Files, read_deck
from inferscale_solver import CurrentAllocation, Performance, Quota, SaturationPolicy, Targets

Contents = dict[str, Any]

BARE: Contents = {
    "accelerator-data": {
        "G2": {"cost": 23, "power": {"idle": 180, "full": 600, "midPower": 500, "midUtil": 0.6}},
        "2xG2": {"type": "G2", "multiplicity": 2, "cost": 46},
    },
    "model-data": [
        {"name": "m", "acc": "G2", "alpha": 17, "beta": 0.3, "maxBatchSize": 38, "atTokens": 512},
        {"name": "m", "acc": "2xG2", "alpha": 12, "beta": 0.2, "maxBatchSize": 76, "atTokens": 512},
    ],
    "serviceclass-data": [{"name": "Premium", "model": "m", "priority": 1, "slo-itl": 40, "slo-ttw": 500}],
    "server-data": [
        {
            "name": "s",
            "class": "Premium",
            "model": "m",
            "currentAlloc": {
                "accelerator": "G2",
                "numReplicas": 2,
                "load": {"arrivalRate": 120, "avgLength": 1024, "arrivalCOV": 1.5, "serviceCOV": 1.5},
            },
        }
    ],
    "capacity-data": {"count": [{"type": "G2", "count": 16}]},
    "optimizer-data": {"unlimited": True},
}

WRAPPED: Contents = {
    "accelerator-data": {
        "accelerators": [{"name": name, **fields} for name, fields in BARE["accelerator-data"].items()]
    },
    "model-data": {
        "models": [
            {
                **{key: value for key, value in row.items() if key not in ("alpha", "beta")},
                "perfParms": {"alpha": row["alpha"], "beta": row["beta"], "gamma": 0, "delta": 0},
            }
            for row in BARE["model-data"]
        ]
    },
    "serviceclass-data": {
        "serviceClasses": [
            {
                "name": "Premium",
                "priority": 1,
                "modelTargets": [{"model": "m", "slo-itl": 40, "slo-ttw": 500, "slo-tps": 0}],
            }
        ]
    },
    "server-data": {"servers": BARE["server-data"]},
    "capacity-data": BARE["capacity-data"],
    "optimizer-data": {"optimizer": {"unlimited": True}},
}


def write(folder: Path, contents: Contents) -> Files:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)
    return Files(*(folder / f"{name}.json" for name in BARE))


def read(folder: Path, contents: Contents) -> Deck:
    return read_deck(write(folder, contents))


def with_change(name: str, *path: str | int, value: Any) -> Contents:
    """The bare files with one value replaced."""
    contents = copy.deepcopy(BARE)
    target = contents[name]
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return contents


def errors(folder: Path, contents: Contents) -> list[str]:
    with pytest.raises(UsageError) as caught:
        read(folder, contents)
    return [line.strip().removeprefix(f"{folder}/") for line in str(caught.value).splitlines()[1:]]


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    assert read(tmp_path / "bare", BARE) == read(tmp_path / "wrapped", WRAPPED)


def test_all_that_the_files_say_is_read(tmp_path: Path) -> None:
    deck = read(tmp_path, BARE)
    assert [(p.name, p.type, p.multiplicity, p.cost) for p in deck.accelerators] == [
        ("G2", "G2", 1, 23.0),
        ("2xG2", "G2", 2, 46.0),
    ]
    assert deck.models[0].performance == Performance("G2", 17.0, 0.3, max_batch_size=38, at_tokens=512)
    assert (deck.objectives[0].priority, deck.objectives[0].targets) == (1, Targets(itl=40.0, ttw=500.0))
    server = deck.servers[0]
    assert (server.arrival_rate, server.average_length, server.output_tokens) == (120.0, 1024.0, None)
    assert server.current == CurrentAllocation("G2", 2)
    assert deck.units == {"G2": 16}
    assert deck.optimizer.unlimited is True


def test_decode_and_prefill_parameters_may_stand_apart(tmp_path: Path) -> None:
    row = {"name": "m", "acc": "G2", "maxBatchSize": 38, "atTokens": 512}
    apart = {**row, "decodeParms": {"alpha": 17, "beta": 0.3}, "prefillParms": {"gamma": 5, "delta": 0.1}}
    performance = read(tmp_path, {**BARE, "model-data": {"models": [apart]}}).models[0].performance
    assert (performance.alpha, performance.beta, performance.gamma, performance.delta) == (17, 0.3, 5, 0.1)


@pytest.mark.parametrize("names", [("avgInTokens", "avgOutTokens"), ("AvgInTOKENS", "avgouttokens")])
def test_token_lengths_are_read_in_any_capitalisation(tmp_path: Path, names: tuple[str, str]) -> None:
    load = {"arrivalRate": 60, names[0]: 512, names[1]: 128}
    server = read(tmp_path, with_change("server-data", 0, "currentAlloc", "load", value=load)).servers[0]
    assert (server.input_tokens, server.output_tokens, server.average_length) == (512, 128, None)


@pytest.mark.parametrize(("said", "read_as"), [(2.5, 2.5), (0, 1.0), (None, 1.0)])
def test_the_variation_of_the_traffic_is_read_and_neither_null_nor_zero_is_known(
    tmp_path: Path, said: float | None, read_as: float
) -> None:
    changed = with_change("server-data", 0, "currentAlloc", "load", "arrivalCOV", value=said)
    deck = read(tmp_path, changed)
    assert (deck.servers[0].arrival_cov, deck.servers[0].service_cov) == (read_as, 1.5)
    load = problem_of(deck, Options()).services[0].load
    assert (load.arrival_cov, load.service_cov) == (read_as, 1.5)


def test_the_optimizer_may_say_everything_that_a_flag_does(tmp_path: Path) -> None:
    data = {"unlimited": False, "saturationPolicy": "roundrobin", "percentile": 0.9, "maxCost": 100}
    optimizer = read(tmp_path, {**BARE, "optimizer-data": data}).optimizer
    assert optimizer.saturation_policy is SaturationPolicy.ROUND_ROBIN
    assert (optimizer.unlimited, optimizer.percentile, optimizer.max_cost) == (False, 0.9, 100)


def test_limits_are_read_by_their_names_in_the_custom_resources(tmp_path: Path) -> None:
    quotas = [
        {"type": "G2", "units": 4, "namespace": "prod"},
        {"type": "G2", "units": 2, "serviceClass": "Premium"},
    ]
    data = {"keepThreshold": 0.05, "maxCostPerHour": 100, "quotas": quotas}
    contents = {**BARE, "optimizer-data": data}
    contents["server-data"] = [{**BARE["server-data"][0], "weight": 2, "namespace": "prod"}]
    deck = read(tmp_path, contents)
    assert (deck.optimizer.keep_threshold, deck.optimizer.max_cost) == (0.05, 100)
    assert deck.optimizer.quotas == (
        Quota("G2", 4, namespace="prod"),
        Quota("G2", 2, service_class="Premium"),
    )
    problem = problem_of(deck, options(deck, {"limited": True}))
    assert (problem.services[0].weight, problem.services[0].namespace) == (2, "prod")
    assert (problem.settings.keep_threshold, problem.settings.max_cost) == (0.05, 100)
    assert problem.quotas == deck.optimizer.quotas


def test_capacity_may_say_what_the_nodes_hold(tmp_path: Path) -> None:
    count = [{"type": "G2", "count": 16, "nodes": [8, 8]}]
    assert read(tmp_path, with_change("capacity-data", "count", value=count)).nodes == {"G2": (8, 8)}


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (
            with_change("accelerator-data", "G2", "cost", value=-1),
            "accelerator-data.json: G2.cost: -1: must be a number from 0 to 1,000,000,000 (cost per hour)",
        ),
        (
            {**BARE, "accelerator-data": '{"G2": {"cost": NaN}, "2xG2": {"cost": 1}}'},
            "accelerator-data.json: G2.cost: NaN: must be a number from 0 to 1,000,000,000 (cost per hour)",
        ),
        (
            {**BARE, "accelerator-data": '{"G2": {"cost": 1}, "2xG2": {"cost": 1}, "G2": {"cost": 2}}'},
            "accelerator-data.json: G2: G2: is given twice: keep one of them",
        ),
        (
            with_change("model-data", 0, "acc", value="TPU"),
            "model-data.json: [0].acc: TPU: is no accelerator: use one of 2xG2, G2",
        ),
        (
            with_change("model-data", 0, "acc", value="2xG2"),
            "model-data.json: [1]: m and 2xG2: is there already, at [0]: keep one",
        ),
        (
            with_change("model-data", 0, "maxBatchSize", value=1.5),
            "model-data.json: [0].maxBatchSize: 1.5: must be a whole number",
        ),
        (
            with_change("model-data", 1, "alpha", value="fast"),
            "model-data.json: [1].alpha: fast: must be a number from 0 to 10,000,000 (ms)",
        ),
        (
            with_change("serviceclass-data", 0, "priority", value=0),
            "serviceclass-data.json: [0].priority: 0: must be a number from 1 to 100",
        ),
        (
            with_change("server-data", 0, "class", value="Gold"),
            "server-data.json: [0].class: Gold: is no service class: use one of Premium",
        ),
        (
            with_change("server-data", 0, "model", value="gpt"),
            "server-data.json: [0].model: gpt: has no data in the models file: use one of m",
        ),
        (
            with_change("server-data", 0, "currentAlloc", "load", "arrivalRate", value=True),
            "server-data.json: [0].currentAlloc.load.arrivalRate: true: must be a number from 0 to",
        ),
        (
            with_change("server-data", 0, "currentAlloc", "load", value={"arrivalRate": 1}),
            "server-data.json: [0].currentAlloc.load.avgLength: is missing: it is required",
        ),
        (
            with_change("server-data", 0, "currentAlloc", "accelerator", value="TPU"),
            "server-data.json: [0].currentAlloc.accelerator: TPU: is no accelerator",
        ),
        (
            {**BARE, "serviceclass-data": [{"name": "Premium", "model": "m", "priority": 1, "slo_itl": 40}]},
            "serviceclass-data.json: [0].slo_itl: slo_itl: is no field: did you mean slo-itl?",
        ),
        (
            with_change("server-data", 0, "keepAcelerator", value=True),
            "server-data.json: [0].keepAcelerator: keepAcelerator: is no field: did you mean keepAcc",
        ),
        (
            {**BARE, "server-data": BARE["server-data"] * 2},
            "server-data.json: [1]: s: is there already, at [0]: keep one",
        ),
        (
            {**BARE, "server-data": [4]},
            "server-data.json: [0]: 4: must be an object: {…}",
        ),
        (
            {**BARE, "server-data": {"server": []}},
            'server-data.json: server: must be a list […] or {"servers": […]}',
        ),
        (
            with_change("capacity-data", "count", 0, "count", value=-4),
            "capacity-data.json: count[0].count: -4: must be a number from 0 to 1,000,000,000",
        ),
        (
            with_change("capacity-data", "count", 0, "nodes", value=[8]),
            "capacity-data.json: count[0].nodes: [8]: adds up to 8, but count is 16",
        ),
        (
            with_change("optimizer-data", "saturationPolicy", value="Some"),
            "optimizer-data.json: saturationPolicy: Some: must be one of None, PriorityExhaustive",
        ),
        (
            with_change("optimizer-data", "quotas", value=[{"type": "G3", "units": 1, "namespace": "a"}]),
            "optimizer-data.json: quotas[0].type: G3: is the type of no accelerator: use one of G2",
        ),
        (
            with_change("optimizer-data", "quotas", value=[{"type": "G2", "units": 1}]),
            "optimizer-data.json: quotas[0].namespace: a quota is for somebody: give namespace, serviceClass",
        ),
        (
            with_change("optimizer-data", "quotas", value=[{"type": "G2", "units": -1, "namespace": "a"}]),
            "optimizer-data.json: quotas[0].units: -1: must be a number from 0",
        ),
        (
            with_change(
                "optimizer-data", "quotas", value=[{"type": "G2", "units": 1, "serviceClass": "Gold"}]
            ),
            "optimizer-data.json: quotas[0].serviceClass: Gold: is no service class: use one of Premium",
        ),
        (
            with_change("server-data", 0, "weight", value=0),
            "server-data.json: [0].weight: 0: must be a number from 0.001 to 1,000",
        ),
        (
            with_change("server-data", 0, "name", value="s\x1b[31m"),
            "server-data.json: [0].name: s\\x1b[31m: must be a text without control characters",
        ),
        (
            {**BARE, "server-data": json.dumps([{**BARE["server-data"][0], "name": "\ud800"}])},
            "server-data.json: [0].name: \\ud800: must be a text without control characters",
        ),
        (
            with_change("model-data", 0, "perfParms", value={"alpha": 1, "beta": 1})
            | {"model-data": [{**BARE["model-data"][0], "beta": None, "perfParms": {"alpha": 1, "beta": 1}}]},
            "model-data.json: [0].alpha: 17: perfParms is given too: keep one of them",
        ),
        (
            with_change("server-data", 0, "load", value={"arrivalRate": 1, "avgLength": 1}),
            'server-data.json: [0].load: {"arrivalRate": 1, "avgLength": 1}: currentAlloc.load is given too',
        ),
        ({**BARE, "optimizer-data": "{"}, "optimizer-data.json: is no JSON: "),
        ({**BARE, "optimizer-data": "[" * 100_000}, "optimizer-data.json: is nested too deep"),
    ],
)
def test_what_is_wrong_is_told_with_file_path_value_and_remedy(
    tmp_path: Path, contents: Contents, message: str
) -> None:
    told = errors(tmp_path, contents)
    assert len(told) == 1
    assert told[0].startswith(message)


def test_a_batch_beyond_reason_is_refused(tmp_path: Path) -> None:
    contents = with_change("model-data", 0, "atTokens", value=10**7)
    contents["server-data"][0]["currentAlloc"]["load"]["avgLength"] = 100
    deck = read(tmp_path, contents)
    with pytest.raises(UsageError, match=r"server s: at 100 output tokens G2 would take a batch .*atTokens"):
        make_plan(deck, deck, options(deck, {}))


def test_a_class_has_one_priority(tmp_path: Path) -> None:
    contents = copy.deepcopy(BARE)
    contents["model-data"].append({**BARE["model-data"][0], "name": "n"})
    contents["serviceclass-data"].append({"name": "Premium", "model": "n", "priority": 2})
    told = errors(tmp_path, contents)
    assert told == ["serviceclass-data.json: [1].priority: 2: is 1 at [0]: a class has one priority"]


def test_a_server_needs_targets_of_its_class_for_its_model(tmp_path: Path) -> None:
    contents = copy.deepcopy(BARE)
    contents["model-data"].append({**BARE["model-data"][0], "name": "n"})
    contents["server-data"][0]["model"] = "n"
    told = errors(tmp_path, contents)
    assert told == [
        "server-data.json: [0].model: n: has no targets in class Premium: add it to the classes file"
    ]


def test_errors_of_all_files_are_told_together(tmp_path: Path) -> None:
    contents = with_change("accelerator-data", "G2", "cost", value=-1)
    contents["server-data"] = [{"name": "s"}]
    contents["capacity-data"] = {"count": [{"type": "H100", "count": 1}]}
    told = errors(tmp_path, contents)
    assert [line.split(":")[0] for line in told] == [
        "accelerator-data.json",
        "server-data.json",
        "server-data.json",
        "server-data.json",
        "capacity-data.json",
    ]


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    files = write(tmp_path, BARE)
    files.servers.write_bytes(b'[{"name": "\xe9"}]')
    with pytest.raises(UsageError, match=r"server-data.json: is no text in UTF-8: give a JSON file"):
        read_deck(files)


def test_missing_files_are_told_with_the_flag_that_names_them(tmp_path: Path) -> None:
    write(tmp_path, BARE)
    (tmp_path / "model-data.json").unlink()
    told = errors(tmp_path, {})
    assert told == ["model-data.json: is missing: give DIR with it, or --models FILE"]


def test_a_server_without_load_needs_no_tokens(tmp_path: Path) -> None:
    contents = with_change("server-data", 0, "currentAlloc", "load", value={"arrivalRate": 0})
    assert read(tmp_path, contents).servers[0].arrival_rate == 0


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of everything in a JSON document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


SCALARS = (
    st.none()
    | st.booleans()
    | st.sampled_from([-1, 0, 1, 2.5, 10**6, 10**30, 1e300, float("nan"), float("inf"), "", "m", "G2", "x"])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "a"]), inner),
    max_leaves=4,
)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_whatever_stands_in_a_file_it_is_planned_or_refused_with_its_place(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    contents = copy.deepcopy(data.draw(st.sampled_from([BARE, WRAPPED])))
    file, *path = data.draw(st.sampled_from([place for place in places(contents) if place]))
    target, keys = contents, [file, *path]
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = data.draw(ANYTHING)
    folder = tmp_path_factory.mktemp("files")
    try:
        deck = read(folder, contents)
    except UsageError as error:
        assert "in the input; nothing was planned" in str(error)  # noqa: PT017
    else:
        assert len(make_plan(deck, deck, options(deck, {})).lines) == len(deck.servers)
