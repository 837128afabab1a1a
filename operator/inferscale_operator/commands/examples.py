"""Examples of the commands, shown at the end of their help."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "run": (
        "inferscale run --prometheus-url http://prometheus.monitoring:9090",
        "inferscale run --prometheus-url http://127.0.0.1:9090 --kubeconfig ~/.kube/config --record records",
    ),
    "plan": (
        "inferscale plan docs/examples/plan",
        "inferscale plan docs/examples/plan --scale-load 1.5 --explain Premium-llama_70b",
        "inferscale plan docs/examples/plan --buy --max-cost 3000 -o json",
    ),
    "analyze": ("inferscale analyze cases.json", "inferscale analyze cases.json -o json"),
    "fit": ("inferscale fit measurements.csv", "inferscale fit measurements.csv --accelerator h100 -o yaml"),
    "estimate": ("inferscale estimate profiles.yaml --from h100 --to h200",),
    "import": (
        "inferscale import docs/examples/plan -n prod > resources.yaml",
        "inferscale import files --resource G2=nvidia.com/gpu --node-selector G2=gpu=g2",
        "inferscale import --from-cluster -A",
    ),
    "export": (
        "inferscale export --output-dir now && inferscale plan now",
        "inferscale export --snapshot records/20260301T120000.000000Z.snapshot.json -o json",
    ),
    "explain": ("inferscale explain prod/chat", "inferscale explain chat -n prod -o json"),
    "approve": ("inferscale approve prod/chat", "inferscale approve prod/chat --digest 1f0c2a9d --yes"),
    "replay": ("inferscale replay records/20260301T120000.000000Z.snapshot.json --diff",),
    "simulate": (
        "inferscale simulate docs/examples/scenarios/mixed.yaml --policy static --policy inferscale",
        "inferscale simulate scenario.yaml --policy hpa-running:target=8 --report report.html",
    ),
    "backtest": (
        "inferscale backtest --prometheus http://127.0.0.1:9090 --from 7d --from-cluster --report week.html",
        "inferscale backtest --prometheus http://127.0.0.1:9090 --from 12h --services services.yaml -o json",
    ),
    "snapshot": ("inferscale snapshot records --prometheus-url http://127.0.0.1:9090",),
    "settle": ("inferscale settle --timeout 600",),
    "status": ("inferscale status", "inferscale status -n prod -o json", "kubectl inferscale status"),
    "top": ("inferscale top", "inferscale top -n prod --interval 10", "inferscale top --once -o json"),
    "completion": (
        "source <(inferscale completion bash)",
        "inferscale completion fish > ~/.config/fish/completions/inferscale.fish",
    ),
}


def epilog(name: str) -> str | None:
    """The examples of a command as click shows them; None: it has none."""
    lines = EXAMPLES.get(name, ())
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines))) if lines else None
