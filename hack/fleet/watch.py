"""The pods and profiles of a cluster, asked for at short intervals."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any

from kubernetes import config
from kubernetes.client import ApiException, CoreV1Api, CustomObjectsApi
from urllib3.exceptions import HTTPError

from fleet.gateway import Fleet
from fleet.pods import Pod, read_pod

_TIMEOUT_S = 5
_Documents = list[Mapping[str, Any]]


class ClusterError(RuntimeError):
    """The cluster cannot be read at present."""


class Cluster:
    """A cluster's pods of one label selector and its profiles.

    Args:
        kubeconfig: Path of the kubeconfig file.
        selector: Label selector of the pods.
    """

    def __init__(self, kubeconfig: Path, selector: str) -> None:
        api_client = config.new_client_from_config(str(kubeconfig))
        self._core, self._custom = CoreV1Api(api_client), CustomObjectsApi(api_client)
        self._selector = selector

    def pods(self) -> list[Pod]:
        """The pods.

        Raises:
            ClusterError: The cluster does not answer or refuses.
        """
        pods = _items("pods", self._core.list_pod_for_all_namespaces, label_selector=self._selector)
        return [read_pod(document) for document in pods]

    def profiles(self) -> tuple[_Documents, _Documents]:
        """AcceleratorProfiles and ModelProfiles.

        Raises:
            ClusterError: The cluster does not answer or refuses.
        """
        accelerators, models = (
            _items(
                plural,
                self._custom.list_cluster_custom_object,
                group="inferscale.dev",
                version="v1alpha1",
                plural=plural,
            )
            for plural in ("acceleratorprofiles", "modelprofiles")
        )
        return accelerators, models


def _items(what: str, call: Callable[..., Any], **arguments: str) -> _Documents:
    try:
        # Raw JSON: the typed client takes several times as long.
        answer = call(**arguments, resource_version="0", _preload_content=False, _request_timeout=_TIMEOUT_S)
    except (ApiException, HTTPError) as error:
        reason = getattr(error, "reason", None) or error
        raise ClusterError(f"cannot list {what}: {reason}") from error
    items: _Documents = json.loads(answer.data)["items"]
    return items


def follow(cluster: Cluster, fleet: Fleet, stop: Event, interval_s: float) -> None:
    """Keep the fleet's pods those of the cluster until `stop`; says when the cluster cannot be read.

    An unforeseen error sets `stop`: a fleet that no longer follows its cluster must not go on.
    """
    trouble = ""
    try:
        while not stop.is_set():
            try:
                fleet.set_pods(cluster.pods(), *cluster.profiles())
                trouble = ""
            except ClusterError as error:
                if str(error) != trouble:
                    print(error, file=sys.stderr, flush=True)
                trouble = str(error)
            stop.wait(interval_s)
    finally:
        stop.set()
