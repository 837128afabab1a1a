"""`inferscale approve`: agree to the change that a service in mode Approve waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from inferscale_operator.api.inference_allocation import InferenceAllocationStatus, PendingPlan
from inferscale_operator.commands.access import cluster_options, connect, names, read, told
from inferscale_operator.decide.approval import described
from inferscale_operator.errors import UsageError
from inferscale_operator.kube.client import ApiError, PatchType
from inferscale_operator.kube.kinds import INFERENCE_ALLOCATION
from inferscale_operator.kube.parse import APPROVED_ANNOTATION

CHANGED = 422
"""What a JSON patch whose test fails is answered with."""


@click.command()
@click.argument("service", metavar="[NAMESPACE/]NAME")
@cluster_options
@click.option("--digest", metavar="DIGEST", help="Approve this plan and no other.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def approve(
    service: str,
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    digest: str | None,
    yes: bool,
) -> None:
    """Approve the change that the InferenceService NAME waits for.

    Shows what changes, what it saves and what it risks, and asks. The plan is approved as it is shown: when
    it has changed meanwhile, nothing is approved.
    """
    namespace, name = names(service, namespace)
    client = connect(kubeconfig, context)
    raw = read(client, INFERENCE_ALLOCATION, namespace, name)
    plan = pending(raw, namespace, name)
    if digest is not None and digest != plan.digest:
        raise UsageError(
            f"{digest} is not the plan of {namespace}/{name} any more: it is {plan.digest} now"
            f" ({change(plan)}). Look at it and approve that."
        )
    click.echo(page(plan, namespace, name))
    if not yes:
        click.confirm("Approve?", abort=True, err=True)
    try:
        client.patch(INFERENCE_ALLOCATION, namespace, name, operations(raw, plan.digest), PatchType.JSON)
    except ApiError as error:
        if error.status == CHANGED:
            raise UsageError(
                f"the plan of {namespace}/{name} has changed meanwhile, and nothing was approved:"
                " look at it again"
            ) from error
        raise told(error, INFERENCE_ALLOCATION, namespace, name) from error
    click.echo(f"{namespace}/{name}: {plan.digest} is approved")


def pending(raw: dict[str, Any], namespace: str, name: str) -> PendingPlan:
    """The plan that an InferenceAllocation says waits.

    Raises:
        UsageError: none does.
    """
    try:
        status = InferenceAllocationStatus.model_validate(raw.get("status") or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"InferenceAllocation {name} in namespace {namespace}: status.{where} cannot be read:"
            f" {first['msg']}. Use the command of the operator's version."
        ) from error
    if status.pending_plan is None:
        raise UsageError(
            f"nothing of {namespace}/{name} waits for approval (mode {status.mode or 'not known'},"
            f" {status.reason or 'not decided yet'}): {status.message}"
        )
    return status.pending_plan


def change(plan: PendingPlan) -> str:
    """What a plan changes, in short."""
    return f"{described(plan.source)} -> {described(plan.to)}"


def page(plan: PendingPlan, namespace: str, name: str) -> str:
    """What a plan changes, saves and risks."""
    worth = (
        f"saves {plan.saving:.2f} an hour" if plan.saving >= 0 else f"costs {-plan.saving:.2f} an hour more"
    )
    return "\n".join(
        (
            f"{namespace}/{name}: {change(plan)}",
            f"  worth   {worth}",
            f"  risk    {plan.risk}",
            f"  wanted  since {plan.since:%Y-%m-%d %H:%M:%S %Z}",
            f"  digest  {plan.digest}",
        )
    )


def operations(raw: dict[str, Any], digest: str) -> list[dict[str, Any]]:
    """The JSON patch that approves a plan, as long as it is the plan."""
    key = APPROVED_ANNOTATION.replace("~", "~0").replace("/", "~1")
    made = [] if raw["metadata"].get("annotations") else [_add("/metadata/annotations", {})]
    return [
        {"op": "test", "path": "/metadata/uid", "value": raw["metadata"]["uid"]},
        {"op": "test", "path": "/status/pendingPlan/digest", "value": digest},
        *made,
        _add(f"/metadata/annotations/{key}", digest),
    ]


def _add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}
