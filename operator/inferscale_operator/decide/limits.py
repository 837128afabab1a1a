"""What a plan may take, beside what the services hold that are not decided: accelerators, money, quotas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from inferscale_operator.api.limits import AcceleratorQuota
from inferscale_operator.api.moves import MoveSide, MoveStep
from inferscale_operator.api.optimizer_policy import Accelerators, OptimizerPolicySpec
from inferscale_operator.decide.accelerators import Stock
from inferscale_operator.decide.catalog import Subject
from inferscale_solver import Capacity, Quota

Owner = tuple[str, str]
"""(namespace, Deployment)."""


def capacity(
    policy: OptimizerPolicySpec,
    stocks: Mapping[str, Stock],
    free: Collection[Owner],
    pinned: Sequence[Subject],
) -> Capacity | None:
    """The accelerators for the services that are decided; None: as many as are wanted.

    Args:
        policy: Whether accelerators are limited.
        stocks: The accelerators, by type.
        free: The owners that are decided: what they hold is theirs to give.
        pinned: The services that are not decided, or are in a move.
    """
    if policy.accelerators is Accelerators.UNLIMITED:
        return None
    # What a service that is not decided holds: its pods, or what it asks for where that is more; of one in a
    # move, where it goes to. What it leaves is as good as free for a target, and the step waits until it is.
    asked: Counter[tuple[str, Owner]] = Counter()
    leaving = set()
    for subject in pinned:
        if subject.moving:
            leaving.add(_owner(subject))
        for kind, units in destination(subject).items():
            asked[(kind, _owner(subject))] += units
    left: dict[str, int] = {}
    for kind, stock in stocks.items():
        held = {
            owner: units for owner, units in stock.held.items() if owner not in free and owner not in leaving
        }
        owners = held.keys() | {owner for each, owner in asked if each == kind}
        taken = sum(max(held.get(owner, 0), asked[(kind, owner)]) for owner in owners)
        left[kind] = max(stock.available - taken, 0)
    counted = {kind: stock for kind, stock in stocks.items() if stock.node_sizes}
    return Capacity(
        units=left,
        nodes={kind: stock.node_sizes for kind, stock in counted.items()},
        free_by_node={
            kind: _by_node(stock, free, {owner: asked[(kind, owner)] for owner in leaving})
            for kind, stock in counted.items()
        },
    )


def budget(policy: OptimizerPolicySpec, pinned: Sequence[Subject]) -> float | None:
    """What the services that are decided may cost per hour; None: no limit."""
    limit = policy.budget.max_cost_per_hour
    if limit is None:
        return None
    return max(limit - sum(_cost(subject) for subject in pinned), 0.0)


def quotas(policy: OptimizerPolicySpec, pinned: Sequence[Subject]) -> tuple[Quota, ...]:
    """What is left of each quota of the policy for the services that are decided."""

    def left(quota: AcceleratorQuota) -> int:
        taken = (destination(s).get(quota.type, 0) for s in pinned if counts(quota, s))
        return max(quota.units - sum(taken), 0)

    return tuple(
        Quota(
            type=quota.type,
            units=left(quota),
            namespace=quota.namespace,
            service_class=quota.service_class,
        )
        for quota in policy.quotas
    )


def counts(quota: AcceleratorQuota, subject: Subject) -> bool:
    """Whether a quota is for a service."""
    return quota.namespace in (None, subject.state.resource.namespace) and quota.service_class in (
        None,
        subject.spec.service_class,
    )


def claims(subject: Subject) -> dict[str, int]:
    """Units by type that a service asks for now; during a move both sides of it."""
    move = subject.state.allocation.move if subject.state.allocation is not None else None
    if move is None:
        here = subject.accelerator
        return {subject.kind(here): subject.deployment.replicas * subject.units(here)}
    units: Counter[str] = Counter()
    for side in (move.source, move.to):
        if side.accelerator in subject.performances:
            units[subject.kind(side.accelerator)] += side.replicas * subject.units(side.accelerator)
    return units


def destination(subject: Subject) -> dict[str, int]:
    """Units by type that a service holds when its move, if there is one, is over."""
    side = _destination(subject)
    if side is None:
        return claims(subject)
    return {subject.kind(side.accelerator): side.replicas * subject.units(side.accelerator)}


def _destination(subject: Subject) -> MoveSide | None:
    """Where a move leads; None: no move, or to a profile that is gone."""
    move = subject.state.allocation.move if subject.state.allocation is not None else None
    if move is None:
        return None
    side = move.source if move.step is MoveStep.ROLL_BACK else move.to
    return side if side.accelerator in subject.performances else None


def _cost(subject: Subject) -> float:
    """Cost per hour of what a service holds when its move, if there is one, is over."""
    side = _destination(subject)
    if side is None:
        return subject.cost(subject.accelerator, subject.deployment.replicas)
    return subject.cost(side.accelerator, side.replicas)


def _owner(subject: Subject) -> Owner:
    return subject.deployment.namespace, subject.deployment.name


def _by_node(stock: Stock, free: Collection[Owner], staying: Mapping[Owner, int]) -> tuple[int, ...]:
    """Units of each node that the services that are decided may use.

    Args:
        stock: The accelerators of a type.
        free: The owners that are decided.
        staying: Of the owners in a move, the units of the type that they keep.
    """
    rest = dict(staying)
    rooms = []
    for room, held in zip(stock.free_by_node, stock.held_by_node, strict=True):
        for owner, units in sorted(held.items()):
            if owner in free:
                room += units
            elif owner in rest:
                kept = min(units, rest[owner])
                rest[owner] -= kept
                room += units - kept
        rooms.append(room)
    return tuple(rooms)
