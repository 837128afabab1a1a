"""The dashboard as Grafana reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from dashboard.panels import ROWS, Panel

SCHEMA_VERSION = 39
WIDTH, ROW_HEIGHT = 24, 1
STEP_S = 30
"""The shortest step of a panel: the interval at which the chart's ServiceMonitor scrapes."""
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


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
