"""Pages of the documentation, played: their commands are run on a local cluster, in their order.

`python -m transcript` plays docs/quickstart.md and writes the output anew; tests play it, and the
how-to pages in its midst. What a person would have, model servers under load, Prometheus and the operator,
runs beside the cluster, whose pods are emulated.
"""
