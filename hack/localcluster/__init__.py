"""A real Kubernetes on this machine, with emulated accelerator nodes: needs no Docker and no GPU."""

from .cluster import Cluster
from .errors import ClusterError, ToolsUnavailableError
from .prometheus import start_prometheus

__all__ = ["Cluster", "ClusterError", "ToolsUnavailableError", "start_prometheus"]
