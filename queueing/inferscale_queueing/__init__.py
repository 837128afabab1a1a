"""The science of a replica that batches continuously: latency, queueing analysis, sizing, simulation.

Units: milliseconds and requests per millisecond, unless a name or a docstring says otherwise. Every
function works on C candidates at once, in arrays of shape (C,); a number stands for all of them.
"""

from inferscale_queueing.analysis import Analysis, analyze, wait_quantile
from inferscale_queueing.chain import UNBOUNDED
from inferscale_queueing.latency import DecodeOnly, LatencyModel, PrefillDecode, max_batch_size
from inferscale_queueing.simulation import (
    Arrivals,
    Completion,
    Distribution,
    Estimate,
    Lengths,
    Request,
    Server,
    SimulationResult,
    simulate,
)
from inferscale_queueing.sizing import Binding, Sizing, Targets, replicas, required_rate, size
from inferscale_queueing.waiting import Rule

__all__ = [
    "UNBOUNDED",
    "Analysis",
    "Arrivals",
    "Binding",
    "Completion",
    "DecodeOnly",
    "Distribution",
    "Estimate",
    "LatencyModel",
    "Lengths",
    "PrefillDecode",
    "Request",
    "Rule",
    "Server",
    "SimulationResult",
    "Sizing",
    "Targets",
    "analyze",
    "max_batch_size",
    "replicas",
    "required_rate",
    "simulate",
    "size",
    "wait_quantile",
]
