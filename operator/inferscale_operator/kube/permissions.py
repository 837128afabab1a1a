"""What the operator's account must be allowed: what the roles of the chart grant, and no more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from inferscale_operator.kube.kinds import (
    CUSTOM,
    DEPLOYMENT,
    EVENT,
    INFERENCE_ALLOCATION,
    LEASE,
    Kind,
)
from inferscale_operator.kube.scope import Scope
from inferscale_queueing.frozen import frozen

REVIEW = Kind(
    "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False
)
READ = ("list", "watch")
OF_CLUSTER = "default"
"""Namespace of events about objects that are in none."""


class Reviewer(Protocol):
    """What asks the API server."""

    def create(self, kind: Kind, namespace: str | None, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object and return it."""


@frozen(order=True)
class Permission:
    """One verb on one resource."""

    group: str
    resource: str
    """With its subresource, such as `inferenceservices/status`."""
    verb: str
    namespace: str = ""
    """Empty: in the whole cluster."""
    name: str = ""
    """Empty: any."""

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {resource}{where}"


def needed(scope: Scope, lease: tuple[str, str] | None) -> tuple[Permission, ...]:
    """All that the operator does to the API server.

    Args:
        scope: What of the cluster it reads.
        lease: Namespace and name of its Lease; None: it needs none.
    """
    found = [
        Permission(kind.group, kind.plural, verb, place or "")
        for kind in scope.kinds
        for place in scope.places(kind)
        for verb in READ
    ]
    for kind in CUSTOM:
        found += [
            Permission(kind.group, f"{kind.plural}/status", "patch", place or "")
            for place in scope.places(kind)
        ]
    for kind, verb in (
        (INFERENCE_ALLOCATION, "create"),
        (INFERENCE_ALLOCATION, "patch"),
        (DEPLOYMENT, "patch"),
    ):
        found += [Permission(kind.group, kind.plural, verb, place or "") for place in scope.places(kind)]
    events = {*scope.namespaces, OF_CLUSTER} if scope.namespaces else {""}
    found += [Permission(EVENT.group, EVENT.plural, "create", place) for place in events]
    if lease is not None:
        # It is created by PUT, which asks for both.
        found += [
            Permission(LEASE.group, LEASE.plural, verb, lease[0], lease[1])
            for verb in ("get", "create", "update")
        ]
    return tuple(sorted(found))


def missing(client: Reviewer, permissions: Iterable[Permission]) -> tuple[Permission, ...]:
    """Those that the API server says the account does not have.

    Raises:
        ApiError: it was refused or there was no answer.
    """
    return tuple(permission for permission in permissions if not _allowed(client, permission))


def _allowed(client: Reviewer, permission: Permission) -> bool:
    resource, _, subresource = permission.resource.partition("/")
    attributes = {
        "group": permission.group,
        "resource": resource,
        "subresource": subresource,
        "verb": permission.verb,
        "namespace": permission.namespace,
        "name": permission.name,
    }
    body = {
        "apiVersion": REVIEW.api_version,
        "kind": REVIEW.name,
        "spec": {"resourceAttributes": {name: value for name, value in attributes.items() if value}},
    }
    return bool((client.create(REVIEW, None, body).get("status") or {}).get("allowed"))
