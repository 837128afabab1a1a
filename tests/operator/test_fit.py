import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from inferscale_operator.api.model_profile import PerformanceSchema
from inferscale_operator.cli import main

Run = Callable[..., tuple[str, str, int]]

BATCHES = (1, 2, 4, 8, 16, 32, 64)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Output, messages and exit status of a fit to the text of a CSV."""

    def fit(text: str, *options: str) -> tuple[str, str, int]:
        file = tmp_path / "rows.csv"
        file.write_text(text)
        with pytest.raises(SystemExit) as exited:
            main(["fit", str(file), *options])
        out, err = capsys.readouterr()
        return out, err, int(exited.value.code or 0)

    return fit


def rows(header: str = "batch,itl,in,ttft,wait", wait: float = 7.0) -> str:
    """Rows of the published H100 profile, exact."""
    lines = [header]
    lines += [f"{n},{30 + 0.303 * n},512,{10.1 + 0.091 * 512 * n + wait},{wait}" for n in BATCHES]
    return "\n".join(lines) + "\n"


def test_parameters_are_found_with_the_wait_taken_from_the_ttft(run: Run) -> None:
    out, err, status = run(rows(), "-o", "json")
    found = json.loads(out)
    assert (err, status) == ("", 0)
    parameters = [found[name] for name in ("alpha", "beta", "gamma", "delta")]
    assert parameters == pytest.approx([30, 0.303, 10.1, 0.091], rel=1e-9)
    assert found["decode"] == {"rSquared": pytest.approx(1), "rows": 7}
    assert found["alphaStandardError"] == pytest.approx(0, abs=1e-9)


def test_headers_of_benchmark_tools_are_understood(run: Run) -> None:
    header = "Max Concurrency,Mean TPOT (ms),input_len,Mean TTFT (ms),queue_time_ms"
    assert run(rows(header), "-o", "json") == run(rows(), "-o", "json")


def test_other_headers_are_said_with_an_option(run: Run) -> None:
    header = "users,latency,in,ttft,wait"
    options = ("--column", "batch=users", "--column", "itl=latency", "-o", "json")
    assert run(rows(header), *options) == run(rows(), "-o", "json")


def test_without_prefill_columns_only_decode_is_fitted(run: Run) -> None:
    out, _, _ = run("batch,itl\n1,10\n2,11\n4,13\n\n", "-o", "json")
    found = json.loads(out)
    assert (found["alpha"], found["beta"]) == pytest.approx((9, 1))
    assert found["gamma"] is None
    assert found["prefill"] is None


def test_a_parameter_held_at_zero_has_no_error(run: Run) -> None:
    text = "batch,itl\n1,12\n2,11\n4,10\n"
    assert json.loads(run(text, "-o", "json")[0])["betaStandardError"] is None
    assert "held at 0" in run(text)[0]


def test_the_yaml_is_a_row_of_a_model_profile(run: Run) -> None:
    out, _, _ = run(rows(), "-o", "yaml", "--accelerator", "h100", "--acc-count", "2", "--at-tokens", "1024")
    (row,) = yaml.safe_load(out)
    made = PerformanceSchema.model_validate(row)
    assert (made.accelerator, made.acc_count, made.max_batch_size, made.at_tokens) == ("h100", 2, 64, 1024)
    assert made.delta == pytest.approx(0.091)


def test_the_table_shows_value_error_and_quality(run: Run) -> None:
    out, _, _ = run("batch,itl\n1,10.1\n2,10.9\n4,13\n8,17.2\n")
    for text in ("alpha", "beta", "0.99", "Standard error"):
        assert text in out


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", (), "column batch is missing; the columns are none; name it batch or batchsize"),
        ("batch,latency\n1,2\n", (), "column itl is missing; the columns are batch, latency"),
        ("batch,itl,tpot\n1,2,3\n", (), "column itl: itl, tpot could all be it; choose with --column"),
        ("batch,itl\n1,ten\n", (), "line 2, column itl is 'ten'; give a number or leave it empty"),
        ("batch,itl\n1,2\n2,3\n", (), "cannot fit: itl: 2 rows cannot identify"),
        ("batch,itl\n4,2\n4,3\n4,4\n", (), "batch is 4 in all 3 rows"),
        ("batch,itl\n1,2\n-2,3\n4,4\n", (), "batch in row 2 is -2"),
        ("batch,itl\n1,2\n,3\n4,4\n", (), "batch in row 2 is nan"),
        ("batch,itl,ttft\n1,2,3\n", (), "there is a column of TTFT and none of input tokens"),
        ("batch,itl\n1,2\n", ("--column", "size=n"), "--column size=n: give NAME=HEADER with NAME one of"),
        ("batch,itl\n1,2\n", ("--column", "itl=x"), "column x is missing"),
    ],
)
def test_what_cannot_be_fitted_is_told(run: Run, text: str, options: tuple[str, ...], message: str) -> None:
    out, err, status = run(text, *options)
    assert (out, status) == ("", 2)
    assert message in err
