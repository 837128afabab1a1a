"""Load and latency of the services, from Prometheus."""
