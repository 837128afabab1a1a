"""Every metric of the operator: its name, type, labels and meaning."""

from __future__ import annotations

from enum import StrEnum

from inferscale_queueing.frozen import frozen

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds of the buckets of every histogram."""


class Type(StrEnum):
    """Types of metrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@frozen
class Family:
    """A metric."""

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(f"inferscale_{name}_total", Type.COUNTER, text, labels)


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(f"inferscale_{name}", Type.GAUGE, text, labels)


def _seconds(name: str, text: str, *labels: str) -> Family:
    return Family(f"inferscale_{name}_seconds", Type.HISTOGRAM, text, labels)


SERVICE = ("namespace", "service")

# Of the process: counted as things happen.
TICK = _seconds("tick", "Time of a whole tick.")
PHASE = _seconds(
    "phase", "Time of a phase of a tick: observe (Prometheus included), decide, record, act.", "phase"
)
API_REQUESTS = _counter(
    "api_requests",
    "Requests to the API server, watches apart. code: the HTTP status, 0 without an answer.",
    "verb",
    "kind",
    "code",
)
API_SECONDS = _seconds("api_request", "Time of a request to the API server.", "verb")
QUERIES = _counter("prometheus_queries", "Queries of Prometheus. result: ok or error.", "result")
QUERIES_SECONDS = _seconds("prometheus_ask", "Time of all queries of a tick together.")
DECISION_CHANGES = _counter(
    "decision_changes", "Decisions on a service that differ from the one before, by their reason.", "reason"
)
LEADER = _gauge("leader", "1 on the replica that acts, 0 on a standby.")
LAST_TICK = _gauge("last_tick_timestamp_seconds", "When the last tick ended, Unix time; 0: none has.")
BUILD = _gauge("build_info", "Always 1; its label is the version.", "version")
PROCESS = (TICK, PHASE, API_REQUESTS, API_SECONDS, QUERIES, QUERIES_SECONDS, DECISION_CHANGES)

# Of the last plan: series of what is gone are gone with the next plan.
DECISIONS = _gauge("services", "Services by the reason of their last decision.", "reason")
UNKNOWN = _gauge(
    "services_unknown", "Services whose load is not known, by cause: they lose nothing.", "cause"
)
HELD_BACK = _gauge(
    "services_held_back", "Services that do not get now what is wanted, by what holds.", "gate"
)
MOVES = _gauge("moves", "Moves that are under way, by step.", "step")
UNSERVED = _gauge("services_unserved", "Services that the plan cannot serve within their objectives.")
TICK_INTERVAL = _gauge("tick_interval_seconds", "Time between two ticks, as the policy says.")
GAP = _gauge("optimality_gap_ratio", "How far the plan may be from the best one, as a fraction of its cost.")
COST = _gauge("cost_per_hour", "Cost per hour of all services. of: current or target.", "of")
SAVED = _gauge("saved_cost", "Cost saved since the first adoption, against what was adopted; may fall.")
SAVED_PER_HOUR = _gauge("saved_cost_per_hour", "Cost per hour that is saved now, against what was adopted.")
UNITS = _gauge(
    "accelerator_units",
    "Units of a type of accelerator. state: total, used (by services), others (by other workloads) or free.",
    "type",
    "state",
)
INFO = _gauge(
    "service_info",
    "Always 1; its labels are what the service is.",
    *SERVICE,
    "model",
    "class",
    "priority",
    "mode",
)
LOAD_KNOWN = _gauge(
    "service_load_known", "1 when the load of a service is known, 0 when it is not.", *SERVICE
)
AT_RISK = _gauge(
    "service_slo_at_risk",
    "1 when objectives are missed, or will be with the replicas that there are.",
    *SERVICE,
)
HELD = _gauge(
    "service_slo_held", "1 when the observed means are within the objectives, 0 when one is above.", *SERVICE
)
LIMITED = _gauge(
    "service_capacity_limited",
    "1 when a service does with less than its objectives need: accelerators, budget or quota are used up.",
    *SERVICE,
)
MOVE_SECONDS = _gauge("service_move_seconds", "How long the move of a service has been under way.", *SERVICE)
MOVES_FAILED = _gauge("service_moves_failed", "Moves of a service that were rolled back lately.", *SERVICE)
SERVICE_COST = _gauge(
    "service_cost_per_hour", "Cost per hour of a service. of: current or target.", *SERVICE, "of"
)
REPLICAS = _gauge(
    "service_replicas",
    "Replicas of a service. of: current, ready, desired (by this tick) or target (of the optimizer).",
    *SERVICE,
    "accelerator",
    "of",
)
ARRIVALS = _gauge("service_arrivals_per_second", "Load that a service was last decided for.", *SERVICE)
ITL_OBJECTIVE = _gauge("service_objective_itl_seconds", "Objective of the inter-token latency.", *SERVICE)
ITL_PREDICTED = _gauge("service_predicted_itl_seconds", "Predicted mean inter-token latency.", *SERVICE)
ITL_OBSERVED = _gauge("service_observed_itl_seconds", "Observed mean inter-token latency.", *SERVICE)
TTFT_OBJECTIVE = _gauge(
    "service_objective_ttft_seconds",
    "Objective of the time to first token: a mean, or at the percentile of the class.",
    *SERVICE,
)
TTFT_PREDICTED = _gauge("service_predicted_ttft_seconds", "Predicted mean time to first token.", *SERVICE)
TTFT_OBSERVED = _gauge("service_observed_ttft_seconds", "Observed mean time to first token.", *SERVICE)
OF_PLAN = (
    DECISIONS,
    UNKNOWN,
    HELD_BACK,
    MOVES,
    UNSERVED,
    TICK_INTERVAL,
    GAP,
    COST,
    SAVED,
    SAVED_PER_HOUR,
    UNITS,
    INFO,
    LOAD_KNOWN,
    AT_RISK,
    HELD,
    LIMITED,
    MOVE_SECONDS,
    MOVES_FAILED,
    SERVICE_COST,
    REPLICAS,
    ARRIVALS,
    ITL_OBJECTIVE,
    ITL_PREDICTED,
    ITL_OBSERVED,
    TTFT_OBJECTIVE,
    TTFT_PREDICTED,
    TTFT_OBSERVED,
)
FAMILIES = (*PROCESS, LEADER, LAST_TICK, BUILD, *OF_PLAN)
