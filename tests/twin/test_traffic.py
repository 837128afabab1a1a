from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inferscale_operator.errors import UsageError
from inferscale_operator.twin.scenario import ServiceSpec
from inferscale_operator.twin.traffic import Traffic
from twin_builders import service


def traffic(duration: float = 3600, seed: int = 1, folder: Path = Path(), **fields: object) -> Traffic:
    given = ServiceSpec.model_validate(service(**fields))  # type: ignore[arg-type]
    return Traffic(given, folder, duration, seed, drawn=True)


@pytest.mark.parametrize("cov", [0.0, 0.5, 1.0, 3.0])
def test_arrivals_have_the_rate_and_the_variation_that_were_asked_for(cov: float) -> None:
    drawn = traffic(20_000, load={"rate": 120, "cov": cov})
    gaps = np.diff(drawn.at_s)
    assert len(drawn.at_s) / 20_000 == pytest.approx(2.0, rel=0.05 + 0.02 * cov)
    assert gaps.std() / gaps.mean() == pytest.approx(cov, abs=0.02 + 0.05 * cov)


def test_arrivals_follow_a_rate_that_changes() -> None:
    drawn = traffic(3000, load={"points": [{"at": 0, "rate": 0}, {"at": 1000, "rate": 600}], "step": True})
    assert not (drawn.at_s < 1000).any()
    assert ((drawn.at_s > 1000) & (drawn.at_s < 2000)).sum() == pytest.approx(10_000, rel=0.05)


def test_a_spike_multiplies_the_rate_for_a_while() -> None:
    load = {"rate": 60, "spikes": [{"at": 100, "seconds": 50, "factor": 4}]}
    drawn = traffic(300, load=load)
    assert drawn.rate(np.array([99.0, 101.0, 149.0, 151.0])).tolist() == [1, 4, 4, 1]


def test_a_diurnal_wave_is_highest_at_its_peak() -> None:
    drawn = traffic(10, load={"diurnal": {"mean": 60, "amplitude": 0.5, "period": 100, "peakAt": 25}})
    assert drawn.rate(np.array([25.0, 75.0, 125.0])) == pytest.approx([1.5, 0.5, 1.5])


@pytest.mark.parametrize("distribution", ["exponential", "deterministic", "lognormal"])
def test_token_lengths_have_their_means(distribution: str) -> None:
    tokens = {"input": 128, "output": 40, "distribution": distribution, "cov": 1.5}
    drawn = traffic(20_000, load={"rate": 120}, tokens=tokens)
    assert drawn.input_tokens.mean() == pytest.approx(128, rel=0.05)
    assert drawn.output_tokens.mean() == pytest.approx(40, rel=0.05)
    assert drawn.output_tokens.min() >= 1


def test_what_comes_later_does_not_change_what_came_before() -> None:
    def arrivals(later: float) -> Traffic:
        load = {"points": [{"at": 0, "rate": 300}, {"at": 600, "rate": 300}, {"at": 601, "rate": later}]}
        return traffic(1200, load=load, tokens={"input": 64, "output": 32, "distribution": "lognormal"})

    few, many = arrivals(10), arrivals(3000)
    before = int((few.at_s < 600).sum())
    assert before > 2000
    assert (many.at_s[:before] == few.at_s[:before]).all()
    assert (many.input_tokens[:before] == few.input_tokens[:before]).all()
    assert (many.output_tokens[:before] == few.output_tokens[:before]).all()


def test_services_and_seeds_have_requests_of_their_own() -> None:
    first = traffic().at_s
    assert (traffic().at_s == first).all()
    assert not np.array_equal(traffic(seed=2).at_s[:50], first[:50])
    assert not np.array_equal(traffic(name="other").at_s[:50], first[:50])


def test_a_trace_is_replayed_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("at,input,output\n1.5,10,3\n2,20,1\n90,5,7\n")
    drawn = traffic(80, folder=tmp_path, load={"trace": "trace.csv"}, tokens=None)
    assert drawn.at_s.tolist() == [1.5, 2]
    assert drawn.input_tokens.tolist() == [10, 20]
    assert drawn.rate(np.array([30.0]))[0] == pytest.approx(2 / 60)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("at,input,output\n2,1,1\n1,1,1\n", "line 3"),
        ("at,input\n2,1\n", "line 2"),
        ("at,input,output\n2,x,1\n", "line 2"),
        ("at,input,output\n", "no request"),
    ],
)
def test_a_trace_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "trace.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        traffic(folder=tmp_path, load={"trace": "trace.csv"}, tokens=None)
