"""The operator's own metrics, as Prometheus scrapes them from `/metrics`."""
