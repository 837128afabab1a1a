"""The Grafana dashboard of the Helm chart: its panels, and the JSON that `chartfiles.py` writes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 39
WIDTH, ROW_HEIGHT = 24, 1
STEP_S = 30
"""The shortest step of a panel: the interval at which the chart's ServiceMonitor scrapes."""
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_KEY = "namespace, service"


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


def filled(expression: str, range_s: int, step_s: int) -> str:
    """An expression with its variables filled in as Grafana does: all services, a range, a step."""
    for variable, value in (
        ("$__rate_interval", f"{4 * step_s}s"),
        ("$__interval", f"{step_s}s"),
        ("$__range", f"{range_s}s"),
        ("$namespace", ".*"),
        ("$service", ".*"),
    ):
        expression = expression.replace(variable, value)
    return expression


def _of(metric: str, by: str = _KEY, /, **labels: str) -> str:
    """A metric of the services that are selected; the largest where two replicas tell it for a moment."""
    matchers = ",".join(f'{name}="{value}"' for name, value in labels.items())
    chosen = 'namespace=~"$namespace",service=~"$service"' + (f",{matchers}" if matchers else "")
    return f"max by ({by}) (inferscale_service_{metric}{{{chosen}}})"


def _with_class(expression: str) -> str:
    return f"{expression} * on ({_KEY}) group_left (class) {_of('info', 'namespace, service, class')}"


_COST = 'max(inferscale_cost_per_hour{of="current"})'
_SAVED = "max(inferscale_saved_cost_per_hour)"
_ARRIVALS, _HELD = _of("arrivals_per_second"), _of("slo_held")
_WITHIN = _with_class(f"({_ARRIVALS} * on ({_KEY}) {_HELD})")
_MEASURED = _with_class(f"({_ARRIVALS} and on ({_KEY}) {_HELD})")
# Predictions are for the replicas that are asked for: they compare where those are the ones that serve.
_SETTLED = (
    f"and on ({_KEY}) ({_of('replicas', f'{_KEY}, accelerator', of='desired')}"
    f" == {_of('replicas', f'{_KEY}, accelerator', of='ready')})"
)


def _attainment(over: str, by: str = "") -> str:
    within, measured = (f"sum{by} ({part})" for part in (_WITHIN, _MEASURED))
    return f"sum_over_time(({within})[{over}]) / (sum_over_time(({measured})[{over}]) > 0)"


def _error(latency: str) -> str:
    return f"({_of(f'observed_{latency}_seconds')} / {_of(f'predicted_{latency}_seconds')} - 1) {_SETTLED}"


def _latency(name: str, latency: str, what: str) -> Panel:
    return Panel(
        name,
        f"Mean {what}: observed over the window of the metrics, predicted for the replicas that are asked "
        "for, and the objective of the class.",
        tuple(
            Query(_of(f"{kind}_{latency}_seconds"), f"{{{{service}}}} {kind}")
            for kind in ("observed", "predicted", "objective")
        ),
        unit="s",
    )


def _quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate(inferscale_{metric}_bucket[$__rate_interval])))"


ROWS = (
    Row(
        "Fleet",
        (
            Panel(
                "Cost per hour",
                "Of what all services hold now.",
                (Query(_COST),),
                kind="stat",
                unit="none",
                width=4,
                height=4,
            ),
            Panel(
                "Saved per hour",
                "Cost of what was adopted less the cost of what is held now.",
                (Query(_SAVED),),
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
                (Query(_attainment("$__range:$__interval")),),
                kind="stat",
                unit="percentunit",
                width=4,
                height=4,
                most=1,
            ),
            Panel(
                "Services at risk",
                "Objectives are missed, or will be with the replicas that there are.",
                (Query(f"sum({_of('slo_at_risk')})"),),
                kind="stat",
                width=4,
                height=4,
                red_from=1,
            ),
            Panel(
                "Services of unknown load",
                "They keep what they have.",
                (Query(f"sum(1 - {_of('load_known')})"),),
                kind="stat",
                width=4,
                height=4,
                red_from=1,
            ),
            Panel(
                "Fleet cost",
                "Per hour, of what all services hold, of what is wanted, and of what was adopted.",
                (
                    Query(_COST, "current"),
                    Query('max(inferscale_cost_per_hour{of="target"})', "target"),
                    Query(f"{_COST} + {_SAVED}", "adopted"),
                ),
                unit="none",
            ),
            Panel(
                "Cost by service",
                "Per hour, of what each service holds.",
                (Query(_of("cost_per_hour", of="current"), "{{service}}"),),
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
                (Query(_attainment("$__range:$__interval", " by (class)"), "{{class}}"),),
                kind="bargauge",
                unit="percentunit",
                width=8,
                most=1,
            ),
            Panel(
                "SLO attainment by class",
                "The same over time.",
                (Query(_attainment("$__rate_interval:$__interval", " by (class)"), "{{class}}"),),
                unit="percentunit",
                width=8,
                most=1,
            ),
            Panel(
                "Services at risk by name",
                "1: objectives are missed, or will be with the replicas that there are.",
                (Query(_of("slo_at_risk"), "{{service}}"),),
                kind="state-timeline",
                width=8,
                red_from=1,
            ),
            _latency("Inter-token latency", "itl", "inter-token latency"),
            _latency("Time to first token", "ttft", "time to first token"),
            Panel(
                "Observed against predicted",
                "How far the observed mean is above (or below) the predicted one, where the replicas that "
                "are asked for are those that serve. An alert comes above 30 % of the inter-token latency.",
                (
                    Query(_error("itl"), "{{service}} ITL"),
                    Query(_error("ttft"), "{{service}} TTFT"),
                ),
                unit="percentunit",
            ),
            Panel(
                "Load",
                "Requests per second that each service was last decided for.",
                (Query(_ARRIVALS, "{{service}}"),),
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
                        f"sum by (accelerator) ({_of('replicas', f'{_KEY}, accelerator', of='ready')})",
                        "{{accelerator}}",
                    ),
                ),
                stacked=True,
            ),
            Panel(
                "Services short of capacity",
                "They do with less than their objectives need.",
                (Query(_with_class(_of("capacity_limited")), "{{service}} ({{class}})"),),
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
                        f"sum by ({_KEY}) ({_of('replicas', f'{_KEY}, accelerator', of='ready')})",
                        "{{service}}",
                    ),
                    Query(
                        f"sum by ({_KEY}) ({_of('replicas', f'{_KEY}, accelerator', of='target')})",
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
                    Query(f"sum({_of('moves_failed')})", "rolled back"),
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
                (Query(_quantile(0.5, "tick_seconds"), "p50"), Query(_quantile(0.99, "tick_seconds"), "p99")),
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
                "An alert comes at five minutes and three intervals between ticks.",
                (Query("time() - max(inferscale_last_tick_timestamp_seconds)"),),
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
                (Query(_quantile(0.99, "prometheus_ask_seconds"), "p99"),),
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


def text() -> str:
    """The dashboard as Grafana reads it."""
    dashboard = {
        "uid": "inferscale",
        "title": "Inferscale",
        "description": "Cost, objectives, capacity, decisions and health of Inferscale.",
        "tags": ["inferscale", "llm", "inference"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": f"{STEP_S}s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": list(_variables())},
        "annotations": {"list": []},
        "links": [],
        "panels": list(_laid_out()),
    }
    return json.dumps(dashboard, indent=1) + "\n"


def _variables() -> Iterator[Mapping[str, Any]]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    for name, within in (("namespace", ""), ("service", '{namespace=~"$namespace"}')):
        query = f"label_values(inferscale_service_info{within}, {name})"
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": _DATASOURCE,
            "query": {"query": query, "refId": name},
            "definition": query,
            "refresh": 2,
            "sort": 1,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "current": {"text": "All", "value": "$__all"},
        }


def _laid_out() -> Iterator[Mapping[str, Any]]:
    """Rows and panels with their places, from left to right and from top to bottom."""
    number, top = 0, 0
    for row in ROWS:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"h": ROW_HEIGHT, "w": WIDTH, "x": 0, "y": top},
            "panels": [],
        }
        top += ROW_HEIGHT
        left, height = 0, 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                top, left, height = top + height, 0, 0
            number += 1
            place = {"h": panel.height, "w": panel.width, "x": left, "y": top}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            left, height = left + panel.width, max(height, panel.height)
        top += height


def _panel(panel: Panel) -> dict[str, Any]:
    last = panel.kind in ("stat", "bargauge")
    targets = [
        {
            "refId": chr(ord("A") + i),
            "datasource": _DATASOURCE,
            "expr": query.expression,
            "legendFormat": query.legend or "__auto",
            "instant": last,
            "range": not last,
        }
        for i, query in enumerate(panel.queries)
    ]
    steps: list[dict[str, Any]] = [{"color": "green"}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "thresholds" if panel.red_from is not None else "palette-classic"},
    }
    if panel.most is not None:
        defaults |= {"min": 0, "max": panel.most}
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 0,
            "stacking": {"mode": "normal" if panel.stacked else "none"},
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATASOURCE,
        "interval": f"{STEP_S}s",
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _OPTIONS[panel.kind],
    }


_LAST = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
_LEGEND = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}}
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "timeseries": {**_LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "state-timeline": {**_LEGEND, "mergeValues": True, "showValue": "never"},
    "stat": {**_LAST, "colorMode": "value", "graphMode": "none"},
    "bargauge": {**_LAST, "orientation": "horizontal", "displayMode": "basic"},
}
