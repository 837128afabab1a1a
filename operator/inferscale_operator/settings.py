"""Settings of the process: where things are. How the cluster is optimised is in the OptimizerPolicy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from inferscale_operator.errors import UsageError

ENV_PREFIX = "INFERSCALE"
OFF = "0"
"""Address that serves nothing."""
PATH_OF_HEALTH = "/healthz"


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

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prometheus_url: str
    """Base address of Prometheus or of what speaks its query API, with a path where it has one."""
    prometheus_token_file: Path | None = None
    """File with a bearer token for Prometheus, read again for every query."""
    prometheus_ca_file: Path | None = None
    """PEM file with the authorities that Prometheus' certificate is checked against."""
    prometheus_headers: Mapping[str, str] = {}
    """Headers sent with every query, such as `X-Scope-OrgID`."""
    prometheus_timeout_seconds: float = Field(default=10.0, gt=0, le=300)
    """Time for all queries of one tick together."""
    kubeconfig: Path | None = None
    """Kubeconfig file; None: the account of the pod that it runs in."""
    context: str | None = None
    """Context of the kubeconfig; None: its current one."""
    liveness_address: str = "0.0.0.0:8080"
    """Address of `/healthz`, which the kubelet asks from outside of the pod; `0`: none."""
    record: Path | None = None
    """Folder in which every snapshot and its plan are saved, for `inferscale replay`."""
    record_keep: int = Field(default=100, ge=1, le=100_000)
    """Snapshots that are kept there."""
    log_format: LogFormat = LogFormat.TEXT
    """How log lines look."""
    log_level: LogLevel = LogLevel.INFO
    """The least that is logged."""

    @field_validator("liveness_address")
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
    def liveness_endpoint(self) -> str | None:
        """URL of the liveness endpoint as kopf takes it; None: there is none."""
        return f"http://{self.liveness_address}{PATH_OF_HEALTH}" if self.liveness_address != OFF else None


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
    option = "--" + name.replace("_", "-").replace("headers", "header")
    variable = f"{ENV_PREFIX}_{name.upper()}"
    if item["type"] == "missing":
        return f"{option} (or {variable}) is missing: {_remedy(name)}"
    message = item["msg"].removeprefix("Value error, ")
    return f"{option} (or {variable}): {item['input']!r} is not valid: {message[:1].lower()}{message[1:]}"


def _remedy(name: str) -> str:
    if name == "prometheus_url":
        return "give the address of Prometheus, such as --prometheus-url http://prometheus.monitoring:9090"
    return "it is required"
