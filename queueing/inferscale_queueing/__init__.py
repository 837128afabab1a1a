"""The science of a replica that batches continuously: latency, queueing analysis, sizing, simulation.

Units: milliseconds and requests per millisecond, unless a name or a docstring says otherwise. Every
function works on C candidates at once, in arrays of shape (C,); a number stands for all of them.
"""

from inferscale_queueing.analysis import Analysis, analyze, wait_quantile
from inferscale_queueing.batch import BestBatch, best_batch
from inferscale_queueing.chain import UNBOUNDED
from inferscale_queueing.estimate import LatencyProfile, Specs, estimate_profile
from inferscale_queueing.fitting import LatencyFit, Line, UnidentifiableError, fit_latency
from inferscale_queueing.latency import DecodeOnly, LatencyModel, PrefillDecode, max_batch_size
from inferscale_queueing.prepared import Prepared, prepare
from inferscale_queueing.simulation import (
    Arrivals,
    Completion,
    Distribution,
    Estimate,
    Lengths,
    PrefillMode,
    Request,
    Server,
    SimulationResult,
    Trace,
    batch_quantile,
    draw,
    replay,
    simulate,
)
from inferscale_queueing.sizing import (
    Binding,
    Sizing,
    Targets,
    replica_count,
    replicas,
    required_rate,
    size,
)
from inferscale_queueing.slack import Slack, TargetRates, slack, target_rates
from inferscale_queueing.variability import Variability, service_cov
from inferscale_queueing.waiting import Rule

__all__ = [
    "UNBOUNDED",
    "Analysis",
    "Arrivals",
    "BestBatch",
    "Binding",
    "Completion",
    "DecodeOnly",
    "Distribution",
    "Estimate",
    "LatencyFit",
    "LatencyModel",
    "LatencyProfile",
    "Lengths",
    "Line",
    "PrefillDecode",
    "PrefillMode",
    "Prepared",
    "Request",
    "Rule",
    "Server",
    "SimulationResult",
    "Sizing",
    "Slack",
    "Specs",
    "TargetRates",
    "Targets",
    "Trace",
    "UnidentifiableError",
    "Variability",
    "analyze",
    "batch_quantile",
    "best_batch",
    "draw",
    "estimate_profile",
    "fit_latency",
    "max_batch_size",
    "prepare",
    "replay",
    "replica_count",
    "replicas",
    "required_rate",
    "service_cov",
    "simulate",
    "size",
    "slack",
    "target_rates",
    "wait_quantile",
]
