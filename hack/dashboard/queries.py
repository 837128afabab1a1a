"""PromQL of the dashboard's panels."""

from __future__ import annotations

KEY = "namespace, service"


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


def of(metric: str, by: str = KEY, /, **labels: str) -> str:
    """A metric of the services that are selected; the largest where two replicas tell it for a moment."""
    matchers = ",".join(f'{name}="{value}"' for name, value in labels.items())
    chosen = 'namespace=~"$namespace",service=~"$service"' + (f",{matchers}" if matchers else "")
    return f"max by ({by}) (inferscale_service_{metric}{{{chosen}}})"


def with_class(expression: str) -> str:
    """Series of services with the label `class` added."""
    return f"{expression} * on ({KEY}) group_left (class) {of('info', 'namespace, service, class')}"


COST = 'max(inferscale_cost_per_hour{of="current"})'
SAVED = "max(inferscale_saved_cost_per_hour)"
ARRIVALS, _HELD = of("arrivals_per_second"), of("slo_held")
_WITHIN = with_class(f"({ARRIVALS} * on ({KEY}) {_HELD})")
_MEASURED = with_class(f"({ARRIVALS} and on ({KEY}) {_HELD})")
# Predictions are for the replicas that are asked for: they compare where those are the ones that serve.
_SETTLED = (
    f"and on ({KEY}) ({of('replicas', f'{KEY}, accelerator', of='desired')}"
    f" == {of('replicas', f'{KEY}, accelerator', of='ready')})"
)


def attainment(over: str, by: str = "") -> str:
    """Share of the requests that came while their service held its objectives.

    Args:
        over: Range and step, as of a subquery.
        by: Grouping clause; empty: of all services together.
    """
    within, measured = (f"sum{by} ({part})" for part in (_WITHIN, _MEASURED))
    return f"sum_over_time(({within})[{over}]) / (sum_over_time(({measured})[{over}]) > 0)"


def error(latency: str) -> str:
    """How far the observed mean `itl` or `ttft` is above the predicted, as a share of the predicted."""
    return f"({of(f'observed_{latency}_seconds')} / {of(f'predicted_{latency}_seconds')} - 1) {_SETTLED}"


def quantile(share: float, metric: str) -> str:
    """A quantile of one of the operator's histograms."""
    return f"histogram_quantile({share}, sum by (le) (rate(inferscale_{metric}_bucket[$__rate_interval])))"
