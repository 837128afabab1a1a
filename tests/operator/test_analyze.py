import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inferscale_operator.cli import main

Run = Callable[..., tuple[list[dict[str, Any]], str, int]]

DECK = {
    "name": "deck",
    "latencyModel": "decode-only",
    "alpha": 19,
    "beta": 1,
    "maxBatch": 48,
    "maxQueue": 152,
    "outTokens": 1024,
    "itl": 50,
}
GRANITE = {
    "name": "granite",
    "latencyModel": "prefill-decode",
    "alpha": 20.58,
    "beta": 0.41,
    "gamma": 200,
    "delta": 0.02,
    "maxBatch": 32,
    "maxQueue": 320,
    "inTokens": 128,
    "outTokens": 1024,
    "arrivalRate": 45,
    "itl": 32,
    "ttft": 500,
}
SMALL = {
    "latencyModel": "decode-only",
    "alpha": 8,
    "beta": 1,
    "maxBatch": 8,
    "maxQueue": 6,
    "outTokens": 50,
}
FIGURES = [
    "throughput",
    "blocking",
    "utilization",
    "avgNumInSystem",
    "avgNumInService",
    "avgNumInQueue",
    "avgRespTime",
    "avgServTime",
    "avgWaitTime",
    "prefill",
    "itl",
    "ttft",
]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Answers, messages and exit status for cases, given as objects or as text."""

    def analyse(cases: object, *options: str) -> tuple[list[dict[str, Any]], str, int]:
        file = tmp_path / "cases.json"
        file.write_text(cases if isinstance(cases, str) else json.dumps(cases))
        with pytest.raises(SystemExit) as exited:
            main(["analyze", str(file), "-o", "json", *options])
        out, err = capsys.readouterr()
        return json.loads(out) if out else [], err, int(exited.value.code or 0)

    return analyse


def test_the_deck_s_figures_are_in_minutes_and_milliseconds(run: Run) -> None:
    (sized,), _, _ = run([DECK])
    rate = sized["sized"]["rate"]
    assert rate == pytest.approx(35.2003139, rel=1e-8)
    (found,), err, status = run([{**DECK, "arrivalRate": rate}])
    assert (err, status) == ("", 0)
    assert list(found) == ["name", "maxRate", *FIGURES, "waitQuantiles", "sized", "error"]
    assert found["avgRespTime"] == pytest.approx(51_532.887, rel=1e-7)
    assert found["avgServTime"] == pytest.approx(51_200, rel=1e-7)
    assert found["avgWaitTime"] == pytest.approx(332.887, rel=1e-5)
    assert found["itl"] == pytest.approx(50, rel=1e-9)
    assert found["throughput"] == pytest.approx(rate)
    assert found["avgNumInSystem"] == pytest.approx(found["avgNumInService"] + found["avgNumInQueue"])
    assert found["maxRate"] == pytest.approx(0.999 * 48 / (1024 * 67) * 60_000)
    assert found["error"] is None


def test_prefill_and_decode_agree_with_the_published_row(run: Run) -> None:
    (found,), _, _ = run([GRANITE])
    assert found["maxRate"] == pytest.approx(60 * 0.919756642, rel=1e-6)
    assert found["avgWaitTime"] == pytest.approx(728.789432, rel=1e-6)
    assert found["prefill"] == pytest.approx(262.980991, rel=1e-6)
    assert found["ttft"] == pytest.approx(728.789432 + 262.980991, rel=1e-6)
    assert found["waitQuantiles"] == pytest.approx({"0.5": 0, "0.95": 5339.7916, "0.99": 14769.5}, rel=1e-6)
    sized = found["sized"]
    assert sized["rate"] == sized["rateTtft"] == pytest.approx(60 * 0.701663356, rel=1e-6)
    assert sized["rateItl"] == pytest.approx(60 * 0.824434622, rel=1e-6)
    assert sized["rateTtw"] == sized["rateTps"] == found["maxRate"]
    assert sized["binding"] == "ttft"


@pytest.mark.parametrize(
    ("rule", "rate"), [("exact", 42.0795964), ("exponential", 39.49926), ("mean", 42.0998014)]
)
def test_the_rule_decides_what_a_percentile_is(run: Run, rule: str, rate: float) -> None:
    case = {**GRANITE, "percentile": 0.95, "sloRule": rule, "arrivalRate": None}
    (found,), _, _ = run([case])
    assert found["sized"]["rate"] == pytest.approx(rate, rel=1e-6)


def test_without_a_rate_there_are_no_figures_but_a_size(run: Run) -> None:
    (found,), err, status = run([DECK])
    assert (err, status) == ("", 0)
    assert {found[name] for name in FIGURES} == {None}
    assert found["waitQuantiles"] == {"0.5": None, "0.95": None, "0.99": None}
    assert found["sized"]["binding"] == "itl"


def test_a_finite_queue_answers_an_overload_with_its_blocking(run: Run) -> None:
    (found,), _, status = run([{**SMALL, "arrivalRate": 780}])
    assert status == 0
    assert found["name"] is None
    assert found["blocking"] == pytest.approx(0.245545507, rel=1e-6)
    assert found["throughput"] == pytest.approx(780 * (1 - 0.245545507), rel=1e-6)
    assert found["waitQuantiles"]["0.95"] == pytest.approx(875.249125, rel=1e-6)


def test_an_unbounded_queue_past_its_limit_is_said_to_be_unstable_and_sized_all_the_same(run: Run) -> None:
    (found,), err, _ = run([{**SMALL, "name": "hot", "maxQueue": None, "arrivalRate": 600, "itl": 12}])
    assert found["throughput"] is None
    assert found["avgWaitTime"] is None
    assert found["sized"]["rate"] > 0
    assert found["error"] == (
        "case 1 (hot): arrivalRate is 600: unstable, the queue grows without bound; "
        "give less than 600, or a maxQueue"
    )
    assert found["error"] in err


def test_a_target_that_no_rate_meets_is_named(run: Run) -> None:
    cases = [{**GRANITE, "itl": 20, "ttft": 100, "name": "tight"}, GRANITE]
    found, _, status = run(cases)
    assert status == 0
    assert found[0]["sized"] is None
    assert found[0]["error"] == "case 1 (tight): unattainable at any rate: itl 20 ms, ttft 100 ms"
    assert found[0]["avgWaitTime"] == found[1]["avgWaitTime"]


def test_a_throughput_target_keeps_a_tenth(run: Run) -> None:
    (found,), _, _ = run([{**SMALL, "tps": 100}])
    assert found["sized"]["rate"] == found["sized"]["rateTps"] == pytest.approx(0.9 * found["maxRate"])
    assert found["sized"]["binding"] == "tps"


def test_without_targets_nothing_binds(run: Run) -> None:
    (found,), _, _ = run([SMALL])
    assert found["sized"]["rate"] == found["maxRate"]
    assert found["sized"]["binding"] is None


def test_variability_counts_by_the_exact_rule_only(run: Run) -> None:
    covs = {"arrivalCOV": 2, "serviceCOV": 1.5}
    case = {**GRANITE, "percentile": 0.95}
    found, _, _ = run(
        [
            case,
            {**case, **covs},
            {**case, "sloRule": "exponential"},
            {**case, **covs, "sloRule": "exponential"},
            {**case, "arrivalCOV": 1, "serviceCOV": None},
        ]
    )
    plain, varied, exponential, same, neutral = found
    assert varied["avgWaitTime"] > 2 * plain["avgWaitTime"]
    assert varied["waitQuantiles"]["0.95"] > plain["waitQuantiles"]["0.95"]
    assert varied["sized"]["rateTtft"] < plain["sized"]["rateTtft"]
    assert varied["sized"]["rateItl"] == plain["sized"]["rateItl"]
    assert same == exponential
    assert neutral == plain


BAD = [
    ({"alpha": float("nan")}, "alpha is nan; give a finite number"),
    ({"maxBatch": 0}, "maxBatch is 0; give a number of at least 1"),
    ({"maxBatch": 2.5}, "maxBatch is 2.5; give a valid integer"),
    ({"maxQueue": -1}, "maxQueue is -1; give a number of at least 0"),
    ({"alpha": -1}, "alpha is -1; give a number of at least 0"),
    ({"outTokens": 0}, "outTokens is 0; give a number of at least 1"),
    ({"outTokens": 1e9}, "outTokens is 1000000000.0; give a number of at most 1e+07"),
    ({"inTokens": 1e9}, "inTokens is 1000000000.0; give a number of at most 1e+07"),
    ({"itl": 0}, "itl is 0; give a number above 0"),
    ({"ttft": -5}, "ttft is -5; give a number above 0"),
    ({"ttw": float("inf")}, "ttw is inf; give a finite number"),
    ({"tps": 0}, "tps is 0; give a number above 0"),
    ({"percentile": 95}, "percentile is 95; give a number below 1"),
    ({"percentile": 0}, "percentile is 0; give a number above 0"),
    ({"sloRule": "p95"}, "sloRule is 'p95'; give 'exact', 'exponential' or 'mean'"),
    ({"latencyModel": "chunked"}, "latencyModel is 'chunked'; give 'decode-only' or 'prefill-decode'"),
    ({"arrivalCOV": -1}, "arrivalCOV is -1; give a number of at least 0"),
    ({"arrivalRate": "fast"}, "arrivalRate is 'fast'; give a valid number"),
    ({"arivalRate": 3}, "arivalRate is no field of a case"),
    ({"name": 7}, "name is 7; give a valid string"),
    ({"alpha": "8"}, "alpha is '8'; give a valid number"),
    ({"alpha": True}, "alpha is True; give a valid number"),
    ({"maxBatch": "8"}, "maxBatch is '8'; give a valid integer"),
    ({"maxBatch": True}, "maxBatch is True; give a valid integer"),
    ({"alpha": None}, "alpha is missing; it is required"),
    ({"alpha": 10**350}, "alpha is inf; give a finite number"),
    ({"alpha": [1] * 1000}, "alpha is [1, 1, 1, 1, 1, 1, ...]; give a valid number"),
    ({"alpha": 0, "beta": 0}, "alpha 0, beta 0, gamma 0, delta 0: a request takes no time"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD, ids=[message for _, message in BAD])
def test_a_wrong_case_is_named_with_its_field_and_the_others_are_answered(
    run: Run, wrong: dict[str, object], message: str
) -> None:
    found, err, status = run([SMALL, {"name": "wrong", **SMALL, **wrong}, SMALL])
    assert status == 2
    label = "case 2" if "name" in wrong else "case 2 (wrong)"
    assert found[1]["error"].startswith(f"{label}: {message}")
    assert found[1]["error"] in err
    assert found[1]["sized"] is None
    assert found[1]["maxRate"] is None
    assert found[0] == found[2]
    assert found[0]["error"] is None
    assert "Traceback" not in err


def test_a_missing_field_and_an_entry_that_is_no_object_are_named(run: Run) -> None:
    without = {name: value for name, value in SMALL.items() if name != "alpha"}
    found, _, status = run([without, 7])
    assert status == 2
    assert found[0]["error"] == "case 1: alpha is missing; it is required"
    assert found[1]["error"] == "case 2 is 7; give an object with the fields of a case"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the cases are not JSON"),
        ("{", "the cases are not JSON"),
        ("{}", "the cases are no list but {}; give a list of cases"),
        ("null", "the cases are no list but None; give a list of cases"),
        ("[" * 100_000, "the cases are nested too deep"),
    ],
    ids=["nothing", "half", "object", "null", "deep"],
)
def test_a_file_that_holds_no_list_is_refused(run: Run, text: str, message: str) -> None:
    found, err, status = run(text)
    assert (found, status) == ([], 2)
    assert message in err


@pytest.mark.parametrize("command", ["analyze", "fit"])
def test_a_file_that_is_no_text_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "picture"
    file.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(SystemExit) as exited:
        main([command, str(file)])
    assert exited.value.code == 2
    assert "UTF-8" in capsys.readouterr().err


def test_no_cases_have_no_answers(run: Run) -> None:
    assert run([]) == ([], "", 0)


def test_whole_numbers_may_be_written_with_a_point(run: Run) -> None:
    found, _, _ = run([{**SMALL, "maxBatch": 8.0, "maxQueue": 6.0}, SMALL])
    assert found[0] == found[1]


def test_null_is_as_good_as_absent_where_a_field_is_optional(run: Run) -> None:
    optional = ["name", "maxQueue", "gamma", "delta", "inTokens", "arrivalRate", "itl", "ttft", "ttw", "tps"]
    optional += ["percentile", "sloRule", "arrivalCOV", "serviceCOV"]
    small = {name: value for name, value in SMALL.items() if name != "maxQueue"}
    found, _, status = run([{**small, **dict.fromkeys(optional)}, small])
    assert status == 0
    assert found[0] == found[1]


def test_a_field_that_is_given_twice_is_named_and_the_other_cases_are_answered(run: Run) -> None:
    small = json.dumps(SMALL)
    found, _, status = run(f'[{small[:-1]}, "alpha": 9}}, {small}]')
    assert status == 2
    assert found[0]["error"] == "case 1: alpha is given twice; keep one of them"
    assert found[1]["maxRate"] > 0


def test_numbers_too_long_to_read_and_names_that_no_file_can_hold_stop_no_other_case(run: Run) -> None:
    small = json.dumps(SMALL)
    half = small[:-1] + ', "name": "half \\ud800"}'
    field = small[:-1] + ', "\\ud800": 1}'
    found, err, status = run(f'[{small[:-1]}, "tps": 1{"0" * 5000}}}, {half}, {field}, {small}]')
    assert (status, "Traceback" in err) == (2, False)
    assert found[0]["error"] == "case 1: tps is inf; give a finite number"
    assert found[1]["name"] == "half \\ud800"
    assert found[2]["error"] == "case 3: \\ud800 is no field of a case"
    assert found[1]["maxRate"] == found[3]["maxRate"] > 0


def test_a_mark_of_the_byte_order_is_no_part_of_the_cases(run: Run) -> None:
    assert run("\ufeff[]") == ([], "", 0)


def test_a_target_of_nearly_nothing_is_unattainable_and_warns_of_nothing(run: Run) -> None:
    (found,), err, status = run([{**SMALL, "itl": 1e-308}])
    assert status == 0
    assert err == "inferscale: case 1: unattainable at any rate: itl 1e-308 ms\n"
    assert found["error"] in err


def test_the_table_reads_standard_input_and_shows_every_case(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps([GRANITE, DECK, {"name": "[/bad]"}])))
    with pytest.raises(SystemExit) as exited:
        main(["analyze", "-"])
    assert exited.value.code == 2
    out = capsys.readouterr().out
    for text in ("granite", "deck", "[/bad]", "728.79", "ttft 0%", "35.2"):
        assert text in out


@pytest.mark.slow
def test_a_plot_is_written(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "load.png"
    run([GRANITE, {**GRANITE, "percentile": 0.95, "arrivalRate": None}, DECK], "--plot", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_plot_of_nothing_or_into_no_folder_is_refused(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    _, err, status = run([], "--plot", str(tmp_path / "load.png"))
    assert (status, "--plot: there are 0 cases to draw; give 1 to 12" in err) == (2, True)
    _, err, status = run([SMALL], "--plot", str(tmp_path / "none" / "load.png"))
    assert (status, "cannot be written" in err) == (2, True)


def test_without_matplotlib_a_plot_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    _, err, status = run([SMALL], "--plot", "load.png")
    assert status == 2
    assert "pip install 'inferscale[plot]'" in err
