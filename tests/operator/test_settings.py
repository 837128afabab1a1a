"""Settings that cannot be used are told in one line: the option, its value, what would be right."""

from pathlib import Path
from typing import Any

import pytest

from inferscale_operator import settings as settings_module
from inferscale_operator.errors import UsageError
from inferscale_operator.settings import LogFormat, make_settings

URL = "http://prometheus:9090"


def test_prometheus_is_all_that_must_be_said() -> None:
    settings = make_settings({"prometheus_url": URL, "kubeconfig": None})
    assert settings.prometheus_url == URL
    assert settings.kubeconfig is None
    assert settings.record is None
    assert settings.listen == "0.0.0.0:8080"
    assert settings.leader_elect


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


def test_the_endpoint_can_be_turned_off() -> None:
    assert make_settings({"prometheus_url": URL, "listen": "0"}).listen == "0"


def test_the_lease_is_in_the_namespace_of_the_pod_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_module, "NAMESPACE_FILE", tmp_path / "namespace")
    assert make_settings({"prometheus_url": URL}).namespace == "inferscale-system"
    (tmp_path / "namespace").write_text("platform\n")
    assert make_settings({"prometheus_url": URL}).namespace == "platform"
    assert make_settings({"prometheus_url": URL, "lease_namespace": "other"}).namespace == "other"


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
        ("listen", "8080", "'8080' is not valid: give an address and a port"),
        ("listen", "127.0.0.1:0", "such as 127.0.0.1:8080, or 0 for none"),
        ("listen", "127.0.0.1:70000", "INFERSCALE_LISTEN"),
        ("lease_name", "In Ferscale", "small letters, digits"),
        ("lease_duration_seconds", "5", "--lease-renew-seconds .*10.0 is not valid: give less than .* is 5"),
        ("lease_retry_seconds", "10", "less than --lease-renew-seconds, which is 10"),
        ("record_keep", "0", "--record-keep .*greater than or equal to 1"),
        ("log_format", "yaml", "'text' or 'json'"),
        ("log_level", "loud", "'debug', 'info' or 'warning'"),
        ("namespaces", ("ai", "In"), "--namespace .*'In' is no name of a namespace"),
        ("namespace_label", "managed", "--namespace-label .*such as inferscale.dev/managed=true"),
        ("read_pods", "false", "--read-pods .*without --namespace no pod at all would be read"),
        ("prometheus_key_file", "k.pem", "give --prometheus-certificate-file as well"),
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


def test_namespaces_come_as_one_text_or_one_by_one() -> None:
    assert make_settings({"prometheus_url": URL, "namespaces": "b a b"}).namespaces == ("b", "a")
    assert make_settings({"prometheus_url": URL, "namespaces": ("a",)}).namespaces == ("a",)
    assert (
        make_settings({"prometheus_url": URL, "namespaces": ("a",), "read_pods": "false"}).read_pods is False
    )
