"""What the dashboard shows, row by row."""

from __future__ import annotations

from dataclasses import dataclass

from dashboard.queries import ARRIVALS, COST, KEY, SAVED, attainment, error, of, quantile, with_class


@dataclass(frozen=True)
class Query:
    """A query of a panel, with the text that names its series."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """A panel; one of the kind `stat` or `bargauge` shows the last value only."""

    title: str
    about: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 12
    height: int = 8
    stacked: bool = False
    most: float | None = None
    """Upper end of the axis."""
    red_from: float | None = None
    """Values from here on are red."""
    quiet: bool = False
    """It may have no data for as long as nothing of its kind happens."""


@dataclass(frozen=True)
class Row:
    """Panels under a title."""

    title: str
    panels: tuple[Panel, ...]


def _latency(name: str, latency: str, what: str) -> Panel:
    return Panel(
        name,
        f"Mean {what}: observed over the window of the metrics, predicted for the replicas that are asked "
        "for, and the objective of the class.",
        tuple(
            Query(of(f"{kind}_{latency}_seconds"), f"{{{{service}}}} {kind}")
            for kind in ("observed", "predicted", "objective")
        ),
        unit="s",
    )


ROWS = (
    Row(
        "Fleet",
        (
            Panel(
                "Cost per hour",
                "Of what all services hold now.",
                (Query(COST),),
                kind="stat",
                unit="none",
                width=4,
                height=4,
            ),
            Panel(
                "Saved per hour",
                "Cost of what was adopted less the cost of what is held now.",
                (Query(SAVED),),
                kind="stat",
                unit="none",
                width=4,
                height=4,
            ),
            Panel(
                "Saved in all",
                "Since the first adoption.",
                (Query("max(inferscale_saved_cost)"),),
                kind="stat",
                unit="none",
                width=4,
                height=4,
            ),
            Panel(
                "SLO attainment",
                "Share of the requests that came while their service held its objectives, over the range.",
                (Query(attainment("$__range:$__interval")),),
                kind="stat",
                unit="percentunit",
                width=4,
                height=4,
                most=1,
            ),
            Panel(
                "Services at risk",
                "Objectives are missed, or will be with the replicas that there are.",
                (Query(f"sum({of('slo_at_risk')})"),),
                kind="stat",
                width=4,
                height=4,
                red_from=1,
            ),
            Panel(
                "Services of unknown load",
                "They keep what they have.",
                (Query(f"sum(1 - {of('load_known')})"),),
                kind="stat",
                width=4,
                height=4,
                red_from=1,
            ),
            Panel(
                "Fleet cost",
                "Per hour, of what all services hold and of what is wanted; and what is saved against the "
                "adopted state.",
                (
                    Query(COST, "current"),
                    Query('max(inferscale_cost_per_hour{of="target"})', "target"),
                    Query(SAVED, "saved"),
                ),
                unit="none",
            ),
            Panel(
                "Cost by service",
                "Per hour, of what each service holds.",
                (Query(of("cost_per_hour", of="current"), "{{service}}"),),
                unit="none",
                stacked=True,
            ),
        ),
    ),
    Row(
        "Objectives",
        (
            Panel(
                "SLO attainment by class over the range",
                "Share of the requests that came while their service held its objectives.",
                (Query(attainment("$__range:$__interval", " by (class)"), "{{class}}"),),
                kind="bargauge",
                unit="percentunit",
                width=8,
                most=1,
            ),
            Panel(
                "SLO attainment by class",
                "The same over time.",
                (Query(attainment("$__rate_interval:$__interval", " by (class)"), "{{class}}"),),
                unit="percentunit",
                width=8,
                most=1,
            ),
            Panel(
                "Services at risk by name",
                "1: objectives are missed, or will be with the replicas that there are.",
                (Query(of("slo_at_risk"), "{{service}}"),),
                kind="state-timeline",
                width=8,
                red_from=1,
            ),
            _latency("Inter-token latency", "itl", "inter-token latency"),
            _latency("Time to first token", "ttft", "time to first token"),
            Panel(
                "Observed against predicted",
                "How far the observed mean of the inter-token latency is above (or below) the predicted one, "
                "where the replicas that are asked for are those that serve. An alert comes above 30 %.",
                (Query(error("itl"), "{{service}}"),),
                unit="percentunit",
            ),
            Panel(
                "Load",
                "Requests per second that each service was last decided for.",
                (Query(ARRIVALS, "{{service}}"),),
                unit="reqps",
            ),
        ),
    ),
    Row(
        "Capacity",
        (
            Panel(
                "Units by type",
                "Used by services, by others, and free.",
                (
                    Query(
                        'max by (type, state) (inferscale_accelerator_units{state!="total"})',
                        "{{type}} {{state}}",
                    ),
                ),
                stacked=True,
            ),
            Panel(
                "Free share by type",
                "Units that nobody holds.",
                (
                    Query(
                        'max by (type) (inferscale_accelerator_units{state="free"})'
                        ' / (max by (type) (inferscale_accelerator_units{state="total"}) > 0)',
                        "{{type}}",
                    ),
                ),
                unit="percentunit",
                most=1,
            ),
            Panel(
                "Replicas by accelerator",
                "Replicas that serve.",
                (
                    Query(
                        f"sum by (accelerator) ({of('replicas', f'{KEY}, accelerator', of='ready')})",
                        "{{accelerator}}",
                    ),
                ),
                stacked=True,
            ),
            Panel(
                "Services short of capacity",
                "They do with less than their objectives need.",
                (Query(with_class(of("capacity_limited")), "{{service}} ({{class}})"),),
                stacked=True,
            ),
        ),
    ),
    Row(
        "Decisions",
        (
            Panel(
                "Services by reason",
                "The reason of the last decision on each.",
                (Query("max by (reason) (inferscale_services)", "{{reason}}"),),
                width=8,
                stacked=True,
            ),
            Panel(
                "Decisions that changed",
                "By reason.",
                (
                    Query(
                        "sum by (reason) (increase(inferscale_decision_changes_total[$__rate_interval]))",
                        "{{reason}}",
                    ),
                ),
                width=8,
                stacked=True,
            ),
            Panel(
                "Held back by",
                "Services that do not get now what is wanted for them, by what holds.",
                (Query("max by (gate) (inferscale_services_held_back)", "{{gate}}"),),
                width=8,
                stacked=True,
                quiet=True,
            ),
            Panel(
                "Replicas",
                "That serve, and that the optimizer wants.",
                (
                    Query(
                        f"sum by ({KEY}) ({of('replicas', f'{KEY}, accelerator', of='ready')})",
                        "{{service}}",
                    ),
                    Query(
                        f"sum by ({KEY}) ({of('replicas', f'{KEY}, accelerator', of='target')})",
                        "{{service}} target",
                    ),
                ),
                width=8,
            ),
            Panel(
                "Moves",
                "Under way by step, and rolled back lately.",
                (
                    Query("max by (step) (inferscale_moves)", "{{step}}"),
                    Query(f"sum({of('moves_failed')})", "rolled back"),
                ),
                width=8,
                quiet=True,
            ),
            Panel(
                "Optimality",
                "How far the plan may be from the best one, as a share of its cost; services that it cannot "
                "serve within their objectives.",
                (
                    Query("max(inferscale_optimality_gap_ratio)", "gap"),
                    Query("max(inferscale_services_unserved)", "unserved"),
                ),
                width=8,
            ),
        ),
    ),
    Row(
        "Health of the loop",
        (
            Panel(
                "Time of a tick",
                "Median and 99th percentile.",
                (Query(quantile(0.5, "tick_seconds"), "p50"), Query(quantile(0.99, "tick_seconds"), "p99")),
                unit="s",
                width=8,
            ),
            Panel(
                "Time of its phases",
                "Mean.",
                (
                    Query(
                        "sum by (phase) (rate(inferscale_phase_seconds_sum[$__rate_interval]))"
                        " / (sum by (phase) (rate(inferscale_phase_seconds_count[$__rate_interval])) > 0)",
                        "{{phase}}",
                    ),
                ),
                unit="s",
                width=8,
                stacked=True,
            ),
            Panel(
                "Age of the last tick",
                "An alert comes at five minutes, or five intervals where that is more.",
                (Query("time() - max(inferscale_last_tick_timestamp_seconds > 0)"),),
                unit="s",
                width=8,
            ),
            Panel(
                "Load unknown by cause",
                "Services that keep what they have.",
                (Query("max by (cause) (inferscale_services_unknown)", "{{cause}}"),),
                width=8,
                stacked=True,
                quiet=True,
            ),
            Panel(
                "Requests to the API server",
                "Per second; code 0 is no answer.",
                (
                    Query(
                        "sum by (verb, code) (rate(inferscale_api_requests_total[$__rate_interval]))",
                        "{{verb}} {{code}}",
                    ),
                ),
                unit="reqps",
                width=8,
                stacked=True,
            ),
            Panel(
                "Queries of Prometheus",
                "Per second, by what became of them.",
                (
                    Query(
                        "sum by (result) (rate(inferscale_prometheus_queries_total[$__rate_interval]))",
                        "{{result}}",
                    ),
                ),
                unit="reqps",
                width=8,
                stacked=True,
            ),
            Panel(
                "Time to ask Prometheus",
                "All queries of a tick together, 99th percentile.",
                (Query(quantile(0.99, "prometheus_ask_seconds"), "p99"),),
                unit="s",
                width=8,
            ),
            Panel(
                "Replicas that act",
                "1; 0 while the Lease changes hands.",
                (Query("sum(inferscale_leader)", "leaders"),),
                width=8,
            ),
            Panel(
                "Memory",
                "Resident, by replica of the operator.",
                (
                    Query(
                        "process_resident_memory_bytes and on (job, instance) inferscale_build_info",
                        "{{instance}}",
                    ),
                ),
                unit="bytes",
                width=8,
            ),
        ),
    ),
)
PANELS = tuple(panel for row in ROWS for panel in row.panels)
