"""What policies would have used and missed, against what was, and how far the prediction is to be trusted."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferscale_operator.backtest.profile import Profile
from inferscale_operator.backtest.trial import HISTORY, Trial
from inferscale_operator.twin.ledger import Ledger
from inferscale_operator.twin.resources import SimulatedService
from inferscale_operator.twin.simulation import Outcome, ServerMode
from inferscale_operator.twin.summary import summary
from inferscale_queueing.frozen import frozen

Floats = NDArray[np.float64]

QUANTILES = (0.1, 0.9)
"""Of observed over predicted latency: what the range of kept windows is for."""
PREDICTED = {"itl": ("gap_sum", "gap_count"), "ttft": ("ttft_sum", "ttft_count")}


@frozen
class Agreement:
    """Predicted against observed latency, over the steps of which both are known.

    Attributes:
        steps: How many those are.
        observed: Mean, ms.
        predicted: Mean, ms.
        bias: Mean of predicted minus observed, ms.
        error: Mean of its absolute value, ms.
        low: Observed over predicted, in the lowest tenth of the steps.
        high: The same in the highest tenth.
    """

    steps: int
    observed: float
    predicted: float
    bias: float
    error: float
    low: float
    high: float


def verdict(
    trial: Trial, outcomes: Sequence[Outcome], left_out: Sequence[str], seed: int, mode: ServerMode
) -> dict[str, Any]:
    """All figures, for JSON.

    Args:
        trial: What was run.
        outcomes: Of the history and of the policies.
        left_out: Services that were not tested, with the reason.
        seed: Of the simulation.
        mode: How servers were simulated.

    Returns:
        What `inferscale simulate` prints, of the steps alone whose load is known, with ratios to the history,
        and what is known of the history.
    """
    span = trial.span
    counted = [_counted(outcome, trial.known, span.step) for outcome in outcomes]
    figures = summary(trial.setting, counted, seed, mode)
    agreements = _agreements(trial, outcomes[0].ledger)
    base = figures["policies"][0]["total"]["cost"]
    for each, outcome in zip(figures["policies"], counted, strict=True):
        total = each["total"]
        total["costRatio"] = round(total["cost"] / base, 4) if base else None
        total["sloWindowsRange"] = _range(outcome.ledger, agreements)
    begin, end = (datetime.fromtimestamp(at, UTC) for at in (span.begin, span.end))
    figures |= {
        "scenario": f"Backtest of {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC",
        "ratioTo": HISTORY,
        "history": {
            "from": begin.isoformat(),
            "to": end.isoformat(),
            "step": span.step,
            "known": _share(trial.known),
            "sloWindows": _observed_share(trial),
            "services": [
                _service(service, profile, found, trial)
                for service, profile, found in zip(
                    trial.setting.services, trial.profiles, agreements, strict=True
                )
            ],
            "leftOut": list(left_out),
        },
    }
    return figures


def for_plots(outcome: Outcome, known: NDArray[np.bool_]) -> Outcome:
    """The outcome with gaps where the load is not known."""
    ledger = copy.copy(outcome.ledger)
    ledger.windows = {name: np.where(known, values, np.nan) for name, values in ledger.windows.items()}
    cost = np.where(known, ledger.cost, 0.0)
    cost[:, ~known.any(axis=0)] = np.nan
    ledger.cost = cost
    return replace(outcome, ledger=ledger)


def _counted(outcome: Outcome, known: NDArray[np.bool_], step: int) -> Outcome:
    """The outcome with nothing where the load is not known."""
    ledger = copy.copy(outcome.ledger)
    ledger.windows = {name: np.where(known, values, 0.0) for name, values in ledger.windows.items()}
    ledger.cost = np.where(known, ledger.cost, 0.0)
    short = np.array(outcome.needed) > ledger.ready_s / step + 1e-9
    below = (short & known).sum(axis=1) * float(step)
    return replace(outcome, ledger=ledger, below_need_s=tuple(below.tolist()))


def _agreements(trial: Trial, history: Ledger) -> list[dict[str, Agreement | None]]:
    """By service and latency; None: there is no step to compare."""
    return [
        {
            name: _agreement(
                getattr(profile, name), history.windows[total][number], history.windows[count][number]
            )
            for name, (total, count) in PREDICTED.items()
        }
        for number, profile in enumerate(trial.profiles)
    ]


def _agreement(observed: Floats, total: Floats, count: Floats) -> Agreement | None:
    both = ~np.isnan(observed) & (observed > 0) & (count > 0) & (total > 0)
    if not both.any():
        return None
    seen, said = observed[both], total[both] / count[both]
    low, high = np.quantile(seen / said, QUANTILES)
    return Agreement(
        steps=int(both.sum()),
        observed=float(seen.mean()),
        predicted=float(said.mean()),
        bias=float((said - seen).mean()),
        error=float(np.abs(said - seen).mean()),
        low=float(low),
        high=float(high),
    )


def _range(ledger: Ledger, agreements: Sequence[dict[str, Agreement | None]]) -> list[float | None]:
    """Shares of kept windows, were all latencies as far off as in a tenth of the steps, the worse first."""
    shares = []
    for end in ("high", "low"):
        factors = {
            name: np.array([[getattr(found[name], end) if found[name] else 1.0] for found in agreements])
            for name in PREDICTED
        }
        scaled = copy.copy(ledger)
        scaled.windows = {
            **ledger.windows,
            "gap_sum": ledger.windows["gap_sum"] * factors["itl"],
            "ttft_sum": ledger.windows["ttft_sum"] * factors["ttft"],
        }
        shares.append(_share(np.concatenate([scaled.all_kept(n) for n in range(len(agreements))])))
    return shares


def _observed_kept(service: SimulatedService, profile: Profile) -> Floats:
    """Whether what was observed kept the objectives; 1, 0 or NaN where that is not known, shape (steps,)."""
    targets = service.targets
    result = np.full(profile.rate.shape, np.nan)
    if targets.ttw is not None or (targets.ttft is not None and targets.percentile is not None):
        # Means tell of no tail, and the operator reads no waits.
        return result
    for objective, values in ((targets.itl, profile.itl), (targets.ttft, profile.ttft)):
        if objective is not None:
            result = np.fmin(result, np.where(np.isnan(values), np.nan, values <= objective))
    return result


def _observed_share(trial: Trial) -> float | None:
    """Of all services; None where one cannot be judged."""
    kept = [_observed_kept(s, p) for s, p in zip(trial.setting.services, trial.profiles, strict=True)]
    judged = all(
        not np.isnan(each).all() or not np.nansum(p.rate)
        for each, p in zip(kept, trial.profiles, strict=True)
    )
    return _share(np.concatenate(kept)) if judged else None


def _service(
    service: SimulatedService, profile: Profile, found: dict[str, Agreement | None], trial: Trial
) -> dict[str, Any]:
    return {
        "service": service.key,
        "accelerator": service.scenario.initial.accelerator,
        "known": _share(profile.known),
        "partial": round(profile.partial / trial.span.count, 4),
        "gaps": [
            {
                "from": datetime.fromtimestamp(gap.begin, UTC).isoformat(),
                "to": datetime.fromtimestamp(gap.end, UTC).isoformat(),
                "why": gap.why,
            }
            for gap in profile.gaps
        ],
        "rate": _mean_and_most(profile.rate),
        "inputTokens": _mean(profile.input_tokens),
        "outputTokens": _mean(profile.output_tokens),
        "replicas": _mean_and_most(profile.replicas),
        "sloWindows": _share(_observed_kept(service, profile)),
        "latency": {name: _plain(each) for name, each in found.items()},
        "notes": list(profile.notes),
    }


def _plain(found: Agreement | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {
        "steps": found.steps,
        "observed": round(found.observed, 2),
        "predicted": round(found.predicted, 2),
        "bias": round(found.bias, 2),
        "error": round(found.error, 2),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
    }


def _mean_and_most(values: Floats) -> dict[str, float | None]:
    known = values[~np.isnan(values)]
    return {"mean": _mean(values), "most": round(float(known.max()), 2) if known.size else None}


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 2) if known.size else None


def _share(values: NDArray[Any]) -> float | None:
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return round(float(known.mean()), 4) if known.size else None
