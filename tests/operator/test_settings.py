"""Settings that cannot be used are told in one line: the option, its value, what would be right."""

from typing import Any

import pytest

from inferscale_operator.errors import UsageError
from inferscale_operator.settings import LogFormat, make_settings

URL = "http://prometheus:9090"


def test_prometheus_is_all_that_must_be_said() -> None:
    settings = make_settings({"prometheus_url": URL, "kubeconfig": None})
    assert settings.prometheus_url == URL
    assert settings.kubeconfig is None
    assert settings.record is None
    assert settings.liveness_endpoint == "http://0.0.0.0:8080/healthz"


def test_values_come_as_text_from_the_environment() -> None:
    settings = make_settings(
        {
            "prometheus_url": URL,
            "prometheus_timeout_seconds": "2.5",
            "prometheus_headers": ("X-Scope-OrgID=team", "X-Query=a=b"),
            "record_keep": "7",
            "log_format": "json",
        }
    )
    assert settings.prometheus_timeout_seconds == 2.5
    assert settings.prometheus_headers == {"X-Scope-OrgID": "team", "X-Query": "a=b"}
    assert settings.record_keep == 7
    assert settings.log_format is LogFormat.JSON


def test_the_liveness_endpoint_can_be_turned_off() -> None:
    assert make_settings({"prometheus_url": URL, "liveness_address": "0"}).liveness_endpoint is None


def test_a_missing_prometheus_says_how_to_name_it() -> None:
    with pytest.raises(
        UsageError, match=r"--prometheus-url \(or INFERSCALE_PROMETHEUS_URL\) is missing: give"
    ):
        make_settings({})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("prometheus_timeout_seconds", "soon", "--prometheus-timeout-seconds .*'soon' is not valid"),
        ("prometheus_timeout_seconds", "0", "greater than 0"),
        ("prometheus_timeout_seconds", "nan", "finite"),
        ("prometheus_headers", ("X-Scope-OrgID",), "--prometheus-header .*X-Scope-OrgID=team"),
        ("liveness_address", "8080", "'8080' is not valid: give an address and a port"),
        ("liveness_address", "127.0.0.1:0", "such as 127.0.0.1:8080, or 0 for none"),
        ("liveness_address", "127.0.0.1:70000", "INFERSCALE_LIVENESS_ADDRESS"),
        ("record_keep", "0", "--record-keep .*greater than or equal to 1"),
        ("log_format", "yaml", "'text' or 'json'"),
        ("log_level", "loud", "'debug', 'info' or 'warning'"),
    ],
)
def test_a_value_that_cannot_be_used_names_the_option_and_what_would_be_right(
    name: str, value: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make_settings({"prometheus_url": URL, name: value})


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        make_settings({"log_level": "loud", "record_keep": "none"})
    assert len(str(caught.value).splitlines()) == 3
