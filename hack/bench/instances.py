"""Generated problems of any size: models, classes and loads drawn on a realistic set of profiles."""

from __future__ import annotations

import numpy as np

from inferscale_solver import (
    Capacity,
    Load,
    Performance,
    Problem,
    Profile,
    SaturationPolicy,
    Service,
    Settings,
    Solver,
    TailRule,
    Targets,
)

# Name: memory (GB), bandwidth (GB/s), cost per hour, units that exist for 27 services, multiplicities.
_TYPES: dict[str, tuple[int, int, float, int, tuple[int, ...]]] = {
    "A100": (80, 2000, 40.0, 128, (1, 2, 4)),
    "AIU2": (128, 204, 3.75, 256, (1, 2, 4)),
    "G2": (96, 2400, 23.0, 128, (1, 2, 4)),
    "H100": (80, 3350, 75.0, 64, (1, 2)),
    "L4": (24, 300, 6.0, 128, (1,)),
    "L40S": (48, 864, 32.0, 64, (1,)),
    "MI210": (64, 1638, 26.0, 128, (1, 2, 4)),
    "MI250": (128, 3200, 46.0, 128, (1, 2, 4)),
    "MI300X": (192, 5300, 65.0, 128, (1, 2)),
}
# Name: size (GB), alpha and beta (ms) at 2,000 GB/s, batch that fits in 80 GB at 512 tokens.
_MODELS: dict[str, tuple[int, float, float, int]] = {
    "granite-13b": (26, 20.6, 0.41, 32),
    "granite-20b": (40, 29.8, 0.50, 24),
    "granite-34b": (68, 48.7, 0.82, 12),
    "llama-7b": (14, 11.7, 0.63, 64),
    "llama-13b": (26, 20.1, 0.87, 32),
    "llama-8b": (16, 13.2, 0.60, 16),
    "llama-70b": (140, 47.5, 12.2, 5),
    "mistral-7b": (14, 12.3, 0.41, 64),
    "mixtral-8x7b": (94, 51.2, 10.4, 8),
}
# Priority: share of services, target ITL range (ms), target wait (ms), median rate (requests/min).
_CLASSES = {
    1: (0.3, (25.0, 80.0), 500.0, 120.0),
    2: (0.3, (50.0, 150.0), 1000.0, 240.0),
    3: (0.4, (80.0, 300.0), 2000.0, 480.0),
}


def generated(services: int, capacity: float, seed: int = 0, solver: Solver = Solver.AUTO) -> Problem:
    """Draw a problem.

    Args:
        services: Number of services.
        capacity: Accelerators per service, as a multiple of what 27 services of this kind just fit on.
        seed: Seed of the random numbers.
        solver: The solver to use.
    """
    random = np.random.default_rng(seed)
    profiles = tuple(
        Profile(name=_name(kind, units), type=kind, multiplicity=units, cost=cost * units)
        for kind, (_, _, cost, _, multiplicities) in _TYPES.items()
        for units in multiplicities
    )
    shares = [share for share, *_ in _CLASSES.values()]
    return Problem(
        services=tuple(
            _service(f"service-{i:05}", int(random.choice(list(_CLASSES), p=shares)), random)
            for i in range(services)
        ),
        profiles=profiles,
        capacity=Capacity({kind: round(capacity * spec[3] * services / 27) for kind, spec in _TYPES.items()}),
        settings=Settings(
            saturation_policy=SaturationPolicy.NONE, tail_rule=TailRule.EXPONENTIAL, solver=solver
        ),
    )


def _service(name: str, priority: int, random: np.random.Generator) -> Service:
    _, itl, wait, rate = _CLASSES[priority]
    model = str(random.choice(list(_MODELS)))
    return Service(
        name=name,
        service_class=f"class-{priority}",
        model=model,
        priority=priority,
        load=Load(
            arrival_rate=round(float(rate * random.lognormal(0.0, 0.6)), 2),
            output_tokens=float(random.integers(128, 2048)),
            prefill=False,
        ),
        targets=Targets(itl=round(float(random.uniform(*itl)), 1), ttw=wait, percentile=0.95),
        performance=tuple(
            _performance(model, kind, units)
            for kind, (*_, multiplicities) in _TYPES.items()
            for units in multiplicities
        ),
    )


def _performance(model: str, kind: str, units: int) -> Performance:
    """Iteration times go with bandwidth and the root of the multiplicity, batches with memory."""
    memory, bandwidth, *_ = _TYPES[kind]
    size, alpha, beta, batch = _MODELS[model]
    profiles = -(-int(1.2 * size) // (memory * units))
    speed = 2000 / bandwidth / (units * profiles) ** 0.5
    return Performance(
        profile=_name(kind, units),
        alpha=round(alpha * speed, 3),
        beta=round(beta * speed, 3),
        acc_count=profiles,
        max_batch_size=max(batch * memory * units * profiles // 80, 1),
        at_tokens=512,
    )


def _name(kind: str, units: int) -> str:
    return kind if units == 1 else f"{units}x{kind}"
