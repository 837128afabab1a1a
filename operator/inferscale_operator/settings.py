"""Settings of the process: where things are. How the cluster is optimised is in the OptimizerPolicy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from inferscale_operator.errors import UsageError

ENV_PREFIX = "INFERSCALE"
OFF = "0"
"""Address that serves nothing."""
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
DEFAULT_NAMESPACE = "inferscale-system"
DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
LABEL = r"([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9][-A-Za-z0-9_.]*=([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
DNS_NAME = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"


class LogFormat(StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"


class Settings(BaseModel):
    """What the process is started with; a field is the option `--field-name` or `INFERSCALE_FIELD_NAME`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    prometheus_url: str
    """Base address of Prometheus or of what speaks its query API, with a path where it has one."""
    prometheus_token_file: Path | None = None
    """File with a bearer token for Prometheus, read again for every query."""
    prometheus_ca_file: Path | None = None
    """PEM file with the authorities that Prometheus' certificate is checked against."""
    prometheus_server_name: str | None = None
    """Name in Prometheus' certificate; None: the host of its address."""
    prometheus_certificate_file: Path | None = None
    """PEM file with the client certificate that is shown to Prometheus, read again at every tick."""
    prometheus_key_file: Path | None = None
    """PEM file with its key; None: it is in the certificate's file."""
    prometheus_headers: Mapping[str, str] = {}
    """Headers sent with every query, such as `X-Scope-OrgID`."""
    prometheus_timeout_seconds: float = Field(default=10.0, gt=0, le=300)
    """Time for all queries of one tick together."""
    namespaces: tuple[str, ...] = ()
    """Namespaces whose services are served, and of which nothing else is read; empty: all."""
    namespace_label: str | None = None
    """Label (`key=value`) that a namespace must carry before a Deployment in it is touched; None: none."""
    read_pods: bool = True
    """Whether the pods of the whole cluster are read, to count what others hold of the accelerators."""
    kubeconfig: Path | None = None
    """Kubeconfig file; None: the account of the pod that it runs in."""
    context: str | None = None
    """Context of the kubeconfig; None: its current one."""
    listen: str = "0.0.0.0:8080"
    """Address of `/healthz`, `/readyz` and `/metrics`, which are asked from outside of the pod; `0`: none."""
    leader_elect: bool = True
    """Whether to act only while holding a Lease, so that one of several replicas acts."""
    lease_namespace: str | None = None
    """Namespace of the Lease; None: that of the pod, `inferscale-system` where it is no pod."""
    lease_name: str = "inferscale"
    """Name of the Lease."""
    lease_duration_seconds: int = Field(default=15, ge=2, le=3600)
    """Others take over so long after the last renewal that they saw."""
    lease_renew_seconds: float = Field(default=10.0, gt=0, le=3600)
    """The leader writes nothing when its last renewal is older; less than the duration."""
    lease_retry_seconds: float = Field(default=2.0, gt=0, le=3600)
    """Time between two looks at the Lease; less than the time to renew it."""
    record: Path | None = None
    """Folder in which every snapshot and its plan are saved, for `inferscale replay`."""
    record_keep: int = Field(default=100, ge=1, le=100_000)
    """Snapshots that are kept there."""
    log_format: LogFormat = LogFormat.TEXT
    """How log lines look."""
    log_level: LogLevel = LogLevel.INFO
    """The least that is logged."""

    @field_validator("namespaces", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        names = value.split() if isinstance(value, str) else tuple(value)
        wrong = [name for name in names if not re.fullmatch(DNS_LABEL, name)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no name of a namespace: small letters, digits and -")
        return tuple(dict.fromkeys(names))

    @field_validator("namespace_label")
    @classmethod
    def _label(cls, value: str | None) -> str | None:
        if not value:
            return None
        if not re.fullmatch(LABEL, value):
            raise ValueError("give a label and its value, such as inferscale.dev/managed=true")
        return value

    @field_validator("read_pods")
    @classmethod
    def _some_pods(cls, value: bool, info: ValidationInfo) -> bool:
        if not value and not info.data.get("namespaces"):
            raise ValueError(
                "without --namespace no pod at all would be read, and the load of no service known:"
                " give --namespace, or leave it out"
            )
        return value

    @field_validator("prometheus_key_file")
    @classmethod
    def _with_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("prometheus_certificate_file") is None:
            raise ValueError("give --prometheus-certificate-file as well")
        return value

    @field_validator("lease_namespace", "lease_name")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(DNS_NAME, value):
            raise ValueError("give a name of Kubernetes: small letters, digits, - and .")
        return value

    @field_validator("lease_renew_seconds")
    @classmethod
    def _before_the_end(cls, value: float, info: ValidationInfo) -> float:
        duration = info.data.get("lease_duration_seconds")
        if duration is not None and value >= duration:
            raise ValueError(f"give less than --lease-duration-seconds, which is {duration}")
        return value

    @field_validator("lease_retry_seconds")
    @classmethod
    def _in_time(cls, value: float, info: ValidationInfo) -> float:
        renew = info.data.get("lease_renew_seconds")
        if renew is not None and value >= renew:
            raise ValueError(f"give less than --lease-renew-seconds, which is {renew:g}")
        return value

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        match = re.fullmatch(r"[^\s/:]+:(\d{1,5})", value)
        if value != OFF and (match is None or not 1 <= int(match[1]) <= 65535):
            raise ValueError("give an address and a port, such as 127.0.0.1:8080, or 0 for none")
        return value

    @field_validator("prometheus_headers", mode="before")
    @classmethod
    def _headers(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return value
        headers = {}
        for line in value:
            name, separator, text = line.partition("=")
            if not separator or not name:
                raise ValueError("give a name and a value, such as X-Scope-OrgID=team")
            headers[name.strip()] = text.strip()
        return headers

    @property
    def namespace(self) -> str:
        """Namespace of the Lease."""
        if self.lease_namespace is not None:
            return self.lease_namespace
        try:
            return NAMESPACE_FILE.read_text(encoding="utf-8").strip() or DEFAULT_NAMESPACE
        except OSError:
            return DEFAULT_NAMESPACE


def make_settings(values: Mapping[str, Any]) -> Settings:
    """Settings from options and environment variables; None stands for what was not given.

    Raises:
        UsageError: a value cannot be used.
    """
    try:
        return Settings.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise UsageError("\n".join(_told(item) for item in error.errors(include_url=False))) from error


def _told(item: Mapping[str, Any]) -> str:
    name = str(item["loc"][0])
    option = "--" + {"prometheus_headers": "prometheus_header", "namespaces": "namespace"}.get(
        name, name
    ).replace("_", "-")
    variable = f"{ENV_PREFIX}_{name.upper()}"
    if item["type"] == "missing":
        return f"{option} (or {variable}) is missing: {_remedy(name)}"
    message = item["msg"].removeprefix("Value error, ")
    return f"{option} (or {variable}): {item['input']!r} is not valid: {message[:1].lower()}{message[1:]}"


def _remedy(name: str) -> str:
    if name == "prometheus_url":
        return "give the address of Prometheus, such as --prometheus-url http://prometheus.monitoring:9090"
    return "it is required"
